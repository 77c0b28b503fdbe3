"""How a layer's answers to samples vary together with its answers to the transformed samples: centred products of every two units."""

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._errors import DataError, FileFormatError, MergeError, ShapeError
from .._site import Activations, Chunk, Samples, Site
from ._abstract import AbstractTally, to_numpy
from ._grid_block import pooled, rows_of
from ._grid_groups import NOISE
from ._grid_sums import RELATIVE

Floats = NDArray[np.float64]
KEPT = 512
"""Samples whose answers are kept for standard errors: those of the smallest keys, which depend on ids alone.  With few of
them intervals scatter, and hold a little less often than they say."""
WIDEST = 512
"""Units up to which all their products are kept: T · 2 · 512² numbers are 67 MB for 16 transformations."""


@dataclass
class Products:
    """Sums over samples of products of two centred answers x and y, for each of T pairs.

    `second` Σ x yᵀ (T, w, w); `left` Σ |x|² y and `right` Σ |y|² x (T, w); `fourth` Σ |x|² |y|² (T,).
    """

    second: Floats
    left: Floats
    right: Floats
    fourth: Floats

    @classmethod
    def of(cls, x: Floats, y: Floats) -> "Products":
        """Of answers (T, samples, w)."""
        a, b = (x * x).sum(axis=2), (y * y).sum(axis=2)
        return cls(
            np.matmul(x.swapaxes(1, 2), y),
            np.matmul(a[:, None], y)[:, 0],
            np.matmul(b[:, None], x)[:, 0],
            (a * b).sum(axis=1),
        )

    @property
    def arrays(self) -> tuple[Floats, ...]:
        return self.second, self.left, self.right, self.fourth

    def about(self, x: Floats, y: Floats, xx: Floats, yy: Floats, n: int) -> tuple[Floats, Floats, Floats]:
        """`left`, `right` and `fourth` of answers that all moved by x and y (T, w); `xx` and `yy` are Σ |x|² and Σ |y|² (T,) before."""
        if not n:
            return self.left, self.right, self.fourth
        a, b = (x * x).sum(axis=1), (y * y).sum(axis=1)
        c_x, c_y = np.matmul(x[:, None], self.second)[:, 0], np.matmul(self.second, y[:, :, None])[:, :, 0]
        fourth = self.fourth + 2 * (y * self.left).sum(1) + b * xx + 2 * (x * self.right).sum(1)
        return (
            self.left + 2 * c_x + (xx + n * a)[:, None] * y,
            self.right + 2 * c_y + (yy + n * b)[:, None] * x,
            fourth + 4 * (x * c_y).sum(1) + a * yy + n * a * b,
        )


@dataclass
class Covariances:
    """The value of `GridCovariances`: `mean` (T, w) over samples, products of every transformation's answers with themselves (`own`) and of
    the answers under transformation `against` with them (`cross`), all about the means.

    `keys`, `rows` (kept, T, w) of a few samples; `skipped` why nothing was summed.
    """

    site: Site
    samples: int = 0
    mean: Floats = field(default_factory=lambda: np.zeros((0, 0)))
    own: Products = field(default_factory=lambda: nothing(0, 0))
    cross: Products = field(default_factory=lambda: nothing(0, 0))
    keys: NDArray[np.uint64] = field(default_factory=lambda: np.empty(0, np.uint64))
    rows: Floats = field(default_factory=lambda: np.zeros((0, 0, 0)))
    skipped: str = ""

    @property
    def transformations(self) -> int:
        return self.mean.shape[0]

    @property
    def width(self) -> int:
        return self.mean.shape[1]

    @property
    def squares(self) -> Floats:
        """Σ |x|² under every transformation, (T,)."""
        return np.trace(self.own.second, axis1=1, axis2=2)

    @property
    def arrays(self) -> tuple[NDArray[Any], ...]:
        return self.mean, *self.own.arrays, *self.cross.arrays, self.keys, self.rows


def nothing(T: int, w: int) -> Products:
    return Products(np.zeros((T, w, w)), np.zeros((T, w)), np.zeros((T, w)), np.zeros(T))


@dataclass(frozen=True)
class GridCovariances(AbstractTally[Covariances]):
    """Products of every two units of a layer, of its answers to samples and to the same samples transformed, mergeable over samples.

    Maps are averaged over their positions first.  **Arguments:** `against` the number of the transformation whose answers all others are held
    to; `widest` units up to which a layer is measured.  **Remembers:** 2 T w² numbers, exact in float64 about the means (merged by the rule
    of Chan, Golub & LeVeque, here to fourth order), and the answers of 512 samples.
    **Raises:** `ShapeError` for incomplete rows or another shape, `DataError` for a transformation that is not there.
    """

    against: int = 0
    widest: int = WIDEST

    @property
    def grid(self) -> bool:
        return True

    def read(self, activations: Activations) -> dict[str, Any]:
        rows = rows_of(activations, aligned=False)
        assert rows is not None  # only alignment finds nothing to act on
        return {"values": pooled(rows, "mean", activations)}

    def init(self, site: Site) -> Covariances:
        return Covariances(site)

    def add(self, value: Covariances, chunk: Chunk) -> Covariances:
        n, T, w = len(chunk.samples), chunk.samples.transformations, chunk.units
        if w > self.widest:
            value.skipped = (
                f"its {w:,} units are more than {self.widest:,}, and the products of every two under {T} transformations take "
                f"{16 * T * w * w / 2**20:,.0f} MiB; CKA(widest={w}) takes them"
            )
            return value
        if not 0 <= self.against < T:
            raise DataError(f"{value.site}: CKA(against={self.against}): transformations are numbered 0 to {T - 1}.")
        x = to_numpy(chunk.arrays["values"])
        if len(x) < n * T:
            raise ShapeError(
                f"{value.site}: {n} samples × {T} transformations need {n * T} rows, {len(x)} arrived. A batch must hold complete rows of "
                "the grid."
            )
        if value.samples and (value.transformations, value.width) != (T, w):
            raise ShapeError(
                f"{value.site}: {value.transformations} transformations of {value.width} units so far, {T} of {w} in this batch. One "
                "grid has one shape."
            )
        return self._joined(value, self._of(value.site, x[: n * T].reshape(n, T, w), chunk.samples)) if n else value

    def _of(self, site: Site, x: NDArray[Any], samples: Samples) -> Covariances:
        """The value of one batch."""
        rows = x.astype(np.float64)
        each = rows.swapaxes(0, 1)
        mean = each.mean(axis=1)
        with np.errstate(invalid="ignore", over="ignore"):  # a layer with infinite values has no number in the end
            each = each - mean[:, None]
            own = Products.of(each, each)
            cross = Products.of(np.broadcast_to(each[self.against], each.shape), each)
        first = np.argsort(samples.keys)[:KEPT]
        return Covariances(site, len(rows), mean, own, cross, samples.keys[first], rows[first])

    def merge(self, left: Covariances, right: Covariances) -> Covariances:
        left.skipped = left.skipped or right.skipped
        if left.samples and right.samples and left.mean.shape != right.mean.shape:
            raise MergeError(
                f"merge: {left.transformations} transformations of {left.width} units at {str(left.site)!r}, then {right.transformations} of "
                f"{right.width}. Only grids of the same transformations of the same layer belong together."
            )
        return self._joined(left, right if left.samples else deepcopy(right))

    def _joined(self, left: Covariances, right: Covariances) -> Covariances:
        if not right.samples:
            return left
        if not left.samples:
            return replace(right, site=left.site, skipped=left.skipped)
        n = left.samples + right.samples
        with np.errstate(invalid="ignore", over="ignore"):
            mean = left.mean + (right.mean - left.mean) * (right.samples / n)
            squares = left.squares, right.squares  # before their memory is reused
            own = _joined(left, right, mean, squares, None)
            cross = _joined(left, right, mean, squares, self.against)
        keys = np.concatenate([left.keys, right.keys])
        kept = np.argsort(keys, kind="stable")[:KEPT]
        rows = np.concatenate([left.rows, right.rows])[kept]
        return Covariances(left.site, n, mean, own, cross, keys[kept], rows, left.skipped)

    def same(self, left: Covariances, right: Covariances) -> bool:
        if (left.samples, left.mean.shape, left.skipped) != (right.samples, right.mean.shape, right.skipped):
            return False
        if not np.array_equal(left.keys, right.keys):
            return False
        n, size = max(left.samples, 1), np.abs(left.mean).max(initial=0.0)
        # of the size of each product: what values may differ by, in a sum of n products of one to four of them
        one = np.sqrt(np.maximum(left.squares, right.squares) / n).max(initial=0.0)
        near = (RELATIVE + NOISE) * (one + size)
        orders = (1, 2, 3, 3, 4, 2, 3, 3, 4)
        close = [
            np.all((np.abs(a - b) <= 8 * n * near * (one + near) ** (order - 1)) | (np.isnan(a) & np.isnan(b)))
            for order, a, b in zip(orders, left.arrays[:-2], right.arrays[:-2], strict=True)
        ]
        return all(map(bool, close)) and np.allclose(left.rows, right.rows, rtol=0, atol=near, equal_nan=True)

    def nbytes(self, value: Covariances) -> int:
        return sum(array.nbytes for array in value.arrays)

    def expected_nbytes(self, shape: tuple[int, ...], unit: int, transformations: int) -> int:
        """What `nbytes` will be once 512 samples are in; nothing of a layer that is too wide."""
        T, w = transformations, shape[unit]
        return 8 * (T * w * (2 * w + 5 + KEPT) + 2 * T + KEPT) if w <= self.widest else 0

    def to_arrays(self, value: Covariances) -> Mapping[str, NDArray[Any]]:
        plain = np.array([value.samples], np.int64)
        skipped = np.frombuffer(value.skipped.encode(), np.uint8)
        return {"samples": plain, "skipped": skipped, **dict(zip(_NAMES, value.arrays, strict=True))}

    def from_arrays(self, site: Site, arrays: Mapping[str, NDArray[Any]]) -> Covariances:
        try:
            mean, *sums = (arrays[name].astype(np.float64) for name in _NAMES[:9])
            T, w = mean.shape
            keys, rows = arrays["keys"].astype(np.uint64), arrays["rows"].astype(np.float64)
            samples, skipped = int(arrays["samples"][0]), arrays["skipped"].tobytes().decode()
            value = Covariances(site, samples, mean, Products(*sums[:4]), Products(*sums[4:]), keys, rows, skipped)
            shapes = [array.shape for array in nothing(T, w).arrays]
            fits = [array.shape for array in sums] == 2 * shapes and rows.shape == (len(keys), T, w)
        except (KeyError, IndexError, ValueError) as error:
            raise FileFormatError(
                f"{site}: covariances need arrays that are not there or not whole ({error})."
            ) from error
        if not fits:
            raise FileFormatError(
                f"{site}: the arrays of these covariances do not fit each other; the file is damaged."
            )
        return value


def _joined(
    left: Covariances, right: Covariances, mean: Floats, squares: tuple[Floats, Floats], against: int | None
) -> Products:
    """The products of both about their common mean: of every transformation's answers with themselves, or of those under one with all."""

    def first(of_every: Floats) -> Floats:
        return of_every if against is None else np.broadcast_to(of_every[against], of_every.shape)

    small: list[tuple[Floats, ...]] = []
    products = [part.own if against is None else part.cross for part in (left, right)]
    for part, product, each in zip((left, right), products, squares, strict=True):
        moved = part.mean - mean
        small.append(product.about(first(moved), moved, first(each), each, part.samples))
    apart = right.mean - left.mean
    weight = left.samples * right.samples / (left.samples + right.samples)
    second = products[0].second  # whose memory is reused
    second += products[1].second
    second += (weight * first(apart))[:, :, None] * apart[:, None]
    return Products(second, *(a + b for a, b in zip(*small, strict=True)))


_SUMS = ("second", "left", "right", "fourth")
_NAMES = ("mean", *(f"own_{name}" for name in _SUMS), *(f"cross_{name}" for name in _SUMS), "keys", "rows")

"""The largest activations of every value of a layer, with its mean and deviation: what thresholds are taken from."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._errors import DataError, FileFormatError, MergeError, ShapeError
from .._site import Activations, Chunk, Samples, Site
from ._abstract import AbstractTally, to_numpy
from ._grid_groups import GROUPS, groups_of
from ._grid_sums import RELATIVE

COLUMNS = 1 << 14
"""Values of a layer that are sorted at a time: what is copied for it stays small."""


@dataclass
class Tails:
    """The value of `Tail` at one site, of D values.

    `shape` of a sample's values, of which axis `unit` counts units; `count` (G,) samples by group; `mean`, `m2` (D,) float64; `top`
    (k, D) the largest activations of each value in descending order, and `group` (k, D) the group of the sample each came from.
    """

    site: Site
    shape: tuple[int, ...] = ()
    unit: int = 0
    count: NDArray[np.int64] = field(default_factory=lambda: np.zeros(GROUPS, np.int64))
    mean: NDArray[np.float64] = field(default_factory=lambda: np.empty(0))
    m2: NDArray[np.float64] = field(default_factory=lambda: np.empty(0))
    top: NDArray[Any] = field(default_factory=lambda: np.empty((0, 0), np.float32))
    group: NDArray[np.uint8] = field(default_factory=lambda: np.empty((0, 0), np.uint8))

    @property
    def samples(self) -> int:
        return int(self.count.sum())

    @property
    def arrays(self) -> tuple[NDArray[Any], ...]:
        return self.count, self.mean, self.m2, self.top, self.group

    def above(self, threshold: NDArray[np.float64]) -> NDArray[np.int64]:
        """How often each value lies above its threshold, by group, (G, D); exact where fewer than all that are kept do."""
        high = self.top > threshold
        return np.stack([(high & (self.group == g)).sum(axis=0) for g in range(GROUPS)])


@dataclass(frozen=True)
class Tail(AbstractTally[Tails]):
    """The `keep` largest activations of every value of a layer over samples, with mean and variance; exact, and mergeable over samples.

    NaN is larger than nothing; a value that was ever NaN or infinite has no mean that is a number.
    **Raises:** `ShapeError` for another shape, or masked positions.
    """

    keep: int

    def __post_init__(self) -> None:
        if self.keep < 1:
            raise DataError(f"Tail: keep={self.keep!r}: give how many of the largest activations are kept, 1 or more.")

    @property
    def grid(self) -> bool:
        return True

    def read(self, activations: Activations) -> dict[str, Any]:
        return {"values": in_rows(activations)}

    def init(self, site: Site) -> Tails:
        return Tails(site)

    def add(self, value: Tails, chunk: Chunk) -> Tails:
        n = len(chunk.samples)
        x = to_numpy(chunk.arrays["values"])[:n]
        check_rows(value.site, x, n, 1, chunk.samples)
        check_mask(value.site, chunk)
        shape, unit = shape_of(chunk)
        groups = groups_of(chunk.samples)
        top = np.where(np.isnan(x), -np.inf, x).astype(x.dtype, copy=False)
        group = np.broadcast_to(groups.astype(np.uint8)[:, None], x.shape)
        count = np.bincount(groups, minlength=GROUPS)
        return self._joined(value, Tails(value.site, shape, unit, count, *_moments(x), top, group), ShapeError)

    def merge(self, left: Tails, right: Tails) -> Tails:
        return self._joined(left, right, MergeError)

    def _joined(self, left: Tails, right: Tails, error: type[Exception]) -> Tails:
        if not right.samples:
            return left
        if not left.samples:
            zeros = np.zeros_like(right.mean)
            left = Tails(left.site, right.shape, right.unit, left.count, zeros, zeros, right.top[:0], right.group[:0])
        if (left.shape, left.unit) != (right.shape, right.unit):
            raise error(
                f"{left.site}: values of shape {left.shape} so far, now {right.shape}. Thresholds are of one shape: resize or crop the inputs "
                "to one size."
            )
        n, m = left.samples, right.samples
        with np.errstate(invalid="ignore"):
            delta = right.mean - left.mean
            mean, m2 = left.mean + delta * (m / (n + m)), left.m2 + right.m2 + delta * delta * (n * m / (n + m))
        top, group = _largest(self.keep, (left.top, right.top), (left.group, right.group))
        return Tails(left.site, left.shape, left.unit, left.count + right.count, mean, m2, top, group)

    def same(self, left: Tails, right: Tails) -> bool:
        if (left.shape, left.unit) != (right.shape, right.unit) or not np.array_equal(left.count, right.count):
            return False
        spread = np.sqrt(left.m2 / max(1, left.samples))
        # of equal activations that do not all fit in, any may have been kept
        sure = left.top > left.top[-1:]
        return (
            np.array_equal(left.top, right.top)
            and np.array_equal(np.where(sure, left.group, 0), np.where(sure, right.group, 0))
            and bool(np.all(np.abs(left.mean - right.mean) <= RELATIVE * (np.abs(left.mean) + spread)))
            and bool(np.all(np.abs(left.m2 - right.m2) <= RELATIVE * (left.m2 + right.m2)))
        )

    def nbytes(self, value: Tails) -> int:
        """Those it takes when it is full, as it soon is."""
        return self.expected_nbytes(value.shape, value.unit, 1) if value.samples else value.count.nbytes

    def expected_nbytes(self, shape: tuple[int, ...], unit: int, transformations: int) -> int:
        return 8 * GROUPS + (16 + self.keep * 9) * math.prod(shape)  # of float64, which few layers give

    def to_arrays(self, value: Tails) -> Mapping[str, NDArray[Any]]:
        return {"form": np.array([value.unit, *value.shape], np.int64), **dict(zip(_NAMES, value.arrays, strict=True))}

    def from_arrays(self, site: Site, arrays: Mapping[str, NDArray[Any]]) -> Tails:
        try:
            unit, *shape = arrays["form"].tolist()
            value = Tails(site, tuple(shape), unit, *(arrays[name] for name in _NAMES))
            D = len(value.mean)
            kept = (min(self.keep, value.samples), D)
            fits = [a.shape for a in value.arrays] == [(GROUPS,), (D,), (D,), kept, kept]
        except (KeyError, IndexError, ValueError, TypeError) as error:
            raise FileFormatError(f"{site}: tails need arrays that are not there or not whole ({error}).") from error
        if not fits:
            raise FileFormatError(f"{site}: the arrays of these tails do not fit each other; the file is damaged.")
        return value


_NAMES = ("count", "mean", "m2", "top", "group")


def in_rows(a: Activations) -> Any:
    """A layer's values, sample by sample: (samples, D), half floats as float32."""
    x = a.xp.moveaxis(a.values, a.axes.sample % len(a.values.shape), 0)
    x = a.xp.reshape(x, (x.shape[0], -1))
    return x if str(x.dtype).endswith(("float32", "float64")) else a.xp.asarray(x, dtype=a.xp.float32)


def shape_of(chunk: Chunk) -> tuple[tuple[int, ...], int]:
    """The shape of a sample's values, and which of its axes counts units."""
    return (*chunk.positions[: chunk.unit], chunk.units, *chunk.positions[chunk.unit :]), chunk.unit


def check_rows(site: Site, x: NDArray[Any], samples: int, T: int, whose: Samples) -> None:
    """**Raises:** `ShapeError` for rows that are not all there, or that are more versions of a sample than were expected."""
    if len(x) < samples * T or whose.transformations != T:
        raise ShapeError(
            f"{site}: {samples} samples × {T} versions need {samples * T} rows; {len(x)} of {whose.transformations} versions arrived. A batch "
            "must hold every version of a sample."
        )


def check_mask(site: Site, chunk: Chunk) -> None:
    """**Raises:** `ShapeError` where a place in one sample is not the same place in another."""
    mask = chunk.samples.mask
    if mask is not None and chunk.positions and not mask.all():
        raise ShapeError(
            f"{site}: some positions are masked, so a place in one sample is not the same place in another, and has no threshold of its own. "
            "Measure a layer after pooling."
        )


def _moments(x: NDArray[Any]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean and squared deviations of every column of these rows."""
    wide: NDArray[np.float64] = x.astype(np.float64)
    with np.errstate(invalid="ignore"):  # of infinite values
        mean = np.add.reduce(wide, axis=0) / max(1, len(wide))
        wide -= mean
        return mean, np.einsum("nd,nd->d", wide, wide)


def _largest(
    keep: int, values: tuple[NDArray[Any], ...], groups: tuple[NDArray[np.uint8], ...]
) -> tuple[NDArray[Any], NDArray[np.uint8]]:
    """The `keep` largest of every column of all these rows in descending order, each with its group; equal ones by group."""
    rows, D = sum(map(len, values)), values[0].shape[1]
    top = np.empty((min(keep, rows), D), np.result_type(*values))
    group = np.empty(top.shape, np.uint8)
    for start in range(0, D, COLUMNS):
        part = slice(start, start + COLUMNS)
        x = np.ascontiguousarray(np.concatenate([each[:, part] for each in values]).T)
        g = np.ascontiguousarray(np.concatenate([each[:, part] for each in groups]).T)
        if rows > keep:
            some = np.argpartition(x, rows - keep, axis=1)[:, rows - keep :]
            x, g = np.take_along_axis(x, some, 1), np.take_along_axis(g, some, 1)
        order = np.lexsort((g, -x), axis=1)
        top[:, part], group[:, part] = np.take_along_axis(x, order, 1).T, np.take_along_axis(g, order, 1).T
    return top, group

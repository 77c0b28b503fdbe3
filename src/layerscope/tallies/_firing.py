"""How often the values of a layer rise above thresholds of their own, under transformations and without them."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from statistics import NormalDist
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from .._errors import DataError, FileFormatError, MergeError, ShapeError
from .._site import Activations, Chunk, Site
from ._abstract import AbstractTally, to_numpy
from ._grid_groups import GROUPS, groups_of
from ._tail import Tail, Tails, check_mask, check_rows, in_rows, shape_of

Rule = Literal["gaussian", "quantile"]


def nobody() -> NDArray[np.int64]:
    """No sample in any group."""
    return np.zeros(GROUPS, np.int64)


@dataclass
class Firing:
    """The value of `GridFiring` at one site, of D values.

    `shape` of a sample's values, of which axis `unit` counts units; `threshold` (D,), None as long as nothing is known of the untransformed
    data; `plain` (G, D) how often each value lies above it there, by group of samples, of `plain_count` (G,) samples; `fired` (G, D) how
    often it does over samples × `transformations`, of `count` (G,) samples; `nan` values that were no number under transformations.
    """

    site: Site
    shape: tuple[int, ...] = ()
    unit: int = 0
    threshold: NDArray[np.float64] | None = None
    plain: NDArray[np.int64] = field(default_factory=lambda: np.zeros((GROUPS, 0), np.int64))
    plain_count: NDArray[np.int64] = field(default_factory=nobody)
    transformations: int = 0
    fired: NDArray[np.int64] = field(default_factory=lambda: np.zeros((GROUPS, 0), np.int64))
    count: NDArray[np.int64] = field(default_factory=nobody)
    nan: int = 0

    @property
    def samples(self) -> int:
        return int(self.count.sum())

    @property
    def arrays(self) -> tuple[NDArray[Any], ...]:
        threshold = np.empty(0) if self.threshold is None else self.threshold
        return threshold, self.plain, self.plain_count, self.fired, self.count


@dataclass(frozen=True)
class GridFiring(AbstractTally[Firing]):
    """Counts, value by value, how often an activation lies above a threshold that it exceeds in a share `alpha` of the untransformed data.

    **Arguments:** `rule` how the threshold is taken from the untransformed data: "gaussian" mean + z · sd, with z the 1 - alpha quantile of
    a normal distribution; "quantile" midway between the ⌈alpha · N⌉ largest of N activations and the others (so many lie above it, or fewer
    where some are equal), as rounding in a forward of other rows must not decide.
    **Needs** the untransformed data first: thresholds, and how often these are exceeded there, are part of the value, and two values merge
    only when they agree to the bit. Counts are whole numbers, exact; 2 G + 1 numbers a value.
    **Raises:** `DataError` where nothing is known of the untransformed data; `ShapeError` for incomplete rows, another shape or a mask.
    """

    rule: Rule = "gaussian"
    alpha: float = 0.01

    def __post_init__(self) -> None:
        if self.rule not in get_args(Rule):
            raise DataError(f"rule={self.rule!r}: choose {' or '.join(map(repr, get_args(Rule)))}.")
        if not 0 < self.alpha < 0.5:
            raise DataError(
                f"alpha={self.alpha!r}: give the share of the data that lies above the threshold, above 0 and below 0.5."
            )

    @property
    def grid(self) -> bool:
        return True

    @property
    def z(self) -> float:
        """How many deviations above the mean a Gaussian threshold lies."""
        return NormalDist().inv_cdf(1 - self.alpha)

    def first(self, samples: int) -> Tail:
        return Tail(self._kept(samples))

    def _kept(self, samples: int) -> int:
        """How many of the largest of so many activations tell the threshold and all that lie above it.

        At most 1 / (1 + z²) of any data lie z deviations or more above their mean (Cantelli 1928).
        """
        if self.rule == "quantile":
            return min(samples, math.ceil(self.alpha * samples * (1 - 1e-12))) + 1
        return math.floor(samples / (1 + self.z**2)) + 1

    def prepared(self, value: Firing, first: Tails) -> Firing:
        n = first.samples
        if len(first.top) < min(n, self._kept(n)):
            raise DataError(
                f"{value.site}: the data gave more samples than it had said: {n}, of which the {len(first.top)} largest activations were kept. "
                "Give data whose length does not change."
            )
        threshold = first.mean + self.z * np.sqrt(first.m2 / max(1, n - 1))
        if self.rule == "quantile":
            k = min(self._kept(n), n) - 1
            midway = (first.top[max(0, k - 1)].astype(np.float64) + first.top[k]) / 2
            threshold = np.where(np.isfinite(threshold), midway, np.nan)  # where values were no numbers, there is none
        plain = first.above(threshold)
        return Firing(value.site, first.shape, first.unit, threshold, plain, first.count.copy())

    def read(self, activations: Activations) -> dict[str, Any]:
        return {"values": in_rows(activations)}

    def init(self, site: Site) -> Firing:
        return Firing(site)

    def add(self, value: Firing, chunk: Chunk) -> Firing:
        if value.threshold is None:
            raise DataError(
                f"{value.site}: how often a value fires above a threshold needs the untransformed data first, which only ls.examine with "
                "transformations= reads. Write ls.examine(model, data, transformations=…, measures=[…])."
            )
        n, T = len(chunk.samples), chunk.samples.transformations
        x = to_numpy(chunk.arrays["values"])[: n * T]
        check_rows(value.site, x, n, T, chunk.samples)
        check_mask(value.site, chunk)
        form = (*shape_of(chunk), T)
        if form != (value.shape, value.unit, value.transformations or T):
            raise ShapeError(
                f"{value.site}: thresholds are of values {value.shape} under {value.transformations or T} transformations; this batch has "
                f"{form[0]} under {T}. Resize or crop the inputs to one size."
            )
        if not value.transformations:
            value.transformations, value.fired = T, np.zeros_like(value.plain)
        limit = rounded_down(value.threshold, x.dtype)
        group = groups_of(chunk.samples)
        above = (x > limit).view(np.uint8).reshape(n, T, -1)
        for g, each in zip(group.tolist(), np.add.reduce(above, axis=1, dtype=np.uint32), strict=True):
            value.fired[g] += each
        value.count += np.bincount(group, minlength=GROUPS)
        value.nan += nans_in(x)
        return value

    def merge(self, left: Firing, right: Firing) -> Firing:
        if right.threshold is None:
            return left
        if left.threshold is None:
            return Firing(
                left.site, right.shape, right.unit, right.threshold.copy(), right.plain.copy(), right.plain_count.copy(),
                right.transformations, right.fired.copy(), right.count.copy(), right.nan,
            )  # fmt: skip
        if not _alike(left, right):
            raise MergeError(
                f"merge: thresholds at {str(left.site)!r} on the left are of {int(left.plain_count.sum()):,} untransformed samples, those on the "
                f"right of {int(right.plain_count.sum()):,} others. Counts above different thresholds do not add up: examine parts of one data "
                "set with shard=(i, n), whose thresholds are of all of it."
            )
        if right.transformations:
            if left.transformations not in (0, right.transformations):
                raise MergeError(
                    f"merge: {left.transformations} transformations at {str(left.site)!r}, then {right.transformations}. Only grids of the same "
                    "transformations belong together."
                )
            left.fired = left.fired + right.fired if left.transformations else right.fired.copy()
            left.transformations = right.transformations
        left.count = left.count + right.count
        left.nan += right.nan
        return left

    def same(self, left: Firing, right: Firing) -> bool:
        plain = ("shape", "unit", "transformations", "nan")
        return (
            all(getattr(left, what) == getattr(right, what) for what in plain)
            and (left.threshold is None) == (right.threshold is None)
            and all(np.array_equal(a, b, equal_nan=True) for a, b in zip(left.arrays, right.arrays, strict=True))
        )

    def nbytes(self, value: Firing) -> int:
        return sum(array.nbytes for array in value.arrays)

    def expected_nbytes(self, shape: tuple[int, ...], unit: int, transformations: int) -> int:
        return 16 * GROUPS + (8 + 16 * GROUPS) * math.prod(shape)

    def to_arrays(self, value: Firing) -> Mapping[str, NDArray[Any]]:
        known = value.threshold is not None
        form = np.array([known, value.transformations, value.nan, value.unit, *value.shape], np.int64)
        return {"form": form, **dict(zip(_NAMES, value.arrays, strict=True))}

    def from_arrays(self, site: Site, arrays: Mapping[str, NDArray[Any]]) -> Firing:
        try:
            known, T, nan, unit, *shape = arrays["form"].tolist()
            threshold, plain, plain_count, fired, count = (arrays[name] for name in _NAMES)
            D = len(threshold)
            counts = [a.shape for a in (plain, plain_count, fired, count)]
            fits = counts == [(GROUPS, D), (GROUPS,), (GROUPS, D if T else 0), (GROUPS,)]
        except (KeyError, IndexError, ValueError, TypeError) as error:
            raise FileFormatError(
                f"{site}: firing counts need arrays that are not there or not whole ({error})."
            ) from error
        if not fits:
            raise FileFormatError(
                f"{site}: the arrays of these firing counts do not fit each other; the file is damaged."
            )
        return Firing(site, tuple(shape), unit, threshold if known else None, plain, plain_count, T, fired, count, nan)


_NAMES = ("threshold", "plain", "plain_count", "fired", "count")


def _alike(left: Firing, right: Firing) -> bool:
    """Whether thresholds, and what is known of the untransformed data, are the same to the bit."""
    return (left.shape, left.unit) == (right.shape, right.unit) and all(
        np.array_equal(a, b, equal_nan=True) for a, b in zip(left.arrays[:3], right.arrays[:3], strict=True)
    )


def nans_in(x: NDArray[Any]) -> int:
    """How many values are NaN; a sum tells where there is none, in a fraction of the time."""
    with np.errstate(invalid="ignore", over="ignore"):
        if not np.isnan(np.add.reduce(x, axis=None)):
            return 0
    return int(np.count_nonzero(np.isnan(x)))


def rounded_down(threshold: NDArray[np.float64], dtype: np.dtype[Any]) -> NDArray[Any]:
    """The largest numbers of a type that are no larger: a value of that type lies above one exactly where it lies above the other."""
    with np.errstate(over="ignore"):
        limit = threshold.astype(dtype)
    return np.where(limit > threshold, np.nextafter(limit, dtype.type(-np.inf)), limit)

"""Mean and spread of every unit, mergeable and exact: counts, means and squared deviations."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._errors import FileFormatError, MergeError, ShapeError
from .._site import Activations, Chunk, Site
from ._abstract import AbstractTally, to_numpy

RELATIVE = 2e-6
"""What float32 blocks in float64 sums may differ by."""


@dataclass
class UnitMoments:
    """The value of `Moments`: per unit how many finite values, their mean and the sum of their squared deviations, float64."""

    site: Site
    count: NDArray[np.float64]
    mean: NDArray[np.float64]
    m2: NDArray[np.float64]
    nonfinite: int = 0

    @property
    def nbytes(self) -> int:
        return self.count.nbytes + self.mean.nbytes + self.m2.nbytes


@dataclass(frozen=True)
class Moments(AbstractTally[UnitMoments]):
    """Mean and variance of every unit over all observations.

    A block is summarised about its own mean, and blocks are joined by the rule of Chan, Golub & LeVeque (1979): never a sum of
    squares about zero, which loses everything at mean >> deviation.  NaN and infinite values are counted and left out.
    """

    def read(self, activations: Activations) -> dict[str, Any]:
        a, xp = activations, activations.xp
        x = xp.moveaxis(a.values, a.axes.sample % len(a.values.shape), 0)
        unit = a.axes.unit % len(a.values.shape)
        x = xp.moveaxis(x, unit + (unit < a.axes.sample % len(a.values.shape)), -1)
        # float32 sums lose digits over long axes; the host can afford better, a graph on a device often cannot
        wide = xp.float64 if a.host is not None or str(x.dtype).endswith("float64") else xp.float32
        x = xp.asarray(x, dtype=wide)
        finite = xp.logical_not(xp.logical_or(xp.isnan(x), xp.isinf(x)))
        bad = xp.logical_not(finite)
        counts = a.real if a.mask is None else a.mask
        if counts is not None:
            spread = xp.reshape(counts, (*counts.shape, *(1,) * (len(x.shape) - len(counts.shape))))
            finite, bad = xp.logical_and(finite, spread), xp.logical_and(bad, spread)
        rows = tuple(range(len(x.shape) - 1))
        nothing = xp.zeros_like(x)
        count = xp.sum(xp.asarray(finite, dtype=xp.int32), axis=rows)
        some = xp.asarray(xp.where(count > 0, count, xp.ones_like(count)), dtype=wide)
        pivot = xp.sum(xp.where(finite, x, nothing), axis=rows) / some
        # a second look at the mean about the first takes its rounding error away
        deviation = xp.where(finite, x - pivot, nothing)
        shift = xp.sum(deviation, axis=rows) / some
        deviation = xp.where(finite, deviation - shift, nothing)
        m2 = xp.sum(deviation * deviation, axis=rows)
        nonfinite = xp.sum(xp.asarray(bad, dtype=xp.int32))
        return {"count": count, "pivot": pivot, "shift": shift, "m2": m2, "nonfinite": nonfinite}

    def init(self, site: Site) -> UnitMoments:
        nothing = np.empty(0)
        return UnitMoments(site, nothing, nothing, nothing)

    def add(self, value: UnitMoments, chunk: Chunk) -> UnitMoments:
        block = {name: to_numpy(array).astype(np.float64) for name, array in chunk.arrays.items()}
        mean = block["pivot"] + block["shift"]
        return self._join(
            value, UnitMoments(value.site, block["count"], mean, block["m2"], int(block["nonfinite"])), ShapeError
        )

    def merge(self, left: UnitMoments, right: UnitMoments) -> UnitMoments:
        return self._join(left, right, MergeError)

    @staticmethod
    def _join(left: UnitMoments, right: UnitMoments, error: type[Exception]) -> UnitMoments:
        if not right.count.size:
            return left
        if not left.count.size:
            return UnitMoments(
                left.site, right.count.copy(), right.mean.copy(), right.m2.copy(), left.nonfinite + right.nonfinite
            )
        if left.count.shape != right.count.shape:
            raise error(
                f"moments: {left.count.size} units at {str(left.site)!r}, then {right.count.size} at {str(right.site)!r}. "
                "Only moments of the same layer belong together."
            )
        total = left.count + right.count
        share = np.divide(right.count, total, out=np.zeros_like(total), where=total > 0)
        delta = right.mean - left.mean
        m2 = left.m2 + right.m2 + delta * delta * left.count * share
        return UnitMoments(left.site, total, left.mean + delta * share, m2, left.nonfinite + right.nonfinite)

    def same(self, left: UnitMoments, right: UnitMoments) -> bool:
        if left.count.shape != right.count.shape or left.nonfinite != right.nonfinite:
            return False
        spread = np.sqrt(left.m2 / np.maximum(left.count, 1))
        return (
            np.array_equal(left.count, right.count)
            and bool(np.all(np.abs(left.mean - right.mean) <= RELATIVE * (np.abs(left.mean) + spread)))
            and bool(np.all(np.abs(left.m2 - right.m2) <= RELATIVE * (left.m2 + right.m2)))
        )

    def nbytes(self, value: UnitMoments) -> int:
        return value.nbytes

    def to_arrays(self, value: UnitMoments) -> Mapping[str, NDArray[Any]]:
        return {
            "count": value.count,
            "mean": value.mean,
            "m2": value.m2,
            "nonfinite": np.array([value.nonfinite], np.int64),
        }

    def from_arrays(self, site: Site, arrays: Mapping[str, NDArray[Any]]) -> UnitMoments:
        try:
            count, mean, m2 = (arrays[name].astype(np.float64) for name in ("count", "mean", "m2"))
            nonfinite = int(arrays["nonfinite"][0])
        except (KeyError, IndexError, ValueError) as error:
            raise FileFormatError(
                f"{site}: moments need the arrays count, mean, m2 and nonfinite ({error})."
            ) from error
        if not count.shape == mean.shape == m2.shape:
            raise FileFormatError(f"{site}: the arrays of these moments differ in length; the file is damaged.")
        return UnitMoments(site, count, mean, m2, nonfinite)

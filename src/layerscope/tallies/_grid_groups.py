"""A few values of a layer in more detail: by groups of samples and for fewer transformations.

From the groups come intervals (leaving out one by one) and, together with the fewer transformations, what a layer would have read like in a
smaller experiment.
"""

import functools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._site import GROUPS, Samples
from ._grid_sums import GridSums

PICKED = 16
"""Values of a layer, evenly spaced, whose sums are kept group by group."""
NOISE = 1e-6
"""What values themselves may differ by between frameworks: in a group of few samples that is more of a variance than `RELATIVE`."""


@dataclass
class Groups:
    """The sums of a grid for the values `picked` (K,), for each of G groups of samples, and for S nested choices of transformations.

    `count` (G,) samples; `mean`, `m2` (G, T, K) of every transformation; `rows_var`, `rows_std` (G, S, K), where s = 0 is of all
    transformations, s = 1 of every second one from the first, s = 2 of every fourth: see `strides_of`.

    A sample's group is a function of its id, so sums do not depend on the order or cutting of the data.
    """

    picked: NDArray[np.int64]
    count: NDArray[np.int64]
    mean: NDArray[np.float64]
    m2: NDArray[np.float64]
    rows_var: NDArray[np.float64]
    rows_std: NDArray[np.float64]

    @classmethod
    def zeros(cls, picked: NDArray[np.int64], T: int) -> "Groups":
        columns, rows = (GROUPS, T, len(picked)), (GROUPS, len(strides_of(T)), len(picked))
        return cls(picked, np.zeros(GROUPS, np.int64), *(np.zeros(shape) for shape in (columns, columns, rows, rows)))

    @classmethod
    def expected_nbytes(cls, D: int, T: int) -> int:
        """Bytes of the groups of a layer of D values, all of which count."""
        return sum(array.nbytes for array in cls.zeros(picked_of(D, None), T).arrays)

    def __iter__(self) -> Iterator[GridSums]:
        """The sums of every group that has samples."""
        return iter(self.at(0))

    def at(self, s: int) -> list[GridSums]:
        """The sums of every group that has samples, of choice s of transformations."""
        step = 2**s
        return [
            GridSums(
                int(self.count[g]),
                self.mean[g, ::step],
                self.m2[g, ::step],
                self.rows_var[g, s],
                self.rows_std[g, s],
            )
            for g in np.flatnonzero(self.count).tolist()
        ]

    @property
    def arrays(self) -> tuple[NDArray[Any], ...]:
        return self.picked, self.count, self.mean, self.m2, self.rows_var, self.rows_std

    @property
    def fits(self) -> bool:
        """Whether the arrays belong together."""
        if self.mean.ndim != 3:
            return False
        wanted = Groups.zeros(self.picked, self.mean.shape[1])
        return all(mine.shape == theirs.shape for mine, theirs in zip(self.arrays, wanted.arrays, strict=True))

    def joined(self, other: "Groups") -> "Groups":
        together = Groups.zeros(self.picked, self.mean.shape[1])
        for g in range(GROUPS):
            one, two = (
                GridSums(int(x.count[g]), x.mean[g], x.m2[g], x.rows_var[g], x.rows_std[g]) for x in (self, other)
            )
            both = one.joined(two)
            together.count[g] = both.samples
            for name in ("mean", "m2", "rows_var", "rows_std"):
                getattr(together, name)[g] = getattr(both, name)
        return together

    def same(self, other: "Groups") -> bool:
        """Whether both say the same, as far as rounding in other frameworks lets them."""
        if not (np.array_equal(self.picked, other.picked) and np.array_equal(self.count, other.count)):
            return False
        if self.mean.shape != other.mean.shape:
            return False
        pairs = ((a, b) for s in range(self.rows_var.shape[1]) for a, b in zip(self.at(s), other.at(s), strict=True))
        return all(a.same(b, NOISE) for a, b in pairs)


def strides_of(T: int) -> tuple[int, ...]:
    """Steps of the nested choices of T transformations, as long as two or more remain.

    >>> strides_of(16), strides_of(6), strides_of(1)
    ((1, 2, 4, 8), (1, 2, 4), (1,))
    """
    return (1, *(2**s for s in range(1, T.bit_length()) if -(-T // 2**s) >= 2))


def picked_of(D: int, inside: NDArray[np.bool_] | None) -> NDArray[np.int64]:
    """The values of D whose sums are kept by group: evenly spaced over those that count."""
    return _evenly(D) if inside is None else (chosen := np.flatnonzero(inside))[_evenly(len(chosen))]


@functools.lru_cache(maxsize=256)
def _evenly(n: int) -> NDArray[np.int64]:
    """At most `PICKED` numbers below n, evenly spaced."""
    return np.unique(np.rint(np.linspace(0, n - 1, min(PICKED, n))).astype(np.int64))


def groups_of(samples: Samples) -> NDArray[np.int64]:
    """The group of every sample, a function of its id."""
    return samples.groups

"""A bounded, order-free choice of samples whose packed states are kept: what standard errors will be computed from."""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

SAMPLES, ROWS = 100, 8192
"""Kept are the samples first in hash order until there are at least so many samples and so many rows."""


def sample_keys(ids: NDArray[np.int64]) -> NDArray[np.uint64]:
    """A fixed pseudo-random rank of every sample, a function of its id alone (the finaliser of SplitMix64, Steele et al. 2014)."""
    z = ids.astype(np.uint64) + np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


@dataclass
class KeptSamples:
    """Packed rows of the samples that come first in the order of `sample_keys`.

    The shortest prefix of that order with `SAMPLES` samples and `ROWS` rows: the prefix of a union is made of members of the
    prefixes of its parts, so any split and any order of the stream keep the same samples.  Samples that repeat are all kept.
    """

    keys: NDArray[np.uint64] = field(default_factory=lambda: np.empty(0, np.uint64))
    ids: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))
    rows: list[NDArray[np.uint64]] = field(default_factory=list[NDArray[np.uint64]])
    full: bool = False

    def offer(self, rows: NDArray[np.uint64], offsets: NDArray[np.int64], ids: NDArray[np.int64]) -> None:
        """Keep those samples of a batch that come early enough.  Sample g has rows[offsets[g] : offsets[g + 1]]."""
        sizes = np.diff(offsets)
        keys = sample_keys(ids)
        early = sizes > 0
        if self.full:
            early &= keys <= self.keys[-1]
        chosen = np.flatnonzero(early)
        if len(chosen):
            views = [rows[offsets[g] : offsets[g + 1]] for g in chosen]
            self._join(keys[chosen], ids[chosen], views, copy=True)

    def merge(self, other: "KeptSamples") -> None:
        """Keep what the union of both streams would have kept."""
        if len(other.keys):
            self._join(other.keys, other.ids, other.rows, copy=False)

    def _join(
        self, keys: NDArray[np.uint64], ids: NDArray[np.int64], rows: list[NDArray[np.uint64]], copy: bool
    ) -> None:
        old = len(self.keys)
        all_keys = np.concatenate([self.keys, keys])
        order = np.argsort(all_keys, kind="stable")
        joined = self.rows + rows
        total = np.cumsum([len(joined[k]) for k in order])
        enough = np.flatnonzero((np.arange(1, len(order) + 1) >= SAMPLES) & (total >= ROWS))
        self.full = len(enough) > 0
        if self.full:  # whole groups of equal keys stay or go together, or the order of the stream would decide
            order = order[: np.searchsorted(all_keys[order], all_keys[order[enough[0]]], side="right")]
        self.ids = np.concatenate([self.ids, ids])[order]
        self.keys = all_keys[order]
        self.rows = [joined[k].copy() if copy and k >= old else joined[k] for k in order]

    def same(self, other: "KeptSamples") -> bool:
        """Whether both keep the same samples with the same rows, in whatever order repeated samples came."""

        def listing(kept: "KeptSamples") -> list[tuple[int, int, bytes]]:
            return sorted((int(k), int(i), r.tobytes()) for k, i, r in zip(kept.keys, kept.ids, kept.rows, strict=True))

        return listing(self) == listing(other)

    @property
    def repeated(self) -> int:
        """How many kept samples have an id that another kept sample has too."""
        return len(self.ids) - len(np.unique(self.ids))

    @property
    def nbytes(self) -> int:
        return self.keys.nbytes + self.ids.nbytes + sum(r.nbytes for r in self.rows)

"""A bounded, order-free choice of samples whose packed states are kept: what standard errors will be computed from."""

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from .._errors import FileFormatError
from .._site import Samples
from ..kernels import Words

SAMPLES, ROWS = 100, 8192
"""Kept are the samples first in hash order until there are at least so many samples and so many rows."""
LAST = 0xFFFFFFFFFFFFFFFF


class Kept(NamedTuple):
    """Samples with their packed rows, in key order: sample g has the `sizes[g]` rows that follow those of the samples before it.

    Where states are counted by stratum, the stratum is the last word of a row.
    """

    keys: NDArray[np.uint64]
    ids: NDArray[np.int64]
    sizes: NDArray[np.int64]
    rows: NDArray[np.uint64]


class Pairs(NamedTuple):
    """Every different state of every kept sample: number `g` of the sample, number `s` of the state in the table, `c` rows."""

    g: NDArray[np.int64]
    s: NDArray[np.int64]
    c: NDArray[np.int64]


def rows_of(rows: NDArray[np.uint64], starts: NDArray[np.int64], sizes: NDArray[np.int64]) -> NDArray[np.uint64]:
    """A copy of the rows starts[g] … starts[g] + sizes[g] - 1 of every g, one sample after the other."""
    if len(starts) and sizes.max() == 1 and sizes.min() == 1:
        return rows[starts]
    return np.concatenate(
        [rows[:0], *(rows[a : a + size] for a, size in zip(starts.tolist(), sizes.tolist(), strict=True))]
    )


@dataclass
class KeptSamples:
    """Packed rows of the samples that come first in the order of `Samples.keys`.

    The shortest prefix of that order with `SAMPLES` samples and `ROWS` rows: the prefix of a union is made of members of the
    prefixes of its parts, so any split and any order of the stream keep the same samples.  Samples that repeat are all kept.
    Candidates are gathered in `parts` and sifted when they have become as many as what is kept, so a batch costs what it adds.
    `crossed`: the same samples come again in every stratum, and are then one of the `SAMPLES`.
    """

    parts: list[Kept] = field(default_factory=list[Kept])
    last: int = LAST
    waiting: int = 0
    crossed: bool = False

    def offer(self, rows: NDArray[np.uint64], offsets: NDArray[np.int64], samples: Samples) -> None:
        """Keep those samples of a batch that come early enough.  Sample g has rows[offsets[g] : offsets[g + 1]]."""
        early = self.early(samples)
        if early.size:
            sizes = np.diff(offsets)
            early = early[sizes[early] > 0]
            self.take(samples, early, sizes[early], rows_of(rows, offsets[early], sizes[early]))

    def early(self, samples: Samples) -> NDArray[np.int64]:
        """The numbers of those samples of a batch, ascending, that come early enough to be kept for now."""
        keys, order = samples.ranked
        return np.array(sorted(order[: bisect_right(keys, self.last)]), np.int64)

    def take(
        self, samples: Samples, early: NDArray[np.int64], sizes: NDArray[np.int64], rows: NDArray[np.uint64]
    ) -> None:
        """Keep these samples of a batch, whose `rows` follow each other."""
        self._take(Kept(samples.keys[early], samples.ids[early], sizes, rows))

    def merge(self, other: "KeptSamples") -> None:
        """Keep what the union of both streams would have kept."""
        for part in other.parts:
            self._take(part)

    def _take(self, part: Kept) -> None:
        if not len(part.keys):
            return
        self.parts.append(part)
        self.waiting += len(part.rows)
        if self.waiting >= max(ROWS, len(self.parts[0].rows)):
            self.sifted()

    def sifted(self) -> Kept:
        """What is kept, and nothing more."""
        if not self.parts:
            nothing = np.empty(0, np.int64)
            return Kept(nothing.view(np.uint64), nothing, nothing, np.empty((0, 0), np.uint64))
        keys, ids, sizes, rows = (np.concatenate(column) for column in zip(*self.parts, strict=True))
        order = np.lexsort((ids, keys))
        another = np.r_[True, np.diff(keys[order]) > 0] if self.crossed else np.ones(len(order), np.bool_)
        enough = np.flatnonzero((np.cumsum(another) >= SAMPLES) & (np.cumsum(sizes[order]) >= ROWS))
        if enough.size:  # whole groups of equal keys stay or go together, or the order of the stream would decide
            self.last = int(keys[order[enough[0]]])
            order = order[: np.searchsorted(keys[order], np.uint64(self.last), side="right")]
        chosen = rows_of(rows, (np.cumsum(sizes) - sizes)[order], sizes[order])
        self.parts = [Kept(keys[order], ids[order], sizes[order], chosen)]
        self.waiting = 0
        return self.parts[0]

    def listing(self) -> list[tuple[int, bytes]]:
        """Every kept sample with its rows as bytes, in an order that does not depend on the stream."""
        kept = self.sifted()
        ends = np.cumsum(kept.sizes)
        return sorted(
            (int(i), kept.rows[end - size : end].tobytes())
            for i, size, end in zip(kept.ids, kept.sizes, ends, strict=True)
        )

    def same(self, other: "KeptSamples") -> bool:
        """Whether both keep the same samples with the same rows, in whatever order repeated samples came."""
        return self.listing() == other.listing()

    def pairs(self, states: Words) -> Pairs:
        """What each kept sample counts in a table whose different `states` these are, ascending; strata are left aside.

        **Raises:** `FileFormatError` where the table does not hold a kept row.
        """
        kept = self.sifted()
        rows = kept.rows[:, : states.shape[1]]
        at = places(states, rows)
        if len(at) and not (len(states) and (states[at] == rows).all()):
            raise FileFormatError(
                "kept samples: a state of theirs is missing in the table they come from. The file is damaged."
            )
        whose = np.repeat(np.arange(len(kept.ids)), kept.sizes)
        key, c = np.unique(whose * max(1, len(states)) + at, return_counts=True)
        return Pairs(key // max(1, len(states)), key % max(1, len(states)), c)

    def within(self, strata: Sequence[int]) -> "KeptSamples":
        """What is kept of these strata, without the stratum: each sample once for every stratum in which it has rows."""
        kept, found = self.sifted(), KeptSamples()
        if not len(kept.keys):
            return found
        whose, of = np.repeat(np.arange(len(kept.keys)), kept.sizes), kept.rows[:, -1].view(np.int64)
        here = np.flatnonzero(np.isin(of, strata))
        whose, of = whose[here], of[here]
        begin = np.flatnonzero(np.r_[True, (whose[1:] != whose[:-1]) | (of[1:] != of[:-1])][: len(here)])
        sizes = np.diff(np.r_[begin, len(here)])
        rows = np.ascontiguousarray(kept.rows[here, :-1])
        found.parts = [Kept(kept.keys[whose[begin]], kept.ids[whose[begin]], sizes, rows)] if len(here) else []
        return found

    @property
    def repeated(self) -> int:
        """How many kept samples have an id that another kept sample has too."""
        ids = self.sifted().ids
        return len(ids) - len(np.unique(ids))

    @property
    def nbytes(self) -> int:
        return sum(column.nbytes for part in self.parts for column in part)


def places(states: Words, rows: Words) -> NDArray[np.int64]:
    """Where each row stands among ascending `states`; any number for a row that is not there.  A binary search of all rows at once."""
    low, high = np.zeros(len(rows), np.int64), np.full(len(rows), max(0, len(states) - 1))
    for _ in range(max(0, len(states) - 1).bit_length()):
        middle = (low + high) // 2
        found = states[middle]
        below, equal = np.zeros(len(rows), np.bool_), np.ones(len(rows), np.bool_)
        for word in range(states.shape[1] - 1, -1, -1):  # the last word is the most significant
            below |= equal & (found[:, word] < rows[:, word])
            equal &= found[:, word] == rows[:, word]
        low, high = np.where(below, np.minimum(middle + 1, high), low), np.where(below, high, middle)
    return low

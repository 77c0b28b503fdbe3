"""What is left of many states when few may stay: the frequent ones, and a fair sample of all others."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..kernels import Records, Words

Integers = NDArray[np.int64]

ALL = 1 << 64
"""A limit for keys that lets every state pass."""


@dataclass(frozen=True, eq=False)
class Thinned:
    """What is left of many states: those `held`, and of the others exactly those whose key is below `below`.

    Both were counted from their first row, so their columns are those of the full table.  `rows` counts the rows of all states, of those
    that are gone too.
    """

    records: Records
    held: NDArray[np.bool_]
    below: int
    rows: int

    @classmethod
    def of(cls, records: Records) -> "Thinned":
        """All states."""
        return cls(records, np.ones(len(records.n), np.bool_), ALL, int(records.n.sum()))

    @property
    def whole(self) -> bool:
        return self.below == ALL

    @property
    def share(self) -> float:
        """The share of the states not held that are here."""
        return self.below / ALL

    @property
    def nbytes(self) -> int:
        return self.held.nbytes + sum(column.nbytes for column in self.records)

    def joined(self, other: "Thinned", k: int) -> "Thinned":
        """Both together, thinned to `k` states where it must be."""
        states = np.concatenate([self.records.states, other.records.states])
        order, begin, keys = grouped(states)
        n, i, Q, first = (np.concatenate(pair)[order] for pair in zip(self.records[1:], other.records[1:], strict=True))
        first = np.minimum.reduceat(first, begin) if len(begin) else first
        records = Records(states[order[begin]], total(n, begin), total(i, begin), total(Q, begin), first)
        rows = self.rows + other.rows
        if not self.whole or not other.whole:
            held = self._held_by_both(other, order, begin, n, max(2.0, 2 * rows / k))
            held = commonest(records.n, held, 3 * k // 4)
        elif len(begin) <= k:
            return Thinned(records, np.ones(len(begin), np.bool_), ALL, rows)
        else:
            held = commonest(records.n, records.n > 1, k // 2)
        below = min(self.below, other.below)
        rest = np.sort(keys[~held & fits(keys, below)])
        below = int(rest[k // 2]) if len(rest) > k // 2 else below
        stays = held | fits(keys, below)
        return Thinned(records.some(stays), held[stays], below, rows)

    def _held_by_both(
        self, other: "Thinned", order: Integers, begin: Integers, n: Integers, many: float
    ) -> NDArray[np.bool_]:
        """Which of the merged states stay held: those that both sides know from the first row on.

        A state that one side alone holds may have gone from the other, so it falls back to its key; unless it has `many` rows: then the few
        that the other side may have dropped matter less than leaving its weight to chance, as where data come sorted by class.
        """
        sides = np.repeat([0, 1], [len(self.held), len(other.held)])[order]
        flags = np.concatenate([self.held, other.held])[order]
        both, often = np.ones(len(begin), np.bool_), np.zeros(len(begin), np.bool_)
        for number, side in enumerate((self, other)):
            here = flags & (sides == number)
            holds = total(here.astype(np.int64), begin) > 0
            both &= holds | side.whole
            often |= total(n * here, begin) >= many
        return both | often


def grouped(states: Words) -> tuple[Integers, Integers, NDArray[np.uint64]]:
    """An order in which equal states are neighbours, where each different one begins in it, and its key there for every row."""
    keys = state_keys(states)
    order = np.argsort(keys)
    fresh = np.ones(len(order), np.bool_)
    fresh[1:] = (states[order[1:]] != states[order[:-1]]).any(axis=1)
    sorted_keys = keys[order]
    if (fresh[1:] & (sorted_keys[1:] == sorted_keys[:-1])).any():  # two states of one key: once in 10^9 sketches
        order = np.lexsort(states.T)
        fresh[1:] = (states[order[1:]] != states[order[:-1]]).any(axis=1)
    begin = np.flatnonzero(fresh)
    return order, begin, keys[order[begin]]


def total(column: Integers, begin: Integers) -> Integers:
    """The sums of a column from each beginning to the next."""
    return np.add.reduceat(column, begin) if len(begin) else column


def commonest(n: Integers, of: NDArray[np.bool_], most: int) -> NDArray[np.bool_]:
    """At most so many of these states, by their rows alone: ties with what is left out are left out, so the keys of both stay fair."""
    if np.count_nonzero(of) <= most:
        return of
    return of & (n > np.partition(n[of], -most - 1)[-most - 1])


def fits(keys: NDArray[np.uint64], below: int) -> NDArray[np.bool_]:
    return np.ones(len(keys), np.bool_) if below == ALL else keys < np.uint64(below)


def state_keys(states: Words) -> NDArray[np.uint64]:
    """A fixed pseudo-random rank of every state, from its bits alone (the finaliser of SplitMix64, Steele et al. 2014, word by word)."""
    z = np.full(len(states), 0x9E3779B97F4A7C15, np.uint64)
    for word in states.T:
        z = (z ^ word) + np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        z ^= z >> np.uint64(31)
    return z

"""What a state table holds for one site: different states with their columns, the samples behind them, and those of each stratum."""

from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, TypeVar

import numpy as np

from .._errors import DataError
from .._site import Site
from ..kernels import Records, Table
from ._kept import KeptSamples, Pairs

T = TypeVar("T")


@dataclass
class StateCounts:
    """The value of a `StateTable`: different states of one site with four integers each, and what else was seen.

    `table` holds per state n (rows), i (samples it occurs in), Q (Σ over samples of squared rows) and the smallest sample id; with
    strata the stratum is one more word of the key.  `samples` with at least one row; `square_rows` Σ over samples of (rows)²;
    `masked` rows left out; `nan` and `inf` values met; `kept` the samples whose rows are kept; `by_stratum` samples and square rows of
    each stratum; `crossed` whether one sample stands in several strata, in each of which it then counts; `memo` what measures computed.
    """

    site: Site
    units: int = 0
    threshold: float = 0.0
    table: Table | None = None
    samples: int = 0
    square_rows: int = 0
    masked: int = 0
    nan: int = 0
    inf: int = 0
    strata: bool = False
    crossed: bool = False
    kept: KeptSamples = field(default_factory=KeptSamples)
    by_stratum: dict[int, tuple[int, int]] = field(default_factory=dict[int, tuple[int, int]])
    memo: dict[Hashable, Any] = field(default_factory=dict[Hashable, Any], repr=False, compare=False)

    @property
    def observations(self) -> int:
        return 0 if self.table is None else self.table.rows

    @property
    def words(self) -> int:
        return -(-self.units // 64)

    @property
    def labels(self) -> list[int]:
        """The strata that were seen, ascending."""
        return sorted(self.by_stratum)

    def records(self, stratum: int | None = None) -> Records:
        """The different states with their columns, sorted; of one stratum, or of all together.

        **Raises:** `DataError` for all together where samples stand in several strata: their columns do not add up.
        """
        return self.remember(("records", stratum), lambda: self._records(stratum))

    def pairs(self) -> Pairs:
        """The states of the kept samples, by their numbers in `records()`."""
        return self.remember("pairs", lambda: self.kept.pairs(self.records().states))

    def remember(self, what: Hashable, make: Callable[[], T]) -> T:
        """What `make` computes from these counts, computed once until more rows come (rows only ever come in)."""
        if self.memo.get("rows") != self.observations:
            self.memo = {"rows": self.observations}
        if what not in self.memo:
            self.memo[what] = make()
        return self.memo[what]

    def within(self, *strata: int) -> "StateCounts":
        """What was seen in some strata, as if there were nothing else: counts that every measure of a plain `StateTable()` reads.

        In several strata at once, a sample that stands in k of them counts k times; `repeats_in` then says so, and no interval is given.
        **Raises:** `DataError` for a stratum that was not seen.
        """
        unknown = [each for each in strata if each not in self.by_stratum]
        if unknown or not strata:
            seen = ", ".join(map(str, self.labels)) or "none"
            raise DataError(f"{self.site}: asked for the strata {strata}; seen are {seen}. Choose among these.")
        return self.remember(("within", strata), lambda: self._within(strata))

    def _within(self, strata: tuple[int, ...]) -> "StateCounts":
        table = Table(self.words)
        for each in strata:
            table.merge(Table.of(self.records(each)))
        samples, square_rows = map(sum, zip(*(self.by_stratum[each] for each in strata), strict=True))
        masked = (
            self.masked if {*strata} == {*self.by_stratum} else 0
        )  # of which stratum masked rows are was not counted
        part = StateCounts(
            self.site, self.units, self.threshold, table, samples, square_rows, masked, self.nan, self.inf
        )
        part.kept = self.kept.within(strata)
        return part

    def _records(self, stratum: int | None) -> Records:
        if self.table is None:
            return Records.empty(self.words)
        if not self.strata:
            return self.table.records()
        table = self.table
        parts = self.remember("strata", lambda: self._by_stratum(table.records()))
        if stratum is not None:
            return parts.get(stratum, Records.empty(self.words))
        if self.crossed and len(parts) > 1:
            raise DataError(
                f"{self.site}: the same samples stand in all {len(parts)} strata, so there is no one table of them. Ask for some, "
                f"value.within({self.labels[0]}), or measure without strata."
            )
        together = Table(self.words)
        for part in parts.values():
            together.merge(Table.of(part))
        return together.records()

    def _by_stratum(self, records: Records) -> dict[int, Records]:
        """The records of each stratum.  The stratum is the most significant word, so they lie one after the other."""
        of = records.states[:, -1]
        begins = np.flatnonzero(np.r_[True, of[1:] != of[:-1]]) if len(of) else np.empty(0, np.int64)
        found: dict[int, Records] = {}
        for a, b in pairwise([*begins.tolist(), len(of)]):
            states = np.ascontiguousarray(records.states[a:b, :-1])
            found[int(of[a : a + 1].view(np.int64)[0])] = Records(states, *(column[a:b] for column in records[1:]))
        return found

    @property
    def nbytes(self) -> int:
        return self.kept.nbytes + (0 if self.table is None else self.table.nbytes)

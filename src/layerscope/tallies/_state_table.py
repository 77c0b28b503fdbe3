"""Which firing states a layer took, and how often: the table behind every state measure."""

from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from .._errors import DataError, FileFormatError, MergeError, ShapeError, ThresholdError
from .._site import Activations, Chunk, Samples, Site
from .._states import Per, as_words, check_per, pack_states
from ..kernels import Records, Table, even_offsets, nonfinite
from ._abstract import AbstractTally, to_numpy
from ._kept import KeptSamples, Pairs

T = TypeVar("T")


@dataclass
class StateCounts:
    """The value of a `StateTable`: different states of one site with four integers each, and what else was seen.

    `table` holds per state n (rows), i (samples it occurs in), Q (Σ over samples of squared rows) and the smallest sample id; with
    strata the stratum is one more word of the key.  `samples` with at least one row; `square_rows` Σ over samples of (rows)²;
    `masked` rows left out; `nan` and `inf` values met; `kept` the samples whose rows are kept; `by_stratum` samples and square rows of
    each stratum; `memo` what measures computed from all this.
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
    kept: KeptSamples = field(default_factory=KeptSamples)
    by_stratum: dict[int, tuple[int, int]] = field(default_factory=dict[int, tuple[int, int]])
    memo: dict[Hashable, Any] = field(default_factory=dict[Hashable, Any], repr=False, compare=False)

    @property
    def observations(self) -> int:
        return 0 if self.table is None else self.table.rows

    @property
    def words(self) -> int:
        return -(-self.units // 64)

    def records(self, stratum: int | None = None) -> Records:
        """The different states with their columns, sorted; of one stratum, or of all together."""
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

    @property
    def labels(self) -> list[int]:
        """The strata that were seen, ascending."""
        return sorted(self.by_stratum)

    def _records(self, stratum: int | None) -> Records:
        if self.table is None:
            nothing = np.empty(0, np.int64)
            return Records(np.empty((0, self.words), np.uint64), nothing, nothing, nothing, nothing)
        if not self.strata:
            return self.table.records()
        table = self.table
        parts = self.remember("strata", lambda: self._by_stratum(table.records()))
        if stratum is not None:
            return parts.get(stratum, Records.empty(self.words))
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


@dataclass(frozen=True)
class StateTable(AbstractTally[StateCounts]):
    """Counts a layer's firing states while they stream.

    **Arguments:** `per` what one state is made of ("position": the units at one place; "sample": a sample's whole map; "channel": one
    channel's map); `strata` "label" or "epoch" to count them apart, where a measure needs it; `threshold` overrides the site's own.
    **Remembers:** per different state four integers that add over disjoint samples, and the packed rows of a few samples.
    **Raises:** `ShapeError` when the number of units changes or a mask does not fit.
    **Source:** states: Schaub & Hotaling 2020, arXiv:2006.02909; the columns i and Q serve sample-aware statistics.
    """

    per: Per = "position"
    strata: Literal["label", "epoch"] | None = None
    threshold: float | None = None

    def __post_init__(self) -> None:
        check_per(self.per)

    def covers(self, other: AbstractTally[Any]) -> bool:
        """Strata added up are the table of all samples."""
        return self == other or (self.strata == "label" and other == replace(self, strata=None))

    def read(self, activations: Activations) -> dict[str, Any]:
        return pack_states(activations, self.per, self.threshold)

    def init(self, site: Site) -> StateCounts:
        return StateCounts(site, strata=self.strata is not None)

    def observe(self, value: StateCounts, activations: Activations, samples: Samples) -> StateCounts:
        a, x = activations, activations.host
        simple = self.per == "position" and self.strata is None and samples.mask is None and a.axes.sample == 0
        if x is None or not simple or x.ndim < 2 or a.axes.unit % x.ndim == 0 or len(x) != len(samples):
            return self.add(value, Chunk.of(self.read(a), a, samples))
        threshold = a.threshold if self.threshold is None else self.threshold
        table, count = self._table(value, x.shape[a.axes.unit], threshold), len(samples)
        m = x.size // max(1, count * value.units)
        early = value.kept.early(samples)
        finite, rows = table.observe(x, a.axes.unit, threshold, a.dtype, samples.ids, early)
        if early.size and m:
            value.kept.take(samples, early, np.full(len(early), m), rows)
        if not finite:
            nan, inf = nonfinite(x, a.dtype)
            value.nan, value.inf = value.nan + nan, value.inf + inf
        value.samples += count if m else 0
        value.square_rows += count * m * m
        return value

    def _table(self, value: StateCounts, units: int, threshold: float) -> Table:
        """The table of a value, made when the number of units is first known."""
        if value.table is None:
            value.units, value.threshold = units, threshold
            value.table = Table(value.words + value.strata)
        elif value.units != units:
            raise ShapeError(
                f"{value.site}: {value.units} units so far, {units} in this batch. One table counts states of one width; "
                "resize or crop the inputs to one size, or measure per='position'."
            )
        elif value.threshold != threshold:
            raise ThresholdError(
                f"{value.site}: counted above {value.threshold:g} so far, now above {threshold:g}. States of two rules are not counted in "
                "one table; begin a new one."
            )
        return value.table

    def add(self, value: StateCounts, chunk: Chunk) -> StateCounts:
        m, units = self._shape(chunk)
        table = self._table(value, units, chunk.threshold if self.threshold is None else self.threshold)
        count = len(chunk.samples)
        rows = as_words(to_numpy(chunk.arrays["states"]), units)[: count * m]
        if len(rows) != count * m:
            raise ShapeError(f"{value.site}: {count} samples of {m} rows were expected, {len(rows)} rows arrived.")
        mask = chunk.rows_mask(m if self.per == "position" else None, value.site)
        if mask is None:
            offsets = even_offsets(count, m)
            value.samples += count if m else 0
            value.square_rows += count * m * m
        else:
            rows, sizes = rows[mask.reshape(-1)], mask.sum(axis=1)
            offsets = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
            value.masked += mask.size - len(rows)
            value.samples += int(np.count_nonzero(sizes))
            value.square_rows += int(np.dot(sizes, sizes))
        self._count_strata(value, offsets, chunk.samples)
        self._count_nonfinite(value, chunk)
        value.kept.offer(rows, offsets, chunk.samples)
        table.add(self._keyed(rows, offsets, chunk), offsets, chunk.samples.ids)
        return value

    def _shape(self, chunk: Chunk) -> tuple[int, int]:
        """Rows a sample and units a state."""
        positions = int(np.prod(chunk.positions, dtype=np.int64))
        return {
            "position": (positions, chunk.units),
            "sample": (1, positions * chunk.units),
            "channel": (chunk.units, positions),
        }[self.per]

    def _keyed(self, rows: NDArray[np.uint64], offsets: NDArray[np.int64], chunk: Chunk) -> NDArray[np.uint64]:
        """The rows with their stratum as one more word, where strata are asked for."""
        if self.strata is None:
            return rows
        strata = chunk.samples.strata(self.strata)
        if strata is None:
            raise DataError(
                f"StateTable(strata={self.strata!r}): the data has no {self.strata}. Give labels with the data, for example "
                "ls.Data(source, label='labels'), or measure without strata."
            )
        return np.concatenate([rows, np.repeat(strata, np.diff(offsets)).view(np.uint64)[:, None]], axis=1)

    def _count_strata(self, value: StateCounts, offsets: NDArray[np.int64], samples: Samples) -> None:
        strata = samples.strata(self.strata) if self.strata is not None else None
        sizes = np.diff(offsets)
        for each in np.unique(strata[sizes > 0]).tolist() if strata is not None else ():
            mine = sizes[(strata == each) & (sizes > 0)]
            value.by_stratum[each] = added(value.by_stratum.get(each), (len(mine), int(np.dot(mine, mine))))

    @staticmethod
    def _count_nonfinite(value: StateCounts, chunk: Chunk) -> None:
        if "nonfinite" in chunk.arrays:
            nan, inf = to_numpy(chunk.arrays["nonfinite"])
        elif "nan" in chunk.arrays:
            nan, inf = to_numpy(chunk.arrays["nan"]), to_numpy(chunk.arrays["inf"])
        else:
            return
        value.nan += int(nan)
        value.inf += int(inf)

    def merge(self, left: StateCounts, right: StateCounts) -> StateCounts:
        if right.table is None:
            return left
        if left.table is None:
            left.units, left.threshold, left.table = right.units, right.threshold, Table(right.words + right.strata)
        for what in ("units", "threshold", "strata"):
            if getattr(left, what) != getattr(right, what):
                raise MergeError(
                    f"merge: left counts {what} {getattr(left, what)} at {str(left.site)!r}, right {getattr(right, what)} at "
                    f"{str(right.site)!r}. Tallies merge only when site and firing rule agree."
                )
        left.table.merge(right.table)
        left.kept.merge(right.kept)
        for what in ("samples", "square_rows", "masked", "nan", "inf"):
            setattr(left, what, getattr(left, what) + getattr(right, what))
        for each, sizes in right.by_stratum.items():
            left.by_stratum[each] = added(left.by_stratum.get(each), sizes)
        return left

    def same(self, left: StateCounts, right: StateCounts) -> bool:
        mine, theirs = left.records(), right.records()
        if left.table is not None and right.table is not None and left.strata:
            mine, theirs = left.table.records(), right.table.records()
        plain = ("units", "threshold", "samples", "square_rows", "masked", "nan", "inf")
        return (
            all(getattr(left, what) == getattr(right, what) for what in plain)
            and all(np.array_equal(a, b) for a, b in zip(mine, theirs, strict=True))
            and left.by_stratum == right.by_stratum
            and left.kept.same(right.kept)
        )

    def nbytes(self, value: StateCounts) -> int:
        return value.nbytes

    def to_arrays(self, value: StateCounts) -> Mapping[str, NDArray[Any]]:
        records = value.table.records() if value.table is not None else value.records()
        kept = value.kept.sifted()
        plain = [value.units, value.samples, value.square_rows, value.masked, value.nan, value.inf, value.strata]
        return {
            **records._asdict(),
            "plain": np.array(plain, np.int64),
            "threshold": np.array([value.threshold]),
            "kept_ids": kept.ids,
            "kept_sizes": kept.sizes,
            "kept_rows": kept.rows,
            "strata": np.array([(each, *value.by_stratum[each]) for each in value.labels], np.int64).reshape(-1, 3),
        }

    def from_arrays(self, site: Site, arrays: Mapping[str, NDArray[Any]]) -> StateCounts:
        try:
            units, samples, square_rows, masked, nan, inf, strata = map(int, arrays["plain"])
            records = Records(*(arrays[name] for name in Records._fields))
            sizes, rows, ids = arrays["kept_sizes"], arrays["kept_rows"], arrays["kept_ids"]
            by_stratum = arrays.get("strata", np.empty((0, 3), np.int64))  # files of the first version have none
            consistent = (
                bool(strata) == (self.strata is not None)
                and (records.states.shape == (len(records.n), -(-units // 64) + strata) or not units)
                and all(column.shape == records.n.shape for column in records[1:])
                and int(sizes.sum()) == len(rows)
                and len(ids) == len(sizes)
                and by_stratum.shape == (len(by_stratum), 3)
            )
        except (KeyError, ValueError, TypeError, AttributeError) as error:
            raise FileFormatError(
                f"{site}: a state table needs arrays that are not there or not whole ({error})."
            ) from error
        if not consistent:
            raise FileFormatError(f"{site}: the arrays of this state table do not fit each other; the file is damaged.")
        value = self.init(site)
        if not units:
            return value
        value.units, value.samples, value.square_rows, value.masked, value.nan, value.inf = (
            units, samples, square_rows, masked, nan, inf,
        )  # fmt: skip
        value.threshold, value.table = float(arrays["threshold"][0]), Table.of(records)
        value.by_stratum = {each: (count, squares) for each, count, squares in by_stratum.tolist()}
        offsets = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
        value.kept.offer(rows, offsets, Samples(ids))
        return value


def added(left: tuple[int, int] | None, right: tuple[int, int]) -> tuple[int, int]:
    """Samples and square rows of two disjoint parts together."""
    return right if left is None else (left[0] + right[0], left[1] + right[1])

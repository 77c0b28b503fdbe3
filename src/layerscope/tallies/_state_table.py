"""Which firing states a layer took, and how often: the table behind every state measure."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from .._errors import DataError, FileFormatError, MergeError, ShapeError, ThresholdError
from .._site import Activations, Chunk, Samples, Site
from .._states import Per, as_words, check_per, pack_states
from ..kernels import Records, Table, keyed, nonfinite
from ._abstract import AbstractTally, to_numpy
from ._state_counts import StateCounts

Strata = Literal["label", "shuffled label", "epoch", "transformation"]
CROSSED = ("epoch", "transformation")
"""Strata in which the same samples stand: columns do not add up over them."""


@dataclass(frozen=True)
class StateTable(AbstractTally[StateCounts]):
    """Counts a layer's firing states while they stream.

    **Arguments:** `per` what one state is made of ("position": the units at one place; "sample": a sample's whole map; "channel": one
    channel's map); `strata` "label", "shuffled label", "epoch" or "transformation" (its number, 0 … T - 1) to count them apart, where a measure
    needs it; `threshold` overrides the site's own.
    **Remembers:** per different state four integers that add over disjoint samples, and the packed rows of a few samples.  By label, all
    strata together are the table of all samples; by epoch or transformation the same samples stand in each, and `within` takes one.
    **Raises:** `ShapeError` when the number of units changes or a mask does not fit; `DataError` without the label or epoch asked for.
    **Source:** states: Schaub & Hotaling 2020, arXiv:2006.02909; the columns i and Q serve sample-aware statistics.
    """

    per: Per = "position"
    strata: Strata | None = None
    threshold: float | None = None

    def __post_init__(self) -> None:
        check_per(self.per)
        if self.strata is not None and self.strata not in get_args(Strata):
            raise DataError(
                f"StateTable(strata={self.strata!r}): states are counted apart by {', '.join(map(repr, get_args(Strata)))}. Choose one of them."
            )

    @property
    def grid(self) -> bool:
        return self.strata == "transformation"

    def covers(self, other: AbstractTally[Any]) -> bool:
        """Strata added up are the table of all samples."""
        return self == other or (self.strata == "label" and other == replace(self, strata=None))

    def read(self, activations: Activations) -> dict[str, Any]:
        return pack_states(activations, self.per, self.threshold)

    def init(self, site: Site) -> StateCounts:
        value = StateCounts(site, strata=self.strata is not None, crossed=self.strata in CROSSED)
        value.kept.crossed = value.crossed
        return value

    def observe(self, value: StateCounts, activations: Activations, samples: Samples) -> StateCounts:
        a, x = activations, activations.host
        versions, simple = (
            self._versions(samples),
            self.per == "position" and samples.mask is None and a.axes.sample == 0,
        )
        if x is None or not simple or x.ndim < 2 or a.axes.unit % x.ndim == 0 or len(x) != len(samples) * versions:
            return self.add(value, Chunk.of(self.read(a), a, samples))
        threshold = a.threshold if self.threshold is None else self.threshold
        strata = self._strata_of(samples)
        table, count = self._table(value, x.shape[a.axes.unit], threshold), len(samples)
        m = x.size // max(1, count * value.units)
        early = value.kept.early(samples)
        finite, rows = table.observe(x, a.axes.unit, threshold, a.dtype, samples.ids, early, strata)
        if early.size and m:
            value.kept.take(samples, early, np.full(len(early), m), rows)
        if not finite:
            nan, inf = nonfinite(x, a.dtype)
            value.nan, value.inf = value.nan + nan, value.inf + inf
        if m:
            self._count_even(value, strata, count * versions, m // versions)
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
        strata = self._strata_of(chunk.samples)
        table = self._table(value, units, chunk.threshold if self.threshold is None else self.threshold)
        count, versions = len(chunk.samples), self._versions(chunk.samples)
        rows = as_words(to_numpy(chunk.arrays["states"]), units)[: count * versions * m]
        if len(rows) != count * versions * m:
            raise ShapeError(
                f"{value.site}: {count} samples of {versions * m} rows were expected, {len(rows)} rows arrived."
            )
        sizes, mask = np.full(count * versions, m), self._mask(chunk, m, value.site)
        if mask is not None:
            rows, sizes = rows[mask.reshape(-1)], mask.reshape(count * versions, m).sum(axis=1)
            value.masked += mask.size - len(rows)
        if strata is not None:
            rows = keyed(rows, np.repeat(strata, sizes))
        offsets = np.concatenate([[0], np.cumsum(sizes)[versions - 1 :: versions]]).astype(np.int64)
        self._count_samples(value, strata, sizes)
        self._count_nonfinite(value, chunk)
        value.kept.offer(rows, offsets, chunk.samples)
        table.add(rows, offsets, chunk.samples.ids)
        return value

    def _versions(self, samples: Samples) -> int:
        """How many transformed versions of a sample are told apart; otherwise they are so many more of its positions."""
        return samples.transformations if self.grid else 1

    def _shape(self, chunk: Chunk) -> tuple[int, int]:
        """Rows a sample (or version of it) and units a state."""
        positions = int(np.prod(chunk.positions, dtype=np.int64))
        return {
            "position": (positions, chunk.units),
            "sample": (1, positions * chunk.units),
            "channel": (chunk.units, positions),
        }[self.per]

    def _mask(self, chunk: Chunk, m: int, site: Site) -> NDArray[np.bool_] | None:
        """Which rows count; None when all do."""
        if self.grid and chunk.positions:
            chunk = replace(chunk, positions=(chunk.samples.transformations, *chunk.positions))
            m *= chunk.samples.transformations
        return chunk.rows_mask(m if self.per == "position" else None, site)

    def _strata_of(self, samples: Samples) -> NDArray[np.int64] | None:
        """The stratum of each sample (or of each of its versions, one after the other), where strata are asked for."""
        if self.strata is None:
            return None
        strata = samples.strata(self.strata)
        if strata is None:
            hint = "follow a training with ls.Epochs" if self.strata == "epoch" else "ls.Data(source, label='labels')"
            raise DataError(
                f"StateTable(strata={self.strata!r}): the data has no {self.strata}. Give it with the data, for example {hint}, or measure "
                "without strata."
            )
        return strata

    @staticmethod
    def _count_samples(value: StateCounts, strata: NDArray[np.int64] | None, sizes: NDArray[np.int64]) -> None:
        """Count samples (or versions of them) of so many rows each."""
        some = sizes > 0
        value.samples += int(np.count_nonzero(some))
        value.square_rows += int(np.dot(sizes, sizes))
        if strata is None or not some.any():
            return
        each, which, samples = np.unique(strata[some], return_inverse=True, return_counts=True)
        squares = np.zeros(len(each), np.int64)
        np.add.at(squares, which, np.square(sizes[some]))  # a weighted bincount would count in float64
        for one, *more in zip(each.tolist(), samples.tolist(), squares.tolist(), strict=True):
            value.by_stratum[one] = added(value.by_stratum.get(one), (more[0], more[1]))

    @staticmethod
    def _count_even(value: StateCounts, strata: NDArray[np.int64] | None, samples: int, rows: int) -> None:
        """The same where all have as many rows: this is asked at every layer for every batch."""
        value.samples += samples
        value.square_rows += samples * rows * rows
        if strata is not None:
            each, count = np.unique(strata, return_counts=True)
            for one, some in zip(each.tolist(), count.tolist(), strict=True):
                value.by_stratum[one] = added(value.by_stratum.get(one), (some, some * rows * rows))

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
        mine, theirs = (records_of(value) for value in (left, right))
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
        records, kept = records_of(value), value.kept.sifted()
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
                and (not len(rows) or rows.shape[1] == records.states.shape[1])
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


def records_of(value: StateCounts) -> Records:
    """What the table holds, the stratum as the last word of a state where there are strata."""
    return Records.empty(value.words) if value.table is None else value.table.records()


def added(left: tuple[int, int] | None, right: tuple[int, int]) -> tuple[int, int]:
    """Samples and square rows of two disjoint parts together."""
    return right if left is None else (left[0] + right[0], left[1] + right[1])

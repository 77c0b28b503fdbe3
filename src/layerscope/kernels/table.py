"""Counting different states while they stream."""

import functools
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._errors import DtypeError, MemoryLimitError, ShapeError
from . import reference
from ._engine import engine, pack
from .reference import Counts, Records, Words

SLOTS = 1 << 12  # of an empty index: 32 KB
SMALL = 1 << 16  # slots of an index that grows as little as it can
MOST_SLOTS = 1 << 32  # what 32 hash bits can number
PATIENCE = 512  # steps of a probe after which the states look made to collide
SEED = 0x9E3779B97F4A7C15
_NONE: Counts = np.empty(0, np.int64)


class Table:
    """Different states of a site, with four integers for each (`Records`), from rows that come in any number of batches.

    **Arguments:** `words` uint64 words a state.
    **Holds:** `rows` observations so far; `len(table)` different states, which is what memory follows.
    **Beware:** all rows of a sample, fewer than 2^32, come in one `add`, or `i` and `Q` take it for two samples.

    >>> table = Table(words=1)
    >>> table.add(np.array([[7], [7], [1]], np.uint64), np.array([0, 3]), np.array([12]))
    >>> table.add(np.array([[7]], np.uint64), np.array([0, 1]), np.array([4]))
    >>> table.records().n, table.records().Q
    (array([1, 3]), array([1, 5]))
    """

    def __init__(self, words: int) -> None:
        if words < 0:
            raise ShapeError(
                f"table: asked for states of {words} words, a state cannot have fewer than 0. Give ceil(units / 64)."
            )
        self.words = words
        self.rows = 0
        self._store = _Sorted(words) if engine() is reference else _Hashed(words)

    @classmethod
    def of(cls, records: Records) -> "Table":
        """The table that holds these records."""
        table = cls(records.states.shape[1])
        table._store.merge_records(records)
        table.rows = int(records.n.sum())
        return table

    def add(self, rows: Words, offsets: Counts, ids: Counts) -> None:
        """Count a batch of whole samples.

        **Arguments:** `rows` (observations, words) packed states; sample g, named `ids[g]`, is `rows[offsets[g]:offsets[g + 1]]`.
        **Raises:** `ShapeError` when the width is another or the offsets do not cover the rows, `DtypeError` when the rows are not words;
        nothing is counted then.
        """
        if rows.dtype != np.uint64:
            raise DtypeError(
                f"add: asked to count rows of type {rows.dtype}, states are uint64 words. Pack the activations first."
            )
        if rows.ndim != 2 or rows.shape[1] != self.words:
            raise ShapeError(
                f"add: the table counts states of {self.words} words, the rows have shape {rows.shape}. "
                "A table counts the states of one site: give every site a table of its own."
            )
        rows, offsets, ids = np.ascontiguousarray(rows), _integers(offsets), _integers(ids)
        if (
            len(offsets) != len(ids) + 1
            or offsets[0] != 0
            or offsets[-1] != len(rows)
            or not self._store.add(rows, offsets, ids)
        ):
            raise ShapeError(
                f"add: asked to count {len(rows)} rows of {len(ids)} samples, the {len(offsets)} offsets do not cover them. "
                f"Give {len(ids) + 1} offsets that start at 0, never fall, and end at {len(rows)}."
            )
        self.rows += len(rows)

    def observe(
        self,
        x: NDArray[Any],
        unit_axis: int,
        threshold: float,
        dtype: str | None,
        ids: Counts,
        wanted: Counts,
        strata: Counts | None = None,
    ) -> tuple[bool, Words]:
        """Pack activations and count their states in one go; the first axis of `x` holds samples, as many rows each.

        **Arguments:** as `pack`; `ids` (samples,); `wanted` (k,) numbers of samples, ascending, whose packed rows are given back; `strata` one
        along the first axis of `x`, the last word of a row then; this axis may hold several neighbours a sample.
        **Gives:** whether all values are finite, and the rows of the wanted samples, one after the other.
        """
        if strata is not None and len(strata) != len(x):
            raise ShapeError(
                f"observe: {len(strata)} strata for {len(x)} entries of the first axis. Give one for each."
            )
        # read-only arrays are another type to Numba
        key = _NONE if strata is None else np.require(strata, np.int64, ["C", "W"])
        done = self._store.observe(x, unit_axis, threshold, dtype, ids, wanted, key)
        if done is None:  # no layout the kernel walks in place
            rows, finite = pack(x, unit_axis, threshold, dtype)
            if strata is not None:
                rows = keyed(rows, np.repeat(strata, len(rows) // max(1, len(x))))
            m = len(rows) // max(1, len(ids))
            self.add(rows, even_offsets(len(ids), m), ids)
            return finite, rows.reshape(len(ids), m, self.words)[wanted].reshape(len(wanted) * m, self.words)
        finite, kept, count = done
        self.rows += count
        return finite, kept

    def merge(self, other: "Table") -> None:
        """Count what `other` counted too; `other` is left as it is.  No sample may be in both.

        **Raises:** `ShapeError` when the widths differ.
        """
        if other.words != self.words:
            raise ShapeError(
                f"merge: left counts states of {self.words} words, right of {other.words}. "
                "Tables merge only when they come from the same site and unit axis."
            )
        self._store.merge(other._store)
        self.rows += other.rows

    def records(self) -> Records:
        """What was counted, ascending by state."""
        return self._store.records()

    def copy(self) -> "Table":
        """The same counts, in memory of their own."""
        twin = Table(self.words)
        twin.merge(self)
        return twin

    def __len__(self) -> int:
        return len(self._store)

    @property
    def nbytes(self) -> int:
        """Bytes of memory that the counts take."""
        return self._store.nbytes


def keyed(rows: Words, strata: Counts) -> Words:
    """The rows with their stratum as one more word."""
    return np.concatenate([rows, strata.view(np.uint64)[:, None]], axis=1)


@functools.lru_cache(maxsize=256)
def even_offsets(samples: int, m: int) -> Counts:
    """Where each of so many samples of m rows begins, and the end."""
    return np.arange(samples + 1, dtype=np.int64) * m


def _integers(values: NDArray[Any]) -> Counts:
    return np.ascontiguousarray(values, np.int64)


class _Hashed:
    """The table of `cpu.py`: an index of (hash, number) over dense entries (state, n, i, Q, first, mark)."""

    def __init__(self, words: int) -> None:
        self.words = words
        self.used = 0
        self.epoch = 1
        self.seed = np.uint64(SEED)
        self.patience = PATIENCE
        self.index = np.zeros(SLOTS, np.uint64)
        self.entries = np.empty((SLOTS // 2, words + 5), np.uint64)
        self.scratch = np.empty(0, np.uint64)

    def add(self, rows: Words, offsets: Counts, ids: Counts) -> bool:
        """Count, or return False because an offset falls."""
        from . import cpu

        where = rows.ctypes.data, self.words, offsets.ctypes.data, ids.ctypes.data, len(ids)
        if not cpu.ascend(offsets.ctypes.data, len(ids)):
            return False
        if self.epoch + len(ids) >= 2**32:  # marks hold 32 bits of it
            self.entries[: self.used, -1], self.epoch = 0, 1
        row = sample = 0
        while row < len(rows):
            row, sample, self.used, probe, _ = cpu.count_into(
                *where, row, sample, self.epoch, *self._places(), self.used, self.seed
            )
            self._adapt(row < len(rows), probe)
        self.epoch += len(ids)
        return True

    def observe(
        self,
        x: NDArray[Any],
        unit_axis: int,
        threshold: float,
        dtype: str | None,
        ids: Counts,
        wanted: Counts,
        strata: Counts,
    ) -> tuple[bool, Words, int] | None:
        """Pack and count; None where `x` must be copied first."""
        from . import cpu

        samples = len(ids)
        walk = cpu.walk_of(x, unit_axis, threshold, dtype, samples)
        if walk is None:
            return None
        units, inner, bounds, versions, m, group = walk
        if self.scratch.size < group * m * self.words:
            self.scratch = np.empty(group * m * self.words, np.uint64)
        kept = np.empty((len(wanted) * m, self.words), np.uint64)
        if self.epoch + samples >= 2**32:
            self.entries[: self.used, -1], self.epoch = 0, 1
        what = (x.__array_interface__["data"][0], units, inner, *bounds, versions, self.scratch, group, m)
        whose = (wanted, kept, self.words, even_offsets(group, m), ids, strata, self.epoch)
        first, row, clean = 0, 0, True
        while first < samples:
            first, row, self.used, probe, fine, _ = cpu.observe(
                *what, first, row, *whose, self.index, self.entries, self.used, self.seed
            )
            clean &= fine
            if first < samples or probe > self.patience:
                self._adapt(first < samples, probe)
        self.epoch += samples
        return clean, kept, samples * m

    def merge(self, other: "_Hashed | _Sorted") -> None:
        if isinstance(other, _Sorted):
            return self.merge_records(other.records())
        self._merge_entries(other.entries, other.used)

    def merge_records(self, records: Records) -> None:
        columns = (column.view(np.uint64)[:, None] for column in map(_integers, records[1:]))
        self._merge_entries(np.hstack([records.states, *columns]), len(records.n))

    def _merge_entries(self, entries: Words, used: int) -> None:
        from . import cpu

        where, at = (entries.ctypes.data, entries.shape[1]), 0
        while at < used:
            at, self.used, probe = cpu.merge_into(*where, at, used, self.words, *self._places(), self.used, self.seed)
            self._adapt(at < used, probe)

    def _places(self) -> tuple[int, int, int, int]:
        return self.index.ctypes.data, self.index.size, self.entries.ctypes.data, self.entries.shape[1]

    def _adapt(self, full: bool, probe: int) -> None:
        """Make room; after a probe of suspicious length take another seed."""
        from . import cpu

        if full:
            slots = self.index.size * (
                4 if SMALL <= self.index.size < 1 << 22 else 2
            )  # a small table stays in the cache
            if slots > MOST_SLOTS:
                raise MemoryLimitError(
                    f"table: asked to count more than {self.used:,} different states, which is all that its index can number. "
                    "Count fewer units or fewer samples at a time."
                )
            entries, index = np.empty((slots // 2, self.entries.shape[1]), np.uint64), np.zeros(slots, np.uint64)
            entries[: self.used] = self.entries[: self.used]
            cpu.regrow(self.index.ctypes.data, self.index.size, index.ctypes.data, slots)
            self.index, self.entries = index, entries
        if probe > self.patience:
            self.patience *= 2  # so that states which collide under every seed are slow, and not endless
            self.seed = np.uint64((int(self.seed) * 0xD1342543DE82EF95 + 1) & 0xFFFFFFFFFFFFFFFF)
            self.index[:] = 0
            index, slots, entries, stride = self._places()
            cpu.reindex(entries, stride, self.used, self.words, index, slots, self.seed)

    def records(self) -> Records:
        entries = self.entries[: self.used]
        order = reference.order_of(entries[:, : self.words])
        n, i, q, first = (entries[order, self.words + k].view(np.int64) for k in range(4))
        return Records(entries[order, : self.words], n, i, q, first)

    def __len__(self) -> int:
        return self.used

    @property
    def nbytes(self) -> int:
        return self.index.nbytes + self.entries[: self.used].nbytes


class _Sorted:
    """The same in NumPy: sorted records, merged batch by batch."""

    def __init__(self, words: int) -> None:
        self._records = Records.empty(words)

    def add(self, rows: Words, offsets: Counts, ids: Counts) -> bool:
        """Count, or return False because an offset falls."""
        if (np.diff(offsets) < 0).any():
            return False
        self._records = reference.merge(self._records, reference.count(rows, offsets, ids))
        return True

    def observe(self, *_: Any) -> None:
        """Packing and counting are two steps here."""

    def merge(self, other: "_Hashed | _Sorted") -> None:
        self.merge_records(other.records())

    def merge_records(self, records: Records) -> None:
        self._records = reference.merge(self._records, records)

    def records(self) -> Records:
        return self._records

    def __len__(self) -> int:
        return len(self._records.n)

    @property
    def nbytes(self) -> int:
        return sum(column.nbytes for column in self._records)

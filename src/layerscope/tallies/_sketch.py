"""Which firing states a layer took, in memory that does not grow: its frequent states, and a fair sample of all others."""

from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field
from typing import Any, NoReturn, TypeVar

import numpy as np
from numpy.typing import NDArray

from .._errors import DataError, FileFormatError, MergeError, SiteError
from .._site import Activations, Chunk, Samples, Site
from .._states import Per, check_per
from ..kernels import Records, Table, unit_counts
from ._abstract import AbstractTally
from ._kept import KeptSamples
from ._state_counts import StateCounts
from ._state_table import StateTable
from ._thinned import Thinned

T = TypeVar("T")

PROMISED = 1 << 16
"""Memory from which errors were checked to stay within four of the stated ones."""
FEWEST = 1 << 10
"""The smallest sketch: with fewer states its own error cannot be told."""


@dataclass
class SketchCounts:
    """The value of a `StateSketch`: a table of the states of the running `block`, and what is left of the blocks before it, if any.

    `block` also counts samples, masked rows and NaN of all blocks and keeps their samples; `fired` how often each unit fired in the past.
    """

    k: int
    block: StateCounts
    past: Thinned | None = None
    fired: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))
    memo: dict[Hashable, Any] = field(default_factory=dict[Hashable, Any], repr=False, compare=False)

    @property
    def site(self) -> Site:
        return self.block.site

    @property
    def units(self) -> int:
        return self.block.units

    @property
    def threshold(self) -> float:
        return self.block.threshold

    @property
    def samples(self) -> int:
        return self.block.samples

    @property
    def square_rows(self) -> int:
        return self.block.square_rows

    @property
    def masked(self) -> int:
        return self.block.masked

    @property
    def nan(self) -> int:
        return self.block.nan

    @property
    def inf(self) -> int:
        return self.block.inf

    @property
    def kept(self) -> KeptSamples:
        return self.block.kept

    @property
    def observations(self) -> int:
        return self.block.observations + (0 if self.past is None else self.past.rows)

    def thinned(self) -> Thinned:
        """The states of all blocks, as far as they are there."""

        def both() -> Thinned:
            here = Thinned.of(self.block.records())
            return here if self.past is None else self.past.joined(here, self.k)

        return self.remember("thinned", both)

    def unit_counts(self) -> NDArray[np.int64]:
        """How often each unit fired, exactly, (units,)."""
        records = self.block.records()
        here = unit_counts(records.states, records.n, self.units)
        return here + self.fired if self.fired.size else here

    def records(self, stratum: int | None = None) -> NoReturn:
        """Raises: a sketch has no list of all states."""
        raise SiteError(
            f"{self.site}: this asks for every different state, and of them a sketch of {self.k:,} holds only the frequent ones and a sample. "
            "It gives entropies, efficiencies, coverage and firing rates; for the rest examine without sketch=."
        )

    def pairs(self) -> NoReturn:
        """Raises: a sketch has no list of all states."""
        self.records()

    def remember(self, what: Hashable, make: Callable[[], T]) -> T:
        """What `make` computes from these counts, computed once until more rows come."""
        if self.memo.get("rows") != self.observations:
            self.memo = {"rows": self.observations}
        if what not in self.memo:
            self.memo[what] = make()
        return self.memo[what]

    @property
    def nbytes(self) -> int:
        return self.block.nbytes + self.fired.nbytes + (0 if self.past is None else self.past.nbytes)


@dataclass(frozen=True)
class StateSketch(AbstractTally[SketchCounts]):
    """Counts a layer's firing states in the memory of about 2 k of them, however many there are.

    Up to k different states it is the table, to the bit.  At the first overflow the k/2 most frequent states are held; any other stays
    where its key, a fixed hash of its bits, is among the k/2 smallest.  A state that stays was counted from its first row, so the sample
    is a fair one of true columns, and sums over all states are estimated by ratio to the number of rows, which is known.

    **Arguments:** `k` states, at least 1,024; errors stay within 4 standard errors from 65,536 on. `per`, `threshold` as in `StateTable`.
    **Beware:** two orders of one stream give numbers within that error, not equal ones, as what is held depends on what came first.
    **Source:** the sample: bottom-k (Cohen & Kaplan 2007); ratio estimator: Cochran 1977, Sampling Techniques, chapter 6.
    """

    k: int = PROMISED
    per: Per = "position"
    threshold: float | None = None

    def __post_init__(self) -> None:
        check_per(self.per)
        whole = isinstance(self.k, int) and not isinstance(self.k, bool)  # pyright: ignore[reportUnnecessaryIsInstance] - users write 1e5
        if not whole or self.k < FEWEST:
            raise DataError(
                f"sketch={self.k!r}: a sketch holds a whole number of states, at least {FEWEST:,}. Write sketch={PROMISED:_}: errors are "
                "promised from there on."
            )

    @property
    def table(self) -> StateTable:
        """What it sketches."""
        return StateTable(self.per, threshold=self.threshold)

    def covers(self, other: AbstractTally[Any]) -> bool:
        return other in (self, self.table)

    def answer(self, value: SketchCounts) -> StateCounts | SketchCounts:
        """The table itself, as long as nothing had to go."""
        return value.block if value.past is None else value

    def read(self, activations: Activations) -> dict[str, Any]:
        return self.table.read(activations)

    def init(self, site: Site) -> SketchCounts:
        return SketchCounts(self.k, self.table.init(site))

    def add(self, value: SketchCounts, chunk: Chunk) -> SketchCounts:
        value.block = self.table.add(value.block, chunk)
        return folded(value)

    def observe(self, value: SketchCounts, activations: Activations, samples: Samples) -> SketchCounts:
        value.block = self.table.observe(value.block, activations, samples)
        return folded(value)

    def merge(self, left: SketchCounts, right: SketchCounts) -> SketchCounts:
        if left.k != right.k:
            raise MergeError(
                f"merge: left is a sketch of {left.k:,} states, right of {right.k:,}. Sketches merge only when they are of one size."
            )
        left.block = self.table.merge(left.block, right.block)
        if right.past is not None:
            left.past = right.past if left.past is None else left.past.joined(right.past, self.k)
            left.fired = left.fired + right.fired if left.fired.size else right.fired
        left.memo = {}
        return folded(left)

    def same(self, left: SketchCounts, right: SketchCounts) -> bool:
        if (left.past is None) != (right.past is None) or not self.table.same(left.block, right.block):
            return False
        if left.past is None or right.past is None:
            return True
        mine, theirs = ((*p.records, p.held) for p in (left.past, right.past))
        return (
            (left.k, left.past.below, left.past.rows) == (right.k, right.past.below, right.past.rows)
            and all(np.array_equal(a, b) for a, b in zip(mine, theirs, strict=True))
            and np.array_equal(left.fired, right.fired)
        )

    def nbytes(self, value: SketchCounts) -> int:
        return value.nbytes

    def to_arrays(self, value: SketchCounts) -> Mapping[str, NDArray[Any]]:
        arrays = dict(self.table.to_arrays(value.block))
        if value.past is not None:
            arrays |= {f"past_{name}": column for name, column in value.past.records._asdict().items()}
            arrays["past_held"], arrays["past_fired"] = value.past.held, value.fired
            arrays["past_below"], arrays["past_rows"] = (
                np.array([x], np.uint64) for x in (value.past.below, value.past.rows)
            )
        return arrays

    def from_arrays(self, site: Site, arrays: Mapping[str, NDArray[Any]]) -> SketchCounts:
        value = SketchCounts(self.k, self.table.from_arrays(site, arrays))
        if "past_n" not in arrays:
            return value
        try:
            records = Records(*(arrays[f"past_{name}"] for name in Records._fields))
            held, fired = arrays["past_held"], arrays["past_fired"]
            below, rows = (int(arrays[name][0]) for name in ("past_below", "past_rows"))
        except (KeyError, IndexError) as error:
            raise FileFormatError(f"{site}: a sketch needs arrays that are not there ({error}).") from error
        fit = records.states.shape == (len(records.n), value.block.words) and len(fired) == value.units
        if not fit or any(column.shape != records.n.shape for column in (*records[1:], held)):
            raise FileFormatError(f"{site}: the arrays of this sketch do not fit each other; the file is damaged.")
        value.past, value.fired = Thinned(records, held.astype(np.bool_), below, rows), fired
        return value


def folded(value: SketchCounts) -> SketchCounts:
    """The value, its running block thinned into the past where it has become too large."""
    block = value.block
    if block.table is not None and len(block.table) > value.k:
        value.fired, value.past = value.unit_counts(), value.thinned()
        block.table, block.memo, value.memo = Table(block.words), {}, {}
    return value


def sketched(tally: AbstractTally[T], k: int | None) -> AbstractTally[Any]:
    """The recipe that counts in fixed memory what `tally` would count; the tally itself where it counts no states, or `k` is None.

    **Raises:** `DataError` for states counted by label or epoch.
    """
    if k is None or not isinstance(tally, StateTable):
        return tally
    if tally.strata is not None:
        raise DataError(
            f"sketch={k:_}: a measure counts states by {tally.strata}, and of most states a sketch knows nothing, so not which classes share "
            "them. Leave sketch= out, or leave this measure out."
        )
    return StateSketch(k, tally.per, tally.threshold)

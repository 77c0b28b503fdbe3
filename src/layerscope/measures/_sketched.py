"""Entropies from a sketch of states, each with the error that the sketch adds to it."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from .._reading import CORRECTED, EXTRAPOLATED, LOWER_BOUND, SATURATED
from ..kernels import Records
from ..tallies import SketchCounts, state_keys
from ._bracket import GUARD, Z
from ._columns import FEW, Columns, sample_aware
from ._counts import CountOfCounts, estimate_of, renyi
from ._special import Floats, poisson_upper

GROUPS = 32
"""Groups of sampled states left out one after the other."""
PROMISED = 4
"""Standard errors within which an error stays, for sketches of 65,536 states and more."""


@dataclass(frozen=True, eq=False)
class Sketched:
    """What a sketch says about all states: its held ones once, each sampled one for as many as the rows of all others call for.

    Ratio estimator: sampled states weigh w = (N − rows of held states) / (rows of sampled ones), so the weighted rows are N.  `error`
    leaves out one of 32 groups of sampled states after the other, by their keys, each time with a weight of its own.
    **Source:** Cochran 1977, Sampling Techniques, chapter 6; groups: Wolter 2007, Introduction to Variance Estimation, chapter 4.
    """

    value: SketchCounts

    @cached_property
    def held(self) -> Columns:
        return self._columns(self.value.thinned().held)

    @cached_property
    def sampled(self) -> Records:
        """The sampled states, ascending by key."""
        thinned = self.value.thinned()
        records = thinned.records.some(~thinned.held)
        return records.some(np.argsort(state_keys(records.states)))

    @cached_property
    def states(self) -> float:
        """About how many different states there were."""
        return self.held.states + len(self.sampled.n) / self.value.thinned().share

    @cached_property
    def columns(self) -> Columns:
        """The columns of all states, as far as they can be told."""
        return self._weighted(np.ones(len(self.sampled.n), np.bool_))

    @cached_property
    def without_each(self) -> tuple[Columns, ...]:
        group = np.arange(len(self.sampled.n)) % GROUPS
        return tuple(self._weighted(group != g) for g in range(GROUPS))

    @cached_property
    def with_more(self) -> tuple[Columns, ...]:
        """The columns with as many more states of one row in one sample, and of two in two, as a standard error of their Poisson number."""
        found: list[Columns] = []
        for times in (1, 2):
            seen = int(np.count_nonzero(self.sampled.i == times))
            if seen < GUARD:
                more = (poisson_upper(seen) - seen) / Z / self.value.thinned().share
                c, one = self.columns, np.full(1, float(times))
                n, i, q = (np.append(column, one) for column in (c.n, c.i, c.q))
                found.append(Columns(n, i, q, np.append(c.times, more), c.samples, c.square_rows))
        return tuple(found)

    def error(self, number: Callable[[Columns], float]) -> float:
        """The standard error that the sketch adds to a number of the columns; at least 2 / sampled states, also where they are all alike.

        Where few sampled states are of one sample, or of two, so that leaving out groups shows too little: what some more would change.
        """
        if len(self.sampled.n) < GROUPS:
            return math.inf
        values = np.array([number(columns) for columns in self.without_each])
        spread = (GROUPS - 1) / GROUPS * float(((values - values.mean()) ** 2).sum())
        rare = sum((number(columns) - number(self.columns)) ** 2 for columns in self.with_more)
        return math.sqrt((1 - self.value.thinned().share) * spread + rare) + 2 / len(self.sampled.n)

    def _columns(self, which: NDArray[np.bool_]) -> Columns:
        return Columns.of(self.value.thinned().records.some(which), self.value.samples, self.value.square_rows)

    def _weighted(self, which: NDArray[np.bool_]) -> Columns:
        value, held = self.value, self.held
        some = Columns.of(self.sampled.some(which), value.samples, value.square_rows)
        rows = value.observations - float(held.sums.N)
        weight = rows / float(some.sums.N) if len(some.n) else 0.0
        parts = ((h, s) for h, s in zip((held.n, held.i, held.q), (some.n, some.i, some.q), strict=True))
        n, i, q = (np.concatenate(pair) for pair in parts)
        times: Floats = np.concatenate([held.times, some.times * weight])
        return Columns(n, i, q, times, value.samples, value.square_rows)


def sketch_of(value: SketchCounts) -> Sketched:
    return value.remember("sketched", lambda: Sketched(value))


def sketched_entropy(value: SketchCounts, order: float, estimator: str) -> tuple[float, float]:
    """The entropy of one order by one estimator, in bits, and the standard error that the sketch adds."""
    found = sketch_of(value)

    def number(columns: Columns) -> float:
        if estimator in ("c1", "c2"):
            return sample_aware(columns, order, estimator)
        if estimator == "plug-in":
            return renyi(columns.n, columns.times, order)
        return estimate_of(CountOfCounts.weighted(columns.n, columns.times), order, estimator)

    if order == 0 and estimator == "plug-in":  # the number of states does not follow that of rows
        return math.log2(found.states), 1 / (math.log(2) * math.sqrt(max(1, len(found.sampled.n) - 1)))
    return number(found.columns), found.error(number)


def sketched_verdict(value: SketchCounts) -> str:
    """How far an entropy from a sketch can be trusted: as `Trust.verdict`, but never measured, as U needs the states themselves."""
    c = sketch_of(value).columns
    enough = value.samples >= 50 and not value.kept.repeated
    if enough and c.coverage >= 0.8 and c.recurrence >= 0.5 and c.once >= FEW:
        return CORRECTED
    if c.coverage >= 0.5 and c.recurrence >= 0.25 and c.twice >= FEW:
        return EXTRAPOLATED
    if (c.twice < FEW and c.coverage < 0.5) or c.plug_in > math.log2(value.observations) - 0.5:
        return SATURATED
    return LOWER_BOUND

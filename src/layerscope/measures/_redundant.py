"""Units that carry no information of their own, in groups, with the observations behind each claim."""

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from .._reading import Reading, percent
from ..kernels import unit_counts
from ..tallies import StateCounts, StateTable
from ._abstract import AbstractMeasure
from ._entropy import notes_on
from ._rates import check_observed
from ._units import alike_in

FEW = 5
"""Observations behind a claim below which it is called weak."""


@dataclass(frozen=True)
class UnitGroup:
    """Units of which all but one (or all) can be told from the others, in every observation.

    **Fields:** `kind` "dead" (never fired), "always on", or "together": `units` fired exactly when the first of them did, `opposite` exactly
    when it did not; `spare` how many units carry nothing of their own; `behind` observations that speak for it: all of them for dead and
    always-on units, those of the rarer of the two patterns for units that go together.
    """

    kind: Literal["dead", "always on", "together"]
    units: tuple[int, ...]
    opposite: tuple[int, ...]
    spare: int
    behind: int


def unit_groups(value: StateCounts) -> tuple[UnitGroup, ...]:
    """All such groups, exactly as far as the data show: dead and always-on units first, then by first unit."""
    check_observed(value)
    records = value.records()
    fired = unit_counts(records.states, records.n, value.units)
    rows = value.observations
    found: list[UnitGroup] = []
    dead, always = np.flatnonzero(fired == 0), np.flatnonzero(fired == rows)
    if len(dead):
        found.append(UnitGroup("dead", tuple(dead.tolist()), (), len(dead), rows))
    if len(always):
        found.append(UnitGroup("always on", tuple(always.tolist()), (), len(always), rows))
    for units, opposite in alike_in(value):
        if spare := len(units) - 1 + len(opposite):
            once = int(fired[units[0]])
            found.append(UnitGroup("together", units, opposite, spare, min(once, rows - once)))
    return tuple(found)


@dataclass(frozen=True)
class RedundantUnits(AbstractMeasure[StateCounts]):
    """Units that carry no information of their own: dead, always on, or a copy or the opposite of an earlier unit, in every observation.

    Leaving them out changes no entropy of these data by anything.  **Reads:** `StateTable`. **Gives:** their number; `items` the groups
    (`UnitGroup`) with the observations behind each; the note says how surely it holds elsewhere.  **Raises:** `EmptyTally`.
    **Source:** for the limit, 1 − 0.05^(1/M): the exact 95 % bound on a share that showed 0 of M (the "rule of three").
    """

    name: ClassVar[str] = "redundant units"

    @property
    def tally(self) -> StateTable:
        return StateTable()

    def compute(self, value: StateCounts) -> Reading:
        groups = unit_groups(value)
        limit = 1 - 0.05 ** (1 / value.samples)
        notes = [f"each claim holds in all but {percent(limit)} of further samples at most (95 %)"] if groups else []
        weak = sum(group.behind < FEW for group in groups)
        if weak:
            notes.append(f"{weak} of {len(groups)} groups rest on fewer than {FEW} observations")
        return Reading(
            float(sum(group.spare for group in groups)),
            observations=value.observations,
            samples=value.samples,
            measured_in=f"of {value.units} units",
            items=groups,
            note="; ".join([*notes, *notes_on(value)]),
        )

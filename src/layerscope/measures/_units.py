"""What single units do: how often each fires, and which carry no information of their own."""

from collections import defaultdict
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .._reading import Reading
from .._states import unpack_states
from ..tallies import StateCounts, StateTable
from ._abstract import AbstractMeasure
from ._entropy import notes_on
from ._rates import check_observed, rates_of

BLOCK = 1 << 16
"""States unpacked at a time."""


def _reading(
    value: StateCounts, number: float | NDArray[np.float64], measured_in: str, items: tuple[object, ...] = ()
) -> Reading:
    return Reading(
        number,
        observations=value.observations,
        samples=value.samples,
        measured_in=measured_in,
        items=items,
        note="; ".join(notes_on(value)),
    )


@dataclass(frozen=True)
class FiringRate(AbstractMeasure[StateCounts]):
    """How often units fire: the share of observations above the threshold, for every unit, or a quantile over the units.

    **Arguments:** `quantile` within [0, 1] for one number a layer, None for one number a unit.
    **Reads:** `StateTable`. **Gives:** shares of observations. **Raises:** `EmptyTally`.
    """

    quantile: float | None = None
    name: ClassVar[str] = "firing rate"

    def __post_init__(self) -> None:
        if self.quantile is not None and not 0 <= self.quantile <= 1:
            raise ValueError(f"FiringRate: a quantile lies between 0 and 1, got {self.quantile}.")

    @property
    def tally(self) -> StateTable:
        return StateTable()

    def compute(self, value: StateCounts) -> Reading:
        rates = rates_of(value)
        if self.quantile is None:
            return _reading(value, rates, "of observations")
        return _reading(value, float(np.quantile(rates, self.quantile)), "of observations")


@dataclass(frozen=True)
class DeadUnits(AbstractMeasure[StateCounts]):
    """Units that never fired: they take part in no state and carry no information on these data.

    **Reads:** `StateTable`. **Gives:** their number; `items` lists them. **Raises:** `EmptyTally`.
    """

    name: ClassVar[str] = "dead units"

    @property
    def tally(self) -> StateTable:
        return StateTable()

    def compute(self, value: StateCounts) -> Reading:
        dead = np.flatnonzero(rates_of(value) == 0)
        return _reading(value, float(len(dead)), f"of {value.units} units", tuple(dead.tolist()))


@dataclass(frozen=True)
class AlwaysOnUnits(AbstractMeasure[StateCounts]):
    """Units that fired in every observation: constant bits, like dead units.

    **Reads:** `StateTable`. **Gives:** their number; `items` lists them. **Raises:** `EmptyTally`.
    """

    name: ClassVar[str] = "always-on units"

    @property
    def tally(self) -> StateTable:
        return StateTable()

    def compute(self, value: StateCounts) -> Reading:
        on = np.flatnonzero(rates_of(value) == 1)
        return _reading(value, float(len(on)), f"of {value.units} units", tuple(on.tolist()))


@dataclass(frozen=True)
class EqualUnits(AbstractMeasure[StateCounts]):
    """Units that fired exactly when an earlier unit did: all but the first of each such group are redundant bits.

    **Arguments:** `opposite` counts units that fired exactly when an earlier unit did not.
    **Reads:** `StateTable`. **Gives:** the number of redundant units; `items` lists the groups (first unit, redundant units …). Dead and
    always-on units are counted by their own measures, not here. **Raises:** `EmptyTally`.
    """

    opposite: bool = False
    name: ClassVar[str] = "equal units"

    @property
    def tally(self) -> StateTable:
        return StateTable()

    def compute(self, value: StateCounts) -> Reading:
        found = alike_in(value)
        if self.opposite:  # a unit like the first that comes after an opposite one is, in turn, opposite to that one
            groups = [(a.units[0], *a.opposite) for a in found]
            groups += [(a.opposite[0], *(u for u in a.units if u > a.opposite[0])) for a in found if a.opposite]
        else:
            groups = [units for a in found for units in a]
        items = tuple(sorted(units for units in groups if len(units) > 1))
        return _reading(value, float(sum(len(units) - 1 for units in items)), f"of {value.units} units", items)


class Alike(NamedTuple):
    """Units that fired in the same observations as the first of them, and units that fired in exactly all others."""

    units: tuple[int, ...]
    opposite: tuple[int, ...]


def alike_in(value: StateCounts) -> tuple[Alike, ...]:
    """All units but dead and always-on ones, in groups, by first unit.  Raises `EmptyTally`."""
    check_observed(value)
    return value.remember("alike", lambda: _alike_in(value))


def _alike_in(value: StateCounts) -> tuple[Alike, ...]:
    columns, rates = unit_columns(value), rates_of(value)
    same: dict[bytes, list[int]] = {}
    against: dict[bytes, list[int]] = defaultdict(list)
    for unit in np.flatnonzero((rates > 0) & (rates < 1)).tolist():
        column, negated = columns[unit].tobytes(), (~columns[unit]).tobytes()
        if negated in same:
            against[negated].append(unit)
        else:
            same.setdefault(column, []).append(unit)
    return tuple(Alike(tuple(units), tuple(against[column])) for column, units in same.items())


def unit_columns(value: StateCounts) -> NDArray[np.uint8]:
    """For every unit the packed column of its bits over the different states, (units, bytes); padding bits repeat the last state."""
    states = value.records().states
    padded = np.concatenate([states, np.repeat(states[-1:], -len(states) % 8, axis=0)])
    columns = np.empty((value.units, len(padded) // 8), np.uint8)
    for at in range(0, len(padded), BLOCK):
        bits = unpack_states(padded[at : at + BLOCK], value.units)
        columns[:, at // 8 : at // 8 + len(bits) // 8] = np.packbits(bits.T, axis=1)
    return columns

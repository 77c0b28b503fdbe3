"""The states of each class: how many, how varied, and which of them no other class shows."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .._errors import DataError
from ..tallies import StateCounts, places
from ._columns import Columns
from ._rarefaction import rarefaction_of
from ._rates import check_observed


@dataclass(frozen=True)
class ClassStates:
    """What one class of samples shows at a layer.

    **Fields:** `label`; `samples`, `observations`, `states` of it; `unique` states of two or more samples that only this class shows;
    `plug_in` the plain count of its entropy and `c2` the corrected one, in bits; `coverage` and `recurrence` as for all states;
    `at_equal_samples` the plain count that as many samples as the smallest class has would show: what may be compared between classes.
    """

    label: int
    samples: int
    observations: int
    states: int
    unique: int
    plug_in: float
    c2: float
    coverage: float
    recurrence: float
    at_equal_samples: float


def columns_of(value: StateCounts, label: int) -> Columns:
    """The columns of the states of one class."""
    samples, square_rows = value.by_stratum[label]
    return value.remember(("columns", label), lambda: Columns.of(value.records(label), samples, square_rows))


def check_labels(value: StateCounts) -> None:
    """Raise where states were not counted by label."""
    check_observed(value)
    if not value.by_stratum:
        raise DataError(
            f"{value.site}: these states were not counted by label. Measure with labels: "
            "ls.examine(model, (inputs, labels), measures=[ls.measures.Information(), …])."
        )


def classes_of(value: StateCounts) -> tuple[ClassStates, ...]:
    """A line for every class, ascending by label.  Raises `EmptyTally`, `DataError` as `check_labels`."""
    check_labels(value)
    alone = alone_in(value)
    smallest = min(samples for samples, _ in value.by_stratum.values())
    found: list[ClassStates] = []
    for label in value.labels:
        c = columns_of(value, label)
        c2 = min(float(value.units), c.c2)
        at = rarefaction_of(c, smallest)
        rows = int(c.sums.N)
        found.append(
            ClassStates(label, c.samples, rows, c.states, alone[label], c.plug_in, c2, c.coverage, c.recurrence, at)
        )
    return tuple(found)


def classes_by_state(value: StateCounts) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """For every (class, state) that was seen: the number of the state in `value.records()`, the label, and the line of the table."""
    assert value.table is not None
    records = value.table.records()
    at = places(value.records().states, np.ascontiguousarray(records.states[:, :-1]))
    return at, records.states[:, -1].view(np.int64), np.arange(len(at))


def alone_in(value: StateCounts) -> dict[int, int]:
    """How many states of two or more samples occur with one class only, by class."""
    at, label, _ = classes_by_state(value)
    several = value.records().i >= 2
    alone = (np.bincount(at, minlength=len(several)) == 1) & several
    return {each: int(np.count_nonzero(alone[at[label == each]])) for each in value.labels}


def alone_by_chance(value: StateCounts) -> float:
    """How many states of two or more samples would occur with one class only, were labels drawn at random: Σ_s Σ_c π_c^i."""
    i = value.records().i
    times = np.bincount(i[i >= 2])
    shares = np.array([samples for samples, _ in value.by_stratum.values()]) / value.samples
    power = np.arange(len(times))
    return float(sum((times * share**power).sum() for share in shares))

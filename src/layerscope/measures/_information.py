"""What the states of a layer say about the labels of the samples."""

import math
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from .._reading import EXTRAPOLATED, NAN, UNPROVEN, Jackknife, Reading, percent
from .._states import Per
from ..tallies import StateCounts, StateTable
from ._abstract import AbstractMeasure
from ._classes import check_labels, columns_of
from ._entropy import check_threshold, notes_on
from ._intervals import interval, left_out, without_each
from ._rarefaction import rarefaction_of
from ._special import Floats
from ._trust import trust_in

COVERAGE, RECURRENCE = 0.5, 0.25
"""Class-weighted; below either, information is what the sample size makes it."""
CLEAR = 0.98
"""Coverage from which on the recurrence of the few rows left does not matter: they can hold no more than 2 % of H(class)."""
ENOUGH, AGAIN = 0.8, 0.5
"""Class-weighted coverage and recurrence from which on there is an interval; below, it was found to cover too little (68 %)."""


@dataclass(frozen=True)
class _Given:
    """Averages over classes, each by its share of the rows."""

    c2: float
    plug_in: float
    coverage: float
    recurrence: float
    by_chance: float
    classes: float
    delta: float

    @classmethod
    def of(cls, value: StateCounts) -> "_Given":
        check_labels(value)
        check_threshold(value, value.records().states)
        return value.remember("given class", lambda: cls._of(value))

    @classmethod
    def _of(cls, value: StateCounts) -> "_Given":
        columns = [columns_of(value, label) for label in value.labels]
        share = [float(c.sums.N) / value.observations for c in columns]
        whole = trust_in(value).columns
        thinned = {m: rarefaction_of(whole, m) for m in {c.samples for c in columns}}
        once = sum(float(c.sums.N1) for c in columns)

        def mean(numbers: list[float]) -> float:
            return math.fsum(p * x for p, x in zip(share, numbers, strict=True))

        return cls(
            mean([min(float(value.units), c.c2) for c in columns]),
            mean([c.plug_in for c in columns]),
            mean([c.coverage for c in columns]),
            sum(float(c.sums.N2) for c in columns) / once if once else math.inf,
            mean([thinned[c.samples] for c in columns]),
            -mean([math.log2(p) for p in share]) + 0.0,
            mean([c.delta for c in columns]),
        )

    @property
    def resolved(self) -> bool:
        return self.coverage >= CLEAR or (self.coverage >= COVERAGE and self.recurrence >= RECURRENCE)

    @property
    def enough(self) -> bool:
        return self.coverage >= CLEAR or (self.coverage >= ENOUGH and self.recurrence >= AGAIN)


@dataclass(frozen=True)
class ClassEntropy(AbstractMeasure[StateCounts]):
    r"""Entropy of a layer's states within a class, H(state | class): how varied the states of alike samples still are.

    $\sum_c \pi_c H_{c2}(S | c)$, $\pi_c$ the share of the rows; c2 as in `Entropy(estimator="c2")`.

    **Reads:** `StateTable` by label. **Gives:** bits, `coverage` the class-weighted one; a lower bound where the classes are not resolved.
    **Raises:** `EmptyTally`; `DataError` without labels.
    """

    per: Per = "position"
    name: ClassVar[str] = "entropy given class"

    @property
    def tally(self) -> StateTable:
        return StateTable(self.per, "label")

    def compute(self, value: StateCounts) -> Reading:
        given = _Given.of(value)
        return _reading(value, given, given.c2, "bits", "" if given.resolved else "≥", "")


@dataclass(frozen=True)
class Information(AbstractMeasure[StateCounts]):
    r"""What a layer's state tells about the label, I(state; class), in bits of the H(class) that there are to tell.

    $I = H_{c2}(S) - \sum_c \pi_c H_{c2}(S | c)$.  The plain count is far too high: with every state in a sample of its own it is H(class)
    for *any* labels.  Beside the value stands how much of the plain count random labels would show, computed and not shuffled: a class
    of M_c samples is then M_c random samples, so the mean is $H - \sum_c \pi_c H_{M_c}$, with the rarefied $H_{M_c}$.  It is a warning; as
    a correction it would take away information too (−1.37 of a true 1.49 bits, measured).

    The interval leaves out one kept sample after the other, from all samples and from its class, and allows for the bias that is left by
    $\delta = \delta_S - \sum_c \pi_c \delta_c$ (δ/2 below, δ above), δ the second-order part of c2, as for the entropy.  It is given
    where the entropy has one and class-weighted coverage is at least 0.8 with a recurrence of 0.5, or 0.98: there it covered 92 to 100 %
    in the settings of `python -m benchmarks.information`, 97 % together.

    **Reads:** `StateTable` by label. **Gives:** bits; NaN, and why, where class-weighted coverage is below 0.5 or recurrence below 0.25
    (recurrence counts only below a coverage of 0.98).
    **Raises:** `EmptyTally`; `DataError` without labels.
    **Beware:** labels belong to samples: every position of an image has the image's label.
    """

    per: Per = "position"
    name: ClassVar[str] = "information"

    @property
    def tally(self) -> StateTable:
        return StateTable(self.per, "label")

    def compute(self, value: StateCounts) -> Reading:
        given, trust = _Given.of(value), trust_in(value)
        unit = f"of {given.classes:.3g} bits of class"
        if len(value.by_stratum) == 1:
            return _reading(value, given, 0.0, unit, "", "one class only")
        plain, chance = trust.plug_in - given.plug_in, trust.plug_in - given.by_chance
        if not given.resolved:
            note = f"nearly every sample shows states of its own, so the plain count, {plain:.3g} bits, says little of the labels"
            return _reading(value, given, NAN, unit, "", note)
        share = percent(min(1.0, max(0.0, chance) / plain)) if plain > 0 else "all"
        note = f"plain count {plain:.3g}, of which {share} would appear with random labels"
        reading = _reading(value, given, trust.c2 - given.c2, unit, "", note)
        if trust.verdict in UNPROVEN or not given.enough:
            return replace(reading, verdict=EXTRAPOLATED)
        delta = abs(trust.columns.delta - given.delta)
        jackknife = Jackknife(value.kept.sifted().ids, informed_without_each(value), value.samples, delta / 2, delta)
        number = float(reading)
        low, high = np.clip(interval(number, jackknife), 0.0, given.classes).tolist()
        low, high = min(low, number), max(high, number)
        return replace(reading, low=low, high=high, verdict=trust.verdict, jackknife=jackknife)


def informed_without_each(value: StateCounts) -> Floats:
    """Information by c1, in bits, of the data without each of the kept samples, (kept,)."""
    whole, kept = trust_in(value).columns, value.kept.sifted()
    if len(kept.ids) < 2:
        return np.empty(0)
    of = kept.rows[np.cumsum(kept.sizes) - kept.sizes, -1].view(np.int64)
    columns = {label: columns_of(value, label) for label in value.labels}
    rows = {label: float(c.sums.N) for label, c in columns.items()}
    given = math.fsum(rows[label] * c.c1 for label, c in columns.items())
    found, _ = without_each(value, whole)
    for label in np.unique(of).tolist():
        here, c, records = np.flatnonzero(of == label), columns[label], value.records(label)
        gone, left = kept.sizes[here], np.zeros(len(here))
        if c.samples > 1:
            left, _ = left_out(records, value.kept.within([label]).pairs(records.states), len(here), c)
        found[here] -= (given - rows[label] * c.c1 + (rows[label] - gone) * left) / (value.observations - gone)
    return found


def _reading(value: StateCounts, given: _Given, number: float, unit: str, bound: str, note: str) -> Reading:
    return Reading(
        number,
        observations=value.observations,
        samples=value.samples,
        measured_in=unit,
        coverage=given.coverage,
        bound=bound,
        note="; ".join(filter(None, (note, *notes_on(value)))),
    )

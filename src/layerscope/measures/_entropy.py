"""How many states a layer really uses: Rényi entropies of its firing states."""

import math
from dataclasses import dataclass
from typing import Any, ClassVar, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .._errors import EmptyTally, ThresholdError
from .._reading import CONSTANT, CORRECTED, LOWER_BOUND, MEASURED, NAN, SATURATED, UNPROVEN, Reading
from .._states import Per
from ..kernels import unit_counts
from ..tallies import SketchCounts, StateCounts, StateSketch, StateTable
from ._abstract import AbstractMeasure
from ._columns import sample_aware
from ._counts import SHANNON, Estimator, check_estimator, estimated, renyi
from ._rates import check_observed
from ._repeats import repeats_in
from ._sketched import PROMISED, sketch_of, sketched_entropy, sketched_verdict
from ._trust import Trust, trust_in

AWARE = ("c1", "c2")
COINCIDENCES = 30
"""Pairs of rows of one state, from two samples, from which the collision entropy is known within 0.3 bit."""
ENOUGH = StateSketch().k
"""States of a sketch from which its errors are promised."""


def entropy(counts: ArrayLike, order: float = 1, estimator: Estimator = "plug-in") -> float:
    r"""Rényi entropy of observed counts, in bits: the plug-in value, or a corrected one where an `estimator` is named.

    $H_\alpha = \frac{1}{1-\alpha}\log_2 \sum_s p_s^\alpha$ with $p_s = n_s / N$; $\alpha \to 1$ is Shannon's, 0 the log of the number of
    different states, 2 the collision entropy, inf the min-entropy. Computed in the log domain, so that order 400 does not underflow.

    **Arguments:** `counts` of any shape, zeros ignored; `order` α ≥ 0; `estimator` "plug-in", "miller-madow" (1955), "grassberger" (2003),
    "chao-shen" (2003), "chao-wang-jost" (2013; other orders than 1: Chao & Jost 2015) or "jackknife" (Zahl 1977).  Corrected ones take
    every row for a sample of its own and speak of the distribution behind the counts; "c1" and "c2" need a state table.
    **Gives:** NaN where a corrected order says nothing: no coincidence for order 2, or states seen once and none twice for orders between.
    **Raises:** `EmptyTally` where all counts are zero, `ValueError` for a negative order or count, or another estimator.
    **Source:** Rényi 1961; the estimators in `_counts.py`.

    >>> [round(entropy([4, 2, 1, 1], order), 6) for order in (0, 0.5, 1, 2, float("inf"))]
    [2.0, 1.873504, 1.75, 1.540568, 1.0]
    >>> [round(entropy([4, 2, 1, 1], estimator=name), 3) for name in ("miller-madow", "grassberger", "jackknife")]
    [2.021, 2.188, 2.226]
    """
    order = check_order(order)
    check_estimator(estimator, tuple(SHANNON))
    n = np.asarray(counts, np.float64).reshape(-1)
    if not np.all(n >= 0):
        raise ValueError(
            "entropy: counts must be numbers ≥ 0, got a negative one or NaN. Give how often each state was seen."
        )
    n = n[n > 0]
    if not n.size:
        raise EmptyTally("entropy: no observation at all (every count is 0). There is nothing to take an entropy of.")
    if estimator != "plug-in":
        if not (n == np.floor(n)).all():
            raise ValueError(
                f"entropy: {estimator!r} reads how many states were seen once and twice, and these counts are not whole. "
                "Give counts of observations, or take 'plug-in', which also takes shares."
            )
        return estimated(n.astype(np.int64), order, estimator)
    return renyi(n, np.ones(1), order)


def check_order(order: Any) -> float:
    """An entropy order as a float; raises for what is none."""
    try:
        order = float(order)
    except (TypeError, ValueError):
        order = math.nan
    if not order >= 0:
        raise ValueError(
            "entropy: the order α must be a number ≥ 0 (1 Shannon, 2 collision, inf min-entropy). Choose another one."
        )
    return order


@dataclass(frozen=True)
class Entropy(AbstractMeasure[StateCounts]):
    r"""Entropy of a layer's firing states: how many patterns it really uses.

    $H_\alpha = \frac{1}{1-\alpha}\log_2 \sum_s p_s^\alpha$, with $p_s$ the share of observations in state $s$; $\alpha \to 1$ is Shannon's.

    **Arguments:** `order` α ≥ 0 (1: Shannon, 2: collision, inf: min-entropy); `per` what one state is made of; `estimator` "plug-in", the
    count as published; "c2" (or "c1"), corrected for samples whose rows depend on each other; or a textbook one, row by row.
    **Reads:** `StateTable`. **Gives:** bits, with a verdict. Around "c2" of order 1 a 95 % interval where it is measured or corrected, and a
    bracket else; around nothing else an interval. The plug-in lies within [0, min(units, log2 observations)] and is a lower bound.
    **Raises:** `EmptyTally` if nothing was observed, `ThresholdError` if every unit fired in every observation, `ValueError`.
    **Beware:** the plug-in value is low by about (states - 1) / (2 observations ln 2) bits for order 1 (Miller 1955).
    **Source:** Rényi 1961; Schaub & Hotaling 2020, arXiv:2006.02909, section on efficiency; estimators in `_counts.py` and `_columns.py`.
    """

    order: float = 1
    per: Per = "position"
    estimator: Estimator = "plug-in"
    name: ClassVar[str] = "entropy"

    def __post_init__(self) -> None:
        check_choice(self.order, self.estimator)

    @property
    def tally(self) -> StateTable:
        return StateTable(self.per)

    def compute(self, value: StateCounts | SketchCounts) -> Reading:
        return entropy_reading(value, float(self.order), self.estimator)


def check_choice(order: float, estimator: str) -> None:
    """Raise for an order or an estimator that is none, or the two together."""
    order = check_order(order)
    check_estimator(estimator, get_args(Estimator))
    if order != 1 and estimator not in ("plug-in", "chao-wang-jost", *AWARE):
        estimated(np.ones(1, np.int64), order, estimator)  # says why not


def entropy_reading(value: StateCounts | SketchCounts, order: float, estimator: str) -> Reading:
    """The entropy of a state table by one estimator, with everything a reader must know of it."""
    check_observed(value)
    if isinstance(value, SketchCounts):
        return _from_sketch(value, order, estimator)
    records = value.records()
    check_threshold(value, records.states)
    trust, units = trust_in(value), float(value.units)
    plain = estimator == "plug-in"
    if plain:
        number = entropy(records.n, order)
    elif estimator in AWARE:
        number = sample_aware(trust.columns, order, estimator)
    else:
        number = estimated(records.n, order, estimator)
    verdict = verdict_of(trust, order, estimator)
    lead = estimator == "c2" and order == 1
    low, high = trust.limits if lead else (NAN, NAN)
    short = plain and trust.c2 - trust.plug_in > trust.tolerance
    return Reading(
        within(number, units),
        low,
        high,
        observations=value.observations,
        samples=value.samples,
        measured_in="bits",
        coverage=trust.coverage,
        ceiling=min(units, math.log2(value.observations)) if plain else units,
        bound="≥"
        if short
        or (plain and verdict not in (MEASURED, CONSTANT))
        or (estimator in AWARE and verdict in (LOWER_BOUND, SATURATED))
        else "",
        note="; ".join([*_remarks(trust, order, estimator, number), *notes_on(value)]),
        verdict=verdict,
        jackknife=trust.jackknife if lead and verdict not in (*UNPROVEN, CONSTANT) else None,
    )


def _from_sketch(value: SketchCounts, order: float, estimator: str) -> Reading:
    """The entropy from a sketch: with the error it adds, and without an interval, which would need the states of the kept samples."""
    number, error = sketched_entropy(value, order, estimator)
    columns, verdict, units = sketch_of(value).columns, sketched_verdict(value), float(value.units)
    plain = estimator == "plug-in"
    known = not math.isnan(number)
    note = f"from a sketch of {value.k:,} states, which adds at most ± {PROMISED * error:.2g} bits"
    if value.k < ENOUGH:
        note = f"from a sketch of {value.k:,} states, which adds about ± {PROMISED * error:.2g} bits (promised from {ENOUGH:,} states on)"
    return Reading(
        within(number, units),
        observations=value.observations,
        samples=value.samples,
        measured_in="bits",
        coverage=columns.coverage,
        ceiling=min(units, math.log2(value.observations)) if plain else units,
        bound="≥" if plain or (estimator in AWARE and verdict in (LOWER_BOUND, SATURATED)) else "",
        note="; ".join([note if known else "of the sampled states no two samples share one", *notes_on(value)]),
        verdict=verdict,
    )


def within(bits: float, units: float) -> float:
    """An estimate, kept to what an entropy can be: Grassberger's of one state is a little below 0, an extrapolated one may pass n bits."""
    return bits if math.isnan(bits) else min(max(bits, 0.0), units)


def verdict_of(trust: Trust, order: float, estimator: str) -> str:
    """The verdict on the entropy of one order.

    Orders below 1 weigh the unseen states more than Shannon's does, so they are lower bounds while there are states of one sample.  The
    unbiased collision entropy asks for coincidences only.
    """
    if order == 2 and estimator in AWARE:
        return CORRECTED if pairs_of(trust) >= COINCIDENCES else LOWER_BOUND
    if order < 1 and trust.columns.once and trust.verdict not in UNPROVEN:
        return LOWER_BOUND
    return trust.verdict


def pairs_of(trust: Trust) -> float:
    """Pairs of rows of one state that come from two samples."""
    c = trust.columns
    return float((c.times * (c.n**2 - c.q)).sum()) / 2


def _remarks(trust: Trust, order: float, estimator: str, number: float) -> list[str]:
    if math.isnan(number):
        return ["no two samples share a state" if order == 2 else "too few states were seen twice for this order"]
    low = trust.verdict == CORRECTED or (trust.verdict == MEASURED and trust.c2 - trust.plug_in > trust.tolerance)
    if estimator == "plug-in" and order == 1 and low:
        return [f"plain count, about {trust.c2 - trust.plug_in:.2g} bits low"]
    if estimator in AWARE and order == 2:
        return ["speaks of the commonest states"]
    if estimator in AWARE and order not in (0, 1, 2):
        return ["plain count" if order == math.inf else "row by row, as if positions of a sample were independent"]
    return []


def check_threshold(value: StateCounts, states: NDArray[np.uint64]) -> None:
    """Raise where every unit fired always: the rule then sees one state of anything, and its entropy 0.0 would be a lie."""
    if (
        len(states) == 1
        and value.observations > 1
        and (unit_counts(states, np.ones(1, np.int64), value.units) == 1).all()
    ):
        raise ThresholdError(
            f"{value.site}: all {value.units} units were above {value.threshold:g} in all {value.observations:,} observations, so the "
            f"firing rule cannot tell on from off. Values that are never ≤ {value.threshold:g} need a threshold of their own:\n"
            f"    wrong: ls.examine(model, data, layers=[{value.site.path!r}])\n"
            f"    right: ls.examine(model, data, layers=[{value.site.path!r}], thresholds={{{value.site.path!r}: 0.5}})"
        )


def notes_on(value: StateCounts | SketchCounts) -> list[str]:
    """What a reader of any number from this table must know."""
    repeated = repeats_in(value)
    return [*oddities_in(value), *([repeated] if repeated else [])]


def oddities_in(value: StateCounts | SketchCounts) -> list[str]:
    """Values that are no numbers, and rows that do not count."""
    notes: list[str] = []
    if value.nan or value.inf:
        where = ", those of masked rows included" if value.masked else ""
        notes.append(f"{value.nan:,} NaN and {value.inf:,} infinite values{where}; NaN and -inf count as not firing")
    if value.masked:
        notes.append(f"{value.masked:,} masked rows left out")
    return notes

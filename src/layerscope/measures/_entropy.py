"""How many states a layer really uses: Rényi entropies of its firing states."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .._errors import EmptyTally, ThresholdError
from .._reading import Reading
from .._states import Per
from ..kernels import unit_counts
from ..tallies import StateCounts, StateTable
from ._abstract import AbstractMeasure


def entropy(counts: ArrayLike, order: float = 1) -> float:
    r"""Rényi entropy of observed counts, in bits: the plug-in value.

    $H_\alpha = \frac{1}{1-\alpha}\log_2 \sum_s p_s^\alpha$ with $p_s = n_s / N$; $\alpha \to 1$ is Shannon's, 0 the log of the number of
    different states, 2 the collision entropy, inf the min-entropy. Computed in the log domain, so that order 400 does not underflow.

    **Arguments:** `counts` of any shape, zeros ignored; `order` α ≥ 0.
    **Raises:** `EmptyTally` where all counts are zero, `ValueError` for a negative order or count.
    **Source:** Rényi 1961.

    >>> [round(entropy([4, 2, 1, 1], order), 6) for order in (0, 0.5, 1, 2, float("inf"))]
    [2.0, 1.873504, 1.75, 1.540568, 1.0]
    """
    order = check_order(order)
    n = np.asarray(counts, np.float64).reshape(-1)
    if not np.all(n >= 0):
        raise ValueError(
            "entropy: counts must be numbers ≥ 0, got a negative one or NaN. Give how often each state was seen."
        )
    n = n[n > 0]
    if not n.size:
        raise EmptyTally("entropy: no observation at all (every count is 0). There is nothing to take an entropy of.")
    p = n / n.sum()
    if order == 1:
        return float(-(p * np.log2(p)).sum() + 0.0)
    if order == 0:
        return math.log2(n.size)
    if order == math.inf:
        return float(-np.log2(p.max()) + 0.0)
    if abs(order - 1) < 0.5:  # Σ p^α = 1 + Σ p (p^(α-1) - 1): no cancellation next to α = 1
        return float(np.log1p((p * np.expm1((order - 1) * np.log(p))).sum()) / ((1 - order) * math.log(2)) + 0.0)
    powers = order * np.log2(p)
    top = powers.max()
    return float((top + np.log2(np.exp2(powers - top).sum())) / (1 - order) + 0.0)


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

    **Arguments:** `order` α ≥ 0 (1: Shannon, 2: collision, inf: min-entropy); `per` what one state is made of.
    **Reads:** `StateTable`. **Gives:** bits, within [0, min(units, log2 observations)]; with coverage below 0.9 a lower bound.
    **Raises:** `EmptyTally` if nothing was observed, `ThresholdError` if every unit fired in every observation.
    **Beware:** the plug-in value is low by about (states - 1) / (2 observations ln 2) bits for order 1 (Miller 1955).
    **Source:** Rényi 1961; Schaub & Hotaling 2020, arXiv:2006.02909, section on efficiency.
    """

    order: float = 1
    per: Per = "position"
    name: ClassVar[str] = "entropy"

    def __post_init__(self) -> None:
        check_order(self.order)

    @property
    def tally(self) -> StateTable:
        return StateTable(self.per)

    def compute(self, value: StateCounts) -> Reading:
        return state_reading(value, lambda counts: entropy(counts, self.order), "bits")


def state_reading(
    value: StateCounts, of_counts: Callable[[NDArray[np.int64]], float], measured_in: str, scale: float = 1.0
) -> Reading:
    """A reading of a number computed from state counts, with coverage, ceiling (times `scale`) and notes."""
    check_observed(value)
    records = value.records()
    check_threshold(value, records.states)
    covered = coverage(records.n, records.i)
    ceiling = min(float(value.units), math.log2(value.observations)) * scale
    notes = notes_on(value)
    return Reading(
        of_counts(records.n),
        observations=value.observations,
        samples=value.samples,
        measured_in=measured_in,
        coverage=covered,
        ceiling=ceiling,
        bound="≥" if Reading(0.0, coverage=covered).undersampled else "",
        note="; ".join(notes),
    )


def coverage(n: NDArray[np.int64], i: NDArray[np.int64]) -> float:
    """Sample-aware coverage C = 1 − N₁/N, with N₁ the rows in states that were seen in one sample only.

    The estimated share of the rows of a *further sample* that fall into states already seen (Good–Turing, leaving one sample out; on
    rows it would be too high, because positions of one image resemble each other).
    """
    return float(1 - n[i == 1].sum() / n.sum())


def check_observed(value: StateCounts) -> None:
    """Raise `EmptyTally` where no state was counted."""
    if not value.observations:
        why = f", because the mask leaves out all {value.masked:,} rows" if value.masked else ""
        raise EmptyTally(f"{value.site}: no state was observed yet{why}. Run data through the model first.")


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


def notes_on(value: StateCounts) -> list[str]:
    """What a reader of any number from this table must know."""
    notes: list[str] = []
    if value.nan or value.inf:
        where = ", those of masked rows included" if value.masked else ""
        notes.append(f"{value.nan:,} NaN and {value.inf:,} infinite values{where}; NaN and -inf count as not firing")
    if value.masked:
        notes.append(f"{value.masked:,} masked rows left out")
    if repeated := value.kept.repeated:
        notes.append(
            f"{repeated:,} of {len(value.kept.sifted().ids):,} kept samples have the id of another: the same sample twice fakes coverage"
        )
    return notes

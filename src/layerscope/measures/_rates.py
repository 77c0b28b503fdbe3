"""How often units fire, and the bits that would allow."""

import numpy as np
from numpy.typing import NDArray

from .._errors import EmptyTally
from .._states import unpack_states
from ..kernels import unit_counts
from ..tallies import SketchCounts, StateCounts
from ._special import Floats

BLOCK = 1 << 14
"""States unpacked at a time."""


def check_observed(value: StateCounts | SketchCounts) -> None:
    """Raise `EmptyTally` where no state was counted."""
    if not value.observations:
        why = f", because the mask leaves out all {value.masked:,} rows" if value.masked else ""
        raise EmptyTally(f"{value.site}: no state was observed yet{why}. Run data through the model first.")


def rates_of(value: StateCounts | SketchCounts) -> Floats:
    """The share of observations in which each unit fired, (units,)."""
    check_observed(value)
    if isinstance(value, SketchCounts):  # which counts them apart, exactly
        return value.unit_counts() / value.observations
    records = value.records()
    return value.remember("rates", lambda: unit_counts(records.states, records.n, value.units) / value.observations)


def bits_of(rates: NDArray[np.float64]) -> Floats:
    """h(p) = −p log2 p − (1 − p) log2(1 − p), elementwise; 0 at 0 and 1."""
    p = np.clip(rates, 1e-300, 1.0)
    q = np.clip(1 - rates, 1e-300, 1.0)
    return -(p * np.log2(p) + q * np.log2(q)) * ((rates > 0) & (rates < 1))


def allowed_bits(value: StateCounts | SketchCounts) -> float:
    """Σ h(p_k): the entropy the layer would have if its units fired independently at their own rates; no entropy of it is larger."""
    return float(bits_of(rates_of(value)).sum())


def fired_by_each(value: StateCounts) -> Floats:
    """In how many rows of each kept sample each unit fired, (kept, units)."""
    kept, pairs, records = value.kept.sifted(), value.pairs(), value.records()
    fired = np.zeros((len(kept.ids), value.units))
    for at in range(0, len(pairs.s), BLOCK):
        some = slice(at, at + BLOCK)
        bits = unpack_states(records.states[pairs.s[some]], value.units) * pairs.c[some, None]
        here, starts = np.unique(pairs.g[some], return_index=True)
        fired[here] += np.add.reduceat(bits, starts, axis=0)
    return fired


def allowed_in_the_long_run(value: StateCounts) -> tuple[float, Floats]:
    """Σ h(p_k) without its own bias, in bits, and the plain sum of the data without each of the kept samples, (kept,).

    h is concave, so the plain sum is low by Σ V_k / (2 p_k (1 − p_k) ln 2), V_k the variance of a rate over *samples*.
    """
    kept, fired, rates = value.kept.sifted(), value.remember("fired", lambda: fired_by_each(value)), rates_of(value)
    total, left = np.rint(rates * value.observations), np.maximum(value.observations - kept.sizes, 1)[:, None]
    without = bits_of((total - fired) / left).sum(axis=1)
    if len(kept.ids) < 2:
        return allowed_bits(value), without
    apart = (fired - rates * kept.sizes[:, None]) / kept.sizes.mean()
    change = rates * (1 - rates)
    lost = np.divide(apart.var(axis=0, ddof=1) / value.samples, change, out=np.zeros_like(change), where=change > 0)
    return allowed_bits(value) + float(lost.sum()) / (2 * np.log(2)), without

"""How often units fire, and the bits that would allow."""

import numpy as np
from numpy.typing import NDArray

from .._errors import EmptyTally
from .._states import unpack_states
from ..kernels import unit_counts
from ..tallies import StateCounts
from ._special import Floats

BLOCK = 1 << 14
"""States unpacked at a time."""


def check_observed(value: StateCounts) -> None:
    """Raise `EmptyTally` where no state was counted."""
    if not value.observations:
        why = f", because the mask leaves out all {value.masked:,} rows" if value.masked else ""
        raise EmptyTally(f"{value.site}: no state was observed yet{why}. Run data through the model first.")


def rates_of(value: StateCounts) -> Floats:
    """The share of observations in which each unit fired, (units,)."""
    check_observed(value)
    records = value.records()
    return value.remember("rates", lambda: unit_counts(records.states, records.n, value.units) / value.observations)


def bits_of(rates: NDArray[np.float64]) -> Floats:
    """h(p) = −p log2 p − (1 − p) log2(1 − p), elementwise; 0 at 0 and 1."""
    p = np.clip(rates, 1e-300, 1.0)
    q = np.clip(1 - rates, 1e-300, 1.0)
    return -(p * np.log2(p) + q * np.log2(q)) * ((rates > 0) & (rates < 1))


def allowed_bits(value: StateCounts) -> float:
    """Σ h(p_k): the entropy the layer would have if its units fired independently at their own rates; no entropy of it is larger."""
    return float(bits_of(rates_of(value)).sum())


def allowed_without_each(value: StateCounts) -> Floats:
    """`allowed_bits` of the data without each of the kept samples, (kept,)."""
    kept, pairs, records = value.kept.sifted(), value.pairs(), value.records()
    fired = np.zeros((len(kept.ids), value.units))
    for at in range(0, len(pairs.s), BLOCK):
        some = slice(at, at + BLOCK)
        bits = unpack_states(records.states[pairs.s[some]], value.units) * pairs.c[some, None]
        first, last = int(pairs.g[some][0]), int(pairs.g[some][-1])
        starts = np.searchsorted(pairs.g[some], np.arange(first, last + 1))
        fired[first : last + 1] += np.add.reduceat(bits, np.minimum(starts, len(bits) - 1), axis=0)
    left = (value.observations - kept.sizes)[:, None]
    total = np.rint(rates_of(value) * value.observations)
    return bits_of((total - fired) / np.maximum(left, 1)).sum(axis=1)

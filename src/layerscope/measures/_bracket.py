"""Between which bounds an entropy lies, where no estimate of it can be believed."""

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from .._states import unpack_states
from ..kernels import unit_counts
from ..tallies import StateCounts
from ._columns import Columns, tail
from ._counts import LN2
from ._rates import bits_of
from ._special import Floats, poisson_upper

Z = 1.645
RARE = 2
"""States of so many samples or fewer are rare: of them only the rates of their units are used."""
GUARD = 30
"""With fewer states seen in two samples, their number is uncertain enough to move the lower bound."""
FEW_ROWS = 100
"""Rare states up to which their number is taken for a Poisson one."""
BLOCK = 1 << 16
"""States unpacked at a time."""


def lower_bound(c: Columns, error: float, plain_error: float) -> float:
    """L: the larger of the plain count and c1, each less 1.645 standard errors; c1 with Q₂ at its upper Poisson limit where it is small."""
    guarded = c.c1 - Z * error
    if c.once and c.twice < GUARD:
        s = c.sums
        most = s._replace(N2=np.asarray(2 * s.N1 / s.Q1 * poisson_upper(c.twice)))
        guarded -= max(0.0, c.tail - float(tail(most, c.samples)) / LN2)
    return max(0.0, c.plug_in - Z * plain_error, guarded)


@dataclass(frozen=True, eq=False)
class RareRows:
    r"""What may hide in the states that few samples showed: U, if all their units fired as freely as their rates allow.

    $U = h(\pi) + \pi H_{MM}(\text{states of ≥ 3 samples}) + (1 - \pi) \sum_k h(p_k | \text{rows in states of ≤ 2 samples})$, π the
    share of rows in states of ≥ 3 samples.  Attained by independent units, so rates alone give nothing better.
    """

    value: StateCounts

    @cached_property
    def rare(self) -> NDArray[np.bool_]:
        """Which states are rare."""
        return self.value.records().i <= RARE

    @cached_property
    def rows(self) -> int:
        """Rows in rare states."""
        return int(self.value.records().n[self.rare].sum())

    @property
    def share(self) -> float:
        """1 − π."""
        return self.rows / self.value.observations

    @cached_property
    def rates(self) -> Floats:
        """How often each unit fires in rare rows."""
        records = self.value.records()
        states = np.ascontiguousarray(records.states[self.rare])
        return unit_counts(states, records.n[self.rare], self.value.units) / max(1, self.rows)

    @cached_property
    def seen_in(self) -> int:
        """Samples that showed a rare state, each counted once a state."""
        return int(self.value.records().i[self.rare].sum())

    @cached_property
    def bits(self) -> float:
        """U."""
        return self.bits_at(self.share)

    def bits_at(self, share: float) -> float:
        """U, were rare rows so large a share."""
        units, bits = float(self.value.units), 0.0
        if self.rows:
            slack = units / (2 * self.seen_in * LN2)  # Miller-Madow, one sample one row
            bits = min(units, float(bits_of(self.rates).sum()) + slack)
        split = float(bits_of(np.array([share]))[0])
        return min(units, split + (1 - share) * self._common + share * bits)

    def most(self) -> float:
        """U with the share of rare rows at its upper Poisson limit: for few of them their spread alone does not tell."""
        if not 0 < self.seen_in < FEW_ROWS:
            return self.bits
        return self.bits_at(min(1.0, self.share * poisson_upper(self.seen_in) / self.seen_in))

    @cached_property
    def _common(self) -> float:
        """Entropy of the states of three or more samples, with the sample-aware form of Miller and Madow's term."""
        records = self.value.records()
        n = records.n[~self.rare].astype(np.float64)
        if not len(n):
            return 0.0
        rows = n.sum()
        return (
            float(math.log(rows) - (n * np.log(n)).sum() / rows + (records.Q[~self.rare] / n).sum() / (2 * rows)) / LN2
        )

    def error(self) -> float:
        """Standard error of U: how the mass of rare rows, and the bits their rates ask for, vary over the kept samples."""
        kept, pairs = self.value.kept.sifted(), self.value.pairs()
        samples = len(kept.ids)
        if samples < 2:
            return math.inf
        rare = self.rare[pairs.s]
        g, c = pairs.g[rare], pairs.c[rare]
        rows = kept.sizes / kept.sizes.mean()
        mass = np.bincount(g, c, samples) / kept.sizes.mean()
        cost = np.bincount(g, c * self._costs(pairs.s[rare]), samples) / kept.sizes.mean()
        mass, cost = (x - x.mean() * rows for x in (mass, cost))  # ragged samples: the spread of ratios, to first order
        slope = -math.log2(max(min(self.share, 1 - self.share), 1 / self.value.observations))
        return math.hypot(float(np.std(cost, ddof=1)), slope * float(np.std(mass, ddof=1))) / math.sqrt(samples)

    def _costs(self, states: NDArray[np.int64]) -> Floats:
        """Bits to write down each of these states by the rates of its units."""
        p = np.clip(self.rates, 1e-3, 1 - 1e-3)
        on, off = -np.log2(p), -np.log2(1 - p)
        words, units = self.value.records().states, self.value.units
        parts = [
            unpack_states(words[states[at : at + BLOCK]], units) @ (on - off) + off.sum()
            for at in range(0, len(states), BLOCK)
        ]
        return np.concatenate(parts) if parts else np.empty(0)


def upper_bound(rare: RareRows, c2: float, error: float) -> float:
    """U at 95 %: never below c2, never above one bit a unit."""
    spread = max(rare.bits, c2) + math.hypot(Z * error, Z * rare.error())
    return min(float(rare.value.units), max(spread, rare.most()))

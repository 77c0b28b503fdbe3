"""How far the entropy of one state table can be trusted: corrected value, interval or bracket, and a verdict in words."""

import math
from dataclasses import dataclass
from functools import cached_property

from .._errors import SiteError
from .._reading import (
    CONSTANT,
    CORRECTED,
    EXTRAPOLATED,
    LOWER_BOUND,
    MEASURED,
    SATURATED,
    UNPROVEN,
    Jackknife,
    percent,
)
from ..tallies import StateCounts
from ._bracket import RareRows, lower_bound, upper_bound
from ._columns import FEW, Columns
from ._intervals import clipped, error_of, interval, without_each
from ._rates import allowed_bits, check_observed
from ._repeats import repeats_in
from ._special import Floats, poisson_upper, student

FEWEST = 50
"""Samples below which no interval is given: with fewer, its coverage was never checked."""


@dataclass(frozen=True, eq=False, repr=False)
class Trust:
    """What the samples say about one layer's Shannon entropy *in the data they come from*; `print` it for the lead sentence.

    The plain count is exact for the states of this data set; correction, interval and bracket are about the distribution behind it.
    Everything is computed when asked for, from the columns of the table and the kept samples.
    """

    value: StateCounts

    @cached_property
    def columns(self) -> Columns:
        return Columns.of(self.value.records(), self.value.samples, self.value.square_rows)

    @property
    def plug_in(self) -> float:
        """The plain count H, in bits."""
        return self.columns.plug_in

    @property
    def coverage(self) -> float:
        return self.columns.coverage

    @property
    def recurrence(self) -> float:
        return self.columns.recurrence

    @cached_property
    def c2(self) -> float:
        """The corrected entropy, in bits; never more than one bit a unit."""
        return min(float(self.value.units), self.columns.c2)

    @cached_property
    def rare(self) -> RareRows:
        return RareRows(self.value)

    @property
    def tolerance(self) -> float:
        """Bits that do not matter: 2 % of c2, at least 0.1."""
        return max(0.02 * self.c2, 0.1)

    @cached_property
    def verdict(self) -> str:
        """The first that fits of: constant, measured, corrected, extrapolated, saturated, lower bound only.

        Coverage alone would pass a layer whose plain count is half the truth (a common background and a few unresolvable rows), so it
        asks for the recurrence a = N₂/N₁ too, and *measured* for U: what unseen states could carry at most.  Samples that came twice fake
        all of these, so the first two then do not apply.
        """
        c, enough = self.columns, self.value.samples >= FEWEST and not repeats_in(self.value)
        if c.states == 1 and c.samples > 1:
            return CONSTANT
        met_again = (
            c.twice >= FEW or c.coverage >= 0.5
        )  # else c2 has nothing to go by, and may stand at one bit a unit by chance
        if enough and met_again and self.rare.bits - self.c2 <= self.tolerance:
            return MEASURED
        if enough and c.coverage >= 0.8 and c.recurrence >= 0.5 and c.once >= FEW:
            return CORRECTED
        if c.coverage >= 0.5 and c.recurrence >= 0.25 and c.twice >= FEW:
            return EXTRAPOLATED
        if (c.twice < FEW and c.coverage < 0.5) or c.plug_in > math.log2(self.value.observations) - 0.5:
            return SATURATED
        return LOWER_BOUND

    @cached_property
    def _without(self) -> tuple[Floats, Floats]:
        return without_each(self.value, self.columns)

    @cached_property
    def error(self) -> float:
        """Standard error of the corrected entropy over samples; inf where fewer than two were kept."""
        return error_of(self._without[0], self.value.samples)

    @cached_property
    def jackknife(self) -> Jackknife:
        """c1 without each kept sample, and what c2 may still be off."""
        delta = abs(self.columns.delta)
        return Jackknife(self.value.kept.sifted().ids, self._without[0], self.value.samples, delta / 2, delta)

    @cached_property
    def limits(self) -> tuple[float, float]:
        """The 95 % interval around c2 where it is *measured* or *corrected*; else a bracket, [L, U], or [L, c2 + t·se + δ] of an extrapolation."""
        units, c = float(self.value.units), self.columns
        if self.verdict == CONSTANT:
            return 0.0, 0.0
        if self.verdict not in UNPROVEN:
            return clipped(*interval(self.c2, self.jackknife), units)
        low = min(self.c2, lower_bound(c, self.error, error_of(self._without[1], c.samples)))
        if self.verdict != EXTRAPOLATED:
            return low, upper_bound(self.rare, self.c2, self.error)
        reach = student(len(self._without[0]) - 1) * self.error + abs(c.delta)
        return low, min(units, self.c2 + reach) if math.isfinite(reach) else units

    def needed(self, coverage: float = 0.9) -> tuple[float, float]:
        """Samples it would take for this coverage: between M (1 + ln x / a) and M x^(1/a), x = (1 − C)/(1 − coverage).

        The upper one is inf where recurrence is below 0.25: then "at least" is all that can be said, with Q₂ at its upper limit.
        """
        c, m = self.columns, self.value.samples
        short = (1 - c.coverage) / (1 - coverage)
        if short <= 1:
            return float(m), float(m)
        a = c.recurrence
        if c.twice < FEW:
            a = max(a, 2 * poisson_upper(c.twice) / max(1, c.once))
        most = m * short ** (1 / c.recurrence) if c.recurrence >= 0.25 else math.inf
        return m * (1 + math.log(short) / a), most

    @cached_property
    def allowed(self) -> float:
        """Σ h(p_k), in bits: what the firing rates allow."""
        return allowed_bits(self.value)

    @property
    def words(self) -> str:
        """The verdict in a sentence."""
        c2, (low, high) = self.c2, self.limits
        return {
            CONSTANT: f"One state in all {self.value.observations:,} observations of {self.value.samples:,} samples.",
            MEASURED: f"Sampled well enough: even if every unseen state used all units freely, these samples would read at most "
            f"{max(c2, self.rare.bits):.4g} bits; the interval speaks of other samples.",
            CORRECTED: f"The plain count misses about {c2 - self.plug_in:.2g} bits; the corrected value accounts for them, assuming rare "
            "states behave like those seen once or twice.",
            EXTRAPOLATED: f"An extrapolation: {max(0.0, c2 - self.plug_in):.2g} of the {c2:.3g} bits come from states hardly seen. Not a "
            "95 % interval.",
            LOWER_BOUND: f"At least {shown(low)}, at most {shown(high)} bits. The plain count is set by the sample size.",
            SATURATED: "Nearly every sample shows states of its own: the plain count says how many samples there were, nothing about the "
            "layer.",
        }[self.verdict]  # fmt: skip

    def __str__(self) -> str:
        units, plain, (low, high) = self.value.units, f"plain count {self.plug_in:.3g}", self.limits
        if self.verdict == CONSTANT:
            return self.words
        if self.verdict in (LOWER_BOUND, SATURATED):
            ceiling = math.log2(self.value.observations)
            filled = f", {percent(self.plug_in / ceiling)} of log2 N" if ceiling else ""
            return f"between {shown(low)} and {shown(high)} bits of {units:,}; {self.value.samples:,} samples cannot tell ({plain}{filled})"
        share = (
            f"; {percent(min(1.0, self.c2 / self.allowed))} of what its firing rates allow ({shown(self.allowed)} bits)"
            if self.allowed
            else ""
        )
        within = (
            f"[{low:.4g}, {high:.4g}]"
            if self.verdict != EXTRAPOLATED
            else f"extrapolated, between {shown(low)} and {shown(high)},"
        )
        return f"{self.c2:.4g} bits {within} of {units:,} ({percent(self.c2 / units)}){share}; {plain}"

    def __repr__(self) -> str:
        try:
            return f"<Trust {self.verdict}: {self}>"
        except SiteError as error:  # of a sketch
            return f"<Trust, not to be told: {error}>"


def trust_in(value: StateCounts) -> Trust:
    """How far the entropy of these states can be trusted.  Raises `EmptyTally` where nothing was observed."""
    check_observed(value)
    return value.remember("trust", lambda: Trust(value))


def shown(bits: float) -> str:
    """Bits in three digits, never as a power of ten.

    >>> shown(15.512), shown(1214.2)
    ('15.5', '1,214')
    """
    return f"{bits:.3g}" if bits < 1000 else f"{bits:,.0f}"


def needed_words(trust: Trust, coverage: float = 0.9) -> str:
    """The samples a coverage would take, in words: "2,000 to 3,500 samples", "at least 5,000 samples"."""
    low, high = trust.needed(coverage)
    if high <= trust.value.samples:
        return "enough samples"
    if math.isinf(high):
        return f"at least {rounded(low)} samples"
    return f"{rounded(low)} to {rounded(high)} samples"


def rounded(count: float) -> str:
    """A number of samples with two digits.

    >>> rounded(133.2), rounded(48_712.0)
    ('130', '49,000')
    """
    if not math.isfinite(count) or count > 1e15:
        return "10^15"
    digits = max(0, math.floor(math.log10(max(1.0, count))) - 1)
    return f"{round(count / 10**digits) * 10**digits:,}"

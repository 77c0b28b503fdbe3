"""A measured number that says what it is: unit, observations, how far it can be trusted."""

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

NAN = math.nan
UNDERSAMPLED = 0.9
"""Coverage below which a number without a verdict is only a bound: one further observation in ten would be a state never seen."""

MEASURED, CORRECTED, EXTRAPOLATED = "measured", "corrected", "extrapolated"
LOWER_BOUND, SATURATED, CONSTANT = "lower bound only", "saturated", "constant"
VERDICTS = (CONSTANT, MEASURED, CORRECTED, EXTRAPOLATED, LOWER_BOUND, SATURATED)
"""Those that promise most come first."""
UNPROVEN = VERDICTS[3:]
"""Verdicts under which a number has no 95 % interval."""


@dataclass(frozen=True, eq=False)
class Jackknife:
    """A number with one sample left out after the other: where its interval comes from, and what pairs it with others of the same samples.

    **Fields:** `ids` of the kept samples and `values` of the number without each; `samples` M seen in all; `below` and `above` what the
    value itself may be off, beside its standard error; `sizes` where groups of samples are left out and not single ones: how many are in
    each, `ids` then being the groups' numbers.
    """

    ids: NDArray[np.int64]
    values: NDArray[np.float64]
    samples: int
    below: float = 0.0
    above: float = 0.0
    sizes: NDArray[np.int64] | None = None


@dataclass(frozen=True, eq=False)
class Reading:
    """One number (or one per unit, map, transformation) with what it is measured in and what it rests on.

    **Fields:** `value` float, or an array with one number per unit; `low`, `high` the interval, NaN where none is known;
    `observations` states seen (sample × position); `samples` items of the data; `measured_in` the unit; `coverage` the estimated
    share of further observations, in further samples, that would be states already seen; `ceiling` the largest value these data could
    have given; `bound` "≥" or "≤" where the value is only a bound; `items` which units or groups a count speaks of; `note` in words;
    `verdict` how far it can be trusted; `jackknife` what its interval was made of; `parts` the means whose quotient it is, where it is one.

    `low` and `high` are a 95 % interval where the verdict is measured or corrected, and a bracket under every other.  `float(reading)` is the
    value; one that the data cannot show prints as a bound or as its bracket.

    >>> print(Reading(0.108, measured_in="of 100 bits", coverage=0.02, bound="≥", verdict="saturated"))
    ≥ 0.108 of 100 bits (saturated: coverage 2 %)
    >>> print(Reading(16.9, 15.5, 56.0, measured_in="bits", coverage=0.02, bound="≥", verdict="saturated"))
    between 15.5 and 56 bits (saturated: coverage 2 %)
    """

    value: float | NDArray[Any]
    low: float = NAN
    high: float = NAN
    observations: int = 0
    samples: int = 0
    measured_in: str = ""
    coverage: float = NAN
    ceiling: float = NAN
    bound: str = ""
    items: tuple[Any, ...] = ()
    note: str = ""
    verdict: str = ""
    jackknife: Jackknife | None = field(default=None, repr=False)
    parts: tuple["Reading", ...] = field(default=(), repr=False)

    @property
    def undersampled(self) -> bool:
        """Whether the value says more about the sample size than about the layer: by its verdict, else by a coverage below 0.9."""
        return self.verdict in UNPROVEN if self.verdict else self.coverage < UNDERSAMPLED

    @property
    def bracketed(self) -> bool:
        """Whether the two bounds are all that can be said."""
        return self.verdict in (LOWER_BOUND, SATURATED) and not math.isnan(self.low) and not math.isnan(self.high)

    @property
    def numbers(self) -> NDArray[np.float64]:
        """The values without those that are undefined."""
        values = np.asarray(self.value, np.float64).reshape(-1)
        return values[~np.isnan(values)]

    def __float__(self) -> float:
        if np.ndim(self.value):
            raise TypeError(
                f"float(reading): this reading holds {np.size(self.value)} numbers, not one. Take `reading.value` for the array."
            )
        return float(self.value)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        return np.array(self.value, dtype=dtype, copy=copy) if copy else np.asarray(self.value, dtype=dtype)

    def __str__(self) -> str:
        if np.ndim(self.value):
            known = self.numbers
            low, middle, high = np.quantile(known, [0.05, 0.5, 0.95]) if known.size else (NAN, NAN, NAN)
            text = f"{np.size(self.value):,} numbers: 5/50/95 % {low:.3g} / {middle:.3g} / {high:.3g}"
        else:
            text = "undefined" if math.isnan(float(self.value)) else f"{float(self.value):.4g}"
        if self.bracketed:
            text = f"between {self.low:.4g} and {self.high:.4g}"
        elif self.bound:
            text = f"{self.bound} {text}"
        if self.measured_in:
            text += f" {self.measured_in}"
        if not self.bracketed and self.low < self.high:
            within = ", between {:.4g} and {:.4g}" if self.verdict == EXTRAPOLATED else " [{:.4g}, {:.4g}]"
            text += within.format(self.low, self.high)
        remarks = [f"{self.verdict or 'undersampled'}: coverage {percent(self.coverage)}"] if self.undersampled else []
        remarks += [self.note] if self.note else []
        return text + (f" ({'; '.join(remarks)})" if remarks else "")

    def __repr__(self) -> str:
        return f"<Reading {self}; {self.observations:,} observations of {self.samples:,} samples>"


def percent(share: float) -> str:
    """A share in words that never round to certainty: 0.9996 is "> 99.9 %", not "100 %"."""
    if math.isnan(share):
        return "unknown"
    if 0.999 < share < 1:
        return "> 99.9 %"
    if 0 < share < 0.001:
        return "< 0.1 %"
    return f"{100 * share:.3g} %"

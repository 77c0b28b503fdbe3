"""A measured number that says what it is: unit, observations, how far it can be trusted."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

NAN = math.nan
UNDERSAMPLED = 0.9
"""Coverage below which a state measure is only a bound: one further observation in ten would be a state never seen."""


@dataclass(frozen=True, eq=False)
class Reading:
    """One number (or one per unit) with what it is measured in and what it rests on.

    **Fields:** `value` float, or an array with one number per unit; `low`, `high` the interval, NaN where none is known;
    `observations` states seen (sample × position); `samples` items of the data; `measured_in` the unit; `coverage` the estimated
    share of further observations, in further samples, that would be states already seen; `ceiling` the largest value these data could
    have given; `bound` "≥" or "≤" where the value is only a bound; `items` which units or groups a count speaks of; `note` in words.

    `float(reading)` is the value; an undersampled one prints as "≥ 0.108 (undersampled: coverage 2 %)".

    >>> print(Reading(0.108, measured_in="of 100 bits", observations=2000, samples=2000, coverage=0.02, bound="≥"))
    ≥ 0.108 of 100 bits (undersampled: coverage 2 %)
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

    @property
    def undersampled(self) -> bool:
        """Whether coverage is known and below 0.9: the value then says more about the sample size than about the layer."""
        return self.coverage < UNDERSAMPLED

    def __float__(self) -> float:
        if np.ndim(self.value):
            raise TypeError(
                f"float(reading): this reading holds {np.size(self.value)} numbers, one per unit. Take `reading.value` for the array."
            )
        return float(self.value)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        return np.array(self.value, dtype=dtype, copy=copy) if copy else np.asarray(self.value, dtype=dtype)

    def __str__(self) -> str:
        if np.ndim(self.value):
            low, middle, high = np.quantile(self.value, [0.05, 0.5, 0.95]) if np.size(self.value) else (NAN, NAN, NAN)
            text = f"{np.size(self.value)} units: 5/50/95 % {low:.3g} / {middle:.3g} / {high:.3g}"
        else:
            text = f"{float(self.value):.4g}"
        if self.bound:
            text = f"{self.bound} {text}"
        if self.measured_in:
            text += f" {self.measured_in}"
        if not math.isnan(self.low) and not math.isnan(self.high):
            text += f" [{self.low:.4g}, {self.high:.4g}]"
        remarks = [f"undersampled: coverage {percent(self.coverage)}"] if self.undersampled else []
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

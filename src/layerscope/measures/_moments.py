"""Mean and spread of the activations themselves, unit by unit."""

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from .._errors import EmptyTally
from .._reading import Reading
from ..tallies import Moments, UnitMoments
from ._abstract import AbstractMeasure


@dataclass(frozen=True)
class Activation(AbstractMeasure[UnitMoments]):
    """How large activations are: their mean or standard deviation per unit, over samples and positions.

    **Arguments:** `statistic` "mean" or "deviation" (ddof = 1).
    **Reads:** `Moments`. **Gives:** one number a unit, in the activation's own scale. NaN and infinite values are left out and noted.
    **Raises:** `EmptyTally`.
    """

    statistic: Literal["mean", "deviation"] = "mean"
    name: ClassVar[str] = "activation"

    def __post_init__(self) -> None:
        if self.statistic not in ("mean", "deviation"):
            raise ValueError(f"Activation: statistic must be 'mean' or 'deviation', got {self.statistic!r}.")

    @property
    def tally(self) -> Moments:
        return Moments()

    def compute(self, value: UnitMoments) -> Reading:
        if not value.count.size or not value.count.any():
            raise EmptyTally(f"{value.site}: no activation was observed yet. Run data through the model first.")
        if self.statistic == "mean":
            number = np.where(value.count > 0, value.mean, np.nan)
        else:
            degrees = value.count - 1
            number = np.sqrt(np.divide(value.m2, degrees, out=np.full_like(value.m2, np.nan), where=degrees > 0))
        note = f"{value.nonfinite:,} NaN or infinite values left out" if value.nonfinite else ""
        return Reading(number, observations=int(value.count.max()), measured_in="activation", note=note)

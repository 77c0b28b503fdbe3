"""A measure of my own, checked by the library's laws: how evenly do the units of a layer share the firing?"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import nn

import layerscope as ls
from layerscope.measures import AbstractMeasure, entropy
from layerscope.tallies import StateCounts, StateTable
from layerscope.testing import check_measure


@dataclass(frozen=True)
class EffectiveUnits(AbstractMeasure[StateCounts]):
    """How many units the firing is spread over: 2 to the entropy of the units' shares of all firing, between 1 and the number of units."""

    name: ClassVar[str] = "effective units"

    @property
    def tally(self) -> StateTable:
        return StateTable()  # shared with entropy and efficiency: no second pass

    def compute(self, value: StateCounts) -> ls.Reading:
        rates = ls.measures.FiringRate().compute(value)  # raises EmptyTally for us
        number = 2 ** entropy(np.asarray(rates.value)) if np.any(rates.value) else 0.0
        return ls.Reading(
            number,
            observations=value.observations,
            samples=value.samples,
            measured_in=f"of {value.units} units",
            note=rates.note,
        )


check_measure(EffectiveUnits())  # merging, order, sharding, nothing from nothing, renamed units

torch.manual_seed(0)
model = nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))
results = ls.examine(
    model, ls.datasets.digits(size=8, split="test"), measures=[ls.measures.Entropy(), EffectiveUnits()]
)
print(results.table[["layer", "measure", "value", "measured_in", "observations"]].to_string(index=False))

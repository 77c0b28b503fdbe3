"""What the units of a layer share."""

from dataclasses import dataclass, replace
from typing import ClassVar

from .._reading import Jackknife, Reading
from .._states import Per
from ..tallies import StateCounts, StateTable
from ._abstract import AbstractMeasure
from ._entropy import entropy_reading
from ._intervals import clipped, interval
from ._rates import allowed_bits, allowed_in_the_long_run


@dataclass(frozen=True)
class TotalCorrelation(AbstractMeasure[StateCounts]):
    r"""Bits that the units share: $\sum_k h(p_k) - H$, what their firing rates allow less what they use together; 0 for independent units.

    Always against the corrected entropy c2: the plain count of independent units reads 327 bits with 512 units and 10,000 samples.

    **Reads:** `StateTable`. **Gives:** bits, with the interval or bracket of the entropy, [Σh − U, Σh − L].
    **Raises:** `EmptyTally`, `ThresholdError`. **Source:** Watanabe 1960, IBM J. Res. Dev. 4:66.
    """

    per: Per = "position"
    name: ClassVar[str] = "total correlation"

    @property
    def tally(self) -> StateTable:
        return StateTable(self.per)

    def compute(self, value: StateCounts) -> Reading:
        entropy = entropy_reading(value, 1.0, "c2")
        allowed, without = allowed_in_the_long_run(value)
        number = max(0.0, allowed - float(entropy))
        low, high = clipped(allowed - entropy.high, allowed - entropy.low, allowed_bits(value))
        whole = replace(
            entropy,
            value=number,
            low=low,
            high=max(high, number),
            ceiling=allowed,
            bound="≤" if entropy.bound else "",
            jackknife=None,
        )
        j = entropy.jackknife
        if j is None:
            return whole
        j = Jackknife(j.ids, without - j.values, j.samples, j.above, j.below)
        low, high = clipped(*interval(allowed - float(entropy), j), allowed)
        return replace(whole, low=min(low, number), high=max(high, number), jackknife=j)

"""How many states a layer uses under each transformation of its input."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from .._errors import LayerscopeError
from .._reading import NAN, UNPROVEN, Reading
from .._states import Per
from ..tallies import StateCounts, StateTable
from ._abstract import AbstractMeasure
from ._comparison import difference
from ._counts import Estimator
from ._entropy import check_choice, entropy_reading, oddities_in
from ._rates import check_observed


@dataclass(frozen=True)
class EntropyByTransformation(AbstractMeasure[StateCounts]):
    """Whether a layer uses as many firing states for turned inputs as for upright ones: its entropy under each transformation by itself.

    **Arguments:** as of `Entropy`, "c2" being the default here. All transformations saw the same samples, so plain counts are short of the
    truth alike, and c2 may be compared.
    **Reads:** `StateTable` by transformation. **Gives:** bits, one number a transformation, NaN where there is none; the verdict is the
    weakest of all. The note has the mean, the two ends, how many have which verdict, and how many differ from the first: by the paired
    95 % interval of c2, or by brackets that do not overlap. With twenty transformations one differs by chance.
    **Raises:** `EmptyTally`; `ThresholdError` where every unit always fired.
    **Source:** as of `Entropy`.
    """

    order: float = 1
    per: Per = "position"
    estimator: Estimator = "c2"
    name: ClassVar[str] = "entropy by transformation"

    def __post_init__(self) -> None:
        check_choice(self.order, self.estimator)

    @property
    def tally(self) -> StateTable:
        return StateTable(self.per, "transformation")

    def compute(self, value: StateCounts) -> Reading:
        check_observed(value)
        each = [self._under(value, t) for t in value.labels]
        known = [reading for reading in each if isinstance(reading, Reading)]
        if not known:
            raise next(reading for reading in each if not isinstance(reading, Reading))
        bits = np.array([float(reading) if isinstance(reading, Reading) else NAN for reading in each])
        return Reading(
            bits,
            observations=value.observations,
            samples=known[0].samples,
            measured_in=f"bits under each of {len(each)} transformations, {known[0].samples} samples",
            coverage=min(reading.coverage for reading in known),
            bound="≥" if all(reading.bound for reading in known) else "",
            verdict=max((r.verdict for r in known), key=lambda v: UNPROVEN.index(v) if v in UNPROVEN else -1),
            note="; ".join(filter(None, (_ends(bits), _verdicts(each), _differing(each), *oddities_in(value)))),
        )

    def _under(self, value: StateCounts, t: int) -> Reading | LayerscopeError:
        """The entropy under one transformation, or why there is none."""
        try:
            return entropy_reading(value.within(t), float(self.order), self.estimator)
        except LayerscopeError as error:
            return error


def _ends(bits: np.ndarray) -> str:
    if np.isnan(bits).all():
        return ""
    low, high = int(np.nanargmin(bits)), int(np.nanargmax(bits))
    return (
        f"mean {np.nanmean(bits):.4g}, from {bits[low]:.4g} under transformation {low} to {bits[high]:.4g} under {high}"
    )


def _verdicts(each: Sequence[Reading | LayerscopeError]) -> str:
    words = Counter((r.verdict or "plain") if isinstance(r, Reading) else "no number" for r in each)
    return ", ".join(f"{count} {word}" for word, count in words.items())


def _differing(each: Sequence[Reading | LayerscopeError]) -> str:
    """How many use fewer or more states than the first, as far as the samples tell."""
    first, *others = each
    if not isinstance(first, Reading) or np.isnan(first.low):
        return ""
    apart = [difference(r, first) for r in others if isinstance(r, Reading) and not np.isnan(r.low)]
    fewer, more = sum(d.high < 0 for d in apart), sum(d.low > 0 for d in apart)
    return f"of {len(apart)} others {fewer} use fewer states than transformation 0, {more} more"

"""One number of a whole network from a measure of its layers: what the originals call total."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from .._errors import DataError, EmptyTally
from .._reading import NAN, Jackknife, Reading
from .._site import Site
from ._abstract import AbstractMeasure, AbstractSummary
from ._efficiency import names
from ._intervals import interval, paired
from ._spread import check_choice

Together = Literal["mean of layers", "ratio of totals"]


@dataclass(frozen=True)
class Total(AbstractSummary):
    r"""A measure of all layers together, every layer one vote: $\frac1L \sum_l V_l$.

    **Arguments:** `of` the measure, with one number a layer or one a transformation; `aggregate` "mean of layers", or "ratio of totals" for
    a measure that is a quotient, $\sum_l T_l / \sum_l S_l$, which the layers with the largest activations decide.
    **Gives:** the measure's own unit; `items` the layers that count. Layers without a number are named in the note with the reason. The 95 %
    interval leaves out the same groups of samples at every layer; there is none where a layer has none.
    **Raises:** `EmptyTally` if there is no layer, `DataError` for a measure with one number a unit, or a ratio of what is none.
    **Beware:** it depends on which layers were read: name them with the number. `results.total()` leaves the input out, which is no layer.
    """

    of: AbstractMeasure[Any]
    aggregate: Together = "mean of layers"
    name: ClassVar[str] = "total"

    def __post_init__(self) -> None:
        check_choice("Total", "aggregate", self.aggregate, Together)
        if getattr(self.of, "level", "layer") not in ("layer", "transformation"):
            raise DataError(
                f"Total: {self.of!r} has one number a unit, and layers have other units. Take level='layer', or one number a transformation."
            )

    @property
    def measure(self) -> AbstractMeasure[Any]:
        return self.of

    def compute(self, readings: Mapping[Site, Reading]) -> Reading:
        if not readings:
            raise EmptyTally("Total: there is no layer to take it of. Measure at least one layer first.")
        out = {site: reading for site, reading in readings.items() if not np.isfinite(reading.value).all()}
        used = {site: reading for site, reading in readings.items() if site not in out}
        reasons = [f"left out: {site} ({reading.note or 'no number'})" for site, reading in out.items()]
        if not used:
            return Reading(NAN, measured_in="total", note="; ".join(["no layer has a number", *reasons]))
        parts = self._parts([*used.values()])
        first = next(iter(used.values()))
        value: Any = self._together([np.mean([np.asarray(r.value) for r in part], axis=0) for part in parts])
        jackknife = self._jackknife(parts) if not np.ndim(value) else None
        low, high = (NAN, NAN) if jackknife is None else interval(float(value), jackknife)
        layers = f"{'mean' if len(parts) == 1 else 'ratio of totals'} of {len(used)} layers"
        return Reading(
            value if np.ndim(value) else float(value),
            low=max(low, 0.0) if all(r.low >= 0 for r in used.values()) else low,
            high=high,
            observations=max(r.observations for r in used.values()),
            samples=max(r.samples for r in used.values()),
            measured_in=f"{first.measured_in}, {layers}",
            items=tuple(map(str, used)),
            note="; ".join([names(used), *reasons]),
            jackknife=jackknife,
        )

    def _parts(self, used: Sequence[Reading]) -> list[list[Reading]]:
        """What is averaged over the layers: the numbers themselves, or numerators and denominators."""
        shapes = {np.shape(reading.value) for reading in used}
        if len(shapes) > 1 or (shapes != {()} and not self.of.tally.grid):
            raise DataError(
                f"Total: {self.of!r} gives numbers of units, and those of two layers are no pairs. Take a measure with one number a layer."
            )
        if self.aggregate == "mean of layers":
            return [[*used]]
        if any(len(reading.parts) != 2 for reading in used):
            raise DataError(
                f"Total: {self.of!r} is no quotient of two means over a layer. Take aggregate='mean of layers', or a normalized measure with "
                "level='layer'."
            )
        return [[reading.parts[k] for reading in used] for k in (0, 1)]

    @staticmethod
    def _together(means: Sequence[NDArray[np.float64]]) -> Any:
        if len(means) == 1:
            return means[0]
        return means[0] / means[1] if means[1] > 0 else NAN

    def _jackknife(self, parts: Sequence[Sequence[Reading]]) -> Jackknife | None:
        """The total without each group of samples, the same at every layer; None where a layer has no interval of its own."""
        each = [reading.jackknife for part in parts for reading in part]
        known = [jackknife for jackknife in each if jackknife is not None]
        together = paired(known) if len(known) == len(each) else None
        if together is None:
            return None
        values, shared = together
        layers = len(values) // len(parts)
        means = [np.mean(values[k * layers : (k + 1) * layers], axis=0) for k in range(len(parts))]
        return replace(shared, values=means[0] if len(means) == 1 else means[0] / means[1])

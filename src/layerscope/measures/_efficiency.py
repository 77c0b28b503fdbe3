"""How much of its room a layer, and a network, uses: state efficiency and the artificial intelligence quotient."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from .._errors import EmptyTally
from .._reading import Reading
from .._site import Site
from .._states import Per
from ..tallies import StateCounts, StateTable
from ._abstract import AbstractMeasure, AbstractSummary
from ._entropy import check_order, entropy, state_reading


@dataclass(frozen=True)
class Efficiency(AbstractMeasure[StateCounts]):
    r"""State efficiency: the share of a layer's room for states that it uses.

    $\eta = H_\alpha / n$ for $n$ units, or $H_{\alpha} / H_{\alpha_2}$ where `against` gives a second order.

    **Arguments:** `order` α of the numerator; `against` α₂ < α of the denominator, None for the number of units; `per` what one state is.
    **Reads:** `StateTable`. **Gives:** a share within [0, 1]; with coverage below 0.9 a lower bound (against units).
    **Raises:** `EmptyTally`, `ThresholdError` as `Entropy`.
    **Beware:** with N observations it cannot pass log2(N) / n: an undersampled layer's efficiency tells the sample size.
    **Source:** Schaub & Hotaling 2020, arXiv:2006.02909.
    """

    order: float = 1
    against: float | None = None
    per: Per = "position"
    name: ClassVar[str] = "efficiency"

    def __post_init__(self) -> None:
        if self.against is not None and not check_order(self.order) > check_order(self.against):
            raise ValueError(
                f"efficiency: order {self.order} against {self.against}: the order above must be the larger one, as H falls with α. "
                "Swap them, or leave `against` out to divide by the number of units."
            )
        check_order(self.order)

    @property
    def tally(self) -> StateTable:
        return StateTable(self.per)

    def compute(self, value: StateCounts) -> Reading:
        if self.against is None:
            return state_reading(
                value, lambda n: entropy(n, self.order) / value.units, f"of {value.units} bits", 1 / max(1, value.units)
            )

        def ratio(n: NDArray[np.int64]) -> float:
            below = entropy(n, self.against or 0.0)
            return entropy(n, self.order) / below if below > 0 else math.nan

        unit = f"of the entropy of order {self.against:g}"
        reading = state_reading(value, ratio, unit, math.nan)
        # above and below the line the plain count is low, so undersampled the ratio may be off either way
        note = "a ratio of two lower bounds is no bound" if reading.undersampled else ""
        return replace(reading, bound="", note="; ".join(filter(None, (reading.note, note))))


def geometric_mean(values: Iterable[float]) -> float:
    """The geometric mean; 0.0 as soon as one value is 0."""
    array = np.asarray(list(values), np.float64)
    return 0.0 if (array == 0).any() else float(np.exp(np.log(array).mean()))


@dataclass(frozen=True)
class NetworkEfficiency(AbstractSummary):
    r"""How much of its room for states the whole network uses: $\left(\prod_l \eta_l\right)^{1/L}$, the geometric mean over layers.

    **Arguments:** `order` α; `allow_undersampled` takes in layers whose efficiency is only a lower bound.
    **Gives:** a share within [0, 1]. Undersampled layers are left out and named in the note; if none is left, NaN and the reason.
    One layer of efficiency 0 makes it 0.0, and the note names the layer.
    **Raises:** `EmptyTally` if there is no layer.
    **Source:** Schaub & Hotaling 2020, arXiv:2006.02909.
    """

    order: float = 1
    allow_undersampled: bool = False
    name: ClassVar[str] = "network efficiency"

    @property
    def measure(self) -> Efficiency:
        return Efficiency(self.order)

    def compute(self, readings: Mapping[Site, Reading]) -> Reading:
        if not readings:
            raise EmptyTally("network efficiency: there is no layer to take it of. Measure at least one layer first.")
        thin = [site for site, reading in readings.items() if reading.undersampled]
        unknown = [site for site, reading in readings.items() if math.isnan(float(reading))]
        out = {*unknown} if self.allow_undersampled else {*thin, *unknown}
        used = {site: reading for site, reading in readings.items() if site not in out}
        notes: list[str] = []
        if out:
            reason = "undersampled" if set(thin) >= out else "undersampled or without a value"
            notes.append(f"left out, {reason}: {names(sorted(out, key=str))}")
        if not used:
            notes.append("no layer is left; more data, or allow_undersampled=True for a lower bound")
            value = math.nan
        else:
            notes.append(f"over {len(used)} of {len(readings)} sites: {names(used)}")
            value = geometric_mean(float(reading) for reading in used.values())
            if value == 0:
                notes.append(f"efficiency 0 at {names(s for s, r in used.items() if float(r) == 0)}")
        some = list(used.values()) or list(readings.values())
        return Reading(
            value,
            observations=sum(r.observations for r in some),
            samples=max(r.samples for r in some),
            measured_in="geometric mean of efficiencies",
            coverage=min((r.coverage for r in used.values()), default=math.nan),
            bound="≥" if any(r.bound for r in used.values()) else "",
            note="; ".join(notes),
        )


def names(sites: Iterable[Site], most: int = 6) -> str:
    """Sites in words, cut after a few."""
    listed = [str(site) for site in sites]
    return ", ".join(listed[:most]) + (f" and {len(listed) - most} more" if len(listed) > most else "")


def aiq(net_efficiency: float, accuracy: float, weight: int | np.integer[Any]) -> float:
    r"""Artificial intelligence quotient: accuracy and network efficiency in one number, $(A^w \eta)^{1/(w+1)}$.

    **Arguments:** `net_efficiency` η and `accuracy` A within [0, 1]; `weight` w, an integer ≥ 1, how much accuracy counts.
    **Raises:** `ValueError` for a weight that is no integer ≥ 1.
    **Source:** Schaub & Hotaling 2020, arXiv:2006.02909.

    >>> aiq(0.5, 0.98, 2)
    0.7830822594569777
    """
    whole = isinstance(weight, int | np.integer)  # pyright: ignore[reportUnnecessaryIsInstance] - users write 1.5 all the same
    if isinstance(weight, bool) or not whole or weight < 1:
        raise ValueError(
            f"aIQ: the weight must be an integer ≥ 1, got {weight!r}. The default is 2: accuracy counts twice."
        )
    return float((accuracy**weight * net_efficiency) ** (1 / (int(weight) + 1)))

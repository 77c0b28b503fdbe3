"""How much of its room a layer, and a network, uses: state efficiency and the artificial intelligence quotient."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

import numpy as np

from .._errors import EmptyTally
from .._reading import UNPROVEN, VERDICTS, Jackknife, Reading, percent
from .._site import Site
from .._states import Per
from ..tallies import SketchCounts, StateCounts, StateTable
from ._abstract import AbstractMeasure, AbstractSummary
from ._counts import Estimator
from ._entropy import AWARE, check_choice, check_order, entropy_reading, notes_on
from ._intervals import clipped, interval, paired
from ._rates import allowed_bits, allowed_in_the_long_run, check_observed
from ._trust import trust_in


@dataclass(frozen=True)
class Efficiency(AbstractMeasure[StateCounts]):
    r"""State efficiency: the share of a layer's room for states that it uses.

    $\eta = H_\alpha / n$ for $n$ units; $H_{\alpha} / H_{\alpha_2}$ where `against` gives a second order; or $H / \sum_k h(p_k)$, the share
    of what the firing rates $p_k$ allow, against="rates": 1 for independent units, however rarely they fire.

    **Arguments:** `order` α of the numerator; `against` α₂ < α of the denominator, "rates", or None for the number of units; `per` what
    one state is; `estimator` of the entropy as in `Entropy`.
    **Reads:** `StateTable`. **Gives:** a share within [0, 1], its verdict, interval or bracket that of the entropy; NaN where no unit ever
    changed and it is taken against rates.
    **Raises:** `EmptyTally`, `ThresholdError`, `ValueError` as `Entropy`.
    **Beware:** with N observations the plain count cannot pass log2(N) / n: an undersampled layer's efficiency tells the sample size.
    **Source:** Schaub & Hotaling 2020, arXiv:2006.02909; against rates: 1 - total correlation / Σh (Watanabe 1960).
    """

    order: float = 1
    against: float | Literal["rates"] | None = None
    per: Per = "position"
    estimator: Estimator = "plug-in"
    name: ClassVar[str] = "efficiency"

    def __post_init__(self) -> None:
        check_choice(self.order, self.estimator)
        if self.against == "rates":
            if self.order != 1:
                raise ValueError(
                    f"efficiency: against='rates' compares with Σ h(p) of order 1, asked for order {self.order:g}. Leave `order` out."
                )
        elif self.against is not None and not check_order(self.order) > check_order(self.against):
            raise ValueError(
                f"efficiency: order {self.order} against {self.against}: the order above must be the larger one, as H falls with α. "
                "Swap them, or leave `against` out to divide by the number of units."
            )

    @property
    def tally(self) -> StateTable:
        return StateTable(self.per)

    def compute(self, value: StateCounts | SketchCounts) -> Reading:
        above = entropy_reading(value, float(self.order), self.estimator)
        if self.against is None:
            return scaled(above, 1 / max(1, value.units), f"of {value.units} bits")
        if self.against == "rates":
            return self._of_rates(value, above)
        below = float(entropy_reading(value, float(self.against), self.estimator))
        # above and below the line the plain count is low, so undersampled the ratio may be off either way
        reading = scaled(above, 1 / below if below > 0 else math.nan, f"of the entropy of order {self.against:g}")
        note = "a ratio of two lower bounds is no bound" if reading.undersampled else ""
        note = note if below > 0 else f"the entropy of order {self.against:g} is 0"
        note = "; ".join(filter(None, (reading.note, note)))
        return replace(reading, low=math.nan, high=math.nan, ceiling=math.nan, bound="", note=note, jackknife=None)

    def _of_rates(self, value: StateCounts | SketchCounts, above: Reading) -> Reading:
        j = above.jackknife
        if isinstance(value, SketchCounts) or self.estimator not in AWARE:
            allowed, without = allowed_bits(value), np.empty(0)
        else:
            allowed, without = allowed_in_the_long_run(value)
        unit = f"of the {allowed:.4g} bits its firing rates allow"
        if not allowed > 0:
            note = "; ".join(filter(None, (above.note, "no unit varies, so the firing rates allow no bits")))
            return replace(scaled(above, math.nan, unit), note=note, bound="", jackknife=None)
        reading = scaled(above, 1 / allowed, unit)
        if j is not None and (without > 0).all():  # else no unit changes without one sample: H's interval stands
            j = Jackknife(j.ids, j.values / without, j.samples, j.below / allowed, j.above / allowed)
            low, high = interval(float(reading), j)
            reading = replace(reading, low=low, high=high, jackknife=j)
        low, high = clipped(reading.low, reading.high, 1.0)
        return replace(reading, value=min(float(reading), 1.0), low=low, high=high, ceiling=min(1.0, reading.ceiling))


def scaled(reading: Reading, factor: float, measured_in: str) -> Reading:
    """A reading times a positive number, with everything that is a number of the same kind."""
    j = reading.jackknife
    return replace(
        reading,
        value=float(reading) * factor,
        low=reading.low * factor,
        high=reading.high * factor,
        ceiling=reading.ceiling * factor,
        measured_in=measured_in,
        jackknife=j and replace(j, values=j.values * factor, below=j.below * factor, above=j.above * factor),
    )


@dataclass(frozen=True)
class Saturation(AbstractMeasure[StateCounts]):
    """How much of a layer's room these data could show at all: log2 N / n, at most 1.

    Below 1 no plain count can read a higher efficiency, whatever the layer does.  A meter of the *data*: dividing an entropy by it gives
    1.000 for every layer that is not resolved, and a number that falls as data are added.

    **Reads:** `StateTable`. **Gives:** a share of n bits. **Raises:** `EmptyTally`.
    """

    per: Per = "position"
    name: ClassVar[str] = "saturation"

    @property
    def tally(self) -> StateTable:
        return StateTable(self.per)

    def compute(self, value: StateCounts) -> Reading:
        check_observed(value)
        shown = math.log2(value.observations)
        plain = trust_in(value).plug_in
        note = f"the plain count is {percent(plain / shown)} of log2 N" if shown else ""
        return Reading(
            min(1.0, shown / max(1, value.units)),
            observations=value.observations,
            samples=value.samples,
            measured_in=f"of {value.units} bits",
            note="; ".join(filter(None, (note, *notes_on(value)))),
        )


def geometric_mean(values: Iterable[float]) -> float:
    """The geometric mean; 0.0 as soon as one value is 0."""
    array = np.asarray(list(values), np.float64)
    return 0.0 if (array == 0).any() else float(np.exp(np.log(array).mean()))


@dataclass(frozen=True)
class NetworkEfficiency(AbstractSummary):
    r"""How much of its room for states the whole network uses: $\left(\prod_l \eta_l\right)^{1/L}$, the geometric mean over layers.

    **Arguments:** `order` α; `allow_undersampled` takes in layers whose efficiency is only a lower bound; `estimator` as in `Entropy`.
    **Gives:** a share within [0, 1]. Undersampled layers are left out and named in the note; if none is left, NaN and the reason.
    One layer of efficiency 0 makes it 0.0, and the note names the layer. With "c2" an interval, from leaving out the same samples at
    every layer.
    **Raises:** `EmptyTally` if there is no layer.
    **Source:** Schaub & Hotaling 2020, arXiv:2006.02909.
    """

    order: float = 1
    allow_undersampled: bool = False
    estimator: Estimator = "plug-in"
    name: ClassVar[str] = "network efficiency"

    @property
    def measure(self) -> Efficiency:
        return Efficiency(self.order, estimator=self.estimator)

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
        jackknife = _geometric_jackknife(list(used.values()), value)
        low, high = clipped(*interval(value, jackknife), 1.0) if jackknife else (math.nan, math.nan)
        return Reading(
            value,
            low,
            high,
            observations=sum(r.observations for r in some),
            samples=max(r.samples for r in some),
            measured_in="geometric mean of efficiencies",
            coverage=min((r.coverage for r in used.values()), default=math.nan),
            bound="≥" if any(r.bound for r in used.values()) else "",
            note="; ".join(notes),
            verdict=weakest(reading.verdict for reading in used.values()),
            jackknife=jackknife,
        )


def weakest(verdicts: Iterable[str]) -> str:
    """The verdict that promises least; empty where one is missing."""
    found = set(verdicts)
    return max(found, key=VERDICTS.index) if found <= {*VERDICTS} and found else ""


def _geometric_jackknife(readings: list[Reading], value: float) -> Jackknife | None:
    """The geometric mean without each sample that every layer kept; None where a layer has no interval of its own, or is 0."""
    each = [r.jackknife for r in readings if r.jackknife is not None and r.verdict not in UNPROVEN]
    together = paired(each) if each and len(each) == len(readings) and value > 0 else None
    if together is None:
        return None
    values = np.exp(np.mean([np.log(np.maximum(v, 1e-12)) for v in together[0]], axis=0))
    below, above = (value * float(np.mean([side / float(r) for side, r in zip(sides, readings, strict=True)]))
                    for sides in ([j.below for j in each], [j.above for j in each]))  # fmt: skip
    return replace(together[1], values=values, below=below, above=above)


def names(sites: Iterable[Site | str], most: int = 6) -> str:
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

"""What the report needs to know of the states of each site, computed once from the tallies."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._errors import LayerscopeError
from .._reading import EXTRAPOLATED, Reading
from .._results import Results, reading_or_why
from .._site import Site
from .._view import View
from ..inventory import Layer
from ..measures import (
    AlwaysOnUnits,
    DeadUnits,
    Efficiency,
    Entropy,
    EqualUnits,
    FiringRate,
    RedundantUnits,
    Trust,
    rarefaction,
    trust_in,
)
from ..tallies import AbstractTally, StateCounts, StateSketch, StateTable

FLAT = 0.1
"""Bits by which the entropy may still move, when the samples are doubled, for a curve to be called flat."""
FROM = 16
"""Curves begin at a sixteenth of the samples: below, thinning by mean and variance is no longer accurate to 0.1 bit."""
POINTS = 9
CORRECTED_ENTROPY = Entropy(estimator="c2")
NEVER = "never reached by the data"


def digits(bits: float) -> str:
    """Bits with two places, three digits from 100 up.

    >>> digits(5.0649), digits(0.0), digits(239.2)
    ('5.06', '0', '239')
    """
    return "0" if bits == 0 else f"{bits:.2f}" if bits < 100 else f"{bits:.0f}"


@dataclass(frozen=True, eq=False)
class SiteStates:
    """One site: its readings, and what is behind them.  `counts` is None where no state was counted, and `problem` then says why.

    `entropy` is the plain count, `corrected` and `efficiency` are by c2, with an interval or a bracket.
    """

    layer: Layer
    entropy: Reading
    corrected: Reading
    efficiency: Reading
    counts: StateCounts | None = None
    rates: NDArray[np.float64] = field(default_factory=lambda: np.empty(0))
    states: int = 0
    dead: int = 0
    always_on: int = 0
    copies: int = 0
    redundant: int = 0
    problem: str = ""

    @property
    def name(self) -> str:
        return str(self.layer.site)

    @property
    def units(self) -> int:
        return self.counts.units if self.counts is not None else self.layer.units

    @property
    def measured(self) -> bool:
        """Whether the entropy is a number to believe: known, and measured, corrected or constant."""
        return self.counts is not None and not math.isnan(float(self.entropy)) and not self.entropy.undersampled

    @property
    def trust(self) -> Trust:
        assert self.counts is not None
        return trust_in(self.counts)

    @property
    def verdict(self) -> str:
        """How far the entropy can be trusted, in a word or three; empty where there is none."""
        return self.entropy.verdict

    @property
    def lead(self) -> str:
        """The entropy as it may be said: "5.07 [5.04, 5.09]", "≈ 9.41 (8.92 to 10.1)", "12.2 to 35", "0", or "≥ 17.4" of a sketch."""
        reading = self.corrected
        if self.counts is None:
            return f"{reading.bound or '≈'} {digits(float(reading))}"
        low, high = (digits(limit) for limit in (reading.low, reading.high))
        if self.measured:
            return f"{digits(float(reading))} [{low}, {high}]" if reading.low < reading.high else digits(float(reading))
        return f"≈ {digits(float(reading))} ({low} to {high})" if self.verdict == EXTRAPOLATED else f"{low} to {high}"

    @property
    def undersampled(self) -> bool:
        return self.counts is not None and not math.isnan(float(self.entropy)) and self.entropy.undersampled

    @property
    def independent(self) -> float:
        """Bits the layer would have if its units fired independently at their own rates, Σ h(p)."""
        p = self.rates[(self.rates > 0) & (self.rates < 1)]
        return float(-(p * np.log2(p) + (1 - p) * np.log2(1 - p)).sum() + 0.0)

    @cached_property
    def thinned(self) -> NDArray[np.int64]:
        """Numbers of samples at which the curve of the entropy is drawn, from a sixteenth of them to all."""
        total = self.entropy.samples
        return np.unique(np.geomspace(max(1, math.ceil(total / FROM)), total, POINTS).round().astype(np.int64))

    @cached_property
    def curve(self) -> NDArray[np.float64]:
        """The entropy that so many of the samples would have shown."""
        assert self.counts is not None
        return np.array([rarefaction(self.counts, int(t)) for t in self.thinned])

    @cached_property
    def ceiling(self) -> NDArray[np.float64]:
        """The most that so many samples could show: all their observations different, or all n units free."""
        rows = self.entropy.observations * self.thinned / self.entropy.samples
        return np.minimum(np.log2(np.maximum(rows, 1)), self.units)

    @cached_property
    def growth(self) -> float:
        """Bits the entropy gained when the samples were doubled, from half of them to all; NaN where there is no half."""
        if self.counts is None or self.counts.samples < 2 or math.isnan(float(self.entropy)):
            return math.nan
        return float(self.entropy) - rarefaction(self.counts, self.counts.samples // 2)


@dataclass(frozen=True, eq=False)
class States:
    """All sites that were read, in the order of the forward pass, and their corrected entropies in the untrained network, where asked for."""

    results: Results
    sites: tuple[SiteStates, ...]
    untrained: Mapping[Site, Reading]

    @property
    def measured(self) -> list[SiteStates]:
        return [site for site in self.sites if site.measured]

    @property
    def undersampled(self) -> list[SiteStates]:
        return [site for site in self.sites if site.undersampled]

    @property
    def counted(self) -> list[SiteStates]:
        return [site for site in self.sites if site.counts is not None]

    @property
    def names(self) -> list[str]:
        return [site.name for site in self.sites]

    @property
    def samples(self) -> int:
        """Items of the data; 0 where no state was counted."""
        return max((site.entropy.samples for site in self.sites), default=0)


def states_of(results: Results) -> States:
    """The states of every site; without sites where no measure asked for states."""
    if not _asked(results):
        return States(results, (), {})
    reference = results.references.get("untrained")
    untrained: dict[Site, Reading] = {}
    if reference is not None:
        untrained = {x.site: _reading(reference, x, CORRECTED_ENTROPY) for x in reference.layers.read}
    values = results.values_by_site
    layers = [x for x in results.layers.read if x.site not in values or _counted(values[x.site])]
    return States(results, tuple(_site(results, layer) for layer in layers), untrained)


def _asked(results: Results) -> bool:
    """Whether states were to be counted at all."""
    wanted = any(isinstance(measure.tally, StateTable | StateSketch) for measure in results.measures)
    return wanted or any(_counted(values) for values in results.values_by_site.values())


def _counted(values: Mapping[AbstractTally[Any], Any]) -> bool:
    return any(isinstance(tally, StateTable | StateSketch) for tally in values)


def _reading(results: Results, layer: Layer, measure: Entropy | Efficiency) -> Reading:
    if layer.site not in results.values_by_site:
        return Reading(math.nan, note=NEVER)
    return reading_or_why(View(layer, results.values_by_site[layer.site]), measure)


def _site(results: Results, layer: Layer) -> SiteStates:
    entropy, corrected = _reading(results, layer, Entropy()), _reading(results, layer, CORRECTED_ENTROPY)
    efficiency = _reading(results, layer, Efficiency(estimator="c2"))
    problem = entropy.note if math.isnan(float(entropy)) else ""
    if layer.site not in results.values_by_site:
        return SiteStates(layer, entropy, corrected, efficiency, problem=problem)
    view = View(layer, results.values_by_site[layer.site])
    try:
        if not view.table.observations and not view.table.masked:
            return SiteStates(layer, entropy, corrected, efficiency, problem=NEVER)
        rates = np.asarray(view.reading(FiringRate()).value, np.float64)
        single = [
            int(float(view.reading(measure)))
            for measure in (DeadUnits(), AlwaysOnUnits(), EqualUnits(), RedundantUnits())
        ]
    except LayerscopeError as error:
        return SiteStates(layer, entropy, corrected, efficiency, problem=problem or str(error).splitlines()[0])
    counts = view.table
    return SiteStates(
        layer, entropy, corrected, efficiency, counts, rates, len(counts.records().n), *single, problem=problem
    )

"""What the report needs to know of how far each site moves with the transformations, computed once from the tallies."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Literal, cast

import numpy as np
from numpy.typing import NDArray

from .._errors import LayerscopeError
from .._reading import NAN, Reading
from .._results import Results, reading_or_why
from .._site import Site
from ..inventory import Layer
from ..measures import (
    AbstractGridMeasure,
    AbstractRatio,
    NormalizedSameEquivariance,
    NormalizedVariance,
    SampleVariance,
    TransformationVariance,
)
from ..tallies import AbstractTally, GridMoments
from ._names import plain
from ._state_facts import NEVER

Aggregate = Literal["mean of ratios", "ratio of means"]
APART = 1.25
"""A mean of ratios and a ratio of means that differ by more than this factor tell of two different layers."""


@dataclass(frozen=True, eq=False)
class SiteMovement:
    """One site: how far it moves with the transformations next to how far it moves from sample to sample.

    **Fields:** `ratio` of the layer, NaN with the reason in its note; `other` the same by the other aggregate; `over_t`, `over_samples` what
    was divided; `maps` the ratio of every feature map, NaN where undefined; `back`, `back_other` the same once the transformations were taken
    back, None where that was not measured; `lost` numbers of cells without a ratio, by reason, of `cells`.
    """

    layer: Layer
    ratio: Reading
    other: float = NAN
    over_t: float = NAN
    over_samples: float = NAN
    maps: NDArray[np.float64] = field(default_factory=lambda: np.empty(0))
    back: Reading | None = None
    back_other: float = NAN
    lost: Mapping[str, int] = field(default_factory=dict[str, int])
    cells: int = 0

    @property
    def name(self) -> str:
        return "the input" if self.is_input else str(self.layer.site)

    @property
    def is_input(self) -> bool:
        """Whether it is the input of the model, which is row 0 of every profile, and no layer of it."""
        return self.layer.kind == "input"

    @property
    def units(self) -> int:
        """Feature maps."""
        return len(self.maps) or self.layer.units

    @property
    def known(self) -> bool:
        return math.isfinite(float(self.ratio))

    @property
    def problem(self) -> str:
        """Why there is no ratio; empty where there is one."""
        return "" if self.known else self.ratio.note or "no value has a ratio"

    @property
    def undefined(self) -> int:
        """Cells without a ratio."""
        return sum(self.lost.values())

    @property
    def apart(self) -> bool:
        """Whether mean of ratios and ratio of means tell different stories."""
        return _apart(float(self.ratio), self.other)

    @property
    def back_apart(self) -> bool:
        """The same with the transformations taken back."""
        return self.back is not None and _apart(float(self.back), self.back_other)

    @property
    def lead(self) -> str:
        """The ratio as it may be said: "1.43 [1.38, 1.48]"."""
        return said(self.ratio)


def _apart(one: float, other: float) -> bool:
    known = math.isfinite(one) and math.isfinite(other) and min(one, other) > 0
    return known and max(one, other) / min(one, other) > APART


def said(reading: Reading) -> str:
    """A ratio with its interval, where it has one."""
    value = ratio_digits(float(reading))
    return (
        f"{value} [{ratio_digits(reading.low)}, {ratio_digits(reading.high)}]" if reading.low < reading.high else value
    )


def ratio_digits(ratio: float) -> str:
    """A ratio in as many digits as a reader can use.

    >>> ratio_digits(1.4321), ratio_digits(0.0123), ratio_digits(502.3), ratio_digits(4600000.0), ratio_digits(math.inf)
    ('1.43', '0.012', '502', '4.6e+06', '∞')
    """
    if math.isinf(ratio):
        return "∞"
    if 100 <= ratio < 1e5:
        return f"{ratio:,.0f}"
    return f"{ratio:.2f}" if 0.1 <= ratio < 100 else f"{ratio:.2g}"


@dataclass(frozen=True, eq=False)
class Movement:
    """All sites that were read, the input first, and the same of the reference networks.

    `measure` is the ratio that is told, `back` the one with the transformations taken back, where that was asked for besides.
    """

    results: Results
    sites: tuple[SiteMovement, ...]
    measure: AbstractRatio
    back: AbstractRatio | None
    networks: Mapping[str, Results]

    @cached_property
    def references(self) -> dict[str, dict[Site, Reading]]:
        """The same ratio in the reference networks that have one anywhere."""
        return {
            name: {layer.site: _reading(other, layer, self.measure) for layer in other.layers.read}
            for name, other in self.networks.items()
        }

    @property
    def other(self) -> str:
        """The aggregate that `measure` does not use."""
        return _other(self.measure)

    @property
    def layers(self) -> list[SiteMovement]:
        """The sites of the model: all but its input."""
        return [site for site in self.sites if not site.is_input]

    @property
    def known(self) -> list[SiteMovement]:
        """The layers that have a ratio."""
        return [site for site in self.layers if site.known]

    @property
    def input(self) -> SiteMovement | None:
        return next((site for site in self.sites if site.is_input and site.known), None)

    @property
    def last(self) -> SiteMovement | None:
        """The last layer that was read and has a ratio: what the network made of it all."""
        return self.known[-1] if self.known else None

    @property
    def names(self) -> list[str]:
        return [site.name for site in self.sites]

    @property
    def samples(self) -> int:
        """N; 0 where nothing moved."""
        return max((site.ratio.samples for site in self.sites), default=0)

    @property
    def rows(self) -> int:
        """N · T, the forwards."""
        return max((site.ratio.observations for site in self.sites), default=0)

    @property
    def count(self) -> int:
        """T, the number of transformations."""
        return self.rows // self.samples if self.samples else len(self.results.task.columns)

    @cached_property
    def transformations(self) -> list[str]:
        """Their names in order, as far as the manifest tells."""
        names = names_in(self.results.manifest)
        return names if len(names) == self.count else [f"number {k}" for k in range(1, self.count + 1)]

    @property
    def untransformed(self) -> int | None:
        """The number of the transformation that leaves the input as it is, as far as the manifest tells."""
        k = self.results.manifest.get("untransformed")
        return k if isinstance(k, int) and not isinstance(k, bool) and 0 <= k < self.count else None


def names_in(manifest: Mapping[str, Any]) -> list[str]:
    """The names of the transformations, where the manifest tells them."""
    given = manifest.get("transformations")
    return [plain(str(name)) for name in cast(list[Any], given)] if isinstance(given, list) else []


def movement_of(results: Results) -> Movement:
    """The movement of every site; without sites where no measure asked for it."""
    measure, back = _ratios(results)
    if measure is None:
        return Movement(results, (), NormalizedVariance(), None, {})
    values = results.values_by_site
    layers = [x for x in results.layers.read if x.site not in values or _gridded(values[x.site])]
    networks = {plain(name): other for name, other in results.references.items() if _moved(other)}
    sites = tuple(_site(results, layer, measure, back) for layer in layers)
    return Movement(results, sites, measure, back, networks)


def _ratios(results: Results) -> tuple[AbstractRatio | None, AbstractRatio | None]:
    """The ratio to tell, and the one with the transformations taken back: those asked for, else those that the tallies allow."""
    tallies = [tally for values in results.values_by_site.values() for tally in values]
    recipes = [m.tally for m in results.measures if isinstance(m, AbstractGridMeasure)]
    recipes += [tally for tally in dict.fromkeys(tallies) if isinstance(tally, GridMoments)]
    asked = [replace(m, level="layer") for m in results.measures if isinstance(m, AbstractRatio)]
    asked.sort(key=lambda m: not isinstance(m, NormalizedVariance | NormalizedSameEquivariance))
    made = [
        (NormalizedSameEquivariance if r.aligned else NormalizedVariance)(
            flavour=r.flavour, pool=r.pool, by_class=r.strata is not None
        )
        for r in recipes
    ]
    found: list[AbstractRatio] = []
    for aligned in (False, True):
        found += [m for m in (*asked, *made) if m.aligned == aligned][:1]
    return (found[0], found[1] if len(found) > 1 else None) if found else (None, None)


def _moved(results: Results) -> bool:
    """Whether it was shown the transformed data; shuffled labels, for one, are a reference of states alone."""
    return any(_gridded(values) for values in results.values_by_site.values())


def _gridded(values: Mapping[AbstractTally[Any], Any]) -> bool:
    return any(isinstance(tally, GridMoments) for tally in values)


def _reading(results: Results, layer: Layer, measure: AbstractGridMeasure) -> Reading:
    if layer.site not in results.values_by_site:
        return Reading(math.nan, note=NEVER)
    reading = reading_or_why(results[layer.site], measure)
    return replace(reading, note=reading.note.removeprefix(f"{layer.site}: ").removeprefix("not measured: "))


def _site(results: Results, layer: Layer, measure: AbstractRatio, back: AbstractRatio | None) -> SiteMovement:
    ratio = _reading(results, layer, measure)
    taken_back = None if back is None else _reading(results, layer, back)
    if layer.site not in results.values_by_site:
        return SiteMovement(layer, ratio, back=taken_back)
    alike: dict[str, Any] = {
        "flavour": measure.flavour,
        "pool": measure.pool,
        "by_class": measure.by_class,
        "ddof": measure.ddof,
    }
    view = results[layer.site]
    try:
        value = view.value(measure.tally)
        parts = measure.ratios(value)
        maps = np.asarray(replace(measure, level="map").compute(value).value, np.float64)
    except LayerscopeError:
        return SiteMovement(layer, ratio, back=taken_back)
    lost: Counter[str] = Counter()
    for part in parts:
        lost.update({"dead": part.dead, "constant": part.constant, "moved by the transformation only": part.only_t})
        lost.update({"not finite": part.unknown})
    spreads = (math.nan, math.nan)
    if not measure.aligned:
        both = (TransformationVariance(**alike), SampleVariance(**alike))
        spreads = tuple(float(m.compute(value)) for m in both)
    return SiteMovement(
        layer,
        ratio,
        float(replace(measure, aggregate=_other(measure)).compute(value)),
        *spreads,
        maps=maps,
        back=taken_back,
        back_other=NAN if back is None else float(_reading(results, layer, replace(back, aggregate=_other(back)))),
        lost={why: count for why, count in lost.items() if count},
        cells=sum(part.cells for part in parts),
    )


def _other(measure: AbstractRatio) -> Aggregate:
    """The aggregate that it does not use."""
    return "ratio of means" if measure.aggregate == "mean of ratios" else "mean of ratios"


def ranked(sites: Sequence[SiteMovement]) -> list[tuple[float, SiteMovement, int]]:
    """Every feature map of the layers that has a ratio, from the most invariant to the least: ratio, site, number of the map."""
    found = [
        (float(ratio), site, k) for site in sites for k, ratio in enumerate(site.maps.tolist()) if math.isfinite(ratio)
    ]
    return sorted(found, key=lambda each: each[0])


def ends_of(site: SiteMovement) -> tuple[int, int]:
    """The numbers of the most and the least invariant feature map, of those that have a ratio."""
    finite = np.isfinite(site.maps)
    low, high = np.where(finite, site.maps, np.inf), np.where(finite, site.maps, -np.inf)
    return int(low.argmin()), int(high.argmax())

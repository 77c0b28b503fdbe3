"""What the report needs to know of what each site's states tell about the labels, computed once from the tallies."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from .._errors import LayerscopeError
from .._reading import NAN, Reading
from .._results import Results, reading_or_why
from .._site import Site
from ..inventory import Layer
from ..measures import ClassStates, Entropy, Information, classes_of, rarefaction
from ..tallies import StateCounts, StateTable

BY_LABEL = StateTable(strata="label")


@dataclass(frozen=True, eq=False)
class SiteLabels:
    """One site whose states were counted by label.

    **Fields:** `information` I(state; class) in bits, NaN with the reason in its note; `plain` its plain count, and `by_chance` what of that random
    labels would show on average; `classes` the classes, ascending by label; `there_is` H(class), the bits there are to tell.
    """

    layer: Layer
    information: Reading
    plain: float
    by_chance: float
    classes: tuple[ClassStates, ...]
    there_is: float

    @property
    def name(self) -> str:
        return str(self.layer.site)

    @property
    def units(self) -> int:
        return self.layer.units

    @property
    def known(self) -> bool:
        return not math.isnan(float(self.information))

    @property
    def lead(self) -> str:
        """The information as it may be said: "0.71 [0.66, 0.75] of 3.3 bits"."""
        return f"{said(self.information)} of {self.there_is:.3g} bits" if self.known else "undefined"


def said(reading: Reading) -> str:
    """Bits of information with their interval, where they have one."""
    if math.isnan(float(reading)):
        return "undefined"
    number = f"{float(reading):.3g}"
    if reading.low < reading.high:
        return f"{number} [{reading.low:.3g}, {reading.high:.3g}]"
    return f"≈ {number}" if reading.undersampled else number


@dataclass(frozen=True, eq=False)
class Labels:
    """All sites whose states were counted by label, and the same in the reference networks, shuffled labels among them."""

    results: Results
    sites: tuple[SiteLabels, ...]
    references: Mapping[str, Mapping[Site, Reading]]

    @property
    def known(self) -> list[SiteLabels]:
        return [site for site in self.sites if site.known]

    @property
    def names(self) -> list[str]:
        return [site.name for site in self.sites]

    @cached_property
    def labels(self) -> list[int]:
        """Every label that was seen, ascending."""
        return sorted({line.label for site in self.sites for line in site.classes})


def labels_of(results: Results) -> Labels:
    """What the states tell about the labels; without sites where no state was counted by label."""
    sites = [site for layer in results.layers.read if (site := _site(results, layer)) is not None]
    references = {
        name: {layer.site: _information(other, layer) for layer in other.layers.read}
        for name, other in results.references.items()
    }
    return Labels(results, tuple(sites), {name: found for name, found in references.items() if any(_known(found))})


def _known(found: Mapping[Site, Reading]) -> list[bool]:
    return [not math.isnan(float(reading)) for reading in found.values()]


def _information(results: Results, layer: Layer) -> Reading:
    if layer.site not in results.values_by_site:
        return Reading(NAN)
    return reading_or_why(results[layer.site], Information())


def _site(results: Results, layer: Layer) -> SiteLabels | None:
    if layer.site not in results.values_by_site:
        return None
    try:
        value: StateCounts = results[layer.site].value(BY_LABEL)
        if not value.by_stratum:
            return None
        classes, whole = classes_of(value), float(Entropy().compute(value))
        shares = [line.observations / value.observations for line in classes]
        given = math.fsum(p * line.plug_in for p, line in zip(shares, classes, strict=True))
        drawn = math.fsum(p * rarefaction(value, line.samples) for p, line in zip(shares, classes, strict=True))
    except LayerscopeError:
        return None  # without states of its own: the words on states say why
    there_is = -math.fsum(p * math.log2(p) for p in shares) + 0.0
    information = reading_or_why(results[layer.site], Information())
    return SiteLabels(layer, information, whole - given, max(0.0, whole - drawn), classes, there_is)

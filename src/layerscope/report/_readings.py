"""Readings of the whole network, readings without a place of their own on the page, and all of them as CSV."""

import math
from functools import partial
from typing import Any
from urllib.parse import quote

from .._errors import LayerscopeError
from .._reading import Reading
from .._results import Results, reading_or_why
from ..inventory import Layers
from ..measures import (
    AbstractMeasure,
    AbstractRatio,
    AlwaysOnUnits,
    DeadUnits,
    Efficiency,
    Entropy,
    EqualUnits,
    FiringRate,
    Information,
    RedundantUnits,
    SampleVariance,
    TransformationVariance,
)
from ._facts import Facts
from ._names import plain


def network(results: Results) -> list[tuple[str, str]]:
    """Numbers of the whole network, always with the sites they are taken over."""
    found: list[tuple[str, str]] = []
    if not len(results) or any(layer.site not in results.values_by_site for layer in results.layers.read):
        return found
    corrected = partial(results.network_efficiency, estimator="c2")
    for what, compute in (
        ("Network efficiency", corrected), ("The same as published, by plain counts,", results.network_efficiency), ("aIQ", results.aIQ),
    ):  # fmt: skip
        try:
            found.append((what, _said(compute())))
        except LayerscopeError:
            continue  # aIQ without an accuracy: the header says that there is none
    return found


def _said(reading: Reading) -> str:
    value = "no number" if math.isnan(float(reading)) else f"{reading.bound} {float(reading):.3f}".strip()
    value += f" [{reading.low:.3f}, {reading.high:.3f}]" if reading.jackknife is not None else ""
    return f"{value}: {reading.measured_in}; {plain(reading.note)}"


SHOWN: set[AbstractMeasure[Any]] = {
    Entropy(), Efficiency(), Entropy(estimator="c2"), Efficiency(estimator="c2"), DeadUnits(), AlwaysOnUnits(), EqualUnits(),
    RedundantUnits(), FiringRate(0.05), FiringRate(0.5), FiringRate(0.95),
}  # fmt: skip
"""Measures that have a column in the table of states."""


def more(facts: Facts) -> list[tuple[str, str, str]]:
    """Readings that were asked for and have no column of their own: site, measure, reading."""
    results, shown = facts.results, SHOWN | _of_movement(facts)
    if facts.labels.sites:
        shown.add(Information())
    extra = [measure for measure in results.measures if measure not in shown]
    rows: list[tuple[str, str, str]] = []
    for layer in results.layers.read if extra else ():
        if layer.site not in results.values_by_site:
            continue
        for measure in extra:
            what = f"{measure.name} {measure.setting}".strip()
            rows.append((plain(str(layer.site)), what, plain(str(reading_or_why(results[layer.site], measure)))))
    return rows


def _of_movement(facts: Facts) -> set[AbstractMeasure[Any]]:
    """The measures that have a column in the table of movement."""
    movement = facts.movement
    if not movement.sites:
        return set()
    m = movement.measure
    parts = (TransformationVariance, SampleVariance) if not m.aligned else ()
    shown: set[AbstractMeasure[Any]] = {
        part(flavour=m.flavour, by_class=m.by_class, pool=m.pool, ddof=m.ddof) for part in parts
    }
    ratios: list[AbstractRatio] = [ratio for ratio in (m, movement.back) if ratio is not None]
    return shown | {*ratios}


def csv(results: Results) -> str:
    """The tidy table as the rest of a data: link; sites that were never reached have no line."""
    reached = Layers(x for x in results.layers if x.left_out or x.site in results.values_by_site)
    table = Results(reached, results.values_by_site, results.measures, {}, results.task, results.references).table
    return quote(table.to_csv(index=False, float_format="%.6g"), safe=" ,.;:|()[]{}=/_-?!*@$")

"""Which numbers of an epoch are logged, and under what names."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._reading import NAN
from .._results import Results
from ..inventory import Layer
from ..measures import Efficiency, Entropy, FiringRate

HEAD = "layerscope"
"""What all names begin with, so that dashboards show them as one group."""

Row = Mapping[str, Any]
"""A row of `results.table`."""


def scalars_of(results: Results, table: Sequence[Row], top: int) -> dict[str, float]:
    """`layerscope/<measure>/<layer>` of at most `top` layers, and `layerscope/network/…` of all together.

    Beside an entropy or efficiency stands its coverage. A plain count is named as what it is whatever the coverage, `entropy_at_least`; any
    other value is NaN where it is undersampled. Which names there are never depends on a value: loggers fix their columns in the first epoch.
    """
    called = names(spread(results.layers.read, top))
    of_states = {(m.name, m.setting): m for m in results.measures if isinstance(m, Entropy | Efficiency)}
    scalars: dict[str, float] = {}
    for row in table:
        if (layer := called.get(row["layer"])) is None:
            continue
        name, value = label(row["measure"], row["setting"]), float(row["value"])
        measure = of_states.get((row["measure"], row["setting"]))
        if measure is not None and _is_plain(measure):
            scalars[f"{HEAD}/{name}_at_least/{layer}"] = value
        else:
            scalars[f"{HEAD}/{name}/{layer}"] = NAN if row["undersampled"] else value
        if measure is not None:
            scalars[f"{HEAD}/{name}_coverage/{layer}"] = float(row["coverage"])
    whole = unit_shares(results)
    if of_states:
        thin = {row["layer"] for row in table if row["undersampled"]}
        whole["undersampled_share"] = len(thin) / len(results)
    return scalars | {f"{HEAD}/network/{name}": value for name, value in whole.items()}


def _is_plain(measure: Entropy | Efficiency) -> bool:
    """Whether it is the plain count of states, over a constant at most: low by chance, never high."""
    return measure.estimator == "plug-in" and not (isinstance(measure, Efficiency) and measure.against is not None)


def spread(layers: Sequence[Layer], top: int) -> list[Layer]:
    """At most `top` layers, evenly spread over the depth, first and last included.

    They are chosen by place and not by value: the curves of two runs, or of two seeds, then show the same layers.
    """
    few = min(top, len(layers))
    return [layers[k * (len(layers) - 1) // max(1, few - 1)] for k in range(few)]


def names(layers: Sequence[Layer]) -> dict[str, str]:
    """What sites are called in names: letters, digits, `_`, `.` and `-`, which every logger takes, and never two alike."""
    given: dict[str, str] = {}
    for layer in layers:
        name = _plain(str(layer.site), r"[^\w.-]+")
        while name in given.values():
            name += "_"
        given[str(layer.site)] = name
    return given


def label(measure: str, setting: str) -> str:
    """What a measure is called in names: `entropy`, `entropy_order_2`."""
    return _plain(f"{measure} {setting}", r"\W+")


def _plain(text: str, other: str) -> str:
    return re.sub(other, "_", text, flags=re.ASCII).strip("_") or "_"


def unit_shares(results: Results) -> dict[str, float]:
    """Of the units of all layers together: how many never fired, and how often one fired in the mean."""
    rated = [
        reading for reading in results.readings(FiringRate()).values() if reading.observations
    ]  # not masked entirely
    rates: NDArray[np.float64] = np.concatenate([np.asarray(reading) for reading in rated] or [np.array([NAN])])
    return {"dead_share": float((rates == 0).mean()) if rated else NAN, "firing_rate": float(rates.mean())}

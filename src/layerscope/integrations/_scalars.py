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

    Beside each entropy and efficiency stands its coverage; an undersampled value is NaN, as it would tell the sample size. Which names there
    are never depends on a value: loggers fix their columns in the first epoch.
    """
    called = names(spread(results.layers.read, top))
    covered = {(m.name, m.setting) for m in results.measures if isinstance(m, Entropy | Efficiency)}
    scalars: dict[str, float] = {}
    for row in table:
        if (layer := called.get(row["layer"])) is None:
            continue
        measure = label(row["measure"], row["setting"])
        scalars[f"{HEAD}/{measure}/{layer}"] = NAN if row["undersampled"] else float(row["value"])
        if (row["measure"], row["setting"]) in covered:
            scalars[f"{HEAD}/{measure}_coverage/{layer}"] = float(row["coverage"])
    whole = unit_shares(results)
    if covered:
        thin = {row["layer"] for row in table if row["undersampled"]}
        whole["undersampled_share"] = len(thin) / len(results)
    return scalars | {f"{HEAD}/network/{name}": value for name, value in whole.items()}


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

"""What a monitor must find: what `ls.examine` finds on the same samples and weights, epoch by epoch, to the bit."""

import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from layerscope.measures import DeadUnits, Entropy, FiringRate

MEASURES = (Entropy(), DeadUnits(), FiringRate())
"""What a monitor measures when nothing is asked for; written out here, as the numbers of a user's dashboards hang on it."""
EXAMPLES = Path(__file__).resolve().parents[3] / "examples"
COLUMNS = ["layer", "measure", "setting", "value", "coverage", "observations", "undersampled"]


def same(a: float, b: float) -> bool:
    """Equal to the bit, NaN included."""
    return np.float64(a).tobytes() == np.float64(b).tobytes() or (math.isnan(a) and math.isnan(b))


def check_history(history: Any, tables: Sequence[Any]) -> None:
    """The history has the rows of these tables of results, one table an epoch from 0 on, and no others."""
    assert history["epoch"].tolist() == [epoch for epoch, table in enumerate(tables) for _ in range(len(table))]
    for epoch, table in enumerate(tables):
        mine = history[history["epoch"] == epoch][COLUMNS].to_dict("records")
        for seen, wanted in zip(mine, table[COLUMNS].to_dict("records"), strict=True):
            for column in COLUMNS:
                equal = same(seen[column], wanted[column]) if column in ("value", "coverage") else None
                assert seen[column] == wanted[column] if equal is None else equal, (epoch, column, seen, wanted)


def check_logged(logs: Mapping[str, Sequence[float]], tables: Sequence[Any]) -> None:
    """The logs hold, epoch by epoch, each layer's values and coverage, plain counts as lower bounds, and three shares of all layers."""
    expected: dict[str, list[float]] = {}
    for table in tables:
        dead, fired, units, thin = 0.0, 0.0, 0, []
        for row in table.to_dict("records"):
            measure, layer = row["measure"].replace(" ", "_"), row["layer"]
            name = "entropy_at_least" if measure == "entropy" else measure
            expected.setdefault(f"layerscope/{name}/{layer}", []).append(row["value"])
            if measure == "entropy":
                expected.setdefault(f"layerscope/entropy_coverage/{layer}", []).append(row["coverage"])
                thin.append(row["undersampled"])
                units += row["units"]
            dead += row["value"] if measure == "dead_units" else 0
            fired += row["value"] * row["units"] if measure == "firing_rate" else 0
        shares = {"dead_share": dead / units, "firing_rate": fired / units, "undersampled_share": np.mean(thin)}
        for name, value in shares.items():
            expected.setdefault(f"layerscope/network/{name}", []).append(float(value))
    mine = {name: values for name, values in logs.items() if name.startswith("layerscope/")}
    assert mine.keys() == expected.keys()
    for name, values in expected.items():
        for seen, wanted in zip(mine[name], values, strict=True):
            # the mean over all units is summed in another order here
            close = math.isclose(seen, wanted, rel_tol=1e-14) if name.endswith("network/firing_rate") else None
            assert same(seen, wanted) if close is None else close, (name, seen, wanted)


def page_code(framework: str) -> str:
    """The example of that framework in `docs/monitors.md`."""
    text = (EXAMPLES.parent / "docs" / "monitors.md").read_text(encoding="utf-8")
    (code,) = [
        block for block in re.findall(r"```python\n(.*?)```", text, re.DOTALL) if f"integrations.{framework} " in block
    ]
    return code

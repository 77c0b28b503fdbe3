"""Our numbers and those of the references, side by side."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

KEYS = ["layer", "measure", "setting"]


def beside(table: "pd.DataFrame", references: Iterable[str]) -> "pd.DataFrame":
    """Of the table of results a row per site and measure: layer, measure, setting, measured_in, value, low, high, verdict, and a column of
    values per reference, NaN where it has no such number: shuffled labels change only what reads labels.
    """
    import pandas as pd

    table = table if "network" in table else table.assign(network="")
    found = table.loc[table["network"] == "", [*KEYS, "measured_in", "value", "low", "high", "verdict"]].reset_index(
        drop=True
    )
    at = pd.MultiIndex.from_frame(found[KEYS])
    for name in references:
        theirs = table[table["network"] == name].set_index(KEYS)["value"]
        found[name] = theirs[~theirs.index.duplicated()].reindex(at).to_numpy()
    return found

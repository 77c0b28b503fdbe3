"""One picture of results as a matplotlib figure."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from .._errors import DataError, nearest
from .._results import Results
from ._facts import Facts, facts_of
from ._look import ON_PAPER, Look, drawing
from ._samples import draw_samples
from ._states import draw_states
from ._units import draw_units

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PICTURES: dict[str, Callable[[Facts, Look], "Figure"]] = {
    "states": draw_states,
    "samples": draw_samples,
    "units": draw_units,
}


def plot(results: Results, what: str = "states") -> "Figure":
    """A picture of what was measured.

    **Arguments:** `what` "states": the entropy of each layer within its room, and the ceiling that the data put on it; "samples": entropy
    against the number of samples, where flat means enough; "units": the firing rate of every unit.
    **Gives:** a `matplotlib.figure.Figure`, not tied to pyplot; `figure.savefig("states.pdf")` writes it.
    **Raises:** `DataError` for an unknown picture, or where no site was read.
    """
    if what not in PICTURES:
        raise DataError(
            f"plot: there is no picture {what!r}.{nearest(str(what), [*PICTURES])} Choose one of {', '.join(map(repr, PICTURES))}."
        )
    if not len(results):
        raise DataError("plot: these results hold no site, so there is nothing to draw. Examine at least one layer.")
    with drawing():
        figure = PICTURES[what](facts_of(results), Look(ON_PAPER))
        figure.draw_without_rendering()  # what is made late (ticks) is made under our settings too
    return figure

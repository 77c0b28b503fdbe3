"""One picture of results as a matplotlib figure."""

from typing import TYPE_CHECKING

from .._errors import DataError, nearest
from .._results import Results
from ._accuracy import ACCURACY
from ._facts import Facts
from ._look import ON_PAPER, Look, drawing
from ._maps import MAPS
from ._movement import MOVEMENT
from ._picture import Picture
from ._samples import SAMPLES
from ._states import STATES
from ._units import UNITS

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PICTURES: dict[str, Picture] = {picture.key: picture for picture in (MOVEMENT, ACCURACY, MAPS, STATES, SAMPLES, UNITS)}
"""In the order of the page."""


def plot(results: Results, what: str | None = None) -> "Figure":
    """A picture of what was measured.

    **Arguments:** `what` "states": the entropy of each layer within its room, and the ceiling that the data put on it; "samples": entropy
    against the number of samples, where flat means enough; "units": the firing rate of every unit; "movement": how far each layer moves
    with the transformations; "maps": the same of every feature map; "accuracy": the task under each transformation; None: the first of
    them that these results can show.
    **Gives:** a `matplotlib.figure.Figure`, not tied to pyplot; `figure.savefig("states.pdf")` writes it.
    **Raises:** `DataError` for an unknown picture, one of what was not measured, or where no site was read.
    """
    if what is not None and what not in PICTURES:
        raise DataError(
            f"plot: there is no picture {what!r}.{nearest(str(what), [*PICTURES])} Choose one of {', '.join(map(repr, PICTURES))}."
        )
    if not len(results):
        raise DataError("plot: these results hold no site, so there is nothing to draw. Examine at least one layer.")
    facts = Facts(results)
    there = [key for key, picture in PICTURES.items() if picture.shows(facts)]
    if not there or (what is not None and what not in there):
        asked = "there is no picture of what" if what is None else f"{what!r} shows what was not"
        can = f"They can show {', '.join(map(repr, there))}." if there else "Read results.table."
        raise DataError(f"plot: {asked} measured here. {can}")
    with drawing():
        figure = PICTURES[what or there[0]].draw(facts, Look(ON_PAPER))
        figure.draw_without_rendering()  # what is made late (ticks) is made under our settings too
    return figure

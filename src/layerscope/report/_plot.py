"""One picture of results as a matplotlib figure."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from .._errors import DataError, nearest
from .._results import Results
from ._accuracy import ACCURACY, accuracy_of
from ._convergence import CONVERGENCE
from ._facts import Facts
from ._labels import LABELS
from ._look import ON_PAPER, Look, drawing
from ._maps import MAPS
from ._movement import MOVEMENT
from ._names import plain
from ._picture import Picture
from ._samples import SAMPLES
from ._several import draw_several
from ._states import STATES
from ._training import SHOWN as FOLLOWED
from ._training import draw_training
from ._units import UNITS

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PICTURES: dict[str, Picture] = {
    picture.key: picture for picture in (MOVEMENT, ACCURACY, MAPS, CONVERGENCE, STATES, SAMPLES, UNITS, LABELS)
}
"""In the order of the page."""
SHARED = ("movement", "accuracy")
"""Those that show several networks in one."""


def plot(results: Results | Mapping[str, Results] | Mapping[int, Results], what: str | None = None) -> "Figure":
    """A picture of what was measured; of several networks in one, where they come by name: `plot({"plain": a, "augmented": b}, "movement")`.

    **Arguments:** `what` "movement": how far each layer moves with the transformations, next to how far it moves from sample to sample;
    "accuracy": the task under each transformation; "maps": the movement of every feature map; "convergence": what fewer samples or
    transformations would have said; "states": the entropy of each layer within
    its room, and the ceiling that the data put on it; "samples": entropy against the number of samples, where flat means enough; "units": the
    firing rate of every unit; "labels": what the states tell about the label; None: the first of them that these results can show. Several networks share "movement", where depth runs from
    the input to the last layer of each, and "accuracy". Results by the number of their epoch (`ls.Epochs`) are one network over its training:
    "states" then shows the entropy of its layers, "movement" their ratio, epoch after epoch.
    **Gives:** a `matplotlib.figure.Figure`, not tied to pyplot; `figure.savefig("states.pdf")` writes it.
    **Raises:** `DataError` for an unknown picture, one of what was not measured, or where no site was read.
    """
    if what is not None and what not in PICTURES:
        raise DataError(
            f"plot: there is no picture {what!r}.{nearest(str(what), [*PICTURES])} Choose one of {', '.join(map(repr, PICTURES))}."
        )
    if isinstance(results, Results):
        what, facts = _checked(results, what), Facts(results)
        return _drawn(lambda look: PICTURES[what].draw(facts, look))
    if results and all(isinstance(name, int) for name in results):
        return _over_training({int(epoch): each for epoch, each in results.items()}, what)
    networks = {plain(str(name)): each for name, each in results.items()}
    if what not in (None, *SHARED) or len(networks) < 2:
        raise DataError(
            f"plot: {what!r} of {len(networks)} networks. Several share {' and '.join(map(repr, SHARED))}; plot any other one by one."
        )
    for each in networks.values():
        _checked(each, what or SHARED[0])
    if what == "accuracy":
        first = Facts(next(iter(networks.values())))
        return _drawn(lambda look: accuracy_of(networks, first.movement, look))
    return _drawn(lambda look: draw_several(networks, look))


def _over_training(epochs: Mapping[int, Results], what: str | None) -> "Figure":
    for each in epochs.values():
        what = _checked(each, what)
    if what not in FOLLOWED:
        raise DataError(f"plot: {what!r} is not drawn over epochs. Choose {' or '.join(map(repr, FOLLOWED))}.")
    return _drawn(lambda look: draw_training(epochs, what, look))


def _checked(results: Results, what: str | None) -> str:
    """The picture that was asked for, or the first these results can show."""
    if not len(results):
        raise DataError("plot: these results hold no site, so there is nothing to draw. Examine at least one layer.")
    there = [key for key, picture in PICTURES.items() if picture.shows(Facts(results))]
    if not there or (what is not None and what not in there):
        asked = "there is no picture of what was" if what is None else f"{what!r} shows what was not"
        can = f"They can show {', '.join(map(repr, there))}." if there else "Read results.table."
        raise DataError(f"plot: {asked} measured here. {can}")
    return what or there[0]


def _drawn(draw: "Callable[[Look], Figure]") -> "Figure":
    with drawing():
        figure = draw(Look(ON_PAPER))
        figure.draw_without_rendering()  # what is made late (ticks) is made under our settings too
    return figure

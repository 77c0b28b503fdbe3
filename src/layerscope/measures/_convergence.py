"""How a movement ratio would have read in a smaller experiment: with fewer samples, or with fewer transformations."""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from .._reading import NAN
from ..tallies import Grid, GridSums
from ._grid_intervals import FEWEST, joined, left_out
from ._intervals import group_error
from ._invariance import AbstractGridMeasure
from ._special import student
from ._spread import Cells, spread_of


class Reckoned(NamedTuple):
    """What so many samples under so many transformations would have said.

    **Fields:** `ratio` in the unit of the measure; `low`, `high` its 95 % interval over samples, NaN for fewer than five groups of them.
    """

    samples: int
    transformations: int
    ratio: float
    low: float
    high: float


class Convergence(NamedTuple):
    """One measure at one site by the size of the experiment, ascending.

    **Fields:** `over_samples` for more and more samples under all transformations; `over_transformations` for all samples under every
    2^k-th transformation, from the first.  The last of both is the same: everything.
    """

    over_samples: tuple[Reckoned, ...]
    over_transformations: tuple[Reckoned, ...]


def convergence(measure: AbstractGridMeasure, value: Grid) -> Convergence:
    """The error of a measure of variances against the numbers of samples and transformations, from the pass that was made.

    **Arguments:** `measure` whose layer number is asked for; `value` of its tally at a site.
    **Gives:** empty lines where nothing is kept by group of samples: a skipped site, or sums by class.

    **Beware:** it rests on at most 16 values of the layer, evenly spaced over it, so a line ends near the layer's reading and not on it; its
    bend and its width are the message.  Samples come in groups drawn by their ids, so the beginning of the line is one draw of many.
    Every 2^k-th of n rotations is evenly spaced on the circle only where 2^k divides n, and of a product of sets it is another part of
    both: read the line against T where the set is a sequence.
    **Source:** intervals by the delete-one-group jackknife of Busing, Meijer & van der Leeden 1999.
    """
    groups = value.groups
    if groups is None or value.transformations < 2:
        return Convergence((), ())
    few = Cells((len(groups.picked),), 0, None)

    def number(sums: GridSums) -> float:
        return measure.summary(spread_of(sums, measure.flavour, measure.ddof).of(few)) if sums.samples > 1 else NAN

    everything = groups.at(0)
    choices = (groups.at(s) for s in reversed(range(groups.rows_var.shape[1])))
    return Convergence(
        tuple(_reckoned(everything[:g], number) for g in range(1, len(everything) + 1)),
        tuple(_reckoned(choice, number) for choice in choices if choice),
    )


def _reckoned(groups: Sequence[GridSums], number: Callable[[GridSums], float]) -> Reckoned:
    """What these groups of samples say together, with the interval that leaving out each of them gives."""
    whole = joined(groups)
    ratio, half = number(whole), NAN
    if len(groups) >= FEWEST:
        without = np.array([number(sums) for sums in left_out(groups)])
        if math.isfinite(ratio) and np.isfinite(without).all():
            sizes = np.array([sums.samples for sums in groups], np.int64)
            half = student(len(groups) - 1) * group_error(ratio, without, sizes)
    low = max(0.0, ratio - half) if math.isfinite(half) else NAN
    return Reckoned(whole.samples, len(whole.mean), ratio, low, ratio + half)

"""How far a number of a grid of samples would move with other samples: a jackknife that leaves out groups of them."""

import math
from collections.abc import Callable, Sequence

import numpy as np

from .._reading import NAN
from ..tallies import Grid, GridSums
from ._special import student

FEWEST = 5
"""Groups below which no interval is given."""


def half_width(value: Grid, number: Callable[[GridSums], float]) -> float:
    """Half of the 95 % interval of `number`, from the values whose sums are kept by group; NaN where there are too few groups.

    Delete-one-group jackknife for groups of different sizes (Busing, Meijer & van der Leeden 1999).  Fewer values than the layer has
    scatter more than all of them together, so the interval errs to the wide side.
    """
    groups = [] if value.groups is None else [*value.groups]
    if len(groups) < FEWEST:
        return NAN
    whole, without = number(joined(groups)), [number(sums) for sums in left_out(groups)]
    if not all(map(math.isfinite, (whole, *without))):
        return NAN
    n = sum(sums.samples for sums in groups)
    share = np.array([n / sums.samples for sums in groups])
    pseudo = share * whole - (share - 1) * np.array(without)
    centre = len(groups) * whole - float(np.sum((1 - 1 / share) * without))
    variance = float(np.mean((pseudo - centre) ** 2 / (share - 1)))
    return student(len(groups) - 1) * math.sqrt(variance)


def joined(groups: Sequence[GridSums]) -> GridSums:
    """All groups as one."""
    whole = groups[0]
    for sums in groups[1:]:
        whole = whole.joined(sums)
    return whole


def left_out(groups: Sequence[GridSums]) -> list[GridSums]:
    """For every group, all the others as one."""
    before: list[GridSums | None] = [None]
    for sums in groups[:-1]:
        last = before[-1]
        before.append(sums if last is None else last.joined(sums))
    others: list[GridSums] = []
    after: GridSums | None = None
    for sums, head in zip(reversed(groups), reversed(before), strict=True):
        both = [part for part in (head, after) if part is not None]
        others.append(joined(both))
        after = sums if after is None else sums.joined(after)
    return others[::-1]

"""How far a number of a grid of samples would move with other samples: a jackknife that leaves out groups of them."""

import math
from collections.abc import Callable, Sequence

import numpy as np

from .._reading import Jackknife
from ..tallies import Grid, GridSums

FEWEST = 5
"""Groups below which no interval is given."""


def jackknife_of(value: Grid, number: float, of: Callable[[GridSums], float]) -> Jackknife | None:
    """`number` without each group of samples, as `of` finds it for the values whose sums are kept by group; None for too few groups.

    Fewer values than the layer has scatter more than all of them together, so the interval errs to the wide side.  What leaving out a
    group changes is taken to be the same for all values of the layer.
    """
    groups = [] if value.groups is None else [*value.groups]
    if len(groups) < FEWEST or value.groups is None:
        return None
    whole, without = of(joined(groups)), np.array([of(sums) for sums in left_out(groups)])
    if not (math.isfinite(whole) and math.isfinite(number) and np.isfinite(without).all()):
        return None
    sizes = np.array([sums.samples for sums in groups], np.int64)
    ids = np.flatnonzero(value.groups.count)
    return Jackknife(ids, number + (without - whole), int(sizes.sum()), sizes=sizes)


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

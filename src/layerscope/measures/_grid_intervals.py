"""How far a number of a grid of samples would move with other samples: a jackknife that leaves out groups of them."""

import math
from collections.abc import Callable, Sequence

import numpy as np

from .._reading import Jackknife
from ..tallies import Grid, GridSums

FEWEST = 5
"""Groups below which no interval is given."""
ALIKE = 1.5
"""By which factor the values kept by group may differ from the layer and still stand for it."""


def jackknife_of(
    value: Grid, number: float, of: Callable[[GridSums], float], share: bool = False
) -> tuple[Jackknife | None, str]:
    """`number` without each group of samples, as `of` finds it for the values whose sums are kept by group; or None, and why.

    Fewer values than the layer has scatter more than all of them together, so the interval errs to the wide side.  By which factor a number
    changes when a group is left out (by how much, of a `share` between 0 and 1) is taken to be the same for all values of the layer; where
    those that are kept read quite another number, as when a few quiet values carry a mean of ratios, they do not stand for it and nothing
    is claimed.
    """
    groups = [] if value.groups is None else [*value.groups]
    if len(groups) < FEWEST or value.groups is None:
        return None, ""
    whole, without = of(joined(groups)), np.array([of(sums) for sums in left_out(groups)])
    if not (math.isfinite(whole) and math.isfinite(number) and np.isfinite(without).all()):
        return None, ""
    if not share and (whole > ALIKE * number or number > ALIKE * whole):
        few = len(value.groups.picked)
        return None, f"no interval: the {few} values it would rest on read {whole:.3g}, and do not stand for the layer"
    sizes = np.array([sums.samples for sums in groups], np.int64)
    ids = np.flatnonzero(value.groups.count)
    moved = number + (without - whole) if share or not whole else number * (without / whole)
    return Jackknife(ids, moved, int(sizes.sum()), sizes=sizes), ""


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

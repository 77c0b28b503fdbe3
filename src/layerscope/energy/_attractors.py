"""How many places a set of descents ended at: counted by distance or by the winning unit, never by a threshold.

Thresholding at 0 merges what differs: all fixed points of a softmax memory are one binarised state, because every activation is positive.
"""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from .._errors import DataError
from ._array import Array, numbers


@dataclass(frozen=True, eq=False)
class Attractors:
    """Where states ended.

    **Gives:** `count` of attractors; `label` (states,) which one each state is at, from 0 in the order they were met; `sizes` states at each;
    `first` (count,) the number of the first state at each.
    """

    count: int
    label: NDArray[np.int64]
    sizes: NDArray[np.int64]
    first: NDArray[np.int64]

    def __repr__(self) -> str:
        return f"{self.count} attractors of {len(self.label)} states, the largest with {int(self.sizes.max(initial=0))}"


def attractors(states: Array, by: Literal["distance", "argmax"] = "distance", tolerance: float = 1e-3) -> Attractors:
    """The attractors that states (states, units…) ended at, after a descent long enough.

    **Arguments:** `by` "distance": two states are at one attractor when a chain of states, each within `tolerance` of the next, joins them, in
    units of the root mean square norm of the states; "argmax": when the same unit is largest.
    **Raises:** `DataError` for NaN or infinite states.
    """
    known = numbers(states)
    if known is None or known.ndim < 2:
        raise DataError("attractors: give states as an array (states, units), outside of jit.")
    rows = np.asarray(known, np.float64).reshape(len(known), -1)
    if not np.isfinite(rows).all():
        raise DataError(
            "attractors: some states are NaN or infinite; the descent did not end anywhere. Take a smaller step."
        )
    if by == "argmax":
        group = np.argmax(rows, axis=1)
    elif by == "distance":
        group = _chains(rows, tolerance * float(np.sqrt((rows**2).sum(1).mean())) if rows.size else 0.0)
    else:
        raise ValueError(f"attractors: by must be 'distance' or 'argmax', got {by!r}.")
    _, first, label, sizes = np.unique(group, return_index=True, return_inverse=True, return_counts=True)
    order = np.argsort(first)
    rank = np.empty_like(order)
    rank[order] = np.arange(len(order))
    return Attractors(len(order), rank[label.ravel()], sizes[order], first[order])


def _chains(rows: NDArray[Any], radius: float) -> NDArray[np.int64]:
    """Connected components of the graph of states within `radius`: single linkage, one row of distances at a time."""
    group = np.full(len(rows), -1, np.int64)
    for start in range(len(rows)):
        if group[start] >= 0:
            continue
        group[start] = start
        frontier = [start]
        while frontier:
            at = frontier.pop()
            free = np.flatnonzero(group < 0)
            near = free[((rows[free] - rows[at]) ** 2).sum(1) <= radius**2]
            group[near] = start
            frontier += near.tolist()
    return group

"""Whether the same samples came twice: nothing else fools every coverage statistic."""

import numpy as np

from ..tallies import SketchCounts, StateCounts

STATES = 20
"""So many states must agree that everything came k times; by chance they do so once in 2^20."""


def repeats_in(value: StateCounts | SketchCounts) -> str:
    """In words what speaks for samples that were counted more than once; empty where nothing does.

    Kept samples with equal ids; or every state in a multiple of k samples, as after k passes over the same data under new ids.
    """
    return value.remember("repeats", lambda: _repeats_in(value))


def _repeats_in(value: StateCounts | SketchCounts) -> str:
    if repeated := value.kept.repeated:
        return f"{repeated:,} of {len(value.kept.sifted().ids):,} kept samples have the id of another: the same sample twice fakes coverage"
    records = value.thinned().records if isinstance(value, SketchCounts) else value.records()
    n, i = records.n, records.i
    times = int(np.gcd.reduce(i)) if len(i) else 1
    if times > 1 and np.count_nonzero(i < value.samples) >= STATES and not (n % times).any():
        return f"every state occurs in a multiple of {times} samples, as if the data came {times} times: that fakes coverage"
    return ""

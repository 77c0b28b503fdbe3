"""Standard errors and intervals from leaving out one kept sample, or one group of samples, after the other."""

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from .._reading import Jackknife
from ..kernels import Records
from ..tallies import Pairs, StateCounts
from ._columns import Columns, Sums, body, c1_of
from ._counts import LN2
from ._special import Floats, student


def without_each(value: StateCounts, columns: Columns) -> tuple[Floats, Floats]:
    """c1 and the plain count, in bits, of the data without each of the kept samples, (kept,) each."""
    kept = len(value.kept.sifted().ids)
    if kept < 2 or columns.samples < 2:
        return np.empty(0), np.empty(0)
    return left_out(value.records(), value.pairs(), kept, columns)


def left_out(records: Records, pairs: Pairs, kept: int, columns: Columns) -> tuple[Floats, Floats]:
    """The same from the columns of a table of two or more samples, and what `kept` of these count in it."""
    n, i, q = (column[pairs.s].astype(np.float64) for column in (records.n, records.i, records.Q))
    c = pairs.c.astype(np.float64)
    left, gone = n - c, i == 1
    some = np.maximum(left, 1)
    after = np.where(gone, 0.0, body(some, np.maximum(i - 1, 1), np.maximum(q - c * c, 1)))
    changes = (
        after - body(n, i, q),
        np.where(gone, -n, np.where(i == 2, left, 0.0)),
        np.where(i == 2, -n, np.where(i == 3, left, 0.0)),
        np.where(gone, -1.0, np.where(i == 2, 1.0, 0.0)),
        -c,
    )
    lost = (np.bincount(pairs.g, change, kept) for change in changes)
    sums = Sums(*(whole + change for whole, change in zip(columns.sums, lost, strict=True)))
    whole = float((columns.times * columns.n * np.log(columns.n)).sum())
    logs = whole + np.bincount(pairs.g, np.where(gone, 0.0, left * np.log(some)) - n * np.log(n), kept)
    return c1_of(sums, columns.samples - 1), (np.log(sums.N) - logs / sums.N) / LN2


def error_of(values: Floats, samples: int) -> float:
    """Standard error √((M − 1) · variance) from delete-one values of some of the M samples; inf for fewer than two."""
    return math.sqrt((samples - 1) * float(np.var(values, ddof=1))) if len(values) > 1 else math.inf


def group_error(value: float, values: Floats, sizes: NDArray[np.int64]) -> float:
    """Standard error of `value` from the values without each group of samples.

    **Source:** Busing, Meijer & van der Leeden 1999, Statistics and Computing 9:3, for groups of different sizes.
    """
    share: Floats = sizes.sum() / sizes
    pseudo = share * value - (share - 1) * values
    centre = len(values) * value - float(np.sum((1 - 1 / share) * values))
    return math.sqrt(float(np.mean((pseudo - centre) ** 2 / (share - 1))))


def interval(value: float, jackknife: Jackknife) -> tuple[float, float]:
    """value − √((t·se)² + below²) … value + √((t·se)² + above²), t of Student with one degree less than kept samples or groups.

    `below` and `above` allow for the bias that is left: δ/2 and δ around c2.
    """
    values, sizes = jackknife.values, jackknife.sizes
    error = error_of(values, jackknife.samples) if sizes is None else group_error(value, values, sizes)
    reach = student(len(values) - 1) * error
    return value - math.hypot(reach, jackknife.below), value + math.hypot(reach, jackknife.above)


def clipped(low: float, high: float, most: float, least: float = 0.0) -> tuple[float, float]:
    """Two limits of a number that lies within `least` … `most`; NaN stays NaN."""
    return tuple(np.clip([low, high], least, most).tolist())


def paired(jackknives: Sequence[Jackknife]) -> tuple[list[Floats], Jackknife] | None:
    """The delete-one values of the samples that all of them kept, in one order, and the first with these; None where they saw different data."""
    first = jackknives[0]
    if any(other.samples != first.samples for other in jackknives):
        return None
    ids = np.unique(first.ids)
    for other in jackknives[1:]:
        ids = np.intersect1d(ids, other.ids)
    if len(ids) < 2:
        return None
    found: list[Floats] = []
    sizes: list[NDArray[np.int64] | None] = []
    for each in jackknives:
        known, where = np.unique(each.ids, return_index=True)
        at = where[np.searchsorted(known, ids)]
        found.append(each.values[at])
        sizes.append(None if each.sizes is None else each.sizes[at])
    if len({None if size is None else tuple(size.tolist()) for size in sizes}) > 1:
        return None  # other samples fell into the groups
    return found, replace(first, ids=ids, values=found[0], sizes=sizes[0], below=0.0, above=0.0)

"""What the entropy would have been with fewer samples: flat means enough data, still rising means only a lower bound."""

import math

import numpy as np
from numpy.typing import NDArray

from ..tallies import SketchCounts, StateCounts
from ._columns import Columns
from ._rates import check_observed
from ._sketched import sketch_of
from ._trust import trust_in

FEW = 40
"""Up to so many samples a state is thinned by the exact distribution of the samples that hold it, above by mean and variance."""


def rarefaction(value: StateCounts | SketchCounts, samples: int) -> float:
    r"""Expected plug-in entropy, in bits, of `samples` of the seen samples drawn without replacement.

    $H_t = \log_2 N_t - \frac{1}{N_t}\sum_s E[n_t \log_2 n_t]$ with $N_t = tN/M$. How many of the t samples hold a state that i of M hold is
    hypergeometric; given k of them its rows have mean kn/i and variance $k(1-k/i)\frac{i}{i-1}(Q/i-(n/i)^2)$, and
    $E[x\ln x] \approx \bar x\ln\bar x + V/2\bar x$.
    **Accuracy:** within 0.02 bit from a quarter of the samples up, 0.04 from a tenth (measured against drawing, see the tests).
    **Raises:** `EmptyTally`; `ValueError` unless 1 ≤ samples ≤ those seen.
    """
    check_observed(value)
    if not 1 <= samples <= value.samples:
        raise ValueError(
            f"rarefaction: {samples} of {value.samples} samples cannot be drawn. Ask for 1 to {value.samples}."
        )
    columns = sketch_of(value).columns if isinstance(value, SketchCounts) else trust_in(value).columns
    return rarefaction_of(columns, samples)


def rarefaction_of(columns: Columns, drawn: int) -> float:
    """The same from the columns of a table; `drawn` of its samples, at least 1 and at most all."""
    total, times = columns.samples, columns.times
    n, i, q = columns.n, columns.i, columns.q
    expected = np.zeros(len(n))
    many = i > FEW
    mean = drawn * n[many] / total
    spread = drawn * (1 - drawn / total) * np.maximum(q[many] - n[many] ** 2 / total, 0) / max(1, total - 1)
    expected[many] = _x_log_x(mean, spread)
    for held in np.unique(i[~many]).astype(int):
        here = i == held
        rows, squares = n[here], q[here]
        between = np.maximum(squares / held - (rows / held) ** 2, 0) * (held / (held - 1) if held > 1 else 0.0)
        for k in range(max(1, drawn - (total - held)), min(held, drawn) + 1):
            chance = math.exp(_log_choose(held, k) + _log_choose(total - held, drawn - k) - _log_choose(total, drawn))
            expected[here] += chance * _x_log_x(k * rows / held, k * (1 - k / held) * between)
    rows_drawn = drawn * float(columns.sums.N) / total
    return max(0.0, math.log2(rows_drawn) - float((expected * times).sum()) / (rows_drawn * math.log(2)))


def _x_log_x(mean: NDArray[np.float64], variance: NDArray[np.float64]) -> NDArray[np.float64]:
    return mean * np.log(mean) + variance / (2 * mean)


def _log_choose(n: int, k: int) -> float:
    return math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)

"""The library's own estimators, c1 and c2, from the columns of a state table: right also when the rows of one sample depend on each other."""

import math
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from .._errors import DataError
from ..kernels import Records
from ._counts import LN2, CountOfCounts, estimate_of
from ._special import Floats, digamma, digamma_whole, recurrence_tail

SMALL = 1 << 10
"""States seen fewer times are counted by their triple; more cannot be many."""
FEW = 5
"""With fewer states seen in one sample, or in two, there is nothing to extrapolate from."""


class Sums(NamedTuple):
    """What c1 reads: Σ over states of `body`, rows in states of one and of two samples, states of one sample, rows.

    Numbers, or arrays with one entry per table.
    """

    body: Floats
    N1: Floats
    N2: Floats
    Q1: Floats
    N: Floats


def body(n: Floats, i: Floats, q: Floats) -> Floats:
    """What one state adds to N·c1, in nats: n [ln i − ψ(i) − ln n] + ½ (Q/n − n/i)."""
    return n * (np.log(i) - digamma_whole(i) - np.log(n)) + 0.5 * (q / n - n / i)


def tail(s: Sums, samples: int) -> Floats:
    """The unseen part (N₁/N) T(M, A), in nats, A = (N₂ + 2w) / ((M − 1)(N₁ − w)₊ + N₂ + 2w), w = N₁/Q₁: no jump where N₂ = 0."""
    w = np.divide(s.N1, s.Q1, out=np.zeros(np.shape(s.N1)), where=np.asarray(s.Q1) > 0)
    again = s.N2 + 2 * w
    total = (samples - 1) * np.maximum(s.N1 - w, 0) + again
    chance = np.divide(again, total, out=np.ones(np.shape(total)), where=np.asarray(total) > 0)
    return s.N1 / s.N * recurrence_tail(samples, chance)


def c1_of(s: Sums, samples: int) -> Floats:
    r"""Sample-aware entropy in bits: $\psi(M) + \ln\frac NM + \frac1N\sum_s body_s + \frac{N_1}{N} T(M, A)$, over ln 2.

    A state's share is the chance that a sample has it, times the rows it then has there: the first factor is binomial in *samples*, so
    Chao, Wang & Jost's estimator applies to it; the second one's plug-in bias is the Q term of `body`.  With one row a sample it is theirs.
    """
    return (float(digamma(samples)) + np.log(s.N / samples) + s.body / s.N + tail(s, samples)) / LN2


@dataclass(frozen=True, eq=False)
class Columns:
    """Different triples (n, i, Q) of a state table, `times` how many states have each, and the `samples` M they come from.

    States seen often stand alone, in sorted order, so equal tables give equal bits however they were streamed.
    """

    n: Floats
    i: Floats
    q: Floats
    times: Floats
    samples: int
    square_rows: int = 0

    @classmethod
    def of(cls, records: Records, samples: int, square_rows: int = 0) -> "Columns":
        n, i, q = records.n, records.i, records.Q
        single = int(np.count_nonzero(n == 1))
        few = (n > 1) & (n < SMALL)
        key, times = np.unique((n[few] * SMALL + i[few]) * SMALL**2 + q[few], return_counts=True)
        rest = np.flatnonzero(n >= SMALL)
        squares = q[rest].view(np.uint64).astype(np.float64)  # the 64th bit holds digits, too
        if (squares * i[rest] < n[rest].astype(np.float64) ** 2 * (1 - 1e-9)).any():  # true of no sum of squares
            raise DataError(
                "c2: of a state, the squared numbers of rows in each sample add up to more than 2^64, which its table cannot hold. Measure "
                "smaller maps, or fewer samples at a time."
            )
        rest = rest[np.lexsort((q[rest], i[rest], n[rest]))]
        lone = np.ones(int(single > 0), np.int64)
        n, i, q = (
            np.concatenate([lone, some, column[rest]]).astype(np.float64)
            for some, column in (
                (key // SMALL**3, n), (key // SMALL**2 % SMALL, i), (key % SMALL**2, q.view(np.uint64)),
            )
        )  # fmt: skip
        times = np.concatenate([lone * single, times, np.ones(len(rest))]).astype(np.float64)
        return cls(n, i, q, times, samples, square_rows)

    @cached_property
    def states(self) -> int:
        return round(float(self.times.sum()))

    @cached_property
    def bodies(self) -> Floats:
        return body(self.n, self.i, self.q)

    @cached_property
    def sums(self) -> Sums:
        rows = self.times * self.n
        one, two = self.i == 1, self.i == 2
        parts = ((self.times * self.bodies), rows * one, rows * two, self.times * one, rows)
        return Sums(*(np.asarray(part.sum()) for part in parts))

    @cached_property
    def twice(self) -> int:
        """Q₂: states that exactly two samples showed."""
        return round(float(self.times[self.i == 2].sum()))

    @cached_property
    def once(self) -> int:
        """Q₁: states that exactly one sample showed."""
        return round(float(self.times[self.i == 1].sum()))

    @cached_property
    def plug_in(self) -> float:
        """The plain count, in bits."""
        n = float(self.sums.N)
        return (math.log(n) - float((self.times * self.n * np.log(self.n)).sum()) / n) / LN2 + 0.0

    @cached_property
    def c1(self) -> float:
        return float(c1_of(self.sums, self.samples)) + 0.0

    @cached_property
    def tail(self) -> float:
        """Bits of c1 that speak of states not seen yet."""
        return float(tail(self.sums, self.samples)) / LN2

    @cached_property
    def delta(self) -> float:
        """c2 − c1: the delete-one-sample jackknife, (M − 1)(c1 − c1 at the mean of the sums without one sample), never larger than `tail`.

        0 where Q₁ or Q₂ is below 5.
        """
        if self.once < FEW or self.twice < FEW:
            return 0.0
        m, s = self.samples, self.sums
        mean = Sums(*(whole + change / m for whole, change in zip(s, self.left_out, strict=True)))
        delta = (m - 1) * (self.c1 - float(c1_of(mean, m - 1)))
        return min(max(delta, -self.tail), self.tail)

    @cached_property
    def left_out(self) -> Sums:
        """The change of each sum when one sample is left out, added up over all samples.  It needs no samples.

        With i = 1 nothing remains of a state, with i = 2 its two counts are (n ± √(2Q − n²)) / 2; beyond, the body is taken to second order
        in the spread Q/i − (n/i)², everything else exactly.
        """
        n, i, q = self.n, self.i, self.q
        one, two, many = i == 1, i == 2, i > 2
        change = -i * self.bodies
        half = np.sqrt(np.maximum(2 * q[two] - n[two] ** 2, 0)) / 2
        for count in (n[two] / 2 + half, n[two] / 2 - half):
            kept = np.maximum(count, 1e-300)
            change[two] += body(kept, np.ones_like(kept), kept**2)
        x, k, y = n[many], i[many], q[many]
        mean = x / k
        left, spread = x - mean, np.maximum(y / k - mean**2, 0)
        log = left * (np.log(k - 1) - digamma_whole(k - 1)) - left * np.log(left) - 0.5 * spread / left
        change[many] += k * (log + 0.5 * (y * (k - 1) / k / left - left / (k - 1)))
        n1 = np.where(one, -n, np.where(two, n, 0.0))
        n2 = np.where(two, -2 * n, np.where(i == 3, 2 * n, 0.0))
        parts = change, n1, n2, np.where(one, -1.0, np.where(two, 2.0, 0.0)), -n
        return Sums(*(np.asarray((self.times * part).sum()) for part in parts))

    @cached_property
    def c2(self) -> float:
        """c1 with what it still misses to second order, in bits."""
        return self.c1 + self.delta

    @cached_property
    def coverage(self) -> float:
        """C = 1 − N₁/N: the estimated share of a further sample's rows that would be states already seen (Good-Turing, by samples)."""
        return 1 - float(self.sums.N1 / self.sums.N)

    @cached_property
    def recurrence(self) -> float:
        """a = N₂/N₁ = −d ln(1 − C) / d ln M: how often a state met once would come back in as much data again."""
        return float(self.sums.N2 / self.sums.N1) if self.sums.N1 else math.inf

    @cached_property
    def richness(self) -> float:
        """Chao2: at least so many different states there are, K + (M − 1)/M · Q₁(Q₁ − 1) / 2(Q₂ + 1) (Chao 1987)."""
        m = self.samples
        return self.states + (m - 1) / m * self.once * (self.once - 1) / (2 * (self.twice + 1))

    @cached_property
    def collision(self) -> float:
        """The chance that rows of two different samples are one state, (Σn² − ΣQ) / (N² − Σm²): unbiased however the rows of a sample
        depend on each other.  NaN for one sample."""
        pairs = float(self.sums.N) ** 2 - self.square_rows
        return float((self.times * (self.n**2 - self.q)).sum()) / pairs if pairs > 0 else math.nan


def sample_aware(columns: Columns, order: float, estimator: str) -> float:
    """Entropy in bits by "c1" or "c2": order 0 Chao2, 1 c1 or c2, 2 unbiased under any dependence within samples, ∞ the plain count.

    Other orders have no sample-aware form: Chao & Jost (2015), row by row.  NaN where no two samples share a state (order 2).
    """
    if order == 1:
        return columns.c1 if estimator == "c1" else columns.c2
    if order == 0:
        return math.log2(columns.richness)
    if order == 2:
        return -math.log2(columns.collision) + 0.0 if columns.collision > 0 else math.nan
    return estimate_of(CountOfCounts.weighted(columns.n, columns.times), order, "chao-wang-jost")


def coverage(n: NDArray[np.int64], i: NDArray[np.int64]) -> float:
    """Sample-aware coverage C = 1 − N₁/N, with N₁ the rows in states that were seen in one sample only.

    The estimated share of the rows of a *further sample* that fall into states already seen (Good-Turing, leaving one sample out; on
    rows it would be too high, because positions of one image resemble each other).
    """
    return float(1 - n[i == 1].sum() / n.sum())

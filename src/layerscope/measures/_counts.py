"""Entropy estimators for plain counts, every row taken for a sample of its own."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ._special import Floats, digamma, log_falling, recurrence_tail

LN2 = math.log(2)
Estimator = Literal["plug-in", "miller-madow", "grassberger", "chao-shen", "chao-wang-jost", "jackknife", "c1", "c2"]


@dataclass(frozen=True, eq=False)
class CountOfCounts:
    """How many states were seen how often: all that an estimator from plain counts reads.

    **Fields:** `k` (sizes,) the different counts, ascending; `f` (sizes,) how many states have each.
    Cost of every estimator is O(sizes) ≤ √(2N), whatever the number of states.
    """

    k: Floats
    f: Floats

    @classmethod
    def of(cls, counts: ArrayLike) -> "CountOfCounts":
        n = np.asarray(counts).reshape(-1)
        k, f = np.unique(n[n > 0], return_counts=True)
        return cls(k.astype(np.float64), f.astype(np.float64))

    @classmethod
    def weighted(cls, counts: Floats, times: Floats) -> "CountOfCounts":
        """Of states seen `counts` times, each standing for `times` of its kind."""
        k, where = np.unique(counts, return_inverse=True)
        return cls(k, np.bincount(where, times, len(k)).astype(np.float64))

    @cached_property
    def N(self) -> float:
        """Observations."""
        return float((self.f * self.k).sum())

    def seen(self, times: int) -> float:
        """How many states were seen exactly so many times."""
        return float(self.f[self.k == times].sum())

    @cached_property
    def chance(self) -> float:
        """A: the estimated share, among what was seen once, of what a further observation would show again (Chao & Jost 2012)."""
        once, twice, n = self.seen(1), self.seen(2), self.N
        if twice:
            return 2 * twice / ((n - 1) * once + 2 * twice)
        return 2 / ((n - 1) * (once - 1) + 2) if once else 1.0


def renyi(n: Floats, times: Floats, order: float) -> float:
    """The plug-in Rényi entropy in bits, for states seen n > 0 times, `times` of each; computed in the log domain."""
    p = n / (times * n).sum()
    if order == 1:
        return float(-(times * (p * np.log2(p))).sum() + 0.0)
    if order == 0:
        return float(np.log2((times * np.ones_like(p)).sum()))
    if order == math.inf:
        return float(-np.log2(p.max()) + 0.0)
    if abs(order - 1) < 0.5:  # Σ p^α = 1 + Σ p (p^(α-1) - 1): no cancellation next to α = 1
        some = (times * (p * np.expm1((order - 1) * np.log(p)))).sum()
        return float(np.log1p(some) / ((1 - order) * LN2) + 0.0)
    powers = order * np.log2(p)
    top = powers.max()
    return float((top + np.log2((times * np.exp2(powers - top)).sum())) / (1 - order) + 0.0)


def plug_in(c: CountOfCounts) -> float:
    """ln N − (1/N) Σ f_k k ln k."""
    return math.log(c.N) - float((c.f * c.k * np.log(c.k)).sum()) / c.N


def miller_madow(c: CountOfCounts) -> float:
    """The plug-in plus (states − 1) / 2N.  **Source:** Miller 1955, in Quastler, Information Theory in Psychology."""
    return plug_in(c) + (float(c.f.sum()) - 1) / (2 * c.N)


def grassberger(c: CountOfCounts) -> float:
    """ln N − (1/N) Σ f_k k G(k), G(k) = ψ(k) + ½(−1)^k [ψ((k+1)/2) − ψ(k/2)].  **Source:** Grassberger 2003, arXiv:physics/0307138."""
    sign = np.where(c.k % 2 == 0, 0.5, -0.5)
    g = digamma(c.k) + sign * (digamma((c.k + 1) / 2) - digamma(c.k / 2))
    return math.log(c.N) - float((c.f * c.k * g).sum()) / c.N


def chao_shen(c: CountOfCounts) -> float:
    """Coverage-adjusted Horvitz-Thompson: −Σ f_k q ln q / (1 − (1 − q)^N), q = Ĉ k/N, Ĉ = 1 − f₁/N.

    Known, and erratic: near full coverage it can be worse than the plug-in.  **Source:** Chao & Shen 2003, Environ. Ecol. Stat. 10:429.
    """
    once = c.seen(1)
    covered = 1 - (once if once < c.N else c.N - 1) / c.N
    q = covered * c.k / c.N
    with np.errstate(divide="ignore"):
        seen = -np.expm1(c.N * np.log1p(-np.minimum(q, 1 - 1e-16)))
    return float(-(c.f * q * np.log(q) / seen).sum() + 0.0) if covered > 0 else 0.0


def chao_wang_jost(c: CountOfCounts) -> float:
    """ψ(N) − (1/N) Σ f_k k ψ(k) + (f₁/N) T(N, A), the tail in its stable form.  **Source:** Chao, Wang & Jost 2013, MEE 4:1091."""
    head = float(digamma(c.N)) - float((c.f * c.k * digamma(c.k)).sum()) / c.N
    return head + c.seen(1) / c.N * float(recurrence_tail(int(c.N), c.chance))


def jackknife(c: CountOfCounts) -> float:
    """N·H − (N−1)/N Σ f_k k H_{−k}: one row left out after the other.  **Source:** Zahl 1977, Ecology 58:907.

    In closed form g(N) − (1/N) Σ f_k k g(k) with g(k) = k ln k − (k−1) ln(k−1) = ln k − (k−1) ln(1 − 1/k): taking N·H from it as written
    would lose a digit with every tenfold N.
    """

    def g(k: Floats) -> Floats:
        return np.log(k) - (k - 1) * np.log1p(-1 / np.maximum(k, 2))

    return float(g(np.asarray(c.N)) - (c.f * c.k * g(c.k)).sum() / c.N)


SHANNON: dict[str, Callable[[CountOfCounts], float]] = {
    "plug-in": plug_in,
    "miller-madow": miller_madow,
    "grassberger": grassberger,
    "chao-shen": chao_shen,
    "chao-wang-jost": chao_wang_jost,
    "jackknife": jackknife,
}
"""Estimators of order 1 in nats, by name."""


def chao_jost(c: CountOfCounts, order: float) -> float:
    r"""Rényi entropy of any order ≥ 0 in nats, with the order-1 value of Chao, Wang & Jost; order 2 is the unbiased U-statistic.

    $\sum_s p_s^q \approx \sum_k f_k \frac{\Gamma(k+1)\Gamma(N+1-q)}{\Gamma(k+1-q)\Gamma(N+1)}
    + \frac{f_1}{N}\frac{\sin\pi q}{\pi} z\int_0^1 \frac{u^{N-q}(1-u)^{q-1}}{1-zu}du$, z = 1 − A, the second part for q < 2 only: the
    published double sum in closed form (Chu-Vandermonde).
    **Gives:** NaN where the data cannot say: some state seen once and none twice (but for orders 0, 1, 2), or no coincidence for order 2.
    **Source:** Chao & Jost 2015, Methods Ecol. Evol. 6:873; order 0 is Chao 1984 (bias-corrected).
    """
    n, once, twice = c.N, c.seen(1), c.seen(2)
    if order == math.inf:
        return math.log(n / float(c.k[-1]))
    if order == 0:
        return math.log(float(c.f.sum()) + (n - 1) / n * once * (once - 1) / (2 * (twice + 1)))
    if abs(order - 1) < 1e-8:  # nearer than the logarithm of a sum near 1 can tell
        return chao_wang_jost(c)
    if n < order or (order != 2 and once and not twice):
        return math.nan
    whole = order == int(order)
    k, f = (c.k[c.k >= order], c.f[c.k >= order]) if whole else (c.k, c.f)
    logs, sign = log_falling(k, order)
    total = float((f * sign * np.exp(logs - log_falling(n, order)[0])).sum())
    if once and order < 2 and c.chance < 1:
        total += once / n * _tail(n, c.chance, order)
    return math.log(total) / (1 - order) if total > 0 else math.nan


def _tail(n: float, chance: float, order: float) -> float:
    """The second part of `chao_jost`, u = e^(−s/N), on a logarithmic grid; what lies below the grid by its leading term."""
    s = np.exp(np.linspace(math.log(1e-14), math.log(200), 6001))
    t = s / n
    g = np.exp(-t * (n + 1 - order)) * (-np.expm1(-t)) ** (order - 1) / (chance - (1 - chance) * np.expm1(-t)) * t
    step = math.log(s[1] / s[0])
    integral = float(g.sum()) * step + float(t[0]) ** order / (order * chance) - float(g[0]) * step / 2
    return math.sin(math.pi * order) / math.pi * (1 - chance) * integral


def check_estimator(name: str, known: tuple[str, ...]) -> None:
    """Raise where there is no estimator of this name here."""
    if name in known:
        return
    if name in ("c1", "c2"):
        raise ValueError(
            f"entropy: {name!r} reads in which samples the states occurred, and plain counts do not say it. "
            f"Take results['layer'].entropy(estimator={name!r}), or one of {', '.join(map(repr, known))}."
        )
    raise ValueError(f"entropy: there is no estimator {name!r}. Choose one of {', '.join(map(repr, known))}.")


def estimated(counts: NDArray[np.int64], order: float, estimator: str) -> float:
    """Entropy of plain counts in bits by a corrected estimator; orders other than 1 are estimated by "chao-wang-jost" only."""
    return estimate_of(CountOfCounts.of(counts), order, estimator)


def estimate_of(c: CountOfCounts, order: float, estimator: str) -> float:
    """The same from a count of counts, whole or estimated."""
    if estimator == "chao-wang-jost":
        return chao_jost(c, order) / LN2 + 0.0
    if order != 1:
        raise ValueError(
            f"entropy: {estimator!r} is an estimator of order 1, asked for order {order:g}. Orders other than 1 have 'plug-in' and "
            "'chao-wang-jost' (in the form of Chao & Jost 2015)."
        )
    return SHANNON[estimator](c) / LN2 + 0.0

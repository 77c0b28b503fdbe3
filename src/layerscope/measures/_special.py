"""The few special functions that estimators need, so that the core needs no SciPy (the tests compare with it)."""

import math
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike, NDArray

EULER = 0.57721566490153286061
Floats = NDArray[np.float64]


def digamma(x: ArrayLike) -> Floats:
    r"""$\psi(x) = \Gamma'(x)/\Gamma(x)$ for x > 0, to 1e-14.

    **Source:** recurrence up to 10, then the asymptotic series (Abramowitz & Stegun 6.3.18).
    """
    x = np.array(x, np.float64)
    below = np.zeros_like(x)
    for _ in range(10):
        small = x < 10
        if not small.any():
            break
        below -= np.where(small, 1 / x, 0.0)
        x = np.where(small, x + 1, x)
    y = 1 / (x * x)
    series = y * (1 / 12 - y * (1 / 120 - y * (1 / 252 - y * (1 / 240 - y * (1 / 132 - y * 691 / 32760)))))
    return below + np.log(x) - 0.5 / x - series


@lru_cache(maxsize=1)
def _digamma_table() -> Floats:
    return digamma(np.arange(1, 4097))


def digamma_whole(k: Floats) -> Floats:
    """ψ(k) of whole numbers ≥ 1, from a table up to 4096 and by the asymptotic series above: quick for many."""
    table, y = _digamma_table(), 1 / k
    above = np.log(k) - y * (0.5 + y * (1 / 12 - y * y / 120))
    return np.where(k <= len(table), table[np.minimum(k, len(table)).astype(np.int64) - 1], above)


def scaled_e1(x: ArrayLike) -> Floats:
    r"""$e^x E_1(x)$ for x > 0, which neither overflows nor vanishes, to 1e-13 relative.

    **Source:** power series up to 1 (Abramowitz & Stegun 5.1.11), above it the continued fraction 5.1.22, contracted and from below.
    """
    x = np.array(x, np.float64)
    low = np.minimum(x, 1.0)
    series, term = -EULER - np.log(low), np.full_like(low, -1.0)
    for k in range(1, 20):
        term = term * -low / k
        series = series + term / k
    high = np.maximum(x, 1.0)
    fraction = high + 2 * 90 + 1
    for k in range(90, 0, -1):
        fraction = high + 2 * k - 1 - k * k / fraction
    return np.where(x <= 1, np.exp(low) * series, 1 / fraction)


def log_falling(x: ArrayLike, order: float) -> tuple[Floats, Floats]:
    r"""ln |Γ(x + 1) / Γ(x + 1 − q)| and its sign, elementwise, for x ≥ 1: of whole q the falling factorial x (x − 1) … (x − q + 1).

    The difference of two logarithms of Γ loses all its digits for 10^12 rows, so beyond 40 + q it is taken from Stirling's series:
    $q \ln(z - q) - (z - \frac12) \ln(1 - q/z) - q + s(z) - s(z - q)$ with z = x + 1 and s(z) = 1/12z − 1/360z³ + 1/1260z⁵.
    """
    x = np.asarray(x, np.float64)
    z = np.maximum(x + 1, 41 + order)

    def series(z: Floats) -> Floats:
        return (1 / 12 - (1 / 360 - 1 / (1260 * z * z)) / (z * z)) / z

    far = order * np.log(z - order) - (z - 0.5) * np.log1p(-order / z) - order + series(z) - series(z - order)
    near = np.minimum(x, 40 + order)
    below, sign = log_gamma(near + 1 - order)
    large = x >= 40 + order
    return np.where(large, far, log_gamma(near + 1)[0] - below), np.where(large, 1.0, sign)


def log_gamma(x: ArrayLike) -> tuple[Floats, Floats]:
    """ln |Γ(x)| and the sign of Γ(x), elementwise, for any x that is no pole."""
    x = np.asarray(x, np.float64)
    flat = [math.lgamma(float(value)) for value in x.reshape(-1)]
    sign = np.where((x < 0) & (np.floor(x) % 2 != 0), -1.0, 1.0)
    return np.array(flat).reshape(x.shape), sign


@lru_cache(maxsize=64)
def student(degrees: int) -> float:
    """The 97.5 % point of Student's t: to 4e-4 for four degrees of freedom, 1e-5 from nine up, and exact below four.

    **Source:** Abramowitz & Stegun 26.7.5 (Cornish-Fisher).
    """
    if degrees < 4:
        return (math.inf, 12.706204736, 4.302652730, 3.182446305)[max(0, degrees)]
    z = 1.959963984540054
    g1 = (z**3 + z) / 4
    g2 = (5 * z**5 + 16 * z**3 + 3 * z) / 96
    g3 = (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384
    g4 = (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / 92160
    return z + g1 / degrees + g2 / degrees**2 + g3 / degrees**3 + g4 / degrees**4


@lru_cache(maxsize=64)
def poisson_upper(seen: int) -> float:
    """The 95 % upper limit of a Poisson mean of which `seen` was observed: the λ with P(X ≤ seen | λ) = 0.05 (Garwood 1936).

    >>> round(poisson_upper(0), 4)
    2.9957
    """
    low, high = float(seen), seen + 10 + 5 * math.sqrt(seen + 1)
    for _ in range(60):
        middle = (low + high) / 2
        term = total = math.exp(-middle)
        for k in range(1, seen + 1):
            term *= middle / k
            total += term
        low, high = (middle, high) if total > 0.05 else (low, middle)
    return (low + high) / 2


def recurrence_tail(r0: int, chance: ArrayLike) -> Floats:
    r"""$T(N, A) = \sum_{r \ge N} (1-A)^{r-N+1} / r$, the unseen part of an entropy in units of the mass seen once; N = `r0`, A = `chance`.

    Chao, Wang & Jost (2013) print it as $(1-A)^{1-N}(-\ln A - \sum_{r<N} (1-A)^r / r)$, which cancels catastrophically.  Here: terms
    one by one where A ≥ 1/20 or r < 30, and beyond by Euler-Maclaurin, with $c = -\ln(1-A)$:
    $e^{-c} [e^{cN} E_1(cN)] + \frac{e^{-c}}{N} (\frac12 + \frac{c+1/N}{12} - \frac{c^3 + 3c^2/N + 6c/N^2 + 6/N^3}{720})$.  To 1e-9 relative.
    """
    a = np.asarray(chance, np.float64)
    z = 1 - np.minimum(a, 1.0)
    total, power = np.zeros_like(z), np.ones_like(z)
    large = a >= 0.05
    last = float(z[large].max()) if large.any() else 0.0
    terms = min(2000, math.ceil(math.log(1e-16) / math.log(last))) if 0 < last < 1 else 0
    begin = max(30, r0)
    for r in range(r0, max(begin, r0 + terms)):
        power = power * z
        total = total + np.where(large | (r < begin), power / r, 0.0)
    if large.all():
        return total
    c = -np.log1p(-np.where(large, 0.01, a))
    first = np.exp(-c) / begin
    n = float(begin)
    bend = (c + 1 / n) / 12 - (c**3 + 3 * c**2 / n + 6 * c / n**2 + 6 / n**3) / 720
    beyond = np.exp(-c) * scaled_e1(np.maximum(c * n, 1e-300)) + first * (0.5 + bend)
    return np.where(large, total, total + z ** (begin - r0) * beyond)

"""Estimators against numbers worked out elsewhere.

`[10, 5, 5, 3, 2, 2, 1, 1, 1, 1, 1]` and `[4, 2, 1, 1]`: from the definitions in the cited papers, with mpmath (Chao-Shen, Grassberger, Zahl
also by hand for the second).  The tail of Chao, Wang & Jost, and the two cases in which their formula as printed cancels: mpmath
with 60 digits.  Special functions: SciPy.
"""

import itertools
import math
from collections.abc import Sequence

import numpy as np
import pytest
import scipy.special
import scipy.stats

from layerscope._errors import EmptyTally
from layerscope.measures import entropy
from layerscope.measures._columns import Columns
from layerscope.measures._special import (
    digamma,
    digamma_whole,
    log_falling,
    poisson_upper,
    recurrence_tail,
    scaled_e1,
    student,
)

LONG, SHORT = [10, 5, 5, 3, 2, 2, 1, 1, 1, 1, 1], [4, 2, 1, 1]
GOLDEN = {
    "plug-in": (2.9627047063, 1.75),
    "miller-madow": (3.1881258064, 2.0205053202),
    "grassberger": (3.3877392691, 2.1878052690),
    "chao-shen": (3.3450835244, 2.2771113427),
    "chao-wang-jost": (3.3657084056, 2.2580530405),
    "jackknife": (3.3180197965, 2.2259592967),
}


@pytest.mark.parametrize("name", GOLDEN)
def test_golden_values(name: str) -> None:
    for counts, bits in zip((LONG, SHORT), GOLDEN[name], strict=True):
        assert entropy(counts, estimator=name) == pytest.approx(bits, abs=6e-11)  # type: ignore[arg-type]
        assert entropy([*counts[::-1], 0], estimator=name) == pytest.approx(bits, abs=6e-11)  # type: ignore[arg-type]


def test_golden_orders() -> None:
    assert entropy(LONG, 2, "chao-wang-jost") == pytest.approx(2.8249132934, abs=6e-11)
    assert entropy(SHORT, 2, "chao-wang-jost") == pytest.approx(2.0, abs=1e-12)
    assert 2 ** entropy(LONG, 0, "chao-wang-jost") == pytest.approx(14.229167, abs=1e-6)  # Chao1
    assert entropy(LONG, math.inf, "chao-wang-jost") == pytest.approx(entropy(LONG, math.inf), abs=1e-14)


def brute_jackknife(counts: Sequence[int]) -> float:
    n = sum(counts)
    without = [entropy([*counts[:s], k - 1, *counts[s + 1 :]]) * k for s, k in enumerate(counts)]
    return n * entropy(counts) - (n - 1) / n * sum(without)


@pytest.mark.parametrize("counts", [LONG, SHORT, [1] * 8, [100, 1, 2], [3, 3]])
def test_the_jackknife_is_that_of_leaving_out_row_by_row(counts: list[int]) -> None:
    assert entropy(counts, estimator="jackknife") == pytest.approx(brute_jackknife(counts), abs=1e-10)


def test_grassbergers_numbers_obey_his_recursion() -> None:
    g = [0.0, -np.euler_gamma - math.log(2), 2 - np.euler_gamma - math.log(2)]
    for k in range(3, 60):
        g.append(g[k - 1] if k % 2 else g[k - 2] + 2 / (k - 1))
    for k in range(1, 60):  # two states with k rows each
        expected = (math.log(2 * k) - g[k]) / math.log(2)
        assert entropy([k, k], estimator="grassberger") == pytest.approx(expected, abs=1e-12)


def chao_jost_as_printed(counts: Sequence[int], q: float) -> float:
    """The double sum of Chao & Jost (2015), equation 10 for Hill numbers, as Rényi entropy in bits."""
    n, once, twice = sum(counts), counts.count(1), counts.count(2)
    a = 2 * twice / ((n - 1) * once + 2 * twice)
    total = 0.0
    for r in range(n):
        delta = sum(k / n * scipy.special.binom(n - k, r) / scipy.special.binom(n - 1, r) for k in counts if k <= n - r)
        total += scipy.special.binom(q - 1, r) * (-1) ** r * delta
    inner = sum(scipy.special.binom(q - 1, r) * (a - 1) ** r for r in range(n))
    total += once / n * (1 - a) ** (1 - n) * (a ** (q - 1) - inner)
    return math.log2(total) / (1 - q)


@pytest.mark.parametrize("order", [0.3, 0.5, 1.5, 3.0])
def test_other_orders_are_the_published_double_sum(order: float) -> None:
    for counts in (LONG, SHORT, [5, 4, 2, 2, 1]):
        assert entropy(counts, order, "chao-wang-jost") == pytest.approx(chao_jost_as_printed(counts, order), abs=1e-5)


# mpmath, 50 digits: Γ functions of 10^9 and more leave nothing of the sixteen digits of a float, where they are subtracted
MANY = {
    (10**9, 10**8, 5 * 10**7, 3, 2, 2, 1, 1, 1): {
        0.3: 1.264354100804, 0.999: 0.6789429619355, 1.5: 0.4839680226277, 2: 0.3853458398165, 2.5: 0.3324839706222, 5: 0.2520386231853,
    },
    (10**11, 10**10, 7, 2, 1, 1): {
        0.3: 0.7829070637646, 0.999: 0.4398132644387, 1.5: 0.3226795096476, 2: 0.2606517548139, 2.5: 0.2261358704962, 5: 0.1718757981515,
    },
}  # fmt: skip


@pytest.mark.parametrize("counts", MANY)
def test_orders_of_very_many_rows(counts: tuple[int, ...]) -> None:
    for order, bits in MANY[counts].items():
        assert entropy(counts, order, "chao-wang-jost") == pytest.approx(bits, abs=1e-9), order
    jackknife = {9: 0.6784073589703734, 11: 0.4394969905406046}[len(str(counts[0])) - 1]
    assert entropy(counts, estimator="jackknife") == pytest.approx(jackknife, abs=1e-13)


def test_falling_factorials_are_one_curve() -> None:
    """Where Stirling's series takes over, and at the whole numbers, where the sign changes."""
    for order in (0.5, 1.5, 2.0, 7.25):
        x = np.array([39.9, 40, 40.1, 1000]) + order
        expected = scipy.special.gammaln(x + 1) - scipy.special.gammaln(x + 1 - order)
        np.testing.assert_allclose(log_falling(x, order)[0], expected, rtol=1e-12)
    logs, sign = log_falling(np.array([1.0, 2.0, 3.0]), 2.5)
    expected = scipy.special.gamma([2, 3, 4]) / scipy.special.gamma([-0.5, 0.5, 1.5])
    np.testing.assert_allclose(sign * np.exp(logs), expected, rtol=1e-13)


def test_the_plug_in_is_scipys() -> None:
    rng = np.random.default_rng(0)
    for counts in (LONG, SHORT, rng.integers(0, 50, 1000), rng.integers(1, 10**9, 20)):
        assert entropy(counts) == pytest.approx(float(scipy.stats.entropy(counts, base=2)), abs=1e-12)


@pytest.mark.parametrize(
    ("counts", "chao1", "good", "renyi"),
    [
        (LONG, 14.333333333333334, 0.84375, (3.2078162226786793, 2.573735245297902, 2.328962666000431)),
        (SHORT, 4.5, 0.75, (1.8735035908796478, 1.540568381362703, 1.3952733171855252)),
        ([7, 1, 1, 1, 2, 2, 9], 8.0, 0.8695652173913043, (2.517075951189559, 1.907572559715232, 1.7396252409237156)),
    ],
)
def test_what_scikit_bio_has(counts: list[int], chao1: float, good: float, renyi: tuple[float, ...]) -> None:
    """scikit-bio 0.7.4: `chao1` (bias-corrected, and without the factor (N − 1)/N of Chao & Jost), `goods_coverage`, `renyi`."""
    n, states = np.array(counts), len(counts)
    total = int(n.sum())
    columns = Columns(*(x.astype(float) for x in (n, n, n, np.ones_like(n))), samples=total)
    for richness in (2 ** entropy(counts, 0, "chao-wang-jost"), columns.richness):
        assert states + (richness - states) * total / (total - 1) == pytest.approx(chao1, rel=1e-12)
    assert columns.coverage == pytest.approx(good, abs=1e-14)
    for order, bits in zip((0.5, 2, 3), renyi, strict=True):
        assert entropy(counts, order) == pytest.approx(bits, abs=1e-13)


@pytest.mark.parametrize("order", [2, 3])
def test_whole_orders_estimate_their_sum_of_powers_without_bias(order: int) -> None:
    """Exactly, over all 3^6 outcomes of six rows from three states; where nothing coincides the estimate of Σ p^q is 0."""
    p = np.array([0.6, 0.3, 0.1])
    mean = plain = 0.0
    for outcome in itertools.product(range(3), repeat=6):
        counts, chance = np.bincount(outcome, minlength=3), float(np.prod(p[list(outcome)]))
        if counts.max() >= order:
            kept = np.where(counts >= order, counts, 0)
            falling = sum(math.perm(int(k), order) for k in kept) / math.perm(6, order)
            bits = entropy(counts, order, "chao-wang-jost")
            assert math.isnan(bits) or 2 ** ((1 - order) * bits) == pytest.approx(falling, rel=1e-10)
            mean += chance * falling
        plain += chance * 2 ** ((1 - order) * entropy(counts, order))
    assert mean == pytest.approx(float((p**order).sum()), rel=1e-10)
    assert plain > 1.05 * mean, "the canary: the plain count is not unbiased"


def test_orders_of_one_estimator_meet() -> None:
    for step in (1e-4, -1e-4):
        assert entropy(LONG, 1 + step, "chao-wang-jost") == pytest.approx(entropy(LONG, 1, "chao-wang-jost"), abs=1e-3)
        assert entropy(LONG, 2 + step, "chao-wang-jost") == pytest.approx(entropy(LONG, 2, "chao-wang-jost"), abs=1e-3)


# mpmath, 60 digits: the integral of (1 - A) u^(N - 1) / (1 - (1 - A) u) from 0 to 1
TAILS = [
    (2, "0.9", 0.05360515657826301),
    (5, "0.3", 0.3524134568621519),
    (29, "0.01", 1.245684163536489),
    (31, "0.01", 1.202812195186212),
    (50, "0.0001", 4.7592938177791),
    (200, "0.001", 1.494004955173234),
    (1000, "0.5", 0.0009990029870744636),
]


@pytest.mark.parametrize(("n", "chance", "value"), TAILS)
def test_the_tail_by_summation(n: int, chance: str, value: float) -> None:
    a = float(chance)
    terms = np.arange(n, n + int(60 / a) + 10)
    summed = math.fsum(np.exp((terms - n + 1) * math.log1p(-a)) / terms)
    assert float(recurrence_tail(n, a)) == pytest.approx(summed, rel=2e-9)
    assert value == pytest.approx(summed, rel=1e-9)


def test_the_tail_is_one_curve() -> None:
    """Where the way to compute it changes (r = 30, A = 1/20) it must not jump."""
    a = np.array([0.049999999, 0.0500000001])
    for n in (1, 20, 29, 30, 31, 1000):
        below, above = recurrence_tail(n, a)
        assert below == pytest.approx(above, rel=1e-7)
    values = [float(recurrence_tail(n, 1e-3)) for n in (29, 30, 31)]
    assert values[0] - values[1] == pytest.approx(values[1] - values[2], rel=0.1)


def test_where_the_printed_formula_cancels() -> None:
    """The formula as printed, with 400 digits; with 16 it gives 1e189 and the like for the first."""
    assert entropy([1] + [2] * 300, estimator="chao-wang-jost") == pytest.approx(8.6224762172591, abs=1e-11)
    assert entropy([1, 1, 7, 7, 7] + [2] * 40, estimator="chao-wang-jost") == pytest.approx(5.6717222820614, abs=1e-11)
    assert entropy([1] * 10**5, estimator="chao-wang-jost") == pytest.approx(math.log2(10**10 / 2), abs=1e-3)


def test_special_functions_are_scipys() -> None:
    x = np.concatenate([np.linspace(0.01, 40, 2000), [1e3, 1e6, 1e9]])
    np.testing.assert_allclose(digamma(x), scipy.special.digamma(x), rtol=1e-12, atol=3e-14)
    k = np.concatenate([np.arange(1, 5000), [10**6, 10**9]]).astype(float)
    np.testing.assert_allclose(digamma_whole(k), scipy.special.digamma(k), rtol=1e-13, atol=1e-14)
    x = np.concatenate([[1e-12, 1e-6], np.linspace(0.001, 600, 3000)])
    np.testing.assert_allclose(scaled_e1(x), np.exp(x) * scipy.special.exp1(x), rtol=1e-13)
    for degrees in (1, 2, 3, 4, 9, 30, 99, 8191):
        assert student(degrees) == pytest.approx(scipy.stats.t.ppf(0.975, degrees), rel=4e-4 if degrees < 9 else 1e-5)
    for seen in (0, 1, 5, 29):
        assert poisson_upper(seen) == pytest.approx(scipy.stats.chi2.ppf(0.95, 2 * seen + 2) / 2, rel=1e-12)


def test_with_one_row_a_sample_c1_is_chao_wang_and_jost() -> None:
    """Apart from the form of A, which here does not jump where nothing was seen twice."""
    n = np.array(LONG)
    columns = Columns(*(x.astype(float) for x in (n, n, n, np.ones_like(n))), samples=int(n.sum()))
    once, twice, total = 5, 2, int(n.sum())
    a = (2 * twice + 2) / ((total - 1) * (once - 1) + 2 * twice + 2)
    head = scipy.special.digamma(total) - (n * scipy.special.digamma(n)).sum() / total
    expected = (head + once / total * float(recurrence_tail(total, a))) / math.log(2)
    assert columns.c1 == pytest.approx(expected, abs=1e-12)
    assert columns.collision == 0 or columns.square_rows == 0
    assert columns.richness == pytest.approx(2 ** entropy(LONG, 0, "chao-wang-jost"), rel=1e-12)


@pytest.mark.parametrize(
    ("name", "order", "counts", "says"),
    [
        ("c2", 1, [3, 1], "plain counts do not say it"),
        ("nsb", 1, [3, 1], "no estimator 'nsb'. Choose one of 'plug-in'"),
        ("jackknife", 2, [3, 1], "an estimator of order 1, asked for order 2"),
        ("grassberger", 1, [0.5, 0.5], "not whole"),
        ("chao-shen", 1, [3, -1], "≥ 0"),
    ],
)
def test_what_cannot_be_estimated_is_refused(name: str, order: float, counts: list[float], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        entropy(counts, order, name)  # type: ignore[arg-type]


def test_estimates_of_very_little() -> None:
    for name in GOLDEN:
        one = (
            1 + np.euler_gamma / math.log(2) if name == "grassberger" else 0
        )  # G(1) = -γ - ln 2, whatever was seen once
        assert entropy([1], estimator=name) == pytest.approx(one, abs=1e-12), name  # type: ignore[arg-type]
        assert entropy([7], estimator=name) == pytest.approx(0, abs=0.3), name  # type: ignore[arg-type]
        with pytest.raises(EmptyTally):
            entropy([0], estimator=name)  # type: ignore[arg-type]
    assert math.isnan(entropy([1, 1, 1], 2, "chao-wang-jost")), "no coincidence says nothing of collisions"
    assert math.isnan(entropy([3, 1, 1], 0.5, "chao-wang-jost")), "states seen once and none twice"


def test_bias_is_no_worse_than_the_plug_ins() -> None:
    """Exactly, over all 3^6 outcomes of six rows from three states, and by 300 draws from wider laws; not so for Chao-Shen (no promise)."""
    names = ("miller-madow", "grassberger", "jackknife", "chao-wang-jost")
    p = np.array([0.6, 0.3, 0.1])
    truth = float(-(p * np.log2(p)).sum())
    mean = dict.fromkeys(("plug-in", *names), 0.0)
    for outcome in itertools.product(range(3), repeat=6):
        counts = np.bincount(outcome, minlength=3)
        for name in mean:
            mean[name] += float(np.prod(p[list(outcome)])) * entropy(counts, estimator=name)  # type: ignore[arg-type]
    for name in names:
        assert abs(mean[name] - truth) <= abs(mean["plug-in"] - truth), name
    rng = np.random.default_rng(0)
    for p in (np.full(1024, 1 / 1024), 1 / np.arange(1, 3000), rng.dirichlet(np.ones(2000))):
        p = p / p.sum()
        truth = float(-(p * np.log2(p)).sum())
        draws = [rng.multinomial(1000, p) for _ in range(100)]
        bias = {name: float(np.mean([entropy(d, estimator=name) for d in draws])) - truth for name in mean}  # type: ignore[arg-type]
        for name in names:
            assert abs(bias[name]) <= abs(bias["plug-in"]), (name, bias)

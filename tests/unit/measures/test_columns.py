"""c1, c2 and what is left out one sample at a time, against their definitions carried out by brute force."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import digamma

from layerscope._errors import DataError, FileFormatError
from layerscope.kernels import Records
from layerscope.measures import entropy
from layerscope.measures._columns import Columns, sample_aware
from layerscope.measures._intervals import error_of, without_each
from layerscope.measures._rates import allowed_bits, allowed_in_the_long_run, bits_of, rates_of
from layerscope.measures._special import recurrence_tail
from layerscope.tallies import StateCounts, StateTable
from tests.unit.measures.states import bits_of as patterns_in_bits
from tests.unit.measures.states import fields, one_after_the_other, table_of

UNITS = 5


def columns_of(value: StateCounts) -> Columns:
    return Columns.of(value.records(), value.samples, value.square_rows)


def c1_by_definition(samples: list[np.ndarray]) -> float:
    n, i, q = one_after_the_other(samples)
    m, rows = len(samples), n.sum()
    once, twice, different = n[i == 1].sum(), n[i == 2].sum(), (i == 1).sum()
    tail = 0.0
    if once:
        w = once / different
        top = twice + 2 * w
        tail = once / rows * float(recurrence_tail(m, top / ((m - 1) * max(once - w, 0) + top)))
    first = (n * (np.log(i) - digamma(i) - np.log(n))).sum() / rows
    return float(digamma(m) + math.log(rows / m) + first + ((q / n - n / i) / 2).sum() / rows + tail) / math.log(2)


ragged = st.lists(st.lists(st.integers(0, 5), min_size=1, max_size=6), min_size=2, max_size=8)


def table_of_lists(samples: list[list[int]]) -> StateCounts:
    longest = max(map(len, samples))
    patterns = np.array([[*s, *[0] * (longest - len(s))] for s in samples])
    mask = np.array([[k < len(s) for k in range(longest)] for s in samples])
    return table_of(patterns, UNITS, mask=mask)


@given(ragged)
@settings(max_examples=150, deadline=None)
def test_the_columns_say_what_the_samples_say(samples: list[list[int]]) -> None:
    columns = columns_of(table_of_lists(samples))
    arrays = [np.array(s) for s in samples]
    n, i, _ = one_after_the_other(arrays)
    assert columns.c1 == pytest.approx(c1_by_definition(arrays), abs=1e-9)
    assert columns.plug_in == pytest.approx(entropy(n), abs=1e-12)
    assert columns.coverage == pytest.approx(1 - n[i == 1].sum() / n.sum(), abs=1e-12)
    pairs = [(a, b) for s, t in itertools.permutations(arrays, 2) for a in s for b in t]
    assert columns.collision == pytest.approx(np.mean([a == b for a, b in pairs]), abs=1e-12)


@given(ragged)
@settings(max_examples=150, deadline=None)
def test_leaving_out_a_sample_is_counting_the_others(samples: list[list[int]]) -> None:
    value = table_of_lists(samples)
    kept = value.kept.sifted().ids
    c1, plain = without_each(value, columns_of(value))
    allowed = allowed_in_the_long_run(value)[1]
    for at, g in enumerate(kept.tolist()):
        others = [np.array(s) for k, s in enumerate(samples) if k != g]
        assert c1[at] == pytest.approx(c1_by_definition(others), abs=1e-9)
        assert plain[at] == pytest.approx(entropy(one_after_the_other(others)[0]), abs=1e-9)
        rates = patterns_in_bits(np.concatenate(others), UNITS).mean(0)
        assert allowed[at] == pytest.approx(bits_of(rates).sum(), abs=1e-9)


def test_the_mean_of_leaving_out_needs_no_samples() -> None:
    """δ from n, i and Q is the jackknife over all samples: exact for states of one or two samples, to second order for others."""
    for seed, spread in itertools.product(range(3), (0.2, 1.0)):
        patterns = fields(90, 12, 10, seed, spread)
        value = table_of(patterns, 10)
        columns = columns_of(value)
        without = [c1_by_definition([*patterns[:g], *patterns[g + 1 :]]) for g in range(90)]
        delta = 89 * (columns.c1 - np.mean(without))
        assert columns.once > 5
        assert columns.twice > 5
        assert abs(columns.delta) < columns.tail, "no bound is touched, so this is the jackknife itself"
        assert columns.delta == pytest.approx(delta, rel=0.06, abs=0.01)


def test_the_sums_without_a_sample_are_exact_where_no_state_has_more_than_two() -> None:
    rng = np.random.default_rng(0)
    samples = [rng.integers(0, 4000, 10) for _ in range(64)]
    _, i, _ = one_after_the_other(samples)
    patterns = np.unique(np.concatenate(samples))
    samples = [np.where(np.isin(s, patterns[i > 2]), 4001 + g, s) for g, s in enumerate(samples)]
    columns = columns_of(table_of(np.array(samples), 13))
    assert (columns.i <= 2).all()
    assert columns.twice > 30
    without = [columns_of(table_of(np.array([*samples[:g], *samples[g + 1 :]]), 13)).sums for g in range(64)]
    expected = np.sum(without, axis=0) - 64 * np.array(columns.sums)
    np.testing.assert_allclose(columns.left_out, expected, rtol=1e-9, atol=1e-7)


def test_c2_takes_off_bias() -> None:
    """Mean over 60 draws from a population of 4,000 samples with dependent positions, against its exact entropy."""
    population = fields(4000, 12, 12, 7, 0.5)
    _, n = np.unique(population, return_counts=True)
    truth, rng = entropy(n), np.random.default_rng(0)
    errors = []
    for _ in range(60):
        columns = columns_of(table_of(population[rng.integers(0, 4000, 200)], 12))
        errors.append([columns.plug_in - truth, columns.c1 - truth, columns.c2 - truth])
    plain, first, second = np.abs(np.mean(errors, axis=0))
    assert second < first / 2 < plain / 4


def test_the_standard_error_is_that_of_other_draws() -> None:
    population = fields(3000, 12, 6, 3, 1.0)
    rng = np.random.default_rng(1)
    values, errors = [], []
    for _ in range(80):
        value = table_of(population[rng.integers(0, 3000, 150)], 6)
        columns = columns_of(value)
        values.append(columns.c1)
        errors.append(error_of(without_each(value, columns)[0], 150))
    assert np.mean(errors) == pytest.approx(np.std(values), rel=0.25)
    rows = np.std(values) / (entropy(np.unique(population, return_counts=True)[1]) / math.sqrt(150 * 12))
    assert np.isfinite(rows)


def test_equal_tables_give_equal_bits_however_they_came() -> None:
    """Columns, c2, the interval's delete-one values: the same to the bit under any order of samples, batches and shards."""
    patterns, tally = fields(300, 4, 14, 5), StateTable()
    one = table_of(patterns, 14)
    order = np.random.default_rng(2).permutation(300)
    shuffled = table_of(patterns[order], 14, ids=order)
    cuts = [tally.merge(tally.init(one.site), table_of(patterns[a:b], 14, ids=np.arange(a, b))) for a, b in
            ((200, 300), (0, 7), (7, 200))]  # fmt: skip
    merged = tally.merge(tally.merge(cuts[0], cuts[1]), cuts[2])
    for other in (shuffled, merged):
        a, b = columns_of(one), columns_of(other)
        assert (a.c1, a.c2, a.plug_in, a.coverage) == (b.c1, b.c2, b.plug_in, b.coverage)
        mine, theirs = without_each(one, a)[0], without_each(other, b)[0]
        np.testing.assert_array_equal(mine, theirs)
        assert allowed_bits(one) == allowed_bits(other)


@pytest.mark.parametrize("times", [1, 3, 5000])
def test_large_and_small_counts_take_the_same_road(times: int) -> None:
    """States above 1023 rows are not compressed: nothing may hang on that."""
    n = np.array([times * 2, times * 3, 1, 1, 1])
    one_row = [np.array([s]) for s in np.repeat(np.arange(5), n)]
    value = table_of(np.array(one_row), 3)
    assert columns_of(value).c1 == pytest.approx(c1_by_definition(one_row), abs=1e-10)
    assert columns_of(value).states == 5


def columns_with(n: int, i: int, q: int) -> Columns:
    """Of 10,000 samples with one state of these columns, and a thousand that were seen once."""
    ones = np.ones(1000, np.int64)
    n_, i_, q_ = (np.append(ones, np.array([x], np.uint64).view(np.int64)) for x in (n, i, q))
    return Columns.of(Records(np.arange(1001, dtype=np.uint64)[:, None], n_, i_, q_, np.arange(1001)), 10_000)


def test_squares_up_to_2_to_the_64_are_read_and_more_are_seen() -> None:
    """A sample with 4 billion rows in one state squares to 2^63.8: the sign bit is a digit.  Beyond, the sum has begun anew."""
    rows = 4 * 10**9
    assert columns_with(rows, 1, rows**2).q.max() == pytest.approx(float(rows) ** 2, rel=1e-12)
    with pytest.raises(DataError, match=r"add up to more than 2\^64"):
        columns_with(5 * 10**9, 1, (5 * 10**9) ** 2 % 2**64)


@pytest.mark.parametrize(
    ("n", "head", "tail"),
    [
        (10**6, 0.0221854732854417, 0.008142568518179081),
        (10**9, 3.21726904848546e-5, 8.150702935994324e-6),
        (10**11, 3.881657774502022e-7, 8.15071100519015e-8),
    ],
)
def test_a_billion_rows_cost_no_digits(n: int, head: float, tail: float) -> None:
    """c1 beside the same with 50 digits (mpmath): one state in every sample, and a thousand seen once."""
    columns = columns_with(n, 10_000, n**2 // 10_000)
    assert columns.tail == pytest.approx(tail, rel=1e-8)
    assert columns.c1 - columns.tail == pytest.approx(head, abs=2e-14)
    assert columns.delta == 0
    assert columns.coverage == 1 - 1000 / (n + 1000)


def test_other_orders() -> None:
    value = table_of(fields(200, 3, 8, 1), 8)
    c, n = columns_of(value), value.records().n
    assert sample_aware(c, 0, "c2") == math.log2(c.richness)
    assert sample_aware(c, 2, "c2") == -math.log2(c.collision)
    assert sample_aware(c, math.inf, "c2") == pytest.approx(entropy(n, math.inf))
    assert sample_aware(c, 1.5, "c2") == entropy(n, 1.5, "chao-wang-jost")
    assert sample_aware(c, 1, "c1") == c.c1
    assert c.richness > c.states


def test_the_collision_entropy_is_unbiased_with_dependent_positions() -> None:
    """All rows of a sample equal: rows collide within a sample all the time, and that must not count."""
    rng = np.random.default_rng(0)
    found = [columns_of(table_of(np.repeat(rng.integers(0, 64, (30, 1)), 9, axis=1), 6)).collision for _ in range(400)]
    assert np.mean(found) == pytest.approx(1 / 64, rel=0.08)


def test_a_kept_row_that_the_table_lacks_is_damage() -> None:
    value = table_of(fields(20, 2, 5, 0), 5)
    value.kept.parts[0].rows[0] = 1 << 40
    with pytest.raises(FileFormatError, match="a state of theirs is missing"):
        value.pairs()


def test_rates_and_their_bits() -> None:
    value = table_of(np.array([[0b011], [0b001], [0b001], [0b001]]), 3)
    np.testing.assert_array_equal(rates_of(value), [1, 0.25, 0])
    assert allowed_bits(value) == pytest.approx(0.8112781244591328)  # h(1/4)

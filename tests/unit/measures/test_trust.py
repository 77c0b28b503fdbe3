"""Verdicts, intervals and brackets: what is printed under which circumstances, and every odd input a defined answer."""

import math
from typing import Any, get_args

import numpy as np
import pytest
from numpy.typing import NDArray

from layerscope._errors import EmptyTally
from layerscope._reading import CONSTANT, CORRECTED, EXTRAPOLATED, LOWER_BOUND, MEASURED, SATURATED, UNPROVEN, Reading
from layerscope._site import Site
from layerscope.measures import (
    Efficiency,
    Entropy,
    Estimator,
    NetworkEfficiency,
    Saturation,
    TotalCorrelation,
    difference,
    entropy,
    ranking,
    trust_in,
)
from layerscope.measures._trust import FEWEST, needed_words, rounded
from layerscope.tallies import StateCounts, StateTable
from tests.unit.measures.states import fields, table_of, table_of_bits

C2 = Entropy(estimator="c2")


def background(samples: int, units: int, silent: float, seed: int = 0) -> NDArray[np.bool_]:
    """One row a sample: silent, or `units` fair coins nobody can resolve."""
    rng = np.random.default_rng(seed)
    bits = rng.random((samples, 1, units)) < 0.5
    bits[rng.random(samples) < silent] = False
    return bits


CASES: dict[str, tuple[StateCounts, str]] = {
    "few states, often": (table_of(fields(400, 4, 4, 0), 4), MEASURED),
    "rare ones beside": (table_of(fields(600, 4, 12, 0, 0.3, 2.0), 12), CORRECTED),
    "half of it unseen": (table_of(fields(200, 4, 12, 0, 0.3, 1.0), 12), EXTRAPOLATED),
    "a silent background": (table_of_bits(background(2000, 64, 0.9)), LOWER_BOUND),
    "all different": (table_of_bits(background(400, 64, 0.0)), SATURATED),
    "one state": (table_of(np.zeros((60, 3), np.int64), 5), CONSTANT),
}


@pytest.mark.parametrize("case", CASES)
def test_verdicts(case: str) -> None:
    value, verdict = CASES[case]
    assert trust_in(value).verdict == verdict


def test_coverage_alone_is_no_verdict() -> None:
    """99.1 % coverage, and the plain count is a small part of the truth: what the recurrence is there for."""
    value = table_of_bits(background(3000, 256, 0.99))
    trust = trust_in(value)
    assert trust.coverage > 0.98
    assert trust.verdict == LOWER_BOUND
    truth = 0.08 + 0.01 * 256
    assert trust.plug_in < truth / 2
    assert trust.limits[0] <= truth <= trust.limits[1]


@pytest.mark.parametrize("case", CASES)
def test_what_is_printed_around_which_number(case: str) -> None:
    """An interval around c2 where it is measured or corrected, a bracket elsewhere, and nothing around any other estimator."""
    value, verdict = CASES[case]
    for estimator in get_args(Estimator):
        reading = Entropy(estimator=estimator).compute(value)
        if estimator != "c2":
            assert math.isnan(reading.low)
            assert math.isnan(reading.high)
            assert reading.jackknife is None
            assert "[" not in str(reading)
    reading = C2.compute(value)
    assert reading.low <= float(reading) <= reading.high
    assert reading.undersampled == (verdict in UNPROVEN)
    assert (reading.jackknife is not None) == (verdict in (MEASURED, CORRECTED))
    assert ("[" in str(reading)) == (verdict in (MEASURED, CORRECTED))
    if verdict in (LOWER_BOUND, SATURATED):
        assert str(reading).startswith(f"between {reading.low:.4g} and {reading.high:.4g} bits ({verdict}: coverage")
    if verdict == EXTRAPOLATED:
        assert "bits, between" in str(reading)
    plain = Entropy().compute(value)
    assert (plain.bound == "≥") == (verdict not in (MEASURED, CONSTANT))
    assert float(plain) == entropy(value.records().n)


def test_the_plain_count_says_how_low_it_is() -> None:
    value, _ = CASES["rare ones beside"]
    trust = trust_in(value)
    low = f"{trust.c2 - trust.plug_in:.2g}"
    assert f"(plain count, about {low} bits low)" in str(Entropy().compute(value))
    assert f"misses about {low} bits" in trust.words


def test_the_lead_sentence() -> None:
    for case, start, inside in (
        ("rare ones beside", " bits [", " of what its firing rates allow ("),
        ("half of it unseen", " bits extrapolated, between ", "plain count"),
        ("all different", "between ", "of 64; 400 samples cannot tell (plain count 8.64, 100 % of log2 N)"),
        ("one state", "One state in all 180 observations of 60 samples.", ""),
    ):
        said = str(trust_in(CASES[case][0]))
        assert start in said
        assert inside in said


@pytest.mark.parametrize("case", CASES)
def test_words_for_every_verdict(case: str) -> None:
    value, verdict = CASES[case]
    said = {
        MEASURED: "Sampled well enough",
        CORRECTED: "The plain count misses about",
        EXTRAPOLATED: "Not a 95 % interval",
        LOWER_BOUND: "The plain count is set by the sample size",
        SATURATED: "nothing about the layer",
        CONSTANT: "One state in all",
    }
    assert said[verdict] in trust_in(value).words


def test_intervals_hold() -> None:
    """150 draws from a population with dependent positions: the interval covers about 95 %, the plain count ± its error hardly ever."""
    population = fields(4000, 12, 12, 7, 0.5)
    truth = entropy(np.unique(population, return_counts=True)[1])
    rng = np.random.default_rng(0)
    held = []
    for _ in range(150):
        trust = trust_in(table_of(population[rng.integers(0, 4000, 400)], 12))
        low, high = trust.limits
        assert trust.verdict not in UNPROVEN
        half = (high - low) / 2
        held.append((low <= truth <= high, abs(trust.plug_in - truth) < half))
    covers, plain = np.mean(held, axis=0)
    assert 0.9 <= covers <= 1.0
    assert plain < 0.05, "the canary: the same width around the plain count must fail"


def test_too_few_samples_give_no_interval() -> None:
    for samples in (FEWEST - 1, FEWEST):
        value = table_of(fields(samples, 60, 3, 0), 3)
        assert (trust_in(value).verdict in (MEASURED, CORRECTED)) == (samples >= FEWEST)


# --- odd input ------------------------------------------------------------------------------------------------------------------------


def test_nothing_observed() -> None:
    with pytest.raises(EmptyTally, match="no state was observed"):
        trust_in(StateTable().init(Site("layer")))
    with pytest.raises(EmptyTally, match="the mask leaves out all 6 rows"):
        trust_in(table_of(np.zeros((2, 3), np.int64), 4, mask=np.zeros((2, 3), bool)))


def test_one_sample() -> None:
    trust = trust_in(table_of(np.arange(12)[None], 5))
    assert (trust.verdict, trust.coverage) == (SATURATED, 0.0)
    assert trust.limits == (0.0, 5.0), "one sample says nothing of others"
    assert trust.c2 == pytest.approx(math.log2(12))
    assert math.isinf(trust.error)
    one = trust_in(table_of(np.array([[1]]), 5))
    assert (one.verdict, one.plug_in, one.limits) == (SATURATED, 0.0, (0.0, 5.0))
    assert str(one)


def test_one_row_a_sample() -> None:
    value = table_of(fields(3000, 1, 6, 0), 6)
    reading = C2.compute(value)
    assert reading.verdict in (MEASURED, CORRECTED)
    assert reading.low < float(reading) < reading.high


def test_all_states_different() -> None:
    reading = C2.compute(table_of_bits(background(400, 64, 0.0)))
    assert reading.verdict == SATURATED
    assert reading.low < 20 < 60 < reading.high <= 64


def test_all_states_different_and_no_room_for_more() -> None:
    """c2 then stands at one bit a unit for want of anything to go by; that must not pass for a measurement."""
    value = table_of(np.arange(512)[:, None], 9)
    assert trust_in(value).verdict == SATURATED


def test_one_state() -> None:
    reading = C2.compute(table_of(np.zeros((60, 3), np.int64), 5))
    assert (float(reading), reading.low, reading.high, reading.verdict) == (0.0, 0.0, 0.0, CONSTANT)


def test_ragged_masked_samples() -> None:
    rng = np.random.default_rng(0)
    patterns = fields(300, 9, 6, 0)
    mask = np.arange(9) < rng.integers(0, 10, 300)[:, None]
    value = table_of(patterns, 6, mask=mask)
    assert value.samples == int(mask.any(axis=1).sum()) < 300
    reading = C2.compute(value)
    assert reading.verdict in (MEASURED, CORRECTED)
    assert "masked rows left out" in reading.note
    assert reading.low < float(reading) < reading.high


def test_ids_that_repeat_are_seen_and_cost_the_interval() -> None:
    patterns = fields(300, 4, 4, 0)
    twice = table_of(np.concatenate([patterns, patterns]), 4, ids=np.arange(600) % 300)
    assert trust_in(table_of(patterns, 4)).verdict == MEASURED
    assert trust_in(twice).verdict not in (MEASURED, CORRECTED)
    assert "kept samples have the id of another" in C2.compute(twice).note


def test_the_same_data_twice_under_new_ids_is_seen() -> None:
    patterns = fields(300, 4, 11, 0)
    twice = table_of(np.concatenate([patterns, patterns]), 11)
    assert "every state occurs in a multiple of 2 samples, as if the data came 2 times" in Entropy().compute(twice).note
    assert trust_in(twice).verdict not in (MEASURED, CORRECTED)
    assert trust_in(twice).columns.coverage == 1.0, "coverage is fooled"
    assert "came" not in Entropy().compute(table_of(patterns, 11)).note


# --- samples needed -------------------------------------------------------------------------------------------------------------------


def test_samples_needed() -> None:
    """The true number lies between the two ends: counted by drawing more."""
    population = fields(6000, 4, 10, 3, 0.4)
    trust = trust_in(table_of(population[:200], 10))
    assert 0.4 < trust.coverage < 0.9
    low, high = trust.needed()
    reached = next(m for m in range(200, 6000, 20) if trust_in(table_of(population[:m], 10)).coverage >= 0.9)
    assert low * 0.8 <= reached <= high * 1.2
    assert trust.needed(0.2) == (200, 200)
    assert needed_words(trust).endswith(" samples")
    assert needed_words(trust_in(CASES["few states, often"][0])) == "enough samples"


def test_where_nothing_recurs_only_a_least_number_can_be_said() -> None:
    trust = trust_in(CASES["all different"][0])
    low, high = trust.needed()
    assert math.isinf(high)
    assert low > 4000
    assert needed_words(trust).startswith("at least ")
    assert rounded(1e300) == "10^15"


# --- efficiency, saturation, network --------------------------------------------------------------------------------------------------


def test_against_what_the_rates_allow() -> None:
    rng = np.random.default_rng(0)
    rates = np.array([0.05, 0.1, 0.5, 0.9])
    independent = table_of_bits(rng.random((5000, 1, 4)) < rates)
    copies = table_of_bits(np.repeat(rng.random((5000, 1, 2)) < 0.3, 2, axis=2))
    for value, truth in ((independent, 1.0), (copies, 0.5)):
        reading = Efficiency(against="rates", estimator="c2").compute(value)
        assert float(reading) == pytest.approx(truth, abs=0.01)
        assert reading.low <= truth + 1e-4, "H and Σh move together, so the interval is very narrow"
        assert reading.high >= truth - 1e-4
        assert reading.high - reading.low < 0.03
    nothing = Efficiency(against="rates").compute(CASES["one state"][0])
    assert math.isnan(float(nothing))
    with pytest.raises(ValueError, match="against='rates' compares with"):
        Efficiency(order=2, against="rates")


def test_a_unit_that_fired_in_one_sample_only() -> None:
    """Without that sample no unit changes, and its share of nothing must make neither a warning nor an interval without numbers."""
    value = table_of(np.r_[np.zeros((99, 1), np.int64), np.ones((1, 1), np.int64)], 5)
    reading = Efficiency(against="rates", estimator="c2").compute(value)
    assert reading.verdict == MEASURED
    assert 0 <= reading.low <= float(reading) <= reading.high <= 1
    assert "100 % of what its firing rates allow" in str(trust_in(value))


def test_estimates_stay_within_what_an_entropy_can_be() -> None:
    for value in (CASES["one state"][0], table_of(np.array([[1], [1]]), 5), table_of(np.arange(512)[:, None], 9)):
        for estimator in get_args(Estimator):
            for order in (0, 0.5, 1, 2, math.inf) if estimator in ("plug-in", "chao-wang-jost", "c1", "c2") else (1,):
                bits = float(Entropy(order, estimator=estimator).compute(value))
                assert math.isnan(bits) or 0 <= bits <= value.units


def test_total_correlation() -> None:
    """0 for independent units, three bits of four for four copies of a coin; a bracket where the entropy has one."""
    rng = np.random.default_rng(0)
    free = TotalCorrelation().compute(table_of_bits(rng.random((5000, 1, 4)) < [0.05, 0.1, 0.5, 0.9]))
    assert free.low <= 0.001
    assert free.high < 0.01
    copies = TotalCorrelation().compute(table_of_bits(np.repeat(rng.random((5000, 1, 1)) < 0.5, 4, axis=2)))
    assert float(copies) == pytest.approx(3, abs=0.001)
    assert copies.low - 0.001 <= 3 <= copies.high + 0.001
    wide = TotalCorrelation().compute(CASES["all different"][0])
    assert wide.low <= 0.5
    assert wide.high > 30
    assert str(wide).startswith("between ")


def test_the_interval_against_rates_is_that_of_other_draws() -> None:
    population = fields(3000, 6, 6, 3, 1.0, 1.5)
    rng = np.random.default_rng(1)
    drawn = [
        Efficiency(against="rates", estimator="c2").compute(table_of(population[rng.integers(0, 3000, 300)], 6))
        for _ in range(60)
    ]
    spread = float(np.std([float(r) for r in drawn]))
    assert np.mean([r.high - r.low for r in drawn]) / (2 * 1.98) == pytest.approx(spread, rel=0.35)


def test_saturation_is_of_the_data() -> None:
    wide, narrow = CASES["all different"][0], CASES["few states, often"][0]
    assert float(Saturation().compute(wide)) == pytest.approx(math.log2(400) / 64)
    assert float(Saturation().compute(narrow)) == 1.0
    assert "the plain count is 100 % of log2 N" in Saturation().compute(wide).note


def network(*values: StateCounts, estimator: Estimator = "c2") -> Any:
    summary = NetworkEfficiency(estimator=estimator)
    return summary.compute({Site(f"fc{k}"): summary.measure.compute(value) for k, value in enumerate(values)})


def test_network_efficiency_has_an_interval_from_the_same_samples() -> None:
    population = np.stack([fields(3000, 6, 6, seed, 1.0) for seed in (0, 0, 1)])
    rng = np.random.default_rng(0)
    drawn = []
    for _ in range(40):
        chosen = rng.integers(0, 3000, 300)
        drawn.append(network(*(table_of(layer[chosen], 6) for layer in population)))
    spread = float(np.std([float(r) for r in drawn]))
    assert np.mean([r.high - r.low for r in drawn]) / (2 * 1.98) == pytest.approx(spread, rel=0.35)
    assert math.isnan(network(*(table_of(layer[:300], 6) for layer in population), estimator="plug-in").low)


def test_a_layer_without_interval_takes_it_from_the_network() -> None:
    summary = NetworkEfficiency(allow_undersampled=True, estimator="c2")
    values = (CASES["few states, often"][0], CASES["all different"][0])
    reading = summary.compute({Site(f"fc{k}"): summary.measure.compute(v) for k, v in enumerate(values)})
    assert reading.bound == "≥"
    assert math.isnan(reading.low)


# --- comparing ------------------------------------------------------------------------------------------------------------------------


def test_differences_are_paired() -> None:
    """Two copies of a layer differ by nothing, for sure; unpaired intervals could not say it."""
    patterns = fields(300, 6, 6, 0, 1.0)
    same = difference(C2.compute(table_of(patterns, 6)), C2.compute(table_of(patterns[:, ::-1], 6)))
    one = C2.compute(table_of(patterns, 6))
    assert float(same) == 0
    assert same.high - same.low < (one.high - one.low) / 5
    other = difference(one, C2.compute(table_of(fields(300, 6, 6, 5, 0.2), 6)))
    assert not other.low <= 0 <= other.high


def test_a_difference_of_brackets_is_a_bracket() -> None:
    wide, narrow = C2.compute(CASES["all different"][0]), C2.compute(CASES["few states, often"][0])
    found = difference(wide, narrow)
    assert (found.low, found.high) == (wide.low - narrow.high, wide.high - narrow.low)
    assert found.verdict == SATURATED


def test_what_has_no_difference() -> None:
    one = C2.compute(table_of(fields(300, 4, 4, 0), 4))
    with pytest.raises(ValueError, match="left saw 300 samples, right 301"):
        difference(one, C2.compute(table_of(fields(301, 4, 4, 0), 4)))
    with pytest.raises(ValueError, match="measured in 'bits', right in 'of 4 bits'"):
        difference(one, Efficiency(estimator="c2").compute(table_of(fields(300, 4, 4, 0), 4)))


def test_ranking() -> None:
    found = {name: C2.compute(value) for name, (value, _) in CASES.items()}
    order = ranking(found)
    assert order.ranked[-1] == "one state"
    assert set(order.ranked) >= {"few states, often", "rare ones beside", "half of it unseen"}
    assert list(order.ranked) == sorted(order.ranked, key=lambda name: -float(found[name]))
    saturated = {"a": found["all different"], "b": found["all different"], "c": found["few states, often"]}
    assert ranking(saturated).ranked == ("c",)
    assert "saturated, between" in ranking(saturated).unranked["a"]
    assert "a has no place" in str(ranking(saturated))
    told_apart = {"a": found["all different"], "c": found["few states, often"]}
    assert ranking(told_apart).ranked == ("a", "c"), "its bracket lies above"
    assert (
        ranking({"a": Entropy().compute(CASES["all different"][0]), "c": found["one state"]})
        .unranked["a"]
        .endswith("as c may be")
    )


def test_a_network_promises_no_more_than_its_weakest_layer_and_no_less() -> None:
    """Coverage below 0.9 alone makes no number undersampled where every layer was found to be measured or corrected."""
    layers = {
        Site("a"): Reading(0.5, coverage=0.84, verdict="corrected"),
        Site("b"): Reading(0.4, coverage=1.0, verdict="measured"),
        Site("c"): Reading(0.1, coverage=0.02, verdict="saturated", bound="≥"),
    }
    whole = NetworkEfficiency(estimator="c2").compute(layers)
    assert whole.verdict == "corrected"
    assert not whole.undersampled
    assert "undersampled: coverage" not in str(whole)
    assert "left out, undersampled: c" in whole.note
    assert NetworkEfficiency(allow_undersampled=True).compute(layers).verdict == "saturated"
    assert NetworkEfficiency().compute({**layers, Site("d"): Reading(0.3, coverage=0.95)}).verdict == ""

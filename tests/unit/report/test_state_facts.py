"""What the pictures and sentences are made of."""

import math

import numpy as np
import pytest

from layerscope.report._state_facts import states_of
from tests.unit.report.made import narrow, results_of, usual, wide


def test_few_patterns_are_measured_and_all_different_ones_are_not() -> None:
    facts = states_of(usual())
    assert [site.name for site in facts.measured] == ["conv_1"]
    assert [site.name for site in facts.undersampled] == ["conv_2"]
    assert facts.samples == 400


def test_independent_bits_are_the_sum_of_the_units_entropies() -> None:
    values = np.ones((8, 1, 3))
    values[:4, 0, 0] = values[:2, 0, 1] = -1  # fire with 1/2, 3/4 and always
    (site,) = states_of(results_of({"fc": values})).sites
    quarter = -(0.25 * math.log2(0.25) + 0.75 * math.log2(0.75))
    assert site.independent == pytest.approx(1 + quarter)
    assert (site.dead, site.always_on) == (0, 1)


def test_the_curve_ends_at_the_entropy_and_below_its_ceiling() -> None:
    for site in states_of(usual()).sites:
        assert site.thinned[0] == 25
        assert site.thinned[-1] == 400
        assert site.curve[-1] == pytest.approx(float(site.entropy), abs=1e-6)
        assert (site.curve <= site.ceiling + 1e-6).all()


def test_growth_tells_a_flat_curve_from_one_on_its_ceiling() -> None:
    flat, rising = states_of(usual()).sites
    assert abs(flat.growth) < 0.05
    assert rising.growth == pytest.approx(1, abs=0.01)


def test_a_site_the_data_never_reached_has_no_number_and_says_so() -> None:
    facts = states_of(results_of({"a": narrow()}, unreached=["b"]))
    lost = facts.sites[1]
    assert math.isnan(float(lost.entropy))
    assert lost.problem == "never reached by the data"
    assert lost.counts is None


def test_a_site_that_never_ran_while_examined_says_so() -> None:
    facts = states_of(results_of({"a": narrow(), "b": np.empty((0, 1, 3))}))
    assert facts.sites[1].problem == "never reached by the data"


def test_a_site_whose_rule_fails_keeps_its_rates() -> None:
    (site,) = states_of(results_of({"sigmoid": np.ones((50, 1, 4))})).sites
    assert "firing rule cannot tell" in site.problem
    assert site.always_on == 4
    assert not site.measured
    assert not site.undersampled


def test_one_sample_has_no_half() -> None:
    (site,) = states_of(results_of({"fc": wide(samples=1, positions=9)})).sites
    assert math.isnan(site.growth)

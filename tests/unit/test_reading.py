"""A reading says what it is, and never pretends."""

import math

import numpy as np
import pytest

from layerscope._reading import Reading, percent


def test_an_undersampled_reading_prints_as_a_bound() -> None:
    r = Reading(0.108, observations=2000, samples=2000, coverage=0.02, bound="≥")
    assert str(r) == "≥ 0.108 (undersampled: coverage 2 %)"
    assert float(r) == 0.108
    assert r.undersampled


def test_a_sampled_reading_prints_plainly() -> None:
    r = Reading(6.52, measured_in="bits", observations=10, samples=5, coverage=0.95)
    assert str(r) == "6.52 bits"
    assert not r.undersampled
    assert "10 observations of 5 samples" in repr(r)
    assert not Reading(1.0).undersampled, "coverage unknown is not undersampled"


def test_an_interval_is_printed_only_where_known() -> None:
    assert str(Reading(2.0, low=1.5, high=2.5)) == "2 [1.5, 2.5]"
    assert "[" not in str(Reading(2.0))


def test_an_array_is_no_float() -> None:
    r = Reading(np.linspace(0, 1, 5))
    with pytest.raises(TypeError, match="5 numbers"):
        float(r)
    assert np.asarray(r).shape == (5,)
    assert "5 numbers" in str(r)


@pytest.mark.parametrize(
    ("share", "words"),
    [(1.0, "100 %"), (0.9996, "> 99.9 %"), (0.02, "2 %"), (0.0001, "< 0.1 %"), (0.0, "0 %"), (math.nan, "unknown")],
)
def test_shares_never_round_to_certainty(share: float, words: str) -> None:
    assert percent(share) == words

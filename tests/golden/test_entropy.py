"""Entropies known by hand, from the publications, or from SciPy.

Orders of [4, 2, 1, 1]: p = 1/2, 1/4, 1/8, 1/8, so H₀ = 2, H₁ = 1.75, H∞ = 1, H₂ = −log2(11/32), H_½ = 2·log2(Σ√p); checked to 30 digits with
mpmath.  Order 400 on 1000 equal counts and aIQ(0.5, 0.98, 2): computed with exact fractions by hand.
"""

import numpy as np
import pytest
import scipy.stats

from layerscope._errors import EmptyTally
from layerscope.measures import aiq, entropy, geometric_mean


@pytest.mark.parametrize(
    ("order", "bits"),
    [(1, 1.75), (0, 2.0), (2, 1.54056838136270274380), (0.5, 1.87350359087964805229), (float("inf"), 1.0)],
)
def test_known_orders(order: float, bits: float) -> None:
    assert entropy([4, 2, 1, 1], order) == pytest.approx(bits, abs=1e-15)


def test_high_orders_do_not_underflow() -> None:
    assert entropy([1] * 1000, 400) == pytest.approx(9.965784284662087, abs=1e-12)


def test_shannon_is_the_numpy_one_liner_to_the_bit() -> None:
    n = np.random.default_rng(0).integers(1, 1000, 500)
    p = n / n.sum()
    assert entropy(n) == -(p * np.log2(p)).sum()


def test_shannon_is_scipys() -> None:
    n = np.random.default_rng(1).integers(1, 1000, 500)
    assert entropy(n) == pytest.approx(scipy.stats.entropy(n, base=2), abs=1e-12)


def test_one_state_has_no_entropy_and_no_sign() -> None:
    for order in (0, 0.5, 1, 2, float("inf")):
        assert str(entropy([7], order)) == "0.0"


@pytest.mark.parametrize("order", [-1, float("nan"), "two", None])
def test_orders_that_are_none(order: object) -> None:
    with pytest.raises(ValueError, match=r"order α must be a number ≥ 0"):
        entropy([1, 2], order)  # type: ignore[arg-type]


def test_no_counts_are_no_zero() -> None:
    with pytest.raises(EmptyTally, match="no observation"):
        entropy([0, 0])
    with pytest.raises(ValueError, match="≥ 0"):
        entropy([3, -1])


def test_aiq() -> None:
    assert aiq(0.5, 0.98, 2) == 0.7830822594569777
    assert aiq(0.5, 0.98, np.int32(2)) == 0.7830822594569777


@pytest.mark.parametrize("weight", [0, -1, 1.5, "2", True])
def test_weights_that_are_none(weight: object) -> None:
    with pytest.raises(ValueError, match="integer ≥ 1"):
        aiq(0.5, 0.9, weight)  # type: ignore[arg-type]


def test_geometric_mean() -> None:
    assert geometric_mean([0.1, 0.4]) == pytest.approx(0.2)
    assert geometric_mean([0.3, 0.0, 0.9]) == 0.0

"""The bench of capacities: it counts right, agrees with theory where theory holds, and sees a memory that is too full."""

import numpy as np
import pytest

from benchmarks.capacity import Share, balance, classical, exponential, half, polynomial, signs, sphere, tail, unstable
from layerscope import energy


def check_theory(found: Share, theory: float) -> None:
    """Within three standard errors (1.5 of the two that are shown) and a tenth of the theory, which is one of many units."""
    assert abs(found.mean - theory) <= 1.5 * found.error + 0.1 * theory + 1e-4, f"{found}, theory {theory:.4f}"


def test_unstable_bits_by_hand() -> None:
    """One pattern holds every bit. Two that differ in one bit of four: that bit costs nothing to flip, the others do."""
    assert unstable(signs(8, 1, 0), energy.LIdentity()) == (0, 0)
    patterns = np.array([[1.0, 1, 1, 1], [1, 1, 1, -1]])
    assert unstable(patterns, energy.LIdentity()) == (0, 0)
    crowded = np.array([[1.0, 1, 1, 1, 1], [1, 1, 1, 1, -1], [1, 1, 1, 1, -1]])  # two against one
    bits, those = unstable(crowded, energy.LIdentity())
    assert (bits, those) == (pytest.approx(1 / 15), pytest.approx(1 / 3))


def test_a_block_at_a_time_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = unstable(signs(30, 60, 0), energy.LRepu(3.0))
    monkeypatch.setattr("benchmarks.capacity.ROWS", 1000)
    assert unstable(signs(30, 60, 0), energy.LRepu(3.0)) == whole


@pytest.mark.parametrize("load", [0.05, 0.138, 0.2])
def test_a_hopfield_network_forgets_as_theory_says(load: float) -> None:
    check_theory(*classical(load, 8))


def test_theory_of_another_load_does_not_pass() -> None:
    found, _ = classical(0.2, 8)
    with pytest.raises(AssertionError, match="theory"):
        check_theory(found, tail(np.sqrt(1 / 0.138)))


def test_higher_powers_hold_more() -> None:
    """At the capacity of theory a percent of patterns is unstable, at four times most are; and the counts are those of the formula."""
    count, few, _ = polynomial(3, 60, 1.0, 2)
    assert count == int(60**2 / (2 * 3 * np.log(60))) == 146
    assert few.mean < 0.03
    assert polynomial(3, 60, 4.0, 2)[1].mean > 0.6
    assert polynomial(2, 60, 20.0, 2)[1].mean == 1.0
    assert exponential(0.25, 20, 2)[1].mean < 0.01


def test_half_of_the_patterns_on_a_sphere() -> None:
    """694 in four dimensions when the figure was recorded, with a range of 624 to 771 over seeds."""
    assert 500 < half(4, 0, [128, 256, 512, 1024, 2048]) < 1000
    assert sphere(4, 64, 0) > 0.9
    assert np.isnan(half(4, 0, [4096, 8192]))
    assert balance(4) == pytest.approx(114, abs=1)

"""Every measure only reads, knows nothing from nothing, and obeys the mathematics of what it measures."""

from dataclasses import dataclass, replace
from typing import Any, ClassVar, get_args

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from layerscope._reading import Reading
from layerscope.measures import (
    AbstractMeasure,
    Activation,
    AlwaysOnUnits,
    DeadUnits,
    Efficiency,
    Entropy,
    EqualUnits,
    FiringRate,
    RedundantUnits,
    Saturation,
    TotalCorrelation,
    entropy,
)
from layerscope.measures._counts import Estimator
from layerscope.tallies import StateCounts, StateTable
from layerscope.testing import check_measure, check_order

MEASURES = [
    Entropy(),
    Entropy(order=0),
    Entropy(order=2),
    Entropy(order=float("inf")),
    *(Entropy(estimator=name) for name in get_args(Estimator)),
    *(Entropy(order, estimator="c2") for order in (0, 2, float("inf"))),
    Efficiency(),
    Efficiency(estimator="c2"),
    Efficiency(against="rates"),
    Efficiency(against="rates", estimator="c2"),
    Saturation(),
    TotalCorrelation(),
    Efficiency(order=2, against=0.5),
    FiringRate(),
    FiringRate(quantile=0.5),
    DeadUnits(),
    AlwaysOnUnits(),
    EqualUnits(),
    EqualUnits(opposite=True),
    RedundantUnits(),
    Activation("mean"),
    Activation("deviation"),
]


@pytest.mark.parametrize("measure", MEASURES, ids=repr)
@pytest.mark.parametrize("seed", range(3))
def test_measures_obey_the_law(measure: AbstractMeasure[Any], seed: int) -> None:
    check_measure(measure, seed)


@pytest.mark.parametrize("per", ["sample", "channel"])
def test_other_cuts_obey_the_law(per: Any) -> None:
    check_measure(Entropy(per=per))
    check_measure(Entropy(per=per, estimator="c2"))
    check_measure(Efficiency(per=per, against="rates", estimator="c2"))


# --- canaries -------------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class States(AbstractMeasure[StateCounts]):
    """Number of different states; right unless told to be wrong."""

    wrong: str = ""
    name: ClassVar[str] = "states"

    @property
    def tally(self) -> StateTable:
        return StateTable()

    def compute(self, value: StateCounts) -> Reading:
        n = value.records().n
        reading = Reading(
            float(len(n)) if len(n) else float("nan"), observations=value.observations, measured_in="states"
        )
        match self.wrong:
            case "says 0.0 of nothing":
                return replace(reading, value=float(len(n)))
            case "breaks of nothing":
                return replace(reading, value=float(n.max()))
            case "changes the tally":
                value.samples += 1
            case "forgets the observations":
                return replace(reading, observations=0)
            case "has no unit":
                return replace(reading, measured_in="")
            case "gives a bare float":
                return 1.0  # type: ignore[return-value]
            case "depends on the order of units":
                return replace(reading, value=float(value.records().states[:, 0].max()) if len(n) else float("nan"))
            case "depends on the order of the stream":
                return replace(reading, value=float(value.kept.parts[0].ids[0]) if len(n) else float("nan"))
            case "lies outside its interval":
                return replace(reading, low=-2.0, high=-1.0)
        return reading


def test_the_check_accepts_a_right_measure() -> None:
    check_measure(States())


@pytest.mark.parametrize(
    "wrong",
    [
        "says 0.0 of nothing",
        "breaks of nothing",
        "changes the tally",
        "forgets the observations",
        "has no unit",
        "gives a bare float",
        "depends on the order of units",
        "lies outside its interval",
    ],
)
def test_the_check_rejects(wrong: str) -> None:
    with pytest.raises(AssertionError):
        check_measure(States(wrong))


def test_the_check_names_a_class_that_was_given_for_an_object() -> None:
    with pytest.raises(AssertionError, match=r"give an object of it, States\(\)"):
        check_measure(States)  # type: ignore[arg-type]


# --- laws of entropy ------------------------------------------------------------------------------------------------------------------

counts = st.lists(st.integers(1, 10**6), min_size=1, max_size=40)
orders = st.one_of(st.floats(0, 50), st.just(float("inf")))


@given(counts, orders)
def test_entropy_lies_between_zero_and_the_log_of_the_states(n: list[int], order: float) -> None:
    assert -1e-9 <= entropy(n, order) <= np.log2(len(n)) + 1e-9


@given(counts)
def test_entropy_falls_with_its_order(n: list[int]) -> None:
    orders = [0, 0.3, 0.999, 0.9999999, 1, 1.0000001, 1.001, 1.5, 2, 7, 60, float("inf")]
    check_order([entropy(n, order) for order in orders], f"entropy of {n}")


@given(counts, orders, st.integers(2, 9))
def test_entropy_knows_shares_not_sizes(n: list[int], order: float, times: int) -> None:
    assert entropy([k * times for k in n], order) == pytest.approx(entropy(n, order), abs=1e-9)
    assert entropy([*n, 0, 0], order) == pytest.approx(entropy(n, order), abs=1e-12)


@given(counts, counts, st.sampled_from([0, 0.5, 1, 2, 3.5, float("inf")]))
def test_entropies_of_independent_layers_add(left: list[int], right: list[int], order: float) -> None:
    joint = np.outer(np.array(left, float), np.array(right, float))
    assert entropy(joint, order) == pytest.approx(entropy(left, order) + entropy(right, order), abs=1e-8)


@given(counts)
def test_entropy_is_continuous_at_one(n: list[int]) -> None:
    for step in (1e-3, 1e-6, 1e-9, 1e-12):
        for order in (1 - step, 1 + step):
            assert entropy(n, order) == pytest.approx(entropy(n, 1), abs=200 * step + 1e-9)


def test_the_order_law_can_fail() -> None:
    with pytest.raises(AssertionError):
        check_order([1.0, 2.0], "rising")

"""Redundant units: found exactly, with what speaks for them, and leaving them out changes no entropy."""

import numpy as np
import pytest

from layerscope._errors import EmptyTally
from layerscope._site import Site
from layerscope.measures import Entropy, EqualUnits, RedundantUnits, UnitGroup, unit_groups
from layerscope.tallies import StateTable
from tests.unit.measures.states import table_of_bits


def bits(samples: int = 60, seed: int = 0) -> np.ndarray:
    """Ten units: 0, 1 free; 2 dead; 3 always on; 4 = 0; 5 = not 1; 6 free; 7 = not 0; 8 dead; 9 fires once."""
    rng = np.random.default_rng(seed)
    x = rng.random((samples, 2, 10)) < 0.5
    x[..., 2] = x[..., 8] = False
    x[..., 3] = True
    x[..., 4], x[..., 7] = x[..., 0], ~x[..., 0]
    x[..., 5] = ~x[..., 1]
    x[..., 9] = False
    x[7, 1, 9] = True
    return x


def test_groups_are_found_with_their_observations() -> None:
    x = bits()
    fired = x.reshape(-1, 10).sum(0)
    rarer = np.minimum(fired, 120 - fired)
    assert unit_groups(table_of_bits(x)) == (
        UnitGroup("dead", (2, 8), (), 2, 120),
        UnitGroup("always on", (3,), (), 1, 120),
        UnitGroup("together", (0, 4), (7,), 2, int(rarer[0])),
        UnitGroup("together", (1,), (5,), 1, int(rarer[1])),
    )


def test_the_reading_counts_them_and_says_how_surely() -> None:
    reading = RedundantUnits().compute(table_of_bits(bits()))
    assert float(reading) == 6
    assert reading.note == "each claim holds in all but 4.87 % of further samples at most (95 %)"  # 1 - 0.05^(1/60)
    assert str(reading).startswith("6 of 10 units")


def test_a_coincidence_is_called_weak() -> None:
    x = bits()
    x[..., 6] = x[..., 9]
    reading = RedundantUnits().compute(table_of_bits(x))
    assert float(reading) == 7
    assert reading.items[-1] == UnitGroup("together", (6, 9), (), 1, 1)
    assert "1 of 5 groups rest on fewer than 5 observations" in reading.note


@pytest.mark.parametrize("seed", range(3))
def test_leaving_them_out_changes_no_entropy(seed: int) -> None:
    x = bits(seed=seed)
    groups = unit_groups(table_of_bits(x))
    spare = {u for g in groups for u in (*g.units[g.kind == "together" :], *g.opposite)}
    rest = x[..., [u for u in range(10) if u not in spare]]
    for estimator in ("plug-in", "c1"):
        measure = Entropy(estimator=estimator)
        assert float(measure.compute(table_of_bits(rest))) == pytest.approx(
            float(measure.compute(table_of_bits(x))), abs=1e-12
        )
    assert unit_groups(table_of_bits(rest)) == ()
    assert RedundantUnits().compute(table_of_bits(rest)).note == ""


@pytest.mark.parametrize("seed", range(20))
def test_small_tables_by_the_definition(seed: int) -> None:
    """Every unit against every earlier one, row by row."""
    rng = np.random.default_rng(seed)
    x = rng.random((rng.integers(1, 4), 2, 12)) < rng.choice([0.2, 0.5, 0.8], 12)
    rows = x.reshape(-1, 12)
    value = table_of_bits(x)
    varies = [u for u in range(12) if 0 < rows[:, u].sum() < len(rows)]
    like = {u: next(v for v in varies if (rows[:, v] == rows[:, u]).all()) for u in varies}
    against = {u: next((v for v in varies if (rows[:, v] != rows[:, u]).all()), None) for u in varies}
    turned = [u for u in varies if (before := against[u]) is not None and before < u]
    spare = {u for u in varies if like[u] != u} | {*turned}
    groups = unit_groups(value)
    found = {u for g in groups for u in (*g.units[g.kind == "together" :], *g.opposite)}
    assert found == spare | {*range(12)} - {*varies}
    assert float(RedundantUnits().compute(value)) == len(found)
    for g in groups:
        for unit in (*g.units[1:], *g.opposite):
            assert (rows[:, unit] == rows[:, g.units[0]]).all() == (unit in g.units)
    assert float(EqualUnits().compute(value)) == sum(like[u] != u for u in varies)
    opposite = EqualUnits(opposite=True).compute(value)
    assert float(opposite) == len(turned)
    assert {u: first for first, *rest in opposite.items for u in rest} == {u: against[u] for u in turned}


def test_nothing_observed() -> None:
    with pytest.raises(EmptyTally):
        unit_groups(StateTable().init(Site("layer")))

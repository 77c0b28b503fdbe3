"""What `ls.plan` says is what `ls.examine` then takes: sites, rows, passes, forwards and bytes."""

from typing import Any

import numpy as np
import pytest

import layerscope as ls
from layerscope import measures as ms
from layerscope import transformations as ts
from layerscope._errors import DataError, MemoryLimitError
from tests.conftest import require

torch = require("torch")
nn = torch.nn
pytestmark = pytest.mark.torch

N, T = 52, 4
X = np.random.default_rng(0).random((N, 1, 12, 12)).astype(np.float32)
Y = np.arange(N) % 3


def net() -> Any:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 6, 3, padding=1), nn.ELU(), nn.Conv2d(6, 8, 3, stride=2), nn.ReLU(), nn.Flatten(), nn.Linear(200, 3)
    ).eval()  # fmt: skip


GRID: dict[str, Any] = {"transformations": ts.rotations(T), "batch_size": 4 * T}
BOTH: dict[str, Any] = {**GRID, "measures": [ms.NormalizedVariance(), ms.Goodfellow("quantile", 0.1)]}


def check_plan(plan: ls.Plan, results: ls.Results, rows: int) -> None:
    """The plan of a run whose model was given so many rows, padding left out."""
    assert plan.sites == tuple(results)
    assert plan.passes == tuple(results.manifest["passes"])
    assert plan.forwards == results.manifest["forwards"] == rows
    everything = [results, *results.references.values()]
    for name, nbytes in zip(plan.sites, plan.nbytes, strict=True):
        taken = [t.nbytes(v) for each in everything for t, v in each.values_by_site[each[name].site].items()]
        assert nbytes == sum(taken)
    assert 0 < plan.minutes < 1


@pytest.mark.parametrize(
    ("how", "rows"),
    [
        (GRID, N * T),
        ({**GRID, "samples": 20}, 20 * T),
        ({**GRID, "shard": (1, 2)}, 24 * T),
        (BOTH, N * T + N),
        ({**BOTH, "shard": (1, 2)}, 24 * T + N),
        ({**BOTH, "references": ["untrained"]}, 2 * (N * T + N)),
        ({**BOTH, "layers": ["3"]}, N * T + N),
    ],
    ids=str,
)
def test_a_plan_is_what_the_run_takes(how: dict[str, Any], rows: int) -> None:
    check_plan(ls.plan(net(), (X, Y), **how), ls.examine(net(), (X, Y), **how), rows)


def test_the_check_rejects_another_plan() -> None:
    results = ls.examine(net(), (X, Y), **BOTH)
    with pytest.raises(AssertionError):
        check_plan(ls.plan(net(), (X, Y), **GRID), results, N * T + N)
    with pytest.raises(AssertionError):
        check_plan(ls.plan(net(), (X, Y), **{**BOTH, "samples": 20}), results, N * T + N)


def test_layers_that_take_turns_are_planned() -> None:
    limits = []
    for limit in ("0.40 MiB", "0.55 MiB", "2 MiB"):
        how = {**BOTH, "memory_limit": limit}
        results = ls.examine(net(), (X, Y), **how)
        turns = len(results.manifest["passes"]) // 2
        check_plan(ls.plan(net(), (X, Y), **how), results, turns * (N * T + N))
        limits.append(turns)
    assert limits == [2, 2, 1]
    with pytest.raises(MemoryLimitError, match="would do"):
        ls.plan(net(), (X, Y), **{**BOTH, "memory_limit": "150 kB"})


def test_tables_of_states_take_at_most_so_much() -> None:
    plan, results = ls.plan(net(), (X, Y), batch_size=10), ls.examine(net(), (X, Y), batch_size=10)
    assert plan.sites == tuple(results) == ("1", "3")
    assert plan.rows == (144, 25)
    assert plan.forwards == results.manifest["forwards"] == N
    assert plan.batch_size == 10
    for name, nbytes in zip(plan.sites, plan.nbytes, strict=True):
        table = results[name].table.table
        assert table is not None
        assert len(table.records().n) * 56 <= nbytes
    assert plan.gibibytes == sum(plan.nbytes) / 2**30


def test_it_is_said_in_words() -> None:
    text = str(ls.plan(net(), (X, Y), **BOTH))
    assert "3 sites\n  (model):in: 576 rows a sample, tallies of 0." in text
    assert "2 passes over the data\n  52 untransformed samples, for thresholds of all 3 sites\n  52 samples × 4" in text
    assert "260 forwards in batches of 16, " in text
    assert text.endswith(" MiB")


def test_data_without_a_length_have_no_numbers() -> None:
    plan = ls.plan(net(), lambda: iter(np.array_split(X, 4)), **GRID)
    assert np.isnan(plan.forwards)
    assert plan.passes == ("all samples × 4 transformations: all 3 sites",)
    assert not np.isnan(sum(plan.nbytes))
    states = ls.plan(net(), lambda: iter(np.array_split(X, 4)))
    assert "tallies of unknown size" in str(states)
    assert "an unknown number of forwards in batches of" in str(states)
    assert "nan" not in str(states)


def test_it_raises_what_examine_raises() -> None:
    with pytest.raises(DataError, match="nothing was transformed"):
        ls.plan(net(), X, measures=[ms.Goodfellow()])
    with pytest.raises(DataError, match="no amount of memory"):
        ls.plan(net(), X, memory_limit="much")

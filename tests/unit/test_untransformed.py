"""Measures that must know the untransformed data first: N forwards more, the same thresholds in every shard, and the numbers of NumPy."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import layerscope as ls
from layerscope import measures as ms
from layerscope import transformations as ts
from layerscope._errors import DataError, MergeError, NonFiniteError
from tests.conftest import require

torch = require("torch")
nn = torch.nn
pytestmark = pytest.mark.torch

T, N = 6, 45
RULES = (ms.Goodfellow("gaussian", 0.1), ms.Goodfellow("quantile", 0.1))
X = np.random.default_rng(0).random((N, 1, 12, 12)).astype(np.float32)
TURNS = ts.rotations(T)
HOW: dict[str, Any] = {"transformations": TURNS, "measures": [*RULES, ms.NormalizedVariance()], "batch_size": 8 * T}


def net(seed: int = 0) -> Any:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.ELU(), nn.Flatten(), nn.Linear(576, 10), nn.ReLU(), nn.Linear(10, 3)).eval()  # fmt: skip


def by_hand(model: Any, x: Any) -> dict[str, np.ndarray]:
    """What every layer gives, and the input."""
    found, values = {"(model):in": np.asarray(x)}, torch.as_tensor(x)
    with torch.no_grad():
        for k, module in enumerate(model):
            values = module(values)
            found[str(k)] = values.numpy()
    return found


def wanted(model: Any, measure: ms.Goodfellow, x: np.ndarray) -> dict[str, float]:
    """The mean ratio of every site, from everything at once in float64."""
    plain, moved = by_hand(model, x), by_hand(model, TURNS(x))
    found: dict[str, float] = {}
    for name in plain:
        a, b = (each[name].reshape(len(each[name]), -1).astype(np.float64) for each in (plain, moved))
        ordered, k = np.sort(a, axis=0)[::-1], int(np.ceil(measure.alpha * len(x) - 1e-9))
        gauss = a.mean(0) + measure.tally.z * a.std(0, ddof=1)
        limit = gauss if measure.rule == "gaussian" else (ordered[k - 1] + ordered[k]) / 2
        local, everywhere = (b > limit).mean(0), (a > limit).mean(0)
        found[name] = float((local[everywhere > 0] / everywhere[everywhere > 0]).mean())
    return found


def check_results(results: ls.Results, model: Any, x: np.ndarray) -> None:
    for measure in RULES:
        numbers = wanted(model, measure, x)
        for name in results:
            reading = results[name].reading(measure)
            assert float(reading) == pytest.approx(numbers[name], rel=1e-3), (
                name,
                measure,
            )  # a count of hundreds may flip
            assert reading.samples == len(x)
            assert f"firing over {len(x)} untransformed" in reading.measured_in


@pytest.mark.parametrize("batch_size", [None, 6, 41, 400])
def test_every_number_is_that_of_the_rows_by_hand(batch_size: int | None) -> None:
    results = ls.examine(net(), X, **{**HOW, "batch_size": batch_size})
    assert [*results] == ["(model):in", "1", "4"]
    check_results(results, net(), X)
    with pytest.raises(AssertionError):
        check_results(results, net(1), X)


def test_n_forwards_more_and_no_more() -> None:
    model, rows = net(), []
    model.register_forward_pre_hook(lambda module, args: rows.append(len(args[0])))
    x = X[:40]
    grid = ls.examine(model, x, **{**HOW, "measures": [ms.NormalizedVariance()]})
    assert rows == [T, *[8 * T] * 5]  # one small batch shows what there is to read
    assert grid.manifest["forwards"] == sum(rows[1:]) == 40 * T
    rows.clear()
    both = ls.examine(model, x, **{**HOW, "batch_size": 4 * T + 1})
    assert rows == [T, 4 * T + 1, 4 * T + 1, *[4 * T] * 10]
    assert both.manifest["forwards"] == 40 * T + 40
    assert both.manifest["passes"] == [
        "40 untransformed samples, for thresholds of all 3 sites",
        "40 samples × 6 transformations: all 3 sites",
    ]


def test_shards_have_the_thresholds_of_all_data() -> None:
    whole = ls.examine(net(), X, **HOW)
    shards = [ls.examine(net(), X, shard=(i, 3), **HOW) for i in range(3)]
    assert [r.manifest["forwards"] for r in shards] == [16 * T + N, 16 * T + N, 13 * T + N]
    merged = shards[2].merge(shards[0]).merge(shards[1])
    for name in whole:
        for measure in RULES:
            one, two = (r[name].value(measure.tally) for r in (whole, merged))
            assert measure.tally.same(one, two)
            assert str(whole[name].reading(measure)) == str(merged[name].reading(measure))


def test_counts_above_other_thresholds_do_not_merge() -> None:
    with pytest.raises(
        MergeError, match=r"thresholds at .* on the left are of 45 untransformed samples.*shard=\(i, n\)"
    ):
        ls.examine(net(), X, **HOW).merge(ls.examine(net(), X[:20], **HOW))


def test_references_have_thresholds_of_their_own() -> None:
    results = ls.examine(net(), X, references={"other": net(3)}, **HOW)
    check_results(results, net(), X)
    check_results(results.references["other"], net(3), X)
    assert results.manifest["forwards"] == 2 * (N * T + N)


def test_files_keep_everything(tmp_path: Path) -> None:
    results = ls.examine(net(), X, **HOW)
    loaded = ls.load(results.save(tmp_path / "x.lscope"))
    assert loaded.table.equals(results.table)
    assert "Goodfellow, " in loaded.cite()


@pytest.mark.parametrize("stop", [3, 5])
def test_a_run_goes_on_from_its_file(stop: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("layerscope._manifest.SAVE_EVERY", 0.0)
    path, seen = tmp_path / "run.lscope", 0

    def breaks(batch: Any) -> Any:
        nonlocal seen
        seen += len(batch) == 8 * T  # in the first pass there are fewer, in one batch
        if seen == stop:
            raise KeyboardInterrupt
        return torch.as_tensor(batch)

    whole = ls.examine(net(), X, **HOW)
    with pytest.raises(KeyboardInterrupt):
        ls.examine(net(), ls.Data(X, preprocess=breaks), resume=path, **HOW)
    assert path.exists()
    resumed = ls.examine(net(), X, resume=path, **HOW)
    assert resumed.table.equals(whole.table)
    assert resumed.manifest["passes"] == whole.manifest["passes"]
    assert resumed.manifest["forwards"] == whole.manifest["forwards"]


def test_data_without_a_length_are_counted() -> None:
    def batches() -> Any:
        return iter(np.array_split(X, 7))

    results = ls.examine(net(), batches, **HOW)
    check_results(results, net(), X)


def test_values_that_are_not_finite_raise_where_asked() -> None:
    x = X.copy()
    x[3] = np.nan
    with pytest.raises(NonFiniteError, match="not finite at 1"):
        ls.examine(net(), x, nonfinite="raise", **HOW)


@pytest.mark.parametrize(
    ("message", "run"),
    [
        ("goodfellow compares transformed samples with untransformed ones", lambda: ls.examine(net(), X, measures=[ms.Goodfellow()])),
        (r"measures=Goodfellow\(.*\): give a list of measures", lambda: ls.examine(net(), X, measures=ms.Goodfellow())),  # type: ignore[arg-type]
        (r"measures=: Goodfellow is no measure.*with the parentheses", lambda: ls.examine(net(), X, measures=[ms.Goodfellow])),  # type: ignore[list-item]
        ("measures='entropy': give a list", lambda: ls.examine(net(), X, measures="entropy")),  # type: ignore[arg-type]
        ("needs the untransformed data first", lambda: watched()),
    ],
)  # fmt: skip
def test_bad_arguments_say_what_to_do(message: str, run: Any) -> None:
    with pytest.raises(DataError, match=message):
        run()


def watched() -> None:
    model = net()
    with ls.watch(model, measures=[ms.Goodfellow()]):
        model(torch.as_tensor(X))

"""One pass gives what NumPy gives, says what it left out, and leaves the user's model and random numbers as they were."""

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import layerscope as ls
from layerscope import measures
from layerscope._choices import parse_bytes
from layerscope._errors import (
    DataError,
    EmptyTally,
    MemoryLimitError,
    MergeError,
    NonFiniteError,
    SiteError,
    ThresholdError,
)
from layerscope.tallies import StateTable
from tests.conftest import require

torch = require("torch")
nn = torch.nn

X = torch.randn(300, 1, 12, 12, generator=torch.Generator().manual_seed(0))
Y = torch.randint(0, 4, (300,), generator=torch.Generator().manual_seed(1))


def small(seed: int = 0) -> Any:
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(1, 6, 3),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Dropout(0.5),
        nn.Flatten(),
        nn.Linear(150, 9),
        nn.Tanh(),
        nn.Linear(9, 4),
    )


def numpy_entropy(rows: np.ndarray) -> float:
    _, n = np.unique(np.packbits(rows > 0, axis=1), axis=0, return_counts=True)
    p = n / n.sum()
    return float(-(p * np.log2(p)).sum())


def test_the_numbers_are_numpys() -> None:
    model = small().eval()
    results = ls.examine(model, (X, Y), batch_size=64)
    values = ls.activations(model, X)
    assert list(results) == ["1", "6"]
    conv, tanh = values["1"], values["6"]
    assert float(results["1"].entropy()) == pytest.approx(
        numpy_entropy(np.moveaxis(conv, 1, -1).reshape(-1, 6)), abs=1e-12
    )
    assert float(results["6"].entropy()) == pytest.approx(numpy_entropy(tanh), abs=1e-12)
    rates = results["1"].firing_rates()
    np.testing.assert_allclose(rates.value, (conv > 0).mean(axis=(0, 2, 3)))
    assert rates.observations == 300 * 100
    assert results["1"].state_count == 300 * 100
    with torch.no_grad():
        right = (model(X).argmax(1) == Y).float().mean().item()
    assert results.accuracy is not None
    assert float(results.accuracy) == pytest.approx(right)
    assert results.accuracy.observations == 300


def test_what_is_left_out_is_listed_with_its_reason() -> None:
    reasons = {str(x.site): x.left_out for x in ls.examine(small(), X).layers}
    assert "goes on into a nonlinearity" in reasons["0"]
    assert "pooling" in reasons["2"]
    assert "output" in reasons["7"]
    assert "container" in reasons["(model)"] or "same values" in reasons["(model)"]


@pytest.mark.parametrize("fails", [False, True])
def test_the_model_and_the_randomness_are_as_before(fails: bool) -> None:
    model = small().train()
    model[3].eval()
    fired: list[int] = []
    model[0].register_forward_hook(lambda *_: fired.append(1))
    modes = [m.training for m in model.modules()]
    weights = {k: v.clone() for k, v in model.state_dict().items()}
    hooks = [(len(m._forward_hooks), len(m._forward_pre_hooks), sorted(vars(m))) for m in model.modules()]
    torch.manual_seed(5)
    np.random.seed(5)  # noqa: NPY002 - the user's global state is what is tested
    random.seed(5)
    wanted = torch.rand(1).item(), np.random.rand(), random.random()  # noqa: NPY002
    torch.manual_seed(5)
    np.random.seed(5)  # noqa: NPY002
    random.seed(5)

    def disturb(batch: Any) -> Any:
        torch.rand(3)
        np.random.rand()  # noqa: NPY002
        random.random()
        if fails:
            raise RuntimeError("my own")
        return batch

    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(X, Y), batch_size=50, shuffle=True)
    data = ls.Data(loader, inputs=0, label=1, preprocess=disturb)
    if fails:
        with pytest.raises(RuntimeError, match="my own"):
            ls.examine(model, data)
    else:
        ls.examine(model, data, references=["untrained"])
    assert (torch.rand(1).item(), np.random.rand(), random.random()) == wanted  # noqa: NPY002
    assert [m.training for m in model.modules()] == modes
    assert torch.is_grad_enabled()
    assert all(torch.equal(v, weights[k]) for k, v in model.state_dict().items())
    assert [(len(m._forward_hooks), len(m._forward_pre_hooks), sorted(vars(m))) for m in model.modules()] == hooks
    assert fails or fired, "the user's own hook still fires"


def test_shards_are_the_whole_to_the_bit() -> None:
    model = small()
    whole = ls.examine(model, (X, Y), batch_size=32)
    parts = [ls.examine(model, (X, Y), batch_size=32, shard=(i, 3)) for i in range(3)]
    merged = parts[2].merge(parts[0]).merge(parts[1])
    for name in whole:
        assert StateTable().same(merged[name].table, whole[name].table)
    assert merged.manifest["samples"] == 300
    assert merged.task == whole.task
    assert parts[0].manifest["samples"] == 3 * 32 + 12, "merging changes neither side"


def test_the_same_samples_twice_are_noticed() -> None:
    """Coverage then rises by itself, and nothing else in the counts tells."""
    once = ls.examine(small(), (X, Y))
    twice = once.merge(ls.examine(small(), (X, Y)))
    assert "have the id of another" in twice["6"].entropy().note
    assert "have the id of another" not in once["6"].entropy().note
    assert twice["6"].entropy().coverage > once["6"].entropy().coverage


def test_the_padded_last_batch_counts_only_real_samples() -> None:
    results = ls.examine(small(), X[:70], batch_size=64)
    assert results["6"].state_count == 70
    assert results["6"].table.samples == 70


def test_samples_are_honoured() -> None:
    assert ls.examine(small(), (X, Y), samples=41)["6"].state_count == 41


def test_float64_arrays_of_numpy_run_in_the_models_precision() -> None:
    a, b = ls.examine(small(), X.numpy().astype(np.float64)), ls.examine(small(), X)
    assert StateTable().same(a["1"].table, b["1"].table)


@pytest.mark.parametrize("amp", ["bf16"])
def test_amp_is_honoured(amp: str) -> None:
    model = small()
    half = ls.examine(model, X, amp=amp)
    assert half.layers["1"].dtype == "bfloat16"
    assert half.manifest["amp"] == amp
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        relu = model.eval()[1](model[0](X)).float().numpy()
    assert float(half["1"].entropy()) == pytest.approx(
        numpy_entropy(np.moveaxis(relu, 1, -1).reshape(-1, 6)), abs=1e-12
    )


def test_untrained_twins_ride_along() -> None:
    model = small()
    with torch.no_grad():
        model[0].bias += 10
    results = ls.examine(model, (X, Y), references=["untrained"])
    twin = results.references["untrained"]
    assert twin["1"].state_count == results["1"].state_count
    assert float(np.mean(twin["1"].firing_rates().value)) < 1
    assert float(results["6"].entropy()) != float(twin["6"].entropy())
    assert set(results.table["network"]) == {"", "untrained"}
    own = ls.examine(model, X, references={"first": small(7)})
    assert float(own.references["first"]["6"].entropy()) == float(ls.examine(small(7), X)["6"].entropy())


def test_a_score_replaces_accuracy() -> None:
    def distance(output: Any, targets: Any) -> Any:
        return (output - targets).abs().mean(1)

    results = ls.examine(small(), ls.Data((X, torch.ones(300, 4)), score=distance))
    assert results.accuracy is not None
    assert results.accuracy.measured_in == "distance"
    with torch.no_grad():
        wanted = (small().eval()(X) - 1).abs().mean().item()
    assert float(results.accuracy) == pytest.approx(wanted, rel=1e-5)
    with pytest.raises(DataError, match="one score per sample"):
        ls.examine(small(), ls.Data((X, torch.ones(300, 4)), score=lambda output, targets: (output - targets).mean()))


def test_without_labels_there_is_no_accuracy() -> None:
    results = ls.examine(small(), X)
    assert results.accuracy is None
    with pytest.raises(DataError, match="aIQ: it needs an accuracy"):
        results.aIQ()


def test_undersampled_layers_are_left_out_of_network_efficiency() -> None:
    results = ls.examine(small(), (X[:20], Y[:20]))
    efficiencies = {name: results[name].efficiency() for name in results}
    thin = [name for name, r in efficiencies.items() if r.undersampled]
    assert thin, "the test needs an undersampled layer"
    assert all(str(efficiencies[name]).startswith("≥") for name in thin)
    network = results.network_efficiency()
    assert all(name in network.note for name in thin)
    everything = results.network_efficiency(allow_undersampled=True)
    assert float(everything) == pytest.approx(np.exp(np.mean([np.log(float(r)) for r in efficiencies.values()])))
    assert everything.bound == "≥"


def test_a_network_of_undersampled_layers_has_no_number() -> None:
    model = nn.Sequential(nn.Linear(144, 64), nn.ReLU(), nn.Linear(64, 2))
    network = ls.examine(model, X[:30].flatten(1)).network_efficiency()
    assert np.isnan(float(network))
    assert "no layer is left" in network.note


def test_a_dead_layer_makes_the_network_zero_and_is_named() -> None:
    model = small()
    with torch.no_grad():
        model[5].weight.zero_()
        model[5].bias.fill_(-1)
    network = ls.examine(model, X).network_efficiency()
    assert float(network) == 0.0
    assert "efficiency 0 at 6" in network.note


def test_layers_always_on_raise_and_do_not_take_the_others_along() -> None:
    model = nn.Sequential(nn.Linear(144, 5), nn.ReLU(), nn.Linear(5, 5), nn.Sigmoid(), nn.Linear(5, 2))
    results = ls.examine(model, X.flatten(1), thresholds={"3": 0.0})
    with pytest.raises(ThresholdError, match=r"(?s)cannot tell on from off.*wrong:.*right:"):
        results["3"].entropy()
    table = results.table.set_index(["layer", "measure", "setting"]).sort_index()

    def cell(layer: str, column: str) -> Any:
        return table.loc[(layer, "entropy", ""), column]

    assert np.isnan(cell("3", "value"))
    assert "cannot tell on from off" in cell("3", "note")
    assert cell("1", "value") > 0
    assert float(ls.examine(model, X.flatten(1))["3"].entropy()) > 0


def test_nonfinite_values_are_noted_or_raised() -> None:
    x = X.clone()
    x[3, 0, 0, 0] = float("nan")
    results = ls.examine(small(), x, layers=["0"])
    reading = results["0"].entropy()
    assert "6 NaN" in reading.note
    with pytest.raises(NonFiniteError, match="batch 0 has values that are not finite at 0"):
        ls.examine(small(), x, layers=["0"], nonfinite="raise")
    with pytest.raises(DataError, match="choose 'note'"):
        ls.examine(small(), x, nonfinite="ignore")


@pytest.mark.parametrize("asked", [[measures.Activation()], [measures.Entropy(per="channel")], []], ids=repr)
@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_raising_does_not_depend_on_what_is_measured(asked: Any, bad: float) -> None:
    """It did: only the state tables were asked, and moments went on in silence."""
    x = X.clone()
    x[290, 0, 5, 5] = bad
    with pytest.raises(NonFiniteError, match="batch 4"):
        ls.examine(small(), x, layers=["0"], batch_size=64, measures=asked, nonfinite="raise")
    ls.examine(small(), X, layers=["0"], batch_size=64, measures=asked, nonfinite="raise")


def test_the_memory_limit_names_the_largest_and_the_choices() -> None:
    with pytest.raises(MemoryLimitError, match=r"one sample takes .* MiB with the activations"):
        ls.examine(small(), X, memory_limit=1000)
    assert parse_bytes("4 GiB") == 4 * 2**30
    assert parse_bytes("1.5 MB") == 1_500_000
    for wrong in ("4 apples", "-1", "0", ""):
        with pytest.raises(DataError, match="no amount of memory"):
            parse_bytes(wrong)


def test_rows_are_kept_only_when_asked_for(tmp_path: Path) -> None:
    model = small().eval()
    results = ls.examine(model, X, layers=["1"], keep_rows=True)
    bits = np.moveaxis(ls.activations(model, X)["1"], 1, -1).reshape(-1, 6) > 0
    np.testing.assert_array_equal(results["1"].raw_states, np.packbits(bits, axis=1, bitorder="little"))
    on_disk = ls.examine(model, X, layers=["1"], keep_rows=str(tmp_path / "rows"))
    np.testing.assert_array_equal(on_disk["1"].raw_states, results["1"].raw_states)
    with pytest.raises(DataError, match="exists already, and nothing is overwritten"):
        ls.examine(model, X, layers=["1"], keep_rows=str(tmp_path / "rows"))
    with pytest.raises(SiteError, match="keep_rows"):
        _ = ls.examine(model, X, layers=["1"])["1"].raw_states


def test_a_run_goes_on_from_its_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("layerscope._manifest.SAVE_EVERY", 0.0)
    path, model = tmp_path / "run.lscope", small()
    whole = ls.examine(model, (X, Y), batch_size=32)
    seen = 0

    def breaks(batch: Any) -> Any:
        nonlocal seen
        seen += 1
        if seen == 6:
            raise KeyboardInterrupt
        return batch

    with pytest.raises(KeyboardInterrupt):
        ls.examine(model, ls.Data((X, Y), preprocess=breaks), batch_size=32, resume=path)
    resumed = ls.examine(model, (X, Y), batch_size=32, resume=path)
    for name in whole:
        assert StateTable().same(resumed[name].table, whole[name].table)
    assert resumed.manifest["batches"] == whole.manifest["batches"]
    assert float(resumed.accuracy) == float(whole.accuracy)  # type: ignore[arg-type]
    with pytest.raises(DataError, match="finished"):
        ls.examine(model, (X, Y), batch_size=32, resume=path)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"model": small(1)}, "another network"),
        ({"batch_size": 16}, "another batch size"),
        ({"thresholds": {"1": 0.8}}, "choice of layers"),
        ({"axes": {"1": 2}}, "choice of layers"),
        ({"layers": ["1"]}, "choice of layers"),
        ({"amp": "bf16"}, "set of arguments"),
        ({"measures": [measures.Entropy(order=2)]}, "set of arguments"),
        ({"references": ["untrained"]}, "set of arguments"),
        ({"keep_rows": True}, "set of arguments"),
        ({"samples": 200}, "set of arguments"),
        ({"data": X + 3}, "first batch of data"),
    ],
)
def test_a_run_does_not_go_on_as_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: dict[str, Any], words: str
) -> None:
    monkeypatch.setattr("layerscope._manifest.SAVE_EVERY", 0.0)
    path = tmp_path / "run.lscope"

    def stop(batch: Any) -> Any:
        if path.exists():
            raise KeyboardInterrupt
        return batch

    with pytest.raises(KeyboardInterrupt):
        ls.examine(small(), ls.Data(X, preprocess=stop), batch_size=32, resume=path)
    arguments = {"model": small(), "data": X, "batch_size": 32, **change}
    with pytest.raises(DataError, match=rf"made with another.*{words.removeprefix('another ')}"):
        ls.examine(**arguments, resume=path)
    with pytest.raises(DataError, match="rows in a folder cannot be continued"):
        ls.examine(small(), X, resume=path, keep_rows=str(tmp_path))


@pytest.mark.parametrize(
    ("labels", "other", "words"), [(Y, small(2), "another reference"), (1 - Y, small(1), "another first batch of data")]
)
def test_a_run_does_not_go_on_with_other_labels_or_references(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, labels: Any, other: Any, words: str
) -> None:
    monkeypatch.setattr("layerscope._manifest.SAVE_EVERY", 0.0)
    path = tmp_path / "run.lscope"

    def stop(batch: Any) -> Any:
        if path.exists():
            raise KeyboardInterrupt
        return batch

    def run(labels: Any, other: Any, preprocess: Any = None) -> ls.Results:
        data = ls.Data((X, labels), preprocess=preprocess)
        return ls.examine(small(), data, batch_size=32, references={"other": other}, resume=path)

    with pytest.raises(KeyboardInterrupt):
        run(Y, small(1), stop)
    with pytest.raises(DataError, match=rf"made with {words}\."):
        run(labels, other)
    assert run(Y, small(1)).manifest["samples"] == len(X)


def test_the_manifest_says_what_was_asked() -> None:
    results = ls.examine(small(), X, layers=[nn.ReLU, "6"], thresholds={"1": 0.2}, references={"twin": small(3)})
    assert results.manifest["asked"] == {
        "layers": "[ReLU, '6']",
        "thresholds": "{'1': 0.2}",
        "references": "{'twin': Sequential}",
    }


def test_one_batch_that_cannot_be_scored_ends_the_accuracy() -> None:
    labels = Y.clone()
    labels[299] = 7
    results = ls.examine(small(), (X, labels), batch_size=64)
    assert results.accuracy is None
    assert "do not fit 4 outputs" in results.task.note


def test_outputs_with_nan_count_as_wrong() -> None:
    x = X.clone()
    x[:5] = float("nan")
    results = ls.examine(small(), (x, torch.zeros(300, dtype=torch.int64)))
    with torch.no_grad():
        right = int((small().eval()(X[5:]).argmax(1) == 0).sum())
    assert results.accuracy is not None
    assert float(results.accuracy) == right / 300
    assert "NaN count as wrong" in results.accuracy.note


def test_a_ratio_of_entropies_is_never_called_a_bound() -> None:
    results = ls.examine(small(), X[:20])
    thin = results["6"].efficiency(order=2, against=1)
    assert thin.undersampled
    assert thin.bound == ""
    assert "no bound" in thin.note


def test_references_that_nobody_knows() -> None:
    with pytest.raises(DataError, match="known is 'untrained'"):
        ls.examine(small(), X, references=["input"])
    for wrong in ("untrained", 3, [3], None):
        with pytest.raises(DataError, match=r"references=.*: known is 'untrained'"):
            ls.examine(small(), X, references=wrong)  # type: ignore[arg-type]

    class Own(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.w = nn.Parameter(torch.ones(144, 3))

        def forward(self, x: Any) -> Any:
            return torch.relu(x.flatten(1) @ self.w) @ torch.ones(3, 2)

    with pytest.raises(SiteError, match="no reset_parameters"):
        ls.examine(Own(), X, references=["untrained"])


def test_what_is_no_model_is_refused() -> None:
    with pytest.raises(SiteError, match="wrap it in a module's forward"):  # another text where JAX is loaded
        ls.examine(lambda x: x, X)
    with pytest.raises(SiteError, match="wrap it in a module's forward"):
        ls.examine(lambda x: torch.relu(x), X)


@pytest.mark.parametrize("kind", ["numpy", "torch"])
def test_a_forward_that_works_in_place_changes_neither_data_nor_numbers(kind: str) -> None:
    """In arrays a batch is a view of the data: what changes it would meet the reference, the input as row 0, and the next pass."""

    class Centred(nn.Module):
        def __init__(self, in_place: bool) -> None:
            super().__init__()
            self.inner, self.in_place = small(), in_place

        def forward(self, x: Any) -> Any:
            if not self.in_place:
                return self.inner(2 * x - 1)
            x *= 2
            x -= 1
            return self.inner(x)

    def table(in_place: bool, **how: Any) -> Any:
        given: Any = X[:40].numpy().copy() if kind == "numpy" else X[:40].clone()
        found = ls.examine(Centred(in_place), given, batch_size=16, references={"twin": Centred(in_place)}, **how).table
        np.testing.assert_array_equal(np.asarray(given), X[:40].numpy())
        return found["value"]

    turned: dict[str, Any] = {
        "transformations": ls.transformations.rotations(2),
        "measures": [measures.Goodfellow("quantile", 0.1)],
    }
    for how in ({}, turned):
        np.testing.assert_array_equal(table(True, **how), table(False, **how))


def test_merge_refuses_strangers() -> None:
    a = ls.examine(small(), X)
    with pytest.raises(MergeError, match="read the same sites"):
        a.merge(ls.examine(small(), X, layers=["1"]))
    with pytest.raises(MergeError, match="measures="):
        a.merge(ls.examine(small(), X, measures=[measures.Activation()]))
    with pytest.raises(MergeError, match="firing rule"):
        a.merge(ls.examine(small(), X, thresholds={"1": 0.3}))


def test_results_survive_a_file(tmp_path: Path) -> None:
    asked = [measures.Entropy(order=float("inf")), measures.Entropy(per="sample"), measures.Activation("deviation")]
    results = ls.examine(small(), (X, Y), measures=asked, references=["untrained"])
    loaded = ls.load(results.save(tmp_path / "x.lscope"))
    assert loaded.table.equals(results.table)
    assert loaded.manifest == results.manifest
    assert repr(loaded.layers) == repr(results.layers)
    assert loaded.accuracy == results.accuracy or float(loaded.accuracy) == float(results.accuracy)  # type: ignore[arg-type]


def test_results_answer_to_names_and_say_what_there_is() -> None:
    results = ls.examine(small(), X)
    assert "1" in results
    assert "9" not in results
    assert results[ls.Site("1")].site == ls.Site("1")
    with pytest.raises(SiteError, match="Sites are: 1, 6"):
        _ = results["nine"]
    with pytest.raises(SiteError, match="was not recorded"):
        results["1"].entropy(per="sample")


def test_nothing_from_nothing() -> None:
    empty = StateTable().init(ls.Site("x"))
    for measure in (measures.Entropy(), measures.Efficiency(), measures.FiringRate(), measures.EqualUnits()):
        with pytest.raises(EmptyTally, match="no state was observed"):
            measure.compute(empty)


def test_layers_and_activations_take_a_batch_as_loaders_give_it() -> None:
    batch = next(iter(torch.utils.data.DataLoader(torch.utils.data.TensorDataset(X, Y), batch_size=8)))
    assert isinstance(batch, list)
    assert [str(x.site) for x in ls.layers(small(), batch).read] == ["1", "6"]
    values = ls.activations(small(), batch, layers="all")
    assert values["0"].shape == (8, 6, 10, 10)
    with torch.no_grad():
        np.testing.assert_array_equal(values["0"], small().eval()[0](batch[0]).numpy())


def test_a_reference_is_called_as_the_model_is() -> None:
    torch.manual_seed(0)
    trained, other = (nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 3)) for _ in range(2))
    x = torch.randn(20, 4)
    data = ls.Data(x, forward=lambda model, x: model(-x))
    results = ls.examine(trained, data, references={"other": other})
    alone = ls.examine(other, data)
    assert results.references["other"]["1"].counts().tolist() == alone["1"].counts().tolist()
    assert alone["1"].counts().tolist() != ls.examine(other, x)["1"].counts().tolist()


def test_references_that_one_side_alone_has_are_not_dropped() -> None:
    with_twin, without = (
        ls.examine(small(), (X, Y), references=references, shard=(k, 2))
        for k, references in enumerate((["untrained"], []))
    )
    with pytest.raises(MergeError, match="left has the references untrained; right none"):
        with_twin.merge(without)
    both = [ls.examine(small(), (X, Y), references=["untrained"], shard=(k, 2)) for k in range(2)]
    assert [*both[0].merge(both[1]).references] == ["untrained"]

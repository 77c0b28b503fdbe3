"""A retrieval is measured at every step: counts are those of an independent descent in plain NumPy."""

import dataclasses
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import layerscope as ls
from layerscope import energy
from layerscope._errors import DataError, DtypeError, SiteError, ThresholdError
from layerscope.probes._abstract import probe_for
from tests.conftest import require
from tests.unit.energy.autodiff import ALL, array, double, host

RNG = np.random.default_rng(0)
W = RNG.standard_normal((12, 9))
X = RNG.standard_normal((50, 12))
STEPS, DT = 4, 0.3
COUNTS = [ls.measures.Entropy(), ls.measures.FiringRate()]


def network(framework: str = "numpy", hidden: Any = None) -> energy.HAM:
    layers = {"v": energy.IdentityLayer((12,)), "h": hidden or energy.TanhLayer((9,), beta=2.0)}
    return energy.HAM(layers, {"W": energy.DenseSynapse(array(framework, W))}, [(("v", "h"), "W")])


def descent(x: NDArray[Any], clamped: bool = True) -> list[dict[str, NDArray[Any]]]:
    """Activations of `network` at every step, from the equations alone: τ ẋ = −x + W g."""
    v, h, seen = x.copy(), np.zeros((len(x), 9)), []
    for _ in range(STEPS + 1):
        g = np.tanh(2.0 * h)
        seen.append({"v": v, "h": g})
        v, h = (v if clamped else v + DT * (g @ W.T - v)), h + DT * (v @ W - h)
    return seen


def plug_in_entropy(rows: NDArray[np.bool_]) -> float:
    counts = np.unique(rows, axis=0, return_counts=True)[1]
    p = counts / counts.sum()
    return float(-(p * np.log2(p)).sum())


def check(results: Any, seen: list[dict[str, NDArray[Any]]], steps: range) -> None:
    """Every step's entropy and firing rates are those of the activations seen there."""
    for step in steps:
        fires = seen[step]["h"] > 0
        view = results[f"h@{step}"]
        assert float(view.entropy()) == pytest.approx(plug_in_entropy(fires), abs=1e-12), step
        np.testing.assert_allclose(np.asarray(view.firing_rates().value), fires.mean(axis=0), atol=1e-12)


@pytest.mark.parametrize("framework", ALL)
def test_every_step_counts_as_an_independent_descent_does(framework: str) -> None:
    with double(framework):
        retrieval = network(framework).retrieval(clamp="v", steps=STEPS, descent=DT)
        results = ls.examine(
            retrieval, X, batch_size=16, measures=COUNTS
        )  # 50 is no multiple: the last batch is padded
        assert list(results) == [f"h@{step}" for step in range(1, STEPS + 1)]
        check(results, descent(X), range(1, STEPS + 1))
        values = ls.activations(retrieval, X)
    for step, each in enumerate(descent(X)[1:], 1):
        np.testing.assert_allclose(values[f"h@{step}"], each["h"], atol=1e-12)


def test_the_check_rejects_steps_that_are_off_by_one() -> None:
    results = ls.examine(network().retrieval(clamp="v", steps=STEPS, descent=DT), X, measures=COUNTS)
    with pytest.raises(AssertionError):
        check(results, descent(X, clamped=False), range(1, STEPS + 1))
    shown = descent(X)
    with pytest.raises(AssertionError):
        check(results, [shown[-1], *shown[:-1]], range(1, STEPS + 1))


@pytest.mark.parametrize("framework", ALL)
def test_a_free_descent_is_read_in_every_layer(framework: str) -> None:
    with double(framework):
        found = ls.activations(network(framework).retrieval(steps=STEPS, descent=DT), array(framework, X))
    assert set(found) == {"v@0", *(f"{n}@{s}" for n in "vh" for s in range(1, STEPS + 1))}
    for name, value in found.items():
        layer, _, step = name.partition("@")
        np.testing.assert_allclose(value, descent(X, clamped=False)[int(step)][layer], atol=1e-12)


@pytest.mark.torch
@pytest.mark.parametrize("framework", ["numpy", "torch", pytest.param("jax", marks=pytest.mark.jax)])
def test_a_loader_of_pytorch_feeds_every_network(framework: str) -> None:
    torch = require("torch")
    loader = torch.utils.data.DataLoader(torch.from_numpy(X), batch_size=8)
    with double(framework):
        results = ls.examine(network(framework).retrieval(clamp="v", steps=STEPS, descent=DT), loader, measures=COUNTS)
    check(results, descent(X), range(1, STEPS + 1))


@pytest.mark.torch
def test_trainable_parameters_leave_no_graph_behind() -> None:
    torch = require("torch")
    from layerscope.energy.torch import Module

    module = Module(network("torch"), dtype=torch.float64)
    results = ls.examine(module.ham.retrieval(clamp="v", steps=STEPS, descent=DT), X, measures=COUNTS)
    check(results, descent(X), range(1, STEPS + 1))
    output, _ = probe_for(module.ham.retrieval(steps=1)).run(batch_of(X), (), lambda layer, a: {})
    assert not output["h"].requires_grad
    assert torch.is_grad_enabled()


@pytest.mark.torch
def test_half_floats_are_counted_as_they_are() -> None:
    torch = require("torch")
    ham = energy.HAM(
        {"v": energy.IdentityLayer((12,)), "h": energy.ReluLayer((9,))},
        {"W": energy.DenseSynapse(torch.tensor(W).bfloat16())},
        [(("v", "h"), "W")],
    )
    retrieval = ham.retrieval(clamp="v", steps=2)
    x = torch.tensor(X).bfloat16()
    results = ls.examine(retrieval, x, measures=COUNTS)
    fires = host(retrieval.run(x).read["h"][2].float()) > 0
    assert float(results["h@2"].entropy()) == pytest.approx(plug_in_entropy(fires), abs=1e-12)


def batch_of(x: Any) -> Any:
    from layerscope.feed import Feed

    return Feed(x).peek(5)


def test_what_is_listed() -> None:
    listed = ls.layers(network().retrieval(clamp="v", steps=2), X)
    assert [str(layer.site) for layer in listed] == ["v@0", "h@0", "v@1", "h@1", "v@2", "h@2"]
    assert [str(layer.site) for layer in listed.read] == ["h@1", "h@2"]
    assert listed["v@1"].left_out == "clamped: it stays what the batch gave"
    assert listed["h@0"].left_out == "the start: the same state for every sample"
    assert (listed["h@1"].kind, listed["h@1"].units, listed["h@1"].dtype) == ("TanhLayer", 9, "float64")


def test_a_layer_is_chosen_by_name_step_glob_and_class() -> None:
    retrieval = network().retrieval(steps=2)
    by: dict[Any, set[str]] = {
        "h": {"h@0", "h@1", "h@2"},
        "h@0": {"h@0"},
        "*@2": {"v@2", "h@2"},
        energy.TanhLayer: {"h@0", "h@1", "h@2"},
        energy.LTanh: {"h@0", "h@1", "h@2"},
        "TanhLayer": {"h@0", "h@1", "h@2"},
    }
    for selector, wanted in by.items():
        assert set(ls.activations(retrieval, X, layers=selector)) == wanted, selector


def test_a_layer_that_is_clamped_in_part_is_read() -> None:
    listed = ls.layers(network().retrieval(clamp={"v": np.arange(12) < 4}, steps=1), X)
    assert [str(x.site) for x in listed.read] == ["v@0", "v@1", "h@1"]
    assert listed["v@1"].note == "some of its units are clamped"
    for whole in (True, np.ones(12, bool)):
        assert ls.layers(network().retrieval(clamp={"v": whole}, steps=1), X)["v@1"].left_out.startswith("clamped")


@pytest.mark.parametrize("framework", ALL)
def test_a_mask_for_every_sample_comes_with_the_data(framework: str) -> None:
    """Which pixels are known differs from sample to sample; batches are cut and padded with their masks."""
    known = np.random.default_rng(1).random(X.shape) < 0.5
    v, h, shown = X.copy(), np.zeros((50, 9)), []
    for _ in range(STEPS + 1):
        g = np.tanh(2.0 * h)
        shown.append({"v": v, "h": g})
        v, h = np.where(known, X, v + DT * (g @ W.T - v)), h + DT * (v @ W - h)
    with double(framework):
        retrieval = network(framework).retrieval(clamp={"v": "known"}, steps=STEPS, descent=DT)
        results = ls.examine(retrieval, {"v": X, "known": known}, batch_size=16, measures=COUNTS)
        check(results, shown, range(1, STEPS + 1))
        values = ls.activations(retrieval, {"v": X, "known": known})
        np.testing.assert_allclose(values[f"v@{STEPS}"], shown[-1]["v"], atol=1e-12)
        listed = ls.layers(retrieval, {"v": X, "known": np.ones_like(known)})["v@1"]
        assert (listed.left_out, listed.note) == ("", "some of its units are clamped")
        other = network(framework).retrieval(clamp={"v": "seen"}, steps=STEPS, descent=DT)
        assert probe_for(other).fingerprint() != probe_for(retrieval).fingerprint()


def test_a_mask_of_another_sample_does_not_pass() -> None:
    known = np.random.default_rng(1).random(X.shape) < 0.5
    retrieval = network().retrieval(clamp={"v": "known"}, steps=STEPS, descent=DT)
    with pytest.raises(AssertionError):
        check(ls.examine(retrieval, {"v": X, "known": known}, measures=COUNTS), descent(X), range(1, STEPS + 1))


def test_a_mask_of_tokens_one_a_sample_is_not_held_against_other_samples() -> None:
    tokens, keys = RNG.standard_normal((16, 4, 3)), RNG.standard_normal((16, 5, 3))
    here = np.random.default_rng(1).random((16, 4)) < 0.6
    here[:, 0] = True
    data = {"q": tokens, "k": keys}

    def retrieval(mask: Any) -> Any:
        plain = energy.AttentionSynapse.random(np.random.default_rng(2), (4, 3), (5, 3), z=2, scale=1.0)
        layers = {"q": energy.TanhLayer((4, 3)), "k": energy.TanhLayer((5, 3))}
        synapse = dataclasses.replace(plain, query_mask=mask)
        return energy.HAM(layers, {"a": synapse}, [(("q", "k"), "a")]).retrieval(steps=2)

    def values(mask: Any, batch_size: int) -> Any:
        return ls.examine(retrieval(mask), data, batch_size=batch_size, measures=COUNTS, layers=["q@2"]).table["value"]

    with pytest.raises(DataError, match=r"'a': its mask of tokens, one a sample.*batch_size="):
        values(here[:8], 8)
    np.testing.assert_array_equal(values(here[0], 8), values(here[0], 16))
    assert (values(here, 16) != values(np.ones_like(here), 16)).any()


def test_states_by_layer_start_where_the_batch_says() -> None:
    h = RNG.standard_normal((50, 9))
    found = ls.activations(network().retrieval(steps=1), {"v": X, "h": h})
    np.testing.assert_allclose(found["h@0"], np.tanh(2 * h), atol=1e-12)


@pytest.mark.parametrize(
    ("hidden", "threshold"),
    [
        (energy.IdentityLayer((9,)), 0.0),
        (energy.ReluLayer((9,)), 0.0),
        (energy.RepuLayer((9,), n=3.0), 0.0),
        (energy.RexpLayer((9,)), 0.0),
        (energy.TanhLayer((9,)), 0.0),
        (energy.LayerNormLayer((9,)), 0.0),
        (energy.SphericalNormLayer((9,)), 0.0),
        (energy.SigmoidLayer((9,), beta=3.0), 0.5),
        (energy.SigmoidLayer((9,), scale=4.0), 2.0),
        (energy.SigmoidLayer((9,), scale=np.array(4.0)), 2.0),
        (energy.ExpLayer((9,)), 1.0),
        (energy.SoftmaxLayer((9,)), None),
    ],
    ids=str,
)
def test_a_unit_fires_where_its_state_is_above_its_own_threshold(hidden: Any, threshold: float | None) -> None:
    ham = network(hidden=hidden)
    layer = ls.layers(ham.retrieval(steps=1, clamp="v"), X)["h@1"] if threshold is not None else None
    if layer is None:
        listed = ls.layers(ham.retrieval(steps=1), X)
        assert listed["h@1"].threshold is None
        assert listed["h@1"].left_out.startswith("softmax is never ≤ 0")
        return
    assert layer.threshold == threshold
    assert not layer.left_out
    x = RNG.standard_normal((200, 9))
    if "norm" not in hidden.name:
        np.testing.assert_array_equal(hidden.activation(x) > threshold, x > 0)
    assert ls.layers(ham.retrieval(steps=1, read="x"), X)["h@1"].threshold == 0.0


def test_a_softmax_layer_is_measured_with_a_threshold() -> None:
    retrieval = network(hidden=energy.SoftmaxLayer((9,), beta=3.0)).retrieval(steps=2, descent=energy.Exact())
    assert [str(x.site) for x in ls.layers(retrieval, X).read] == ["v@0", "v@1", "v@2"]
    results = ls.examine(retrieval, X, thresholds={"h": 0.1}, measures=COUNTS)
    assert {"h@1", "h@2"} <= set(results)
    fires = retrieval.run(X).read["h"][2] > 0.1
    assert float(results["h@2"].entropy()) == pytest.approx(plug_in_entropy(fires), abs=1e-12)
    with pytest.raises(ThresholdError, match="there is no rule above which value a SoftmaxLayer fires"):
        ls.examine(retrieval, X, layers=["h"])


def test_units_lie_along_the_axis_of_the_lagrangian_else_along_the_last() -> None:
    def listed(layer: Any) -> Any:
        ham = energy.HAM({"v": layer}, {"b": energy.BiasSynapse(np.ones(layer.shape))}, [(("v",), "b")])
        return ls.layers(ham.retrieval(steps=1), np.ones((5, *layer.shape)))["v@1"]

    image = listed(energy.ReluLayer((4, 5, 3)))
    assert (image.units, image.positions, image.note) == (3, (4, 5), "unit axis by rank: the last")
    rows = listed(energy.LayerNormLayer((4, 5), axis=-2))
    assert (rows.units, rows.positions, rows.note) == (4, (5,), "")


def test_a_mask_of_positions_leaves_tokens_out() -> None:
    ham = energy.HAM({"t": energy.ReluLayer((6, 4))}, {"b": energy.BiasSynapse(np.ones((6, 4)))}, [(("t",), "b")])
    tokens, mask = RNG.standard_normal((20, 6, 4)), np.arange(6) < RNG.integers(1, 7, (20, 1))
    for framework in ("numpy", "torch"):
        given = tokens if framework == "numpy" else require("torch").from_numpy(tokens)
        retrieval = ham.retrieval(steps=1, descent=0.5)
        results = ls.examine(retrieval, ls.Data(given, mask=mask), measures=COUNTS)
        fires = np.maximum(tokens + 0.5 * (1 - tokens), 0)[mask] > 0
        assert results["t@1"].entropy().observations == mask.sum()
        assert float(results["t@1"].entropy()) == pytest.approx(plug_in_entropy(fires), abs=1e-12)


def test_scores_get_what_the_last_step_shows_and_labels_alone_are_no_accuracy() -> None:
    def error(output: Any, targets: Any) -> Any:
        return ((output["v"] - targets) ** 2).mean(axis=1)

    retrieval = network().retrieval(steps=STEPS, descent=DT)
    results = ls.examine(retrieval, ls.Data((X, X), score=error), batch_size=16)
    wanted = ((descent(X, clamped=False)[-1]["v"] - X) ** 2).mean()
    assert results.accuracy is not None
    assert float(results.accuracy) == pytest.approx(wanted, abs=1e-9)
    labelled = ls.examine(retrieval, (X, np.arange(50) % 9))
    assert labelled.accuracy is None


def test_results_of_a_retrieval_are_saved_and_merged(tmp_path: Any) -> None:
    retrieval = network().retrieval(clamp="v", steps=2, descent=DT)
    whole = ls.examine(retrieval, X, batch_size=16)
    whole.save(tmp_path / "results.ls")
    again = ls.load(tmp_path / "results.ls")
    assert float(again["h@2"].entropy()) == float(whole["h@2"].entropy())
    assert list(again) == ["h@1", "h@2"]


def test_a_fingerprint_is_of_parameters_and_of_what_is_done() -> None:
    def digest(ham: energy.HAM, **how: Any) -> str:
        return probe_for(ham.retrieval(**how)).fingerprint()

    plain = digest(network())
    assert digest(network()) == plain
    other = network().with_parameters({"synapses.W.W": W + 1e-12})
    changed = [
        digest(other), digest(network(), steps=11), digest(network(), descent=0.1000001), digest(network(), clamp="v"),
        digest(network(), clamp={"v": np.arange(12) < 3}), digest(network(), clamp={"v": np.arange(12) < 4}), digest(network(), read="x"),
        digest(network(), input="h"),
    ]  # fmt: skip
    assert len({plain, *changed}) == 9


@pytest.mark.parametrize("framework", ALL)
def test_facts(framework: str) -> None:
    with double(framework):
        facts = probe_for(network(framework).retrieval(steps=3)).facts()
    assert facts["framework"] == "layerscope.energy"
    assert facts["framework_version"].startswith(framework)
    assert facts["model"].startswith("HAM, 3 steps of Euler(dt=0.1)")
    assert (facts["parameters"], facts["dtype"]) == (109, "float64")
    assert "cpu" in facts["device"].lower()


def test_a_reference_is_another_retrieval() -> None:
    retrieval, fresh = network().retrieval(clamp="v", steps=2), network(hidden=energy.TanhLayer((9,), beta=0.1))
    results = ls.examine(retrieval, X, references={"blunt": fresh.retrieval(clamp="v", steps=2)})
    assert set(results.references["blunt"]) == set(results)
    with pytest.raises(SiteError, match=r"h@2: this retrieval has no such layer and step\. It does 1 steps"):
        ls.examine(retrieval, X, references={"short": fresh.retrieval(clamp="v", steps=1)})
    with pytest.raises(SiteError, match="nobody here knows how they start"):
        ls.examine(retrieval, X, references=["untrained"])


def test_what_a_retrieval_cannot_do() -> None:
    retrieval = network().retrieval()
    with pytest.raises(
        SiteError, match=r"given a HAM, which has no forward.*\n.*\n.*right: ls.examine\(ham.retrieval\("
    ):
        ls.examine(network(), X)
    with pytest.raises(SiteError, match="cannot be watched from outside"), ls.watch(retrieval):
        pass
    with pytest.raises(SiteError, match="device='cpu': a retrieval runs where the parameters"):
        ls.examine(retrieval, X, device="cpu")
    with pytest.raises(DtypeError, match="amp='bf16': a retrieval runs in the type"):
        ls.examine(retrieval, X, amp="bf16")
    with pytest.raises(SiteError, match="a retrieval holds its own parameters"):
        ls.examine(retrieval, X, params={})
    with pytest.raises(SiteError, match=r"ls.Data\(…, forward=…\): a retrieval is run as it is"):
        ls.examine(retrieval, ls.Data(X, forward=lambda model, x: x))
    with pytest.raises(SiteError, match="takes the state of 'v'; the data gives 2 inputs"):
        ls.examine(retrieval, ls.Data(lambda: iter([(X, X)]), inputs=[0, 1], label=False))
    with pytest.raises(DtypeError, match="a neuron state is an array of floats, got int64"):
        ls.examine(retrieval, np.ones((5, 12), int))


def test_retrievals_are_recognised_without_importing_energy() -> None:
    code = (
        "import sys, numpy as np, layerscope as ls\n"
        "try: ls.examine(object(), np.ones((3, 2)))\n"
        "except LookupError as error: assert 'retrievals' in str(error)\n"
        "print('layerscope.energy' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"

"""The core of the monitors: one sample, one choice of layers, names that stay, and numbers that never tell the sample size."""

import copy
import itertools
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import layerscope as ls
from layerscope import measures
from layerscope._errors import DataError, EmptyTally, SiteError
from layerscope._site import Axes, Site
from layerscope.integrations._monitor import Monitor
from layerscope.integrations._scalars import label, names, spread
from layerscope.inventory import Layer, Role
from layerscope.tallies import StateTable
from tests.conftest import require
from tests.unit.integrations.oracle import MEASURES, check_history, check_logged

torch = require("torch")
nn = torch.nn
pytestmark = pytest.mark.torch

X = np.random.default_rng(0).normal(size=(300, 1, 8, 8)).astype(np.float32)
Y = np.arange(300) % 4


def small(seed: int = 0) -> Any:
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Dropout(0.5), nn.Flatten(), nn.Linear(144, 24), nn.ReLU(), nn.Linear(24, 4)
    )


def learn(model: Any) -> None:
    """Weights that differ from epoch to epoch, with no random number drawn."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.02 * torch.sin(torch.arange(float(parameter.numel()))).reshape(parameter.shape))


def run(monitor: Monitor, model: Any, epochs: int = 3) -> tuple[dict[str, list[float]], list[Any]]:
    """The logs of some epochs, and what `examine` finds in each."""
    logs: dict[str, list[float]] = {}
    tables: list[Any] = []
    monitor.begin(model)
    for epoch in range(epochs):
        monitor.start()
        learn(model)
        for name, value in monitor.measure(epoch).items():
            logs.setdefault(name, []).append(value)
        tables.append(ls.examine(model, (X, Y), measures=MEASURES, samples=monitor.samples).table)
    return logs, tables


# --- the numbers ------------------------------------------------------------------------------------------------------------------


def test_every_epoch_is_what_examine_finds() -> None:
    monitor = Monitor((X, Y), samples=200)
    logs, tables = run(monitor, small())
    check_history(monitor.history, tables)
    check_logged(logs, tables)
    assert monitor.results.manifest["epoch"] == 2
    assert monitor.results.manifest["samples"] == 200


def test_a_history_of_other_weights_is_rejected() -> None:
    monitor = Monitor((X, Y), samples=200)
    logs, tables = run(monitor, small())
    with pytest.raises(AssertionError):
        check_history(monitor.history, [tables[0], tables[0], tables[2]])
    with pytest.raises(AssertionError):
        check_history(monitor.history.iloc[:-1], tables)
    with pytest.raises(AssertionError):
        check_logged({**logs, "layerscope/entropy_at_least/1": logs["layerscope/entropy_at_least/1"][:1] * 3}, tables)
    with pytest.raises(AssertionError):  # a lower bound under a name that does not say so
        check_logged({name.replace("_at_least", ""): values for name, values in logs.items()}, tables)
    with pytest.raises(AssertionError):
        check_logged({name: values for name, values in logs.items() if "network" not in name}, tables)


def test_a_layer_that_never_fires_reads_so() -> None:
    model = small()
    with torch.no_grad():
        model[4].weight.zero_()
        model[4].bias.fill_(-1.0)
    monitor = Monitor((X, Y))
    monitor.begin(model)
    scalars = monitor.measure(0)
    assert scalars["layerscope/dead_units/5"] == 24
    assert scalars["layerscope/entropy_at_least/5"] == 0
    assert scalars["layerscope/entropy_coverage/5"] == 1
    assert scalars["layerscope/firing_rate/5"] == 0
    assert scalars["layerscope/network/dead_share"] >= 24 / 28


def test_a_layer_whose_rule_cannot_tell_is_nan_with_the_reason_in_the_history() -> None:
    model = small()
    with torch.no_grad():
        model[4].weight.zero_()
        model[4].bias.fill_(1.0)
    monitor = Monitor((X, Y))
    monitor.begin(model)
    alive = Monitor((X, Y))
    alive.begin(small())
    scalars = monitor.measure(0)
    assert math.isnan(scalars["layerscope/entropy_at_least/5"])
    assert math.isnan(scalars["layerscope/entropy_coverage/5"])
    (row,) = monitor.history.query("layer == '5' and measure == 'entropy'").to_dict("records")
    assert "cannot tell on from off" in row["note"]
    assert scalars.keys() == alive.measure(0).keys()  # loggers fix their columns in the first epoch


# --- the sample -------------------------------------------------------------------------------------------------------------------


def test_a_generator_is_drawn_once_and_kept() -> None:
    """One that fills the same buffer again and again, as some readers do."""
    buffer = np.empty((50, 1, 8, 8), np.float32)

    def batches() -> Iterator[np.ndarray]:
        for start in range(0, 300, 50):
            buffer[:] = X[start : start + 50]
            yield buffer

    model, one, other = small(), Monitor(batches(), samples=None), Monitor(X, samples=None, batch_size=50)
    for monitor in (one, other):
        monitor.begin(model)
    learn(model)
    for epoch in range(2):
        assert one.measure(epoch) == pytest.approx(other.measure(epoch), rel=0, abs=0, nan_ok=True)


def test_data_changed_in_place_or_in_order_changes_no_curve() -> None:
    changing = X.copy()
    order = np.random.default_rng(0)

    def shuffled() -> Iterator[np.ndarray]:
        yield from (X[rows] for rows in np.split(order.permutation(300), 6))

    for data in (changing, shuffled):
        monitor = Monitor(data, samples=100)
        monitor.begin(small())
        first = monitor.measure(0)
        changing[:] = 0
        assert monitor.measure(1) == pytest.approx(first, rel=0, abs=0, nan_ok=True)


def test_the_same_model_keeps_its_sample_another_gets_a_new_one() -> None:
    """The last batches of a generator are there for one model only, and that is said."""
    model, monitor = small(), Monitor((X[rows] for rows in np.split(np.arange(300), 6)), samples=100)
    monitor.begin(model)
    first = monitor.measure(0)
    monitor.begin(model)
    assert len(monitor.history) == 0
    assert monitor.measure(0) == pytest.approx(first, rel=0, abs=0, nan_ok=True)
    with pytest.raises(DataError):
        Monitor(iter([])).begin(model)
    array = Monitor(X, samples=100)
    for seed in (0, 1, 0):
        array.begin(small(seed))
        expected = ls.examine(small(seed), X, samples=100)["1"].entropy()
        assert array.measure(0)["layerscope/entropy_at_least/1"] == float(expected)


def test_after_a_start_that_failed_nothing_of_it_is_left() -> None:
    good, bad = small(), nn.Sequential(nn.Flatten(), nn.Linear(7, 4), nn.ReLU(), nn.Linear(4, 2))
    monitor = Monitor(X)
    monitor.begin(good)
    first = monitor.measure(0)
    with pytest.raises(RuntimeError):
        monitor.begin(bad)
    monitor.begin(good)
    assert monitor.measure(0) == pytest.approx(first, rel=0, abs=0, nan_ok=True)


def test_a_loader_s_own_generator_is_as_before() -> None:
    generator = torch.Generator().manual_seed(3)
    rows = torch.utils.data.TensorDataset(torch.from_numpy(X))
    loader = torch.utils.data.DataLoader(rows, 50, shuffle=True, generator=generator)
    for data in (loader, ls.Data(loader)):
        before = generator.get_state()
        Monitor(data, samples=100).begin(small())
        assert torch.equal(generator.get_state(), before)
    next(iter(loader))
    assert not torch.equal(generator.get_state(), before)  # so there was something to put back


# --- the model --------------------------------------------------------------------------------------------------------------------


def numpy_state() -> bytes:
    state: Any = np.random.get_state()  # noqa: NPY002 - the global state is what is meant
    return state[1].tobytes() + bytes(state[2])


def test_the_model_and_all_random_states_are_as_before() -> None:
    model, monitor = small().train(), Monitor((X, Y))
    model[2].eval()  # a mode of its own
    before = copy.deepcopy(model.state_dict())
    states = torch.get_rng_state(), numpy_state()
    monitor.begin(model)
    monitor.measure(0)
    assert [module.training for module in model] == [True, True, False, True, True, True, True]
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert torch.equal(torch.get_rng_state(), states[0])
    assert numpy_state() == states[1]
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


# --- what is logged ---------------------------------------------------------------------------------------------------------------


def layer(site: Site) -> Layer:
    return Layer(site, "ReLU", Role.NONLINEARITY, (3, 4), "float32", Axes(-1))


@pytest.mark.parametrize(
    ("top", "chosen"), [(1, [0]), (2, [0, 19]), (3, [0, 9, 19]), (8, [0, 2, 5, 8, 10, 13, 16, 19])]
)
def test_logged_layers_are_spread_over_the_depth(top: int, chosen: list[int]) -> None:
    layers = [layer(Site(str(k))) for k in range(20)]
    assert [int(x.site.path) for x in spread(layers, top)] == chosen


def test_no_layer_is_logged_twice_whatever_their_number() -> None:
    layers = [layer(Site(str(k))) for k in range(40)]
    for count, top in itertools.product(range(1, 40), range(1, 42)):
        chosen = [x.site for x in spread(layers[:count], top)]
        assert len({*chosen}) == len(chosen) == min(count, top)


def test_names_are_plain_and_never_two_alike() -> None:
    sites = [
        Site("a.b"),
        Site("block.relu()"),
        Site("block.relu()", 1),
        Site("block.relu_1"),
        Site("a/b c"),
        Site(""),
        Site("γ"),
    ]
    called = names([layer(site) for site in sites])
    assert [*called.values()] == ["a.b", "block.relu", "block.relu_1", "block.relu_1_", "a_b_c", "model", "_"]
    assert [*called] == [str(site) for site in sites]


def test_measures_are_named_with_their_settings() -> None:
    assert label("dead units", "") == "dead_units"
    assert label("entropy", "order=2, per=sample") == "entropy_order_2_per_sample"


def test_top_layers_are_logged_all_are_kept_and_counted() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(*itertools.chain(*((nn.Linear(8, 8), nn.ReLU()) for _ in range(5))), nn.Linear(8, 2))
    x = X.reshape(300, 64)[:, :8]
    monitor = Monitor(x, top=2, measures=[measures.Entropy(order=2), measures.Activation()])
    monitor.begin(model)
    scalars = monitor.measure(0)
    logged = {
        f"layerscope/{m}/{k}"
        for m in ("entropy_order_2_at_least", "entropy_order_2_coverage", "activation")
        for k in (1, 9)
    }
    network = {f"layerscope/network/{name}" for name in ("dead_share", "firing_rate", "undersampled_share")}
    assert scalars.keys() == logged | network
    assert sorted({*monitor.history["layer"]}) == ["1", "3", "5", "7", "9"]
    whole = ls.examine(model, x)
    assert scalars["layerscope/network/dead_share"] == sum(float(view.dead_units()) for view in whole.values()) / 40
    mean = whole["1"].value(StateTable())
    assert mean.observations == 300
    values = ls.activations(model, x)["1"]
    assert scalars["layerscope/activation/1"] == pytest.approx(values.astype(np.float64).mean(), rel=1e-6)


def test_an_undersampled_value_is_a_number_only_where_its_name_says_bound() -> None:
    """24 units and 200 samples: nothing but a plain count can be said."""
    asked = [
        measures.Entropy(),
        measures.Entropy(estimator="c2"),
        measures.Efficiency(),
        measures.Efficiency(against="rates"),
    ]
    monitor = Monitor(X, samples=200, measures=asked, layers="5")
    monitor.begin(small())
    scalars = monitor.measure(0)
    view = monitor.results["5"]
    assert all(view.reading(measure).undersampled for measure in asked)
    assert scalars["layerscope/entropy_at_least/5"] == float(view.entropy())
    assert scalars["layerscope/efficiency_at_least/5"] == float(view.efficiency())
    others = {"entropy_estimator_c2", "efficiency_against_rates"}
    assert {name.split("/")[1] for name, value in scalars.items() if math.isnan(value)} == others
    assert {name.split("/")[1] for name in scalars if "coverage" in name} == {
        "entropy_coverage", "entropy_estimator_c2_coverage", "efficiency_coverage", "efficiency_against_rates_coverage",
    }  # fmt: skip
    assert scalars["layerscope/network/undersampled_share"] == 1
    assert set(monitor.history["undersampled"]) == {True}


def test_what_is_sampled_well_is_logged_whatever_the_estimator() -> None:
    monitor = Monitor(X, measures=[measures.Entropy(estimator="c2")], layers="1")
    monitor.begin(small())
    scalars = monitor.measure(0)
    wanted = ls.examine(small(), X)["1"].reading(measures.Entropy(estimator="c2"))
    assert scalars["layerscope/entropy_estimator_c2/1"] == float(wanted)


def test_layers_can_be_named() -> None:
    monitor = Monitor(X, layers=["Conv2d", "5"], exclude="5")
    monitor.begin(small())
    assert {name for name in monitor.measure(0) if "entropy_at_least/" in name} == {"layerscope/entropy_at_least/0"}


def test_the_last_results_are_on_disk(tmp_path: Path) -> None:
    monitor = Monitor((X, Y), save=tmp_path / "last.lscope")
    _, tables = run(monitor, small())
    loaded = ls.load(tmp_path / "last.lscope")
    assert loaded.manifest["epoch"] == 2
    assert loaded.manifest["asked"]["samples"] == "512"
    assert loaded.table.equals(monitor.results.table)
    assert loaded.table["value"].equals(tables[-1]["value"])


def test_the_cost_is_told_once() -> None:
    monitor = Monitor((X, Y))
    monitor.begin(model := small())
    assert monitor.cost() == ""
    for epoch in range(2):
        monitor.start()
        monitor.measure(epoch)
        if epoch == 0:
            line = monitor.cost()
            assert line.startswith("layerscope: measuring 2 layers on 300 samples takes ")
            assert "of the first one's" in line
            assert line.endswith(
                "Undersampled, so no more than lower bounds: entropies of 1 of 2 layers: 5. More samples= may help."
            )
            assert "\n" not in line
        assert monitor.cost() == ""
    monitor.begin(model)
    monitor.measure(0)
    assert monitor.cost() != ""  # another training


# --- bad input --------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"data": None}, r"data=None gives nothing to measure on.*LayerMonitor\(\(x_val, y_val\)\)"),
        ({"data": X, "top": 0}, "top=0 is no number of layers. Give 1 or more"),
        ({"data": X, "top": 0.5}, "top=0.5 is no number"),
        ({"data": X, "top": True}, "top=True is no number"),
        ({"data": X, "measures": []}, "one or more.*seen: none"),
        ({"data": X, "measures": [measures.Entropy(), measures.Entropy(1)]}, "a name of its own.*entropy, entropy"),
        (
            {"data": X, "save": "/no/such/folder/x.lscope"},
            "lies in a folder that does not exist. Make /no/such/folder first",
        ),
    ],
)
def test_wrong_arguments_are_refused_when_they_are_given(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        Monitor(**arguments)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"data": []}, DataError, "empty"),
        ({"data": X[:0]}, DataError, "empty"),
        ({"data": X, "samples": 0}, DataError, "samples=0 is no number of samples"),
        ({"data": X, "layers": "Conv3d"}, SiteError, "matches no layer.*Did you mean 'Conv2d'"),
        ({"data": X, "exclude": ["ReLU"]}, SiteError, "no site is left to read"),
        ({"data": 3}, DataError, "is no data that can be read"),
    ],
)
def test_what_cannot_be_measured_is_refused_before_training(
    arguments: dict[str, Any], error: type[Exception], message: str
) -> None:
    model = small()
    with pytest.raises(error, match=message):
        Monitor(**arguments).begin(model)
    assert all(module.training for module in model)


def test_a_model_without_layers_to_choose_is_refused_before_training() -> None:
    with pytest.raises(SiteError, match="no site is left to read"):
        Monitor(X).begin(nn.Sequential(nn.Flatten(), nn.Linear(64, 4)))


def test_a_measure_that_cannot_compute_is_refused_before_training() -> None:
    class Broken(measures.AbstractMeasure[Any]):
        name = "broken"

        @property
        def tally(self) -> StateTable:
            return StateTable()

        @property
        def setting(self) -> str:
            return ""

        def compute(self, value: Any) -> ls.Reading:
            raise TypeError("no such number")

    with pytest.raises(TypeError, match="no such number"):
        Monitor(X, measures=[Broken()]).begin(small())


def test_there_are_no_results_before_the_first_epoch() -> None:
    monitor = Monitor(X)
    monitor.begin(small())
    with pytest.raises(EmptyTally, match="no epoch was measured yet"):
        _ = monitor.results
    assert monitor.history.columns.tolist()[:5] == ["epoch", "layer", "measure", "setting", "value"]
    assert len(monitor.history) == 0


def test_epochs_are_kept_only_when_asked_for() -> None:
    monitor = Monitor((X, Y), samples=100, keep_epochs=True)
    monitor.begin(small())
    with pytest.raises(EmptyTally, match="epochs: no epoch was measured yet"):
        _ = monitor.epochs
    run(monitor, small())
    assert [*monitor.epochs] == [0, 1, 2]
    assert monitor.epochs[2] is monitor.results
    values = [float(monitor.epochs[epoch]["1"].entropy()) for epoch in monitor.epochs]
    logged = monitor.history.query("layer == '1' and measure == 'entropy'")["value"].tolist()
    assert values == logged
    monitor = Monitor((X, Y), samples=100)
    run(monitor, small(), epochs=1)
    with pytest.raises(EmptyTally, match="epochs: they were not kept"):
        _ = monitor.epochs

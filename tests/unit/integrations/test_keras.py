"""Keras' logs get the numbers of `ls.examine`, epoch by epoch, on every backend; the model trains to the same bits as without."""

import csv
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import layerscope as ls
from layerscope._errors import DataError, EmptyTally, SiteError
from tests.conftest import require
from tests.unit.integrations.oracle import EXAMPLES, MEASURES, check_history, check_logged, page_code

keras = require("keras")
require("sklearn")
from layerscope.integrations.keras import LayerMonitor  # noqa: E402

pytestmark = [
    pytest.mark.keras,
    # Keras' own: how it makes numbers of its variables and, on the torch backend, of losses that have a gradient
    pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:Converting a tensor with requires_grad=True to a scalar:UserWarning"),
]
BACKEND = keras.backend.backend()

X, Y = ls.datasets.digits(size=8, split="train")
X = np.ascontiguousarray(X.transpose(0, 2, 3, 1))  # channels last
SAMPLE, TRAIN = (X[:300], Y[:300]), (X[300:812], Y[300:812])


class Counting(keras.layers.Layer):
    """Passes its input on, and counts how often Python runs it: once a trace where the backend compiles."""

    def __init__(self) -> None:
        super().__init__(name="counting")
        self.calls = 0

    def call(self, x: Any) -> Any:
        self.calls += 1
        return x


class Examined(keras.callbacks.Callback):
    """`ls.examine` of the model on the same samples, at the end of every epoch."""

    def __init__(self) -> None:
        super().__init__()
        self.tables: list[Any] = []

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self.tables.append(ls.examine(self.model, SAMPLE, measures=MEASURES).table)  # on JAX `.model` syncs the weights


class Steps(keras.callbacks.Callback):
    """Counts the batches that were trained on."""

    def __init__(self) -> None:
        super().__init__()
        self.seen = 0

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self.seen += 1


class Subclassed(keras.Model):
    """Not built before it sees data, as many models are."""

    def __init__(self) -> None:
        super().__init__()
        self.flat, self.dense = keras.layers.Flatten(), keras.layers.Dense(16, activation="relu", name="dense")
        self.logits = keras.layers.Dense(10, name="logits")

    def call(self, x: Any, training: bool = False) -> Any:
        return self.logits(self.dense(self.flat(x)))


def compiled(model: Any) -> Any:
    model.compile(keras.optimizers.Adam(1e-2), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    return model


def net(*more: Any) -> Any:
    """Small, with what tells training from inference: dropout and batch normalisation."""
    keras.utils.set_random_seed(0)
    return compiled(
        keras.Sequential(
            [
                keras.Input((8, 8, 1)),
                keras.layers.Conv2D(4, 3, activation="relu", name="conv"),
                keras.layers.BatchNormalization(name="norm"),
                *more,
                keras.layers.Dropout(0.2, name="drop"),
                keras.layers.Flatten(name="flat"),
                keras.layers.Dense(24, activation="relu", name="dense"),
                keras.layers.Dense(10, name="logits"),
            ]
        )
    )


def trained(model: Any, *callbacks: Any, epochs: int = 2, **how: Any) -> Any:
    """The history of a training; equal arguments give equal weights."""
    keras.utils.set_random_seed(1)
    return model.fit(*TRAIN, epochs=epochs, batch_size=64, callbacks=[*callbacks], **{"verbose": 0, **how}).history


def bits(model: Any) -> list[bytes]:
    """All variables of a model and its optimizer."""
    return [keras.ops.convert_to_numpy(v.value).tobytes() for v in (*model.variables, *model.optimizer.variables)]


# --- the numbers ------------------------------------------------------------------------------------------------------------------


def test_history_csv_and_file_are_what_examine_finds(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """And a callback behind the monitor sees them: this one asks for 99 bits more, and stops the training after three of nine epochs."""
    monitor, examined, model = LayerMonitor(SAMPLE, save=tmp_path / "last.lscope"), Examined(), net()
    stop = keras.callbacks.EarlyStopping("layerscope/entropy_at_least/conv", mode="max", min_delta=99, patience=2)
    csv_logger = keras.callbacks.CSVLogger(tmp_path / "log.csv")
    history = trained(model, monitor, examined, csv_logger, stop, epochs=9, validation_data=SAMPLE)
    assert len(examined.tables) == 3
    check_history(monitor.history, examined.tables)
    check_logged(history, examined.tables)
    with (tmp_path / "log.csv").open() as stream:
        rows = [*csv.DictReader(stream)]
    check_logged({name: [float(row[name]) for row in rows] for name in rows[0] if name in history}, examined.tables)
    assert {*monitor.history["layer"]} == {"conv", "dense"}
    assert (
        len({*history["layerscope/entropy_at_least/conv"]}) == 3
    )  # the network moved, so no epoch can stand for another
    assert history["layerscope/entropy_coverage/dense"][-1] < 0.9
    with pytest.raises(AssertionError):
        check_logged(history, examined.tables[::-1])
    loaded = ls.load(tmp_path / "last.lscope")
    assert loaded.manifest["epoch"] == 2
    assert loaded.manifest["samples"] == 300
    assert loaded.table.equals(monitor.results.table)
    assert "layerscope" not in capsys.readouterr().out  # verbose=0


def drawing() -> Iterator[Any]:
    """A source that draws from everyone's random numbers, as loaders do."""
    for _ in range(3):
        yield X[np.random.permutation(300)[: random.randrange(60, 90)]]  # noqa: NPY002 - the global state is what is meant


def test_every_epoch_is_kept_where_that_is_asked_for() -> None:
    """The table of all epochs is the history; two epochs together hold the rows of both."""
    monitor = LayerMonitor(SAMPLE, keep_epochs=True)
    trained(net(), monitor, epochs=3)
    assert [*monitor.epochs] == [0, 1, 2]
    history, table = monitor.history, monitor.epochs.table
    assert table["value"].tolist() == history["value"].tolist()
    assert table["epoch"].tolist() == history["epoch"].tolist()
    window, name = monitor.epochs.window(1, 2), next(iter(monitor.results))
    assert window[name].state_count == 2 * monitor.results[name].state_count
    without = LayerMonitor(SAMPLE)
    trained(net(), without, epochs=1)
    with pytest.raises(EmptyTally, match="keep_epochs=True"):
        _ = without.epochs


def test_the_weights_are_those_without_the_monitor() -> None:
    """Also where drawing the sample draws random numbers."""
    one, other = net(), net()
    trained(one)
    trained(other, LayerMonitor(drawing))
    assert len(one.variables) > len(one.weights)  # seeds and the optimizer's moments too
    assert bits(one) == bits(other)
    assert len(other.trainable_weights) == len(one.trainable_weights)


def test_weights_after_another_draw_are_not_the_same() -> None:
    """The test above could fail: other random numbers, other weights."""

    class Seeds(keras.callbacks.Callback):
        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            self.model.get_layer("drop").seed_generator.state.assign([7, 8])

    one, other = net(), net()
    trained(one)
    trained(other, Seeds())
    assert bits(one) != bits(other)


def test_a_program_is_compiled_once_and_not_every_epoch() -> None:
    if BACKEND == "torch":
        pytest.skip("nothing is compiled on this backend")
    counting = Counting()
    monitor, per_epoch = LayerMonitor(SAMPLE, samples=200), []
    model = net(counting)
    note = keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: per_epoch.append(counting.calls))
    trained(model, monitor, note, epochs=3)
    trained(model, monitor, note, epochs=2)
    assert len({*per_epoch}) == 1
    ls.examine(model, SAMPLE)
    assert counting.calls > per_epoch[0]  # what compiles anew is counted


# --- Keras ------------------------------------------------------------------------------------------------------------------------


def told(out: str) -> list[int]:
    """The numbers of the lines that tell the cost."""
    return [at for at, line in enumerate(out.splitlines()) if line.startswith("layerscope: measuring 2 layers on 300 ")]


def test_the_cost_is_told_once_between_epochs_or_at_the_end(capsys: pytest.CaptureFixture[str]) -> None:
    model, monitor = net(), LayerMonitor(SAMPLE)
    trained(model, monitor, epochs=3, verbose=2)
    out = capsys.readouterr().out
    (at,) = told(out)
    assert out.splitlines()[at + 1] == "Epoch 2/3"
    trained(model, monitor, epochs=1, verbose=1)
    out = capsys.readouterr().out
    assert told(out) == [len(out.splitlines()) - 1]


def test_a_subclassed_model_is_measured() -> None:
    """On TensorFlow it is built by the first training step, which is too late to say what cannot be measured."""
    keras.utils.set_random_seed(0)
    monitor, examined, model = LayerMonitor(SAMPLE), Examined(), compiled(Subclassed())
    if BACKEND == "tensorflow":
        with pytest.raises(SiteError, match=r"not built.*Call the model once on a batch"):
            trained(model, monitor)
        model(X[:1])
    trained(model, monitor, examined)
    check_history(monitor.history, examined.tables)
    assert {*monitor.history["layer"]} == {"dense"}


def test_a_second_training_starts_a_new_history_on_the_same_sample() -> None:
    model, monitor = net(), LayerMonitor((x for x in [X[:100], X[100:200]]), samples=150)
    for _ in range(2):
        trained(model, monitor, epochs=1)
        assert {*monitor.history["epoch"]} == {0}
    expected = ls.examine(model, lambda: iter([X[:100], X[100:200]]), samples=150, measures=MEASURES).table
    assert monitor.results.table.equals(expected)


# --- what is written about it -----------------------------------------------------------------------------------------------------


def test_the_page_and_the_example_run(capsys: pytest.CaptureFixture[str]) -> None:
    exec(page_code("keras"), {})
    assert len(capsys.readouterr().out.splitlines()) == 1
    code = (EXAMPLES / "monitor_keras.py").read_text(encoding="utf-8")
    assert len(code.splitlines()) < 60
    exec(code, {})
    assert capsys.readouterr().out.count("their share of all units") == 2


# --- bad input --------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"data": (x for x in list[Any]())}, DataError, "used up, or empty"),
        ({"data": (X[:0], Y[:0])}, DataError, "empty"),
        ({"data": SAMPLE, "samples": 0}, DataError, "samples=0 is no number of samples"),
        ({"data": SAMPLE, "layers": "conf"}, SiteError, "matches no layer.*Did you mean 'conv'"),
        ({"data": SAMPLE, "exclude": ["conv", "dense"]}, SiteError, "no site is left to read"),
    ],
)
def test_what_cannot_be_measured_stops_before_the_first_step(
    arguments: dict[str, Any], error: type[Exception], message: str
) -> None:
    steps = Steps()
    with pytest.raises(error, match=message):
        trained(net(), steps, LayerMonitor(**arguments))
    assert steps.seen == 0


def test_wrong_arguments_are_refused_when_they_are_given() -> None:
    with pytest.raises(DataError, match="data=None"):
        LayerMonitor(None)
    with pytest.raises(DataError, match="top=-1"):
        LayerMonitor(SAMPLE, top=-1)

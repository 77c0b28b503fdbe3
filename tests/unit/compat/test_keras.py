"""Probes in Keras models: the layer placed by hand, and models built from others. Run once under each KERAS_BACKEND."""

import copy
import pickle
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import layerscope.compat.tensorstate as ts
from layerscope._errors import DataError, EmptyTally, ShapeError, SiteError
from tests.conftest import require

keras = require("keras")
layers, ops = keras.layers, keras.ops
BACKEND = keras.backend.backend()
pytestmark = [
    pytest.mark.keras,
    # Keras's own: arrays of JAX and PyTorch in the old way, and models that have no build()
    pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning"),
    pytest.mark.filterwarnings(r"ignore:.build\(\). was called on layer:UserWarning"),
]
X = np.random.default_rng(0).normal(size=(100, 8, 8, 1)).astype("float32")
Y = np.zeros((100, 3), "float32")


def by_hand(**settings: Any) -> tuple[Any, Any]:
    """A model with a probe of 5 units behind 36 positions."""
    keras.utils.set_random_seed(0)
    probe = ts.StateCapture("probe", **settings)
    conv = layers.Conv2D(5, 3, activation="relu", name="conv")
    model = keras.Sequential([layers.Input((8, 8, 1)), conv, probe, layers.Flatten(), layers.Dense(3, name="out")])
    return model, probe


def plain() -> Any:
    keras.utils.set_random_seed(0)
    inputs = layers.Input((8, 8, 1))
    x = layers.Conv2D(5, 3, activation="relu", name="conv")(inputs)
    x = layers.BatchNormalization(name="norm")(x)
    x = layers.Dropout(0.5)(layers.Flatten()(x))
    return keras.Model(inputs, layers.Dense(3, name="out")(x))


def bits(maps: Any, axis: int = -1) -> Any:
    """Packed states by NumPy alone."""
    fires = np.moveaxis(np.asarray(maps, "float32") > 0, axis, -1)
    return np.packbits(fires.reshape(-1, fires.shape[-1]), axis=1, bitorder="little")


def names(model: Any) -> list[str]:
    return [probe.name for probe in model.efficiency_layers]


def samples(model: Any) -> list[float]:
    return [probe.state_count / 36 for probe in model.efficiency_layers]


# --- the layer -------------------------------------------------------------------------------------------------------------------------


def test_the_layer_is_both() -> None:
    _, probe = by_hand()
    assert probe.weights == []
    assert isinstance(probe, ts.AbstractStateCapture)
    assert isinstance(probe, layers.Layer)
    assert (probe.name, repr(probe)) == ("probe", "<StateCapture probe: 0 states of ? units>")


def test_every_way_to_run_a_model_is_counted() -> None:
    model, probe = by_hand()
    model.compile(optimizer="sgd", loss="mse")
    runs: dict[str, tuple[Callable[[], Any], int]] = {
        "predict": (lambda: model.predict(X, batch_size=32, verbose=0), 100),
        "predict_on_batch": (lambda: model.predict_on_batch(X[:7]), 7),
        "evaluate": (lambda: model.evaluate(X, Y, batch_size=32, verbose=0), 100),
        "test_on_batch": (lambda: model.test_on_batch(X[:7], Y[:7]), 7),
        "call": (lambda: model(X[:1]), 1),
        "fit": (lambda: model.fit(X, Y, batch_size=32, epochs=2, validation_data=(X[:9], Y[:9]), verbose=0), 218),
        "train_on_batch": (lambda: model.train_on_batch(X[:7], Y[:7]), 7),
    }
    for way, (run, expected) in runs.items():
        for _ in range(2):  # also where nothing is compiled any more
            probe.reset_states()
            run()
            assert probe.state_count == 36 * expected, way


def test_rows_come_in_the_order_of_the_data() -> None:
    model, probe = by_hand()
    model.predict(X, batch_size=7, verbose=0)
    maps = keras.Model(model.inputs, model.get_layer("conv").output).predict(X, batch_size=7, verbose=0)
    assert np.array_equal(probe.raw_states, bits(maps))


@pytest.mark.skipif(BACKEND == "torch", reason="Keras has no steps_per_execution on PyTorch")
def test_several_steps_in_one_execution() -> None:
    model, probe = by_hand()
    model.predict(X, batch_size=8, verbose=0)
    rows = np.array(probe.raw_states)
    model.compile(loss="mse", steps_per_execution=3)
    for run in (
        lambda: model.predict(X, batch_size=8, verbose=0),
        lambda: model.evaluate(X, Y, batch_size=8, verbose=0),
    ):
        probe.reset_states()
        run()
        assert np.array_equal(probe.raw_states, rows)


class Subclassed(keras.Model):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.probe, self.out = layers.Conv2D(5, 3), ts.StateCapture("probe"), layers.Dense(3)

    def call(self, x: Any) -> Any:
        return self.out(ops.mean(self.probe(self.conv(x)), axis=(1, 2)))


@pytest.mark.parametrize("way", ["predict", "predict_on_batch", "evaluate", "fit", "call", "eagerly"])
def test_a_model_that_is_not_built_yet_is_not_counted_while_it_builds(way: str) -> None:
    model = Subclassed()
    model.compile(optimizer="sgd", loss="mse", run_eagerly=way == "eagerly")
    run: Callable[[], Any] = {
        "predict": lambda: model.predict(X, batch_size=32, verbose=0),
        "predict_on_batch": lambda: model.predict_on_batch(X),
        "evaluate": lambda: model.evaluate(X, Y, batch_size=32, verbose=0),
        "fit": lambda: model.fit(X, Y, batch_size=32, verbose=0),
        "call": lambda: model(X),
        "eagerly": lambda: model.predict(X, batch_size=32, verbose=0),
    }[way]
    run()
    assert model.probe.state_count == 3600


def test_building_a_model_counts_nothing() -> None:
    model = Subclassed()
    model.build((None, 8, 8, 1))
    model.summary(print_fn=lambda *_, **__: None)
    keras.Model(inputs := layers.Input((8, 8, 1)), layers.Dense(2)(model(inputs)))
    assert model.probe.state_count == 0


def test_masks_and_types_pass_through() -> None:
    tokens = layers.Input((7,))
    embedded = layers.Embedding(11, 4, mask_zero=True)(tokens)
    lstm, probe = layers.LSTM(3), ts.StateCapture("probe")
    with_probe, without = keras.Model(tokens, lstm(probe(embedded))), keras.Model(tokens, lstm(embedded))
    x = np.random.default_rng(0).integers(0, 4, (20, 7))
    assert np.array_equal(with_probe.predict(x, verbose=0), without.predict(x, verbose=0))
    assert probe.state_count == 140
    for dtype in ("float16", "bfloat16", "int32", "bool"):
        tensor = ops.cast(np.array([[1, 0, 1], [0, 0, 1]]), dtype)
        probe = ts.StateCapture("probe")
        assert probe(tensor) is tensor
        assert probe.raw_states.tolist() == [[5], [4]], dtype


def test_several_tensors_and_one_of_them() -> None:
    a, b = ops.ones((2, 3)), ops.ones((2, 4, 5))
    for part, units in ((0, 3), (1, 5)):
        probe = ts.StateCapture("probe", part=part)
        assert probe([a, b]) == [a, b] if BACKEND == "torch" else probe([a, b])[1] is b
        assert probe.max_entropy() == units
    with pytest.raises(ShapeError, match=r"2 tensors came by, and part 2 \(counted from 0\)"):
        ts.StateCapture("probe", part=2)([a, b])


def test_nan_and_infinity_are_counted() -> None:
    model, probe = by_hand()
    x = X[:4].copy()
    x[0], x[1] = np.nan, np.inf
    model.layers[0].activation = None
    model.predict(x, verbose=0)
    assert probe.nonfinite[0] >= 180


def test_capturing_can_be_switched_in_a_compiled_model() -> None:
    model, probe = by_hand()
    for capturing, expected in ((True, 1), (False, 1), (True, 2)):
        probe.capturing = capturing
        model.predict(X[:1], verbose=0)
        assert probe.state_count == 36 * expected


def test_rows_on_disk(tmp_path: Path) -> None:
    require("zarr")
    model, probe = by_hand(disk_path=tmp_path)
    memory, other = by_hand()
    for each in (model, memory):
        each.predict(X, batch_size=32, verbose=0)
    assert (tmp_path / "tensor_states" / "probe.zarr").is_dir()
    assert np.array_equal(probe.raw_states[:], other.raw_states)
    assert probe.entropy() == other.entropy()
    with pytest.raises(DataError, match=r"probe: .*probe\.zarr exists already"):
        ts.StateCapture("probe", tmp_path)


@pytest.mark.parametrize("name", ["", None, 3])
def test_names(name: Any) -> None:
    with pytest.raises(DataError, match=r"a probe needs a name, got .*StateCapture\('conv_1'\)"):
        ts.StateCapture(name)


# --- where the units are ---------------------------------------------------------------------------------------------------------------


def test_the_last_axis_unless_one_is_given() -> None:
    x = ops.ones((2, 3, 4, 5))
    for settings, units in (({}, 5), ({"unit_axis": 1}, 3), ({"unit_axis": -2}, 4)):
        probe = ts.StateCapture("probe", **settings)
        probe(x)
        assert probe.max_entropy() == units
    with pytest.raises(ShapeError, match=r"which axis of shape \(2, 3, 4, 5\) holds the units\? Axis 4 is not there"):
        ts.StateCapture("probe", unit_axis=4)(x)
    with pytest.raises(ShapeError, match=r"needs a sample and a unit axis|one and the same"):
        ts.StateCapture("probe")(ops.ones((2,)))


def test_channels_first_is_not_guessed_at() -> None:
    conv = layers.Conv2D(5, 3, data_format="channels_first", name="conv")
    x = layers.ReLU()(conv(layers.Input((1, 8, 8))))
    with pytest.raises(ShapeError, match=r"probe: conv before it has its units on axis 1(.|\n)*unit_axis=1"):
        ts.StateCapture("probe")(x)
    ts.StateCapture("probe", unit_axis=-1)(x)  # who says so means it
    keras.config.set_image_data_format("channels_first")
    try:
        with pytest.raises(ShapeError, match=r"a layer that does not say may have them anywhere"):
            ts.StateCapture("probe")(ops.ones((2, 3, 4, 5)))
        probe = ts.StateCapture("probe")
        probe(ops.ones((2, 3)))
        assert probe.max_entropy() == 3
    finally:
        keras.config.set_image_data_format("channels_last")


@pytest.mark.skipif(BACKEND == "tensorflow", reason="TensorFlow has no convolution with channels first on a CPU")
def test_a_built_model_asks_the_layers() -> None:
    inputs = layers.Input((1, 8, 8))
    first: dict[str, Any] = {"data_format": "channels_first"}
    x = layers.Conv2D(5, 3, **first, name="conv")(inputs)
    x = layers.ReLU(name="act")(layers.BatchNormalization(axis=1, name="norm")(x))
    x = layers.MaxPooling2D(2, **first, name="pool")(x)
    x = layers.Reshape((9, 5), name="shape")(x)
    x = layers.ReLU(name="late")(x)
    model = keras.Model(inputs, layers.Dense(7, name="dense")(x))
    x = X.transpose(0, 3, 1, 2)
    built = ts.build_efficiency_model(model, ["conv", "norm", "act", "pool", "dense"], method="both")
    built.predict(x, verbose=0)
    assert [p.max_entropy() for p in built.efficiency_layers] == [1, 5, 5, 5, 5, 5, 5, 5, 5, 7]
    lost = ts.build_efficiency_model(model, ["late"])
    with pytest.raises((ShapeError, DataError), match=r"late_post_states: which axis of shape \(\w+, 9, 5\)"):
        lost.predict(x, verbose=0)
    (probe,) = lost.efficiency_layers
    probe.unit_axis = 2
    probe.reset_states()
    lost.predict(x, verbose=0)
    assert (probe.max_entropy(), probe.state_count) == (5, 900)


def test_an_axis_that_is_changed_later_takes_effect_or_says_so() -> None:
    built = ts.build_efficiency_model(plain(), ["conv"])
    (probe,) = built.efficiency_layers
    built.predict(X, verbose=0)
    probe.unit_axis = 1
    probe.reset_states()
    built.predict(X, verbose=0)
    assert probe.max_entropy() == 6
    model, probe = by_hand()
    model.predict(X, verbose=0)
    probe.unit_axis = 1
    probe.reset_states()
    if BACKEND == "torch":  # nothing is compiled there
        model.predict(X, verbose=0)
        assert probe.max_entropy() == 6
        return

    def run_and_read() -> None:
        model.predict(X, verbose=0)
        probe.entropy()

    with pytest.raises(
        Exception, match=r"make_predict_function\(force=True\)"
    ):  # TensorFlow wraps it in an error of its own
        run_and_read()
    probe.reset_states()
    model.make_predict_function(force=True)
    model.predict(X, verbose=0)
    assert probe.max_entropy() == 6


# --- saved and copied ------------------------------------------------------------------------------------------------------------------


def test_a_saved_model_has_the_layer_and_not_what_it_saw(tmp_path: Path) -> None:
    model, probe = by_hand(disk_path=tmp_path)
    expected = model.predict(X, verbose=0)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    twin = loaded.get_layer("probe")
    assert (type(twin), twin.state_count, twin.disk_path) == (ts.StateCapture, 0, None)
    assert np.array_equal(loaded.predict(X, verbose=0), expected)
    assert twin.counts().tolist() == probe.counts().tolist()
    assert probe.state_count == 3600
    model.save_weights(tmp_path / "x.weights.h5")
    without = keras.Sequential([layer for layer in by_hand()[0].layers if layer.name != "probe"])
    without.build((None, 8, 8, 1))
    assert [w.shape for w in without.weights] == [w.shape for w in model.weights]


def test_a_saved_model_loads_in_a_fresh_process(tmp_path: Path) -> None:
    model, _ = by_hand()
    model.save(tmp_path / "model.keras")
    code = (
        "import sys, keras, numpy as np, layerscope.compat.tensorstate as ts; ts.StateCapture\n"
        "model = keras.models.load_model(sys.argv[1]); model.predict(np.ones((3, 8, 8, 1)), verbose=0)\n"
        "assert model.get_layer('probe').state_count == 108"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "model.keras")]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr


@pytest.mark.parametrize(
    "copied", [copy.deepcopy, keras.models.clone_model, lambda model: pickle.loads(pickle.dumps(model))]
)
def test_a_copy_counts_for_itself(copied: Callable[[Any], Any]) -> None:
    model, probe = by_hand(unit_axis=3)
    model.predict(X, verbose=0)
    twin = copied(model).get_layer("probe")
    assert (twin.state_count, twin.unit_axis) == (0, 3)
    copy.deepcopy(probe)(ops.ones((2, 3, 4, 5)))
    assert probe.state_count == 3600


# --- models built from others ------------------------------------------------------------------------------------------------------------


def functional() -> tuple[Any, Any, dict[str, Any]]:
    return plain(), X, {"conv": 36, "out": 1}


def sequential() -> tuple[Any, Any, dict[str, Any]]:
    model = keras.Sequential(
        [layers.Input((8, 8, 1)), layers.Conv2D(5, 3, name="conv"), layers.Flatten(), layers.Dense(3, name="out")]
    )
    return model, X, {"conv": 36, "out": 1}


def subclassed() -> tuple[Any, Any, dict[str, Any]]:
    class Net(keras.Model):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.out = layers.Conv2D(5, 3, name="conv"), layers.Dense(3, name="out")

        def call(self, x: Any, training: bool = False) -> Any:
            return self.out(ops.mean(ops.relu(self.conv(x)), axis=(1, 2)))

    model = Net()
    model(X[:2])
    return model, X, {"conv": 36, "out": 1}


def nested() -> tuple[Any, Any, dict[str, Any]]:
    inner_in = layers.Input((8, 8, 1))
    maps = layers.Conv2D(5, 3, name="conv")(inner_in)
    inner = keras.Model(inner_in, layers.GlobalAveragePooling2D()(maps), name="backbone")
    inputs = layers.Input((8, 8, 1))
    return keras.Model(inputs, layers.Dense(3, name="out")(inner(inputs))), X, {"conv": 36, "out": 1}


def shared_multi() -> tuple[Any, Any, dict[str, Any]]:
    a, b = layers.Input((8, 8, 1), name="a"), layers.Input((8, 8, 1), name="b")
    conv, pool = layers.Conv2D(5, 3, name="conv"), layers.GlobalAveragePooling2D()
    both = layers.Concatenate()([pool(conv(a)), pool(conv(b))])
    heads = {"p": layers.Dense(3, name="out")(both), "q": layers.Dense(2, name="other")(both)}
    return keras.Model({"a": a, "b": b}, heads), {"a": X, "b": X[::-1]}, {"conv": 72, "out": 1}


def attention() -> tuple[Any, Any, dict[str, Any]]:
    inputs = layers.Input((8, 8))
    out, scores = layers.MultiHeadAttention(2, 4, name="conv")(inputs, inputs, return_attention_scores=True)
    heads = [layers.Dense(3, name="out")(layers.Flatten()(out)), scores]
    return keras.Model(inputs, heads), X[..., 0], {"conv": 8, "out": 1}


def distributed_in_time() -> tuple[Any, Any, dict[str, Any]]:
    inputs = layers.Input((8, 8))
    steps = layers.TimeDistributed(layers.Dense(5, name="conv"))(inputs)
    return keras.Model(inputs, layers.Dense(3, name="out")(layers.Flatten()(steps))), X[..., 0], {"conv": 8, "out": 1}


KINDS = [functional, sequential, subclassed, nested, shared_multi, attention, distributed_in_time]


def eager_truth(model: Any, x: Any, name: str) -> dict[bytes, int]:
    """What a layer gives in a forward run by hand, counted by NumPy."""
    (layer,) = [each for each in model._flatten_layers() if each.name == name]
    seen, original = [], layer.call

    def call(*args: Any, **kwargs: Any) -> Any:
        output = original(*args, **kwargs)
        seen.append(bits(ops.convert_to_numpy(keras.tree.flatten(output)[0])))
        return output

    object.__setattr__(layer, "call", call)
    try:
        model(keras.tree.map_structure(np.ascontiguousarray, x), training=False)
    finally:
        object.__delattr__(layer, "call")
    rows, counts = np.unique(np.concatenate(seen), axis=0, return_counts=True)
    return {row.tobytes(): int(n) for row, n in zip(rows, counts, strict=True)}


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_any_kind_of_model(kind: Callable[[], tuple[Any, Any, dict[str, Any]]]) -> None:
    keras.utils.set_random_seed(1)
    model, x, positions = kind()
    before = model.predict(x, batch_size=32, verbose=0)
    built = ts.build_efficiency_model(model, list(positions))
    after = built.predict(x, batch_size=32, verbose=0)
    assert all(map(np.array_equal, keras.tree.flatten(before), keras.tree.flatten(after)))
    assert names(built) == [f"{name}_post_states" for name in positions]
    for probe, (name, count) in zip(built.efficiency_layers, positions.items(), strict=True):
        assert probe.state_count == 100 * count
        assert dict(zip(probe.state_ids(), probe.counts().tolist(), strict=True)) == eager_truth(model, x, name)


def test_the_original_is_as_it_was() -> None:
    model = plain()
    model.compile(optimizer="sgd", loss="mse")
    expected = model.predict(X, verbose=0)
    function, kept = model.predict_function, [dict(vars(layer)) for layer in model._flatten_layers()]
    built = ts.build_efficiency_model(model, ["Conv2D", "Dense"], method="both")
    built.predict(X, verbose=0)
    ts.reset_efficiency_model(built)
    assert [vars(layer).keys() for layer in model._flatten_layers()] == [each.keys() for each in kept]
    assert model.predict_function is function
    assert np.array_equal(model.predict(X, verbose=0), expected)
    model(X)
    model.evaluate(X, Y, verbose=0)
    model.get_layer("conv")(X)
    assert samples(built) == [0] * 4
    assert keras.Model(model.inputs, model.get_layer("conv").output).predict(X, verbose=0).shape == (100, 6, 6, 5)


def test_weights_are_shared() -> None:
    model = plain()
    built = ts.build_efficiency_model(model, ["conv"])
    assert [id(w) for w in built.weights] == [id(w) for w in model.weights]
    built.compile(optimizer="sgd", loss="mse")
    before = model.predict(X, verbose=0)
    built.fit(X, Y + 1, epochs=2, verbose=0)
    assert samples(built) == [200]
    assert not np.array_equal(model.predict(X, verbose=0), before)
    assert np.array_equal(model.predict(X, verbose=0), built.predict(X, verbose=0))


def test_a_built_model_evaluates_as_the_original() -> None:
    model = plain()
    built = ts.build_efficiency_model(model, ["conv", "out"])
    for each in (model, built):
        each.compile(loss="mse", metrics=["mae"])
    assert built.evaluate(X, Y, batch_size=32, verbose=0) == model.evaluate(X, Y, batch_size=32, verbose=0)
    assert [p.state_count for p in built.efficiency_layers] == [3600, 100]
    with pytest.raises(
        (ValueError, AttributeError), match=r"compile|optimizer"
    ):  # Keras's own, for a model not compiled
        ts.build_efficiency_model(model, ["conv"]).evaluate(X, Y, verbose=0)


def test_before_and_both_and_what_there_is() -> None:
    model = plain()
    built = ts.build_efficiency_model(model, ["Conv2D", "Dense"], method="both")
    order = ["conv_pre_states", "conv_post_states", "out_pre_states", "out_post_states"]
    assert names(built) == order
    assert names(ts.build_efficiency_model(model, ["conv"], method="before")) == order[:1]
    built(X)
    assert [(p.max_entropy(), p.state_count) for p in built.efficiency_layers] == [
        (1, 6400),
        (5, 3600),
        (180, 100),
        (3, 100),
    ]
    assert np.array_equal(built.efficiency_layers[0].raw_states, bits(X))
    assert built.get_layer("conv") is model.get_layer("conv")
    assert built.get_layer("out_pre_states") is built.efficiency_layers[2]
    seen: list[str] = []
    built.summary(print_fn=lambda text, **_: seen.append(text))
    assert "out_pre_states" in "".join(seen)


def test_layers_inside_layers_have_paths() -> None:
    def block() -> Any:
        inputs = layers.Input((4,))
        return layers.Dense(4, activation="relu", name="dense")(inputs), inputs

    parts = [keras.Model(inputs, out, name=name) for name in ("a", "b") for out, inputs in [block()]]
    model = keras.Sequential([layers.Input((4,)), *parts, layers.Dense(2, name="out")], name="net")
    assert names(ts.build_efficiency_model(model, ["Dense"])) == [
        "a.dense_post_states",
        "b.dense_post_states",
        "out_post_states",
    ]
    assert names(ts.build_efficiency_model(model, ["Dense"], exclude=["b.dense"])) == [
        "a.dense_post_states",
        "out_post_states",
    ]
    assert names(ts.build_efficiency_model(model, ["dense"], exclude=["a"])) == [
        "a.dense_post_states",
        "b.dense_post_states",
    ]
    whole = ts.build_efficiency_model(model, ["net", "Functional"])
    whole.predict(np.ones((5, 4)), verbose=0)
    assert [(p.name, p.state_count) for p in whole.efficiency_layers] == [
        ("net_post_states", 5),
        ("a_post_states", 5),
        ("b_post_states", 5),
    ]


@pytest.mark.parametrize(
    ("attach_to", "exclude", "message"),
    [
        (["Conv2d"], [], r"attach_to has 'Conv2d', which is no layer\. Did you mean 'Conv2D'\?"),
        (["conv"], ["nothing"], r"exclude has 'nothing', which is no layer"),
        (["Conv2D"], ["conv"], r"attach_to=\['Conv2D'\], exclude=\['conv'\] leaves no layer"),
    ],
)
def test_unknown_layers_are_an_error_that_lists_them(attach_to: Any, exclude: Any, message: str) -> None:
    with pytest.raises(SiteError, match=message) as caught:
        ts.build_efficiency_model(plain(), attach_to, exclude)
    assert "conv, norm, " in str(caught.value)
    assert "Classes are: BatchNormalization, Conv2D, Dense, Dropout, Flatten, Functional, InputLayer" in str(
        caught.value
    )
    with pytest.raises(DataError, match="method='during' is none of"):
        ts.build_efficiency_model(plain(), ["conv"], method="during")


def test_a_model_that_is_not_built_is_an_error() -> None:
    with pytest.raises(SiteError, match=r"is not built yet.*model\(batch\)"):
        ts.build_efficiency_model(Subclassed(), ["Conv2D"])


def test_building_again_and_detaching() -> None:
    model = plain()
    first = ts.build_efficiency_model(model, ["conv"])
    second = ts.build_efficiency_model(first, ["conv", "out"])
    assert second.original is model
    second.predict(X, verbose=0)
    assert (samples(first), samples(second)) == ([0], [100, 100 / 36])
    probes = ts.detach_efficiency_model(second)
    expected = model.predict(X, verbose=0)
    assert np.array_equal(second.predict(X, verbose=0), expected)
    assert [probe.state_count for probe in probes] == [3600, 100]
    assert (second.efficiency_layers, ts.detach_efficiency_model(second), ts.detach_efficiency_model(model)) == (
        [],
        [],
        [],
    )
    for function in (ts.reset_efficiency_model, ts.network_efficiency):
        with pytest.raises(SiteError, match=r"this EfficiencyModel has no probes.*attach_to=\['Conv2D'\]"):
            function(second)


def test_numbers_of_networks() -> None:
    built = ts.build_efficiency_model(plain(), ["conv", "out"])
    with pytest.raises(EmptyTally, match="conv_post_states, out_post_states captured nothing yet"):
        ts.network_efficiency(built)
    built.predict(X, verbose=0)
    each = [probe.efficiency() for probe in built.efficiency_layers]
    assert ts.network_efficiency(built) == pytest.approx(np.sqrt(each[0] * each[1]))
    ts.reset_efficiency_model(built)
    assert samples(built) == [0, 0]
    model, probe = by_hand()  # a layer placed by hand is one of the network's
    model.predict(X, verbose=0)
    assert ts.network_efficiency(model) == pytest.approx(probe.efficiency())
    ts.reset_efficiency_model(model)
    assert probe.state_count == 0


def test_built_models_on_disk(tmp_path: Path) -> None:
    require("zarr")
    built = ts.build_efficiency_model(plain(), ["Conv2D", "Dense"], storage_path=tmp_path)
    built.predict(X, batch_size=32, verbose=0)
    assert sorted(p.name for p in (tmp_path / "tensor_states").iterdir()) == [
        "conv_post_states.zarr",
        "out_post_states.zarr",
    ]
    assert built.efficiency_layers[0].raw_states.shape == (3600, 1)
    with pytest.raises(DataError, match="exists already"):
        ts.build_efficiency_model(plain(), ["Conv2D"], storage_path=tmp_path)
    ts.reset_efficiency_model(built)
    built.predict(X[:3], verbose=0)
    assert built.efficiency_layers[0].raw_states.shape == (108, 1)


@pytest.mark.parametrize("how", ["save", "pickle", "deepcopy"])
def test_a_built_model_is_saved_with_its_probes(tmp_path: Path, how: str) -> None:
    built = ts.build_efficiency_model(plain(), ["conv", "out"], method="both", storage_path=tmp_path)
    built.efficiency_layers[1].unit_axis = 1
    expected = built.predict(X, verbose=0)
    if how == "save":
        built.save(tmp_path / "built.keras")
        twin = keras.models.load_model(tmp_path / "built.keras")
    else:
        twin = copy.deepcopy(built) if how == "deepcopy" else pickle.loads(pickle.dumps(built))
    assert names(twin) == names(built)
    assert samples(twin) == [0] * 4
    assert np.array_equal(twin.predict(X, verbose=0), expected)
    assert [p.counts().tolist() for p in twin.efficiency_layers] == [
        p.counts().tolist() for p in built.efficiency_layers
    ]
    assert twin.efficiency_layers[1].max_entropy() == 6


def test_ways_of_its_own_are_not_passed_over() -> None:
    class Own(keras.Model):
        def __init__(self) -> None:
            super().__init__()
            self.dense = layers.Dense(3, name="dense")

        def call(self, x: Any) -> Any:
            return self.dense(x)

        def predict_step(self, *args: Any) -> Any:
            out = super().predict_step(*args)
            return (out[0] * 2, *out[1:]) if BACKEND == "jax" else out * 2

        def test_step(self, *args: Any) -> Any:
            return super().test_step(*args)

    model, x = Own(), X[:, 0, :, 0]
    model(x)
    built = ts.build_efficiency_model(model, ["dense"])
    assert np.array_equal(built.predict(x, verbose=0), model.predict(x, verbose=0))
    assert built.efficiency_layers[0].state_count == 100
    built.compile(optimizer="sgd", loss="mse")
    with pytest.raises(SiteError, match=r"evaluate: Own has its own test_step, which this model would not follow"):
        built.evaluate(x, Y, verbose=0)
    built.fit(x, Y, verbose=0)
    assert np.array_equal(built.predict(x, verbose=0), model.predict(x, verbose=0))


def test_a_quantised_layer_is_read_too() -> None:
    model = plain()
    model.get_layer("out").quantize("int8")
    built = ts.build_efficiency_model(model, ["out"])
    assert np.array_equal(built.predict(X, verbose=0), model.predict(X, verbose=0))
    assert built.efficiency_layers[0].state_count == 100
    assert "quantized_call" not in vars(model.get_layer("out"))


@pytest.mark.skipif(
    BACKEND == "jax", reason="Keras on JAX takes the weights out of a model while it runs: one thread a model"
)
def test_only_the_thread_that_runs_the_built_model_counts() -> None:
    model = plain()
    built = ts.build_efficiency_model(model, ["conv"])
    errors: list[BaseException] = []

    def work(which: Any) -> None:
        try:
            for _ in range(10):
                which(X[:10])
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(which,)) for which in (built, model, built, model)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert samples(built) == [200]
    assert "call" not in vars(model.get_layer("conv"))

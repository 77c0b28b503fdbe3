"""Lost batches, batches counted twice, swallowed errors: each with a test on every Keras backend, and what has the fault to prove it."""

import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import layerscope.compat.tensorstate as ts
from layerscope._errors import DataError, SiteError
from tests.conftest import require

keras = require("keras")
layers, ops = keras.layers, keras.ops
BACKEND = keras.backend.backend()
pytestmark = [
    pytest.mark.keras,
    pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning"),
]
X = np.random.default_rng(0).normal(size=(100, 6)).astype("float32")
Y = X[:, :2].copy()


def dense(probe: Any = None) -> Any:
    keras.utils.set_random_seed(0)
    inputs = layers.Input((6,))
    x = layers.Dense(5, activation="relu", name="dense")(inputs)
    return keras.Model(inputs, layers.Dense(2, name="out")(x if probe is None else probe(x)))


def truth(model: Any, x: Any) -> dict[bytes, int]:
    """States of the first layer by NumPy alone."""
    kernel, bias = model.get_layer("dense").get_weights()
    rows, counts = np.unique(np.packbits(x @ kernel + bias > 0, axis=1, bitorder="little"), axis=0, return_counts=True)
    return {row.tobytes(): int(n) for row, n in zip(rows, counts, strict=True)}


def check_counts(probe: Any, expected: dict[bytes, int]) -> None:
    assert probe.state_count == sum(expected.values())
    assert dict(zip(probe.state_ids(), probe.counts().tolist(), strict=True)) == expected


def reads(probe: Any) -> list[Callable[[], Any]]:
    return [lambda: probe.state_count, probe.counts, probe.entropy, lambda: probe.raw_states]


# --- lost, or counted twice --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("batch", [1, 7, 32, 100])
def test_no_batch_is_lost_whatever_its_size(batch: int) -> None:
    model = dense()
    built = ts.build_efficiency_model(model, ["dense"])
    built.predict(X, batch_size=batch, verbose=0)
    check_counts(built.efficiency_layers[0], truth(model, X))


def test_a_probe_that_loses_the_partial_batch_is_seen() -> None:
    model = dense()
    built = ts.build_efficiency_model(model, ["dense"])
    (probe,) = built.efficiency_layers
    for part in np.split(X, [32, 64, 96]):
        probe.capturing = len(part) == 32
        built.predict(part, verbose=0)
    with pytest.raises(AssertionError):
        check_counts(probe, truth(model, X))


def test_wrapping_a_call_that_is_compiled_already_is_seen() -> None:
    """Why a built model is compiled by itself: what is put on a layer later is passed by."""
    model, seen = dense(), []
    model.compile(jit_compile=False)
    model.predict(X, verbose=0)
    layer = model.get_layer("dense")
    original = layer.call
    object.__setattr__(layer, "call", lambda *args, **kwargs: (seen.append(1), original(*args, **kwargs))[1])
    model.predict(X, verbose=0)
    object.__delattr__(layer, "call")
    assert bool(seen) == (BACKEND != "tensorflow")  # without XLA the others run step by step
    built = ts.build_efficiency_model(model, ["dense"])
    built.predict(X, verbose=0)
    check_counts(built.efficiency_layers[0], truth(model, X))


def test_compiling_again_counts_nothing_twice() -> None:
    model = dense()
    built = ts.build_efficiency_model(model, ["dense"])
    for part in (X, X[:7], X[:33]):
        built.compile(optimizer="sgd", loss="mse")
        ts.reset_efficiency_model(built)
        built.predict(part, batch_size=16, verbose=0)
        built.evaluate(part, Y[: len(part)], batch_size=16, verbose=0)
        check_counts(built.efficiency_layers[0], truth(model, np.concatenate([part, part])))


def test_a_thread_of_its_own_for_every_batch() -> None:
    probe = ts.StateCapture("probe")
    start = threading.Barrier(4)

    def work(mine: int) -> None:
        start.wait()
        for part in np.split(X, 20)[mine::4]:
            probe(ops.convert_to_tensor(part))

    threads = [threading.Thread(target=work, args=(mine,)) for mine in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    rows, counts = np.unique(np.packbits(X > 0, axis=1, bitorder="little"), axis=0, return_counts=True)
    check_counts(probe, {row.tobytes(): int(n) for row, n in zip(rows, counts, strict=True)})


class Block(layers.Layer):
    def __init__(self, probe: Any) -> None:
        super().__init__(name="block")
        self.dense, self.probe = layers.Dense(5, activation="relu"), probe
        self.built = True

    def call(self, x: Any) -> Any:
        return self.probe(self.dense(x))


@pytest.mark.skipif(BACKEND == "tensorflow", reason="Keras 3.15's own remat fails there in compiled functions")
def test_layers_computed_again_for_gradients() -> None:
    with keras.RematScope(mode="full"):
        model = keras.Sequential([layers.Input((6,)), layers.Dense(5, name="dense"), layers.Dense(2, name="out")])
    built = ts.build_efficiency_model(model, ["dense"])
    built.compile(optimizer="sgd", loss="mse")
    (probe,) = built.efficiency_layers
    built.predict(X, verbose=0)
    assert probe.state_count == 100
    if BACKEND == "torch":
        built.fit(X, Y, verbose=0)
        assert probe.state_count == 200
        return
    with pytest.raises(DataError, match=r"computed again for gradients \(remat\), where JAX takes no callbacks"):
        built.fit(X, Y, verbose=0)
    assert model.predict(X, verbose=0).shape == (100, 2)


@pytest.mark.skipif(BACKEND != "tensorflow", reason="the others have been asked above")
@pytest.mark.parametrize("compiled", [False, True])
def test_recomputed_gradients_of_tensorflow(compiled: bool) -> None:
    import tensorflow as tf

    block, plain = Block(ts.StateCapture("probe")), []
    block(tf.constant(X))
    block.probe.reset_states()

    def gradients(x: Any) -> Any:
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(tf.recompute_grad(lambda y: (plain.append(1), block(y))[1])(x))
        return tape.gradient(loss, block.trainable_variables)

    (tf.function(gradients) if compiled else gradients)(tf.constant(X))
    assert block.probe.state_count == 100
    assert len(plain) == 2  # what counts every forward counts twice


def test_inside_a_recurrent_layer_nothing_is_counted_wrong() -> None:
    inputs = layers.Input((4, 6))
    model = keras.Model(inputs, layers.RNN(layers.SimpleRNNCell(5, name="cell"), name="rnn")(inputs))
    x = np.ones((10, 4, 6), "float32")
    built = ts.build_efficiency_model(model, ["cell"])
    with pytest.raises(
        (SiteError, DataError), match="runs inside a recurrent layer, which calls it once more than there are steps"
    ):
        built.predict(x, verbose=0)
    with pytest.raises(DataError, match="cell_post_states: a batch could not be captured"):
        built.efficiency_layers[0].entropy()
    whole = ts.build_efficiency_model(model, ["RNN"])
    whole.predict(x, verbose=0)
    assert whole.efficiency_layers[0].state_count == 10


@pytest.mark.skipif(BACKEND == "torch", reason="PyTorch compiles no loops in Keras")
def test_inside_other_loops() -> None:
    probe = ts.StateCapture("probe")

    def run() -> Any:
        if BACKEND == "jax":
            out = ops.scan(lambda carry, x: (carry, probe(x[None])), 0.0, ops.convert_to_tensor(X))
            probe.check()
        else:
            out = ops.vectorized_map(lambda x: probe(x[None]), ops.convert_to_tensor(X))
        return out

    message = "inside a loop that JAX compiles" if BACKEND == "jax" else "vectorized_map runs this layer for one sample"
    with pytest.raises(Exception, match=message):  # TensorFlow wraps it in an error of its own
        run()


# --- errors ------------------------------------------------------------------------------------------------------------------------------


def break_the_disk(probe: Any) -> None:
    def full(rows: Any) -> None:
        raise OSError("No space left on device")

    kind = type("Full", (), {"append": staticmethod(full), "shape": (0, 1), "resize": lambda self, shape: None})
    probe._rows.store = kind()


@pytest.mark.parametrize("way", ["predict", "evaluate", "fit"])
def test_an_error_reaches_the_user_and_leaves_the_model_whole(tmp_path: Any, way: str) -> None:
    model = dense()
    expected = model.predict(X, verbose=0)
    built = ts.build_efficiency_model(model, ["dense"], storage_path=tmp_path)
    built.compile(optimizer=keras.optimizers.SGD(0.0), loss="mse")
    (probe,) = built.efficiency_layers
    built.predict(X, verbose=0)
    break_the_disk(probe)
    run: Callable[[], Any] = {
        "predict": lambda: built.predict(X, batch_size=32, verbose=0),
        "evaluate": lambda: built.evaluate(X, Y, batch_size=32, verbose=0),
        "fit": lambda: built.fit(X, Y, batch_size=32, verbose=0),
    }[way]
    with pytest.raises(Exception, match="No space left on device"):  # TensorFlow makes an error of its own of it
        run()
    for read in reads(probe):
        with pytest.raises(
            DataError, match=r"dense_post_states: a batch could not be captured.*No space left.*reset_states"
        ):
            read()
    assert np.array_equal(model.predict(X, verbose=0), expected)


def test_an_error_in_a_model_with_a_layer_by_hand(tmp_path: Any) -> None:
    probe = ts.StateCapture("probe", tmp_path)
    model = dense(probe)
    expected = model.predict(X, verbose=0)
    break_the_disk(probe)
    if BACKEND == "jax":  # Keras has taken the weights out of the model just then
        assert np.array_equal(model.predict(X, verbose=0), expected)
    else:
        with pytest.raises(Exception, match="No space left on device"):
            model.predict(X, verbose=0)
    for read in reads(probe):
        with pytest.raises(DataError, match=r"No space left on device"):
            read()
    with pytest.raises(OSError, match="No space left"):
        probe(ops.ones((3, 5)))
    assert np.array_equal(model.get_layer("out").get_weights()[0], dense().get_layer("out").get_weights()[0])


def test_after_a_failure_a_reset_begins_anew() -> None:
    model = dense()
    built = ts.build_efficiency_model(model, ["dense"])
    (probe,) = built.efficiency_layers
    probe.reset_states((None, 4))
    with pytest.raises(Exception, match=r"reset_states said \(any, 4\), this batch is \(\d+, 5\)"):
        built.predict(X, verbose=0)
    probe.reset_states()
    built.predict(X, verbose=0)
    check_counts(probe, truth(model, X))


# --- compilers -----------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("jit", [False, True, "auto"])
def test_xla_is_used_where_it_can_call_the_host(jit: Any, recwarn: pytest.WarningsRecorder) -> None:
    probe = ts.StateCapture("probe")
    model = dense(probe)
    if jit is True and BACKEND != "jax":
        with pytest.warns(UserWarning, match="doesn't support `jit_compile=True`"):
            model.compile(optimizer="sgd", loss="mse", jit_compile=jit)
    else:
        model.compile(optimizer="sgd", loss="mse", jit_compile=jit)
    assert model.jit_compile is (BACKEND == "jax" and jit is not False)
    for _ in range(2):
        probe.reset_states()
        model.predict(X, batch_size=32, verbose=0)
        check_counts(probe, truth(model, X))
    model.evaluate(X, Y, batch_size=32, verbose=0)
    assert probe.state_count == 200


@pytest.mark.filterwarnings("ignore:Dynamo:UserWarning")
def test_functions_that_users_compile() -> None:
    probe = ts.StateCapture("probe")
    model = dense(probe)
    built = ts.build_efficiency_model(dense(), ["dense"])
    x = ops.convert_to_tensor(X)
    for each, seen in ((model, probe), (built, built.efficiency_layers[0])):
        for part in (x, x, x[:7]):
            compiled(each)(part)
        check_counts(seen, truth(model, np.concatenate([X, X, X[:7]])))
    ts.detach_efficiency_model(built)


FUNCTIONS: dict[int, Any] = {}


def compiled(model: Any) -> Any:
    """The model in the backend's own compiler, made once."""
    if id(model) not in FUNCTIONS:
        if BACKEND == "tensorflow":
            import tensorflow as tf

            FUNCTIONS[id(model)] = tf.function(lambda x: model(x, training=False))
        elif BACKEND == "jax":
            import jax

            FUNCTIONS[id(model)] = jax.jit(lambda x: model(x, training=False))
        else:
            import torch

            def run(x: Any) -> Any:
                with torch.no_grad():
                    return model(x, training=False)

            FUNCTIONS[id(model)] = torch.compile(run, backend="eager")
    return FUNCTIONS[id(model)]


def test_a_compiled_function_counts_no_more_after_detaching() -> None:
    built = ts.build_efficiency_model(dense(), ["dense"])
    run, x = compiled(built), ops.convert_to_tensor(X)
    run(x)
    (probe,) = ts.detach_efficiency_model(built)
    run(x)
    assert probe.state_count == 100


@pytest.mark.skipif(BACKEND != "tensorflow", reason="only TensorFlow's XLA has no host callbacks")
def test_xla_by_force_is_refused_by_name() -> None:
    import tensorflow as tf

    model = dense(ts.StateCapture("probe"))
    with pytest.raises(tf.errors.InvalidArgumentError, match="StateCapture_calls_the_host_as_XLA_cannot"):
        tf.function(lambda x: model(x), jit_compile=True)(X)


@pytest.mark.skipif(BACKEND != "tensorflow", reason="what TensorFlow's decorator would hide")
def test_a_function_compiled_inside_the_model_is_refused() -> None:
    import tensorflow as tf

    class Net(keras.Model):
        def __init__(self) -> None:
            super().__init__()
            self.dense = layers.Dense(5, name="dense")

        @tf.function
        def call(self, x: Any) -> Any:
            return self.dense(x)

    net = Net()
    net(X)
    with pytest.raises(
        SiteError, match=r"the call of net\w* is a compiled function, and dense inside it.*Take the decorator off"
    ):
        ts.build_efficiency_model(net, ["dense"])

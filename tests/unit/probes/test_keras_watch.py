"""`ls.watch` on Keras: eager calls, `predict`, `evaluate` and their batch forms count what `ls.examine` counts, and the model is as before."""

from typing import Any

import numpy as np
import pytest

import layerscope as ls
from layerscope._errors import EmptyTally, SiteError
from tests.conftest import require

keras = require("keras")
from tests.unit.probes.keras_zoo import BACKEND, CASES, Case, host, vectors  # noqa: E402
from tests.unit.probes.test_keras import (  # noqa: E402
    check_case,
    counted_at,
    functions_of_keras,
    outputs_of,
    pytestmark,
    rows_of,
    state_of,
)  # fmt: skip

pytestmark = pytestmark  # the same marks
layers, ops = keras.layers, keras.ops

WATCHED = [
    "functional",
    "sequential",
    "subclassed",
    "nested",
    "shared",
    "several",
    "tuples",
    "operations",
    "masked",
    "activations",
]


@pytest.fixture(params=WATCHED)
def case(request: pytest.FixtureRequest) -> Case:
    keras.utils.set_random_seed(1)
    return CASES[request.param]()


def test_predict_counts_what_examine_counts(case: Case) -> None:
    """Also where the user's predict was compiled before: the case in which wrappers would be passed by in silence."""
    outputs_of(case.model, case.given)
    compiled = case.model.predict_function
    before, state, functions = outputs_of(case.model, case.given), state_of(case.model), functions_of_keras()
    with ls.watch(case.model, keep_rows=True) as watched:
        case.model.predict(case.given, batch_size=16, verbose=0)
    assert case.model.predict_function is compiled
    assert state_of(case.model) == state
    assert functions_of_keras() == functions
    assert outputs_of(case.model, case.given) == before
    check_case(watched, watched.layers, case)
    examined = ls.examine(case.model, case.inputs, batch_size=16)
    for site in case.expected:
        assert counted_at(watched[site]) == counted_at(examined[site]), site
        assert watched[site].table.masked == examined[site].table.masked


def test_the_comparison_can_fail() -> None:
    """The canary: half of the samples are not all of them."""
    case = CASES["functional"]()
    with ls.watch(case.model, keep_rows=True) as watched:
        case.model.predict(case.given[:20], batch_size=16, verbose=0)
    with pytest.raises(AssertionError):
        check_case(watched, watched.layers, case)


def test_eager_calls_count(case: Case) -> None:
    state = state_of(case.model)
    with ls.watch(case.model, keep_rows=True) as watched:
        case.model(case.given, training=False)
    check_case(watched, watched.layers, case)
    called = {key: value for key, value in state.items() if not key.endswith("._called")}
    assert {key: value for key, value in state_of(case.model).items() if not key.endswith("._called")} == called


def test_all_kinds_of_calls_add_up() -> None:
    case = CASES["functional"]()
    model, x = case.model, case.given
    y = np.zeros((len(x), 3), np.float32)
    model.compile(loss="mse", metrics=["mae"])
    scores, on_batch = model.evaluate(x, y, batch_size=16, verbose=0), model.test_on_batch(x[:5], y[:5])
    with ls.watch(model, keep_rows=True) as watched:
        assert model.evaluate(x, y, batch_size=16, verbose=0) == pytest.approx(scores, rel=1e-6)
        assert model.test_on_batch(x[:5], y[:5]) == pytest.approx(on_batch, rel=1e-6)
        assert model.predict_on_batch(x[:7]).shape == (7, 3)
        model(x[:3])
        model.predict(x, batch_size=16, verbose=0)
    assert watched["fc"].table.samples == 37 + 5 + 7 + 3 + 37
    once = rows_of(watched["fc"])[:37]
    assert np.array_equal(rows_of(watched["fc"])[-37:], once)
    assert model.evaluate(x, y, batch_size=16, verbose=0) == pytest.approx(scores, rel=0)


def test_outputs_and_callbacks_see_nothing_of_it() -> None:
    case = CASES["several"]()
    seen: list[Any] = []

    class Sees(keras.callbacks.Callback):
        def on_predict_batch_end(self, batch: int, logs: Any = None) -> None:
            seen.append(logs)

    with ls.watch(case.model):
        found = case.model.predict(case.given, batch_size=16, verbose=0, callbacks=[Sees()])
    assert {*found} == {"p", "q"}
    assert {*seen[0]} == {"p", "q"}  # as Keras flattens its logs


def test_a_part_called_alone_counts() -> None:
    case = CASES["nested"]()
    inner = case.model.get_layer("encoder")
    with ls.watch(case.model) as watched:
        inner(case.given)
        case.model(case.given)
    assert watched["encoder.conv_1"].table.samples == 2 * 37
    assert watched["d1"].table.samples == 37


def test_inputs_are_watched() -> None:
    case = CASES["functional"]()
    with ls.watch(case.model, layers="fc", when="before", keep_rows=True) as watched:
        case.model.predict(case.given, batch_size=16, verbose=0)
    flat = ls.activations(case.model, case.given, layers=["fc:in"])["fc:in"]
    assert np.array_equal(rows_of(watched["fc:in"]), flat > 0)


def test_training_mode_is_the_users() -> None:
    model = keras.Sequential(
        [layers.Input((12,)), layers.Dense(200, activation="relu"), layers.Dropout(0.5, name="drop"), layers.Dense(2)]
    )
    with ls.watch(model, layers=["drop"], keep_rows=True) as watched:
        model(vectors(), training=True)
    rows = rows_of(watched["drop"])
    with ls.watch(model, layers=["drop"], keep_rows=True) as quiet:
        model(vectors(), training=False)
    assert rows.mean() < 0.7 * rows_of(quiet["drop"]).mean()


@pytest.mark.parametrize("method", ["fit", "train_on_batch"])
def test_training_is_refused_and_the_callback_named(method: str) -> None:
    case = CASES["functional"]()
    case.model.compile(loss="mse")
    weights = [host(variable.value).tobytes() for variable in case.model.variables]
    with (
        pytest.raises(SiteError, match=rf"{method}.*layerscope\.integrations\.keras\.LayerMonitor"),
        ls.watch(case.model),
    ):
        getattr(case.model, method)(case.given, np.zeros((37, 3), np.float32))
    assert [host(variable.value).tobytes() for variable in case.model.variables] == weights
    assert "fit" not in vars(case.model)


def test_a_compiled_function_of_the_users_is_refused_with_a_remedy() -> None:
    case = CASES["functional"]()
    x = ops.convert_to_tensor(case.given)
    if BACKEND == "torch":
        pytest.skip("what torch.compile would hide runs eagerly meanwhile")
    compiled = (
        require("tensorflow").function(case.model, autograph=False)
        if BACKEND == "tensorflow"
        else require("jax").jit(case.model)
    )
    with pytest.raises(SiteError, match=r"model\.predict.*ls\.examine"), ls.watch(case.model):
        compiled(x)
    assert "call" not in vars(case.model)


def test_several_steps_an_execution_are_refused() -> None:
    case = CASES["functional"]()
    if BACKEND == "torch":
        pytest.skip("Keras itself refuses it on PyTorch")
    case.model.compile(loss="mse", steps_per_execution=4)
    with pytest.raises(SiteError, match="steps_per_execution=1"), ls.watch(case.model):
        case.model.predict(case.given, batch_size=4, verbose=0)
    before = outputs_of(case.model, case.given)
    assert outputs_of(case.model, case.given) == before


def test_a_model_that_is_compiled_inside_stays_so() -> None:
    case = CASES["functional"]()
    outputs_of(case.model, case.given)
    with ls.watch(case.model):
        case.model.compile(loss="mae")
        case.model.predict(case.given, verbose=0)
    assert case.model.loss == "mae"
    assert case.model.predict_function is None  # made anew when it is asked for
    assert len(outputs_of(case.model, case.given)) == 1


def test_an_error_inside_leaves_the_model_as_it_was() -> None:
    case = CASES["functional"]()
    outputs_of(case.model, case.given)
    state, compiled = state_of(case.model), case.model.predict_function
    with pytest.raises(ZeroDivisionError), ls.watch(case.model):
        _predict_and_fail(case)
    assert state_of(case.model) == state
    assert case.model.predict_function is compiled


def _predict_and_fail(case: Case) -> None:
    case.model.predict(case.given, verbose=0)
    raise ZeroDivisionError


def test_a_model_run_eagerly_is_watched() -> None:
    case = CASES["functional"]()
    case.model.compile(run_eagerly=True)
    with ls.watch(case.model, keep_rows=True) as watched:
        case.model.predict(case.given, batch_size=16, verbose=0)
    check_case(watched, watched.layers, case)


def test_what_no_eager_call_shows_is_said() -> None:
    case = CASES["raw"]()
    if BACKEND == "torch":
        with ls.watch(case.model, keep_rows=True) as watched:
            case.model(case.given)
        check_case(watched, watched.layers, case)
        return
    with pytest.raises(SiteError, match=r"raw\.relu\(\).*keras\.ops"), ls.watch(case.model):
        case.model(case.given)
    with ls.watch(case.model, keep_rows=True) as watched:
        case.model.predict(case.given, batch_size=16, verbose=0)
    check_case(watched, watched.layers, case)


def test_symbolic_calls_are_no_forwards() -> None:
    case = CASES["functional"]()
    with ls.watch(case.model) as watched:
        i = layers.Input((8, 8, 1))
        keras.Model(i, case.model(i))
    with pytest.raises(EmptyTally):
        watched["fc"]


def test_a_name_that_is_not_there_is_said_in_a_compiled_step() -> None:
    case = CASES["functional"]()
    with pytest.raises(SiteError, match="Did you mean 'Conv2D'") as error, ls.watch(case.model, layers="Conv2d"):
        case.model.predict(case.given, verbose=0)
    assert "Arguments received" not in str(error.value)

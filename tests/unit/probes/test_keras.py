"""Keras models of every shape are read where their units fire, and their state tables are those of NumPy; on the backend of this process."""

import os
import subprocess
import sys
import threading
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import layerscope as ls
from layerscope._errors import DtypeError, SiteError
from layerscope._states import as_bytes
from layerscope.feed import Feed
from layerscope.probes import probe_for
from layerscope.tallies import PackedRows
from tests.conftest import require

keras = require("keras")
from layerscope.probes.calls import keras as calls  # noqa: E402
from layerscope.probes.keras import KerasProbe, engine  # noqa: E402
from tests.unit.probes.keras_zoo import BACKEND, CASES, Case, Subclassed, host, vectors  # noqa: E402

pytestmark = [
    pytest.mark.keras,
    # Keras' own on the torch backend, when `predict` makes arrays of tensors
    pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning"),
]
layers, ops = keras.layers, keras.ops


@pytest.fixture(params=CASES)
def case(request: pytest.FixtureRequest) -> Case:
    keras.utils.set_random_seed(1)
    return CASES[request.param]()


def activations_of(case: Case, site: str) -> NDArray[Any]:
    """What the case says a site gives, as rows of units, without rows that do not count."""
    values, axis = case.expected[site]
    moved = np.moveaxis(values, axis, -1)
    if case.mask is not None and moved.ndim > 2:
        moved = moved[case.mask]
    return moved.reshape(-1, moved.shape[-1])


def rows_of(view: Any) -> NDArray[np.bool_]:
    """The states of a site in the order they came, as they were kept."""
    kept = view.value(PackedRows())
    return np.unpackbits(kept.all(), axis=1, count=kept.units, bitorder="little").astype(bool)


def table_of(rows: NDArray[np.bool_]) -> dict[bytes, int]:
    states, counts = np.unique(np.packbits(rows, axis=1, bitorder="little"), axis=0, return_counts=True)
    return {state.tobytes(): int(count) for state, count in zip(states, counts, strict=True)}


def counted_at(view: Any) -> dict[bytes, int]:
    """The state table of a site."""
    records = view.table.records()
    states = as_bytes(records.states, view.table.units)
    return {state.tobytes(): int(count) for state, count in zip(states, records.n, strict=True)}


def check_case(results: Any, found: Any, case: Case, near: float = 1e-5) -> None:
    """Every site of a case has NumPy's states, but where a value is as near to the threshold as two programs differ."""
    assert {str(layer.site) for layer in found.read} == set(case.expected)
    for site in case.expected:
        values, above = activations_of(case, site), found[site].threshold
        mine, theirs = rows_of(results[site]), values > above
        assert mine.shape == theirs.shape, site
        wrong = mine != theirs
        assert (np.abs(values - above)[wrong] < near).all(), f"{site}: {wrong.sum()} bits differ"
        assert wrong.mean() < 1e-3, f"{site}: {wrong.sum()} bits differ"
        assert counted_at(results[site]) == table_of(mine), site


def examined(model: Any, data: Any, **options: Any) -> Any:
    return ls.examine(model, data, **{"batch_size": 16, "keep_rows": True, **options})


NEAR = {"half": 0.02}
"""Half floats differ by as much from one compiled program to another."""


def test_sites_and_tables_are_numpys(case: Case, request: pytest.FixtureRequest) -> None:
    near = NEAR.get(request.node.callspec.params["case"], 1e-5)
    check_case(examined(case.model, case.inputs), ls.layers(case.model, case.inputs), case, near)


def test_the_comparison_can_fail() -> None:
    """Canaries: one value on the other side, one row more, a site too few."""
    case = CASES["functional"]()
    results, found = examined(case.model, case.inputs), ls.layers(case.model, case.inputs)
    values, axis = case.expected["fc"]
    flipped = values.copy()
    flipped[3, 4] = -1.0 if flipped[3, 4] > 0 else 1.0
    for expected in (
        case.expected | {"fc": (flipped, axis)},
        case.expected | {"fc": (np.concatenate([values, values[:1]]), axis)},
        {site: pair for site, pair in case.expected.items() if site != "fc"},
    ):
        with pytest.raises(AssertionError):
            check_case(results, found, Case(case.model, case.inputs, expected))


def test_padding_counts_where_the_user_says_so() -> None:
    case = CASES["masked"]()
    assert case.mask is not None
    masked, whole = examined(case.model, case.inputs), examined(case.model, ls.Data(case.inputs, mask=False))
    assert masked["a"].table.observations == case.mask.sum() < whole["a"].table.observations == case.mask.size
    given = np.ones_like(case.mask)
    given[:, 3:] = False
    assert examined(case.model, ls.Data(case.inputs, mask=given))["a"].table.observations == given.sum()


def test_the_graph_may_pack_what_it_reads(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on an accelerator: states are made inside the program, and the tables are the same."""
    if BACKEND == "torch":
        pytest.skip("eager: each tensor is read where it lies")
    on_host = examined(case.model, case.inputs)
    monkeypatch.setattr(type(engine()), "on_host", lambda self: False)
    inside = examined(case.model, case.inputs)
    for site in case.expected:
        assert counted_at(inside[site]) == counted_at(on_host[site]), site
        assert inside[site].table.masked == on_host[site].table.masked
        assert inside[site].table.samples == on_host[site].table.samples


# --- the model is left as it was -----------------------------------------------------------------------------------------------------


def state_of(model: Any) -> dict[str, Any]:
    """All of a model that a measurement could change."""
    flat = [model, *model._flatten_layers(include_self=False)]
    held = {
        f"{k}.{name}": value if isinstance(value, bool | int | str | None) else id(value)
        for k, each in enumerate(flat)
        for name, value in vars(each).items()
        if name != "_modules"
    }
    weights = {f"weight {k}": host(variable.value).tobytes() for k, variable in enumerate(model.variables)}
    return held | weights


def functions_of_keras() -> dict[str, Any]:
    return {
        f"{m.__name__}.{name}": value
        for m in (calls.backend.nn, calls.backend.numpy)
        for name, value in vars(m).items()
    }


def made_so_far() -> int:
    """The number in the name that Keras makes up for one more layer."""
    return int(f"{layers.Dense(1).name}_0".split("_")[1])


def outputs_of(model: Any, inputs: Any) -> list[bytes]:
    found = model.predict(inputs, verbose=0, batch_size=16) if isinstance(model, keras.Model) else model(inputs)
    return [host(each).tobytes() for each in keras.tree.flatten(found)]


def test_nothing_is_left_behind(case: Case, request: pytest.FixtureRequest) -> None:
    if BACKEND == "tensorflow" and request.node.callspec.params["case"] == "rematerialised":
        pytest.skip("Keras' own predict cannot run it: its custom_gradient takes no keywords in a graph")
    outputs_of(case.model, case.given)
    before, functions = outputs_of(case.model, case.given), functions_of_keras()
    state, compiled = state_of(case.model), getattr(case.model, "predict_function", None)
    made = made_so_far()
    examined(case.model, case.inputs)
    ls.layers(case.model, case.inputs)
    assert state_of(case.model) == state
    assert functions_of_keras() == functions
    assert getattr(case.model, "predict_function", None) is compiled
    assert outputs_of(case.model, case.given) == before
    assert made_so_far() == made + 1


def test_nothing_is_left_behind_after_an_error() -> None:
    class Fails(keras.layers.Layer):
        fails = False

        def call(self, x: Any) -> Any:
            if self.fails:
                raise RuntimeError("on purpose")
            return ops.relu(x)

    layer = Fails()
    model = keras.Sequential([layers.Input((12,)), layers.Dense(9, name="a"), layer, layers.Dense(2)])
    x = vectors()
    before, state, functions = outputs_of(model, x), state_of(model), functions_of_keras()
    layer.fails = True
    with pytest.raises(RuntimeError, match="on purpose"):
        ls.examine(model, x)
    layer.fails = False
    state = {key: value for key, value in state.items() if not key.endswith(".fails")}
    assert {key: value for key, value in state_of(model).items() if not key.endswith(".fails")} == state
    assert functions_of_keras() == functions
    assert outputs_of(model, x) == before


def test_random_layers_go_on_from_batch_to_batch_and_the_model_does_not_notice() -> None:
    class Noise(keras.layers.Layer):
        def __init__(self) -> None:
            super().__init__(name="noise")
            self.seed = keras.random.SeedGenerator(3)

        def call(self, x: Any) -> Any:
            return x + keras.random.normal(ops.shape(x), seed=self.seed)

    noise = Noise()
    model = keras.Sequential([layers.Input((12,)), noise, layers.ReLU(name="fires")])
    x = np.zeros((32, 12), np.float32)
    before = ops.convert_to_numpy(noise.seed.state.value).copy()
    results = examined(model, x)
    assert np.array_equal(ops.convert_to_numpy(noise.seed.state.value), before)
    rows = rows_of(results["fires"])
    assert 0.3 < rows.mean() < 0.7
    assert not np.array_equal(rows[:16], rows[16:])
    assert np.array_equal(rows_of(examined(model, x)["fires"]), rows)


def test_other_threads_pass_through() -> None:
    """A thread that uses Keras while a model is traced is not taken for part of it."""
    done, found = threading.Event(), []

    class Waits(keras.layers.Layer):
        def call(self, x: Any) -> Any:
            thread = threading.Thread(target=lambda: found.append(host(ops.relu(ops.convert_to_tensor([-1.0, 2.0])))))
            thread.start()
            thread.join()
            done.set()
            return ops.relu(x)

    model = keras.Sequential([layers.Input((12,)), Waits(name="waits"), layers.Dense(2)])
    assert [str(x.site) for x in ls.layers(model, vectors()).read] == ["waits"]
    assert done.is_set()
    assert all(each.tolist() == [0.0, 2.0] for each in found)


def test_one_program_serves_all_batches() -> None:
    case = CASES["functional"]()
    probe = KerasProbe(case.model)
    feed = Feed(case.inputs, batch_size=8)
    with probe:
        chosen = probe.describe(feed.peek(3)).read
        for batch in feed:
            probe.run(batch, chosen, lambda layer, a: {})
        programs: list[Any] = [program for _, program in probe._programs.values()]
        assert len(programs) == 1
        assert BACKEND == "torch" or programs[0].traces == 1


# --- names ---------------------------------------------------------------------------------------------------------------------------


def test_layers_are_called_what_their_user_called_them() -> None:
    model = Subclassed()
    model(vectors(2))
    listed = [str(layer.site) for layer in ls.layers(model, vectors())]
    assert listed == [
        "stem",
        "norm",
        "relu()",
        "blocks.0",
        "blocks.1",
        "relu()#1",
        "blocks.0#1",
        "half",
        "tanh()",
        "head",
        "(model)",
    ]


def test_inputs_of_layers_can_be_read() -> None:
    case = CASES["functional"]()
    found = ls.activations(case.model, case.inputs, layers=["fc:in"])
    assert found["fc:in"].shape == (len(case.inputs), 17 * 4)


def test_parts_of_an_output_can_be_read() -> None:
    case = CASES["tuples"]()
    found = ls.activations(case.model, case.inputs, layers=["lstm[1]", "attend.query"])
    assert found["lstm[1]"].shape == (37, 10)
    assert found["attend.query"].shape == (37, 6, 2, 4)


def test_a_layer_is_chosen_by_class() -> None:
    case = CASES["functional"]()
    assert {*ls.examine(case.model, case.inputs, layers=keras.layers.Conv2D)} == {"conv_1", "conv_2"}
    assert {*ls.examine(case.model, case.inputs, layers="Conv2D")} == {"conv_1", "conv_2"}


# --- bad input -----------------------------------------------------------------------------------------------------------------------


def test_a_model_that_is_not_built_is_refused() -> None:
    model = keras.Sequential([layers.Dense(3, name="first"), layers.Dense(2, name="second")])
    with pytest.raises(SiteError, match=r"first.*not built.*model\(batch\)"):
        ls.examine(model, vectors())


def test_a_class_of_another_backend_gets_a_hint() -> None:
    case = CASES["functional"]()
    with pytest.raises(SiteError, match="Did you mean 'Conv2D'"):
        ls.examine(case.model, case.inputs, layers="Conv2d")


def test_device_and_amp_have_keras_ways() -> None:
    case = CASES["functional"]()
    with pytest.raises(SiteError, match=r"keras\.device\('cpu'\)"):
        ls.examine(case.model, case.inputs, device="cpu")
    with pytest.raises(DtypeError, match="mixed_bfloat16"):
        ls.examine(case.model, case.inputs, amp="bf16")


@pytest.mark.parametrize("site", ["lstm.cell", "both.forward_gru"])
def test_a_cell_inside_a_loop_is_refused_by_name(site: str) -> None:
    i = layers.Input((6, 8))
    x = layers.LSTM(5, return_sequences=True, name="lstm")(i)
    x = layers.Bidirectional(layers.GRU(4, name="gru"), name="both")(x)
    model, data = keras.Model(i, layers.Dense(2)(x)), np.zeros((4, 6, 8), np.float32)
    with pytest.raises(SiteError, match=rf"{site}: it cannot be read: a step of '{site.partition('.')[0]}'.*instead"):
        ls.examine(model, data, layers=[site])
    assert {*ls.examine(model, data, layers="all")} >= {"lstm", "both"}


def test_a_layer_inside_a_loop_of_the_users_is_refused() -> None:
    class Scans(keras.layers.Layer):
        def __init__(self) -> None:
            super().__init__(name="scans")
            self.inner = layers.Dense(8, activation="relu", name="inner")

        def build(self, shape: Any) -> None:
            self.inner.build((None, 8))

        def call(self, x: Any) -> Any:
            out = ops.map(self.inner, ops.transpose(x, (1, 0, 2)))
            return ops.transpose(out, (1, 0, 2))

    i = layers.Input((6, 8))
    model, data = keras.Model(i, layers.Dense(2)(Scans()(i))), np.zeros((4, 6, 8), np.float32)
    if BACKEND == "torch":  # a loop of Python: every step is a call
        assert {"scans.inner", "scans.inner#5"} <= {*ls.examine(model, data, layers="scans.inner")}
        return
    with pytest.raises(SiteError, match=r"scans\.inner.*loop"):
        ls.examine(model, data, layers=["scans.inner"])


def test_functions_kept_elsewhere_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """A Keras that looks its functions up in another place would be read without them."""
    calls.check_door.cache_clear()
    monkeypatch.setattr(keras.ops, "relu", lambda x: x)
    try:
        with pytest.raises(SiteError, match=f"Keras {keras.__version__} keeps the functions"):
            calls.check_door()
    finally:
        calls.check_door.cache_clear()


def test_complex_values_are_left_out() -> None:
    class Spectrum(keras.layers.Layer):
        def call(self, x: Any) -> Any:
            real, _ = ops.fft((x, ops.zeros_like(x)))
            return ops.relu(real)

    model = keras.Sequential([layers.Input((12,)), Spectrum(name="spectrum"), layers.Dense(2)])
    assert {*ls.examine(model, vectors())} == {"spectrum"}


def test_a_module_of_pytorch_beside_keras_is_read_as_one() -> None:
    torch = require("torch")
    with torch.random.fork_rng():
        net = torch.nn.Sequential(torch.nn.Linear(12, 9), torch.nn.ReLU(), torch.nn.Linear(9, 2))
    assert {*ls.examine(net, vectors())} == {"1"}
    assert {*ls.examine(CASES["sequential"]().model, vectors())} == {"a", "c"}


def test_batches_of_another_framework_are_taken() -> None:
    """A loader of PyTorch feeds a Keras model of any backend."""
    torch = require("torch")
    case = CASES["sequential"]()
    data = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(torch.from_numpy(case.inputs)), batch_size=16)
    mine, theirs = ls.examine(case.model, data), examined(case.model, case.inputs)
    for site in case.expected:
        assert counted_at(mine[site]) == counted_at(theirs[site])


def test_a_model_of_keras_2_is_refused_with_a_remedy() -> None:
    class Old:
        __module__ = "tf_keras.src.engine.training"

        def __call__(self, x: Any) -> Any:
            return x

    with pytest.raises(SiteError, match=r"Keras 2.*keras\.models\.load_model"):
        ls.examine(Old(), vectors())


# --- the twin, and what is said of a model -------------------------------------------------------------------------------------------


def trained(model: Any) -> Any:
    """Weights and statistics as training would leave them."""
    rng = np.random.default_rng(5)
    for variable in model.variables:
        if "seed" not in variable.path:
            variable.assign(np.abs(rng.normal(size=variable.shape)).astype(np.float32) + 0.1)
    return model


@pytest.mark.parametrize("name", ["functional", "sequential", "nested", "shared", "several", "masked", "tuples"])
def test_the_untrained_twin_is_the_same_network_with_other_weights(name: str) -> None:
    case = CASES[name]()
    model = trained(case.model)
    probe = KerasProbe(model)
    twin = probe.untrained()
    assert twin.fingerprint() == probe.untrained().fingerprint() != probe.fingerprint()
    assert twin.fingerprint() != probe.untrained(seed=1).fingerprint()
    assert [v.shape for v in twin.model.variables] == [v.shape for v in model.variables]
    for variable in twin.model.variables:
        if "moving_mean" in variable.path:
            assert not host(variable.value).any()
    results = ls.examine(model, case.inputs, references=["untrained"])
    assert set(results.table.network) == {"model", "untrained"} or len(set(results.table.network)) == 2


@keras.saving.register_keras_serializable("layerscope")
class Configured(keras.Model):
    def __init__(self, units: int = 9) -> None:
        super().__init__()
        self.units = units
        self.hidden, self.out = layers.Dense(units, activation="relu"), layers.Dense(2)

    def call(self, x: Any) -> Any:
        return self.out(self.hidden(x))

    def get_config(self) -> dict[str, Any]:
        return {"units": self.units}


def test_a_subclassed_model_with_a_config_has_a_twin() -> None:
    model = Configured(11)
    model(vectors(2))
    results = ls.examine(trained(model), vectors(), references=["untrained"])
    assert set(results.table.layer) == {"hidden"}


def test_a_twin_that_cannot_be_made_is_refused_with_a_remedy() -> None:
    class Opaque(keras.Model):
        def __init__(self, inner: Any) -> None:
            super().__init__()
            self.inner = inner

        def call(self, x: Any) -> Any:
            return self.inner(x)

        def get_config(self) -> dict[str, Any]:
            raise NotImplementedError("no configuration")

    model = Opaque(layers.Dense(3, activation="relu"))
    model(vectors(2))
    with pytest.raises(SiteError, match=r"references=\{'untrained': make_model\(\)\}"):
        ls.examine(model, vectors(), references=["untrained"])


def test_a_twin_with_equal_weights_is_refused() -> None:
    fixed = keras.initializers.Constant(vectors(12, 9))
    model = keras.Sequential(
        [layers.Input((12,)), layers.Dense(9, activation="relu", kernel_initializer=fixed), layers.Dense(2)]
    )
    with pytest.raises(SiteError, match="the same weights again"):
        ls.examine(model, vectors(), references=["untrained"])


def test_facts_say_what_ran() -> None:
    case = CASES["functional"]()
    facts = ls.examine(case.model, case.inputs).manifest
    assert (facts["framework"], facts["backend"], facts["framework_version"]) == ("keras", BACKEND, keras.__version__)
    assert facts["parameters"] == case.model.count_params()
    assert facts["dtype_policy"] == "float32"
    assert facts["compiled"] == (BACKEND != "torch")


def test_xla_gives_the_same_tables() -> None:
    if BACKEND != "tensorflow":
        pytest.skip("JAX always compiles by XLA, PyTorch never")
    case = CASES["functional"]()
    plain = examined(case.model, case.inputs)
    case.model.compile(jit_compile=True)
    assert probe_for(case.model).facts()["xla"]
    check_case(examined(case.model, case.inputs), ls.layers(case.model, case.inputs), case)
    assert plain["conv_1"].table.observations == 37 * 36


def test_real_digits_end_to_end() -> None:
    require("sklearn")
    x, y = ls.datasets.digits(size=8, split="test")
    x = np.ascontiguousarray(x.transpose(0, 2, 3, 1))
    keras.utils.set_random_seed(0)
    i = layers.Input((8, 8, 1))
    a = layers.Conv2D(12, 3, activation="relu", name="conv_1")(i)
    b = layers.Dense(24, activation="relu", name="fc")(layers.Flatten()(a))
    model = keras.Model(i, layers.Dense(10)(b))
    results = examined(model, (x, y), batch_size=64)
    first, second = keras.Model(i, [a, b]).predict(x, verbose=0, batch_size=64)
    check_case(results, ls.layers(model, x), Case(model, x, {"conv_1": (first, 3), "fc": (second, 1)}))
    right = (model.predict(x, verbose=0).argmax(axis=1) == y).mean()
    assert float(results.accuracy) == pytest.approx(right, abs=1e-9)


PARALLEL = """
import numpy as np, keras, layerscope as ls
from keras import layers

def make():
    keras.utils.set_random_seed(1)
    i = layers.Input((7,), dtype="int32")
    x = layers.Embedding(20, 12, mask_zero=True)(i)
    x = layers.Dense(9, activation="relu", name="a")(x)
    return keras.Model(i, layers.Dense(3)(layers.GRU(5, name="b")(x)))

x = np.random.default_rng(3).integers(0, 20, (37, 7)).astype(np.int32)
one = ls.examine(make(), x, batch_size=10)
keras.distribution.set_distribution(keras.distribution.DataParallel(devices=keras.distribution.list_devices()))
model = make()
assert len(model.layers[1].variables[0].value.sharding.device_set) == 4
many = ls.examine(model, x, batch_size=10)
for site in ("a", "b"):
    mine, theirs = many[site].table, one[site].table
    assert (mine.samples, mine.observations, mine.masked) == (theirs.samples, theirs.observations, theirs.masked)
    assert np.array_equal(mine.records().n, theirs.records().n) and np.array_equal(mine.records().states, theirs.records().states)
print("the same")
"""


def test_a_batch_that_does_not_divide_over_devices_is_padded() -> None:
    if BACKEND != "jax":
        pytest.skip("Keras distributes on JAX")
    ran = subprocess.run(
        [sys.executable, "-c", PARALLEL],
        env={**os.environ, "XLA_FLAGS": "--xla_force_host_platform_device_count=4"},
        capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert ran.stdout.strip().endswith("the same"), ran.stderr[-2000:]

"""The JAX probe against captures written out by hand: plain functions on the models' own parameters, counted by NumPy."""

import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import layerscope as ls
from layerscope._errors import DtypeError, ShapeError, SiteError
from layerscope.feed import Feed
from layerscope.probes import probe_for
from layerscope.testing import models
from tests.boundary.source import ROOT
from tests.conftest import require

pytestmark = pytest.mark.jax
jax = require("jax")
require("flax")
require("equinox")
import equinox as eqx  # noqa: E402
import jax.numpy as jnp  # noqa: E402
from flax import linen, nnx  # noqa: E402
from jax import lax  # noqa: E402

from layerscope.probes.jax import JaxProbe  # noqa: E402

RNG = np.random.default_rng(0)
X = RNG.normal(size=(10, 6)).astype(np.float32)
Captured = dict[str, NDArray[Any]]
"""By site: samples first, units last."""


def table_of(values: NDArray[Any], threshold: float = 0.0) -> dict[bytes, tuple[int, int, int, int]]:
    """Every state with how often it was seen, in how many samples, the sum of squared counts a sample, and its smallest sample."""
    states: dict[bytes, Counter[int]] = {}
    for k, of_one in enumerate(np.asarray(values, np.float64).reshape(len(values), -1, values.shape[-1])):
        for row in np.packbits(of_one > threshold, axis=1, bitorder="little"):
            states.setdefault(row.tobytes(), Counter())[k] += 1
    return {s: (sum(c.values()), len(c), sum(n * n for n in c.values()), min(c)) for s, c in states.items()}


def table_seen(view: Any) -> dict[bytes, tuple[int, int, int, int]]:
    r = view.table.records()
    columns = [np.asarray(column).tolist() for column in r[1:5]]
    return dict(zip(view.state_ids(), zip(*columns, strict=True), strict=True))  # type: ignore[arg-type]


def check(results: Any, captured: Captured, thresholds: dict[str, float] | None = None) -> None:
    """The sites are those captured, and each has the table that NumPy makes of them."""
    assert sorted(results) == sorted(captured), f"read {sorted(results)}, not {sorted(captured)}\n{results.layers!r}"
    for name, values in captured.items():
        mine, seen = table_of(values, (thresholds or {}).get(name, 0.0)), table_seen(results[name])
        assert seen == mine, f"{name}: {len(seen)} states, NumPy has {len(mine)}"


# --- the three nets, written out by hand -----------------------------------------------------------------------------------------


def conv(x: Any, kernel: Any, bias: Any = 0.0, stride: int = 1, pad: Any = "VALID") -> Any:
    pad = [(pad, pad)] * 2 if isinstance(pad, int) else pad
    return lax.conv_general_dilated(x, kernel, (stride, stride), pad, dimension_numbers=("NHWC", "HWIO", "NHWC")) + bias


def pool(x: Any) -> Any:
    return lax.reduce_window(x, -jnp.inf, lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")


def lenet(w: Any, x: Any) -> list[Any]:
    a = jnp.maximum(conv(x, w["conv1.kernel"], w["conv1.bias"], pad="SAME"), 0)
    b = jnp.maximum(conv(pool(a), w["conv2.kernel"], w["conv2.bias"]), 0)
    c = jnp.maximum(pool(b).reshape(len(x), -1) @ w["fc1.kernel"] + w["fc1.bias"], 0)
    return [a, b, c, jnp.maximum(c @ w["fc2.kernel"] + w["fc2.bias"], 0)]


def residual(w: Any, x: Any) -> list[Any]:
    def norm(name: str, x: Any) -> Any:
        scale = w[f"{name}.scale"] / jnp.sqrt(w[f"{name}.variance"] + 1e-5)
        return (x - w[f"{name}.mean"]) * scale + w[f"{name}.offset"]

    x = jnp.maximum(norm("stem_norm", conv(x, w["stem.kernel"], pad=1)), 0)
    found = [x]
    for block, stride in (("block1", 1), ("block2", 2)):
        y = jnp.maximum(norm(f"{block}.norm1", conv(x, w[f"{block}.conv1.kernel"], stride=stride, pad=1)), 0)
        z = norm(f"{block}.norm2", conv(y, w[f"{block}.conv2.kernel"], pad=1))
        if stride == 2:
            x = norm(f"{block}.shortcut_norm", conv(x, w[f"{block}.shortcut.kernel"], stride=2))
        x = jnp.maximum(x + z, 0)
        found += [y, x]
    return found


def transformer(w: Any, ids: Any, mask: Any) -> list[Any]:
    def norm(name: str, x: Any) -> Any:
        x = x - x.mean(-1, keepdims=True)
        return x / jnp.sqrt((x * x).mean(-1, keepdims=True) + 1e-5) * w[f"{name}.scale"] + w[f"{name}.offset"]

    def dense(name: str, x: Any) -> Any:
        return x @ w[f"{name}.kernel"] + w[f"{name}.bias"]

    x = w["embed.tokens.table"][ids] + w["embed.positions.table"]
    found: list[Any] = []
    for block in ("block1", "block2"):
        y = norm(f"{block}.norm1", x)
        q, k, v = (
            dense(f"{block}.attention.{part}", y).reshape(*ids.shape, 2, 8) for part in ("query", "key", "value")
        )
        scores = jnp.einsum("bqhd,bkhd->bhqk", q / 8**0.5, k) + jnp.where(mask[:, None, None] > 0, 0.0, -1e9)
        mixed = jnp.einsum("bhqk,bkhd->bqhd", jax.nn.softmax(scores), v).reshape(x.shape)
        a = dense(f"{block}.attention.out", mixed)
        x = x + a
        up = dense(f"{block}.up", norm(f"{block}.norm2", x))
        g = up * 0.5 * (1 + lax.erf(up / 2**0.5))
        d = dense(f"{block}.down", g)
        x = x + d
        found += [a, g, d]
    return found


BY_HAND: dict[str, tuple[Callable[..., list[Any]], list[str]]] = {
    "lenet": (lenet, ["relu()", "relu()#1", "relu()#2", "relu()#3"]),
    "residual": (residual, ["relu()", "block1.relu()", "block1.relu()#1", "block2.relu()", "block2.relu()#1"]),
    "transformer": (
        transformer,
        [f"{block}.{site}" for block in ("block1", "block2") for site in ("attention", "gelu()", "down")],
    ),
}
LIBRARIES = ("nnx", "linen", "equinox")
SEEDS = {"lenet": 1, "residual": 2, "transformer": 3}
"""Of weights with no activation so near zero that the order of a sum decides on which side it is; `captured` checks it."""


def built(net: Any, library: str) -> tuple[Any, Any, dict[str, Any]]:
    """The model, its data, and what else `examine` needs."""
    module = __import__(f"layerscope.testing.models.{'equinox' if library == 'equinox' else 'flax'}", fromlist=["x"])
    model = getattr(module, f"linen_{net}" if library == "linen" else net)(models.weights(net, SEEDS[net]))
    data = module.given(models.batch(net, 25))
    return (model[0], data, {"params": model[1]}) if library == "linen" else (model, data, {})


def captured(net: Any) -> Captured:
    f, sites = BY_HAND[net]
    batch, weights = models.batch(net, 25), models.weights(net, SEEDS[net])
    found = dict(zip(sites, map(np.asarray, jax.jit(f)(weights, *batch.values())), strict=True))
    for name, values in found.items():
        near = np.abs(values[values != 0]).min()
        assert near > 2e-7, f"{name}: an activation of {near} could fall on either side; take another seed"
    return found


def masked(net: str, values: Captured) -> dict[str, dict[bytes, int]]:
    """States and their counts, without those of padding tokens."""
    mask = models.batch("transformer", 25)["attention_mask"] > 0 if net == "transformer" else None
    found: dict[str, dict[bytes, int]] = {}
    for name, array in values.items():
        rows = (array if mask is None else array[mask]).reshape(-1, array.shape[-1])
        states, counts = np.unique(np.packbits(rows > 0, axis=1, bitorder="little"), axis=0, return_counts=True)
        found[name] = {state.tobytes(): int(n) for state, n in zip(states, counts, strict=True)}
    return found


def check_counts(results: Any, expected: dict[str, dict[bytes, int]]) -> None:
    assert list(results) == list(expected), f"read {list(results)}, not {list(expected)}\n{results.layers!r}"
    for name, counts in expected.items():
        view = results[name]
        assert dict(zip(view.state_ids(), view.counts().tolist(), strict=True)) == counts, f"{name}: other states"


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize("net", BY_HAND)
def test_whole_tables_are_those_of_a_capture_by_hand(net: str, library: str) -> None:
    require("sklearn")
    model, data, more = built(net, library)
    results = ls.examine(model, data, batch_size=8, **more)
    inside = "net." if (net, library) == ("residual", "equinox") else ""  # beside its running statistics
    values = {f"{inside}{name}": array for name, array in captured(net).items()}
    check_counts(results, masked(net, values))
    if net != "transformer":  # without padding the whole table can be compared
        check(results, values)


@pytest.mark.parametrize("net", BY_HAND)
def test_one_flipped_unit_is_seen(net: str) -> None:
    require("sklearn")
    model, data, more = built(net, "nnx")
    values = captured(net)
    name = [*values][1]
    wrong = values[name].copy()
    wrong[(0,) * wrong.ndim] = 1.0 if wrong[(0,) * wrong.ndim] <= 0 else -1.0
    with pytest.raises(AssertionError, match="other states"):
        check_counts(ls.examine(model, data, **more), masked(net, {**values, name: wrong}))


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize("net", BY_HAND)
def test_states_packed_in_the_program_are_those_read_on_the_host(net: str, library: str, monkeypatch: Any) -> None:
    """Where the model runs on a device its program packs; the same code, on this machine's CPU."""
    require("sklearn")
    model, data, more = built(net, library)
    on_host = ls.examine(model, data, batch_size=8, **more)
    monkeypatch.setattr(JaxProbe, "_platform", lambda self: "a device")
    on_device = ls.examine(model, data, batch_size=8, **more)
    assert [*on_host] == [*on_device]
    for site in on_host:
        assert table_seen(on_host[site]) == table_seen(on_device[site]), site


def test_the_same_places_as_pytorch() -> None:
    torch = require("torch")

    class Torch(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc, self.norm, self.fc2 = torch.nn.Linear(6, 8), torch.nn.LayerNorm(8), torch.nn.Linear(8, 8)
            self.plain, self.head = torch.nn.Linear(8, 7), torch.nn.Linear(7, 3)

        def forward(self, x: Any) -> Any:
            F = torch.nn.functional
            x = F.silu(self.norm(self.fc(x)))
            x = torch.sigmoid(self.fc2(x)) * F.relu(self.fc2(x))
            return F.softmax(self.head(self.plain(x)), -1)

    class Flax(nnx.Module):
        def __init__(self) -> None:
            rngs = nnx.Rngs(0)
            self.fc, self.norm, self.fc2 = (
                nnx.Linear(6, 8, rngs=rngs),
                nnx.LayerNorm(8, rngs=rngs),
                nnx.Linear(8, 8, rngs=rngs),
            )
            self.plain, self.head = nnx.Linear(8, 7, rngs=rngs), nnx.Linear(7, 3, rngs=rngs)

        def __call__(self, x: Any) -> Any:
            x = nnx.silu(self.norm(self.fc(x)))
            x = nnx.sigmoid(self.fc2(x)) * nnx.relu(self.fc2(x))
            return nnx.softmax(self.head(self.plain(x)), -1)

    mine, theirs = ls.layers(Flax(), X), ls.layers(Torch(), torch.from_numpy(X))
    told = [[(str(x.site), x.threshold, x.left_out, x.shape) for x in each] for each in (mine, theirs)]
    assert told[0] == told[1]
    assert [str(x.site) for x in mine.read] == ["silu()", "sigmoid()", "relu()", "plain"]


# --- transformations inside a model ----------------------------------------------------------------------------------------------


class Block(nnx.Module):
    def __init__(self, rngs: Any, width: int = 6) -> None:
        self.fc = nnx.Linear(width, width, rngs=rngs)
        self.norm = nnx.BatchNorm(width, rngs=rngs)
        self.drop = nnx.Dropout(0.5, rngs=rngs)

    def __call__(self, x: Any) -> Any:
        return self.drop(nnx.relu(self.norm(self.fc(x))))


class Nested(nnx.Module):
    """Layers under nnx.jit, nnx.remat, nnx.scan and nnx.vmap."""

    def __init__(self, rngs: Any) -> None:
        self.a, self.b, self.out = Block(rngs), Block(rngs), nnx.Linear(6, 3, rngs=rngs)
        self.layers = nnx.vmap(lambda rngs: Block(rngs))(rngs.split(3))

    def __call__(self, x: Any) -> Any:
        x = nnx.jit(lambda m, x: m(x))(self.a, x)
        x = nnx.remat(lambda m, x: m(x))(self.b, x)
        x = nnx.vmap(lambda m, x: m(x), in_axes=(None, 0))(self.a, x)
        return self.out(nnx.scan(lambda x, m: m(x), in_axes=(nnx.Carry, 0), out_axes=nnx.Carry)(x, self.layers))


def test_taps_survive_the_transformations_of_nnx() -> None:
    model = Nested(nnx.Rngs(0))
    _, state = nnx.split(model)
    pure = nnx.to_pure_dict(state)

    def block(w: Any, x: Any) -> Any:
        x = (x @ w["fc"]["kernel"] + w["fc"]["bias"] - w["norm"]["mean"]) / jnp.sqrt(w["norm"]["var"] + 1e-5)
        return jnp.maximum(x * w["norm"]["scale"] + w["norm"]["bias"], 0)

    a = block(pure["a"], X)
    b = block(pure["b"], a)
    again = block(pure["a"], b)
    steps, x = [], again
    for k in range(3):
        x = block(jax.tree.map(lambda leaf, k=k: leaf[k], {n: pure["layers"][n] for n in ("fc", "norm")}), x)
        steps.append(x)
    results = ls.examine(model, X, batch_size=4)
    check(results, {"a.relu()": a, "b.relu()": b, "a.relu()#1": again, "layers.relu()": np.stack(steps, 1)})


def test_an_nnx_model_stays_as_it_was() -> None:
    model = Nested(nnx.Rngs(0))
    before, classes = nnx.split(model), [type(m) for _, m in nnx.iter_modules(model)]
    threads, tracing = threading.active_count(), jax.config.jax_disable_jit
    for _ in range(2):
        ls.examine(model, X, batch_size=4)
    assert [type(m) for _, m in nnx.iter_modules(model)] == classes
    assert not model.a.drop.deterministic
    after = nnx.split(model)
    assert before[0] == after[0]
    for one, other in zip(jax.tree.leaves(before[1]), jax.tree.leaves(after[1]), strict=True):
        same = jnp.issubdtype(one.dtype, jax.dtypes.prng_key) or one is other
        assert same
    assert (threading.active_count(), jax.config.jax_disable_jit) == (threads, tracing)


class Stacked(eqx.Module):
    """Layers under filter_jit, filter_checkpoint, a scan over stacked layers, and vmap over positions."""

    first: eqx.nn.Linear
    layers: eqx.nn.Linear
    drop: eqx.nn.Dropout
    tokens: eqx.nn.Linear
    act: Callable[..., Any]

    def __init__(self, key: Any) -> None:
        keys = jax.random.split(key, 3)
        self.first = eqx.nn.Linear(6, 6, key=keys[0])
        self.layers = eqx.filter_vmap(lambda k: eqx.nn.Linear(6, 6, key=k))(keys)
        self.drop, self.act = eqx.nn.Dropout(0.5), jax.nn.tanh
        self.tokens = eqx.nn.Linear(2, 5, key=keys[1])

    def __call__(self, x: Any, key: Any) -> Any:
        x = jax.nn.relu(eqx.filter_jit(lambda m, x: m(x))(self.first, x))
        x = self.drop(eqx.filter_checkpoint(lambda m, x: self.act(m(x)))(self.first, x), key=key)
        arrays, static = eqx.partition(self.layers, eqx.is_array)
        x, _ = lax.scan(lambda c, m: (jax.nn.silu(eqx.combine(m, static)(c)), None), x, arrays)
        return jax.nn.relu(jax.vmap(self.tokens, in_axes=1)(x.reshape(2, 3))).sum()


def test_taps_survive_the_transformations_of_equinox() -> None:
    model: Any = Stacked(jax.random.key(0))
    before = jax.tree.leaves(model)
    a = np.maximum(X @ model.first.weight.T + model.first.bias, 0)
    b = np.tanh(a @ model.first.weight.T + model.first.bias)
    steps, x = [], b
    for weight, bias in zip(model.layers.weight, model.layers.bias, strict=True):
        x = np.asarray(jax.nn.silu(x @ weight.T + bias))
        steps.append(x)
    last = np.moveaxis(x.reshape(10, 2, 3), 2, 1) @ model.tokens.weight.T + model.tokens.bias
    results = ls.examine(model, X, batch_size=4)
    check(results, {"relu()": a, "tanh()": b, "silu()": np.stack(steps, 1), "relu()#1": np.maximum(last, 0)})
    assert all(one is other for one, other in zip(jax.tree.leaves(model), before, strict=True))
    assert type(model.first) is eqx.nn.Linear
    assert not model.drop.inference


class LinenBlock(linen.Module):
    @linen.compact
    def __call__(self, x: Any, _: Any = None) -> Any:
        return linen.relu(linen.Dense(6, name="fc")(x)), None


class LinenNested(linen.Module):
    @linen.compact
    def __call__(self, x: Any, train: bool) -> Any:
        x, _ = linen.scan(LinenBlock, variable_axes={"params": 0}, split_rngs={"params": True}, length=3)(
            name="layers"
        )(x, None)
        x, _ = linen.remat(LinenBlock)(name="again")(x)
        x, _ = linen.jit(LinenBlock)(name="jitted")(x)
        return linen.Dense(3, name="out")(linen.Dropout(0.5, deterministic=not train)(x))


def test_taps_survive_the_transformations_of_linen() -> None:
    model = LinenNested()
    variables = model.init(jax.random.key(0), X, False)
    w = variables["params"]

    def block(w: Any, x: Any) -> Any:
        return jnp.maximum(x @ w["kernel"] + w["bias"], 0)

    steps, x = [], X
    for k in range(3):
        x = block(jax.tree.map(lambda leaf, k=k: leaf[k], w["layers"]["fc"]), x)
        steps.append(x)
    again = block(w["again"]["fc"], x)
    expected = {
        "layers.relu()": np.stack(steps, 1),
        "again.relu()": again,
        "jitted.relu()": block(w["jitted"]["fc"], again),
    }
    check(ls.examine(model, X, batch_size=4, params=variables), expected)
    check(ls.examine(model, X, batch_size=4, params=w), expected)  # without a collection around them


def test_calls_that_are_transformed_where_they_are_defined() -> None:
    class Flax(nnx.Module):
        def __init__(self) -> None:
            self.fc = nnx.Linear(6, 6, rngs=nnx.Rngs(0))

        @nnx.jit
        def __call__(self, x: Any) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]  # as users write it
            return nnx.relu(self.fc(x)) @ jnp.ones((6, 2))

    class Equinox(eqx.Module):
        fc: eqx.nn.Linear

        @eqx.filter_jit
        def __call__(self, x: Any) -> Any:
            return jax.nn.relu(self.fc(x)) @ jnp.ones((6, 2))

    class Linen(linen.Module):
        @linen.jit
        @linen.compact
        def __call__(self, x: Any) -> Any:
            return linen.relu(linen.Dense(6, name="fc")(x)) @ jnp.ones((6, 2))

    flax: Any
    flax, linear, module = Flax(), eqx.nn.Linear(6, 6, key=jax.random.key(0)), Linen()
    variables = module.init(jax.random.key(0), X)
    dense: Any = variables["params"]["fc"]
    cases: list[tuple[Any, Any, Any, dict[str, Any]]] = [
        (flax, flax.fc.kernel[...], flax.fc.bias[...], {}),
        (Equinox(linear), linear.weight.T, linear.bias, {}),
        (module, dense["kernel"], dense["bias"], {"params": variables}),
    ]
    for model, kernel, bias, more in cases:
        check(ls.examine(model, X, batch_size=4, **more), {"relu()": np.maximum(X @ kernel + bias, 0)})


def test_a_call_that_is_replaced_later_is_the_one_that_runs() -> None:
    class Model(nnx.Module):
        def __call__(self, x: Any) -> Any:
            return nnx.relu(x) @ jnp.ones((6, 2))

    check(ls.examine(Model(), X), {"relu()": np.maximum(X, 0)})
    Model.__call__ = lambda self, x: nnx.relu(-x) @ jnp.ones((6, 2))
    check(ls.examine(Model(), X), {"relu()": np.maximum(-X, 0)})


# --- ways to call ----------------------------------------------------------------------------------------------------------------


def test_a_whole_batch_may_be_mapped_by_hand_over_any_axis() -> None:
    model: Any = eqx.nn.MLP(6, 3, 8, 2, key=jax.random.key(0))
    mine = ls.examine(model, X, batch_size=4)
    for forward in (
        lambda m, x: jax.vmap(m)(x),
        lambda m, x: jax.vmap(m, in_axes=1, out_axes=1)(x.T).T,
        lambda m, x: jax.vmap(jax.vmap(m))(x[:, None])[:, 0],
    ):
        theirs = ls.examine(model, ls.Data(X, forward=forward), batch_size=4)
        assert [*mine] == [*theirs] == ["relu()", "relu()#1"]
        for site in mine:
            assert table_seen(mine[site]) == table_seen(theirs[site]), site
    values = ls.activations(model, ls.Data(X, forward=lambda m, x: jax.vmap(m, in_axes=1)(x.T)), layers=["layers.*"])
    first = X @ model.layers[0].weight.T + model.layers[0].bias
    np.testing.assert_allclose(values["layers.0"], first, rtol=1e-5, atol=1e-6)  # samples first, wherever vmap had them


def test_a_module_used_twice_inputs_and_parts() -> None:
    class Two(nnx.Module):
        def __call__(self, x: Any) -> Any:
            return nnx.relu(x), {"more": -x}

    class Model(nnx.Module):
        def __init__(self) -> None:
            self.fc, self.two = nnx.Linear(6, 6, rngs=nnx.Rngs(0)), Two()

        def __call__(self, x: Any) -> Any:
            a, more = self.two(self.fc(self.fc(x)))
            return a + more["more"]

    model = Model()
    fc = np.asarray(model.fc(jnp.asarray(X))), np.asarray(model.fc(model.fc(jnp.asarray(X))))
    results = ls.examine(model, X, layers=["fc", "fc#1:in", "two", "two[1]"], batch_size=4)
    check(results, {"fc": fc[0], "fc#1": fc[1], "fc#1:in": fc[0], "two": np.maximum(fc[1], 0), "two[1]": -fc[1]})


def test_functions_with_taps() -> None:
    w = {"w": RNG.normal(size=(6, 5)).astype(np.float32), "v": RNG.normal(size=(5, 3)).astype(np.float32)}

    def model(params: Any, x: Any) -> Any:
        x = ls.tap("hidden", jax.nn.sigmoid(x @ params["w"]))
        return ls.tap("more", x @ params["v"])

    hidden = 1 / (1 + np.exp(-X @ w["w"]))
    asked: Any
    for asked in (
        {"model": model, "params": w},
        {"model": lambda x: model(w, x)},
        {"model": jax.jit(model), "params": w},
    ):
        results = ls.examine(data=X, batch_size=4, **asked)
        check(results, {"hidden": hidden, "more": hidden @ w["v"]}, {"hidden": 0.5})
        assert results["hidden"].layer.threshold == 0.5
        assert results.manifest["framework"] == "jax"
    with_forward = ls.examine(model, ls.Data(X, forward=lambda f, x: f(x)), params=w, batch_size=4)
    assert table_seen(with_forward["hidden"]) == table_seen(results["hidden"])


def test_taps_of_the_user_inside_a_model() -> None:
    class Model(nnx.Module):
        def __init__(self) -> None:
            self.fc = nnx.Linear(6, 6, rngs=nnx.Rngs(0))

        def __call__(self, x: Any) -> Any:
            return ls.tap("centred", self.fc(x) - 0.25) @ jnp.ones((6, 2))

    model = Model()
    fc = np.asarray(model.fc(jnp.asarray(X)))
    check(ls.examine(model, X), {"fc": fc, "centred": fc - 0.25})


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_floats(dtype: str) -> None:
    model = nnx.Sequential(
        nnx.Linear(6, 9, dtype=dtype, param_dtype=dtype, rngs=nnx.Rngs(0)), nnx.tanh, nnx.Linear(9, 2, rngs=nnx.Rngs(0))
    )
    x = jnp.asarray(X, dtype)
    hidden = jax.jit(lambda x: jnp.tanh(model.layers[0](x)))(x)
    assert hidden.dtype == dtype
    results = ls.examine(model, x, batch_size=4)
    assert results.layers["tanh()"].dtype == dtype
    check(results, {"tanh()": np.asarray(hidden, np.float32)})


def test_the_mode_is_evaluation_whatever_the_model_keeps() -> None:
    """Statistics, random numbers and what a model notes down are its own: nothing of them changes, and nothing drops."""

    class Noisy(nnx.Module):
        def __init__(self) -> None:
            self.block, self.rngs = Block(nnx.Rngs(0)), nnx.Rngs(noise=7)
            self.calls = nnx.Variable(jnp.zeros(()))

        def __call__(self, x: Any) -> Any:
            self.calls[...] += 1
            x = x + 0 * self.rngs.noise.normal(x.shape)
            return self.block(x) @ jnp.ones((6, 2))

    model = Noisy()
    results = ls.examine(model, X, batch_size=4)
    block = model.block
    expected = np.maximum(np.asarray(block.fc(jnp.asarray(X))) / np.sqrt(1 + 1e-5), 0)
    check(results, {"block.relu()": expected})
    assert model.calls[...] == 0
    assert model.rngs.noise.count[...] == 0
    np.testing.assert_array_equal(block.norm.mean[...], np.zeros(6))


# --- programs --------------------------------------------------------------------------------------------------------------------


def test_one_trace_for_each_shape_of_batch() -> None:
    traced: list[tuple[int, ...]] = []

    class Counting(nnx.Module):
        def __init__(self) -> None:
            self.fc = nnx.Linear(6, 6, rngs=nnx.Rngs(0))

        def __call__(self, x: Any) -> Any:
            traced.append(x.shape)
            return nnx.relu(self.fc(x)) @ jnp.ones((6, 2))

    with probe_for(Counting()) as probe:
        assert isinstance(probe, JaxProbe)
        feed = Feed(X, batch_size=4)
        layers = probe.describe(feed.peek(3)).read
        for _ in range(3):
            for batch in feed:
                probe.run(batch, layers, lambda layer, a: {})
        assert traced == [(3, 6), (4, 6)]  # a look of three samples, and the batches: 4, 4, and 2 padded to 4
        (compiled,) = probe._compiled.values()
        run: Any = compiled.run
        assert run._cache_size() == 1


def test_parameters_are_no_constants_of_the_program() -> None:
    model = nnx.Sequential(nnx.Linear(6, 300, rngs=nnx.Rngs(0)), nnx.relu, nnx.Linear(300, 2, rngs=nnx.Rngs(0)))
    with probe_for(model) as probe:
        assert isinstance(probe, JaxProbe)
        batch = Feed(X).peek(4)
        probe.run(batch, probe.describe(batch).read, lambda layer, a: {})
        assert all(sum(const.size for const in each.closed.consts) == 0 for each in probe._programs.values())


def test_a_short_batch_is_padded_and_padding_counts_nowhere() -> None:
    model = eqx.nn.MLP(6, 3, 8, 1, key=jax.random.key(0))
    whole, pieces = ls.examine(model, X, batch_size=10), ls.examine(model, X, batch_size=7)
    assert whole["relu()"].state_count == pieces["relu()"].state_count == 10
    assert table_seen(whole["relu()"]) == table_seen(pieces["relu()"])


DEVICES = """
import numpy as np, jax, equinox as eqx
import layerscope as ls
from flax import nnx
assert len(jax.devices()) == 4
X = np.random.default_rng(0).normal(size=(10, 6)).astype(np.float32)
mesh = jax.sharding.Mesh(np.array(jax.devices()), ("d",))
spread = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("d"))
for model in (eqx.nn.MLP(6, 3, 8, 2, key=jax.random.key(0)),
              nnx.Sequential(nnx.Linear(6, 8, rngs=nnx.Rngs(0)), nnx.relu, nnx.Linear(8, 2, rngs=nnx.Rngs(0)))):
    one = ls.examine(model, X, batch_size=6)
    for device in (spread, jax.devices()[2], "cpu:3"):
        other = ls.examine(model, X, batch_size=6, device=device)
        assert [*one] == [*other]
        for site in one:
            assert one[site].state_count == other[site].state_count == 10
            left, right = one[site], other[site]
            assert dict(zip(left.state_ids(), left.counts())) == dict(zip(right.state_ids(), right.counts()))
    assert "cpu:3" in other.manifest["device"].lower() or "CpuDevice(id=3)" in other.manifest["device"], other.manifest
    values = ls.activations(model, X, device=spread)
    assert all(len(array) == 10 for array in values.values())
print("the same")
"""


def test_a_batch_that_does_not_divide_over_devices(tmp_path: Any) -> None:
    import os

    env = {**os.environ, "XLA_FLAGS": "--xla_force_host_platform_device_count=4", "JAX_PLATFORMS": "cpu"}
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", DEVICES], capture_output=True, text=True, env=env, cwd=ROOT
    )
    assert done.stdout.strip() == "the same", done.stderr[-3000:]


# --- what a probe says -----------------------------------------------------------------------------------------------------------


def test_fingerprints_tell_models_apart() -> None:
    def of(model: Any, **more: Any) -> str:
        with probe_for(model, **more) as probe:
            probe.describe(Feed(X).peek(3))
            return probe.fingerprint()

    def model(seed: int) -> Any:
        return eqx.nn.MLP(6, 3, 8, 2, key=jax.random.key(seed))

    assert of(model(0)) == of(model(0)) != of(model(1))
    w = np.ones((6, 4), np.float32)

    def function(w: Any) -> Any:
        return lambda x: ls.tap("h", jax.nn.relu(x @ w))

    assert of(function(w)) == of(function(w.copy())) != of(function(2 * w))
    assert of(lambda p, x: ls.tap("h", x @ p), params=w) != of(lambda p, x: ls.tap("h", x @ p), params=2 * w)
    sequential: Any = nnx.Sequential(nnx.Linear(6, 4, rngs=nnx.Rngs(0)), nnx.Dropout(0.1, rngs=nnx.Rngs(0)))
    before = of(sequential)
    sequential.layers[0].kernel[...] *= 1.5
    assert of(sequential) != before


def test_facts() -> None:
    manifest = ls.examine(eqx.nn.MLP(6, 3, 8, 1, key=jax.random.key(0)), X).manifest
    assert manifest["framework"] == "equinox"
    assert manifest["model"] == "MLP"
    assert manifest["parameters"] == 6 * 8 + 8 + 8 * 3 + 3
    assert manifest["dtype"] == "float32"
    assert manifest["compiled"]
    assert jax.__version__ in manifest["framework_version"]


def test_untrained_twins_of_linen_and_the_remedy_elsewhere() -> None:
    model = LinenNested()
    variables = jax.tree.map(lambda leaf: leaf * 0 + 0.1, model.init(jax.random.key(5), X, False))
    results = ls.examine(model, X, params=variables, references=["untrained"])
    twin = results.references["untrained"]
    assert [*twin] == [*results]
    assert table_seen(twin["again.relu()"]) != table_seen(results["again.relu()"])
    for other in (Nested(nnx.Rngs(0)), eqx.nn.MLP(6, 3, 8, 1, key=jax.random.key(0))):
        with pytest.raises(
            SiteError, match=r"references=\['untrained'\]: nobody here knows how the parameters of a model of"
        ):
            ls.examine(other, X, references=["untrained"])
    mlp = eqx.nn.MLP(6, 3, 8, 1, key=jax.random.key(0))
    given = ls.examine(mlp, X, references={"untrained": eqx.nn.MLP(6, 3, 8, 1, key=jax.random.key(1))})
    assert [*given.references["untrained"]] == ["relu()"]


def test_a_trained_model_on_real_digits() -> None:
    """Softmax regression with one hidden layer, trained by plain gradient descent: accuracy and states are those of its own forward."""
    datasets = require("sklearn.datasets")
    x, y = datasets.load_digits(return_X_y=True)
    x = (x / 16).astype(np.float32)
    model = eqx.nn.MLP(64, 10, 24, 1, key=jax.random.key(0))

    @eqx.filter_jit
    def step(model: Any) -> Any:
        def loss(m: Any) -> Any:
            return -jnp.take_along_axis(jax.nn.log_softmax(jax.vmap(m)(x)), y[:, None], 1).mean()

        return eqx.apply_updates(model, jax.tree.map(lambda g: -0.5 * g, eqx.filter_grad(loss)(model)))

    for _ in range(150):
        model = step(model)
    results = ls.examine(model, (x, y), batch_size=100)
    logits = np.asarray(jax.vmap(model)(x))
    assert results.accuracy is not None
    assert float(results.accuracy) == pytest.approx((logits.argmax(1) == y).mean(), abs=1e-6)
    assert float(results.accuracy) > 0.9
    hidden = np.asarray(jax.vmap(lambda r: jax.nn.relu(model.layers[0](r)))(x))
    states = np.unique(hidden > 0, axis=0)
    assert len(results["relu()"].state_ids()) == pytest.approx(
        len(states), abs=2
    )  # a unit at zero may fall on either side


# --- bad input -------------------------------------------------------------------------------------------------------------------

MLP = eqx.nn.MLP(6, 3, 8, 1, key=jax.random.key(0))


def test_a_function_without_taps_is_shown_how_to_tap() -> None:
    def plain(x: Any) -> Any:
        return jax.nn.relu(x)

    with pytest.raises(SiteError, match=r"(?s)plain is a function without taps.*ls\.tap\(\"hidden\""):
        ls.layers(plain, X)


def test_linen_without_variables() -> None:
    with pytest.raises(SiteError, match=r"(?s)params=None: a Flax Linen module.*right: .*params=variables"):
        ls.examine(LinenNested(), X)


@pytest.mark.parametrize("model", [MLP, nnx.Linear(6, 6, rngs=nnx.Rngs(0))], ids=["equinox", "nnx"])
def test_params_for_a_model_that_has_its_own(model: Any) -> None:
    with pytest.raises(SiteError, match=r"params=: an? .* holds its own parameters"):
        ls.examine(model, X, params={})


def test_a_model_of_shapes_only() -> None:
    with pytest.raises(SiteError, match=r"bias.* is only a shape .* Load the weights"):
        ls.examine(nnx.eval_shape(lambda: nnx.Linear(6, 6, rngs=nnx.Rngs(0))), X)


def test_amp() -> None:
    with pytest.raises(DtypeError, match="amp='bf16': JAX has no autocast"):
        ls.examine(MLP, X, amp="bf16")


def test_a_device_that_is_not_there() -> None:
    with pytest.raises(SiteError, match=r"device='cpu:77': there is no such device\. JAX has cpu:0"):
        ls.examine(MLP, X, device="cpu:77")


def test_watching_shows_the_way() -> None:
    for model in (MLP, Nested(nnx.Rngs(0)), lambda x: ls.tap("h", x)):
        with (
            pytest.raises(SiteError, match=r"(?s)cannot be watched from outside.*ls\.examine.*ls\.reap"),
            ls.watch(model),
        ):
            pass


def test_a_layer_inside_a_cond_is_named_with_the_way_out() -> None:
    class Deciding(nnx.Module):
        def __init__(self) -> None:
            self.fc = nnx.Linear(6, 6, rngs=nnx.Rngs(0))

        def __call__(self, x: Any) -> Any:
            return nnx.cond(x.sum() > 0, lambda m, x: m(x), lambda m, x: x, self.fc, x)

    with pytest.raises(SiteError, match=r"tap 'fc' is inside a lax\.cond or lax\.switch"):
        ls.examine(Deciding(), X)


def test_a_model_that_decides_in_python() -> None:
    class Deciding(nnx.Module):
        def __call__(self, x: Any) -> Any:
            return x if x.sum() > 0 else -x

    with pytest.raises(SiteError, match="Deciding: it decides in Python on values"):
        ls.examine(Deciding(), X)


def test_an_equinox_input_without_samples() -> None:
    data = ls.Data({"x": X, "scale": np.ones(10, np.float32)}, inputs=["x", "scale"])

    class Scaled(eqx.Module):
        fc: eqx.nn.Linear

        def __call__(self, x: Any, scale: Any) -> Any:
            return jax.nn.relu(self.fc(x)) * scale

    model = Scaled(eqx.nn.Linear(6, 6, key=jax.random.key(0)))
    assert [*ls.examine(model, data)] == ["relu()"]
    batch = Feed(X).peek(4)
    with probe_for(model) as probe, pytest.raises(ShapeError, match=r"an input of shape \(2, 6\) for 4 samples"):
        probe.describe(type(batch)((X[:2], X[:2]), {}, batch.samples, None, 0, 4))


def test_an_argument_that_the_data_does_not_give() -> None:
    class Needs(eqx.Module):
        def __call__(self, x: Any, state: Any) -> Any:
            return x

    with pytest.raises(SiteError, match=r"Needs: it cannot be called with what the data gives: .*'state'.* forward="):
        ls.examine(Needs(), X)


def test_a_layer_that_does_not_run_for_another_batch() -> None:
    class Changing(nnx.Module):
        def __init__(self) -> None:
            self.fc = nnx.Linear(6, 6, rngs=nnx.Rngs(0))

        def __call__(self, x: Any) -> Any:
            return nnx.tanh(self.fc(x) if len(x) < 4 else x)

    with pytest.raises(SiteError, match="fc did not run, though the first forward ran it"):
        ls.examine(Changing(), X, layers=["fc"])


def test_samples_that_are_on_no_axis() -> None:
    with pytest.raises(ShapeError, match=r"h: it cannot be read: its samples share axis 0 with something else"):
        ls.examine(lambda x: ls.tap("h", jnp.ones((5, 6)) * x.sum()), X, layers=["h"])


@pytest.mark.parametrize("platform", ["cpu", "a device"])
def test_another_number_of_samples_than_the_batch_has(platform: str, monkeypatch: Any) -> None:
    monkeypatch.setattr(JaxProbe, "_platform", lambda self: platform)
    with pytest.raises(ShapeError, match=r"h: axis 0 of shape \(5, 6\) has 5 entries, the batch has 4 samples"):
        ls.examine(
            lambda x: ls.tap("h", jnp.ones((5, 6)) * x.sum()),
            X,
            layers=["h"],
            axes={"h": ls.Axes(unit=1)},
            batch_size=4,
        )


def test_an_untrained_linen_module_that_is_called_in_another_way() -> None:
    model = LinenNested()
    variables = model.init(jax.random.key(0), X, False)
    data = ls.Data(X, forward=lambda m, x: m(x, train=False))
    assert "again.relu()" in ls.examine(model, data, params=variables)
    with pytest.raises(SiteError, match="with forward=: how the module is initialised is not known"):
        ls.examine(model, data, params=variables, references=["untrained"])

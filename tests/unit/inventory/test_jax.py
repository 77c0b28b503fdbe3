"""What a jaxpr has to read: functions by their names, also where JAX writes them out, axes through every kind of equation, loops."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from layerscope._errors import SiteError
from layerscope._site import Site
from layerscope.inventory import Layer, Layers
from tests.conftest import require

pytestmark = pytest.mark.jax
jax = require("jax")
import jax.numpy as jnp  # noqa: E402
from jax import lax  # noqa: E402

from layerscope.inventory._graph import Kind  # noqa: E402
from layerscope.inventory.jax import listing  # noqa: E402
from layerscope.probes.taps import tap  # noqa: E402
from layerscope.probes.taps.jax import around, marked_all  # noqa: E402

B = 3
W = np.ones((8, 6), np.float32)


def found(f: Callable[..., Any], *shapes: tuple[int, ...], mapped: bool = False, inputs: bool = False) -> Layers:
    """The layers of a function of arrays; the weights of this file are its constants."""
    types = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes]
    return listing(jax.make_jaxpr(f)(*types), 0, B, mapped=mapped, inputs=inputs).layers


def sites(layers: Layers) -> list[str]:
    return [str(layer.site) for layer in layers]


def layer(path: str, f: Callable[..., Any], does: str = "", unit: int | None = None) -> Callable[..., Any]:
    """A function as a layer of some library."""
    call = around(lambda self, *x: f(*x), path, Kind(path.rpartition(".")[2].title(), does=does, unit=unit))
    return lambda *x: call(None, *x)


def same_place(one: Layer, other: tuple[tuple[int, ...], int]) -> bool:
    return (one.shape, one.axes.unit, one.axes.sample) == (*other, 0)


NAMED = {
    "relu": "relu()", "relu6": "relu6()", "elu": "elu()", "selu": "selu()", "celu": "celu()", "gelu": "gelu()", "silu": "silu()",
    "swish": "silu()", "mish": "mish()", "leaky_relu": "leaky_relu()", "hard_tanh": "hardtanh()", "hard_sigmoid": "hardsigmoid()",
    "hard_silu": "hardswish()", "hard_swish": "hardswish()", "log_sigmoid": "log_sigmoid()", "sigmoid": "sigmoid()",
    "softplus": "softplus()", "soft_sign": "softsign()", "tanh": "tanh()", "softmax": "softmax()", "log_softmax": "log_softmax()",
}  # fmt: skip


@pytest.mark.parametrize("wrap", ["", "vmap", "jit", "checkpoint", "scan"])
@pytest.mark.parametrize("name", NAMED)
def test_functions_of_jax_nn_are_known_by_name(name: str, wrap: str) -> None:
    """Where this fails for `gelu` or `softmax`, tracebacks no longer say which function an equation was written out for."""
    f = getattr(jax.nn, name)
    wraps: dict[str, Any] = {
        "": f,
        "vmap": jax.vmap(f),
        "jit": jax.jit(f),
        "checkpoint": jax.checkpoint(f),
        "scan": lambda x: lax.scan(lambda c, v: (c, f(v)), 0.0, x[None])[1],
    }
    seen = found(lambda x: wraps[wrap](x @ W), (B, 8))
    assert sites(seen) == [NAMED[name]]


@pytest.mark.parametrize("approximate", [True, False])
def test_calls_of_a_function_that_is_written_out_are_told_apart(approximate: bool) -> None:
    def f(x: Any) -> Any:
        for _ in range(2):
            x = jax.nn.gelu(x, approximate=approximate)
        return jax.nn.softmax(jax.nn.gelu(x, approximate) + jax.nn.gelu(x, approximate))

    for _ in range(2):  # traced, then from JAX's cache
        assert sites(found(f, (B, 8))) == ["gelu()", "gelu()#1", "gelu()#2", "gelu()#3", "softmax()"]


def test_a_function_of_the_same_arithmetic_is_not_taken_for_one_of_jax() -> None:
    def gelu(x: Any) -> Any:
        return x * 0.5 * (1 + lax.erf(x / 2**0.5))

    fc = layer("fc", lambda x: x @ W, "linear", -1)
    assert sites(found(lambda x: gelu(x), (B, 8))) == []
    assert sites(found(lambda x: gelu(fc(x)), (B, 8))) == [
        "fc",
        "erf()",
    ]  # as in PyTorch: the sign of what weights made


def test_relu_by_hand_is_a_relu_and_a_maximum_of_two_is_none() -> None:
    assert sites(found(lambda x: jnp.maximum(x, 0), (B, 8))) == ["clamp_min()"]
    assert sites(found(lambda x: jnp.clip(x, 0, 6), (B, 8))) == ["clamp_min()"]
    assert sites(found(lambda x: jnp.maximum(x, 1), (B, 8))) == []
    assert sites(found(lambda x: jnp.maximum(x, x + 1), (B, 8))) == []


KERNEL: Any = np.ones((3, 3, 2, 5), np.float32)


def convolved(x: Any) -> Any:
    return lax.conv_general_dilated(x, KERNEL, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))


def convolved_first(x: Any) -> Any:
    return lax.conv_general_dilated(x, KERNEL, (1, 1), "SAME", dimension_numbers=("NCHW", "HWIO", "NCHW"))


AXES: dict[str, tuple[Callable[[Any], Any], tuple[int, ...], tuple[tuple[int, ...], int]]] = {
    "product": (lambda x: x @ W, (B, 8), ((B, 6), 1)),
    "weights first": (lambda x: jnp.einsum("io,bi->bo", W, x), (B, 8), ((B, 6), 1)),
    "units before samples": (lambda x: jnp.einsum("io,bi->ob", W, x), (B, 8), ((B, 6), 1)),  # samples go in front
    "convolution, channels last": (convolved, (B, 9, 9, 2), ((B, 9, 9, 5), 3)),
    "convolution, channels first": (convolved_first, (B, 2, 9, 9), ((B, 5, 9, 9), 1)),
    "transposed": (lambda x: jnp.transpose(convolved_first(x), (0, 2, 3, 1)), (B, 2, 9, 9), ((B, 9, 9, 5), 3)),
    "mapped": (jax.vmap(lambda x: x @ W), (B, 4, 8), ((B, 4, 6), 2)),
    "mapped over positions": (jax.vmap(lambda x: x @ W, in_axes=1), (B, 4, 8), ((B, 4, 6), 2)),
    "mapped to the end": (jax.vmap(lambda x: x @ W, in_axes=1, out_axes=2), (B, 4, 8), ((B, 6, 4), 1)),
    "mean over positions": (lambda x: convolved_first(x).mean((2, 3)), (B, 2, 9, 9), ((B, 5), 1)),
    "flattened": (lambda x: convolved_first(x).reshape(B, -1), (B, 2, 9, 9), ((B, 405), 1)),
    "one token": (lambda x: (x @ W)[:, 0], (B, 4, 8), ((B, 6), 1)),
    "chosen tokens": (lambda x: (x @ W)[:, jnp.array([0, 2])], (B, 4, 8), ((B, 2, 6), 2)),
    "turned": (lambda x: jnp.flip(convolved_first(x), 2), (B, 2, 9, 9), ((B, 5, 9, 9), 1)),
    "stacked in a scan": (lambda x: lax.scan(lambda c, v: (c, v @ W), 0.0, jnp.moveaxis(x, 1, 0))[1], (B, 4, 8), ((B, 4, 6), 2)),
    "carried through a scan": (
        lambda x: lax.scan(lambda c, v: (jnp.flip(c, 2), None), convolved_first(x), None, length=2)[0], (B, 2, 9, 9), ((B, 5, 9, 9), 1),
    ),
    "samples in a scan of positions": (lambda x: jnp.moveaxis(x, 1, 0) @ W, (B, 4, 8), ((B, 4, 6), 2)),
}  # fmt: skip


@pytest.mark.parametrize("name", AXES)
def test_axes_are_followed(name: str) -> None:
    f, shape, expected = AXES[name]
    (seen,) = found(lambda x: jax.nn.relu(f(x)), shape)
    assert same_place(seen, expected), f"{name}: {seen.shape} unit {seen.axes.unit} sample {seen.axes.sample}"
    assert not seen.unfit
    assert not seen.note or name == "flattened"


@pytest.mark.parametrize("name", [name for name in AXES if AXES[name][1] == (B, 2, 9, 9)])
def test_axes_are_followed_in_a_program_for_one_sample(name: str) -> None:
    f, shape, expected = AXES[name]
    (seen,) = found(lambda x: jax.nn.relu(f(jnp.stack([x] * B))[0]), shape[1:], mapped=True)
    assert (seen.shape, seen.axes.sample) == (expected[0], 0)


def test_taps_say_where_layers_begin_and_end() -> None:
    fc = layer("block.fc", lambda x: x @ W, "linear", -1)
    block = layer("block", lambda x: jax.nn.relu(fc(x)))
    out = layer("out", lambda x: x @ W[:6], "linear", -1)
    seen = found(lambda x: out(block(x)), (B, 8))
    assert sites(seen) == ["block.fc", "block.relu()", "block", "out"]
    assert [str(x.site) for x in seen.read] == ["block.relu()"]
    assert seen["block.fc"].left_out == "goes on into a nonlinearity, which is read"


def test_a_layer_is_listed_once_for_every_call_of_a_cached_jit() -> None:
    fc = layer("fc", lambda x: x @ W, "linear", -1)
    f = jax.jit(lambda x: jax.nn.relu(fc(x)))
    assert sites(found(lambda x: f(x) + f(2 * x), (B, 8))) == ["fc", "relu()", "fc#1", "relu()#1"]


def test_layers_of_one_sample_with_positions_inside() -> None:
    fc = layer("fc", lambda x: x @ W, "linear", -1)
    (seen,) = found(lambda x: jax.vmap(fc)(x), (4, 8), mapped=True)
    assert same_place(seen, ((B, 4, 6), 2))
    (seen,) = found(lambda x: jax.vmap(fc, in_axes=1, out_axes=1)(x), (8, 4), mapped=True)
    assert same_place(seen, ((B, 4, 6), 2))
    (seen,) = found(lambda x: jax.vmap(jax.vmap(fc), in_axes=1)(x), (2, 4, 8), mapped=True)
    assert same_place(seen, ((B, 4, 2, 6), 3))


def test_steps_of_a_loop_are_positions() -> None:
    fc = layer("fc", lambda x: x @ W[:6], "linear", -1)
    f = lambda x: lax.scan(lambda c, _: (jax.nn.relu(fc(c)), None), x, None, length=5)[0]  # noqa: E731
    seen = found(f, (B, 6))
    assert all(same_place(x, ((B, 5, 6), 2)) for x in seen)
    assert all(x.note == "inside a loop, whose steps are positions" for x in seen)
    seen = found(f, (6,), mapped=True)
    assert all(same_place(x, ((B, 5, 6), 2)) for x in seen)


def test_a_loop_counter_depends_on_no_input() -> None:
    def f(x: Any) -> Any:
        return lax.fori_loop(0, 4, lambda i, c: jax.nn.relu(c + tap("i", jnp.ones((B, 6)) * i)), x @ W)

    seen = found(f, (B, 8))
    assert seen["i"].unfit == "does not depend on the model's input"
    assert not seen["relu()"].unfit


def test_inputs_of_layers_and_further_outputs() -> None:
    both = layer("both", lambda x, y: (x @ W, {"more": y @ W}))
    seen = found(lambda x: both(x, 2 * x), (B, 8), inputs=True)
    assert sites(seen) == ["both:in", "both:in[1]", "both", "both[1]"]


def test_what_the_user_named_is_read_and_its_twin_is_not() -> None:
    seen = found(lambda x: tap("hidden", jax.nn.relu(x @ W)) @ W[:6], (B, 8))
    assert [str(x.site) for x in seen.read] == ["hidden"]
    assert seen["relu()"].left_out == "same values as hidden"
    assert seen["hidden"].role == seen["relu()"].role


def test_a_layer_in_a_cond_is_named() -> None:
    fc = layer("block.fc", lambda x: x @ W[:6], "linear", -1)
    with pytest.raises(SiteError, match=r"tap 'block.fc' is inside a lax\.cond or lax\.switch"):
        found(lambda x: lax.cond(x.sum() > 0, fc, lambda h: h, x), (B, 6))
    with pytest.raises(SiteError, match=r"tap 'block.fc' is inside a lax\.while_loop"):
        found(lambda x: lax.while_loop(lambda c: c.sum() > 0, fc, x), (B, 6))


def test_a_layer_cut_by_a_derivative_is_refused() -> None:
    """Not all that a model may do inside: here a layer's end is the backward pass of another."""
    kind = Kind("Cut")

    def crossed(x: Any) -> Any:
        x = marked_all("a", kind, x, opens=True)
        x = marked_all("b", kind, x, opens=True)
        return marked_all("b", kind, marked_all("a", kind, x, opens=False), opens=False)

    with pytest.raises(SiteError, match="a: its call ends where 'b' runs"):
        found(crossed, (B, 8))


def test_places_hold_the_values() -> None:
    """The address of every site, brought out, is what the function gives."""
    from jax.extend import core

    from layerscope.inventory.program.jax import exposed

    fc = layer("fc", lambda x: x @ W, "linear", -1)
    f = lambda x: jax.nn.gelu(jax.checkpoint(lambda y: jax.nn.relu(jax.jit(fc)(y)))(x))  # noqa: E731
    x = np.random.default_rng(0).normal(size=(B, 8)).astype(np.float32)
    closed = jax.make_jaxpr(f)(x)
    seen = listing(closed, 0, B)
    values = core.jaxpr_as_fun(exposed(closed, [place.address for place in seen.places.values()]))(x)[1:]
    by_site = dict(zip(map(str, seen.places), values, strict=True))
    np.testing.assert_allclose(by_site["fc"], x @ W, rtol=1e-5)
    np.testing.assert_allclose(by_site["relu()"], np.maximum(x @ W, 0), rtol=1e-5)
    np.testing.assert_allclose(by_site["gelu()"], f(x), rtol=1e-5)
    assert Site("fc") in seen.places

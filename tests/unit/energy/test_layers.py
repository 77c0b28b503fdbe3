"""Neuron layers: energy with a bias, batch axes, start states, classes made of Lagrangians, and what they refuse."""

import copy
import inspect
import pickle
from typing import Any

import numpy as np
import pytest

from layerscope import energy
from layerscope._errors import DtypeError, ShapeError
from layerscope.energy import Layer, LExp, MakeLayer
from tests.conftest import require
from tests.unit.energy.autodiff import FRAMEWORKS, array, double, gradient, host

TEN = {
    "IdentityLayer": {}, "RepuLayer": {"n": 3.0}, "ReluLayer": {}, "ExpLayer": {"beta": 2.0}, "RexpLayer": {"beta": 2.0},
    "TanhLayer": {"beta": 2.0}, "SigmoidLayer": {"beta": 2.0, "scale": 3.0}, "SoftmaxLayer": {"beta": 2.0, "axis": -2},
    "LayerNormLayer": {"gamma": 2.0, "delta": 0.5}, "SphericalNormLayer": {"gamma": 2.0, "eps": 1e-3},
}  # fmt: skip


def test_the_signature_is_that_of_the_published_page() -> None:
    page = "(lagrangian, shape, tau=1.0, use_bias=False, init_lagrangian=False, name=None, **kwargs)"
    mine = [p for p in inspect.signature(Layer).parameters.values() if p.kind is not p.KEYWORD_ONLY]
    assert str(inspect.Signature([p.replace(annotation=p.empty) for p in mine])) == page


@pytest.mark.parametrize("name", TEN)
def test_convenience_layers_are_real_classes(name: str) -> None:
    make = getattr(energy, name)
    layer = make((4, 3), tau=2.0, use_bias=True, name="mine", **TEN[name])
    assert make.__name__ == name
    assert "A layer with the Lagrangian L" in make.__doc__
    assert isinstance(layer, make)
    assert isinstance(layer, Layer)
    assert (layer.shape, layer.tau, layer.use_bias, layer.name) == ((4, 3), 2.0, True, "mine")
    assert {k: getattr(layer.lagrangian, k) for k in TEN[name]} == TEN[name]
    for twin in (pickle.loads(pickle.dumps(layer)), copy.deepcopy(layer)):
        assert type(twin) is make
        assert repr(twin) == repr(layer)


def test_a_class_of_ones_own() -> None:
    Mine = MakeLayer(energy.LGhostmax, "my_layer")
    assert Mine is MakeLayer(energy.LGhostmax, "my_layer")
    layer = Mine((3,), beta=2.0)
    assert (type(layer).__name__, layer.name) == ("MyLayer", "my_layer")
    assert isinstance(pickle.loads(pickle.dumps(layer)), Mine)
    assert isinstance(MakeLayer(energy.LGhostmax)((3,)), Layer)
    assert not isinstance(layer, energy.ExpLayer)


def test_a_layer_makes_its_lagrangian() -> None:
    assert Layer(LExp, (5,), init_lagrangian=True, beta=5.0).lagrangian == LExp(5.0)


def test_a_layer_reads_well() -> None:
    assert (
        repr(Layer(energy.LTanh(beta=5.0), (32, 3), use_bias=True))
        == """Layer(
  lagrangian=LTanh(beta=5.0, min_beta=1e-06),
  shape=(32, 3),
  tau=1.0,
  use_bias=True,
  bias=None,
  name='layer'
)"""
    )


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: Layer(LExp, (5,)), TypeError, r"which is no Lagrangian. Wrong: Layer\(LExp, \(5,\)\)"),
        (lambda: Layer(LExp(), (5,), beta=2.0), TypeError, "got beta for a Lagrangian that is made already"),
        (lambda: Layer(LExp(), (5,), tau=0.0), ValueError, r"tau is the time constant .* above 0; got 0\.0"),
        (lambda: Layer(LExp(), (5,), tau=float("nan")), ValueError, "tau is the time constant"),
        (lambda: Layer(LExp(), (5, 0)), ShapeError, r"whole numbers above 0, got \(5, 0\)"),
        (lambda: Layer(LExp(), (2.5,)), ShapeError, r"whole numbers above 0, got \(2.5,\)"),  # type: ignore[arg-type]
        (lambda: Layer(energy.LSoftmax(axis=-2), (5,)), ShapeError, r"acts along axis -2, which a state of shape \(5,\) does not have"),
        (lambda: Layer(LExp(), (5,), bias=np.ones(4)), ShapeError, r"the bias has shape \(4,\), the layer \(5,\)"),
        (lambda: energy.ExpLayer((5,), beta=0.0), ValueError, "beta must be above 0"),
        (lambda: energy.ExpLayer((5,), gamma=0.0), TypeError, "unexpected keyword argument 'gamma'"),
        (lambda: energy.ExpLayer((5,), init_lagrangian=False), TypeError, "which is no Lagrangian"),
    ],
)  # fmt: skip
def test_arguments_that_make_no_layer(make: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        make()


def test_states_that_do_not_fit() -> None:
    layer = energy.TanhLayer((4, 3))
    for x in (np.ones((3, 4)), np.ones(3), np.ones((4, 3, 2))):
        with pytest.raises(ShapeError, match=r"a state has shape \(4, 3\), with batch axes in front of it"):
            layer.energy(x)
    with pytest.raises(DtypeError, match=r"tanh_layer: a neuron state is an array of floats, got int64"):
        layer.activation(np.ones((4, 3), int))


@pytest.mark.parametrize("framework", FRAMEWORKS)
@pytest.mark.parametrize("name", [n for n in TEN if n != "RepuLayer"])
def test_with_a_bias_the_slope_over_activations_is_still_the_state(name: str, framework: str) -> None:
    """dE/dx = ∇²L x: the original's ⟨x − b, g⟩ − L(x − b) gives ∇²L (x − b)."""
    rng = np.random.default_rng(0)
    b, x = rng.standard_normal((2, 3)), rng.standard_normal((2, 3))
    with double(framework):
        layer = getattr(energy, name)((2, 3), bias=array(framework, b), **TEN[name])
        s = array(framework, x)
        np.testing.assert_allclose(
            gradient(framework, layer.energy, x), host(layer.hessian(s, s)), rtol=1e-9, atol=1e-12
        )
        expected = float((s * layer.g(s)).sum() - layer.lagrangian.value(array(framework, x - b)))
        assert float(layer(s)) == pytest.approx(expected, rel=1e-10, abs=1e-12)
        batch = array(framework, np.stack([x, 2 * x, -x]))
        assert host(layer.energy(batch)).shape == (3,)
        np.testing.assert_allclose(
            host(layer.energy(batch))[1], host(layer.energy(array(framework, 2 * x))), rtol=1e-12
        )


def test_a_bias_is_drawn_by_init() -> None:
    layer = energy.TanhLayer((400,), use_bias=True)
    with pytest.raises(ValueError, match=r"no bias was drawn yet. Call layer = layer.init"):
        layer.energy(np.zeros(400))
    drawn = layer.init(0)
    assert isinstance(drawn, energy.TanhLayer)
    assert 0.015 < np.std(drawn.bias) < 0.025
    assert layer.bias is None
    assert drawn.init(1) is drawn
    plain = energy.TanhLayer((4,))
    assert plain.init(0) is plain


def test_states_to_start_from_in_numpy() -> None:
    layer = energy.TanhLayer((4, 3))
    assert layer.init_state().shape == (4, 3)
    assert not layer.init_state(5).any()
    drawn = layer.init_state(500, rng=0)
    assert drawn.shape == (500, 4, 3)
    assert abs(drawn.mean()) < 0.05
    assert abs(drawn.std() - 1) < 0.05
    np.testing.assert_array_equal(drawn, layer.init_state(500, rng=np.random.default_rng(0)))
    with pytest.raises(DtypeError, match=r"Give a JAX key, a torch.Generator, a NumPy generator or an integer seed"):
        layer.init_state(rng="0")


@pytest.mark.torch
def test_states_to_start_from_in_torch() -> None:
    torch = require("torch")
    layer = energy.TanhLayer((4,))
    drawn = layer.init_state(3, rng=torch.Generator().manual_seed(0))
    assert isinstance(drawn, torch.Tensor)
    assert drawn.shape == (3, 4)
    half = layer.init_state(3, rng=0, like=torch.zeros(1, dtype=torch.float16))
    assert half.dtype == torch.float16
    assert layer.init_state(like=drawn).dtype == torch.float32
    assert isinstance(energy.TanhLayer((4,), bias=torch.zeros(4)).init_state(2), torch.Tensor)


@pytest.mark.jax
def test_states_to_start_from_in_jax() -> None:
    jax = require("jax")
    layer = energy.TanhLayer((4,))
    key = jax.random.key(0)
    np.testing.assert_array_equal(layer.init_state(3, rng=key), jax.random.normal(key, (3, 4)))
    assert layer.init_state(3, rng=jax.random.PRNGKey(0), like=jax.numpy.zeros(1, "bfloat16")).dtype == "bfloat16"
    assert isinstance(layer.init_state(2, rng=0, like=jax.numpy.zeros(1)), jax.Array)
    assert isinstance(energy.TanhLayer((4,), use_bias=True).init(key, jax.numpy.ones(4)).bias, jax.Array)


@pytest.mark.jax
def test_plain_jax_transformations() -> None:
    jax = require("jax")
    jnp = jax.numpy
    layer = energy.SigmoidLayer((5,), beta=2.0, use_bias=True).init(jax.random.key(0), jnp.ones(5))
    xs = layer.init_state(7, rng=jax.random.key(1))
    value, slope = jax.jit(jax.value_and_grad(layer.energy))(xs[0])
    assert value.shape == ()
    assert slope.shape == (5,)
    np.testing.assert_allclose(jax.vmap(layer.energy)(xs), layer.energy(xs), rtol=1e-6)
    through = jax.grad(lambda layer, x: layer.energy(x))(layer, xs[0])
    assert isinstance(through, energy.SigmoidLayer)
    assert through.bias.shape == (5,)
    assert float(through.lagrangian.beta) != 0
    assert jax.jit(lambda layer, x: layer(x))(layer, xs[0]).shape == ()


def test_jax_may_be_loaded_after_the_layer_was_made() -> None:
    """Pytrees are registered when a layer is made with JAX loaded, or used with a JAX array."""
    import subprocess
    import sys

    require("jax")
    code = """
import sys
from layerscope import energy
layer = energy.ExpLayer((3,))
assert "jax" not in sys.modules and "torch" not in sys.modules
import jax
layer.energy(jax.numpy.ones(3))
print(len(jax.tree.leaves(layer)), jax.tree.leaves(energy.Layer(energy.LExp(2.0), (3,))))
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert run.stdout.split() == ["1", "[2.0]"], run.stderr

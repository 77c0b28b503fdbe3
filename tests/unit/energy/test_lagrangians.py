"""Single facts of Lagrangians: what they refuse, what they show, dtypes and devices they keep."""

import pickle
from typing import Any

import numpy as np
import pytest

from layerscope import energy
from layerscope._errors import DtypeError
from layerscope.energy._array import namespace
from tests.conftest import require


@pytest.mark.parametrize(
    "make", [energy.LExp, energy.LRexp, energy.LTanh, energy.LSigmoid, energy.LSoftmax, energy.LGhostmax]
)
@pytest.mark.parametrize("beta", [0.0, -1.0, float("nan"), np.array([1.0, -1.0])])
def test_a_beta_that_is_not_positive(make: Any, beta: Any) -> None:
    with pytest.raises(ValueError, match=rf"{make.__name__}: beta must be above 0, got"):
        make(beta)


@pytest.mark.parametrize("make", [energy.LLayerNorm, energy.LSphericalNorm])
def test_norms_refuse_a_scale_that_is_not_positive(make: Any) -> None:
    with pytest.raises(ValueError, match="gamma must be above 0"):
        make(-1.0)
    with pytest.raises(ValueError, match="eps must be above 0"):
        make(eps=0.0)


def test_a_power_of_one_is_no_lagrangian_of_ours() -> None:
    with pytest.raises(ValueError, match=r"LRepu: the power n must be above 1, got 1\.0"):
        energy.LRepu(1.0)


@pytest.mark.parametrize("make", [energy.LSoftmax, energy.LGhostmax, energy.LLayerNorm, energy.LSphericalNorm])
def test_an_axis_is_counted_from_the_end(make: Any) -> None:
    with pytest.raises(ValueError, match="axis must be counted from the end, got 0"):
        make(axis=0)


def test_a_list_is_no_state() -> None:
    with pytest.raises(DtypeError, match=r"expected an array of NumPy, PyTorch or JAX, got a builtins\.list"):
        energy.LTanh().value([1.0, 2.0])


@pytest.mark.parametrize("x", [np.arange(3), np.ones(3, bool), np.ones(3, complex), 1])
def test_a_state_of_integers_is_refused(x: Any) -> None:
    with pytest.raises(DtypeError, match=r"a neuron state is an array of floats, got (int|bool|complex)"):
        energy.LTanh().energy(x)


@pytest.mark.torch
@pytest.mark.jax
def test_two_frameworks_do_not_mix() -> None:
    torch, jnp = require("torch"), require("jax").numpy
    with pytest.raises(DtypeError, match="some arrays are PyTorch tensors and some are JAX arrays"):
        namespace(torch.ones(2), jnp.ones(2))


def test_a_lagrangian_reads_well() -> None:
    assert repr(energy.LSigmoid(beta=5.0)) == "LSigmoid(beta=5.0, scale=1.0, min_beta=1e-06)"
    assert repr(energy.LTanh(np.ones(3))) == "LTanh(beta=float64(3,) (numpy), min_beta=1e-06)"


def test_equal_by_value_frozen_and_picklable() -> None:
    assert energy.LExp(2.0) == energy.LExp(2.0) != energy.LExp(3.0)
    with pytest.raises(AttributeError):
        energy.LExp(2.0).beta = 3.0  # type: ignore[misc]
    assert pickle.loads(pickle.dumps(energy.LSoftmax(2.0, axis=-2))) == energy.LSoftmax(2.0, axis=-2)


def test_float32_stays_float32() -> None:
    x = np.linspace(-1, 1, 5, dtype=np.float32)
    for L in (
        energy.LTanh(np.float64(2.0)),
        energy.LSigmoid(2.0),
        energy.LLayerNorm(1.5),
        energy.LRepu(3),
        energy.LExp(0.5),
    ):
        assert L.activation(x).dtype == L.value(x, 1).dtype == L.energy(x, 1).dtype == np.float32, L


@pytest.mark.torch
def test_a_beta_that_training_pushed_below_zero_stays_at_the_floor() -> None:
    torch = require("torch")
    beta = torch.tensor(1.0, requires_grad=True)
    L = energy.LSoftmax(beta, min_beta=0.5)
    with torch.no_grad():
        beta -= 3
    x = torch.tensor([0.0, 1.0])
    torch.testing.assert_close(L.activation(x), torch.softmax(0.5 * x, -1))


@pytest.mark.torch
def test_a_torch_parameter_learns() -> None:
    torch = require("torch")
    beta = torch.tensor(1.3, requires_grad=True)
    energy.LTanh(beta).value(torch.linspace(-1, 1, 5)).backward()
    assert beta.grad is not None
    assert abs(float(beta.grad)) > 1e-3


@pytest.mark.jax
def test_a_lagrangian_is_a_pytree_of_its_parameters() -> None:
    jax = require("jax")
    L = energy.LSigmoid(2.0, scale=1.5)
    assert jax.tree.leaves(L) == [2.0, 1.5]
    slope = jax.grad(lambda L: L.value(jax.numpy.arange(3.0)))(L)
    assert isinstance(slope, energy.LSigmoid)
    assert float(slope.beta) != 0
    assert jax.jit(lambda L, x: L.activation(x))(L, jax.numpy.zeros(2)).tolist() == [0.75, 0.75]


def test_softmax_along_another_axis() -> None:
    x = np.random.default_rng(0).standard_normal((3, 4))
    np.testing.assert_allclose(energy.LSoftmax(axis=-2).activation(x).sum(0), 1)
    assert energy.LSoftmax(axis=-2).value(x) == pytest.approx(np.log(np.exp(x).sum(0)).sum())


def test_the_relu_has_slope_zero_at_zero_in_every_framework() -> None:
    torch = require("torch")
    x = torch.zeros(2, requires_grad=True)
    energy.LRelu().activation(x).sum().backward()
    assert x.grad is not None
    assert x.grad.tolist() == [0, 0]

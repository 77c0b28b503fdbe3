"""The two experiments of HAMUX's page "Neuron Layers", with the page's code and one import line changed.

The page's key draws other numbers in newer versions of JAX, so the start is embedded: it is what the page's version drew. Energies were computed in
float64 from the definition E = Σ x g − L(x), logged before each of 100 updates x ← x − α dE/dx.
"""

import functools as ft
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from layerscope.compat import hamux
from layerscope.compat.hamux import ExpLayer, Layer, LExp, LTanh
from tests.conftest import require
from tests.unit.energy.autodiff import double, gradient

X0 = [-0.6439154744, 0.0709239766, -0.2470688820, -1.0570739508, 0.1355683804]
SMALL = (1.0, 0.1, {0: -4.539578602, 1: -4.570821639, 50: -4.999661762, 99: -4.999999988})
LARGE = (100.0, 5e-8, {0: 9702158.923, 1: 5512429.856, 50: 316811.2139, 99: 166477.1647})
EXPERIMENTS = [pytest.param(*SMALL, id="step 0.1"), pytest.param(*LARGE, id="from 100 x0, step 5e-8")]


def experiment(layer: Layer, scale: float, step: float, dtype: str = "float64") -> NDArray[Any]:
    """The page's loop in JAX."""
    jax = require("jax")

    @ft.partial(jax.jit, static_argnames=("alpha",))
    def next_x(layer: Layer, x: Any, alpha: float) -> Any:
        dEdx = jax.value_and_grad(layer.energy)
        E, dx = dEdx(x)
        return E, x - alpha * dx

    x = jax.numpy.asarray(scale * np.array(X0), dtype)
    Es = []
    for _ in range(100):
        E, x = next_x(layer, x, step)
        Es.append(E)
    return np.stack(Es)


def check_energies(Es: NDArray[Any], golden: dict[int, float], tolerance: float) -> None:
    """The published energies (ten digits), and never a rise beyond rounding."""
    for at, expected in golden.items():
        assert float(Es[at]) == pytest.approx(expected, rel=tolerance), f"E{at}"
    slack = 2 * np.finfo(Es.dtype).eps * np.abs(Es[:-1])
    assert (np.diff(Es) <= slack).all(), "the energy rose"


@pytest.mark.jax
@pytest.mark.parametrize(("scale", "step", "golden"), EXPERIMENTS)
def test_the_experiment_of_the_page(scale: float, step: float, golden: dict[int, float]) -> None:
    jax = require("jax")
    with double("jax"):
        key = jax.random.PRNGKey(0)
        k1, k2, key = jax.random.split(key, 3)
        layer = ExpLayer((5,), beta=1.0).init(k1, jax.numpy.ones((5,)))
        assert layer.init_state(rng=k2).shape == (5,)
        check_energies(experiment(layer, scale, step), golden, 2e-10)


@pytest.mark.jax
@pytest.mark.parametrize(("scale", "step", "golden"), EXPERIMENTS)
def test_in_float32_rises_are_of_rounding_only(scale: float, step: float, golden: dict[int, float]) -> None:
    require("jax")  # as on the page, JAX is there before the layer is made
    check_energies(experiment(ExpLayer((5,), beta=1.0), scale, step, "float32"), golden, 2e-5)


@pytest.mark.torch
@pytest.mark.parametrize(("scale", "step", "golden"), EXPERIMENTS)
def test_the_same_experiment_in_torch(scale: float, step: float, golden: dict[int, float]) -> None:
    layer, x, Es = ExpLayer((5,), beta=1.0), scale * np.array(X0), []
    for _ in range(100):
        Es.append(float(layer.energy(x)))
        x = x - step * gradient("torch", layer.energy, x)
    check_energies(np.array(Es), golden, 2e-10)


@pytest.mark.parametrize(("scale", "step", "golden"), EXPERIMENTS)
def test_the_same_experiment_in_numpy(scale: float, step: float, golden: dict[int, float]) -> None:
    """Without autodiff: dE/dx = ∇²L x."""
    layer, x, Es = ExpLayer((5,), beta=1.0), scale * np.array(X0), []
    for _ in range(100):
        Es.append(float(layer.energy(x)))
        x = x - step * layer.hessian(x, x)
    check_energies(np.array(Es), golden, 2e-10)


@pytest.mark.jax
def test_the_two_plots_can_be_drawn() -> None:
    import matplotlib.pyplot as plt

    require("jax")
    fig, axes = plt.subplots(2)
    for ax, (scale, step, _), title in zip(
        axes,
        (SMALL, LARGE),
        ("Energy of a disconnected neuron layer over time", "Large $x_0$, small $dt$"),
        strict=True,
    ):
        ax.plot(experiment(ExpLayer((5,), beta=1.0), scale, step, "float32"))
        ax.set_title(title)
        (line,) = ax.lines
        assert len(line.get_ydata()) == 100
        assert np.isfinite(line.get_ydata()).all()
    plt.close(fig)


@pytest.mark.jax
@pytest.mark.parametrize(
    "wrong", [ExpLayer((5,), beta=1.0001), hamux.TanhLayer((5,), beta=1.0)], ids=["beta 1.0001", "tanh"]
)
def test_another_layer_does_not_pass(wrong: Layer) -> None:
    with double("jax"), pytest.raises(AssertionError, match="E0"):
        check_energies(experiment(wrong, *SMALL[:2]), SMALL[2], 2e-10)


def test_an_energy_that_rises_does_not_pass() -> None:
    Es = np.linspace(-4.5, -5.0, 100)
    Es[50] += 0.1
    with pytest.raises(AssertionError, match="the energy rose"):
        check_energies(Es, {0: -4.5}, 1e-6)


def test_all_names_of_the_page_are_there() -> None:
    names = (
        "Layer MakeLayer LIdentity LRepu LRelu LExp LRexp LTanh LSigmoid LSoftmax LLayerNorm LSphericalNorm IdentityLayer RepuLayer ReluLayer "
        "ExpLayer RexpLayer TanhLayer SigmoidLayer SoftmaxLayer LayerNormLayer SphericalNormLayer"
    ).split()
    assert all(hasattr(hamux, name) for name in names)
    assert all(
        hasattr(hamux.lagrangians if name[:2].isupper() and name[0] == "L" else hamux.layers, name) for name in names
    )


def test_the_layer_of_the_page_reads_like_there() -> None:
    text = repr(Layer(LExp(beta=5.0), (32, 32, 3)))
    for part in (
        "Layer(",
        "lagrangian=LExp(",
        "beta=5.0",
        "min_beta=1e-06",
        "shape=(32, 32, 3)",
        "tau=1.0",
        "bias=None",
        "name='layer'",
    ):
        assert part in text


# --- faults of the originals that are not kept ----------------------------------------------------------------------------------------


@pytest.mark.torch
def test_gradients_of_beta_are_alive() -> None:
    """The originals gave dL/dβ = 0 for tanh and sigmoid; by hand d/dβ ln cosh(βx)/β = (βx tanh βx − ln cosh βx)/β²."""
    x, beta = np.array([0.3, -1.2]), 1.5
    slope = gradient("torch", lambda b: LTanh(b).value(require("torch").tensor(x)), beta)
    expected = ((beta * x * np.tanh(beta * x) - np.log(np.cosh(beta * x))) / beta**2).sum()
    assert float(slope) == pytest.approx(float(expected), rel=1e-12)


def test_a_bias_does_not_make_the_energy_rise() -> None:
    """Against the original ⟨x − b, g⟩ − L(x − b), which is not the Legendre dual and rises along τẋ = −dE/dg of the layer that it describes."""
    ups = {"ours": 0, "original": 0}
    rng = np.random.default_rng(0)
    for _ in range(20):
        b = 3 * rng.standard_normal(5)
        layer = hamux.TanhLayer((5,), bias=b)
        x = 2 * rng.standard_normal(5)
        ours, original = [], []
        for _ in range(70):
            g = layer.g(x)
            ours.append(float(layer.energy(x)))
            original.append(float(((x - b) * g).sum() - layer.lagrangian.value(x - b)))
            x = 0.9 * x  # dE/dg = x
        ups["ours"] += int((np.diff(ours) > 1e-12).sum())
        ups["original"] += int((np.diff(original) > 1e-12).sum())
    assert ups["ours"] == 0
    assert ups["original"] > 100


def test_delta_counts_once_for_each_unit() -> None:
    """The original multiplied δ by the number of rows: L(x) = Σ over rows of Dγs + ⟨δ, x⟩, δ once."""
    x = np.arange(6.0).reshape(2, 3)
    delta = np.array([1.0, -1.0, 2.0])
    plain, shifted = hamux.LLayerNorm(), hamux.LLayerNorm(delta=delta)
    assert float(shifted.value(x) - plain.value(x)) == pytest.approx(float((delta * x).sum()))

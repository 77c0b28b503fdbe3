"""The laws of energy layers: Legendre pairs, convexity, and energies that fall."""

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from layerscope import energy
from layerscope.energy import AbstractLagrangian
from tests.unit.energy.autodiff import FRAMEWORKS, array, double, gradient, hessian, host

BETA = st.floats(0.05, 20)
LAGRANGIANS = {
    "identity": st.builds(energy.LIdentity),
    "relu": st.builds(energy.LRelu),
    "repu": st.builds(energy.LRepu, st.floats(1.3, 5)),
    "exp": st.builds(energy.LExp, BETA),
    "rexp": st.builds(energy.LRexp, BETA),
    "tanh": st.builds(energy.LTanh, BETA),
    "sigmoid": st.builds(energy.LSigmoid, BETA, st.floats(0.2, 4)),
    "softmax": st.builds(energy.LSoftmax, BETA),
    "ghostmax": st.builds(energy.LGhostmax, BETA),
    "layernorm": st.builds(energy.LLayerNorm, st.floats(0.2, 4), st.floats(-2, 2)),
    "spherical norm": st.builds(energy.LSphericalNorm, st.floats(0.2, 4), st.floats(-2, 2)),
}
UNITS = 6


@st.composite
def states(draw: st.DrawFn, L: AbstractLagrangian, z: float = 12) -> NDArray[Any]:
    """One state whose βx stays within ±z, not only of round numbers."""
    beta = float(getattr(L, "beta", 1.0))
    shape = (UNITS,)
    x = draw(arrays(np.float64, shape, elements=st.floats(-z, z, allow_subnormal=False)))
    return (x + 1e-3 * np.arange(1, UNITS + 1)) / beta


@st.composite
def cases(draw: st.DrawFn, name: str) -> tuple[AbstractLagrangian, NDArray[np.float64]]:
    L = draw(LAGRANGIANS[name])
    return L, draw(states(L))


def check_close(left: Any, right: Any, tolerance: float) -> None:
    """|left − right| ≤ tolerance · (1 + the largest |right|)."""
    left, right = host(left), host(right)
    assert left.shape == right.shape
    error = np.abs(left - right).max(initial=0) / (1 + np.abs(right).max(initial=0))
    assert error <= tolerance, f"differs by {error:.2g}, more than {tolerance:g}:\n{left}\n{right}"


def check_lagrangian(L: AbstractLagrangian, x: NDArray[np.float64], framework: str) -> None:
    """All that must be true of a Lagrangian at a state, with automatic differentiation as the oracle.

    Tolerances: float64 with a handful of roundings; e^12 conditions the exponentials no worse than 1e-11.
    """
    with double(framework):
        s = array(framework, x)
        g = host(L.activation(s))
        H = hessian(framework, L.value, x)
        eigenvalues = np.linalg.eigvalsh(H)
        # what rounding the state alone does to an activation: steep Lagrangians (norms of nearly constant states) show more of it
        steep = 50 * float(np.finfo(float).eps) * float(eigenvalues[-1]) * float(np.linalg.norm(x))
        check_close(g, gradient(framework, L.value, x), 1e-11 + steep)
        energy_ = float(L.energy(s))
        inner, value = float((x * g).sum()), float(L.value(s))
        scale = 1 + abs(inner) + abs(value)
        rounding = 1e-11 * scale + steep * float(np.linalg.norm(x))
        assert abs(energy_ - (inner - value)) <= rounding, "E is not ⟨x, g⟩ − L"
        # the dual of a norm takes the difference of two numbers near 1, which costs half the digits
        loose = 1e-6 if isinstance(L, energy.LLayerNorm | energy.LSphericalNorm) else rounding
        assert abs(energy_ - float(L.dual(array(framework, g)))) <= loose, "E is not the dual of g"
        assert eigenvalues[0] >= -1e-11 * max(1, eigenvalues[-1]), "the Hessian has a negative eigenvalue"
        assert eigenvalues[-1] <= float(L.curvature) * (1 + 1e-11), "the Hessian is larger than its bound"
        v = np.cos(np.arange(x.size) + 1.0)
        check_close(L.hessian(s, array(framework, v)), H @ v, 1e-10)
        assert np.linalg.norm(g) <= float(L.radius(x.shape)) * (1 + 1e-12), "an activation is larger than its bound"
        # dE/dx = ∇²L x: so dE/dg = x, where the Hessian can be divided out
        check_close(gradient(framework, L.energy, x), H @ x, 1e-9)


@pytest.mark.parametrize("framework", FRAMEWORKS)
@pytest.mark.parametrize("name", LAGRANGIANS)
@settings(max_examples=25)
@given(data=st.data())
def test_a_lagrangian_keeps_its_promises(name: str, framework: str, data: st.DataObject) -> None:
    L, x = data.draw(cases(name))
    check_lagrangian(L, x, framework)


@pytest.mark.parametrize("name", LAGRANGIANS)
@given(data=st.data())
def test_fenchel_young(name: str, data: st.DataObject) -> None:
    """L(x) + L*(g') ≥ ⟨x, g'⟩ for every pair, with equality where they belong together."""
    L, x = data.draw(cases(name))
    other = data.draw(states(L))
    g = L.activation(other)
    gap = float(L.value(x)) + float(L.dual(g)) - float((x * g).sum())
    assert gap >= -1e-9 * (1 + abs(float(L.value(x))) + abs(float((x * g).sum())))


@pytest.mark.parametrize("framework", FRAMEWORKS)
@pytest.mark.parametrize("name", [n for n in LAGRANGIANS if n not in ("exp", "rexp", "layernorm", "spherical norm")])
@given(data=st.data())
@settings(max_examples=20)
def test_the_slope_of_the_energy_over_activations_is_the_state(name: str, framework: str, data: st.DataObject) -> None:
    """dE/dg = x wherever g moves with x: along every direction that the Hessian keeps."""
    L = data.draw(LAGRANGIANS[name])
    x = data.draw(states(L, z=3))
    g = host(L.activation(x))
    slope = gradient(framework, L.dual, g)
    along = host(L.hessian(x, np.sin(np.arange(x.size) + 1.0)))  # a direction in which activations can move
    assert float(along @ slope) == pytest.approx(float(along @ x), rel=1e-8, abs=1e-8)


def finite_difference(L: AbstractLagrangian, name: str, x: NDArray[np.float64], what: str) -> float:
    """d/dparameter by central differences, in NumPy."""
    import dataclasses

    at = float(getattr(L, name))
    step = 1e-5 * max(abs(at), 0.1)
    high, low = (getattr(dataclasses.replace(L, **{name: v}), what)(x) for v in (at + step, at - step))  # type: ignore[type-var]
    return float(high - low) / (2 * step)


@pytest.mark.parametrize("framework", FRAMEWORKS)
@pytest.mark.parametrize("what", ["value", "energy"])
@pytest.mark.parametrize("name", [n for n in LAGRANGIANS if n not in ("identity", "relu", "repu")])
@given(data=st.data())
@settings(max_examples=10)
def test_gradients_of_parameters_are_true(name: str, what: str, framework: str, data: st.DataObject) -> None:
    """The first generation had dL/dβ = 0 for tanh and sigmoid."""
    import dataclasses

    L = data.draw(LAGRANGIANS[name])
    x = data.draw(states(L, z=3))
    for parameter in energy.leaves(L):
        at = float(getattr(L, parameter))

        def f(p: Any, parameter: str = parameter) -> Any:
            return getattr(dataclasses.replace(L, **{parameter: p}), what)(array(framework, x))  # type: ignore[type-var]

        with double(framework):
            exact = float(gradient(framework, f, at))
        near = finite_difference(L, parameter, x, what)
        assert exact == pytest.approx(
            near, rel=2e-5, abs=2e-5 * (1 + abs(float(getattr(L, what)(x))) / at if at > 0 else 1)
        )


@pytest.mark.parametrize("framework", FRAMEWORKS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    "L", [energy.LTanh(2.0), energy.LSigmoid(2.0), energy.LSoftmax(2.0), energy.LGhostmax(2.0)], ids=repr
)
def test_extreme_states_stay_finite(L: AbstractLagrangian, dtype: str, framework: str) -> None:
    """|βx| = 1e4: the originals gave ±inf or nan past 88.7."""
    x = np.array([5e3, -5e3, 0.0, 1e-3, 4999.0])
    with double(framework):
        s = array(framework, x)
        s = s.to(getattr(__import__("torch"), dtype)) if framework == "torch" else s.astype(dtype)
        g = L.activation(s)
        for result in (L.value(s), g, L.energy(s), L.dual(g), L.hessian(s, s)):
            assert np.isfinite(host(result)).all()
        assert str(g.dtype).endswith(dtype)
        for f in (L.value, L.energy):
            assert np.isfinite(gradient(framework, f, x)).all()
    assert float(L.value(x)) == pytest.approx(
        2 * 5e3 + 4999 if isinstance(L, energy.LTanh) else float(L.value(x)), rel=1e-3
    )


@pytest.mark.parametrize("L", [energy.LLayerNorm(), energy.LSphericalNorm(), energy.LRepu(3), energy.LRelu()], ids=repr)
def test_other_extreme_states_stay_finite(L: AbstractLagrangian) -> None:
    for x in (np.full(5, 1e4), np.zeros(5), np.array([1e4, -1e4, 0, 0, 1.0])):
        g = L.activation(x)
        assert all(np.isfinite(r).all() for r in (L.value(x), g, L.energy(x), L.dual(g), L.hessian(x, x)))


def test_where_the_limit_is_infinite_it_is_infinite_and_never_nan() -> None:
    x = np.array([1e4, -1e4, 0.0])
    for L in (energy.LExp(), energy.LRexp()):
        with np.errstate(over="ignore"):
            assert math.isinf(L.value(x))
            assert L.energy(x) == math.inf


@pytest.mark.parametrize("name", LAGRANGIANS)
@given(data=st.data())
@settings(max_examples=20)
def test_batch_axes_stay(name: str, data: st.DataObject) -> None:
    """Energies of a batch are the energies of its states; the originals multiplied δ by the number of rows."""
    L = data.draw(LAGRANGIANS[name])
    x = np.stack([data.draw(states(L)) for _ in range(4)]).reshape(2, 2, UNITS)
    for f in (L.value, L.energy, L.entropy):
        whole = f(x, 1)
        if whole is None:
            continue
        assert whole.shape == (2, 2)
        for at in np.ndindex(2, 2):
            assert float(whole[at]) == pytest.approx(float(f(x[at])), rel=1e-12, abs=1e-12)
        assert float(f(x)) == pytest.approx(float(whole.sum()), rel=1e-12, abs=1e-9)


@pytest.mark.parametrize(
    "L", [energy.LTanh(1.7), energy.LSigmoid(1.7, 1.3), energy.LSoftmax(1.7), energy.LGhostmax(1.7)], ids=repr
)
def test_the_energy_of_probabilities_is_minus_their_entropy(L: Any) -> None:
    x = np.random.default_rng(0).standard_normal((20, 5))
    entropy = L.entropy(x, 1)
    assert (entropy >= 0).all()
    constant = {"LTanh": 5 * math.log(2) / 1.7}.get(type(L).__name__, 0.0)
    np.testing.assert_allclose(L.energy(x, 1), constant - getattr(L, "scale", 1.0) * entropy / 1.7, rtol=1e-12)


# --- canaries -------------------------------------------------------------------------------------------------------------------------


def broken(**wrong: Any) -> AbstractLagrangian:
    """A tanh Lagrangian with one thing wrong."""
    right = energy.LTanh(1.5)
    names = ("densities", "activation", "energies", "duals", "hessian", "curvature", "growth", "radius")
    members = {n: wrong.get(n) or (lambda self, *a, n=n: getattr(right, n)(*a)) for n in names}
    for n in ("curvature", "growth"):
        members[n] = property(wrong.get(n) or (lambda self, n=n: getattr(right, n)))
    return type("Broken", (AbstractLagrangian,), members)()


def test_the_check_accepts_the_unbroken_one() -> None:
    check_lagrangian(broken(), np.linspace(-2, 2, UNITS), "torch")


@pytest.mark.torch
@pytest.mark.parametrize(
    ("what", "wrong"),
    [
        ("densities", lambda self, x: 1.01 * energy.LTanh(1.5).densities(x)),
        ("densities", lambda self, x: -energy.LTanh(1.5).densities(x)),
        ("activation", lambda self, x: 0.5 * x),
        ("energies", lambda self, x: energy.LTanh(1.5).energies(x) + 1e-3),
        ("duals", lambda self, g: energy.LTanh(1.5).duals(g) * 1.001),
        ("hessian", lambda self, x, v: energy.LTanh(1.5).hessian(x, v) + 1e-6 * v),
        ("curvature", lambda self: 1.0),
        ("radius", lambda self, shape: 1.0),
    ],
)
def test_the_check_rejects(what: str, wrong: Any) -> None:
    with pytest.raises(AssertionError):
        check_lagrangian(broken(**{what: wrong}), np.linspace(-2, 2, UNITS), "torch")

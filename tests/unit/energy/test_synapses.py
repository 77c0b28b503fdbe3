"""Every synapse: its force is minus the slope of its energy, batches are batches, and each is what its name says."""

import math
from typing import Any

import numpy as np
import pytest

from layerscope import energy
from layerscope._errors import ShapeError
from layerscope.energy import AbstractSynapse
from tests.conftest import require
from tests.unit.energy.autodiff import FRAMEWORKS, array, double, gradient, host
from tests.unit.energy.networks import Shapes, synapses

SYNAPSES = synapses()


def check_synapse(synapse: AbstractSynapse, shapes: Shapes, framework: str, seed: int = 0) -> None:
    """Forces against autodiff, and a batch against its states one by one."""
    rng = np.random.default_rng(seed)
    fitted = synapse.fit(shapes)
    ranks = [len(shape) for shape in shapes]
    gs = [rng.standard_normal((2, 3, *shape)) for shape in shapes]
    with double(framework):
        whole, forces = fitted.pull([array(framework, g) for g in gs], ranks)
        assert whole.shape == (2, 3)
        for at in np.ndindex(2, 3):
            one = [g[at] for g in gs]
            alone = float(fitted.energy(*[array(framework, g) for g in one]))
            assert alone == pytest.approx(float(whole[at]), rel=1e-12, abs=1e-12)
            for n in range(len(gs)):

                def f(x: Any, n: int = n, one: list[Any] = one) -> Any:
                    return fitted.energy(*[x if m == n else array(framework, g) for m, g in enumerate(one)])

                np.testing.assert_allclose(host(forces[n][at]), -gradient(framework, f, one[n]), rtol=1e-9, atol=1e-9)
        only = fitted.pull([array(framework, g) for g in gs], ranks, [len(gs) - 1])
        assert list(only[1]) == [len(gs) - 1]
        np.testing.assert_allclose(host(only[1][len(gs) - 1]), host(forces[len(gs) - 1]), rtol=1e-12, atol=1e-12)
        np.testing.assert_allclose(host(only[0]), host(whole), rtol=1e-12, atol=1e-12)
    on_numpy, pulled = fitted.pull(gs, ranks)
    np.testing.assert_allclose(host(whole), on_numpy, rtol=1e-12, atol=1e-12)
    for n, force in forces.items():
        np.testing.assert_allclose(host(force), pulled[n], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("framework", FRAMEWORKS)
@pytest.mark.parametrize("name", SYNAPSES)
def test_forces_are_minus_the_slope(name: str, framework: str) -> None:
    check_synapse(*SYNAPSES[name], framework)


@pytest.mark.torch
@pytest.mark.parametrize("name", ["dense", "attention", "convolution"])
def test_the_check_sees_a_wrong_force(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    synapse, shapes = SYNAPSES[name]
    right = type(synapse).pull

    def wrong(self: Any, gs: Any, ranks: Any = None, wanted: Any = None) -> Any:
        made, forces = right(self, gs, ranks, wanted)
        return made, {n: f * (1.001 if n == 0 else 1) for n, f in forces.items()}

    monkeypatch.setattr(type(synapse), "pull", wrong)
    with pytest.raises(AssertionError):
        check_synapse(synapse, shapes, "torch")


@pytest.mark.parametrize("name", SYNAPSES)
def test_the_coupling_bounds_the_upward_curvature(name: str) -> None:
    """vᵀ∇²E v ≤ Σ B |v_i||v_j|, by second differences along random directions, from activations within the radii."""
    synapse, shapes = SYNAPSES[name]
    fitted = synapse.fit(shapes)
    if isinstance(synapse, energy.ConvSynapse) and synapse.pool is not None and synapse.pool.kind == "max":
        assert all(math.isinf(b) for row in fitted.coupling(shapes, [1.0, 1.0]) for b in row)
        return
    rng, radius, h = np.random.default_rng(1), 1.5, 1e-3
    B = np.array(fitted.coupling(shapes, [radius] * len(shapes)), float)
    assert np.isfinite(B).all()
    tight = 0.0
    for _ in range(200):
        gs = [_within(rng, shape, radius - h) for shape in shapes]
        vs = [_within(rng, shape, 1.0) for shape in shapes]
        up, down = ([g + sign * h * v for g, v in zip(gs, vs, strict=True)] for sign in (1, -1))
        second = float(fitted.energy(*up) + fitted.energy(*down) - 2 * fitted.energy(*gs)) / h**2
        norms = np.array([np.linalg.norm(v) for v in vs])
        bound = float(norms @ B @ norms)
        assert second <= bound + 1e-6
        tight = max(tight, second / bound if bound else 0.0)
    assert tight <= 1 + 1e-6


def _within(rng: np.random.Generator, shape: tuple[int, ...], radius: float) -> Any:
    x = rng.standard_normal(shape)
    return x / np.linalg.norm(x) * radius


# --- each is what its name says -------------------------------------------------------------------------------------------------------


@pytest.mark.torch
@pytest.mark.parametrize(("stride", "padding"), [(1, 1), (2, 0), ((2, 1), 2)])
def test_convolution_is_that_of_torch(stride: Any, padding: int) -> None:
    torch = require("torch")
    rng = np.random.default_rng(0)
    kernel, image = rng.standard_normal((3, 3, 2, 4)), rng.standard_normal((5, 8, 7, 2))
    theirs = torch.nn.functional.conv2d(
        torch.tensor(image).permute(0, 3, 1, 2), torch.tensor(kernel).permute(3, 2, 0, 1), stride=stride, padding=padding
    ).permute(0, 2, 3, 1)  # fmt: skip
    synapse = energy.ConvSynapse(kernel, stride, padding)
    shapes = ((8, 7, 2), tuple(theirs.shape[1:]))
    ours = synapse.fit(shapes).pull([image, np.zeros(theirs.shape)], [3, 3])[1][1]
    np.testing.assert_allclose(ours, theirs.numpy(), rtol=1e-12, atol=1e-12)


@pytest.mark.torch
@pytest.mark.parametrize("kind", ["avg", "max"])
def test_pooling_is_that_of_torch(kind: Any) -> None:
    torch = require("torch")
    rng = np.random.default_rng(0)
    kernel, image = rng.standard_normal((3, 3, 2, 4)), rng.standard_normal((5, 9, 9, 2))
    seen = torch.nn.functional.conv2d(
        torch.tensor(image).permute(0, 3, 1, 2), torch.tensor(kernel).permute(3, 2, 0, 1), padding=1
    )
    pool = torch.nn.functional.avg_pool2d if kind == "avg" else torch.nn.functional.max_pool2d
    theirs = pool(seen, 3, 2).permute(0, 2, 3, 1)
    synapse = energy.ConvSynapse(kernel, pool=energy.Pool(3, 2, kind))
    ours = synapse.fit(((9, 9, 2), (4, 4, 4))).pull([image, np.zeros((5, 4, 4, 4))], [3, 3])[1][1]
    np.testing.assert_allclose(ours, theirs.numpy(), rtol=1e-12, atol=1e-12)


def test_same_padding_of_a_stride_covers_the_image_as_it_does_in_keras() -> None:
    """Size 5, window 3, stride 2: three windows, one place of padding on either side."""
    synapse = energy.ConvSynapse(np.array([1.0, 10.0, 100.0]).reshape(3, 1, 1), stride=2)
    x = np.arange(1.0, 6).reshape(1, 5, 1)
    seen = synapse.fit(((5, 1), (3, 1))).pull([x, np.zeros((1, 3, 1))], [2, 2])[1][1]
    assert seen.ravel().tolist() == [210.0, 432.0, 54.0]


def softmax(z: Any) -> Any:
    e = np.exp(z - z.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def test_the_force_on_queries_is_attention() -> None:
    rng = np.random.default_rng(0)
    Wq, Wk = rng.standard_normal((2, 4, 3)), rng.standard_normal((2, 5, 3))
    q, k, beta = rng.standard_normal((6, 4)), rng.standard_normal((7, 5)), 0.6
    synapse = energy.AttentionSynapse(Wq, Wk, energy.LSoftmax(beta)).fit(((6, 4), (7, 5)))
    expected = sum(softmax(beta * (q @ Wq[h]) @ (k @ Wk[h]).T) @ (k @ Wk[h]) @ Wq[h].T for h in range(2))
    np.testing.assert_allclose(synapse.forces(q, k)[0], expected, rtol=1e-12, atol=1e-12)


def test_a_hidden_layer_is_a_layer_at_its_minimum() -> None:
    """E_h(x) − W g g_h with x at −∂E_syn/∂g_h is what the synapse says it is, with the layer integrated out."""
    rng = np.random.default_rng(0)
    W, b, beta = rng.standard_normal((5, 7)), rng.standard_normal(7), 1.7
    explicit = energy.HAM(
        {"v": energy.IdentityLayer((5,)), "h": energy.SoftmaxLayer((7,), beta=beta)},
        {"W": energy.DenseSynapse(W), "b": energy.BiasSynapse(b)},
        [(("v", "h"), "W"), (("h",), "b")],
    )
    implicit = energy.HAM(
        {"v": energy.IdentityLayer((5,))}, [energy.HiddenSynapse(W, energy.LSoftmax(beta), b)], [(("v",), 0)]
    )
    xs = explicit.init_states(20, rng=1)
    at_minimum = explicit.step(xs, energy.Exact(("h",)))
    np.testing.assert_allclose(explicit.energy(at_minimum), implicit.energy({"v": xs["v"]}), rtol=1e-12)
    np.testing.assert_allclose(
        explicit.dEdg(at_minimum)["v"], implicit.dEdg({"v": xs["v"]})["v"], rtol=1e-11, atol=1e-12
    )
    assert (explicit.energy(xs) >= implicit.energy({"v": xs["v"]}) - 1e-12).all()  # it is the minimum


def test_a_polynomial_hidden_layer_is_the_dense_associative_memory() -> None:
    rng = np.random.default_rng(0)
    patterns, g = np.sign(rng.standard_normal((9, 6))), np.sign(rng.standard_normal(6))
    synapse = energy.HiddenSynapse(patterns.T, energy.LRepu(3.0))
    assert float(synapse.energy(g)) == pytest.approx(-(np.maximum(patterns @ g, 0) ** 3).sum() / 3)


def test_random_weights_have_the_asked_size() -> None:
    W = energy.DenseSynapse.random(0, (30, 10), (40,), scale=0.5)
    assert W.W.shape == (300, 40)
    assert 0.49 < W.W.std() < 0.51
    assert energy.AttentionSynapse.random(0, (6, 4), (7, 5), heads=3, z=2).Wk.shape == (3, 5, 2)
    assert energy.SelfAttentionSynapse.random(0, (6, 4), heads=3, z=2).Wk.shape == (3, 4, 2)
    assert energy.ConvSynapse.random(0, (3, 3), (2, 4), stride=2).kernel.shape == (3, 3, 2, 4)


# --- what does not fit ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("synapse", "shapes", "message"),
    [
        (energy.DenseSynapse(np.ones((5, 4))), ((5,), (3,)), r"layers of 5 and 4 units; got layers of shapes \(5,\), \(3,\).*must have shape \(5, 3\)"),
        (energy.DenseSynapse(np.ones((5, 4))), ((5,), (4,), (3,)), r"must have shape \(5, 4, 3\)"),
        (energy.BiasSynapse(np.ones(3)), ((4,),), "Give b the shape of the layer"),
        (energy.HiddenSynapse(np.ones((5, 4)), energy.LRelu()), ((6,),), "one matrix a layer"),
        (energy.HiddenSynapse(np.ones((5, 4)), energy.LRelu(), np.ones(3)), ((5,),), "b is one number a hidden unit"),
        (energy.TensorHiddenSynapse(np.ones((7, 5)), energy.LRelu()), ((4,),), r"W must have shape \('hidden', 4\)"),
        (energy.AttentionSynapse(np.ones((1, 4, 2)), np.ones((1, 4, 2))), ((6, 4),), "take SelfAttentionSynapse"),
        (energy.SelfAttentionSynapse(np.ones((1, 4, 2)), np.ones((1, 4, 2))), ((6, 4), (6, 4)), "take AttentionSynapse"),
        (energy.AttentionSynapse(np.ones((1, 4, 2)), np.ones((2, 4, 2))), ((6, 4), (6, 4)), "with the same heads and z"),
        (energy.AttentionSynapse(np.ones((1, 4, 2)), np.ones((1, 4, 2))), ((6, 4), (6, 5)), "queries of 4 and keys of 4 features"),
        (energy.ConvSynapse(np.ones((3, 3, 1, 2))), ((8, 8), (8, 8, 2)), "two layers with 2 spatial axes and channels"),
        (energy.ConvSynapse(np.ones((3, 3, 1, 2))), ((8, 8, 1), (8, 8, 3)), "1 channels with 2"),
        (energy.ConvSynapse(np.ones((3, 3, 1, 2)), 2), ((8, 8, 1), (8, 8, 2)), r"with a second of shape \(4, 4, 2\)"),
        (energy.ConvSynapse(np.ones((9, 9, 1, 2)), padding="valid"), ((8, 8, 1), (1, 1, 2)), "no window of size"),
        (energy.ConvSynapse(np.ones((3, 3, 1, 2)), padding="reflect"), ((8, 8, 1), (8, 8, 2)), "padding must be 'same', 'valid' or a number"),
        (energy.ConvSynapse(np.ones((3, 3, 1, 2)), (1, 1, 1)), ((8, 8, 1), (8, 8, 2)), "give one number an axis"),
        (energy.ConvSynapse(np.ones((3, 3, 1, 2)), 0), ((8, 8, 1), (8, 8, 2)), "must be above 0"),
    ],
)  # fmt: skip
def test_a_synapse_that_does_not_fit(synapse: AbstractSynapse, shapes: Shapes, message: str) -> None:
    with pytest.raises(ShapeError, match=message):
        synapse.fit(shapes)


def test_kernels_and_pools_are_checked_when_made() -> None:
    with pytest.raises(ShapeError, match=r"must be \(\*window, channels in, channels out\)"):
        energy.ConvSynapse(np.ones((3, 3)))
    with pytest.raises(ValueError, match="kind must be 'avg' or 'max', got 'mean'"):
        energy.Pool(2, kind="mean")  # type: ignore[arg-type]

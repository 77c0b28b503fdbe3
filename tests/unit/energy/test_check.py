"""Certificates say what is proved, what is measured, and why not; ledgers balance; attractors are counted by where they are."""

import math
from typing import Any

import numpy as np
import pytest

from layerscope import energy
from layerscope._errors import DataError, ShapeError, SiteError
from layerscope.energy import HAM, Exact, Safe
from tests.conftest import require
from tests.unit.energy.autodiff import FRAMEWORKS, double
from tests.unit.energy.networks import two_layers, zoo


def pair(visible: Any, hidden: Any, W: Any, feels: Any = ("v", "h")) -> HAM:
    return HAM(
        {"v": visible, "h": hidden}, {"W": energy.DenseSynapse(np.asarray(W, float))}, [(("v", "h"), "W", feels)]
    )


def test_a_memory_has_every_guarantee() -> None:
    found = two_layers(0).check()
    assert found.symmetric
    assert found.bounded
    assert found.exact
    assert found.sound
    assert all(found.convex.values())
    assert found.safe_step == pytest.approx(two_layers(0).safe_step())
    assert not found.rises
    assert found.dead["v"] == 0
    assert found.dead["h"] >= 1  # a constant added to a softmax layer changes nothing
    assert found.together == ("h",)
    assert found.reasons == ()
    assert "Euler with dt up to" in found.guarantee
    assert "and exact updates never raise the energy" in str(found)
    assert "clamp units of h all together or not at all" in str(found)


def test_an_asymmetric_connection_runs_with_the_right_sign_and_no_guarantee() -> None:
    """v drives h, h does not drive back: the slope of h is that of the energy, the slope of v has no force in it."""
    ham = pair(energy.IdentityLayer((3,)), energy.TanhLayer((2,)), np.ones((3, 2)), "h")
    xs = ham.init_states(2, rng=0)
    gs, slopes = ham.activations(xs), ham.dEdg(xs)
    np.testing.assert_allclose(slopes["h"], xs["h"] - gs["v"] @ np.ones((3, 2)), rtol=1e-12)
    np.testing.assert_array_equal(slopes["v"], xs["v"])
    found = ham.check()
    assert not found.symmetric
    assert found.guarantee.startswith("no guarantee")
    assert "the connection W between v, h is asymmetric" in found.guarantee
    assert found.safe_step == 0
    with pytest.raises(ValueError, match=r"Safe: no step size is safe for this network.*ham\.check\(\) names it"):
        ham.run(xs, 3, Safe())


def test_an_exponential_layer_has_no_safe_step_but_exact_updates() -> None:
    found = pair(energy.IdentityLayer((3,)), energy.ExpLayer((2,)), np.ones((3, 2))).check()
    assert found.safe_step == 0
    assert found.exact
    assert "a safe step size, as the Lagrangian of h has no bound on its curvature" in found.reasons
    assert not found.bounded
    assert "which may have no lower bound" in found.guarantee
    assert found.guarantee.startswith("exact updates never raise")


def test_attention_with_itself_has_a_safe_step_but_no_exact_updates() -> None:
    ham = HAM(
        {"t": energy.LayerNormLayer((4, 3), eps=0.1)},
        [energy.SelfAttentionSynapse.random(0, (4, 3), z=2, scale=1.0)],
        [("t", 0)],
    )
    found = ham.check()
    assert found.safe_step > 0
    assert not found.exact
    assert "not concave in one layer alone" in str(found)
    assert not found.rises


def test_a_layer_coupled_to_itself_has_no_exact_updates() -> None:
    ham = HAM({"t": energy.TanhLayer((3,))}, [energy.DenseSynapse(np.eye(3))], [(("t", "t"), 0)])
    found = ham.check()
    assert not found.exact
    assert found.safe_step == pytest.approx(1 / 3)  # λ = 2‖W‖ M
    assert not found.rises


@pytest.mark.parametrize(
    ("visible", "hidden", "size", "bounded"),
    [
        (energy.IdentityLayer((3,)), energy.SoftmaxLayer((2,)), 9.0, True),
        (energy.IdentityLayer((3,)), energy.ReluLayer((2,)), 0.3, True),
        (energy.IdentityLayer((3,)), energy.ReluLayer((2,)), 9.0, False),
        (energy.RepuLayer((3,), n=3.0), energy.TanhLayer((2,)), 9.0, True),
        (energy.RepuLayer((3,), n=3.0), energy.RepuLayer((2,), n=1.4), 9.0, True),
        (energy.RepuLayer((3,), n=3.0), energy.RepuLayer((2,), n=3.0), 9.0, False),
        (energy.ExpLayer((3,)), energy.SigmoidLayer((2,)), 9.0, True),
    ],
)
def test_whether_the_energy_has_a_lower_bound(visible: Any, hidden: Any, size: float, bounded: bool) -> None:
    """Held against a search: along growing states the energy of the unbounded ones falls below any number."""
    ham = pair(visible, hidden, size * np.ones((3, 2)))
    if "ExpLayer" in type(visible).__name__:
        bounded = False  # an exponential layer times a bounded one grows as fast as its own energy without the logarithm: not proved
    assert ham.check(steps=0).bounded is bounded
    scales = np.array([1.0, 10.0, 100.0]) if "Exp" not in type(visible).__name__ else np.array([1.0, 2.0, 4.0])
    xs = {"v": np.ones((3, 3)) * scales[:, None], "h": np.ones((3, 2)) * scales[:, None]}
    ends = ham.energy(xs)
    if not bounded and "Exp" not in type(visible).__name__:
        assert ends[2] < ends[1] < ends[0]
        assert ends[2] < -1000


def test_a_lagrangian_that_is_not_convex_is_seen() -> None:
    right = energy.LTanh(1.0)

    class Wavy(energy.AbstractLagrangian):
        """sin: its slope rises and falls."""

        def densities(self, x: Any) -> Any:
            return -np.cos(x)

        def activation(self, x: Any) -> Any:
            return np.sin(x)

        def energies(self, x: Any) -> Any:
            return x * np.sin(x) + np.cos(x)

        def duals(self, g: Any) -> Any:
            return right.duals(g)

        def hessian(self, x: Any, v: Any) -> Any:
            return np.cos(x) * v

        @property
        def curvature(self) -> float:
            return 1.0

        @property
        def growth(self) -> float:
            return 1.0

        def radius(self, shape: tuple[int, ...]) -> float:
            return math.sqrt(math.prod(shape))

    found = HAM({"w": energy.Layer(Wavy(), (4,))}, {}, []).check()
    assert found.convex == {"w": False}
    assert found.guarantee.startswith(
        "no guarantee: there is no proof for any descent, as the Lagrangian of w is not convex"
    )
    assert found.rises


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_networks_of_any_framework_are_checked(framework: str) -> None:
    with double(framework):
        theirs = zoo(framework).check(steps=5)
    ours = zoo().check(steps=5)
    assert theirs.safe_step == pytest.approx(ours.safe_step, rel=1e-9)
    assert theirs.guarantee == ours.guarantee


@pytest.mark.jax
def test_the_safe_step_can_be_traced() -> None:
    jax = require("jax")
    with double("jax"):
        ham = two_layers(3, framework="jax")
        traced = jax.jit(lambda ham: ham.safe_step())(ham)
        assert float(traced) == pytest.approx(two_layers(3).safe_step(), rel=1e-9)


# --- the ledger -----------------------------------------------------------------------------------------------------------------------


def test_the_ledger_balances() -> None:
    ham = two_layers(3, "sigmoid")
    xs = ham.init_states(50, rng=0)
    book = ham.ledger(xs, 6, 0.2)
    np.testing.assert_allclose(book.energy, book.interaction + sum(book.layers.values()), rtol=1e-12)
    for name in ("v", "h"):
        np.testing.assert_allclose(book.layers[name], -book.entropies[name] / book.betas[name], rtol=1e-12)
    np.testing.assert_allclose(book.energy[0], ham.energy(xs).mean(), rtol=1e-12)
    assert str(book).count("\n") == 8
    assert "observed over 50 states" in str(book)


def test_the_entropy_of_a_state_is_not_the_entropy_of_states() -> None:
    """Ten sure states, all different: each has no entropy, together they have ln 10."""
    ham = HAM({"h": energy.SoftmaxLayer((10,))}, {}, [])
    book = ham.ledger({"h": 500 * np.eye(10)}, 0)
    assert book.entropies["h"][0] == pytest.approx(0, abs=1e-12)
    assert book.observed["h"][0] == pytest.approx(math.log(10))
    same = ham.ledger({"h": np.zeros((10, 10))}, 0)
    assert same.entropies["h"][0] == pytest.approx(math.log(10))
    assert same.observed["h"][0] == 0


def test_overlaps_are_cosines_of_what_may_move() -> None:
    ham, rng = two_layers(3), np.random.default_rng(0)
    xs, target = ham.init_states(6, rng=0), rng.standard_normal((6, 12))
    each = rng.random((6, 12)) < 0.4
    run = ham.run(xs, 4, 0.2, {"v": each}, read="g")
    found = ham.ledger(xs, 4, 0.2, {"v": each}, {"v": target}).overlaps
    assert found is not None
    for step in range(5):
        for one in range(6):
            a, b = run.read["v"][step, one, ~each[one]], target[one, ~each[one]]
            assert found[step, one] == pytest.approx(a @ b / np.linalg.norm(a) / np.linalg.norm(b), rel=1e-12)
    shared = ham.ledger(xs, 1, 0.2, target={"v": target[0]}).overlaps
    own = ham.ledger(xs, 1, 0.2, target={"v": np.tile(target[0], (6, 1))}).overlaps
    np.testing.assert_array_equal(shared, own)
    both = ham.ledger(xs, 0, target={"v": target, "h": np.ones((6, 9))}).overlaps
    a, b = np.concatenate([xs["v"], ham.activations(xs)["h"]], 1), np.concatenate([target, np.ones((6, 9))], 1)
    assert both is not None
    np.testing.assert_allclose(
        both[0], (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1), rtol=1e-12
    )


def test_a_state_of_zeros_overlaps_with_nothing() -> None:
    found = two_layers(0).ledger(two_layers(0).init_states(2), 0, target={"v": np.ones(12)}).overlaps
    assert np.isnan(found).all()  # type: ignore[arg-type]


def test_targets_that_fit_no_layer() -> None:
    ham = two_layers(0)
    xs = ham.init_states(3)
    with pytest.raises(SiteError, match="no layer is called 'w'"):
        ham.ledger(xs, 1, target={"w": np.ones(12)})
    with pytest.raises(SiteError, match=r"ledger: the target names no layer\. Give a pattern by layer: \{'v': …\}"):
        ham.ledger(xs, 1, target={})
    for wrong in (np.ones(9), np.ones((2, 12))):
        with pytest.raises(
            ShapeError, match=r"ledger: the target of 'v' has shape .*; it must be \(12,\), or one a state"
        ):
            ham.ledger(xs, 1, target={"v": wrong})


# --- attractors -----------------------------------------------------------------------------------------------------------------------


def test_fixed_points_of_a_softmax_memory_are_counted_by_distance() -> None:
    """145 fixed points, thresholded at 0, would be one state: every activation is positive."""
    rng = np.random.default_rng(0)
    patterns = rng.standard_normal((145, 64))
    memory = energy.memory(patterns, beta=40.0)
    found = memory.retrieve(patterns + 0.01 * rng.standard_normal(patterns.shape))
    assert np.unique(np.asarray(found.weights) > 0, axis=0).shape[0] == 1
    by_distance = energy.attractors(found.states)
    assert by_distance.count == energy.attractors(found.weights, by="argmax").count == 145
    assert by_distance.sizes.tolist() == [1] * 145
    twice = energy.attractors(np.concatenate([found.states, found.states]))
    assert (twice.count, set(twice.sizes.tolist())) == (145, {2})
    np.testing.assert_array_equal(twice.label[:145], np.arange(145))
    assert "145 attractors of 290 states, the largest with 2" in repr(twice)


def test_attractors_that_cannot_be_counted() -> None:
    with pytest.raises(DataError, match="some states are NaN or infinite"):
        energy.attractors(np.array([[np.nan]]))
    with pytest.raises(DataError, match=r"give states as an array \(states, units\)"):
        energy.attractors(np.zeros(3))
    with pytest.raises(ValueError, match="by must be 'distance' or 'argmax', got 'sign'"):
        energy.attractors(np.zeros((3, 2)), by="sign")  # type: ignore[arg-type]


# --- retrieval as a model -------------------------------------------------------------------------------------------------------------


def test_a_retrieval_reads_every_layer_at_every_step() -> None:
    ham = two_layers(0)
    retrieval = ham.retrieval(clamp={"v": np.arange(12) < 4}, steps=3)
    batch = np.random.default_rng(0).standard_normal((5, 12))
    assert retrieval.sites()[:3] == [("v", 0), ("h", 0), ("v", 1)]
    read = {(name, step): x for name, step, x in retrieval(batch)}
    assert list(read) == retrieval.sites()
    run = ham.run({"v": batch, "h": np.zeros((5, 9))}, 3, clamp={"v": np.arange(12) < 4}, read="g")
    for (name, step), x in read.items():
        np.testing.assert_array_equal(x, run.read[name][step])
    np.testing.assert_array_equal(retrieval.run(batch).energies, run.energies)
    assert repr(retrieval) == "3 steps of Euler(dt=0.1) from 'v', clamped v, reading activations of v, h"
    states = {(n, s): x for n, s, x in ham.retrieval(steps=2, read="x")(batch)}
    np.testing.assert_array_equal(states["v", 0], batch)
    both = ham.retrieval(steps=1, descent=Exact()).start({"v": batch, "h": np.ones((5, 9))})
    assert (both["h"] == 1).all()
    assert ham.retrieval().start(batch[0])["h"].shape == (9,)


def test_retrievals_that_cannot_be() -> None:
    ham = two_layers(0)
    with pytest.raises(SiteError, match="no layer is called 'x'"):
        ham.retrieval(input="x")
    with pytest.raises(SiteError, match="no layer is called 'x'"):
        ham.retrieval(clamp="x")
    with pytest.raises(ValueError, match="read must be 'x'"):
        ham.retrieval(read="y")  # type: ignore[arg-type]
    with pytest.raises(
        ShapeError, match=r"'v' takes \(12,\), or a batch of them along one axis in front; got \(2, 3, 12\)"
    ):
        ham.retrieval().start(np.zeros((2, 3, 12)))


def test_a_mask_may_come_with_the_batch() -> None:
    ham, rng = two_layers(0), np.random.default_rng(0)
    batch, known = rng.standard_normal((5, 12)), rng.random((5, 12)) < 0.5
    retrieval = ham.retrieval(clamp={"v": "known"}, steps=3)
    found = retrieval.run({"v": batch, "known": known})
    given = ham.run({"v": batch, "h": np.zeros((5, 9))}, 3, clamp={"v": known}, read="g")
    np.testing.assert_array_equal(found.read["v"], given.read["v"])
    assert (found.states["v"][known] == batch[known]).all()
    with pytest.raises(SiteError, match=r"the batch has no mask 'known'\. Give \{'v': x, 'known': mask\}"):
        retrieval.run(batch)
    with pytest.raises(SiteError, match=r"the batch has masks and no state"):
        retrieval.run({"known": known})
    with pytest.raises(SiteError, match="a mask that comes with the batch is called 'h', like a layer"):
        ham.retrieval(clamp={"v": "h"})
    with pytest.raises(ShapeError, match=r"the mask of 'v' has shape \(4, 12\)"):
        retrieval.run({"v": batch, "known": known[:4]})


# --- Lagrangians by the name of an activation -----------------------------------------------------------------------------------------


@pytest.mark.torch
@pytest.mark.parametrize("name", ["relu", "tanh", "sigmoid", "exp", "identity"])
def test_the_lagrangian_of_an_activation(name: str) -> None:
    torch = require("torch")
    x = torch.linspace(-3, 3, 13)
    theirs = x if name == "identity" else getattr(torch, name)(x)
    torch.testing.assert_close(energy.lagrangian_of(name).activation(x), theirs)


@pytest.mark.torch
@pytest.mark.parametrize("name", ["gelu", "silu", "mish", "hardswish"])
def test_no_lagrangian_for_what_falls(name: str) -> None:
    """And it does fall, where and how far the message says."""
    torch = require("torch")
    with pytest.raises(SiteError, match="The gradient of a convex Lagrangian never falls") as caught:
        energy.lagrangian_of(name)
    x = torch.linspace(-4, 1, 500001, dtype=torch.float64)
    y = getattr(torch.nn.functional, name)(x)
    assert f"to {float(y.min()):.3f} at x = {float(x[y.argmin()]):.3f}".replace(".375", ".375").rstrip("0") in str(
        caught.value
    ) or (f"to {float(y.min()):.3f} at x = {float(x[y.argmin()]):g}" in str(caught.value))


def test_lagrangians_that_are_not_here() -> None:
    with pytest.raises(
        SiteError, match="'softplus' is monotone and has a Lagrangian, but its closed forms are not written here"
    ):
        energy.lagrangian_of("softplus")
    with pytest.raises(SiteError, match=r"no activation is called 'rellu'; known are .* Did you mean 'relu'"):
        energy.lagrangian_of("rellu")

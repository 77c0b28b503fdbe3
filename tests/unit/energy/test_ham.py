"""Networks: energies by part, names, shapes, clamps, parameters and files; and every bad input at the place where it is made."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from layerscope import energy
from layerscope._errors import DataError, DtypeError, ShapeError, SiteError
from layerscope.energy import HAM
from tests.conftest import require
from tests.unit.energy.autodiff import ALL, FRAMEWORKS, array, compiled, double, gradient, host
from tests.unit.energy.networks import two_layers, zoo

V, H = energy.IdentityLayer((12,)), energy.SoftmaxLayer((9,))
W = np.ones((12, 9))


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_slopes_are_those_of_the_energy(framework: str) -> None:
    """dEdx against autodiff of the whole energy; dEdg is then right, as ∇²L is checked elsewhere."""
    with double(framework):
        ham = zoo(framework)
        plain = {
            name: np.random.default_rng(n).standard_normal(layer.shape)
            for n, (name, layer) in enumerate(ham.layers.items())
        }
        xs = {name: array(framework, x) for name, x in plain.items()}
        slopes = compiled(framework, ham.dEdx)(xs)
        for name in ham.layers:

            def f(x: Any, name: str = name) -> Any:
                return ham.energy({**xs, name: x})

            np.testing.assert_allclose(host(slopes[name]), gradient(framework, f, plain[name]), rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_the_same_numbers_in_every_framework(framework: str) -> None:
    ham = zoo()
    xs = ham.init_states(6, rng=1)
    reference = ham.run(xs, 15, 0.2, record="parts", read="g")
    with double(framework):
        theirs = zoo(framework).run({n: array(framework, x) for n, x in xs.items()}, 15, 0.2, record="parts", read="g")
        np.testing.assert_allclose(host(theirs.energies), reference.energies, rtol=1e-11)
        for part in ("layer_energies", "synapse_energies", "entropies", "read"):
            assert set(getattr(theirs, part)) == set(getattr(reference, part))
            for name, values in getattr(reference, part).items():
                np.testing.assert_allclose(host(getattr(theirs, part)[name]), values, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_a_numpy_network_runs_on_any_states(framework: str) -> None:
    ham = two_layers(0)
    xs = ham.init_states(4, rng=1)
    with double(framework):
        energies = ham.energy({n: array(framework, x) for n, x in xs.items()})
        np.testing.assert_allclose(host(energies), ham.energy(xs), rtol=1e-12)
        assert type(energies) is type(array(framework, 1.0))


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_numpy_states_follow_the_parameters(framework: str) -> None:
    xs = two_layers(0).init_states(4, rng=1)
    with double(framework):
        assert type(two_layers(0, framework=framework).energy(xs)) is type(array(framework, 1.0))


def test_the_energy_is_the_sum_of_its_parts() -> None:
    ham = zoo()
    xs = ham.init_states(5, rng=2)
    parts = ham.energies(xs)
    assert set(parts["layers"]) == {"image", "map", "tokens", "code"}
    assert set(parts["synapses"]) == set(ham.synapses)
    assert all(values.shape == (5,) for part in parts.values() for values in part.values())
    np.testing.assert_allclose(ham.energy(xs), sum(sum(part.values()) for part in parts.values()), rtol=1e-13)
    gs = ham.activations(xs)
    for name, values in ham.synapse_energies(gs).items():
        np.testing.assert_array_equal(values, parts["synapses"][name])
    for name, values in ham.layer_energies(xs).items():
        np.testing.assert_array_equal(values, parts["layers"][name])


def test_batches_are_their_states_one_by_one() -> None:
    ham = zoo()
    xs = ham.init_states(4, rng=2)
    whole, slopes = ham.energy(xs), ham.dEdg(xs)
    for at in range(4):
        one = {name: x[at] for name, x in xs.items()}
        assert float(ham.energy(one)) == pytest.approx(float(whole[at]), rel=1e-12)
        for name, slope in ham.dEdg(one).items():
            np.testing.assert_allclose(slope, slopes[name][at], rtol=1e-11, atol=1e-12)
    deep = {name: x.reshape(2, 2, *x.shape[1:]) for name, x in xs.items()}
    np.testing.assert_allclose(ham.energy(deep), whole.reshape(2, 2), rtol=1e-12)


def test_a_run_of_a_batch_is_the_runs_of_its_states() -> None:
    ham = zoo()
    xs, clamp = ham.init_states(3, rng=2), {"image": np.arange(32).reshape(4, 4, 2) < 9}
    whole = ham.run(xs, 5, 0.2, clamp)
    for at in range(3):
        one = ham.run({name: x[at] for name, x in xs.items()}, 5, 0.2, clamp)
        np.testing.assert_allclose(one.energies, whole.energies[:, at], rtol=1e-12)
        for name, x in one.states.items():
            np.testing.assert_allclose(x, whole.states[name][at], rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("framework", ALL)
@pytest.mark.parametrize("descent", [energy.Euler(0.1), energy.Exact(), energy.Backtracking()], ids=repr)
def test_a_batch_without_states(descent: Any, framework: str) -> None:
    with double(framework):
        ham = zoo(framework)
        xs = {name: array(framework, x) for name, x in zoo().init_states(0).items()}
        run = ham.run(xs, 2, descent, record="parts")
        assert tuple(run.energies.shape) == (3, 0)
        assert {n: tuple(x.shape) for n, x in run.states.items()} == {n: (0, *la.shape) for n, la in ham.layers.items()}
        assert tuple(ham.until(xs, descent=descent).steps.shape) == (0,)


def test_what_has_no_mean_without_states() -> None:
    ham = two_layers(0)
    with pytest.raises(DataError, match="ledger: the batch has no state, and nothing has a mean"):
        ham.ledger(ham.init_states(0), 2)
    with pytest.raises(DataError, match="check: there is no state to measure at"):
        ham.check(ham.init_states(0))


@pytest.mark.jax
def test_batches_are_vmap() -> None:
    jax = require("jax")
    with double("jax"):
        ham = zoo("jax")
        xs = ham.init_states(4, rng=jax.random.key(0))
        energies = jax.jit(lambda ham, xs: ham.energy(xs))(ham, xs)
        np.testing.assert_allclose(jax.jit(jax.vmap(ham.energy))(xs), energies, rtol=1e-12)
        ran = jax.jit(jax.vmap(lambda xs: ham.run(xs, 5).energies))(xs)
        np.testing.assert_allclose(ran.T, ham.run(xs, 5).energies, rtol=1e-11)


# --- building -------------------------------------------------------------------------------------------------------------------------


def test_lists_and_numbers_build_the_same_network() -> None:
    named = HAM({"v": V, "h": H}, {"W": energy.DenseSynapse(W)}, [(("v", "h"), "W")])
    listed = HAM([V, H, V], [energy.DenseSynapse(W)], [((0, 1), 0), ((2, 1), 0)])
    assert list(listed.layers) == ["identity_layer_0", "softmax_layer", "identity_layer_2"]
    xs = named.init_states(3, rng=0)
    both = {"identity_layer_0": xs["v"], "softmax_layer": xs["h"], "identity_layer_2": np.zeros((3, 12))}
    np.testing.assert_allclose(listed.energy(both), named.energy(xs), rtol=1e-12)


@pytest.mark.parametrize(
    ("layers", "synapses", "connections", "error", "message"),
    [
        ({"v": V, "hid": H}, {"W": energy.DenseSynapse(W)}, [(("v", "hidd"), "W")], SiteError, r"no layer is called 'hidd'; layers are: v, hid. Did you mean 'hid'\?"),
        ({"v": V, "h": H}, {"W": energy.DenseSynapse(W)}, [(("v", "h"), "w")], SiteError, "no synapse is called 'w'; synapses are: W"),
        ({"v": V, "h": H}, {"W": energy.DenseSynapse(W)}, [((0, 2), 0)], SiteError, "there is no layer number 2; there are 2, from 0: v, h"),
        ({"v": V, "h": H}, {"W": energy.DenseSynapse(W.T)}, [(("v", "h"), "W")], ShapeError, r"the synapse 'W' does not fit v, h. DenseSynapse: connects layers of 9 and 12 units"),
        ({"v": V, "h": H}, {"W": energy.DenseSynapse(W), "U": energy.DenseSynapse(W)}, [(("v", "h"), "W")], SiteError, "no connection uses U"),
        ({"v": V, "h": H}, {"W": energy.DenseSynapse(W)}, ["vh"], ValueError, r"cannot read the connection 'vh'. A connection is \(layers, synapse\)"),
        ({"v": V, "h": H}, {"W": energy.DenseSynapse(W)}, [(("v", "h"), "W", ("x",))], SiteError, "no layer is called 'x'"),
        ({"v": V, "h": H, "o": V}, {"W": energy.DenseSynapse(W)}, [(("v", "h"), "W", ("o",))], ValueError, r"\['o'\] cannot feel the synapse 'W'"),
        ({}, {}, [], ValueError, "there is no layer"),
        ({"v": 3}, {}, [], TypeError, "layer 'v' is a int; it must be a Layer"),
        ({"v": V}, {"W": W}, [], TypeError, "synapse 'W' is a ndarray; it must be a AbstractSynapse"),
        ({"v": energy.TanhLayer((3,), use_bias=True)}, {}, [], ValueError, "layer 'v' has use_bias=True and no bias yet"),
    ],
)  # fmt: skip
def test_what_makes_no_network(
    layers: Any, synapses: Any, connections: Any, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        HAM(layers, synapses, connections)


def test_states_that_do_not_fit_the_network() -> None:
    ham = two_layers(0)
    xs = ham.init_states(3)
    with pytest.raises(SiteError, match=r"no layer is called 'hh'; layers are: v, h. Did you mean 'h'"):
        ham.energy({**xs, "hh": xs["h"]})
    with pytest.raises(SiteError, match=r"no state for h. Start from ham.init_states"):
        ham.energy({"v": xs["v"]})
    with pytest.raises(SiteError, match=r"states are a dict by layer, \{'v', 'h'\}; got a list"):
        ham.energy(list(xs.values()))  # type: ignore[arg-type]
    with pytest.raises(
        ShapeError, match=r"a state of 'v' has shape \(12,\), with batch axes in front of it; got \(12, 3\)"
    ):
        ham.run({**xs, "v": xs["v"].T}, 3)
    with pytest.raises(ShapeError, match=r"layers disagree about the batch axes: v has \(3,\), h has none"):
        ham.step({**xs, "h": np.zeros(9)})
    with pytest.raises(DtypeError, match="v: a neuron state is an array of floats, got int64"):
        ham.until({**xs, "v": xs["v"].astype(int)})


def test_numbers_of_steps_and_names_of_settings() -> None:
    ham = two_layers(0)
    xs = ham.init_states()
    for call, message in (
        (lambda: ham.run(xs, -1), "steps must be a whole number ≥ 0, got -1"),
        (lambda: ham.run(xs, 2.5), r"got 2\.5"),  # type: ignore[arg-type]
        (lambda: ham.run(xs, 2, 0.0), "Euler: dt must be above 0"),
        (lambda: ham.run(xs, 2, record="all"), "record must be 'energy', 'parts' or 'nothing', got 'all'"),  # type: ignore[arg-type]
        (lambda: ham.run(xs, 2, read="y"), "read must be 'x'"),  # type: ignore[arg-type]
        (lambda: energy.Backtracking(shrink=2.0), "shrink must lie between 0 and 1"),
    ):
        with pytest.raises(ValueError, match=message):
            call()
    with pytest.raises(SiteError, match="no layer is called 'x'"):
        ham.run(xs, 2, energy.Exact(("x",)))


def test_clamps_that_do_not_fit() -> None:
    ham = two_layers(0)
    xs = ham.init_states(3)
    with pytest.raises(SiteError, match=r"no layer is called 'w'"):
        ham.run(xs, 2, clamp="w")
    with pytest.raises(ShapeError, match=r"the mask of 'v' has shape \(5,\); it must be \(12,\), or \(3, 12\)"):
        ham.run(xs, 2, clamp={"v": np.ones(5, bool)})
    with pytest.raises(DtypeError, match=r"the mask of 'v' holds float64; it must hold True where .* mask > 0\.5"):
        ham.run(xs, 2, clamp={"v": np.full(12, 0.4)})
    with pytest.raises(
        SiteError, match="the mask of 'v' is the name 'known', which only a retrieval takes from its batch"
    ):
        ham.run(xs, 2, clamp={"v": "known"})
    ones = ham.run(xs, 2, clamp={"v": np.arange(12) % 2}).states["v"]
    np.testing.assert_array_equal(ones, ham.run(xs, 2, clamp={"v": np.arange(12) % 2 == 1}).states["v"])


# --- parameters -----------------------------------------------------------------------------------------------------------------------


def test_parameters_have_paths() -> None:
    ham = zoo()
    assert {
        "layers.image.lagrangian.beta",
        "layers.map.bias",
        "synapses.memory.Ws.1",
        "synapses.look.lagrangian.beta",
    } <= set(ham.parameters())
    other = ham.with_parameters({"layers.code.lagrangian.beta": 9.0})
    assert other.layers["code"].lagrangian.beta == 9.0  # type: ignore[attr-defined]
    assert ham.layers["code"].lagrangian.beta == 2.0  # type: ignore[attr-defined]
    with pytest.raises(SiteError, match=r"no parameter is called 'layers.code.lagrangian.bta'; .*Did you mean"):
        ham.with_parameters({"layers.code.lagrangian.bta": 1.0})
    with pytest.raises(ShapeError, match=r"synapses.bias.b has shape \(5,\), got \(4,\)"):
        ham.with_parameters({"synapses.bias.b": np.ones(4)})


@pytest.mark.parametrize("framework", ["numpy", *FRAMEWORKS])
def test_saved_and_loaded_without_pickle(framework: str, tmp_path: Path) -> None:
    with double(framework):
        ham = zoo(framework)
        ham.save(tmp_path / "ham.npz")
        zeros = ham.with_parameters({p: 0 * v + 0.5 for p, v in ham.parameters().items()})
        back = zeros.load(tmp_path / "ham.npz")
        for path, value in ham.parameters().items():
            assert type(back.parameters()[path]) is type(value)
            np.testing.assert_array_equal(host(back.parameters()[path]), host(value))
    with pytest.raises(DataError, match=r"ham.npz has parameters .* Build the same network first"):
        two_layers(0).load(tmp_path / "ham.npz")


@pytest.mark.torch
def test_a_module_registers_parameters_and_learns() -> None:
    torch = require("torch")
    from layerscope.energy.torch import Module

    module = Module(two_layers(0), fixed=("layers.*",))
    assert [name for name, _ in module.named_parameters()] == ["synapses__W__W"]
    assert [name for name, _ in module.named_buffers()] == ["layers__h__lagrangian__beta"]
    xs = module.ham.init_states(8, rng=torch.Generator().manual_seed(0))
    target = torch.randn(8, 12, generator=torch.Generator().manual_seed(1))
    optimiser = torch.optim.Adam(module.parameters(), 0.05)
    losses = []
    for _ in range(30):
        loss = ((module(xs, 5, 0.5)["v"] - target) ** 2).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.8 * losses[0]
    twin = Module(two_layers(1), fixed=("layers.*",))
    twin.load_state_dict(module.state_dict())
    torch.testing.assert_close(twin.energy(xs), module.energy(xs))
    swapped = torch.func.functional_call(module, {"synapses__W__W": torch.zeros(12, 9)}, (xs, 1))
    assert not torch.allclose(swapped["v"], module(xs, 1)["v"])
    assert "W=float32(12, 9) (torch)" in repr(module)


@pytest.mark.torch
@pytest.mark.parametrize("descent", [0.1, energy.Exact(), energy.Backtracking()], ids=repr)
def test_a_module_compiles_without_a_break(descent: Any) -> None:
    torch = require("torch")
    from layerscope.energy.torch import Module

    module = Module(zoo())
    xs = module.ham.init_states(3, rng=torch.Generator().manual_seed(0))
    compiled = torch.compile(module, backend="aot_eager", fullgraph=True)
    clamp = {"image": np.arange(32).reshape(4, 4, 2) < 7}
    made, expected = compiled(xs, 3, descent, clamp), module(xs, 3, descent, clamp)
    for name, x in expected.items():
        torch.testing.assert_close(made[name], x)


@pytest.mark.jax
def test_a_network_is_a_pytree_that_an_optimiser_takes() -> None:
    jax = require("jax")
    assert len(jax.tree.leaves(zoo("jax"))) == len(zoo("jax").parameters())
    ham = two_layers(0, framework="jax")
    xs = ham.init_states(3, rng=jax.random.key(0))
    slope = jax.jit(jax.grad(lambda ham: ham.run(xs, 4).energies[-1].sum()))(ham)
    assert isinstance(slope, HAM)
    assert list(slope.layers) == list(ham.layers) == ["v", "h"]  # JAX sorts the keys of a dict
    stepped = jax.tree.map(lambda p, s: p - 1e-3 * s, ham, slope)
    assert float(stepped.run(xs, 4).energies[-1].sum()) < float(ham.run(xs, 4).energies[-1].sum())


@pytest.mark.jax
def test_the_loop_is_compiled_once() -> None:
    jax = require("jax")
    from layerscope.energy import jax as face

    descend: Any = face.descend

    ham = two_layers(0, framework="jax")
    xs = ham.init_states(3, rng=jax.random.key(0))
    before = descend._cache_size()
    for dt in (0.1, 0.2, 0.3):
        ham.with_parameters({"synapses.W.W": ham.parameters()["synapses.W.W"] * dt}).run(xs, 7, dt)
    assert descend._cache_size() == before + 1


class Quiet(energy.AbstractLagrangian):
    """A Lagrangian of one's own, without parameters: the identity's."""

    def densities(self, x: Any) -> Any:
        return x * x / 2

    def energies(self, x: Any) -> Any:
        return x * x / 2

    def duals(self, g: Any) -> Any:
        return g * g / 2

    def activation(self, x: Any) -> Any:
        return x

    def hessian(self, x: Any, v: Any) -> Any:
        return v

    @property
    def curvature(self) -> float:
        return 1.0

    @property
    def growth(self) -> float:
        return 2.0

    def radius(self, shape: tuple[int, ...]) -> float:
        return float("inf")


@pytest.mark.jax
def test_a_lagrangian_of_ones_own_walks_everywhere() -> None:
    jax = require("jax")
    mine = HAM({"v": energy.Layer(Quiet(), (12,)), "h": H}, {"W": energy.DenseSynapse(W)}, [(("v", "h"), "W")])
    ours = HAM({"v": V, "h": H}, {"W": energy.DenseSynapse(W)}, [(("v", "h"), "W")])
    xs = ours.init_states(3, rng=jax.random.key(0), like=jax.numpy.zeros(1))
    np.testing.assert_array_equal(mine.run(xs, 3).energies, ours.run(xs, 3).energies)
    assert mine.check().guarantee == ours.check().guarantee
    assert list(mine.parameters()) == list(ours.parameters())


@pytest.mark.torch
def test_torch_types_that_do_not_mix_are_named() -> None:
    torch = require("torch")
    ham = two_layers(0, framework="torch")
    xs = {name: x.float() for name, x in ham.init_states(3).items()}
    with pytest.raises(
        DtypeError,
        match=r"the state of v is torch.float32, .*synapses.W.W is torch.float64. Give states and parameters one type",
    ):
        ham.run(xs, 2)
    half = {name: x.to(torch.bfloat16) for name, x in xs.items()}
    assert (
        two_layers(0).run(half, 2).states["v"].dtype == torch.bfloat16
    )  # a NumPy network takes the type of its states

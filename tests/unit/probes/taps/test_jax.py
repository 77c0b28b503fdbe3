"""`tap` and `reap`: every program of a matrix gives every tapped value, its own output and its own gradient, or is refused by name.

The references are NumPy loops written out by hand; nothing of them goes through a JAX transformation.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from layerscope._errors import DtypeError, SiteError
from layerscope._site import Site
from tests.conftest import require

pytestmark = pytest.mark.jax
jax = require("jax")
import jax.numpy as jnp  # noqa: E402
from jax import lax  # noqa: E402

from layerscope.probes.taps import reap, tap  # noqa: E402

RNG = np.random.default_rng(0)
W = (RNG.normal(size=(4, 4)) * 0.6).astype(np.float32)
X = RNG.normal(size=(3, 4)).astype(np.float32)
CUBE = RNG.normal(size=(5, 3, 4)).astype(np.float32)

Tap = Callable[[str, Any], Any]
Values = dict[str, Any]


def layer(h: np.ndarray) -> np.ndarray:
    return np.tanh(h @ W)


def stacked(step: Callable[[np.ndarray, Any], np.ndarray], start: np.ndarray, over: Any) -> np.ndarray:
    """Every value of a recurrence."""
    out: list[np.ndarray] = []
    for each in over:
        start = step(start, each)
        out.append(start)
    return np.stack(out)


LOOP = stacked(lambda c, v: layer(c + v), X[0], X)
THRICE = stacked(lambda c, _: layer(c), X, range(3))
ROWS = np.stack([stacked(lambda c, v: layer(c + v), rows[0], rows) for rows in CUBE])  # (5, 3, 4): sample, step, unit


def programs(tap: Tap) -> dict[str, tuple[Callable[[Any], Any], Any, Values]]:
    """Programs by name: the function, its argument, and the values of its taps by site."""

    def lay(h: Any) -> Any:
        return tap("h", jnp.tanh(h @ W))

    def loop(z: Any) -> Any:
        return lax.scan(lambda c, v: (lay(c + v), None), z[0], z)[0]

    def two(h: Any) -> Any:
        return tap("b", jnp.tanh(tap("a", jnp.tanh(h @ W)) @ W))

    def unused(h: Any) -> Any:
        lay(h)
        return jnp.sin(h)

    @jax.custom_jvp
    def ruled(h: Any) -> Any:
        return tap("h", jnp.sin(h))

    ruled.defjvp(lambda p, t: (ruled(p[0]), 3 * t[0]))

    @jax.custom_vjp
    def straight(h: Any) -> Any:
        return tap("h", jnp.sign(h))

    straight.defvjp(lambda h: (straight(h), None), lambda _, ct: (ct,))
    cached = jax.jit(lay)
    rows = jax.vmap(lambda r: lay(r))

    def scan_in_scan(c: Any) -> Any:
        def outer(carry: Any, rows: Any) -> Any:
            return lax.scan(lambda k, v: (lay(k + v), None), carry, rows)[0], None

        return lax.scan(outer, c[0, 0], c)[0].sum()

    nested = stacked(lambda k, v: layer(k + v), CUBE[0, 0], CUBE.reshape(15, 4)).reshape(5, 3, 4)
    once, again = layer(X), layer(2 * X)
    both = {"a": once, "b": layer(once)}
    one = {"h": once}
    return {
        # the fourteen of the proof
        "plain": (lambda x: lay(x).sum(), X, one),
        "inner jit": (lambda x: jax.jit(lay)(x).sum(), X, one),
        "inner vmap": (lambda x: jax.vmap(lay)(x).sum(), X, one),
        "scan": (lambda x: loop(x).sum(), X, {"h": LOOP}),
        "remat": (lambda x: jax.checkpoint(lay)(x).sum(), X, one),
        "grad": (lambda x: jax.grad(lambda z: lay(z).sum())(x).sum(), X, one),
        "grad(scan)": (lambda x: jax.grad(lambda z: loop(z).sum())(x).sum(), X, {"h": LOOP}),
        "grad(remat)": (lambda x: jax.grad(lambda z: jax.checkpoint(lay)(z).sum())(x).sum(), X, one),
        "jit(scan(vmap))": (
            jax.jit(lambda x: lax.scan(lambda c, v: (c + rows(x).sum(), None), 0.0, x)[0]),
            X,
            {"h": np.stack([once] * 3, axis=1)},  # mapped axes come before those of loops
        ),
        "fori_loop": (lambda x: lax.fori_loop(0, 3, lambda i, c: lay(c), x).sum(), X, {"h": THRICE}),
        "twice": (lambda x: (lay(x) + lay(2 * x)).sum(), X, {"h": once, "h#1": again}),
        "before a custom rule": (lambda x: jax.nn.relu(lay(x)).sum(), X, one),
        # further nestings
        "cached inner jit twice": (lambda x: (cached(x) + cached(2 * x)).sum(), X, {"h": once, "h#1": again}),
        "jit in jit": (jax.jit(lambda x: jax.jit(lambda y: cached(y) + cached(2 * y))(x).sum()), X, {"h": once, "h#1": again}),
        "jit(vmap(scan(jit)))": (
            jax.jit(lambda c: jax.vmap(lambda z: lax.scan(lambda k, v: (cached(k + v), None), z[0], z)[0])(c).sum()),
            CUBE,
            {"h": ROWS},
        ),
        "vmap(grad)": (lambda x: jax.vmap(jax.grad(lambda r: lay(r).sum()))(x).sum(), X, one),
        "grad(vmap)": (lambda x: jax.grad(lambda z: rows(z).sum())(x).sum(), X, one),
        "grad(scan(remat))": (
            lambda x: jax.grad(lambda z: lax.scan(lambda c, v: (jax.checkpoint(lay)(c + v), None), z[0], z)[0].sum())(x).sum(),
            X,
            {"h": LOOP},
        ),
        "grad(remat(scan))": (lambda x: jax.grad(lambda z: jax.checkpoint(loop)(z).sum())(x).sum(), X, {"h": LOOP}),
        "grad(jit(remat(jit)))": (
            lambda x: jax.grad(lambda z: jax.jit(jax.checkpoint(cached))(z).sum())(x).sum(), X, one,
        ),
        "two taps in remat": (lambda x: jax.grad(lambda z: jax.checkpoint(two)(z).sum())(x).sum(), X, both),
        "remat that keeps all": (
            lambda x: jax.grad(
                lambda z: jax.checkpoint(two, policy=jax.checkpoint_policies.everything_saveable)(z).sum()
            )(x).sum(), X, both,
        ),
        "nested remat": (
            lambda x: jax.grad(lambda z: jax.checkpoint(lambda h: jnp.sin(jax.checkpoint(two)(h)))(z).sum())(x).sum(),
            X, both,
        ),
        "grad of grad of remat": (
            lambda x: jax.grad(lambda y: jax.grad(lambda z: jax.checkpoint(lay)(z).sum())(y).sum())(x).sum(), X, one,
        ),
        "grad of grad of scan": (
            lambda x: jax.grad(lambda y: jax.grad(lambda z: loop(z).sum())(y).sum())(x).sum(), X, {"h": LOOP},
        ),
        "hessian": (lambda x: jax.hessian(lambda z: lay(z).sum())(x).sum(), X, one),
        "scan in scan": (scan_in_scan, CUBE, {"h": nested}),
        "grad(scan in scan)": (lambda c: jax.grad(scan_in_scan)(c).sum(), CUBE, {"h": nested}),
        "two taps in a scan": (
            lambda x: lax.scan(lambda c, v: (lay(c + v) + lay(v), None), x[0], x)[0].sum(),
            X,
            {
                "h": layer(stacked(lambda c, v: layer(c + v) + layer(v), X[0], X)[[0, 0, 1]] * [[0], [1], [1]] + X + X[:1] * [[1], [0], [0]]),
                "h#1": layer(X),
            },
        ),
        "scan backwards": (
            lambda x: lax.scan(lambda c, v: (lay(c + v), None), x[0], x, reverse=True)[0].sum(),
            X,
            {"h": stacked(lambda c, v: layer(c + v), X[0], X[::-1])[::-1]},
        ),
        "scan unrolled": (
            lambda x: lax.scan(lambda c, v: (lay(c + v), None), x[0], x, unroll=2)[0].sum(), X, {"h": LOOP},
        ),
        "map": (lambda c: lax.map(lay, c).sum(), CUBE, {"h": layer(CUBE)}),
        "vmap over axis 1": (lambda x: jax.vmap(lay, in_axes=1)(x.T).sum(), X, one),
        "vmap over the last axis": (
            lambda c: jax.vmap(lambda z: tap("h", jnp.tanh(z)), in_axes=2, out_axes=1)(c).sum(), CUBE, {"h": np.tanh(np.moveaxis(CUBE, 2, 0))},
        ),
        "vmap in vmap": (lambda c: jax.vmap(jax.vmap(lay))(c).sum(), CUBE, {"h": layer(CUBE)}),
        "vmap over 1 in vmap over 2": (
            lambda c: jax.vmap(jax.vmap(lambda r: tap("h", jnp.tanh(r)), in_axes=1), in_axes=2)(c).sum(),
            CUBE,
            {"h": np.tanh(CUBE.transpose(2, 1, 0))},
        ),
        "vmap over 0 in vmap over 1": (
            lambda c: jax.vmap(jax.vmap(lambda r: tap("h", jnp.tanh(r)), in_axes=0), in_axes=1)(c).sum(),
            CUBE,
            {"h": np.tanh(CUBE.transpose(1, 0, 2))},
        ),
        "vmap(scan(vmap))": (
            lambda c: jax.vmap(lambda z: lax.scan(lambda k, v: (k + rows(z).sum() + v.sum(), None), 0.0, z)[0])(c).sum(),
            CUBE,
            {"h": np.stack([layer(CUBE)] * 3, axis=2)},
        ),
        "jvp": (lambda x: jax.jvp(lay, (x,), (jnp.ones_like(x),))[1].sum(), X, one),
        "linearize": (lambda x: jax.linearize(lay, x)[1](x).sum(), X, one),
        "jvp(remat)": (lambda x: jax.jvp(jax.checkpoint(lay), (x,), (jnp.ones_like(x),))[1].sum(), X, one),
        "jacfwd": (lambda x: jax.jacfwd(lambda z: lay(z).sum())(x).sum(), X, one),
        "vjp": (lambda x: jax.vjp(lay, x)[1](x)[0].sum(), X, one),
        "linear_transpose": (
            lambda x: jax.linear_transpose(lambda z: tap("h", 2.0 * z), x)(x)[0].sum() + tap("k", x).sum(), X, {"k": X},
        ),
        "custom_jvp": (lambda x: ruled(x).sum(), X, {"h": np.sin(X)}),
        "grad(custom_jvp)": (lambda x: jax.grad(lambda z: ruled(z).sum())(x).sum(), X, {"h": np.sin(X)}),
        "custom_vjp": (lambda x: straight(x).sum(), X, {"h": np.sign(X)}),
        "grad(custom_vjp)": (lambda x: jax.grad(lambda z: (straight(z) * z).sum())(x).sum(), X, {"h": np.sign(X)}),
        "scan(vmap(custom_vjp))": (
            lambda x: lax.scan(lambda c, v: (c + jax.vmap(straight)(v), None), x[0], x)[0].sum(), X, {"h": np.sign(X).T},
        ),
        # taps nobody uses
        "unused": (lambda x: unused(x).sum(), X, one),
        "unused in jit": (lambda x: jax.jit(unused)(x).sum(), X, one),
        "unused in grad(jit)": (lambda x: jax.grad(lambda z: jax.jit(unused)(z).sum())(x).sum(), X, one),
        "unused in grad(remat)": (lambda x: jax.grad(lambda z: jax.checkpoint(unused)(z).sum())(x).sum(), X, one),
        "unused jit in grad(remat)": (
            lambda x: jax.grad(lambda z: jax.checkpoint(lambda h: (cached(h), jnp.sin(h))[1])(z).sum())(x).sum(), X, one,
        ),
        "unused scan in grad(remat)": (
            lambda x: jax.grad(lambda z: jax.checkpoint(lambda h: (loop(h), jnp.sin(h))[1])(z).sum())(x).sum(),
            X, {"h": LOOP},
        ),
        # odd values
        "a constant": (lambda x: x.sum() * tap("c", 2.0), X, {"c": np.float32(2.0)}),
        "integers": (lambda x: tap("i", jnp.argmax(x, -1)).sum() * x.sum(), X, {"i": np.argmax(X, -1)}),
        "a closed-over array": (lambda x: (x + tap("w", jnp.asarray(W)[:3])).sum(), X, {"w": W[:3]}),
        "nothing tapped": (lambda x: jnp.sin(x).sum(), X, {}),
    }  # fmt: skip


def check(name: str, make: Callable[[Tap], dict[str, Any]], engine: Callable[..., Any], tap: Tap) -> None:
    """Every value, the output, and the gradient, eager and jitted."""
    f, x, values = make(tap)[name]
    plain = make(lambda _, v: v)[name][0]
    for run in (engine(f), jax.jit(engine(f))):
        out, found = run(x)
        assert {str(site) for site in found} == set(values), f"{name}: {sorted(map(str, found))}"
        for site, value in found.items():
            want = values[str(site)]
            assert value.shape == want.shape, f"{name}: {site} has shape {value.shape}, not {want.shape}"
            np.testing.assert_allclose(value, want, rtol=2e-5, atol=2e-6, err_msg=f"{name}: {site}")
        np.testing.assert_allclose(out, jax.jit(plain)(x), rtol=2e-5, atol=2e-5, err_msg=f"{name}: output")
    if x.dtype == np.float32:
        slope = jax.grad(lambda z: jnp.sum(engine(f)(z)[0]))(x)
        np.testing.assert_allclose(slope, jax.grad(plain)(x), rtol=2e-5, atol=2e-5, err_msg=f"{name}: gradient")


@pytest.mark.parametrize("name", programs(tap))
def test_every_program_gives_every_value(name: str) -> None:
    check(name, programs, reap, tap)


STORE: dict[Site, Any] = {}


def test_the_matrix_can_fail() -> None:
    """The canary: a store filled while tracing, as one writes it first, fails where JAX traces once and runs often, or the reverse."""

    def stored(name: str, value: Any) -> Any:
        STORE[Site(name, sum(site.path == name for site in STORE))] = value
        return value

    def naive(f: Callable[..., Any]) -> Callable[..., Any]:
        def run(x: Any) -> Any:
            STORE.clear()
            return f(x), dict(STORE)

        return run

    failed = 0
    for name in programs(tap):
        try:
            check(name, programs, naive, stored)
        except Exception:
            failed += 1
    assert failed > len(programs(tap)) // 2


REFUSED = {
    "cond": lambda x: lax.cond(x.sum() > 0, lambda h: tap("h", h), lambda h: h, x).sum(),
    "switch": lambda x: lax.switch(1, [lambda h: h, lambda h: tap("h", h)], x).sum(),
    "while": lambda x: lax.while_loop(lambda c: c.sum() < -1e9, lambda c: tap("h", c), x).sum(),
    "while's condition": lambda x: lax.while_loop(lambda c: tap("h", c).sum() < -1e9, lambda c: c, x).sum(),
    "fori_loop of unknown length": lambda x: lax.fori_loop(0, x.shape[0] + x[0, 0].astype(int), lambda i, c: tap("h", c), x).sum(),
    "scan(cond)": lambda x: lax.scan(lambda c, v: (lax.cond(v.sum() > 0, lambda h: tap("h", h), lambda h: h, c), None), x[0], x)[0].sum(),
    "cond(jit)": lambda x: lax.cond(x.sum() > 0, jax.jit(lambda h: tap("h", h)), lambda h: h, x).sum(),
    "grad(cond)": lambda x: jax.grad(lambda z: lax.cond(z.sum() > 0, lambda h: tap("h", jnp.sin(h)), lambda h: h, z).sum())(x).sum(),
    # these leave no cond in the program: both branches run on all samples
    "vmap(cond)": lambda x: jax.vmap(lambda r: lax.cond(r.sum() > 0, lambda h: tap("h", h), lambda h: h, r))(x).sum(),
    "vmap(switch(jit))": lambda x: jax.vmap(
        lambda r: lax.switch((r.sum() > 0).astype(int), [lambda h: h, jax.jit(lambda h: tap("h", h))], r)
    )(x).sum(),
    "vmap(scan(cond))": lambda x: jax.vmap(
        lambda r: lax.scan(lambda c, v: (lax.cond(v > 0, lambda h: tap("h", h), lambda h: h, c), None), 0.0, r)[0]
    )(x).sum(),
    "piecewise": lambda x: jax.vmap(lambda r: jnp.piecewise(r, [r > 0], [lambda h: tap("h", h), 0.0]))(x[0]).sum(),
    "associative reduce": lambda x: lax.reduce(x, 0.0, lambda a, b: tap("h", a) + b, (0, 1)),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
@pytest.mark.parametrize("jitted", [False, True])
def test_what_runs_an_unknown_number_of_times_is_refused_by_name(name: str, jitted: bool) -> None:
    f = jax.jit(REFUSED[name]) if jitted else REFUSED[name]
    with pytest.raises(SiteError, match=r"tap 'h' is inside (a lax\.(cond|while_loop)|the primitive 'reduce)"):
        reap(f)(X)


def test_a_refused_tap_is_still_an_identity() -> None:
    for name, f in REFUSED.items():
        plain = jax.jit(f)(X)
        assert np.isfinite(plain), name


def test_a_cached_jit_in_a_mapped_cond_is_refused_though_it_was_mapped_before() -> None:
    inner = jax.jit(lambda h: tap("h", jnp.sin(h)))
    values = reap(jax.vmap(inner))(X)[1]
    assert [str(site) for site in values] == ["h"]
    with pytest.raises(SiteError, match="cond"):
        reap(jax.vmap(lambda r: lax.cond(r.sum() > 0, inner, lambda h: h, r)))(X)


def test_shard_map_is_refused_by_name() -> None:
    mesh = jax.sharding.Mesh(jax.devices()[:1], ("d",))
    spec = jax.sharding.PartitionSpec("d")
    f = jax.shard_map(lambda x: tap("h", x), mesh=mesh, in_specs=spec, out_specs=spec)
    np.testing.assert_array_equal(f(X), X)
    with pytest.raises(SiteError, match="tap 'h' is inside a shard_map"):
        reap(f)(X)


def test_what_jax_drops_before_anyone_sees_it() -> None:
    """The one place, said in the docstring; where this fails JAX has changed, and the docstring may promise more."""

    def body(c: Any, v: Any) -> Any:
        tap("h", c + v)
        return jnp.sin(c + v), None

    def f(x: Any) -> Any:
        return lax.scan(body, x[0], x)[0].sum()

    assert [str(site) for site in reap(f)(X)[1]] == ["h"]
    assert reap(jax.grad(f))(X)[1] == {}
    assert "in a scan that is differentiated JAX drops it" in (reap.__doc__ or "")


def test_a_tap_compiles_to_nothing() -> None:
    def f(tap: Tap) -> Any:
        def g(x: Any) -> Any:
            return lax.scan(lambda c, v: (tap("h", jnp.tanh(c + v)), None), x[0], x)[0]

        return g

    assert jax.jit(f(tap)).lower(X).as_text() == jax.jit(f(lambda _, v: v)).lower(X).as_text()


def test_a_tap_changes_nothing() -> None:
    np.testing.assert_array_equal(tap("h", X), X)
    assert tap("h", 3) == 3
    y = jax.jit(lambda x: tap("h", 2.0) * x)(jnp.ones(3, jnp.bfloat16))
    assert y.dtype == jnp.bfloat16  # a Python number stays as weak as it was


def test_reap_gives_the_output_as_it_is() -> None:
    def f(x: Any, *, scale: float, name: str) -> Any:
        if scale > 1:  # a Python number is no tracer
            x = x * scale
        return {"y": tap("h", x), "name": name, "none": None, "scale": scale, "n": np.float32(3)}

    out, values = reap(f)(X, scale=2.0, name="me")
    assert out["name"] == "me"
    assert out["none"] is None
    assert out["scale"] == 2.0
    np.testing.assert_array_equal(out["y"], 2 * X)
    np.testing.assert_array_equal(values[Site("h")], 2 * X)


def test_reap_maps_as_it_is_mapped() -> None:
    """reap(vmap(f)) is vmap(reap(f)), also where the program around the tap is a scan."""

    def f(z: Any) -> Any:
        return lax.scan(lambda c, v: (tap("h", jnp.tanh(c + v)), None), z[0], z)[0]

    inside, outside = reap(jax.vmap(f))(CUBE), jax.vmap(reap(f))(CUBE)
    np.testing.assert_allclose(inside[0], outside[0], rtol=1e-6)
    np.testing.assert_allclose(inside[1][Site("h")], outside[1][Site("h")], rtol=1e-6)


def test_reap_of_reap_gives_both() -> None:
    (out, inner), outer = reap(reap(lambda x: tap("h", jnp.sin(x)).sum()))(X)
    np.testing.assert_allclose(inner[Site("h")], np.sin(X), rtol=1e-6)
    np.testing.assert_array_equal(inner[Site("h")], outer[Site("h")])
    assert np.isclose(out, np.sin(X).sum(), rtol=1e-5)


def test_values_can_be_differentiated_too() -> None:
    slope = jax.grad(lambda x: reap(lambda z: tap("h", jnp.sin(z)).sum())(x)[1][Site("h")].sum())(X)
    np.testing.assert_allclose(slope, np.cos(X), rtol=1e-5)


def test_reap_follows_a_closed_over_tracer() -> None:
    def f(x: Any, y: Any) -> Any:
        return reap(lambda z: tap("h", z * y).sum())(x)[0]

    np.testing.assert_allclose(jax.jit(jax.grad(f, argnums=1))(X, 2 * X), X, rtol=1e-6)


def test_a_straight_through_rule_outlives_reap() -> None:
    """Inlining the body would give the gradient of `sign`, 0."""

    @jax.custom_vjp
    def fire(h: Any) -> Any:
        return tap("fire", jnp.sign(h))

    fire.defvjp(lambda h: (fire(h), h), lambda h, ct: (ct * 5,))
    slope = jax.grad(lambda x: reap(lambda z: fire(z).sum())(x)[0])(X)
    np.testing.assert_array_equal(slope, np.full_like(X, 5))


def test_shardings_and_donation_of_an_inner_jit_stay() -> None:
    mesh = jax.sharding.Mesh(jax.devices()[:1], ("d",))
    sharding = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("d"))
    inner = jax.jit(lambda x: tap("h", x * 2), in_shardings=sharding, out_shardings=sharding, keep_unused=True)
    (equation,) = jax.make_jaxpr(lambda x: reap(inner)(x))(X).eqns
    assert equation.params["in_shardings"] == (sharding,)
    assert equation.params["out_shardings"][0] == sharding
    assert equation.params["keep_unused"]
    out, values = reap(inner)(X)
    np.testing.assert_array_equal(out, values[Site("h")])


def test_effects_and_random_keys_stay() -> None:
    seen: list[float] = []

    def f(x: Any, key: Any) -> Any:
        jax.debug.callback(lambda v: seen.append(float(v)), x[0, 0])
        noise = tap("noise", jax.random.normal(key, x.shape))
        return tap("key", key), (x + noise).sum()

    (key, _), values = jax.jit(reap(f))(X, jax.random.key(3))
    jax.effects_barrier()
    assert seen == [float(X[0, 0])]
    np.testing.assert_array_equal(values[Site("noise")], jax.random.normal(jax.random.key(3), X.shape))
    assert values[Site("key")] == key == jax.random.key(3)


def test_donated_arguments_of_a_jit_around_reap() -> None:
    f = jax.jit(reap(lambda x: tap("h", x + 1)), donate_argnums=0)
    out, values = f(jnp.asarray(X))
    np.testing.assert_array_equal(out, X + 1)
    np.testing.assert_array_equal(values[Site("h")], X + 1)


@pytest.mark.parametrize("name", ["", "a#1", "a:in", "a[2]", "a@3", 5])
def test_a_name_that_is_no_path_is_refused(name: Any) -> None:
    with pytest.raises(SiteError, match=r"a name is a text such as 'encoder\.hidden'"):
        tap(name, X)


@pytest.mark.parametrize("value", [(X, X), None, "text", {"a": X}])
def test_a_value_that_is_no_array_is_refused(value: Any) -> None:
    with pytest.raises(DtypeError, match="takes one array, and got"):
        tap("h", value)


def test_several_hidden_taps_are_all_named() -> None:
    with pytest.raises(SiteError, match=r"taps 'b', 'a' are inside a lax\.cond"):
        reap(lambda x: lax.cond(x.sum() > 0, lambda h: tap("a", h), lambda h: tap("b", h), x))(X)


def test_a_tap_beside_an_effect_in_a_rule_is_refused() -> None:
    """Its value would come from a second run of the body, and the effect with it."""

    @jax.custom_jvp
    def noisy(h: Any) -> Any:
        jax.debug.callback(lambda v: None, h.sum())
        return tap("h", jnp.sin(h))

    noisy.defjvp(lambda p, t: (noisy(p[0]), t[0]))
    with pytest.raises(SiteError, match=r"inside a custom_jvp_call that also has effects .* which would happen twice"):
        reap(lambda x: noisy(x).sum())(X)

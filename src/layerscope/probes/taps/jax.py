"""`tap` gives a value of a JAX program a name; `reap` brings the named values out.

A tap is a primitive, so every transformation carries it along: it is there once in the program whatever `jit`, `vmap`, `grad` or
`jax.checkpoint` did to the function around it.  Names are numbered when the finished program is read, not when it is traced, because a
cached inner `jit` is traced once and called often.
"""

import functools
from collections import Counter
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend import core
from jax.extend.core import primitives
from jax.interpreters import ad, batching, mlir
from jax.interpreters import partial_eval as pe

from ..._errors import DtypeError, SiteError
from ..._site import Site
from ...inventory._graph import Kind
from ...inventory.program.jax import REPEATED, TAP, Mark, exposed, is_tap, taps_in, taps_of

ARRAYS = (jax.Array, np.ndarray, np.generic)

tap_p = core.Primitive(TAP)
"""Identity. Its parameters: `name`; `mark` what a probe notes, None for the user's own; `batched` the axes that `vmap` added, outermost
first; `within` the primitive around it that decides at run time, where a transformation has dissolved that one."""


def named(name: str, x: Any) -> Any:
    """The user's own tap; see `tap`."""
    if not isinstance(name, str) or not name or Site.parse(name) != Site(name):
        raise SiteError(
            f"tap({name!r}, …): a name is a text such as 'encoder.hidden', without '#', ':' and '[', which mark calls, ports and parts."
        )
    if not isinstance(x, (*ARRAYS, int, float, complex)):
        raise DtypeError(f"tap({name!r}, …) takes one array, and got {type(x).__name__}. Tap its arrays one by one.")
    return marked(name, x)


def marked(name: str, x: Any, mark: Any = None) -> Any:
    """A tap with a probe's note."""
    return tap_p.bind(x, name=name, mark=mark, batched=(), within=None)


def tapped_class(cls: Any, path: str, kind: Kind) -> Any:
    """A subclass of the same name whose call is tapped.

    To be made once for each class and path, as JAX remembers all classes of trees for ever; so the call is looked up when it is made.
    """

    @functools.wraps(cls.__call__)
    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        return cls.__call__(self, *args, **kwargs)

    names = {"__module__": cls.__module__, "__qualname__": cls.__qualname__, "__doc__": cls.__doc__}
    return type(cls)(cls.__name__, (cls,), {**names, "__call__": around(call, path, kind)})


def around(call: Callable[..., Any], path: str, kind: Kind) -> Callable[..., Any]:
    """The call of a layer, with taps on the arrays that go in and come out."""

    @functools.wraps(call)
    def tapped(self: Any, *args: Any, **kwargs: Any) -> Any:
        given, named = marked_all(path, kind, (args, kwargs), opens=True)
        return marked_all(path, kind, call(self, *given, **named), opens=False)

    return tapped


def marked_all(path: str, kind: Kind, values: Any, *, opens: bool) -> Any:
    """The same values, every array in lists, tuples and dicts tapped; where there is none, an empty tap says that the call is here."""
    leaves, tree = jax.tree.flatten(values, is_leaf=lambda each: not isinstance(each, list | tuple | dict))
    places = [at for at, leaf in enumerate(leaves) if isinstance(leaf, ARRAYS) and not _is_key(leaf)]
    for part, at in enumerate(places):
        leaves[at] = marked(path, leaves[at], Mark(opens, kind, part, len(places)))
    if not places:
        marked(path, 0, Mark(opens, kind))
    return jax.tree.unflatten(tree, leaves)


def _is_key(array: Any) -> bool:
    """Whether it is a random key, which is nobody's activation."""
    return jnp.issubdtype(array.dtype, jax.dtypes.prng_key)


def reaped(f: Callable[..., Any]) -> Callable[..., tuple[Any, dict[Site, Any]]]:
    """`f` with its taps brought out; see `reap`."""

    @functools.wraps(f)
    def both(*args: Any, **kwargs: Any) -> tuple[Any, dict[Site, Any]]:
        closed, arrays, rebuild = traced(f, *args, **kwargs)
        taps = [step for step in taps_of(closed.jaxpr) if step.equation.params["mark"] is None]
        outputs = core.jaxpr_as_fun(exposed(closed, [step.value() for step in taps]))(*arrays)
        values = outputs[len(outputs) - len(taps) :]
        calls: Counter[str] = Counter()
        found: dict[Site, Any] = {}
        for step, value in zip(taps, values, strict=True):
            name = step.equation.params["name"]
            found[Site(name, calls[name])] = batch_first(value, step.equation.params["batched"], len(step.loops))
            calls[name] += 1
        return rebuild(outputs[: len(outputs) - len(taps)]), found

    return both


def batch_first(value: Any, batched: tuple[int, ...], loops: int) -> Any:
    """A value with the axes of `vmap` in front; `loops` counts the leading axes that scans have added since."""
    moved = [loops + axis for axis in batched]
    front = list(range(len(moved)))
    return jnp.asarray(value) if moved == front else jnp.moveaxis(value, moved, front)


def traced(f: Callable[..., Any], *args: Any, **kwargs: Any) -> tuple[Any, list[Any], Callable[[Any], Any]]:
    """A call as a program: the closed jaxpr, the arrays to give it, and what makes `f`'s output of its outputs."""
    leaves, tree = jax.tree.flatten((args, kwargs))
    places = [at for at, leaf in enumerate(leaves) if isinstance(leaf, ARRAYS)]
    kept: list[tuple[list[Any], list[int], Any]] = []

    def flat(*arrays: Any) -> list[Any]:
        filled = [*leaves]
        for at, array in zip(places, arrays, strict=True):
            filled[at] = array
        given, named = jax.tree.unflatten(tree, filled)
        out, out_tree = jax.tree.flatten(f(*given, **named))
        spots = [at for at, leaf in enumerate(out) if isinstance(leaf, ARRAYS)]
        kept.append(([None if at in set(spots) else leaf for at, leaf in enumerate(out)], spots, out_tree))
        return [out[at] for at in spots]

    def rebuild(outputs: Any) -> Any:
        (out, spots, out_tree) = kept[-1]
        filled = [*out]
        for at, array in zip(spots, outputs, strict=True):
            filled[at] = array
        return jax.tree.unflatten(out_tree, filled)

    arrays = [leaves[at] for at in places]
    return jax.make_jaxpr(flat)(*arrays), arrays, rebuild


# --- what the transformations of JAX ask of a primitive ------------------------------------------------------------------------------


def _batched(values: Any, axes: Any, *, batched: tuple[int, ...], **params: Any) -> tuple[Any, int]:
    """Under one more `vmap`, which comes from outside: its axis is noted first, and those behind it move on."""
    axis = axes[0]
    return tap_p.bind(values[0], batched=(axis, *(each + (each >= axis) for each in batched)), **params), axis


tap_p.def_impl(lambda x, **_: x)
tap_p.def_abstract_eval(lambda x, **_: x)
mlir.register_lowering(tap_p, lambda ctx, x, **_: [x])
batching.primitive_batchers[tap_p] = _batched
ad.primitive_jvps[tap_p] = lambda primals, tangents, **params: (tap_p.bind(*primals, **params), tangents[0])
ad.primitive_transposes[tap_p] = lambda cotangent, x, **_: [cotangent]

# Differentiation drops equations whose results nobody uses.  A tap is there to be seen, so it stays, and so does what holds one; a tap
# that is never reaped still costs nothing, as XLA drops what is left of it.  (An effect would say the same, but effects have no public
# register, and a program with effects leaves the fast path of jit.)
pe.dce_rules[tap_p] = lambda used, equation: ([True], equation)


def _kept_for_its_taps(rule: Callable[..., Any]) -> Callable[..., Any]:
    def kept(used: Any, equation: Any) -> Any:
        if not any(used) and next(taps_in(equation), None) is not None:
            return [True] * len(equation.invars), equation
        return rule(used, equation)

    return kept


for _p in (
    primitives.jit_p, primitives.scan_p, primitives.remat_p, primitives.closed_call_p, primitives.custom_jvp_call_p,
    primitives.custom_vjp_call_p,
):  # fmt: skip
    pe.dce_rules[_p] = _kept_for_its_taps(pe.dce_rules[_p])


# The backward pass of jax.checkpoint runs its body again.  The rewrite knows that body by its parameter `differentiated`; a second
# differentiation would take equations out of it, so their taps are told first.


def _repeated(rule: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(rule)
    def noted(trace: Any, *tracers: Any, jaxpr: Any, differentiated: bool, **params: Any) -> Any:
        body = _noted(jaxpr, REPEATED) if differentiated else jaxpr
        return rule(trace, *tracers, jaxpr=body, differentiated=differentiated, **params)

    return noted


pe.custom_partial_eval_rules[primitives.remat_p] = _repeated(pe.custom_partial_eval_rules[primitives.remat_p])


# Under vmap a cond whose predicate differs from sample to sample becomes a selection: both branches run on all samples, and nothing in
# the program says so any more.  Its taps have to remember that they cannot be trusted, before the cond is gone.


def _within_cond(rule: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(rule)
    def noted(*args: Any, branches: tuple[Any, ...], **params: Any) -> Any:
        return rule(*args, branches=tuple(_noted(branch, "cond") for branch in branches), **params)

    return noted


def _noted(body: Any, primitive: str) -> Any:
    """A body (jaxpr, or tuple of them) whose taps remember the primitive around them; the same object where there are none."""
    if isinstance(body, core.ClosedJaxpr):
        inner = _noted(body.jaxpr, primitive)
        return body if inner is body.jaxpr else body.replace(jaxpr=inner)
    if isinstance(body, tuple) and any(isinstance(each, core.Jaxpr | core.ClosedJaxpr) for each in body):
        return tuple(_noted(each, primitive) for each in body)
    if not isinstance(body, core.Jaxpr):
        return body
    equations = [_noted_equation(equation, primitive) for equation in body.eqns]
    same = all(new is old for new, old in zip(equations, body.eqns, strict=True))
    return body if same else body.replace(eqns=equations)


def _noted_equation(equation: Any, primitive: str) -> Any:
    if is_tap(equation):
        return equation.replace(params={**equation.params, "within": primitive})
    if next(taps_in(equation), None) is None:
        return equation
    return equation.replace(params={key: _noted(value, primitive) for key, value in equation.params.items()})


batching.fancy_primitive_batchers[primitives.cond_p] = _within_cond(
    batching.fancy_primitive_batchers[primitives.cond_p]
)

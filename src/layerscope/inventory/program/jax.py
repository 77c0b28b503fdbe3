"""A jaxpr as a program with bodies: walked in the order it runs, and rewritten so that values from its middle come out.

The rewrite is structural.  It evaluates nothing and changes no equation but those around a wanted value, to which outputs are appended;
literals, constants, effects, donated arguments and shardings stay as they are because nobody touches them.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from jax.extend import core
from jax.extend.core import primitives

from ..._errors import SiteError
from .._graph import Kind

TAP = "layerscope_tap"
"""The name of the primitive that gives a value a name; it is defined in `probes/taps/jax.py`."""

REPEATED = "repeated"
"""Where a tap is whose value was there before: in the second run of what `jax.checkpoint` did not keep."""

Address = tuple[int, ...]
"""A value of a program: the numbers of the equations around it from outside to inside, then which output of the last."""


@dataclass(frozen=True)
class Mark:
    """What a probe notes on a tap: the call of a layer begins (`opens`) or ends with it, `part` `of` so many arrays."""

    opens: bool
    kind: Kind
    part: int = 0
    of: int = 0


# Equations that run a body exactly once, or a known number of times, by the parameter that holds it.
CALLS = {"jit": "jaxpr", "pjit": "jaxpr", "closed_call": "call_jaxpr", "core_call": "call_jaxpr"}
REMAT = {"checkpoint": "jaxpr", "remat": "jaxpr", "remat2": "jaxpr"}
SCAN = {"scan": "jaxpr"}
# Their derivatives are rules given from outside, which know of no further outputs.
RULED = {"custom_jvp_call": "call_jaxpr", "custom_vjp_call": "call_jaxpr", "custom_vjp_call_jaxpr": "fun_jaxpr"}
BODIES = CALLS | REMAT | SCAN | RULED

UNKNOWN = {
    "cond": "a lax.cond or lax.switch, which decides while it runs whether its branches do. Tap the result of the cond, or compute both "
    "branches and choose with jnp.where",
    "while": "a lax.while_loop, which decides while it runs how often it does. Use lax.scan, or lax.fori_loop with bounds that are "
    "Python integers, or tap the result of the loop",
    "shard_map": "a shard_map, where every device has a part of it. Tap the result of the shard_map",
}


@dataclass(frozen=True)
class Step:
    """One equation as the program comes to it, `loops` being the lengths of the scans around it, from outside to inside."""

    address: Address
    equation: Any
    loops: tuple[int, ...] = ()

    def value(self, output: int = 0) -> Address:
        """The address of one of its outputs."""
        return (*self.address, output)


def body_of(equation: Any) -> Any:
    """The body that an equation runs a known number of times, as an open jaxpr; None where it has none, or only repeats one.

    The backward pass of `jax.checkpoint` runs a body again whose values were all there in the forward pass.
    """
    name = equation.primitive.name
    if name not in BODIES or (name in REMAT and equation.params.get("differentiated")):
        return None
    body = equation.params[BODIES[name]]
    return body.jaxpr if isinstance(body, core.ClosedJaxpr) else body


def is_repetition(equation: Any) -> bool:
    """Whether an equation is the second run, in a backward pass, of what `jax.checkpoint` did not keep."""
    return equation.primitive.name in REMAT and bool(equation.params.get("differentiated"))


def steps(jaxpr: Any, within: Address = (), loops: tuple[int, ...] = ()) -> Iterator[Step]:
    """Every equation in the order of the program, an equation with a body before what is inside it."""
    for at, equation in enumerate(jaxpr.eqns):
        address = (*within, at)
        yield Step(address, equation, loops)
        body = body_of(equation)
        if body is not None:
            inside = (*loops, equation.params["length"]) if equation.primitive.name in SCAN else loops
            yield from steps(body, address, inside)


def is_tap(equation: Any) -> bool:
    return equation.primitive.name == TAP


def taps_in(equation: Any) -> Iterator[Any]:
    """All taps in whatever an equation holds, also where nobody knows how often they run."""
    for inner in core.jaxprs_in_params(equation.params):
        for each in inner.eqns:
            if is_tap(each):
                yield each
            yield from taps_in(each)


def taps_of(jaxpr: Any) -> Iterator[Step]:
    """Every tap of a program, in the order it runs, once.

    **Raises:** `SiteError` for a tap that runs an unknown number of times, with its name and what to do.
    """
    for step in steps(jaxpr):
        equation = step.equation
        if is_tap(equation) and equation.params["within"] is None:
            yield step
        elif is_tap(equation) and equation.params["within"] != REPEATED:
            raise _hidden([equation], equation.params["within"])
        elif body_of(equation) is None and not is_repetition(equation):
            hidden = [*taps_in(equation)]
            if hidden:
                raise _hidden(hidden, equation.primitive.name)


def _hidden(taps: Sequence[Any], where: str) -> SiteError:
    names = [*dict.fromkeys(repr(tap.params["name"]) for tap in taps)]
    plural, are = ("s", "are") if len(names) > 1 else ("", "is")
    reason = UNKNOWN.get(where, f"the primitive {where!r}, of which layerscope does not know how often it runs")
    return SiteError(f"tap{plural} {', '.join(names)} {are} inside {reason}.")


def exposed(closed: Any, wanted: Sequence[Address]) -> Any:
    """The same program with further outputs: the values at these addresses, in this order.

    A value inside scans has their lengths as leading axes, outermost first, indexed as the scan's own outputs are.
    """
    return closed.replace(jaxpr=_exposed(closed.jaxpr, wanted))


def _exposed(jaxpr: Any, wanted: Sequence[Address], only: bool = False) -> Any:
    """A body with further outputs; `only` those."""
    equations: list[Any] = []
    found: dict[Address, Any] = {}
    inside: dict[int, list[Address]] = {}
    for address in wanted:
        inside.setdefault(address[0], []).append(address)
    for at, equation in enumerate(jaxpr.eqns):
        here = list(dict.fromkeys(inside.get(at, ())))
        deeper = [address for address in here if len(address) > 2]
        own = [address[1] for address in here if len(address) == 2]
        if own:
            equation = _bound(equation, own)
            found |= {(at, output): equation.outvars[output] for output in own}
        if not deeper:
            equations.append(equation)
            continue
        opened, values = _opened(equation, [address[1:] for address in deeper])
        equations += opened
        found |= dict(zip(deeper, values, strict=True))
        found |= {(at, output): opened[0].outvars[output] for output in own}
    outputs = [found[address] for address in wanted]
    return jaxpr.replace(eqns=equations, outvars=outputs if only else [*jaxpr.outvars, *outputs])


def _bound(equation: Any, outputs: Sequence[int]) -> Any:
    """An equation whose outputs have names even where nobody used them."""
    new = core.gensym()
    variables = [
        new(variable.aval) if at in outputs and isinstance(variable, core.DropVar) else variable
        for at, variable in enumerate(equation.outvars)
    ]
    return equation.replace(outvars=variables)


def _opened(equation: Any, wanted: Sequence[Address]) -> tuple[list[Any], list[Any]]:
    """An equation that also gives values from its body, and the variables that hold them."""
    name, new = equation.primitive.name, core.gensym()
    body = equation.params[BODIES[name]]
    if name in RULED:
        # The equation stays with its rule.  What is wanted comes from a second copy of the body; XLA makes one of the two.
        if equation.effects:
            raise SiteError(
                f"a value is wanted from inside a {name} that also has effects ({', '.join(map(str, equation.effects))}), which would "
                "happen twice. Tap its result."
            )
        copy = body.replace(jaxpr=_exposed(body.jaxpr, wanted, only=True))
        values = [new(variable.aval) for variable in copy.jaxpr.outvars]
        second = core.new_jaxpr_eqn(
            list(equation.invars), values, primitives.closed_call_p, {"call_jaxpr": copy}, set(),
            equation.source_info, equation.ctx,
        )  # fmt: skip
        return [equation, second], values
    inner = body.jaxpr if isinstance(body, core.ClosedJaxpr) else body
    opened = _exposed(inner, wanted)
    avals = [variable.aval for variable in opened.outvars[len(inner.outvars) :]]
    params = {**equation.params, BODIES[name]: body.replace(jaxpr=opened) if body is not inner else opened}
    if name in SCAN:
        avals = [core.unmapped_aval(params["length"], 0, aval) for aval in avals]
    if name in ("jit", "pjit"):
        free = {"out_shardings": _UNSPECIFIED, "out_layouts": None}
        params |= {key: (*params[key], *[value] * len(avals)) for key, value in free.items() if key in params}
    values = [new(aval) for aval in avals]
    return [equation.replace(outvars=[*equation.outvars, *values], params=params)], values


def _unspecified() -> Any:
    """What JAX writes for an output whose sharding is nobody's choice; it has no public name."""
    import jax

    (equation,) = jax.make_jaxpr(jax.jit(lambda: 0.0))().eqns
    return equation.params["out_shardings"][0]


_UNSPECIFIED = _unspecified()

"""A Keras forward as JAX traces it: the calls are noted in the program as taps, and told of when the finished program is read.

So it does not matter how often a part is traced: what an inner `jit` keeps, what `remat` runs again and what a derivative rule holds is in the
program where it runs.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.extend import core

from ..._site import Chunk
from ...feed import Batch
from ...inventory import Layer
from ...inventory._graph import Graph, Kind, Value
from ...inventory.primitives import jax as primitives
from ...inventory.program.jax import SCAN, Address, body_of, exposed, is_tap, taps_in
from .._abstract import Read
from .._program import counted
from ..taps.jax import marked
from ._engine import (
    AbstractEngine,
    AbstractProgram,
    AbstractReader,
    Described,
    DeviceReader,
    Forward,
    HostReader,
    Result,
    Spec,
    check_found,
    described,
)
from ._follow import AbstractFollower, AbstractTracer, Describer, Function, Listener, Scoped
from ._watch import Watch, step_result
from .keras import Calls, ToldTracer, batch_devices, distributed, stateless, tensors_in, without_variable


@dataclass(frozen=True)
class Note:
    """What a tap says: a call of a layer or function, and which of its tensors this is."""

    what: str
    path: str = ""
    kind: Kind | None = None
    loop: str = ""
    function: Function | None = None
    new: bool = False
    tensors: int = 0
    masks: tuple[int, ...] = ()
    at: int = 0


class TapTracer(AbstractTracer):
    """Notes what happens in the program that is traced."""

    def opens(self, path: str, kind: Kind, tensors: Sequence[Any]) -> None:
        _note(Note("opens", path, kind), tensors)

    def closes(self, path: str, tensors: Sequence[Any], masks: Sequence[Any], new: bool) -> None:
        there = tuple(part for part, mask in enumerate(masks) if mask is not None)
        _note(Note("closes", path, new=new, masks=there), [*tensors, *(masks[part] for part in there)])

    def begins(self) -> None:
        _note(Note("begins"), ())

    def breaks_off(self) -> None:
        _note(Note("breaks_off"), ())

    def function(self, function: Function, inputs: Sequence[Any], outputs: Sequence[Any]) -> None:
        _note(Note("given", function=function), inputs)
        _note(Note("function", function=function), outputs)

    def looped(self, path: str, kind: Kind, loop: str, tensors: Sequence[Any]) -> None:
        _note(Note("looped", path, kind, loop), tensors)


def _note(note: Note, tensors: Sequence[Any]) -> None:
    arrays = [*map(without_variable, tensors)] or [jnp.zeros(())]
    fields = {**vars(note), "tensors": len(tensors)}
    for at, array in enumerate(arrays):
        marked("calls", jnp.asarray(array), Note(**{**fields, "at": at}))


class Node(NamedTuple):
    """A value of a program, and where it can be taken from."""

    value: Value
    address: Address | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        return self.value.shape


def node_value(node: Node) -> Value:
    return node.value


class Reading:
    """Tells a follower what is written in a program."""

    def __init__(self, follower: AbstractFollower) -> None:
        self.follower = follower
        self._within = 0
        self._pending: list[Node] = []
        self._given: list[Node] = []

    def read(self, jaxpr: Any, given: Sequence[Node], within: Address = ()) -> list[Node]:
        """Walk a body with these inputs; gives its outputs."""
        known: dict[Any, Node] = dict(zip(jaxpr.invars, given, strict=True))
        for variable in jaxpr.constvars:
            known[variable] = _fresh(variable)

        def node(variable: Any) -> Node:
            if isinstance(variable, core.Literal):
                return _fresh(variable)
            return known[variable]

        for at, equation in enumerate(jaxpr.eqns):
            address = (*within, at)
            inputs = [node(variable) for variable in equation.invars]
            if is_tap(equation):
                outputs = [Node(inputs[0].value, (*address, 0))]
                self._tapped(equation.params, outputs[0])
            else:
                outputs = self._equation(equation, inputs, address)
            known |= dict(zip(equation.outvars, outputs, strict=True))
        return [node(variable) for variable in jaxpr.outvars]

    def _tapped(self, params: Any, node: Node) -> None:
        note = params["mark"]
        if not isinstance(note, Note):
            return
        if not params["batched"] and params["within"] is None:
            self._noted(note, node)
        elif note.what == "closes":  # inside a vmap, or a branch
            self.follower.looped(note.path, note.kind or Kind(""), "", [node])

    def _noted(self, note: Note, node: Node) -> None:
        if note.tensors:
            self._pending.append(node)
        if note.at + 1 < note.tensors:
            return
        nodes, self._pending = self._pending, []
        count = len(nodes) - len(note.masks)
        if note.what == "opens":
            self.follower.opens(note.path, note.kind or Kind(""), nodes)
        elif note.what == "closes":
            masks: list[Node | None] = [None] * count
            for part, mask in zip(note.masks, nodes[count:], strict=True):
                masks[part] = mask
            self.follower.closes(note.path, nodes[:count], masks, note.new)
        elif note.what == "begins":
            self._within += 1
        elif note.what == "breaks_off":
            self._within -= 1
        elif note.what == "given":
            self._given = nodes
        elif note.what == "function" and note.function is not None:
            self._within -= 1
            if not self._within:
                self.follower.function(note.function, self._given, nodes)
        elif note.what == "looped":
            self.follower.looped(note.path, note.kind or Kind(""), note.loop, nodes)

    def _equation(self, equation: Any, inputs: list[Node], address: Address) -> list[Node]:
        name, body = equation.primitive.name, body_of(equation)
        function = primitives.function_of(equation)
        if body is not None and name not in SCAN and function is None:
            return self.read(body, inputs, address)
        outputs = [Node(_fresh(variable).value, (*address, k)) for k, variable in enumerate(equation.outvars)]
        for tap in taps_in(equation) if function is None else ():
            note = tap.params["mark"]
            if isinstance(note, Note) and note.what == "closes":
                self.follower.looped(note.path, note.kind or Kind(""), "", [_fresh(tap.outvars[0])])
        if not self._within:
            said = primitives.Said(function) if function else self._said(equation, inputs)
            first = [inputs[said.source], *(x for k, x in enumerate(inputs) if k != said.source)] if inputs else []
            went = None if said.went is None else tuple(said.went)
            self.follower.function(Function(said.name, went, said.unit, said.args, raw=True), first, outputs)
        return outputs

    def _said(self, equation: Any, inputs: list[Node]) -> primitives.Said:
        numbers = [
            variable.val if primitives.is_literal(variable) and not getattr(variable.val, "shape", ()) else None
            for variable in equation.invars
        ]
        return primitives.read(equation, [self.follower.varies(node) for node in inputs], numbers)


def _fresh(variable: Any) -> Node:
    aval = variable.aval
    return Node(Value(object(), tuple(aval.shape), str(aval.dtype)))


class JaxEngine(AbstractEngine):
    """Forwards as programs: traced once, read as they stand, and compiled with what is read as further outputs."""

    def describe(self, forward: Forward, arrays: Sequence[Any], samples: int | None, inputs: bool) -> Described:
        describer = Describer(Graph(samples, inputs), node_value, forward.masked)
        traced = Traced(forward, arrays)
        describer.given(traced.given)
        describer.gave(Reading(describer).read(traced.closed.jaxpr, traced.nodes)[: traced.outputs])
        return described(describer, traced.changed)

    def program(
        self, forward: Forward, arrays: Sequence[Any], layers: tuple[Layer, ...], batch: Batch, read: Read | None
    ) -> AbstractProgram:
        return JaxProgram(forward, arrays, layers, batch, read)

    def on_host(self) -> bool:
        return jax.default_backend() == "cpu"

    def rows(self, size: int) -> int:
        return size + -size % batch_devices()

    def watching(self) -> AbstractContextManager[None]:
        self._outside = core.get_opaque_trace_state()
        return nullcontext()

    def there(self, value: Any) -> bool:
        return core.get_opaque_trace_state() == self._outside

    def spec(self, tensor: Any) -> Spec:
        return Spec(tuple(tensor.shape), tensor.dtype)

    @contextmanager
    def tracer(self, follower: AbstractFollower) -> Iterator[AbstractTracer]:
        state = core.get_opaque_trace_state()
        yield ToldTracer(follower, lambda: core.get_opaque_trace_state() == state)

    def step(self, original: Callable[..., Any], args: tuple[Any, ...], watch: Watch, kept: list[Any]) -> Any:
        leaves, form = jax.tree.flatten(args)
        forms: list[Any] = []

        def flat(*leaves: Any) -> list[Any]:
            with watch.quiet(), Calls(watch.operations, TapTracer(), functions=True):
                outputs, out = jax.tree.flatten(original(*jax.tree.unflatten(form, leaves)))
            forms.append(out)
            return outputs

        with own_traces():
            closed = jax.make_jaxpr(flat)(*leaves)
        nodes = [*map(_fresh, closed.jaxpr.invars)]
        describer = Describer(Graph(None, watch.inputs), node_value, True)
        Reading(Scoped(describer)).read(closed.jaxpr, nodes)
        watch.learn_once(described(describer, []))
        wanted: list[tuple[Layer, Node, Node | None]] = []
        listener = watch.listener(lambda *found: wanted.append(found))
        Reading(Scoped(listener)).read(closed.jaxpr, nodes)
        watch.check(listener)
        places = _addresses(wanted)
        given = core.jaxpr_as_fun(exposed(closed, [*places]))(*leaves)
        count = len(closed.jaxpr.outvars)
        value = dict(zip(places, given[count:], strict=True))
        kept.append([(layer, value[_of(n)], None if own is None else value[_of(own)]) for layer, n, own in wanted])
        result, *rest = jax.tree.unflatten(forms[-1], given[:count])
        return (step_result(result, kept), *rest)

    def result(self, given: Any) -> tuple[Any, Callable[[Any], Any]]:
        return given[0], lambda result: (result, *given[1:])


def _addresses(wanted: Sequence[tuple[Layer, Node, Node | None]]) -> dict[Address, None]:
    """Where values and masks are, each once."""
    nodes = [node for _, *both in wanted for node in both if node is not None]
    return {node.address: None for node in nodes if node.address is not None}


def _of(node: Node) -> Address:
    assert node.address is not None  # a tap has one, and so has what an equation gives
    return node.address


class Traced:
    """A forward as a closed program of its variables and inputs; its outputs are those of the model, then the variables that changed."""

    def __init__(self, forward: Forward, arrays: Sequence[Any]) -> None:
        self.changed: list[Any] = []
        self.outputs = 0

        def pure(values: list[Any], tensors: list[Any]) -> list[Any]:
            whole = replace(forward, carried=list(forward.variables))
            with Calls(forward.operations, TapTracer(), functions=True):
                output, scope = stateless(whole, tensors, values)
            new = [scope.get_current_value(variable) for variable in forward.variables]
            changed = [k for k, (old, now) in enumerate(zip(values, new, strict=True)) if now is not old]
            self.changed = [forward.variables[k] for k in changed]
            outputs = [*tensors_in(output)]
            self.outputs = len(outputs)
            return [*outputs, *(new[k] for k in changed)]

        values = [jax.ShapeDtypeStruct(v.shape, v.dtype) for v in forward.variables]
        tensors = [jax.ShapeDtypeStruct(array.shape, array.dtype) for array in arrays]
        with own_traces():
            self.closed = jax.make_jaxpr(pure)(values, tensors)
        self.nodes = [*map(_fresh, self.closed.jaxpr.invars)]
        self.given = self.nodes[len(values) :]


class JaxProgram(AbstractProgram):
    """A jitted program whose outputs are what was read."""

    def __init__(
        self, forward: Forward, arrays: Sequence[Any], layers: tuple[Layer, ...], batch: Batch, read: Read | None
    ) -> None:
        self.traces = 0
        self._reader: AbstractReader = HostReader()
        self._variables = forward.variables
        carried = {id(variable) for variable in forward.carried}
        self._carried = [k for k, variable in enumerate(forward.variables) if id(variable) in carried]
        traced = Traced(forward, arrays)
        wanted: list[tuple[Layer, Node, Node | None]] = []
        listener = Listener(layers, lambda *found: wanted.append(found), forward.masked and batch.samples.mask is None)
        outputs = Reading(listener).read(traced.closed.jaxpr, traced.nodes)
        check_found(layers, listener.found)
        places = _addresses(wanted)
        whole = core.jaxpr_as_fun(exposed(traced.closed, [*places]))
        changed = {id(variable): traced.outputs + k for k, variable in enumerate(traced.changed)}

        def program(values: list[Any], tensors: list[Any], real: Any, mask: Any) -> Result:
            self.traces += 1
            given = whole(*values, *tensors)
            value = dict(zip(places, given[len(outputs) :], strict=True))
            reader = HostReader() if read is None else DeviceReader(read, jnp, int(real.shape[0]), real, mask)
            for layer, node, own in wanted:
                reader.seen(layer, value[_of(node)], None if own is None else value[_of(own)])
            self._reader = reader
            masks, reader.masks = reader.masks, []
            new = [given[changed[id(forward.variables[k])]] for k in self._carried]
            return Result(given[0] if traced.outputs else None, reader.outputs(), masks, new)

        self._program = jax.jit(program)

    def run(
        self, arrays: Sequence[Any], carried: Sequence[Any], batch: Batch, read: Read
    ) -> tuple[Result, Mapping[Layer, Mapping[Any, Chunk]]]:
        values = [variable.value for variable in self._variables]
        for k, value in zip(self._carried, carried, strict=False):
            values[k] = value
        size = len(arrays[0]) if arrays else batch.size
        result = self._program(values, [*map(distributed, arrays)], *counted(batch, size))
        return result, self._reader.chunks(result, batch, read)


def own_traces() -> Any:
    """A context in which inner `jit` functions are traced anew: what they keep from before would pass our wrappers by, and ours would stay with them."""
    return _user_context()(object())


@cache
def _user_context() -> Any:
    return jax.make_user_context() if hasattr(jax, "make_user_context") else lambda _: nullcontext()

"""A jaxpr read as a list of sites: the taps of layers say where they begin and end, the equations between them what happens.

What is found is a `Listing`: the layers, samples first, and for each the place of the program where its values are.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from .._errors import SiteError
from .._site import WHOLE, Axes, Site
from ._graph import Graph, Kind, Value
from ._layer import Layer, Layers, Role
from ._operations import Went
from .primitives import jax as primitives
from .primitives.jax import WrittenOut, written_out
from .program.jax import CALLS, REMAT, RULED, SCAN, Address, Mark, body_of, is_tap, taps_of

TAPPED = Kind("tap")
"""A value that the user named."""


@dataclass(frozen=True)
class Place:
    """Where the values of a site are: their address, the lengths of the scans around it, the axes that `vmap` added there."""

    address: Address
    loops: tuple[int, ...] = ()
    batched: tuple[int, ...] = ()


@dataclass(frozen=True)
class Listing:
    """What a program has to read.

    **Fields:** `layers`; `places` of their values; `samples` the axis of samples in those values once mapped axes are first and those of
    scans next, which the listed layers have in front.
    """

    layers: Layers
    places: Mapping[Site, Place]
    samples: Mapping[Site, int]


@dataclass(frozen=True)
class _Known:
    """What is known of a variable; `number` where it is a literal."""

    value: Value
    varies: bool
    number: Any = None


@dataclass
class _Call:
    """Taps of one call of a layer, until all of them are there."""

    taps: list[tuple[Any, _Known, Place]] = field(default_factory=list)


def listing(
    closed: Any, parameters: int, samples: int, *, mapped: bool = False, inputs: bool = False, only_taps: bool = False
) -> Listing:
    """Read a program.

    **Arguments:** `closed` a closed jaxpr whose first `parameters` inputs are the model's, the others the data's; `mapped` it is written
    for one sample, and samples will be an axis in front; `inputs` lists those of layers too; `only_taps` nothing but taps is a site.
    **Raises:** `SiteError` for a layer or tap that runs an unknown number of times.
    """
    _check_taps(closed.jaxpr)
    reader = _Reader(samples, mapped, inputs)
    jaxpr = closed.jaxpr
    reader.walk_program(jaxpr, parameters)
    return reader.listing(only_taps)


def _check_taps(jaxpr: Any) -> None:
    for _ in taps_of(jaxpr):
        pass


class _Reader:
    def __init__(self, samples: int, mapped: bool, inputs: bool) -> None:
        self.samples, self.mapped = samples, mapped
        self.graph = Graph(samples, inputs)
        self.places: dict[Any, Place] = {}
        self.tapped: set[Site] = set()
        self._open: list[str] = []
        self._call = _Call()
        self._made = 0

    # --- the ends ----------------------------------------------------------------------------------------------------------------

    def walk_program(self, jaxpr: Any, parameters: int) -> None:
        env: dict[Any, _Known] = {}
        for variable in (*jaxpr.constvars, *jaxpr.invars[:parameters]):
            env[variable] = self._new(variable.aval, False)
        for variable in jaxpr.invars[parameters:]:
            env[variable] = self._new(variable.aval, True)
        self.graph.constant(env[v].value for v in (*jaxpr.constvars, *jaxpr.invars[:parameters]))
        self.graph.given(env[v].value for v in jaxpr.invars[parameters:])
        self._walk(jaxpr, env, (), ())
        self.graph.gave(self._known(env, atom).value for atom in jaxpr.outvars)

    def listing(self, only_taps: bool) -> Listing:
        layers: list[Layer] = []
        places: dict[Site, Place] = {}
        axes: dict[Site, int] = {}
        twins = {self.graph.keys[site]: site for site in self.tapped}
        found = self.graph.found()
        roles = {self.graph.keys[x.site]: x.role for x in reversed(found) if x.site not in self.tapped}
        for layer in found:
            if only_taps and layer.site not in self.tapped:
                continue
            key = self.graph.keys[layer.site]
            places[layer.site] = place = self.places[key]
            layer, axes[layer.site] = self._samples_first(layer, place, key)
            if layer.site in self.tapped:  # what the user named is read, whatever it is
                layer = replace(layer, role=roles.get(key, Role.OTHER), left_out=layer.unfit)
            elif not layer.left_out and key in twins:
                layer = replace(layer, left_out=f"same values as {twins[key]}")
            layers.append(layer)
        return Listing(Layers(layers), places, axes)

    def _samples_first(self, layer: Layer, place: Place, key: Any) -> tuple[Layer, int]:
        """The layer with the axes of scans among its positions and samples in front; and where samples were."""
        front = len(place.batched) + self.mapped
        shape = (*layer.shape[:front], *place.loops, *layer.shape[front:])
        sample, unit = (
            axis if axis < front else axis + len(place.loops) for axis in (layer.axes.sample, layer.axes.unit)
        )
        note = layer.note
        if place.loops:
            note = "; ".join(filter(None, (note, "inside a loop, whose steps are positions")))
        if layer.unfit and not (place.loops and "number per sample" in layer.unfit):
            return replace(layer, shape=shape, axes=Axes(unit, sample), note=note), 0
        shape = (shape[sample], *shape[:sample], *shape[sample + 1 :])
        unit = unit + 1 if unit < sample else unit
        return replace(layer, shape=shape, axes=Axes(unit, 0), note=note), sample

    # --- values ------------------------------------------------------------------------------------------------------------------

    def _new(self, aval: Any, varies: bool, key: Any = None, order: Sequence[int] | None = None) -> _Known:
        self._made += 1
        own = tuple(aval.shape) if order is None else tuple(aval.shape[axis] for axis in order)
        shape = (self.samples, *own) if self.mapped and varies else own
        return _Known(Value(self._made if key is None else key, shape, str(aval.dtype)), varies)

    def _known(self, env: dict[Any, _Known], atom: Any) -> _Known:
        if not primitives.is_literal(atom):
            return env[atom]
        known = self._new(atom.aval, False)
        self.graph.constant([known.value])
        number = atom.val if not getattr(atom.val, "shape", ()) else None
        return replace(known, number=number)

    def _lifted(self, axes: Sequence[Went | None] | None) -> list[Went | None] | None:
        """Where axes went, counted with the axis of samples in front."""
        if axes is None or not self.mapped:
            return None if axes is None else [*axes]
        return [Went(0, 0), *(None if to is None else Went(to.first + 1, to.last + 1, to.alone) for to in axes)]

    def _operation(
        self, said: primitives.Said, inputs: Sequence[_Known], outputs: Sequence[tuple[Any, Any]], place: Place
    ) -> list[_Known]:
        """Tell the graph; `outputs` are pairs of a type and an output number."""
        varies = any(each.varies for each in inputs)
        found = [self._new(aval, varies, (*place.address, number)) for aval, number in outputs]
        for known, (_, number) in zip(found, outputs, strict=True):
            self.places[known.value.key] = replace(place, address=(*place.address, number))
        order = [said.source, *(k for k in range(len(inputs)) if k != said.source)] if inputs else []
        unit = said.unit if said.unit is None or not self.mapped else said.unit + 1
        self.graph.operation(
            said.name,
            [inputs[k].value for k in order],
            [known.value for known in found],
            went=self._lifted(said.went),
            unit=unit,
            args=said.args,
        )
        return found

    # --- the walk ----------------------------------------------------------------------------------------------------------------

    def _walk(self, jaxpr: Any, env: dict[Any, _Known], within: Address, loops: tuple[int, ...]) -> None:
        at = 0
        while at < len(jaxpr.eqns):
            equation = jaxpr.eqns[at]
            place = Place((*within, at), loops)
            name = equation.primitive.name
            if is_tap(equation):
                self._tap(equation, env, place)
            elif (function := primitives.function_of(equation)) is not None:
                self._simple(primitives.Said(function), equation, env, place)
            elif name in CALLS or name in RULED or (name in REMAT and body_of(equation) is not None):
                self._body(equation, env, place)
            elif name in SCAN:
                self._scan(equation, env, place)
            elif (first := written_out(equation)) is not None:
                at = self._arithmetic(first, jaxpr, at, env, within, loops)
                continue
            else:
                knowns = [self._known(env, atom) for atom in equation.invars]
                said = primitives.read(equation, [k.varies for k in knowns], [k.number for k in knowns])
                self._simple(said, equation, env, place, knowns)
                if name in ("convert_element_type", "broadcast_in_dim") and knowns[0].number is not None:
                    env[equation.outvars[0]] = replace(env[equation.outvars[0]], number=knowns[0].number)
            at += 1

    def _simple(
        self,
        said: primitives.Said,
        equation: Any,
        env: dict[Any, _Known],
        place: Place,
        knowns: Sequence[_Known] | None = None,
    ) -> None:
        inputs = [self._known(env, atom) for atom in equation.invars] if knowns is None else knowns
        outputs = [(variable.aval, number) for number, variable in enumerate(equation.outvars)]
        if knowns is None:  # a function: of its inputs the first that varies is its argument
            inputs = sorted(inputs, key=lambda each: not each.varies)
        env |= zip(equation.outvars, self._operation(said, inputs, outputs, place), strict=True)

    def _body(self, equation: Any, env: dict[Any, _Known], place: Place) -> None:
        body = body_of(equation)
        inner = dict(zip(body.invars, (self._known(env, atom) for atom in equation.invars), strict=True))
        inner |= self._constants(body)
        self._walk(body, inner, place.address, place.loops)
        env |= zip(equation.outvars, (self._known(inner, atom) for atom in body.outvars), strict=True)

    def _constants(self, body: Any) -> dict[Any, _Known]:
        found = {variable: self._new(variable.aval, False) for variable in body.constvars}
        self.graph.constant(known.value for known in found.values())
        return found

    def _scan(self, equation: Any, env: dict[Any, _Known], place: Place) -> None:
        """One step of the loop: constants are themselves, carries and slices what the outer ones are."""
        params, body = equation.params, body_of(equation)
        outer = [self._known(env, atom) for atom in equation.invars]
        consts, carries = params["num_consts"], params["num_carry"]
        varies = _loop_varies(body, [known.varies for known in outer], consts, carries)
        inner = dict(zip(body.invars[:consts], outer[:consts], strict=True)) | self._constants(body)
        for k, (variable, known) in enumerate(zip(body.invars, outer, strict=True)):
            if k >= consts:
                went = [None, *_same(len(variable.aval.shape))] if k >= consts + carries else None
                inner[variable] = self._passed(known, variable.aval, varies[k], went)
        loops = (*place.loops, params["length"])
        self._walk(body, inner, place.address, loops)
        for k, (variable, atom) in enumerate(zip(equation.outvars, body.outvars, strict=True)):
            known = self._known(inner, atom)
            went = None if k < carries else [Went(to.first + 1, to.last + 1) for to in _same(len(atom.aval.shape))]
            env[variable] = self._passed(known, variable.aval, known.varies, went)

    def _passed(self, known: _Known, aval: Any, varies: bool, went: Sequence[Went | None] | None) -> _Known:
        """A value on its way into a loop or out of it."""
        new = self._new(aval, varies)
        if not varies:
            self.graph.constant([new.value])
        elif known.varies:
            self.graph.operation("expand", [known.value], [new.value], went=self._lifted(went))
        return new

    # --- functions that JAX writes out -------------------------------------------------------------------------------------------

    def _arithmetic(
        self, first: WrittenOut, jaxpr: Any, at: int, env: dict[Any, _Known], within: Address, loops: tuple[int, ...]
    ) -> int:
        """The equations from here that one call of a function was written out as; gives the number of the next one."""
        end, last = at + 1, first
        while end < len(jaxpr.eqns):
            following = written_out(jaxpr.eqns[end])
            if following is None or not following.goes_on(first, last):
                break
            end, last = end + 1, following
        group = jaxpr.eqns[at:end]
        made = {variable: (at + k, number) for k, e in enumerate(group) for number, variable in enumerate(e.outvars)}
        later = {id(a) for e in jaxpr.eqns[end:] for a in e.invars} | {id(a) for a in jaxpr.outvars}
        used = dict.fromkeys(a for e in group for a in e.invars if not primitives.is_literal(a) and a not in made)
        inputs = sorted((env[a] for a in used), key=lambda each: not each.varies)
        for variable, (k, number) in made.items():
            if id(variable) in later:
                place = Place((*within, k), loops)
                said = primitives.Said(first.name)
                (env[variable],) = self._operation(said, inputs, [(variable.aval, number)], place)
        return end

    # --- taps --------------------------------------------------------------------------------------------------------------------

    def _tap(self, equation: Any, env: dict[Any, _Known], place: Place) -> None:
        known, params = self._known(env, equation.invars[0]), equation.params
        place = replace(place, address=(*place.address, 0), batched=params["batched"])
        variable, mark, path = equation.outvars[0], params["mark"], params["name"]
        env[variable] = known
        if mark is None:
            value = self._in_order(known, variable.aval, place)
            call = self.graph.opens(path, TAPPED, [value])
            self.tapped.add(Site(path, call))
            self.graph.closes([value])
            return
        if mark.of:
            self._call.taps.append((variable, known, place))
        if mark.part + 1 >= mark.of:
            taps, self._call = self._call.taps, _Call()
            (self._opens if mark.opens else self._closes)(path, mark, taps, env)

    def _opens(self, path: str, mark: Mark, taps: Sequence[tuple[Any, _Known, Place]], env: dict[Any, _Known]) -> None:
        self.graph.opens(path, mark.kind, [self._in_order(known, v.aval, place) for v, known, place in taps])
        self._open.append(path)

    def _closes(self, path: str, mark: Mark, taps: Sequence[tuple[Any, _Known, Place]], env: dict[Any, _Known]) -> None:
        if not self._open or self._open[-1] != path:
            raise SiteError(
                f"{path or WHOLE}: its call ends where {self._open[-1] if self._open else 'nothing'!r} runs, because a derivative was taken "
                "inside the model. Leave the derivative out of what is measured, with ls.Data(…, forward=…)."
            )
        self._open.pop()
        if not mark.kind.does:
            self.graph.closes([self._in_order(known, v.aval, place) for v, known, place in taps])
            return
        values: list[Value] = []
        for variable, known, place in taps:  # one step, whatever ran inside: a value of its own
            order = _batch_first(len(variable.aval.shape), place.batched)
            new = self._new(variable.aval, known.varies, place.address, order)
            self.places[new.value.key] = place
            values.append(new.value)
            env[variable] = new
        self.graph.closes(values)
        for variable, known, place in taps:
            order = _batch_first(len(variable.aval.shape), place.batched)
            if order != sorted(order):
                raw = self._new(variable.aval, known.varies)
                went = [Went(axis, axis) for axis in order]
                self.graph.operation("permute", [env[variable].value], [raw.value], went=self._lifted(went))
                env[variable] = raw

    def _in_order(self, known: _Known, aval: Any, place: Place) -> Value:
        """The value at a tap with the axes of `vmap` in front."""
        order = _batch_first(len(aval.shape), place.batched)
        if order == sorted(order):
            self.places.setdefault(known.value.key, place)
            return known.value
        new = self._new(aval, known.varies, place.address, order)
        self.places[new.value.key] = place
        went = [Went(order.index(axis), order.index(axis)) for axis in range(len(order))]
        self.graph.operation("permute", [known.value], [new.value], went=self._lifted(went))
        return new.value


def _same(rank: int) -> list[Went]:
    return [Went(axis, axis) for axis in range(rank)]


def _batch_first(rank: int, batched: tuple[int, ...]) -> list[int]:
    return [*batched, *(axis for axis in range(rank) if axis not in batched)]


def _loop_varies(body: Any, varies: Sequence[bool], consts: int, carries: int) -> list[bool]:
    """Which inputs of a loop's body depend on the data: a carry does if what it becomes does."""
    flags = [*varies]
    while True:
        out = _varying(body, flags)[:carries]
        new = [
            *flags[:consts],
            *(a or b for a, b in zip(flags[consts:], out, strict=False)),
            *flags[consts + carries :],
        ]
        if new == flags:
            return flags
        flags = new


def _varying(body: Any, flags: Iterable[bool]) -> list[bool]:
    env = dict(zip(body.invars, flags, strict=True))
    for equation in body.eqns:
        varies = any(env.get(atom, False) for atom in equation.invars if not primitives.is_literal(atom))
        env |= dict.fromkeys(equation.outvars, varies)
    return [not primitives.is_literal(atom) and env.get(atom, False) for atom in body.outvars]

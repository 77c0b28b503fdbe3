"""What a forward has to read: one walk over its layers and operations, in the order in which they run.

Whoever follows the forward, while it runs (PyTorch) or as a program (JAX, TensorFlow), says what happens: `opens`, `operation`, `closes`, in the
names of `_operations`. The rules are here, once, so equal networks are read at equal places in every framework.
"""

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, NamedTuple

from .._site import Axes, Site
from . import _operations as ops
from ._axes import Placed, placed
from ._flow import Flow, Numbers
from ._layer import Layer, Layers, Role
from ._select import default_choice


class Value(NamedTuple):
    """A tensor of a forward.

    **Fields:** `key` what tells it from others; `shape` with samples in it; `dtype` by name ("float32"); `version` how often its memory was
    written; `unfit` why the framework cannot show its values, empty when it can; `mixed` whether samples share their axis with something
    else, where the framework knows.
    """

    key: Hashable
    shape: tuple[int, ...]
    dtype: str
    version: int = 0
    unfit: str = ""
    mixed: bool = False


@dataclass(frozen=True)
class Kind:
    """What a framework says of a layer.

    **Fields:** `name` and `bases` (full names) of its class; `does` the function of `_operations` that a layer of the framework itself is
    ("conv", "linear", "batch_norm", "relu", "dropout", …), empty where one has to look inside; `activation` the nonlinearity it applies to
    its result, as functions are named, empty for none; `unit` axis of its output, None where the values it is given decide;
    `args` of that function where they say what it does (`threshold`, `clamp`); `parts` whether layers inside are listed too;
    `sequence_first` whether it takes samples on axis 1, None where it does not say.
    """

    name: str
    bases: tuple[str, ...] = ()
    does: str = ""
    activation: str = ""
    unit: int | None = None
    args: tuple[Any, ...] = ()
    parts: bool = True
    sequence_first: bool | None = None


@dataclass
class _Frame:
    """One running call of a layer."""

    path: str
    kind: Kind
    number: int
    call: int
    inputs: list[Value]
    has_layers: bool = False
    weighs: bool = False
    sites: list[Site] = field(default_factory=list[Site])


class Graph:
    """Records one forward.

    **Arguments:** `samples` the size of the batch, None where it is unknown; `inputs` lists the inputs of layers too; `numbers` where the
    forward began before the recording did; `channels` where units lie if nothing says so; `seen` is called with every layer that can be read
    and its value, at the moment it is there.
    `keys` says which value of the forward each site has.
    """

    def __init__(
        self,
        samples: int | None = None,
        inputs: bool = False,
        *,
        numbers: Numbers | None = None,
        channels: Literal["first", "last"] = "last",
        seen: Callable[[Layer, Value], None] | None = None,
    ) -> None:
        self.samples, self.inputs, self.channels, self.seen = samples, inputs, channels, seen
        self.numbers = numbers or Numbers()
        self.layers: dict[Site, Layer] = {}
        self.keys: dict[Site, Hashable] = {}
        self._flows: dict[Hashable, Flow] = {}
        self._frames: list[_Frame] = []
        self._entered = 0
        self._activated: set[Site] = set()
        self._final: set[Site] = set()
        self._twins: dict[Site, Site] = {}
        self._inside: dict[Site, Site] = {}

    # --- ends of the forward -----------------------------------------------------------------------------------------------------

    def given(self, values: Iterable[Value], sample: int = 0) -> None:
        """What the model is given: samples on axis `sample`, where the sizes agree."""
        for value in values:
            fits = len(value.shape) > sample and self.samples in (None, value.shape[sample])
            self._flows[value.key] = Flow(sample=sample if fits else None)

    def knows(self, value: Value) -> bool:
        """Whether anything was said of a value."""
        return value.key in self._flows

    def constant(self, values: Iterable[Value]) -> None:
        """What does not depend on the model's input: parameters, buffers, literals."""
        for value in values:
            self._flows[value.key] = Flow(constant=True)

    def gave(self, outputs: Iterable[Value]) -> None:
        """What the model gave: which sites are only its logits."""
        for value in outputs:
            self._final |= self._flow(value).forms

    def found(self) -> Layers:
        """What was seen, in the order of the forward pass, with the default choice made."""
        return default_choice(tuple(self.layers.values()), self._activated, self._final, self._twins, self._inside)

    # --- layers ------------------------------------------------------------------------------------------------------------------

    def opens(self, path: str, kind: Kind, inputs: Sequence[Value] = ()) -> int:
        """A layer is called; gives the number of this call."""
        self._entered += 1
        frame = _Frame(path, kind, self._entered, self.numbers.next(path), list(inputs))
        self._frames.append(frame)
        for part, value in enumerate(inputs if self.inputs else ()):
            flow = self._flow(value)
            frame.sites.append(Site(path, frame.call, "in", part))
            self._record(frame.sites[-1], kind, flow, value, flow.role)
        return frame.call

    def failed(self) -> None:
        """The innermost layer call raised."""
        self._frames.pop()

    def closes(self, outputs: Sequence[Value]) -> None:
        """The innermost layer call is through."""
        frame = self._frames[-1]
        for part, value in enumerate(outputs):
            if frame.kind.does:
                self._known_output(frame, part, value)
            else:
                self._output(frame, part, value)
        self._frames.pop()
        if self._frames and not (outputs and all(self._flow(value).constant for value in outputs)):
            self._frames[-1].has_layers = True  # one that only prepares a weight makes no container
        outer = next((each for each in self._frames if each.kind.does), None)
        if outer is not None:  # the outermost layer that is read as one
            for part in range(len(outputs)):
                self._inside[Site(frame.path, frame.call, "out", part)] = Site(outer.path, outer.call)
        if not frame.kind.does and frame.has_layers:
            for site in frame.sites:
                self.layers[site] = replace(self.layers[site], leaf=False)

    def _known_output(self, frame: _Frame, part: int, value: Value) -> None:
        """The result of a layer of the framework itself: one step, whatever runs inside."""
        kind, site = frame.kind, Site(frame.path, frame.call, "out", part)
        sources = [(self._flow(each), each.shape) for each in frame.inputs if not self._flow(each).constant]
        flow = self._after(kind.does, sources, value, args=kind.args)
        weighs = flow.role in (Role.WEIGHT, Role.RECURRENT, Role.LOOKUP)
        if kind.unit is not None:
            flow = replace(flow, unit=kind.unit % max(1, len(value.shape)))
        if flow.sample is None and not flow.mixed:
            flow = replace(flow, sample=0)
        if kind.activation:
            after = ops.role_of(kind.activation, kind.args, {}, weighted=True)
            if after in (Role.NONLINEARITY, Role.SOFTMAX):
                self._activated |= frozenset() if weighs else flow.pending
                forms: frozenset[Site] = frozenset()
                if ops.keeps_logits(kind.activation, after, one_head=True) and (weighs or flow.forms):
                    forms = (frozenset[Site]() if weighs else flow.forms) | frozenset({site})
                threshold = ops.threshold_of(kind.activation, after)
                flow = replace(flow, role=after, pending=frozenset(), forms=forms, threshold=threshold, same=None)
        elif flow.role is Role.WEIGHT:
            flow = replace(flow, pending=frozenset({site}), forms=frozenset({site}))
        elif flow.role in (Role.NONLINEARITY, Role.SOFTMAX) and flow.forms:
            flow = replace(flow, forms=flow.forms | {site})
        flow = replace(flow, owner=frame.number)
        self._flows[value.key] = self._record(site, kind, flow, value, flow.role)

    def _output(self, frame: _Frame, part: int, value: Value) -> None:
        """The result of a layer that was looked into."""
        flow = self._flows.get(value.key) or Flow(sample=self._sequence(value), owner=frame.number)
        site = Site(frame.path, frame.call, "out", part)
        role = flow.role if flow.owner == frame.number else Role.RESHAPE
        if frame.has_layers:
            role = Role.CONTAINER
        elif role in (Role.OTHER, Role.RESHAPE) and flow.owner == frame.number and frame.weighs:
            role = Role.WEIGHT
        if role in (Role.NONLINEARITY, Role.SOFTMAX) and (old := self._function_of(frame, flow, value)) is not None:
            del self.layers[old]  # the layer is that function
            self.keys.pop(old, None)
            forms = flow.forms - {old} | frozenset({site} if old in flow.forms else ())
            flow = replace(flow, forms=forms, same=None)
        if frame.kind.unit is not None:
            flow = replace(flow, unit=frame.kind.unit % max(1, len(value.shape)))
        if role is Role.RECURRENT and frame.kind.sequence_first is not None and len(value.shape) == 3:
            sequence_first = frame.kind.sequence_first or part > 0  # the last states come layer by layer
            flow = replace(flow, unit=2, sample=1 if sequence_first else 0, mixed=False)
        if role is Role.WEIGHT:
            flow = replace(flow, pending=frozenset({site}), forms=frozenset({site}))
        flow = replace(flow, mixed=flow.mixed or value.mixed)
        self._flows[value.key] = self._record(site, frame.kind, flow, value, role, leaf=not frame.has_layers)

    def _function_of(self, frame: _Frame, flow: Flow, value: Value) -> Site | None:
        """The function inside this layer whose result is the layer's own output."""
        site, prefix = flow.same, f"{frame.path}." if frame.path else ""
        inside = site is not None and site.path.startswith(prefix) and site.path.endswith("()")
        mine = inside and "." not in site.path[len(prefix) :]  # type: ignore[union-attr]
        return site if mine and site in self.layers and value.version == flow.version else None

    # --- operations --------------------------------------------------------------------------------------------------------------

    def numbered(self, name: str) -> Site:
        """The site that this use of a function would be."""
        path = self._frames[-1].path if self._frames else ""
        return Site(f"{path}.{name}()".lstrip("."), self.numbers.next(path, name) if ops.counts(name) else 0)

    def operation(
        self,
        name: str,
        inputs: Sequence[Value],
        outputs: Sequence[Value],
        *,
        went: Sequence[ops.Went | None] | None = None,
        unit: int | None = None,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
        site: Site | None = None,
        places: Callable[[Flow, tuple[int, ...], tuple[int, ...]], Placed] | None = None,
        at_zero: Callable[[], float] | None = None,
    ) -> Site | None:
        """One operation of the forward, by its name in `_operations`; gives its site where it is one.

        `went` says where the axes of the first input that varies are in the output (transpose, sums, broadcasts); without it equal ranks
        keep their axes. `unit` is the axis of the output that holds units, where the operation itself says so (a convolution).
        `args`, `kwargs` of the function where they matter: the lower end of a clamp, whether a dropout drops. `site` where it was numbered
        before it ran. `places` is a framework's own rule for the axes of a result, `at_zero` what it gives for 0.
        """
        if any(frame.kind.does for frame in self._frames):
            self._through(inputs, outputs)
            return None
        site = site or self.numbered(name)
        flows = [(self._flow(value), value.shape) for value in inputs]
        sources = [(self._unwritten(value), value.shape) for value in inputs if not self._flow(value).constant]
        if self._frames and 0 < len(sources) < len(flows) and ops.weighs(name):
            self._frames[-1].weighs = True
        for part, value in enumerate(outputs):
            if not sources:
                self._flows[value.key] = Flow(constant=True)
                continue
            flow = self._after(name, sources, value, went, unit, args, kwargs or {}, places, at_zero)
            if part and name == "multi_head_attention_forward":  # how much each place attends to each
                flow = replace(flow, sample=0)
            elif name in ops.WRITES:  # the axes are those of what was written into
                into = flows[0][0]
                flow = replace(flow, unit=into.unit, sample=into.sample, mixed=into.mixed)
            if flow.role in (Role.NONLINEARITY, Role.SOFTMAX):
                flow = replace(flow, forms=flow.forms | {site} if flow.forms else flow.forms)
                flow = self._record(site, Kind(f"F.{name}"), flow, value, flow.role)
            self._flows[value.key] = flow
        return site if site in self.layers else None

    def _through(self, inputs: Sequence[Value], outputs: Sequence[Value]) -> None:
        """Inside a layer that is read as one only what varies matters."""
        varies = any(not self._flow(value).constant for value in inputs)
        for value in outputs:
            self._flows[value.key] = Flow(constant=not varies)

    def _after(
        self,
        name: str,
        sources: list[tuple[Flow, tuple[int, ...]]],
        value: Value,
        went: Sequence[ops.Went | None] | None = None,
        unit: int | None = None,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] = {},
        places: Callable[[Flow, tuple[int, ...], tuple[int, ...]], Placed] | None = None,
        at_zero: Callable[[], float] | None = None,
    ) -> Flow:
        """What becomes of a tensor in a function."""
        if not sources:
            return Flow(constant=True)
        rank = len(value.shape)
        known = [pair for pair in sources if pair[0].unit is not None or pair[0].sample is not None] or sources
        first, shape = next((pair for pair in known if len(pair[1]) == rank), known[0])
        pending = frozenset[Site]().union(*(flow.pending for flow, _ in sources))
        role = ops.role_of(name, args, kwargs, weighted=bool(pending))
        if places is not None:
            at, sample, mixed = places(first, shape, value.shape)
        else:
            at, sample, mixed = placed(name, went, first, shape, value.shape, args, kwargs)
        if sample is None and not mixed:
            sample = self._sequence(value)
        owner = self._frames[-1].number if self._frames else -1
        flow = Flow(role, owner, at if unit is None else unit % max(1, rank), sample, mixed)
        if role in (Role.NONLINEARITY, Role.RECURRENT):
            self._activated |= pending
        elif ops.waits(name, role, alone=len(sources) == 1):
            flow = replace(flow, pending=pending)
        heads = {frozenset(form.path for form in source.forms) for source, _ in sources}
        if ops.keeps_logits(name, role, one_head=len(heads) == 1):
            flow = replace(flow, forms=frozenset[Site]().union(*(source.forms for source, _ in sources)))
        if name in ops.SAME or (role is Role.DROPOUT and not ops.drops(args, kwargs)):
            flow = replace(flow, same=first.same, version=value.version)
        if role in (Role.RESHAPE, Role.DROPOUT, Role.POOL):
            flow = replace(flow, threshold=first.threshold)
        if role in (Role.NONLINEARITY, Role.SOFTMAX):
            flow = replace(flow, threshold=ops.threshold_of(name, role, at_zero))
        return flow

    # --- lines -------------------------------------------------------------------------------------------------------------------

    def _flow(self, value: Value) -> Flow:
        return self._flows.get(value.key, Flow())

    def _unwritten(self, value: Value) -> Flow:
        """The flow of a value; where its memory was written since, it is no other site's values any more."""
        flow = self._flow(value)
        return flow if flow.version == value.version else replace(flow, same=None)

    def _sequence(self, value: Value) -> int | None:
        """1 inside layers that take sequences before samples, else unknown."""
        sequence_first = any(frame.kind.sequence_first for frame in self._frames)
        return 1 if sequence_first and len(value.shape) == 3 else None

    def _by_rank(self, rank: int) -> int:
        """Where units lie if nothing says so: after the samples, or at the end."""
        return 1 if self.channels == "first" and rank != 3 else rank - 1

    def _record(self, site: Site, kind: Kind, flow: Flow, value: Value, role: Role, *, leaf: bool = True) -> Flow:
        """List one place; gives the flow of a value that is the same as at this place."""
        shape, note = value.shape, ""
        sample = 0 if flow.sample is None or flow.sample >= len(shape) else flow.sample
        unit = flow.unit
        if unit is None or unit >= len(shape) or unit == sample:
            unit, note = self._by_rank(len(shape)), "unit axis by rank, override with axes="
            unit = 0 if unit == sample else unit
        unfit = self._unfit(value, sample, flow)
        if unfit:
            note = ""
        elif flow.mixed:
            note = "; ".join(filter(None, (note, "samples and positions share an axis: each row counts as a sample")))
        layer = Layer(
            site, kind.name, role, shape, value.dtype, Axes(unit, sample), flow.threshold, leaf, note=note, unfit=unfit,
            bases=kind.bases,
        )  # fmt: skip
        self.layers[site], self.keys[site] = layer, value.key
        like = self.layers.get(flow.same) if flow.same is not None and flow.version == value.version else None
        if like is not None and (like.shape, like.axes, like.dtype) == (layer.shape, layer.axes, layer.dtype):
            self._twins[site] = self._twins.get(like.site, like.site)
        if self.seen is not None and not layer.unfit:
            self.seen(layer, value)
        return flow if like is not None else replace(flow, same=site, version=value.version)

    def _unfit(self, value: Value, sample: int, flow: Flow) -> str:
        """Why a place cannot be read at all; empty when it can."""
        if value.unfit:
            return value.unfit
        if len(value.shape) < 2:
            return "no unit axis: a number per sample" if value.shape else "a single number"
        if "complex" in value.dtype:
            return "complex values have no order"
        if flow.constant:
            return "does not depend on the model's input"
        if self.samples is None:
            return ""
        if flow.mixed:
            return f"its samples share axis {sample} with something else: say axes={{…}}"
        if value.shape[sample] != self.samples:
            return f"axis {sample} has {value.shape[sample]} entries for {self.samples} samples: say axes={{…}}"
        return ""

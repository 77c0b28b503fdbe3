"""Watch one eager forward pass of a PyTorch model and list every place that can be read.

A trace is told of every call of a module and of every torch function (`probes.hooks` does that).
Each tensor that depends on the model's input carries a short history (`Flow`): which axis holds its units and which its samples, which
weight layers it comes from, and of which site it is only another form.
"""

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, fields, is_dataclass, replace
from typing import Any

import torch
from torch.utils.weak import WeakIdKeyDictionary

from .._site import Axes, Site
from . import _operations as ops
from ._flow import Flow, Numbers
from ._layer import Layer, Layers, Role
from ._select import default_choice


@dataclass
class _Frame:
    """One running call of a module; `outside` the exception that was being handled when it began, `weighs` whether its own code
    multiplied by weights."""

    path: str
    module: torch.nn.Module
    number: int
    call: int
    outside: BaseException | None
    has_layers: bool = False
    weighs: bool = False
    inputs: list[Site] = field(default_factory=list)


class Trace:
    """Records one forward pass.

    **Arguments:** `samples` the size of the batch, None where it is unknown; `seen` is called with every layer and its tensor at the
    moment it is there, before anything in place can change it, and what it gives is kept in `values`; `inputs` lists the inputs of
    modules too; `numbers` where the forward began before the trace did.
    """

    def __init__(
        self,
        samples: int | None = None,
        seen: Callable[[Layer, torch.Tensor], Any] | None = None,
        inputs: bool = False,
        numbers: Numbers | None = None,
    ) -> None:
        self.samples, self.seen, self.inputs = samples, seen, inputs
        self.numbers = numbers or Numbers()
        self.layers: dict[Site, Layer] = {}
        self.values: dict[Site, Any] = {}
        self.ran: set[tuple[str, int]] = set()
        self._flows: Any = WeakIdKeyDictionary()
        self._frames: list[_Frame] = []
        self._entered = 0
        self._activated: set[Site] = set()
        self._final: set[Site] = set()
        self._twins: dict[Site, Site] = {}

    def given(self, inputs: Iterable[torch.Tensor]) -> None:
        """Say what the model is given: samples first, where the sizes agree."""
        for tensor in inputs:
            if self.samples is None or _shape(tensor)[:1] == (self.samples,):
                self._flows[tensor] = Flow(sample=0)

    def gave(self, output: Any) -> None:
        """Say what the model gave: which sites are only its logits."""
        for tensor in tensors_in(output):
            self._final |= self._flow(tensor).forms

    def found(self) -> Layers:
        """What was seen, in the order of the forward pass, with the default choice made."""
        return default_choice(tuple(self.layers.values()), self._activated, self._final, self._twins)

    # --- modules -----------------------------------------------------------------------------------------------------------------

    def opens(self, path: str, module: torch.nn.Module, args: Any, kwargs: Any) -> None:
        """A module is called."""
        if not self._frames:
            unclear = self.samples is None and _sequences_first(module)
            new = [tensor for tensor in tensors_in((args, kwargs)) if tensor not in self._flows]
            self.given(tensor for tensor in new if not (unclear and _may_be_sequences(tensor)))
        for tensor in (*module._parameters.values(), *module._buffers.values()):
            if tensor is not None and tensor not in self._flows:
                self._flows[tensor] = Flow(constant=True)
        self._entered += 1
        frame = _Frame(path, module, self._entered, self.numbers.next(path), sys.exception())
        self._frames.append(frame)
        self.ran.add((path, frame.call))
        if self.inputs:
            for part, tensor in enumerate(tensors_in((args, kwargs))):
                flow = self._flow(tensor)
                frame.inputs.append(Site(path, frame.call, "in", part))
                self._record(frame.inputs[-1], module, flow, tensor, flow.role)

    def closes(self, path: str, module: torch.nn.Module, output: Any) -> None:
        """A module call is through, or raised."""
        if not self._frames or self._frames[-1].module is not module or self._frames[-1].path != path:
            return  # it never opened: a hook of the user raised before ours
        frame = self._frames[-1]
        try:
            if sys.exception() is not frame.outside:
                return
            given = list(tensors_in(output))
            for part, tensor in enumerate(given):
                self._module_output(frame, part, tensor, isinstance(output, torch.nn.utils.rnn.PackedSequence))
            if len(self._frames) > 1 and not (given and all(self._flow(t).constant for t in given)):
                self._frames[-2].has_layers = True  # one that only prepares a weight makes no container
            for part in frame.inputs if frame.has_layers else ():
                self.layers[part] = replace(self.layers[part], leaf=False)
        finally:
            self._frames.pop()

    def _module_output(self, frame: _Frame, part: int, tensor: torch.Tensor, packed: bool) -> None:
        flow = self._flows.get(tensor) or Flow(sample=self._sample_axis(tensor), owner=frame.number)
        site = Site(frame.path, frame.call, "out", part)
        role = flow.role if flow.owner == frame.number else Role.RESHAPE
        if frame.has_layers:
            role = Role.CONTAINER
        elif role in (Role.OTHER, Role.RESHAPE) and flow.owner == frame.number and frame.weighs:
            role = Role.WEIGHT
        if role in (Role.NONLINEARITY, Role.SOFTMAX) and (old := self._function_of(frame, flow, tensor)) is not None:
            del self.layers[old]  # the module is that function
            self.values.pop(old, None)
            forms = flow.forms - {old} | ({site} if old in flow.forms else set())
            flow = replace(flow, forms=forms, same=None)
        if role is Role.RECURRENT and tensor.dim() == 3:
            batch_first = bool(getattr(frame.module, "batch_first", False)) and part == 0
            flow = replace(flow, unit=2, sample=0 if batch_first else 1, mixed=False)
        if role is Role.WEIGHT:
            flow = replace(flow, pending=frozenset({site}), forms=frozenset({site}))
        flow = replace(flow, mixed=flow.mixed or packed)
        self._flows[tensor] = self._record(site, frame.module, flow, tensor, role, leaf=not frame.has_layers)

    def _flow(self, tensor: torch.Tensor) -> Flow:
        return self._flows.get(tensor, Flow())

    def _function_of(self, frame: _Frame, flow: Flow, tensor: torch.Tensor) -> Site | None:
        """The function inside this module whose result is the module's own output."""
        site, prefix = flow.same, f"{frame.path}." if frame.path else ""
        inside = site is not None and site.path.startswith(prefix) and site.path.endswith("()")
        mine = inside and "." not in site.path[len(prefix) :]  # type: ignore[union-attr]
        return site if mine and site in self.layers and _version(tensor) == flow.version else None

    def _sample_axis(self, tensor: torch.Tensor) -> int | None:
        """1 inside modules that say `batch_first=False`, else unknown."""
        sequence_first = any(getattr(frame.module, "batch_first", True) is False for frame in self._frames)
        return 1 if sequence_first and tensor.dim() == 3 else None

    # --- functions ---------------------------------------------------------------------------------------------------------------

    def function(self, func: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any], run: Callable[[], Any]) -> Any:
        """Run one torch function of the forward and note what becomes of its tensors."""
        name = name_of(func)
        given = list(tensors_in((args, kwargs)))
        flows = [(self._flow(tensor), _shape(tensor)) for tensor in given]
        path = self._frames[-1].path if self._frames else ""
        site = Site(f"{path}.{name}()".lstrip("."), self.numbers.next(path, name) if ops.counts(name) else 0)
        result = run()
        sources = [(flow, shape) for flow, shape in flows if not flow.constant]
        if self._frames and 0 < len(sources) < len(flows) and ops.weighs(name):
            self._frames[-1].weighs = True
        for part, tensor in enumerate(tensors_in(args[0] if name == "__setitem__" else result)):
            if sources:
                flow = self._function_output(func, name, args, kwargs, sources, tensor, site)
                if part and name == "multi_head_attention_forward":  # how much each place attends to each
                    flow = replace(flow, sample=0)
                elif name in ops.WRITES:  # the axes are those of what was written into
                    into = flows[0][0]
                    flow = replace(flow, unit=into.unit, sample=into.sample, mixed=into.mixed)
                self._flows[tensor] = flow
            elif given:
                self._flows[tensor] = Flow(constant=True)
        return result

    def _function_output(
        self, func: Any, name: str, args: Any, kwargs: Any, sources: list[tuple[Flow, tuple[int, ...]]], tensor: torch.Tensor, site: Site
    ) -> Flow:  # fmt: skip
        known = [pair for pair in sources if pair[0].unit is not None or pair[0].sample is not None] or sources
        first, shape = next((pair for pair in known if len(pair[1]) == tensor.dim()), known[0])
        pending = frozenset[Site]().union(*(flow.pending for flow, _ in sources))
        role = ops.role_of(name, args, kwargs, weighted=bool(pending))
        unit, sample, mixed = _axes(func, name, args, kwargs, first, shape, tensor)
        if sample is None and not mixed:
            sample = self._sample_axis(tensor)
        flow = Flow(role, self._frames[-1].number if self._frames else -1, unit, sample, mixed)
        if role in (Role.NONLINEARITY, Role.RECURRENT):
            self._activated |= pending
        elif ops.waits(name, role, alone=len(sources) == 1):
            flow = replace(flow, pending=pending)
        heads = {frozenset(form.path for form in source.forms) for source, _ in sources}
        if ops.keeps_logits(name, role, one_head=len(heads) == 1):
            flow = replace(flow, forms=frozenset[Site]().union(*(source.forms for source, _ in sources)))
        if name in ops.SAME or (role is Role.DROPOUT and not ops.drops(args, kwargs)):
            flow = replace(flow, same=first.same, version=_version(tensor))
        if role in (Role.RESHAPE, Role.DROPOUT, Role.POOL):
            flow = replace(flow, threshold=first.threshold)
        if role in (Role.NONLINEARITY, Role.SOFTMAX):
            threshold = None if role is Role.SOFTMAX else _at_zero(func, args, kwargs) if name in ops.BY_ZERO else 0.0
            flow = replace(flow, threshold=threshold, forms=flow.forms | {site} if flow.forms else flow.forms)
            flow = self._record(site, name, flow, tensor, role)
        return flow

    # --- lines -------------------------------------------------------------------------------------------------------------------

    def _record(
        self, site: Site, of: torch.nn.Module | str, flow: Flow, tensor: torch.Tensor, role: Role, *, leaf: bool = True
    ) -> Flow:
        """List one place; gives the flow of a tensor that has the values of this place."""
        shape, note = _shape(tensor), ""
        sample = 0 if flow.sample is None or flow.sample >= len(shape) else flow.sample
        unit = flow.unit
        if unit is None or unit >= len(shape) or unit == sample:
            unit, note = (1 if len(shape) == 2 or len(shape) > 3 else 2), "unit axis by rank, override with axes="
            unit = 0 if unit == sample else unit
        unfit = self._unfit(tensor, shape, sample, flow)
        if unfit:
            note = ""
        elif flow.mixed:
            note = "; ".join(filter(None, (note, "samples and positions share an axis: each row counts as a sample")))
        kind, bases = (f"F.{of}", ()) if isinstance(of, str) else _class_of(of)
        dtype = str(tensor.dtype).removeprefix("torch.")
        layer = Layer(
            site, kind, role, shape, dtype, Axes(unit, sample), flow.threshold, leaf, note=note, bases=bases,
            unfit=unfit,
        )  # fmt: skip
        self.layers[site] = layer
        like = self.layers.get(flow.same) if flow.same is not None and _version(tensor) == flow.version else None
        if like is not None and (like.shape, like.axes, like.dtype) == (layer.shape, layer.axes, layer.dtype):
            self._twins[site] = self._twins.get(like.site, like.site)
        if self.seen is not None and not layer.unfit:
            with torch._C.DisableTorchFunction():
                self.values[site] = self.seen(layer, tensor)
        return flow if like is not None else replace(flow, same=site, version=_version(tensor))

    def _unfit(self, tensor: torch.Tensor, shape: tuple[int, ...], sample: int, flow: Flow) -> str:
        """Why a place cannot be read at all; empty when it can."""
        if tensor.is_nested:
            return "a nested tensor: its rows have no common shape"
        if in_functorch(tensor):
            return "it runs inside torch.func (vmap or grad), where values cannot be read"
        if len(shape) < 2:
            return "no unit axis: a number per sample" if shape else "a single number"
        if tensor.is_complex():
            return "complex values have no order"
        if tensor.is_quantized:
            return "quantized values"
        if flow.constant:
            return "does not depend on the model's input"
        if self.samples is None:
            return ""
        if flow.mixed:
            return f"its samples share axis {sample} with something else: say axes={{…}}"
        if shape[sample] != self.samples:
            return f"axis {sample} has {shape[sample]} entries for {self.samples} samples: say axes={{…}}"
        return ""


def tensors_in(value: Any) -> Iterator[torch.Tensor]:
    """The tensors of an output in order: of tuples, lists, dicts and dataclasses, however nested; of a packed sequence its data."""
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, torch.nn.utils.rnn.PackedSequence):
        yield value.data
    elif isinstance(value, Mapping):
        for each in value.values():
            yield from tensors_in(each)
    elif isinstance(value, tuple | list):
        for each in value:
            yield from tensors_in(each)
    elif is_dataclass(value) and not isinstance(value, type):
        for each in fields(value):
            yield from tensors_in(getattr(value, each.name, None))


def unwrapped(model: torch.nn.Module) -> torch.nn.Module:
    """The user's own module inside what `torch.compile` and (distributed) data parallelism wrap around it."""
    parallel = (torch.nn.DataParallel, torch.nn.parallel.DistributedDataParallel)
    while True:
        inner = getattr(model, "_orig_mod", None) or (model.module if isinstance(model, parallel) else None)
        if not isinstance(inner, torch.nn.Module):
            return model
        model = inner


def name_of(func: Any) -> str:
    """A torch function's name: of the property where it reads one, without the underscore of the in-place form."""
    name = getattr(func, "__name__", "")
    if name == "__get__":
        return getattr(getattr(func, "__self__", None), "__name__", "")
    return ops.plain(name)


def in_backward() -> bool:
    """Whether autograd is running: activation checkpointing repeats forwards there, which must not count twice."""
    return torch._C._current_graph_task_id() != -1


def in_functorch(tensor: torch.Tensor) -> bool:
    """Whether a tensor stands for others inside `torch.func`."""
    return torch._C._functorch.is_functorch_wrapped_tensor(tensor)  # pyright: ignore[reportAttributeAccessIssue]


def _sequences_first(module: torch.nn.Module) -> bool:
    """Whether anything in a module asks for sequences before samples."""
    return any(getattr(each, "batch_first", True) is False for each in module.modules())


def _may_be_sequences(tensor: torch.Tensor) -> bool:
    """Whether a tensor can hold sequences of vectors, or of tokens."""
    return tensor.dim() == 3 or (tensor.dim() == 2 and not tensor.dtype.is_floating_point)


def _class_of(module: torch.nn.Module) -> tuple[str, tuple[str, ...]]:
    """Name and full names of the class and its bases, without what parametrisation puts in front."""
    classes = type(module).__mro__
    if torch.nn.utils.parametrize.is_parametrized(module):
        classes = classes[1:]
    own = classes[: classes.index(torch.nn.Module)]
    return classes[0].__name__, tuple(f"{c.__module__}.{c.__qualname__}" for c in own)


def _axes(
    func: Any, name: str, args: Any, kwargs: Any, source: Flow, shape: tuple[int, ...], out: torch.Tensor
) -> tuple[int | None, int | None, bool]:
    """Unit axis, sample axis, and whether samples share theirs with something else, of a function's result."""
    rank, unit, sample, mixed = out.dim(), source.unit, source.sample, source.mixed
    if name == "pack_padded_sequence":
        return 1, 0, True
    if name == "pad_packed_sequence":
        return 2, 0 if args[2] else 1, False
    if name in ops.SAME or name in ops.PARTS or name in ops.REDUCTIONS:
        went = axes_went(func, name, args, kwargs, shape, _shape(out))
        units, samples = (None if axis is None or axis >= len(went) else went[axis] for axis in (unit, sample))
        if samples is not None:  # of an axis that samples share the first piece is theirs
            mixed = not samples.alone or (mixed and samples.whole)
        elif sample is not None:
            mixed = True
        return None if units is None else units.last, None if samples is None else samples.first, mixed
    if name == "stack":
        at = int(kwargs.get("dim", args[1] if len(args) > 1 else 0)) % rank
        return None if unit is None else unit + (unit >= at), None if sample is None else sample + (sample >= at), mixed
    if name in ops.RECURRENT and mixed and rank == 3:  # what is left of a packed sequence is no sequence
        return 2, 1, False
    if rank != len(shape) and not name.startswith("embedding"):
        sample = None
    if name in ops.LAST:
        unit = max(rank - 1, 0)
    elif (
        name.startswith("conv")
        or name in ("batch_norm", "group_norm", "instance_norm")
        or ("pool" in name and unit is None)
    ):
        unit = 1
    elif name in ("layer_norm", "rms_norm") and unit is None:
        unit = rank - 1
    elif rank != len(shape):
        unit = None
    return unit, sample, mixed


def axes_went(
    func: Any, name: str, args: Any, kwargs: Any, old: tuple[int, ...], new: tuple[int, ...]
) -> list[ops.Went | None]:
    """Where the axes of a function's input are in its result."""
    if name in ops.CUTS:
        return ops.regrouped(old, new)
    if name in ops.REDUCTIONS and len(new) != len(old):
        return ops.reduced(len(old), len(new), args, kwargs)
    strides = _strides(func, args, kwargs, old)
    went: list[ops.Went | None] = [None] * len(old)
    for axis, tag in enumerate(_TAGS[: len(old)] if strides is not None else ()):
        at = [(stride, -k) for k, stride in enumerate(strides or ()) if stride and stride % tag == 0]
        went[axis] = (
            ops.Went(-min(at)[1], -min(at)[1]) if at else None
        )  # a new axis of size 1 may have a multiple of the stride
    if len(new) == len(old) and (strides is None or name in ("expand", "expand_as")):
        by_index = name == "__getitem__" and _chooses_samples(args[1])
        went = [to or (None if by_index and not axis else ops.Went(axis, axis)) for axis, to in enumerate(went)]
    return went


def _chooses_samples(index: Any) -> bool:
    """Whether an index picks some of the first axis by number or by mask."""
    first = index[0] if isinstance(index, tuple) and index else index
    return isinstance(first, torch.Tensor | list)


_TAGS = (1009, 1013, 1019, 1021, 1031, 1033, 1039, 1049, 1051)


def _strides(func: Any, args: Any, kwargs: Any, shape: tuple[int, ...]) -> tuple[int, ...] | None:
    """Strides of the result where the function is a view: run on a tensor without memory whose axes are told apart by prime strides."""
    if not args or not isinstance(args[0], torch.Tensor) or len(shape) > len(_TAGS) or _shape(args[0]) != shape:
        return None
    with torch._C.DisableTorchFunction(), torch.no_grad():
        tagged = torch.empty_strided(shape, _TAGS[: len(shape)], device="meta")
        try:
            result = next(tensors_in(func(tagged, *args[1:], **kwargs)), None)
        except Exception:  # no view: it needs values, or another device
            return None
    return result.stride() if result is not None and result._base is tagged else None


def _at_zero(func: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> float:
    """What a nonlinearity gives for 0, as this dtype rounds it."""
    given = next(tensors_in((args, kwargs)))
    with torch._C.DisableTorchFunction(), torch.no_grad():
        zero = torch.zeros(1, dtype=given.dtype, device=given.device)
        rest = {key: value for key, value in kwargs.items() if key not in ("input", "out")}
        return float(func(zero, *args[1:], **rest))


def _shape(tensor: torch.Tensor) -> tuple[int, ...]:
    return () if tensor.is_nested else tuple(tensor.shape)


def _version(tensor: torch.Tensor) -> int:
    """How often a tensor's memory was written; inference tensors do not count it."""
    return 0 if tensor.is_inference() else tensor._version

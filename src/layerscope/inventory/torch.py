"""Watch one eager forward pass of a PyTorch model and list every place that can be read.

Modules are seen by hooks, functions such as `F.relu` by a `TorchFunctionMode`.  What a layer *does* is taken from the functions that
run inside it, never from its class name, so a stranger's activation module is recognised by the `gelu` it calls.  Each tensor carries
a short history (`Flow`): which axis holds its units, and which weight layers it comes from.
"""

import hashlib
import math
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, fields, is_dataclass, replace
from itertools import count
from typing import Any

import torch
from torch.overrides import TorchFunctionMode
from torch.utils.weak import WeakIdKeyDictionary

from .._site import Axes, Site
from ._layer import Layer, Layers, Role
from ._select import default_choice

LN2 = math.log(2)

NONLINEARITIES: dict[str, float | Callable[[tuple[Any, ...], Mapping[str, Any]], float | None]] = {
    **dict.fromkeys(
        "relu relu6 elu selu celu gelu silu mish leaky_relu prelu rrelu tanh tanhshrink softsign hardtanh hardswish softshrink "
        "hardshrink glu sin".split(),
        0.0,
    ),
    "sigmoid": 0.5,
    "hardsigmoid": 0.5,
    "logsigmoid": -LN2,
    "softplus": lambda args, kwargs: LN2 / float(kwargs.get("beta", args[1] if len(args) > 1 else 1.0)),
    "clamp": lambda args, kwargs: 0.0 if _lower(args, kwargs) == 0 else None,
    "clamp_min": lambda args, kwargs: 0.0 if _lower(args, kwargs) == 0 else None,
}
"""Above which output a unit fires: where its pre-activation is positive."""

SOFTMAX = frozenset({"softmax", "log_softmax", "softmin", "gumbel_softmax"})
RECURRENT = frozenset({"lstm", "gru", "rnn_tanh", "rnn_relu", "lstm_cell", "gru_cell", "rnn_tanh_cell", "rnn_relu_cell"})
WEIGHTS_LAST = frozenset({"linear", "bilinear", "matmul", "__matmul__", "mm", "addmm", "multi_head_attention_forward", "einsum"})
NORMS = frozenset(
    {"batch_norm", "layer_norm", "group_norm", "instance_norm", "rms_norm", "local_response_norm", "normalize", "_native_layer_norm"}
)
RESHAPES = frozenset(
    {
        *"view reshape flatten unflatten squeeze unsqueeze permute transpose movedim moveaxis swapaxes expand repeat".split(),
        *"contiguous clone detach to float half bfloat16 double type __getitem__ chunk split unbind narrow select".split(),
    }
)
SUMS = frozenset({"add", "sub", "__add__", "__radd__", "__iadd__", "__sub__", "__isub__", "cat", "concat", "stack", "mean", "sum"})
SCALES = frozenset({"mul", "div", "__mul__", "__rmul__", "__imul__", "__truediv__", "__itruediv__"})


def _lower(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    bound = kwargs.get("min", args[1] if len(args) > 1 else None)
    return bound if isinstance(bound, int | float) else None


@dataclass(frozen=True)
class Flow:
    """Where a tensor comes from: `role` and `owner` of the function that made it, axes of its units and samples, weight layers on the
    way here that met no nonlinearity yet (`pending`), and sites of which this is only another form (`forms`)."""

    role: Role = Role.OTHER
    owner: int = -1
    unit: int | None = None
    sample: int | None = None
    threshold: float | None = 0.0
    pending: frozenset[Site] = frozenset()
    forms: frozenset[Site] = frozenset()


def tensors_in(value: Any) -> Iterator[torch.Tensor]:
    """The tensors of an output in order: of tuples, lists, dicts and dataclasses, however nested."""
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, Mapping):
        for each in value.values():
            yield from tensors_in(each)
    elif isinstance(value, tuple | list):
        for each in value:
            yield from tensors_in(each)
    elif is_dataclass(value) and not isinstance(value, type):
        for each in fields(value):
            yield from tensors_in(getattr(value, each.name))


def unwrapped(model: torch.nn.Module) -> torch.nn.Module:
    """The user's own module inside what `torch.compile` and (distributed) data parallelism wrap around it."""
    parallel = (torch.nn.DataParallel, torch.nn.parallel.DistributedDataParallel)
    while True:
        inner = getattr(model, "_orig_mod", None) or (model.module if isinstance(model, parallel) else None)
        if not isinstance(inner, torch.nn.Module):
            return model
        model = inner


@dataclass
class _Frame:
    """One running call of a module."""

    path: str
    module: torch.nn.Module
    number: int
    call: int
    inputs: tuple[int, ...]
    has_layers: bool = False


class Trace:
    """Records the first forward pass that runs inside it; a context manager.

    `samples` is the size of the batch (None: unknown); `seen` is called with every layer and its tensor at the moment it is there,
    before anything in place can change it; `done` when the outermost module returns; `inputs` lists the inputs of modules too.
    """

    def __init__(
        self,
        model: torch.nn.Module,
        samples: int | None = None,
        seen: Callable[[Layer, torch.Tensor], None] | None = None,
        done: Callable[[], None] | None = None,
        inputs: bool = False,
    ) -> None:
        self.root, self.samples, self.seen, self.done, self.inputs = unwrapped(model), samples, seen, done, inputs
        self.layers: list[Layer] = []
        self.flows: Any = WeakIdKeyDictionary()
        self.frames: list[_Frame] = []
        self.numbers, self.calls, self.functions = count(), Counter[str](), Counter[tuple[str, str]]()
        self.activated: set[Site] = set()
        self.final: set[Site] = set()
        self.digests: dict[tuple[Any, ...], Site] = {}
        self.twins: dict[Site, Site] = {}
        self._hooks, self._mode = ExitStack(), _Functions(self)
        self._finished, self._turn = False, threading.RLock()

    def __enter__(self) -> "Trace":
        for path, module in self.root.named_modules():
            for handle in (
                module.register_forward_pre_hook(self._opens(path), with_kwargs=True),
                module.register_forward_hook(self._closes(path), always_call=True),
            ):
                self._hooks.callback(handle.remove)
        return self

    def __exit__(self, *error: Any) -> None:
        self._hooks.close()

    def chosen(self) -> Layers:
        """What was seen, with the default choice made."""
        return default_choice(self.layers, self.activated, self.final, self.twins)

    # --- modules -----------------------------------------------------------------------------------------------------------------

    def _opens(self, path: str) -> Callable[..., None]:
        def hook(module: torch.nn.Module, args: Any, kwargs: Any) -> None:
            if in_backward():
                return
            self._turn.acquire()  # replicas of one model in other threads wait until the first has been seen
            if self._finished:
                self._turn.release()
                return
            if not self.frames:
                self._mode.__enter__()
            given = list(tensors_in((args, kwargs)))
            frame = _Frame(path, module, next(self.numbers), self.calls[path], tuple(id(t) for t in given))
            self.calls[path] += 1
            if self.frames:
                self.frames[-1].has_layers = True
            self.frames.append(frame)
            if self.inputs:
                for part, tensor in enumerate(given):
                    flow = self.flows.get(tensor, Flow())
                    self._record(Site(path, frame.call, "in", part), type(module).__name__, flow, tensor, role=flow.role)

        return hook

    def _closes(self, path: str) -> Callable[..., None]:
        def hook(module: torch.nn.Module, args: Any, output: Any) -> None:
            if in_backward() or self._finished or not self.frames or self.frames[-1].path != path:
                return
            frame = self.frames[-1]
            try:
                for part, tensor in enumerate(tensors_in(output)):
                    self._module_output(frame, part, tensor)
            finally:
                self.frames.pop()
                if not self.frames:
                    self._mode.__exit__(None, None, None)
                    self._close(output)
                self._turn.release()

        return hook

    def _close(self, output: Any) -> None:
        """The outermost module is through: its outputs tell which sites are only the logits."""
        if output is None:  # it raised; the next forward will be the first
            self.layers.clear()
            return
        self._finished = True
        for tensor in tensors_in(output):
            self.final |= self.flows.get(tensor, Flow()).forms
        if self.done is not None:
            self.done()

    def _module_output(self, frame: _Frame, part: int, tensor: torch.Tensor) -> None:
        flow = self.flows.get(tensor, Flow(sample=self._sample_axis(tensor)))
        site = Site(frame.path, frame.call, "out", part)
        made_here = flow.owner == frame.number
        role = flow.role if made_here else Role.RESHAPE
        if frame.has_layers:
            role = Role.CONTAINER
        elif role is Role.OTHER and any(p.ndim > 1 for p in frame.module.parameters(recurse=False)):
            role = Role.WEIGHT
        if role in (Role.NONLINEARITY, Role.SOFTMAX) and self.layers and self._is_last_function(frame, tensor):
            old = self.layers.pop().site
            flow = replace(flow, forms=frozenset(s for s in flow.forms if s != old) | ({site} if old in flow.forms else set()))
            self.digests = {key: s for key, s in self.digests.items() if s != old}
            self.functions[old.path.rpartition(".")[0], old.path.rpartition(".")[2][:-2]] -= 1
        if role is Role.RECURRENT and tensor.dim() == 3:
            batch_first = bool(getattr(frame.module, "batch_first", False)) and part == 0
            flow = replace(flow, unit=2, sample=0 if batch_first else 1)
        if role is Role.WEIGHT:
            flow = replace(flow, pending=frozenset({site}), forms=frozenset({site}))
        self.flows[tensor] = flow
        self._record(site, type(frame.module).__name__, flow, tensor, role=role, leaf=not frame.has_layers)

    def _is_last_function(self, frame: _Frame, tensor: torch.Tensor) -> bool:
        """Whether the layer listed last is a function inside this module whose result is the module's own output."""
        prefix = f"{frame.path}." if frame.path else ""
        name = self.layers[-1].site.path
        return name.startswith(prefix) and name.endswith("()") and "." not in name[len(prefix) :] and self._last is tensor

    def _sample_axis(self, tensor: torch.Tensor) -> int | None:
        """1 inside modules that say `batch_first=False`, else unknown."""
        sequence_first = any(getattr(frame.module, "batch_first", True) is False for frame in self.frames)
        return 1 if sequence_first and tensor.dim() == 3 else None

    # --- functions ---------------------------------------------------------------------------------------------------------------

    _last: torch.Tensor | None = None

    def call(self, func: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        """Run one torch function of the forward and note what becomes of its tensors."""
        name = getattr(func, "__name__", "")
        if name in ("__get__", "__set__", "size", "dim", "stride", "is_floating_point", "__len__") or in_backward():
            return func(*args, **kwargs)
        sources = [self.flows.get(t, Flow(sample=self._sample_axis(t))) for t in tensors_in((args, kwargs))]
        shape = next((tuple(t.shape) for t in tensors_in((args, kwargs))), ())
        result = func(*args, **kwargs)
        for tensor in tensors_in(result):
            self._function_output(name, args, kwargs, sources, shape, tensor)
        return result

    def _function_output(
        self, name: str, args: tuple[Any, ...], kwargs: Any, sources: list[Flow], shape: tuple[int, ...], tensor: torch.Tensor
    ) -> None:
        first = next((s for s in sources if s.unit is not None or s.sample is not None), sources[0] if sources else Flow())
        plain = name.rstrip("_") if not name.startswith("__") else name
        role, threshold = _role(plain, args, kwargs)
        unit, sample = _axes(plain, args, first, shape, tensor)
        flow = Flow(role, self.frames[-1].number if self.frames else -1, unit, sample, threshold)
        pending = frozenset[Site]().union(*(s.pending for s in sources))
        if role in (Role.NONLINEARITY, Role.RECURRENT):
            self.activated |= pending
        elif plain in NORMS | RESHAPES | SUMS or role in (Role.DROPOUT, Role.POOL) or (plain in SCALES and len(sources) == 1):
            flow = replace(flow, pending=pending)
        if plain in RESHAPES or role is Role.SOFTMAX or plain == "sigmoid":
            flow = replace(flow, forms=first.forms)
        if role in (Role.NONLINEARITY, Role.SOFTMAX):
            path = self.frames[-1].path if self.frames else ""
            site = Site(f"{path}.{plain}()".lstrip("."), self.functions[path, plain])
            self.functions[path, plain] += 1
            if flow.forms:
                flow = replace(flow, forms=flow.forms | {site})
            self.flows[tensor] = flow
            self._last = tensor
            self._record(site, plain, flow, tensor, role=role)
        else:
            self.flows[tensor] = flow

    # --- lines -------------------------------------------------------------------------------------------------------------------

    def _record(self, site: Site, kind: str, flow: Flow, tensor: torch.Tensor, role: Role, leaf: bool = True) -> None:
        if tensor.dim() < 2 or tensor.is_complex() or not tensor.dtype.is_floating_point:
            return
        sample = 0 if flow.sample is None else flow.sample
        unit, note = flow.unit, ""
        if unit is None or unit >= tensor.dim() or unit == sample:
            unit = 1 if tensor.dim() == 2 or tensor.dim() > 3 else 2
            note = "unit axis by rank, override with axes="
        threshold = flow.threshold if role in (Role.NONLINEARITY, Role.SOFTMAX) else 0.0
        left_out = ""
        if self.samples is not None and tensor.shape[sample] != self.samples:
            left_out = f"axis {sample} has {tensor.shape[sample]} entries for {self.samples} samples: say axes={{…}}"
        layer = Layer(
            site, kind, role, tuple(tensor.shape), str(tensor.dtype).removeprefix("torch."), Axes(unit, sample),
            threshold, leaf, left_out, note,
        )  # fmt: skip
        self.layers.append(layer)
        twin = self._twin(site, tensor)
        if twin is not None:
            self.twins[site] = twin
        if self.seen is not None:
            self.seen(layer, tensor)

    def _twin(self, site: Site, tensor: torch.Tensor) -> Site | None:
        """An earlier site with the same values on the first two samples; constant tensors are nobody's twin."""
        with torch._C.DisableTorchFunction():
            few = tensor.detach()[:2].contiguous()
            if few.numel() == 0 or bool((few == few.flatten()[0]).all()):
                return None
            memory = few.cpu().view(torch.uint8).numpy()
        key = (tuple(tensor.shape), str(tensor.dtype), hashlib.blake2b(memory, digest_size=16).digest())
        return None if (earlier := self.digests.setdefault(key, site)) == site else earlier


class _Functions(TorchFunctionMode):
    """Hands every torch function that runs in this thread to a trace."""

    def __init__(self, trace: Trace) -> None:
        super().__init__()
        self.trace = trace

    def __torch_function__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None) -> Any:
        return self.trace.call(func, args, kwargs or {})


def _role(name: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> tuple[Role, float | None]:
    if name in NONLINEARITIES:
        rule = NONLINEARITIES[name]
        threshold = rule(args, kwargs) if callable(rule) else rule
        return (Role.OTHER, 0.0) if threshold is None else (Role.NONLINEARITY, threshold)
    if name in SOFTMAX:
        return Role.SOFTMAX, None
    for role, known in ((Role.RECURRENT, RECURRENT), (Role.NORM, NORMS), (Role.RESHAPE, RESHAPES)):
        if name in known:
            return role, 0.0
    if name in ("linear", "bilinear", "multi_head_attention_forward") or name.startswith("conv"):
        return Role.WEIGHT, 0.0
    if name.startswith("embedding"):
        return Role.LOOKUP, 0.0
    if "pool" in name or name in ("interpolate", "upsample"):
        return Role.POOL, 0.0
    return (Role.DROPOUT if "dropout" in name else Role.OTHER), 0.0


def _axes(name: str, args: tuple[Any, ...], source: Flow, shape: tuple[int, ...], out: torch.Tensor) -> tuple[int | None, int | None]:
    """The unit and sample axes of a function's result, as far as they follow from its input; the unit axis is None otherwise."""
    rank = out.dim()
    if name.startswith("conv"):
        return 1, source.sample
    if name in WEIGHTS_LAST or name.startswith("embedding") or name in RECURRENT:
        return max(rank - 1, 0), source.sample if rank == len(shape) else None
    if name in ("batch_norm", "group_norm", "instance_norm") or "pool" in name:
        return 1, source.sample
    if name in ("layer_norm", "rms_norm"):
        return (rank - 1 if source.unit is None else source.unit), source.sample
    if name in ("permute", "transpose", "swapaxes") and rank == len(shape):
        order = _order(name, args, rank)
        if order is not None:
            return tuple(None if axis is None else order.index(axis) for axis in (source.unit, source.sample))  # type: ignore
    if rank == len(shape) and (tuple(out.shape) == shape or name not in RESHAPES or name == "__getitem__"):
        return source.unit, source.sample
    return (1 if rank == 2 else None), None


def _order(name: str, args: tuple[Any, ...], rank: int) -> list[int] | None:
    numbers = args[1] if len(args) > 1 and isinstance(args[1], tuple | list) else args[1:]
    if not all(isinstance(n, int) for n in numbers):
        return None
    axes = [int(n) % rank for n in numbers]
    if name == "permute":
        return axes if sorted(axes) == list(range(rank)) else None
    order = list(range(rank))
    if len(axes) != 2:
        return None
    order[axes[0]], order[axes[1]] = order[axes[1]], order[axes[0]]
    return order


def in_backward() -> bool:
    """Whether autograd is running: activation checkpointing repeats forwards there, which must not count twice."""
    return torch._C._current_graph_task_id() != -1


"""Follow one eager forward pass of a PyTorch model, and say what happens in it to the recorder that lists every place that can be read.

A trace is told of every call of a module and of every torch function (`probes.hooks` does that).  Here is what is PyTorch's own: what
functions are called, where views put the axes, which tensors nobody can look into.
"""

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields, is_dataclass
from functools import partial
from typing import Any

import torch
from torch.utils.weak import WeakIdKeyDictionary

from .._site import Site
from . import _operations as ops
from ._axes import Placed, moved, placed
from ._flow import Flow, Numbers
from ._graph import Graph, Kind, Value
from ._layer import Layer, Layers


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
        self.samples, self.values, self.ran = samples, dict[Site, Any](), set[tuple[str, int]]()
        self._read = seen
        self._graph = Graph(
            samples, inputs, numbers=numbers, channels="first", seen=None if seen is None else self._seen
        )
        self._open: list[tuple[str, torch.nn.Module, BaseException | None]] = []
        self._keys: Any = WeakIdKeyDictionary()
        self._shown: dict[Any, torch.Tensor] = {}
        self._tensors = 0

    @property
    def layers(self) -> Mapping[Site, Layer]:
        """What was listed so far, in order."""
        return self._graph.layers

    def given(self, inputs: Iterable[torch.Tensor]) -> None:
        """Say what the model is given: samples first, where the sizes agree."""
        self._graph.given(self._value(tensor) for tensor in inputs)

    def gave(self, output: Any) -> None:
        """Say what the model gave: which sites are only its logits."""
        self._graph.gave(self._value(tensor) for tensor in tensors_in(output))

    def found(self) -> Layers:
        """What was seen, in the order of the forward pass, with the default choice made."""
        return self._graph.found()

    def opens(self, path: str, module: torch.nn.Module, args: Any, kwargs: Any) -> None:
        """A module is called; `sys.exception()` is the one that was being handled before."""
        tensors = list(tensors_in((args, kwargs)))
        if not self._open:
            unclear = self.samples is None and _sequences_first(module)
            new = [each for each in tensors if not self._graph.knows(self._value(each))]
            self.given(each for each in new if not (unclear and _may_be_sequences(each)))
        own = [
            self._value(each) for each in (*module._parameters.values(), *module._buffers.values()) if each is not None
        ]
        self._graph.constant(value for value in own if not self._graph.knows(value))
        self._open.append((path, module, sys.exception()))
        with self._showing(tensors) as inputs:
            self.ran.add((path, self._graph.opens(path, _kind(module), inputs)))

    def closes(self, path: str, module: torch.nn.Module, output: Any) -> None:
        """A module call is through, or raised."""
        if not self._open or self._open[-1][:2] != (path, module):
            return  # it never opened: a hook of the user raised before ours
        *_, outside = self._open.pop()
        if sys.exception() is not outside:
            self._graph.failed()
            return
        packed = isinstance(output, torch.nn.utils.rnn.PackedSequence)
        with self._showing(tensors_in(output), packed) as outputs:
            self._graph.closes(outputs)

    def function(self, func: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any], run: Callable[[], Any]) -> Any:
        """Run one torch function of the forward and note what becomes of its tensors."""
        name = name_of(func)
        given = [self._value(tensor) for tensor in tensors_in((args, kwargs))]
        site = self._graph.numbered(name)
        result = run()
        if given:  # what is made of nothing may come from anywhere
            with self._showing(tensors_in(args[0] if name == "__setitem__" else result)) as outputs:
                self._graph.operation(
                    name, given, outputs, args=args, kwargs=kwargs, site=site,
                    places=partial(_places, func, name, args, kwargs), at_zero=partial(_at_zero, func, args, kwargs),
                )  # fmt: skip
        return result

    @contextmanager
    def _showing(self, tensors: Iterable[torch.Tensor], packed: bool = False) -> Iterator[list[Value]]:
        """The values of tensors, which can be seen while the recorder is told of them."""
        shown = list(tensors)
        values = [self._value(tensor, packed) for tensor in shown]
        self._shown = {value.key: tensor for value, tensor in zip(values, shown, strict=True)}
        try:
            yield values
        finally:
            self._shown = {}

    def _value(self, tensor: torch.Tensor, packed: bool = False) -> Value:
        if tensor not in self._keys:
            self._tensors += 1
            self._keys[tensor] = self._tensors
        dtype = str(tensor.dtype).removeprefix("torch.")
        return Value(self._keys[tensor], _shape(tensor), dtype, _version(tensor), _unfit(tensor), packed)

    def _seen(self, layer: Layer, value: Value) -> None:
        assert self._read is not None
        with torch._C.DisableTorchFunction():
            self.values[layer.site] = self._read(layer, self._shown[value.key])


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


def _kind(module: torch.nn.Module) -> Kind:
    """Class and bases, without what parametrisation puts in front, and whether it takes sequences before samples."""
    classes = type(module).__mro__
    if torch.nn.utils.parametrize.is_parametrized(module):
        classes = classes[1:]
    own = classes[: classes.index(torch.nn.Module)]
    batch_first = getattr(module, "batch_first", None)
    bases = tuple(f"{c.__module__}.{c.__qualname__}" for c in own)
    return Kind(classes[0].__name__, bases, sequence_first=None if batch_first is None else batch_first is False)


def _unfit(tensor: torch.Tensor) -> str:
    """Why nobody can look into a tensor; empty when one can."""
    if tensor.is_nested:
        return "a nested tensor: its rows have no common shape"
    if in_functorch(tensor):
        return "it runs inside torch.func (vmap or grad), where values cannot be read"
    return "quantized values" if tensor.is_quantized else ""


def _places(
    func: Any, name: str, args: Any, kwargs: Any, source: Flow, old: tuple[int, ...], new: tuple[int, ...]
) -> Placed:
    """Where the axes of a source are in a function's result."""
    rank = len(new)
    if name == "pack_padded_sequence":
        return 1, 0, True
    if name == "pad_packed_sequence":
        return 2, 0 if args[2] else 1, False
    if name in ops.RECURRENT and source.mixed and rank == 3:  # what is left of a packed sequence is no sequence
        return 2, 1, False
    if name in ops.SAME or name in ops.PARTS or name in ops.REDUCTIONS:
        return moved(source, axes_went(func, name, args, kwargs, old, new))
    if name == "stack":
        at = int(kwargs.get("dim", args[1] if len(args) > 1 else 0)) % rank
        return moved(source, [ops.Went(axis + (axis >= at), axis + (axis >= at)) for axis in range(len(old))])
    if name.startswith("embedding"):
        return rank - 1, source.sample, source.mixed
    unit, sample, mixed = placed(name, None, source, old, new, args, kwargs)
    pools = "pool" in name and unit is None
    if pools or name.startswith("conv") or name in ("batch_norm", "group_norm", "instance_norm"):
        unit = 1
    elif name in ("layer_norm", "rms_norm") and unit is None:
        unit = rank - 1
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

"""Probes on PyTorch modules: which layers, which axis, and how hooks come and go."""

import os
import re
import threading
from collections.abc import Callable, Iterable, Mapping
from contextlib import nullcontext
from typing import Any

import torch

from ..._errors import ShapeError, SiteError, nearest
from ..._site import WHOLE, Activations, Axes, Site
from ...inventory import Layer, Role
from ...inventory.torch import in_backward, tensors_in, unwrapped
from ...probes.torch import activations
from .Layers import AbstractStateCapture, StateCaptureHook, _forget_compiled

LAST = frozenset(
    "Linear Bilinear LayerNorm RMSNorm Embedding EmbeddingBag RNNBase RNNCellBase MultiheadAttention Transformer TransformerEncoder "
    "TransformerEncoderLayer TransformerDecoder TransformerDecoderLayer".split()
)
CHANNEL = frozenset(
    "SyncBatchNorm GroupNorm LocalResponseNorm PixelShuffle PixelUnshuffle ChannelShuffle Upsample Unfold".split()
)

# Compiled code steps out of its graph here, or what we do would be compiled too.
_outside_graphs: Any = torch.compiler.disable


def axis_of(module: torch.nn.Module) -> int | None:
    """The axis that holds the units of a layer of PyTorch's own (or a class derived from it); None where it does not say."""
    for kind in type(module).__mro__:
        if not kind.__module__.startswith("torch.nn"):
            continue
        if kind.__name__ in LAST:
            return -1
        if kind.__name__ in CHANNEL or "BatchNorm" in kind.__name__:
            return 1
        if spatial := re.search(
            r"([123])d$", kind.__name__
        ):  # channels stand before the positions, with a batch axis or without
            return -1 - int(spatial[1])
    return None


class Witness:
    """Remembers, in each thread, which axis held the units when a layer that knows last gave a tensor of so many axes.

    A nonlinearity has the units of what it is applied to.
    """

    def __init__(self) -> None:
        self.seen = threading.local()

    @_outside_graphs
    def note(self, module: torch.nn.Module, args: Any, output: Any) -> None:
        axis = axis_of(module)
        tensor = next(tensors_in(output), None)
        if axis is not None and tensor is not None and tensor.dim():
            self.seen.__dict__[str(tensor.dim())] = axis % tensor.dim(), tensor.shape[axis % tensor.dim()]

    def axis(self, tensor: torch.Tensor) -> tuple[int | None, bool]:
        """The axis, and whether anything of so many axes was seen; None where the tensor has other units than that."""
        found = self.seen.__dict__.get(str(tensor.dim()))
        if found is None:
            return None, False
        axis, size = found
        return (axis if tensor.shape[axis] == size else None), True


@_outside_graphs
def take(probe: AbstractStateCapture, module: torch.nn.Module, value: Any, witness: Witness | None = None) -> None:
    """Give a probe what came by."""
    if not in_backward():
        probe._take(lambda: _look(probe, module, value, witness))


def _look(probe: AbstractStateCapture, module: torch.nn.Module, value: Any, witness: Witness | None) -> Activations:
    tensors = list(tensors_in(value))
    kind = type(module).__name__
    if not 0 <= probe.part < len(tensors):
        raise ShapeError(
            f"{probe.name}: {len(tensors)} tensors came by at this {kind}, and part {probe.part} (counted from 0) was asked for. Choose "
            "another part=, or leave the layer out."
        )
    tensor = tensors[probe.part]
    if tensor.is_nested:
        raise ShapeError(
            f"{probe.name}: a nested tensor came by at this {kind}, whose rows have no common shape. Make the encoder with "
            "enable_nested_tensor=False, or leave the layer out."
        )
    shape = tuple(tensor.shape)
    axis = _unit_axis(probe, module, tensor, witness)
    if axis is None or not -len(shape) <= axis < len(shape):
        reason = f"a {kind} does not say" if axis is None else f"axis {axis} is not there"
        raise ShapeError(
            f"{probe.name}: which axis of shape {shape} holds the units? {reason[0].upper()}{reason[1:]}.\n    right: "
            f"StateCaptureHook({probe.name!r}, unit_axis=1), or, where build_efficiency_model made the probe, set its unit_axis = 1 (it is in "
            "model.efficiency_layers) and call its reset_states()"
        )
    axis %= len(shape)
    if axis == 0:  # one sample without a batch axis
        tensor, axis = tensor.unsqueeze(0), 1
    shape, dtype = tuple(tensor.shape), str(tensor.dtype)
    return activations(Layer(Site(probe.name), kind, Role.OTHER, shape, dtype, Axes(axis)), tensor)


def _unit_axis(
    probe: AbstractStateCapture, module: torch.nn.Module, tensor: torch.Tensor, witness: Witness | None
) -> int | None:
    if probe.unit_axis is not None:
        return probe.unit_axis
    axis, seen = axis_of(module), False
    if axis is None and witness is not None:
        axis, seen = witness.axis(tensor)
    if axis is None and not seen and tensor.dim() != 3 and tensor.dim() > 1:
        return 1  # PyTorch's own convention: channels first
    return axis


class Placed:
    """A hook of `build_efficiency_model`; copied or saved with the module it sits on, it becomes a function that does nothing."""

    def __init__(self, call: Callable[..., None]) -> None:
        self.call = call

    def __call__(self, module: torch.nn.Module, *passed: Any) -> None:
        self.call(module, *passed)

    def __deepcopy__(self, memo: Any) -> Any:
        return nullcontext().__exit__

    def __reduce__(self) -> Any:
        # of the standard library, takes anything, returns None: such a model loads without layerscope
        return getattr, (nullcontext(), "__exit__")


class Probes(list[AbstractStateCapture]):
    """`model.efficiency_layers`: the probes of a model, and the hooks that feed them.

    A deep copy holds inert probes, and a saved model an empty list: it loads without layerscope.
    """

    def __init__(self, probes: Iterable[AbstractStateCapture], handles: Iterable[Any] = ()) -> None:
        self[:] = probes
        self.handles = list(handles)

    def __deepcopy__(self, memo: Any) -> "Probes":
        return Probes(probe.__deepcopy__(memo) for probe in self)

    def __reduce__(self) -> Any:
        return list, ()


def build(
    model: torch.nn.Module,
    attach_to: tuple[str, ...],
    exclude: tuple[str, ...],
    method: str,
    storage_path: str | os.PathLike[str] | None,
) -> torch.nn.Module:
    """See `build_efficiency_model`."""
    root = unwrapped(model)
    if isinstance(root, torch.jit.ScriptModule):
        raise SiteError(
            "build_efficiency_model: a scripted or traced model (torch.jit) runs no hooks, so nothing would be counted. Give the module "
            "it was made from."
        )
    chosen = _chosen(root, attach_to, exclude)
    ports = {"before": ("pre",), "after": ("post",), "both": ("pre", "post")}[method]
    probes = {
        (name, port): StateCaptureHook(f"{name}_{port}_states", storage_path) for name in chosen for port in ports
    }
    detach(model)
    witness = Witness() if any(axis_of(module) is None for module in chosen.values()) else None
    handles: list[Any] = []
    if witness is not None:
        knowing = [module for module in root.modules() if axis_of(module) is not None]
        handles += [module.register_forward_hook(Placed(witness.note)) for module in knowing]
    for (name, port), probe in probes.items():
        handles.append(_place(chosen[name], port, probe, witness))
    placed: Any = Probes(probes.values(), handles)
    for holder in (root, model):  # a wrapper of torch.compile or DataParallel shows them too
        holder.efficiency_layers = placed
    return model


def _place(module: torch.nn.Module, port: str, probe: AbstractStateCapture, witness: Witness | None) -> Any:
    if port == "post":

        def after(module: torch.nn.Module, args: Any, output: Any) -> None:
            take(probe, module, output, witness)

        return module.register_forward_hook(Placed(after))

    def before(module: torch.nn.Module, args: Any, kwargs: Any) -> None:
        take(probe, module, (args, kwargs), witness)

    return module.register_forward_pre_hook(Placed(before), with_kwargs=True)


def detach(model: torch.nn.Module) -> list[AbstractStateCapture]:
    """See `detach_efficiency_model`."""
    found: list[AbstractStateCapture] = []
    for holder in (unwrapped(model), model):
        probes = holder.__dict__.pop("efficiency_layers", None)
        if isinstance(probes, Probes):
            found = list(probes)
            for handle in probes.handles:
                handle.remove()
    if found:
        _forget_compiled()
    return found


def _chosen(root: torch.nn.Module, attach_to: tuple[str, ...], exclude: tuple[str, ...]) -> dict[str, torch.nn.Module]:
    """The layers asked for, under their first name, in the order of the model."""
    every = {name or WHOLE: module for name, module in root.named_modules(remove_duplicate=False)}
    wanted = [module for name in attach_to for module in _called(every, name, "attach_to")]
    refused = [module for name in exclude for module in _called(every, name, "exclude")]
    chosen = {
        name or WHOLE: module
        for name, module in root.named_modules()
        if any(module is each for each in wanted) and not any(module is each for each in refused)
    }
    if not chosen:
        raise SiteError(
            f"build_efficiency_model: attach_to={list(attach_to)}, exclude={list(exclude)} leaves no layer. {_listed(every)}"
        )
    return chosen


def _called(every: Mapping[str, torch.nn.Module], name: str, argument: str) -> list[torch.nn.Module]:
    found = [module for path, module in every.items() if name in (path, type(module).__name__)]
    if not found:
        kinds = [type(module).__name__ for module in every.values()]
        raise SiteError(
            f"build_efficiency_model: {argument} has {name!r}, which is no layer.{nearest(name, [*every, *kinds])} {_listed(every)}"
        )
    return found


def _listed(every: Mapping[str, torch.nn.Module]) -> str:
    kinds = sorted({type(module).__name__ for module in every.values()})
    return f"Layers are: {', '.join(every)}. Classes are: {', '.join(kinds)}."

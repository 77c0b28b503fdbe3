"""Equinox models as functions with taps: a copy whose layers have classes with a tapped call.

Equinox modules are written for one sample and called under `jax.vmap`; so are they here, unless `forward=` says otherwise.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any

import equinox as eqx

from ..inventory._graph import Kind
from ._net import Net, in_evaluation, inputs_of, kind_of
from .taps.jax import tapped_class

DOES = {
    "Linear": "linear",
    "Conv": "conv",
    "ConvTranspose": "conv",
    "Embedding": "embedding",
    "BatchNorm": "batch_norm",
    "LayerNorm": "layer_norm",
    "RMSNorm": "rms_norm",
    "GroupNorm": "group_norm",
    "Dropout": "dropout",
    "PReLU": "prelu",
    "Identity": "alias",
    "MultiheadAttention": "multi_head_attention_forward",
    "LSTMCell": "lstm_cell",
    "GRUCell": "gru_cell",
    **{
        f"{kind}Pool{dims}": "max_pool" if "Max" in kind else "avg_pool"
        for kind in ("Max", "Avg", "AdaptiveMax", "AdaptiveAvg", "", "Adaptive")
        for dims in ("", "1d", "2d", "3d")
    },
}
LAST = ("Linear", "Embedding", "MultiheadAttention", "LSTMCell", "GRUCell")


def is_equinox(model: Any) -> bool:
    return isinstance(model, eqx.Module)


def equinox_net(model: Any, forward: Callable[..., Any] | None) -> Net:
    """An Equinox model in inference mode; the user's is a frozen value and stays as it is."""
    copy = _instrumented(eqx.nn.inference_mode(model), ())
    parameters, static = eqx.partition(copy, eqx.is_array)

    def call(parameters: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        module = eqx.combine(parameters, static)
        if forward is not None:
            return forward(module, inputs_of(args, kwargs))
        return module(*args, **in_evaluation(type(model).__call__, (module, *args), kwargs))

    return Net("equinox", eqx.__version__, type(model).__name__, parameters, call, mapped=forward is None)


def _instrumented(value: Any, path: tuple[str, ...]) -> Any:
    """A copy of a tree of modules in which every module that can be called is tapped."""
    if isinstance(value, list | tuple) and not hasattr(value, "_fields"):
        return type(value)(_instrumented(each, (*path, str(k))) for k, each in enumerate(value))
    if isinstance(value, Mapping) and type(value) is dict:
        return {key: _instrumented(each, (*path, str(key))) for key, each in value.items()}
    if not isinstance(value, eqx.Module):
        return value
    cls, copy = type(value), object.__new__(type(value))
    if callable(value):
        copy = object.__new__(_tapped(cls, ".".join(path), _kind(value)))
    for field in dataclasses.fields(value):  # pyright: ignore[reportArgumentType]  # every module is a dataclass
        if field.name in value.__dict__:
            object.__setattr__(copy, field.name, _instrumented(value.__dict__[field.name], (*path, field.name)))
    return copy


@functools.cache
def _tapped(cls: type, path: str, kind: Kind) -> type:
    return tapped_class(cls, path, kind)


def _kind(module: Any) -> Kind:
    """Channels are the first axis of a sample, the last one of layers without positions."""
    spatial = getattr(module, "num_spatial_dims", None)
    author = next((each for each in type(module).__mro__ if "__call__" in vars(each)), type(module))
    unit = -1 if author.__name__ in LAST else None
    if isinstance(spatial, int):
        unit = -1 - spatial
    return kind_of(type(module), eqx.Module, "equinox.", DOES, unit)

"""Flax models as functions with taps: NNX, where a copy of the model has tapped layers, and Linen, whose calls can be intercepted."""

import functools
from collections.abc import Callable
from importlib.metadata import version
from typing import Any

import jax
from flax import linen, nnx

from .._errors import SiteError
from ..inventory._graph import Kind
from ._net import Net, in_evaluation, inputs_of, kind_of
from .taps.jax import marked_all, tapped_class

DOES = {
    "Linear": "linear",
    "LinearGeneral": "linear",
    "Dense": "linear",
    "DenseGeneral": "linear",
    "Einsum": "linear",
    "Conv": "conv",
    "_Conv": "conv",
    "ConvTranspose": "conv",
    "ConvLocal": "conv",
    "Embed": "embedding",
    "BatchNorm": "batch_norm",
    "LayerNorm": "layer_norm",
    "RMSNorm": "rms_norm",
    "GroupNorm": "group_norm",
    "InstanceNorm": "instance_norm",
    "Dropout": "dropout",
    "PReLU": "prelu",
    "MultiHeadAttention": "multi_head_attention_forward",
    "MultiHeadDotProductAttention": "multi_head_attention_forward",
    "SelfAttention": "multi_head_attention_forward",
    "RNN": "rnn_tanh",
    "Bidirectional": "rnn_tanh",
    "LSTMCell": "lstm_cell",
    "OptimizedLSTMCell": "lstm_cell",
    "ConvLSTMCell": "lstm_cell",
    "GRUCell": "gru_cell",
    "MGUCell": "gru_cell",
    "SimpleCell": "rnn_tanh_cell",
}
CHANNELS_LAST = {name for name, does in DOES.items() if not does.endswith("norm") and does not in ("dropout", "prelu")}


def is_nnx(model: Any) -> bool:
    return isinstance(model, nnx.Module)


def is_linen(model: Any) -> bool:
    return isinstance(model, linen.Module)


def nnx_net(model: Any, forward: Callable[..., Any] | None) -> Net:
    """An NNX model in evaluation mode.  The layers of a copy get classes with a tapped call; the user's objects stay as they are.

    A class, unlike an attribute or a hook, is part of what `nnx.split` keeps, so taps are there inside `nnx.jit`, `nnx.scan`, … too.
    """
    copy = nnx.merge(*nnx.split(model))
    copy.eval()
    for path, module in [*nnx.iter_modules(copy)]:
        if callable(module):
            module.__class__ = _tapped(type(module), ".".join(map(str, path)))
    graph, parameters = nnx.split(copy)

    def call(parameters: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        module = nnx.merge(graph, parameters)
        if forward is not None:
            return forward(module, inputs_of(args, kwargs))
        return module(*args, **in_evaluation(type(model).__call__, (module, *args), kwargs))

    return Net("flax.nnx", version("flax"), type(model).__name__, parameters, call)


@functools.cache
def _tapped(cls: type, path: str) -> type:
    return tapped_class(cls, path, _kind(cls, nnx.Module))


def linen_net(model: Any, params: Any, forward: Callable[..., Any] | None) -> Net:
    """A Linen module with its variables; parameters without a collection around them will do.

    **Raises:** `SiteError` without variables.
    """
    if params is None:
        raise SiteError(
            f"params=None: a Flax Linen module holds no parameters.\n"
            f"    wrong: ls.examine({type(model).__name__}(), data)\n"
            f"    right: ls.examine({type(model).__name__}(), data, params=variables)   # what model.init(key, x) gave, trained"
        )
    variables = params if "params" in params else {"params": params}

    def intercept(method: Any, args: Any, kwargs: Any, context: Any) -> Any:
        if context.method_name != "__call__":
            return method(*args, **kwargs)
        path, kind = ".".join(context.module.path), _kind(type(context.module), linen.Module)
        args, kwargs = marked_all(path, kind, (args, kwargs), opens=True)
        return marked_all(path, kind, method(*args, **kwargs), opens=False)

    def call(variables: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        with linen.intercept_methods(intercept):
            if forward is not None:
                return forward(model.bind(variables), inputs_of(args, kwargs))
            return model.apply(variables, *args, **in_evaluation(type(model).__call__, (model, *args), kwargs))

    def fresh(seed: int, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if forward is not None:
            raise SiteError(
                "references=['untrained'] with forward=: how the module is initialised is not known. Give the variables' own model: "
                "references={'untrained': model} on data without forward=."
            )
        keys = dict(zip(("params", "dropout"), jax.random.split(jax.random.key(seed)), strict=True))
        made = model.init(keys, *args, **in_evaluation(type(model).__call__, (model, *args), kwargs))
        return {name: made[name] for name in variables if name in made}

    return Net("flax.linen", version("flax"), type(model).__name__, variables, call, fresh=fresh)


@functools.cache
def _kind(cls: type, root: type) -> Kind:
    author = next((each for each in cls.__mro__ if "__call__" in vars(each)), cls)
    return kind_of(cls, root, "flax.", DOES, -1 if author.__name__ in CHANNELS_LAST else None)

"""What Keras says of its layers: which step of a network each is, what it is called, and what the functions of `keras.ops` do to axes.

Layers of Keras itself are known by class and read as one; whatever a user wrote (`call` of a class of theirs, an activation of theirs) is
looked into.
"""

import inspect
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import keras

from . import _operations as ops
from ._graph import Kind

LAYERS = {
    "Dense": "linear",
    "EinsumDense": "linear",
    "Embedding": "embedding",
    "ReversibleEmbedding": "embedding",
    "MultiHeadAttention": "multi_head_attention_forward",
    "GroupQueryAttention": "multi_head_attention_forward",
    "Attention": "scaled_dot_product_attention",
    "AdditiveAttention": "scaled_dot_product_attention",
    "BatchNormalization": "batch_norm",
    "GroupNormalization": "group_norm",
    "LayerNormalization": "layer_norm",
    "RMSNormalization": "rms_norm",
    "UnitNormalization": "normalize",
    "Normalization": "normalize",
    "Rescaling": "normalize",
    "ReLU": "relu",
    "LeakyReLU": "leaky_relu",
    "PReLU": "prelu",
    "ELU": "elu",
    "Softmax": "softmax",
    "Identity": "alias",
    "ActivityRegularization": "alias",
    "Masking": "masking",
    "Flatten": "flatten",
    "Reshape": "reshape",
    "RepeatVector": "repeat",
    "Add": "add",
    "Subtract": "sub",
    "Average": "mean",
    "Multiply": "mul",
    "Concatenate": "cat",
    "Maximum": "maximum",
    "Minimum": "minimum",
    "Dot": "matmul",
    "RNN": "rnn_tanh",
    "SimpleRNN": "rnn_tanh",
    "LSTM": "lstm",
    "GRU": "gru",
    "ConvLSTM": "lstm",
    "Bidirectional": "lstm",
    "SpatialDropout1D": "dropout",
    "SpatialDropout2D": "dropout",
    "SpatialDropout3D": "dropout",
    "Dropout": "dropout",
    "AlphaDropout": "dropout",
    "GaussianDropout": "dropout",
    "GaussianNoise": "dropout",
    "CenterCrop": "narrow",
    "Resizing": "interpolate",
}
"""Layers of Keras by the name of the function of PyTorch that does the same."""
PREFIXES = {
    "Conv": "conv",
    "DepthwiseConv": "conv",
    "SeparableConv": "conv",
    "MaxPooling": "max_pool",
    "AveragePooling": "avg_pool",
    "GlobalMaxPooling": "max_pool",
    "GlobalAveragePooling": "avg_pool",
    "AdaptiveMaxPooling": "max_pool",
    "AdaptiveAveragePooling": "avg_pool",
    "UpSampling": "upsample",
    "ZeroPadding": "pad",
    "Cropping": "narrow",
}
"""The same, of families that end in 1D, 2D or 3D."""
WRAPPERS = ("TimeDistributed", "SpectralNormalization")
"""Layers that are the layer they hold."""
LOOPS = ("RNN", "Bidirectional", "TimeDistributed")
"""Layers that run the layers in them once for every step, in a loop nobody can look into."""

FUNCTIONS = {
    "hard_sigmoid": "hardsigmoid",
    "hard_silu": "hardswish",
    "hard_swish": "hardswish",
    "hard_tanh": "hardtanh",
    "swish": "silu",
    "tanh_shrink": "tanhshrink",
    "soft_shrink": "softshrink",
    "hard_shrink": "hardshrink",
    "arctan": "atan",
    "batch_normalization": "batch_norm",
    "layer_normalization": "layer_norm",
    "rms_normalization": "rms_norm",
    "average_pool": "avg_pool",
    "depthwise_conv": "conv",
    "separable_conv": "conv",
    "dot_product_attention": "scaled_dot_product_attention",
    "subtract": "sub",
    "true_divide": "div",
    "divide": "div",
    "negative": "neg",
    "average": "mean",
    "append": "concatenate",
    "vstack": "concatenate",
    "dstack": "concatenate",
    "dot": "matmul",
    "inner": "matmul",
    "ravel": "reshape",
    "expand_dims": "unsqueeze",
    "broadcast_to": "expand",
    "tile": "repeat",
    "take_along_axis": "take_along_dim",
    "select": "where",
    "copy": "clone",
    "array_split": "split",
    "hsplit": "split",
    "vsplit": "split",
    "get_item": "__getitem__",
}
"""Functions of `keras.ops` that have another name in PyTorch."""
TRANSPOSED = ("conv", "max_pool", "average_pool", "depthwise_conv", "separable_conv", "conv_transpose")
"""Functions that are told where channels lie."""


# --- layers --------------------------------------------------------------------------------------------------------------------------


def kind_of(layer: Any, training: bool | None = None) -> Kind:
    """What a layer is; `training` as it is called."""
    bases = tuple(f"{c.__module__}.{c.__qualname__}" for c in _classes(layer))
    does, activation, unit = _does(layer)
    args: tuple[Any, ...] = (None, None, bool(training)) if does == "dropout" else ()
    return Kind(type(layer).__name__, bases, does, activation, unit, args)


def loops(layer: Any) -> bool:
    """Whether the layers inside a layer run once for every step of a sequence."""
    return any(c.__name__ in LOOPS and _is_keras(c) for c in type(layer).__mro__)


def _classes(layer: Any) -> tuple[type, ...]:
    mro = type(layer).__mro__
    root = keras.Layer if isinstance(layer, keras.Layer) else keras.Operation
    return mro[: mro.index(root)] or mro[:1]


def _is_keras(kind: type) -> bool:
    return kind.__module__.partition(".")[0] == "keras"


def _does(layer: Any) -> tuple[str, str, int | None]:
    """Function, activation and unit axis of a layer of Keras; an empty function where one has to look inside."""
    mro = type(layer).__mro__
    calls = next((c for c in mro if "call" in vars(c)), None)
    if not isinstance(layer, keras.Layer) or calls is None or not _is_keras(calls):
        return "", "", None
    for each in mro:
        name = each.__name__
        if not _is_keras(each):
            continue
        if name == "Activation":
            called = _activation(layer.activation)
            return (called or "alias", "", None) if called is not None else ("", "", None)
        if name in WRAPPERS:
            return _wrapped(layer, name)
        does = LAYERS.get(name) or PREFIXES.get(re.sub(r"\d+D(Transpose)?$", "", name), "")
        if does:
            fused = "" if ops.RECURRENT & {does} else _activation(getattr(layer, "activation", None))
            return ("", "", None) if fused is None else (does, fused, _unit(layer, name, does))
    return "", "", None


def _wrapped(layer: Any, wrapper: str) -> tuple[str, str, int | None]:
    inner = layer.layer
    while isinstance(inner, keras.Model) and getattr(inner, "outputs", None):
        inner = inner.outputs[0]._keras_history.operation
    does, activation, unit = _does(inner)
    if wrapper == "TimeDistributed":
        return does or "time_distributed", activation, unit if unit is None or unit < 0 else unit + 1
    return does, activation, unit


def _unit(layer: Any, name: str, does: str) -> int | None:
    """The axis that holds units; None where the layer keeps those of its input."""
    if does == "batch_norm" or does == "group_norm":
        return layer.axis
    if name == "Bidirectional":
        return _unit(layer.forward_layer, name="", does="lstm")
    if name.startswith("Global") and not getattr(layer, "keepdims", False):
        return -1
    if (told := getattr(layer, "data_format", None)) is not None and does not in ("flatten", "dropout"):
        return 1 if told == "channels_first" else -1
    return -1 if does in ops.LAST and does != "matmul" else None


def _activation(function: Any) -> str | None:
    """The name of a known activation, empty for none; None for one that has to be looked into."""
    if function is None or function is keras.activations.linear:
        return ""
    if isinstance(function, keras.Layer):
        does, fused, _ = _does(function)
        return does if does and not fused else None
    name = plain(getattr(function, "__name__", ""))
    home = (getattr(function, "__module__", None) or "").partition(".")[0]
    known = ops.role_of(name, (), {}, weighted=False) in (ops.Role.NONLINEARITY, ops.Role.SOFTMAX)
    return name if known and home in ("keras", "tensorflow", "jax", "torch") else None


# --- names ---------------------------------------------------------------------------------------------------------------------------


def named_operations(model: Any) -> dict[str, Any]:
    """The layers of a model, and the operations of its graph, by path; the model itself is "".

    A layer is called what its user called it: by its name, or, where that is only the one Keras made up (`dense_7` counts the layers of the process), by
    the attribute that holds it (`fc`, `blocks.0`). Where neither is there the made-up name stands.
    """
    found: dict[str, Any] = {"": model}
    seen = {id(model)}

    def walk(owner: Any, prefix: str) -> None:
        held, taken = _attributes(owner), set[str]()
        mine = [each for each in _children(owner) if id(each) not in seen]
        for child in mine:
            if id(child) in seen:
                continue
            seen.add(id(child))
            name = _unique(_name(child, held.get(id(child))), taken)
            taken.add(name)
            found[prefix + name] = child
            walk(child, f"{prefix}{name}.")

    walk(model, "")
    return found


def _children(owner: Any) -> Iterator[Any]:
    """Direct parts: operations of a graph in its order, then what is tracked as an attribute."""
    if isinstance(owner, keras.Model):
        graph = getattr(owner, "operations", None) or []
        yield from (each for each in graph if not isinstance(each, keras.layers.InputLayer))
    if isinstance(owner, keras.Layer):
        tracked = owner._flatten_layers(include_self=False, recursive=False)
        yield from (each for each in tracked if not isinstance(each, keras.layers.InputLayer))


def _attributes(owner: Any) -> dict[int, str]:
    """The attribute path of each layer that an attribute holds: itself, or in lists and dicts; public names first."""
    own = {**vars(owner), **(vars(owner).get("_modules") or {})}  # where PyTorch keeps modules
    found: dict[int, str] = {}
    for name in sorted(own, key=lambda name: name.startswith("_")):
        if not name.startswith("_"):
            for path, each in _held(own[name], name):
                found.setdefault(id(each), path)
        elif isinstance(own[name], keras.Layer):
            found.setdefault(id(own[name]), name.lstrip("_"))
    return found


def _held(value: Any, path: str) -> Iterator[tuple[str, Any]]:
    if isinstance(value, keras.Layer):
        yield path, value
    elif isinstance(value, Mapping):
        for key, each in value.items():
            yield from _held(each, f"{path}.{key}")
    elif isinstance(value, list | tuple):
        for at, each in enumerate(value):
            yield from _held(each, f"{path}.{at}")


def _name(child: Any, attribute: str | None) -> str:
    made_up = re.sub(r"_\d+$", "", child.name).replace("_", "") == type(child).__name__.replace("_", "").lower()
    return attribute if made_up and attribute else child.name


def _unique(name: str, taken: set[str]) -> str:
    """Two layers of one parent may bear one name in a subclassed model."""
    if name not in taken:
        return name
    return next(new for k in range(1, len(taken) + 2) if (new := f"{name}_{k}") not in taken)


# --- functions -----------------------------------------------------------------------------------------------------------------------


def plain(name: str) -> str:
    """A function's name as `_operations` knows it."""
    return FUNCTIONS.get(name, name)


def unit_of(name: str, arguments: Mapping[str, Any], rank: int) -> int | None:
    """The axis of a function's output that holds units, where the function is told."""
    if name not in TRANSPOSED:
        return None
    told = arguments.get("data_format") or keras.config.image_data_format()
    return 1 if told == "channels_first" else rank - 1


def axes_went(
    name: str, arguments: Mapping[str, Any], old: tuple[int, ...], new: tuple[int, ...]
) -> tuple[ops.Went | None, ...] | None:
    """Where the axes of the first input of a function of `keras.ops` are in its result; None where its name says enough."""
    rank = len(old)
    if name in ("squeeze", "expand_dims"):
        return tuple(ops.regrouped(old, new))
    if name == "stack" and len(new) == rank + 1:
        at = int(arguments.get("axis", 0)) % len(new)
        return tuple(ops.Went(axis + (axis >= at), axis + (axis >= at)) for axis in range(rank))
    order = _order(name, arguments, rank)
    if order is None or len(new) != rank:
        return None
    return tuple(ops.Went(order.index(axis), order.index(axis)) for axis in range(rank))


def _order(name: str, arguments: Mapping[str, Any], rank: int) -> list[int] | None:
    """Which old axis each new one is, of functions that only move axes."""
    axes = list(range(rank))
    if name == "transpose":
        given = arguments.get("axes")
        return axes[::-1] if given is None else [int(axis) % rank for axis in given]
    if name == "swapaxes":
        a, b = arguments["axis1"] % rank, arguments["axis2"] % rank
        axes[a], axes[b] = b, a
        return axes
    if name == "moveaxis":
        source, destination = (_listed(arguments[key], rank) for key in ("source", "destination"))
        rest = [axis for axis in axes if axis not in source]
        for to, axis in sorted(zip(destination, source, strict=True)):
            rest.insert(to, axis)
        return rest
    return None


def _listed(value: Any, rank: int) -> list[int]:
    return [int(axis) % rank for axis in (value if isinstance(value, Sequence) else [value])]


def arguments_of(function: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of a call by name."""
    try:
        bound = inspect.signature(function).bind(*args, **kwargs)
    except (TypeError, ValueError):
        return dict(kwargs)
    bound.apply_defaults()
    return dict(bound.arguments)

"""The three nets in plain NumPy and float64: what every framework must give, at every place where units may fire."""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ._weights import HEADS, Batch, Net, Weights

Array = NDArray[np.float64]
_Float64 = dict[str, Array]
EPSILON = 1e-5
"""Added to the variance by every normalisation, in every framework: their defaults differ."""


def reference(net: Net, weights: Weights, inputs: Batch) -> dict[str, Array]:
    """What the net computes at every place, {place: (samples, *positions, units)}, in the order of the forward pass; last `logits`.

    Places of LeNet are its ReLUs, `relu1` to `relu4`; of the residual net `stem` and of each block `inner` and `outer`; of each block of
    the transformer `attention`, `gelu` and `down`, and what is inside the attention, `query`, `key` and `value` (positions: tokens and
    heads).
    """
    w = {name: value.astype(np.float64) for name, value in weights.items()}
    if net == "lenet":
        return _lenet(w, inputs["images"])
    if net == "residual":
        return _residual(w, inputs["images"])
    return _transformer(w, inputs["input_ids"], inputs["attention_mask"])


def _lenet(w: _Float64, images: NDArray[Any]) -> dict[str, Array]:
    places: dict[str, Array] = {}
    places["relu1"] = _relu(_conv(w, "conv1", images, pad=2))
    places["relu2"] = _relu(_conv(w, "conv2", _max_pool(places["relu1"])))
    flat = _max_pool(places["relu2"]).reshape(len(images), -1)
    places["relu3"] = _relu(_dense(w, "fc1", flat))
    places["relu4"] = _relu(_dense(w, "fc2", places["relu3"]))
    return {**places, "logits": _dense(w, "fc3", places["relu4"])}


def _residual(w: _Float64, images: NDArray[Any]) -> dict[str, Array]:
    places = {"stem": _relu(_batch_norm(w, "stem_norm", _conv(w, "stem", images, pad=1)))}
    x = places["stem"]
    for block, stride in (("block1", 1), ("block2", 2)):
        inner = _relu(_batch_norm(w, f"{block}.norm1", _conv(w, f"{block}.conv1", x, pad=1, stride=stride)))
        outer = _batch_norm(w, f"{block}.norm2", _conv(w, f"{block}.conv2", inner, pad=1))
        if stride > 1:
            x = _batch_norm(w, f"{block}.shortcut_norm", _conv(w, f"{block}.shortcut", x, stride=stride))
        x = _relu(x + outer)
        places |= {f"{block}.inner": inner, f"{block}.outer": x}
    return {**places, "logits": _dense(w, "head", x.mean(axis=(1, 2)))}


def _transformer(w: _Float64, ids: NDArray[Any], mask: NDArray[Any]) -> dict[str, Array]:
    places: dict[str, Array] = {}
    x = w["embed.tokens.table"][ids] + w["embed.positions.table"]
    for block in ("block1", "block2"):
        y = _layer_norm(w, f"{block}.norm1", x)
        for part in ("query", "key", "value"):
            places[f"{block}.{part}"] = _dense(w, f"{block}.attention.{part}", y).reshape(*y.shape[:2], HEADS, -1)
        heads = _attend(places[f"{block}.query"], places[f"{block}.key"], places[f"{block}.value"], mask)
        places[f"{block}.attention"] = _dense(w, f"{block}.attention.out", heads.reshape(y.shape))
        x = x + places[f"{block}.attention"]
        places[f"{block}.gelu"] = _gelu(_dense(w, f"{block}.up", _layer_norm(w, f"{block}.norm2", x)))
        places[f"{block}.down"] = _dense(w, f"{block}.down", places[f"{block}.gelu"])
        x = x + places[f"{block}.down"]
    return {**places, "logits": _dense(w, "head", _layer_norm(w, "norm", x)[:, 0])}


def _dense(w: _Float64, path: str, x: Array) -> Array:
    return x @ w[f"{path}.kernel"] + w[f"{path}.bias"]


def _conv(w: _Float64, path: str, x: NDArray[Any], *, stride: int = 1, pad: int = 0) -> Array:
    kernel = w[f"{path}.kernel"]
    x = np.pad(x, ((0, 0), (pad, pad), (pad, pad), (0, 0)))
    windows = np.lib.stride_tricks.sliding_window_view(x, kernel.shape[:2], axis=(1, 2))[:, ::stride, ::stride]
    return np.tensordot(windows, kernel, axes=((4, 5, 3), (0, 1, 2))) + w.get(f"{path}.bias", np.zeros(1))


def _batch_norm(w: _Float64, path: str, x: Array) -> Array:
    scale = w[f"{path}.scale"] / np.sqrt(w[f"{path}.variance"] + EPSILON)
    return (x - w[f"{path}.mean"]) * scale + w[f"{path}.offset"]


def _layer_norm(w: _Float64, path: str, x: Array) -> Array:
    deviation = x - x.mean(-1, keepdims=True)
    variance = np.square(deviation).mean(-1, keepdims=True)
    return deviation / np.sqrt(variance + EPSILON) * w[f"{path}.scale"] + w[f"{path}.offset"]


def _attend(query: Array, key: Array, value: Array, mask: NDArray[Any]) -> Array:
    """softmax(q · k / √d) v over the tokens that are no padding, per head; all (samples, tokens, heads, d)."""
    scores = np.einsum("bqhd,bkhd->bhqk", query, key) / math.sqrt(query.shape[-1])
    weights = np.where(mask[:, None, None, :] > 0, np.exp(scores - scores.max(-1, keepdims=True)), 0)
    return np.einsum("bhqk,bkhd->bqhd", weights / weights.sum(-1, keepdims=True), value)


def _relu(x: Array) -> Array:
    return np.maximum(x, 0)


def _gelu(x: Array) -> Array:
    """x Φ(x) with the exact normal distribution, not the tanh form."""
    return x * (1 + np.vectorize(math.erf)(x / math.sqrt(2))) / 2


def _max_pool(x: Array) -> Array:
    n, height, width, units = x.shape
    return x.reshape(n, height // 2, 2, width // 2, 2, units).max(axis=(2, 4))

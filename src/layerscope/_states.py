"""From an activation to packed firing states: which values form a state, who fires, and the bytes and bits of a state."""

import math
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from . import kernels
from ._errors import DtypeError, ShapeError
from ._site import Activations

Per = Literal["position", "sample", "channel"]
"""What one state is made of: the units at one position (default), the whole map of one sample, or one channel's map."""


def check_per(per: str) -> None:
    """Raise where `per` is no known way to cut an activation into states."""
    if per not in get_args(Per):
        raise ShapeError(
            f"per={per!r}: one state is made per {', '.join(map(repr, get_args(Per)))}. Choose one of them."
        )


def pack_states(a: Activations, per: Per = "position", threshold: float | None = None) -> dict[str, Any]:
    """Packed firing states of a batch: `states` (observations, words or bytes) and, where there are any, `nonfinite` (NaN, ±inf).

    Read by the CPU kernels where the host can see the memory, else by one matrix product inside the framework's own graph; the
    bits are the same.
    """
    above = a.threshold if threshold is None else threshold
    if a.host is not None:
        values, axis = _cut(a.host, a.axes.sample, a.axes.unit, per, np)
        words, finite = kernels.pack(values, axis, above, a.dtype)
        if finite:
            return {"states": words}
        return {"states": words, "nonfinite": np.asarray(kernels.nonfinite(values, a.dtype), np.int64)}
    if "complex" in str(a.values.dtype):
        raise DtypeError(
            f"pack: complex values ({a.values.dtype}) have no order, so no unit can fire. Measure their real part or magnitude."
        )
    from .kernels import device

    values, axis = _cut(a.values, a.axes.sample, a.axes.unit, per, a.xp)
    nan, inf = device.nonfinite(values, a.xp, a.real)
    return {"states": device.pack(values, axis, above, a.xp), "nan": nan, "inf": inf}


def count_nonfinite(a: Activations) -> tuple[Any, Any]:
    """How many of the values are NaN, and how many infinite; integers of the framework where the host cannot see them."""
    if a.host is not None:
        return kernels.nonfinite(a.host, a.dtype)
    from .kernels import device

    return device.nonfinite(a.xp.moveaxis(a.values, a.axes.sample, 0), a.xp, a.real)


def _cut(values: Any, sample: int, unit: int, per: Per, xp: Any) -> tuple[Any, int]:
    """`values` with samples first, and the axis that holds the bits of one state."""
    rank = len(values.shape)
    if not 2 <= rank:
        raise ShapeError(f"states: an activation needs a sample and a unit axis, got shape {tuple(values.shape)}.")
    sample, unit = sample % rank, unit % rank
    if sample == unit:
        raise ShapeError(f"states: axis {unit} of shape {tuple(values.shape)} cannot hold both samples and units.")
    if sample != 0:
        values = xp.moveaxis(values, sample, 0)
        unit += unit < sample
    if per == "position":
        return values, unit
    values = xp.moveaxis(values, unit, 1)
    shape: tuple[int, ...] = values.shape
    if per == "sample":
        return xp.reshape(values, (shape[0], -1) if shape[0] else (0, math.prod(shape[1:]))), 1
    return xp.reshape(values, (*shape[:2], -1) if shape[0] else (0, shape[1], math.prod(shape[2:]))), 2


def as_words(states: NDArray[Any], units: int) -> NDArray[np.uint64]:
    """Packed states as (rows, ceil(units / 64)) little-endian words, from words or from the bytes a device kernel gives."""
    words = -(-units // 64)
    if states.dtype == np.uint64:
        return states
    if states.shape[1] % 8 == 0:
        return np.ascontiguousarray(states).view(np.uint64)
    padded = np.zeros((len(states), 8 * words), np.uint8)
    padded[:, : states.shape[1]] = states
    return padded.view(np.uint64)


def as_bytes(words: NDArray[np.uint64], units: int) -> NDArray[np.uint8]:
    """The byte form of packed states: (rows, ceil(units / 8)), unit k is bit k % 8 of byte k // 8."""
    return np.ascontiguousarray(words).view(np.uint8)[:, : -(-units // 8)]


def unpack_states(words: NDArray[np.uint64], units: int) -> NDArray[np.bool_]:
    """The firing of every unit, (rows, units): the inverse of packing."""
    return np.unpackbits(as_bytes(words, units), axis=1, count=units, bitorder="little").astype(bool)

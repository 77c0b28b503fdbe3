"""Packing where the activation lives: the few operations that NumPy, PyTorch, JAX and TensorFlow all share, traceable in each.

A bit is 32 times less to move than a float, so a probe packs inside the forward pass.  Packing is one product with powers of two: sums of
at most eight different powers below 2^8, exact in float32 and also where hardware multiplies in TF32 or bfloat16.
"""

import math
from typing import Any

import numpy as np

from .reference import whole_threshold

ONE_PRODUCT = 1024  # units up to which all bytes are made by one matrix; it grows with their square


def pack(x: Any, unit_axis: int, threshold: float, xp: Any) -> Any:
    """The byte form of packed states: uint8 (observations, ceil(units / 8)), unit k in bit k % 8 of byte k // 8.

    **Arguments:** `x` real values of the framework of `xp`, units along `unit_axis` (a size known while tracing); a unit fires when strictly
    above `threshold`, compared in the type of `x`.  `xp` needs only asarray, float32, uint8, moveaxis, reshape and matmul.
    **Beware:** JAX and TensorFlow compare denormals as zeros on a CPU, so there they do not fire; on the host they do.
    """
    units = int(x.shape[unit_axis])
    size = -(-units // 8)
    fires = xp.moveaxis(_fires(x, threshold, xp), unit_axis, -1)
    bits = xp.reshape(xp.asarray(fires, dtype=xp.float32), (-1, units))
    powers = 2.0 ** np.arange(8, dtype=np.float32)
    if units <= ONE_PRODUCT:
        unit = np.arange(units)
        matrix = np.zeros((units, size), np.float32)
        matrix[unit, unit // 8] = powers[unit % 8]
        return xp.asarray(xp.matmul(bits, _beside(bits, matrix, xp)), dtype=xp.uint8)
    if units % 8:  # as many zeros after every row, by an outer product with (1, 0); then the surplus is cut
        twice = xp.matmul(_beside(bits, np.array([[1.0], [0.0]], np.float32), xp), xp.reshape(bits, (-1, 1, units)))
        bits = xp.reshape(twice, (-1, 2 * units))[:, : 8 * size]
    octets = xp.reshape(bits, (-1, size, 8))
    return xp.asarray(xp.matmul(octets, _beside(bits, powers, xp)), dtype=xp.uint8)


def nonfinite(x: Any, xp: Any, real: Any = None) -> tuple[Any, Any]:
    """How many values are NaN and how many infinite, as two integers of the framework.

    `real` (samples,) leaves out padded samples, which lie on the first axis of `x`.
    """
    kind = str(x.dtype)
    if "float" not in kind:
        nothing = xp.sum(xp.asarray(x, dtype=xp.float32) > math.inf)
        return nothing, nothing
    if "float16" in kind:  # TensorFlow's NumPy knows no bfloat16; float32 holds both half floats exactly
        x = xp.asarray(x, dtype=xp.float32)
    nan, inf = xp.isnan(x), xp.isinf(x)
    if real is not None:
        counts = xp.reshape(real, (-1, *(1,) * (len(x.shape) - 1)))
        nan, inf = xp.logical_and(nan, counts), xp.logical_and(inf, counts)
    return xp.sum(nan), xp.sum(inf)


def _fires(x: Any, threshold: float, xp: Any) -> Any:
    """Which values are strictly above the threshold, integers exactly."""
    kind = str(x.dtype)
    if "float" in kind:
        return x > xp.asarray(threshold, dtype=x.dtype)
    least, most = _limits(kind)
    whole = min(max(whole_threshold(threshold), least - 1), most)
    if "bool" in kind:
        x = xp.asarray(x, dtype=xp.uint8)  # TensorFlow does not order booleans
    if whole < least:  # below everything: not a number of this type
        return x == x
    return x > xp.asarray(whole, dtype=x.dtype)


def _limits(kind: str) -> tuple[int, int]:
    """Smallest and largest value of an integer type, from its name: "torch.int64", "<dtype: 'uint8'>", "bool"."""
    if "bool" in kind:
        return 0, 1
    bits = int("".join(c for c in kind if c.isdigit()))
    return (0, 2**bits - 1) if "uint" in kind else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)


def _beside(x: Any, constant: np.ndarray[Any, Any], xp: Any) -> Any:
    """A float32 constant on the device of `x`.  Only PyTorch has to be told."""
    made = xp.asarray(constant, dtype=xp.float32)
    return made.to(x.device) if "torch" in str(x.dtype) else made

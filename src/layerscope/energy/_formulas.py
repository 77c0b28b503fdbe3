"""Pieces that the closed forms of several Lagrangians share: each smooth, and finite for every state."""

import math
from typing import Any, cast

import numpy as np

from ._array import PLAIN, Array, framework, namespace, numbers


def check_positive(name: str, value: Any, owner: object) -> None:
    """Takes a parameter of a Lagrangian if it is above 0; a traced value passes.

    **Raises:** `ValueError`.
    """
    if isinstance(value, np.generic):  # a NumPy scalar would turn float32 states into float64
        object.__setattr__(owner, name, float(cast("Any", value)))
    if isinstance(value, PLAIN):
        positive = value > 0
    else:
        known = numbers(value)
        positive = known is None or bool(np.all(known > 0))
    if not positive:
        raise ValueError(
            f"{type(owner).__name__}: {name} must be above 0, got {value!r}. "
            "At 0 or below the Lagrangian is not convex, and no energy falls any more."
        )


def check_axis(axis: int, owner: object) -> None:
    """**Raises:** `ValueError` where an axis is counted from the front, where batch axes stand."""
    if axis >= 0:
        raise ValueError(
            f"{type(owner).__name__}: axis must be counted from the end, got {axis}. The last axis is axis=-1; axes in front are the batch's."
        )


def floored(beta: Any, least: float) -> Any:
    """max(β, least) for a β that training may have pushed too low; a plain number was checked when the Lagrangian was made."""
    if isinstance(beta, PLAIN):
        return beta
    xp = namespace(beta)
    return xp.where(beta > least, beta, xp.full_like(beta, least))


def rectified(x: Array) -> Array:
    """max(x, 0), with derivative 0 at 0 in every framework."""
    xp = namespace(x)
    return xp.where(x > 0, x, xp.zeros_like(x))


def log_sigmoid(z: Array) -> Array:
    """ln σ(z) = −softplus(−z), smooth and finite for every z."""
    xp = namespace(z)
    return -xp.logaddexp(xp.zeros_like(z), -z)


def binary_entropy(z: Array) -> Array:
    """The entropy in nats of a coin that shows heads with probability σ(z)."""
    xp = namespace(z)
    heads, tails = log_sigmoid(z), log_sigmoid(-z)
    return -(xp.exp(heads) * heads + xp.exp(tails) * tails)


def xlogx(p: Array) -> Array:
    """p ln p, 0 at 0; also its derivative stays finite there, so that a dual can be differentiated at the border."""
    xp = namespace(p)
    positive = p > 0
    return xp.where(positive, p * xp.log(xp.where(positive, p, xp.ones_like(p))), xp.zeros_like(p))


def log_sum_exp(z: Array, axis: int) -> Array:
    """ln Σ e^z along an axis that stays with length 1."""
    if framework(z) == "torch":  # one operation there
        return z.logsumexp(axis, keepdim=True)
    xp = namespace(z)
    top = xp.max(z, axis=axis, keepdims=True)
    return top + xp.log(xp.sum(xp.exp(z - top), axis=axis, keepdims=True))


def log_softmax(x: Array, beta: Any, axis: int) -> Array:
    """ln of the shares e^{βx} / Σ e^{βx} along an axis, for one β.

    The largest state is taken off before β multiplies: a compiler that fuses β·x with a later difference would else leave the rounding of the
    product behind, 5e-4 at βx = 1e4 in float32.
    """
    if framework(x) == "torch":  # one operation there
        return (beta * x).log_softmax(axis)
    xp = namespace(x)
    z = beta * (x - xp.max(x, axis=axis, keepdims=True))
    return z - xp.log(xp.sum(xp.exp(z), axis=axis, keepdims=True))


def everywhere(shape: tuple[int, ...]) -> float:
    """√n: the norm of an activation whose n units all reach 1."""
    return math.sqrt(math.prod(shape))


def rows(shape: tuple[int, ...], axis: int) -> float:
    """√(number of rows): the norm of an activation whose rows along `axis` all have norm 1."""
    return math.sqrt(math.prod(shape) / shape[axis])


def largest(value: Any) -> Any:
    """The largest absolute value of a number or array."""
    return abs(value) if isinstance(value, PLAIN) else namespace(value).max(namespace(value).abs(value))

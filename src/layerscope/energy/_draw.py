"""Zeros and normal numbers in the framework that a random source or an array speaks for."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from .._errors import DtypeError
from ._array import Array, framework, namespace


def zeros(shape: Sequence[int], like: Array | None = None) -> Array:
    """Zeros beside `like`: its framework, device and float type; float64 in NumPy where there is none."""
    if like is None:
        return np.zeros(tuple(shape))
    xp = namespace(like)
    where = {"device": like.device} if framework(like) == "torch" else {}
    return xp.zeros(tuple(shape), dtype=like.dtype, **where)


def normal(rng: Any, shape: Sequence[int], like: Array | None = None) -> Array:
    """Standard normal numbers drawn with a JAX key, a `torch.Generator`, a NumPy generator or an integer seed.

    A key draws in JAX and a torch generator in PyTorch; the others draw in NumPy, and the numbers are put beside `like`.
    """
    kind = type(rng).__module__.partition(".")[0]
    if kind == "torch":
        from .torch import draw as draw_torch

        return draw_torch(rng, tuple(shape), like)
    if kind in ("jax", "jaxlib"):
        from .jax import draw as draw_jax

        return draw_jax(rng, tuple(shape), like)
    if not isinstance(rng, np.random.Generator | int):
        raise DtypeError(
            f"energy: rng is a {type(rng).__qualname__}. Give a JAX key, a torch.Generator, a NumPy generator or an integer seed."
        )
    drawn = np.random.default_rng(rng).standard_normal(tuple(shape))
    return drawn if like is None else _put(drawn, like)


def _put(drawn: Array, like: Array) -> Array:
    xp = namespace(like)
    where = {"device": like.device} if framework(like) == "torch" else {}
    return xp.asarray(drawn, dtype=like.dtype, **where)


def streams(rng: Any, count: int) -> list[Any]:
    """As many random sources as asked for: a JAX key is split, an integer seeds one generator, a generator is drawn from in turn."""
    kind = type(rng).__module__.partition(".")[0]
    if kind in ("jax", "jaxlib"):
        from .jax import split

        return split(rng, count)
    if isinstance(rng, int):
        rng = np.random.default_rng(rng)
    return [rng] * count

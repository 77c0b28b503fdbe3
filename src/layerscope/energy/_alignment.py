"""What synapses share: activations as rows, products of bounds, and the error of a synapse that does not fit."""

import math
from collections.abc import Sequence
from typing import Any

from .._errors import ShapeError
from ._abstract import AbstractSynapse, Shapes
from ._array import Array, namespace


def flat(gs: Sequence[Array], ranks: Sequence[int] | None) -> tuple[tuple[int, ...], list[Array]]:
    """The batch shape, and every activation as (batch, units)."""
    first = gs[0]
    batch = tuple(first.shape[: 0 if ranks is None else first.ndim - ranks[0]])
    if len(batch) == 1 and all([g.ndim == 2 for g in gs]):  # a list is quicker than a generator
        return batch, list(gs)
    xp, count = namespace(*gs), math.prod(batch)
    return batch, [xp.reshape(g, (count, math.prod(g.shape[len(batch) :]))) for g in gs]


def shaped(x: Array, shape: tuple[int, ...]) -> Array:
    """`x` in a shape; itself where it has it, which small networks ask many times a step."""
    return x if x.shape == shape else namespace(x).reshape(x, shape)


def wants(wanted: Sequence[int] | None, count: int) -> Sequence[int]:
    """The numbers of the layers whose forces are asked for."""
    return range(count) if wanted is None else wanted


def times(*numbers: Any) -> Any:
    """A product in which 0 · inf is 0: a coupling that is not there bounds nothing."""
    return 0.0 if any(isinstance(n, int | float) and n == 0 for n in numbers) else math.prod(numbers)


def refuse(synapse: AbstractSynapse, wants_: str, shapes: Shapes, hint: str) -> ShapeError:
    """The error of a synapse that does not fit the layers it was connected to."""
    return ShapeError(
        f"{type(synapse).__name__}: connects {wants_}; got layers of shapes {', '.join(map(str, shapes))}. {hint}"
    )

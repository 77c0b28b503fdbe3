"""What a grid tally reads of an activation where it lies: rows taken back, maps pooled, the sums of one block."""

import math
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .._errors import DataError
from .._site import Activations, mask_fits
from ._abstract import to_numpy

Pool = Literal["mean", "max", "sum"]


class Rows(NamedTuple):
    """The values of an activation, rows along axis 0, units along axis `unit`; `inside` which values of a row count, None for all."""

    values: Any
    unit: int
    inside: NDArray[np.bool_] | None


def rows_of(a: Activations, aligned: bool) -> Rows | None:
    """The rows as they are, or every one with its transformation taken back; None where the layer offers nothing to act on.

    **Raises:** `DataError` where nothing was transformed that could be taken back.
    """
    rank = len(a.values.shape)
    x, unit = a.xp.moveaxis(a.values, a.axes.sample % rank, 0), a.axes.among(rank) + 1
    if not aligned:
        return Rows(x, unit, None)
    if a.grid is None:
        raise DataError("same-equivariance: nothing was transformed. Pass transformations= to ls.examine.")
    shape = tuple(int(size) for size in x.shape[1:])
    back = a.grid.align(x, unit)
    return None if back is None else Rows(back, unit, a.grid.supported((1, *shape), unit).reshape(-1))


def in_floats(x: Any, xp: Any) -> Any:
    """Values of float32 or float64 as they are, all others in float32."""
    return (
        x
        if str(x.dtype).endswith(("float32", "float64", "float32'>", "float64'>"))
        else xp.asarray(x, dtype=xp.float32)
    )


def block_sums(x: Any, T: int, real: Any, picked: NDArray[np.int64], each: bool, xp: Any) -> dict[str, Any]:
    """The sums of one block where it lies, in float32: rows about their first value, columns about their mean twice over."""
    block = xp.reshape(x, (-1, T, x.shape[1]))
    ones = xp.ones_like(block[:, :1, :1])
    weight = ones if real is None else ones * xp.reshape(xp.asarray(real, dtype=x.dtype), (-1, T, 1))[:, :1]
    count = xp.sum(weight)
    some = xp.where(count > 0, count, xp.ones_like(count))
    about = block - block[:, :1]
    about = about - xp.sum(about, axis=1)[:, None] / T
    rows = weight[:, 0] * xp.sum(about * about, axis=1) / max(1, T - 1)
    pivot = xp.sum(weight * block, axis=0) / some
    shift = xp.sum(weight * (block - pivot[None]), axis=0) / some
    mean = pivot + shift
    apart = weight * (block - pivot[None] - shift[None])
    m2 = xp.sum(apart * apart, axis=0)
    return {
        "samples": count,
        "mean": mean,
        "m2": m2 if each else xp.sum(m2, axis=0)[None],
        "rows_var": xp.sum(rows, axis=0),
        "rows_std": xp.sum(xp.sqrt(rows), axis=0),
        "few": xp.stack([x[:, int(k)] for k in picked], axis=1) if len(picked) else x[:, :0],
    }


def pooled(rows: Rows, how: Pool, a: Activations) -> Any:
    """Every map (rows, …) reduced over its positions: (rows, units); masked positions take no part.

    Summed in float64 where the host sees the values, as maps far above their deviations need the digits: float32 leaves 1e-5 of a
    deviation at a mean of 1,000 of them.  Devices may know float32 only.
    """
    xp, mask, x = a.xp, a.mask, a.xp.moveaxis(rows.values, rows.unit, -1)
    x = in_floats(x, xp)
    if len(x.shape) == 2:
        return x
    axes = tuple(range(1, len(x.shape) - 1))
    positions: Sequence[int] = [int(size) for size in x.shape[1:-1]]
    exact = a.host is not None and how != "max"
    if mask is None or not mask_fits(tuple(int(size) for size in mask.shape[1:]), tuple(positions)):
        if exact:  # NumPy widens while it adds; others copy everything first
            total = xp.asarray(to_numpy(x).sum(axis=axes, dtype=np.float64))
            return total / math.prod(positions) if how == "mean" else total
        return {"mean": xp.mean, "sum": xp.sum, "max": xp.max}[how](x, axis=axes)
    x = xp.asarray(x, dtype=xp.float64) if exact else x
    counts = xp.reshape(mask, (*mask.shape, *(1,) * (len(x.shape) - len(mask.shape))))
    if how == "max":
        return xp.max(xp.where(counts, x, xp.asarray(-np.inf, dtype=x.dtype)), axis=axes)
    total = xp.sum(xp.where(counts, x, xp.zeros_like(x)), axis=axes)
    if how == "sum":
        return total
    seen = xp.sum(xp.asarray(counts, dtype=x.dtype) * xp.ones_like(x[..., :1]), axis=axes)
    return total / xp.where(seen > 0, seen, xp.ones_like(seen))

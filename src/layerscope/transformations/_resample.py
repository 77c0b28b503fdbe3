"""Resampling images at the points an affine map asks for: the NumPy definition, of which `torch.py` holds a twin.

Pixels have their centres at whole coordinates, (0, 0) top left.  *Linear* weighs the four pixels around a point; beyond the border lie
zeros ("zero") or the nearest pixel ("edge").  *Nearest* takes the nearest pixel, of two equally near the even one.
"""

import functools
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ._arrays import is_torch, like, namespace, ready, real, transposed

Border = Literal["zero", "edge"]
Interpolation = Literal["linear", "nearest"]


@dataclass(frozen=True, eq=False)
class Points:
    """Where the output pixels of maps are taken from, (maps, height, width) each, in pixels of the input; made once for many batches."""

    x: NDArray[np.float64]
    y: NDArray[np.float64]

    @functools.cached_property
    def whole(self) -> list[int]:
        """The maps whose points are all pixels: they move values and compute none."""
        fixed = (self.x == np.rint(self.x)) & (self.y == np.rint(self.y))
        return np.flatnonzero(fixed.all(axis=(1, 2))).tolist()


def fan(planes: Any, points: Points, border: Border, interpolation: Interpolation) -> Any:
    """Every image under every map: (images, height, width) to (maps, images, height, width)."""
    if is_torch(planes):
        from .torch import resample

        wide = planes[None].expand(len(points.x), -1, -1, -1)
        return resample(wide, points, border, interpolation)
    return namespace(planes).stack([_one(planes, points, k, border, interpolation) for k in range(len(points.x))])


def each(planes: Any, points: Points, border: Border, interpolation: Interpolation) -> Any:
    """Images of map k under map k: (maps, images, height, width), shape as before."""
    if is_torch(planes):
        from .torch import resample

        return resample(planes, points, border, interpolation)
    return namespace(planes).stack([_one(planes[k], points, k, border, interpolation) for k in range(len(points.x))])


def _one(planes: Any, points: Points, k: int, border: Border, interpolation: Interpolation) -> Any:
    xp, kind = namespace(planes), np.float64 if "float64" in str(planes.dtype) else np.float32
    height, width = (int(size) for size in planes.shape[-2:])
    flat = xp.reshape(planes, (-1, height * width))
    x, y = points.x[k].reshape(-1), points.y[k].reshape(-1)
    if border == "edge":
        x, y = np.clip(x, 0, width - 1), np.clip(y, 0, height - 1)
    if interpolation == "nearest":
        corners = [(np.rint(x), np.rint(y), np.ones_like(x))]
    else:
        left, top = np.floor(x), np.floor(y)
        dx, dy = x - left, y - top
        corners = [
            (left, top, (1 - dx) * (1 - dy)),
            (left + 1, top, dx * (1 - dy)),
            (left, top + 1, (1 - dx) * dy),
            (left + 1, top + 1, dx * dy),
        ]
    out: Any = 0
    for column, row, weight in corners:
        inside = (column >= 0) & (column < width) & (row >= 0) & (row < height) & (weight > 0)
        where = np.where(inside, row * width + column, 0).astype(np.intp)
        # a zero weight takes no part: 0 × NaN would be NaN
        values = xp.take(flat, where, axis=1)
        out = out + xp.where(inside, values, xp.zeros_like(values)) * np.where(inside, weight, 0).astype(kind)
    return xp.reshape(out, (-1, *points.x.shape[1:]))


def resampled(x: Any, space: tuple[int, int], points: Points, border: Border, interpolation: Interpolation) -> Any:
    """An array of any axes under every map: (samples, …) to (samples, maps, …); integers are rounded and clipped."""
    x = ready(x)
    values = real(x)
    rank, xp = len(x.shape), namespace(x)
    rows, columns = (axis % rank for axis in space)
    order = [a for a in range(rank) if a not in (rows, columns)] + [rows, columns]
    moved = transposed(values, order)
    planes = xp.reshape(moved, (-1, *moved.shape[-2:]))
    out = xp.reshape(fan(planes, points, border, interpolation), (len(points.x), *moved.shape))
    out = transposed(out, [1, 0, *range(2, rank + 1)])
    return like(transposed(out, [0, 1, *(int(a) + 1 for a in np.argsort(order)[1:])]), x)


def realigned(x: Any, space: tuple[int, int], points: Points, border: Border, interpolation: Interpolation) -> Any:
    """(samples, maps, …), column k under map k; `space` counts axes without that of the maps.  Shape as before."""
    rows, columns = (axis + 1 for axis in space)
    xp, order = namespace(x), [1, 0, *(a for a in range(2, len(x.shape)) if a not in (rows, columns)), rows, columns]
    moved = transposed(x, order)
    planes = xp.reshape(moved, (moved.shape[0], -1, *moved.shape[-2:]))
    out = xp.reshape(each(planes, points, border, interpolation), moved.shape)
    return transposed(out, [int(a) for a in np.argsort(order)])

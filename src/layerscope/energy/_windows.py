"""Sliding windows as look-up tables: cutting an image into windows and adding windows up again, in any framework."""

import itertools
import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._errors import ShapeError
from ._array import Array, beside, namespace

Padding = str | int


@dataclass(frozen=True)
class Windows:
    """All windows of a size that a stride puts on a grid; the places outside the grid hold 0.

    **Arguments:** `grid` the spatial sizes; `size` and `stride` of a window, one number an axis; `padding` "same" (as many windows as the
    stride fits into the grid), "valid" (no window leaves the grid), or how far windows may leave it.
    **Gives:** `shape`, how many windows lie along each axis; `inside` (windows × places of a window), which place of the grid each is, the
    number of places where it lies outside; `outside` (places of the grid × places of a window), which place of which window lies there;
    `leaves_grid` whether some window reaches outside.
    """

    grid: tuple[int, ...]
    size: tuple[int, ...]
    stride: tuple[int, ...]
    padding: Padding = "valid"
    shape: tuple[int, ...] = field(init=False, compare=False)
    inside: NDArray[Any] = field(init=False, compare=False, repr=False)
    outside: NDArray[Any] = field(init=False, compare=False, repr=False)
    leaves_grid: bool = field(init=False, compare=False)

    def __post_init__(self) -> None:
        if not len(self.grid) == len(self.size) == len(self.stride):
            raise ShapeError(
                f"windows: a grid {self.grid}, windows {self.size} and a stride {self.stride}: give one number an axis to each."
            )
        if not (min(self.size) > 0 and min(self.stride) > 0):
            raise ShapeError(f"windows: sizes {self.size} and strides {self.stride} must be above 0.")
        starts: list[range] = []
        for n, k, s in zip(self.grid, self.size, self.stride, strict=True):
            if self.padding == "same":
                count = -(-n // s)
                low = max((count - 1) * s + k - n, 0) // 2
            else:
                low = self._margin()
                count = (n + 2 * low - k) // s + 1
            if count < 1:
                raise ShapeError(
                    f"windows: no window of size {self.size} fits a grid {self.grid}. Take a smaller one, or padding='same'."
                )
            starts.append(range(-low, -low + count * s, s))
        object.__setattr__(self, "shape", tuple(map(len, starts)))
        inside = self._inside(starts)
        object.__setattr__(self, "inside", inside.ravel())
        object.__setattr__(self, "outside", self._outside(inside).ravel())
        object.__setattr__(self, "leaves_grid", bool(np.any(inside == math.prod(self.grid))))

    def _margin(self) -> int:
        if self.padding == "valid":
            return 0
        if isinstance(self.padding, int) and self.padding >= 0:
            return self.padding
        raise ShapeError(f"windows: padding must be 'same', 'valid' or a number ≥ 0, got {self.padding!r}.")

    def _inside(self, starts: list[range]) -> NDArray[Any]:
        corner = np.array(list(itertools.product(*starts)))
        offset = np.array(list(itertools.product(*map(range, self.size))))
        place = corner[:, None] + offset
        within = np.all((place >= 0) & (place < np.array(self.grid)), axis=-1)
        number = np.ravel_multi_index(tuple(np.moveaxis(np.where(within[..., None], place, 0), -1, 0)), self.grid)
        return np.where(within, number, math.prod(self.grid))

    def _outside(self, inside: NDArray[Any]) -> NDArray[Any]:
        windows, places = len(inside), math.prod(self.size)
        count = math.prod(self.grid)
        table = np.full((count + 1, places), windows * places)
        table[inside, np.arange(places)] = np.arange(windows * places).reshape(windows, places)
        return table[
            :count
        ]  # a place is the k-th of at most one window, so nothing was overwritten but the row outside

    def cut(self, x: Array) -> Array:
        """(batch, places, channels) to (batch, windows, places of a window, channels)."""
        rows = _look_up(x, self.inside, self.leaves_grid)
        return namespace(x).reshape(rows, (x.shape[0], math.prod(self.shape), math.prod(self.size), x.shape[2]))

    def join(self, y: Array) -> Array:
        """The transpose of `cut`: (batch, windows, places of a window, channels) summed to (batch, places, channels)."""
        xp = namespace(y)
        batch, windows, places, channels = y.shape
        rows = _look_up(xp.reshape(y, (batch, windows * places, channels)), self.outside, True)
        return xp.sum(xp.reshape(rows, (batch, math.prod(self.grid), places, channels)), axis=2)


def _look_up(x: Array, table: NDArray[Any], beyond: bool) -> Array:
    """Rows of x (batch, n, channels) by number; `beyond`: number n is there too, a row of zeros."""
    xp = namespace(x)
    if beyond:
        x = xp.concat([x, xp.zeros_like(x[:, :1])], axis=1)
    return xp.take(x, beside(table, x), axis=1)

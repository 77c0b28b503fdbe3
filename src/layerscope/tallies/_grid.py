"""Variances over a grid of samples × transformations, in one pass over blocks of complete rows."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._errors import FileFormatError, MergeError, ShapeError
from .._site import Activations, Chunk, Site
from ._abstract import AbstractTally, to_numpy

RELATIVE = 2e-6


@dataclass
class GridSums:
    """The value of `GridMoments` for samples × transformations (T) × values (D), all float64.

    `rows_var`, `rows_std` (D,): Σ over samples of the variance and deviation over transformations; `mean`, `m2` (T, D): per
    transformation the mean and squared deviations over samples.
    """

    site: Site
    samples: int
    rows_var: NDArray[np.float64]
    rows_std: NDArray[np.float64]
    mean: NDArray[np.float64]
    m2: NDArray[np.float64]

    @property
    def nbytes(self) -> int:
        return self.rows_var.nbytes + self.rows_std.nbytes + self.mean.nbytes + self.m2.nbytes


@dataclass(frozen=True)
class GridMoments(AbstractTally[GridSums]):
    """Transformation and sample variances of every value of a layer, mergeable over samples.

    A batch holds every sample T times in a row (`Samples.transformations`): a row of the grid is there whole and its variance is
    two-pass; columns outlast the batch and are joined by the rule of Chan, Golub & LeVeque (1979).
    """

    def read(self, activations: Activations) -> dict[str, Any]:
        a, xp = activations, activations.xp
        x = xp.moveaxis(a.values, a.axes.sample % len(a.values.shape), 0)
        shape: tuple[int, ...] = x.shape
        x = xp.reshape(x, (-1, math.prod(shape[1:])))
        return {"values": x if str(x.dtype).endswith("float64") else xp.asarray(x, dtype=xp.float32)}

    def init(self, site: Site) -> GridSums:
        return GridSums(site, 0, np.empty(0), np.empty(0), np.empty((0, 0)), np.empty((0, 0)))

    def add(self, value: GridSums, chunk: Chunk) -> GridSums:
        samples, columns = len(chunk.samples), chunk.samples.transformations
        x = to_numpy(chunk.arrays["values"])
        if len(x) < samples * columns:
            raise ShapeError(
                f"{value.site}: {samples} samples × {columns} transformations need {samples * columns} rows, {len(x)} arrived. "
                "A batch must hold complete rows of the grid."
            )
        if not samples:
            return value
        x = x[: samples * columns].reshape(samples, columns, -1).astype(np.float64)
        rows = x.var(axis=1, ddof=1) if columns > 1 else np.zeros((samples, x.shape[2]))
        mean = x.mean(axis=0)
        block = GridSums(value.site, samples, rows.sum(0), np.sqrt(rows).sum(0), mean, ((x - mean) ** 2).sum(0))
        return self._join(value, block, ShapeError)

    def merge(self, left: GridSums, right: GridSums) -> GridSums:
        return self._join(left, right, MergeError)

    @staticmethod
    def _join(left: GridSums, right: GridSums, error: type[Exception]) -> GridSums:
        if not right.samples:
            return left
        if not left.samples:
            arrays = (right.rows_var, right.rows_std, right.mean, right.m2)
            return GridSums(left.site, right.samples, *(array.copy() for array in arrays))
        if left.mean.shape != right.mean.shape:
            raise error(
                f"grid: {left.mean.shape} transformations × values at {str(left.site)!r}, then {right.mean.shape}. Only grids of the "
                "same transformations of the same layer belong together."
            )
        total = left.samples + right.samples
        delta = right.mean - left.mean
        return GridSums(
            left.site,
            total,
            left.rows_var + right.rows_var,
            left.rows_std + right.rows_std,
            left.mean + delta * (right.samples / total),
            left.m2 + right.m2 + delta * delta * (left.samples * right.samples / total),
        )

    def same(self, left: GridSums, right: GridSums) -> bool:
        if left.samples != right.samples or left.mean.shape != right.mean.shape:
            return False
        spread = np.sqrt(left.m2 / max(left.samples, 1))
        close = [np.abs(left.mean - right.mean) <= RELATIVE * (np.abs(left.mean) + spread)]
        for name in ("rows_var", "rows_std", "m2"):
            mine, theirs = getattr(left, name), getattr(right, name)
            close.append(np.abs(mine - theirs) <= RELATIVE * (np.abs(mine) + np.abs(theirs)))
        return all(bool(np.all(each)) for each in close)

    def nbytes(self, value: GridSums) -> int:
        return value.nbytes

    def to_arrays(self, value: GridSums) -> Mapping[str, NDArray[Any]]:
        names = ("rows_var", "rows_std", "mean", "m2")
        return {"samples": np.array([value.samples], np.int64), **{name: getattr(value, name) for name in names}}

    def from_arrays(self, site: Site, arrays: Mapping[str, NDArray[Any]]) -> GridSums:
        try:
            samples = int(arrays["samples"][0])
            rows_var, rows_std, mean, m2 = (
                arrays[name].astype(np.float64) for name in ("rows_var", "rows_std", "mean", "m2")
            )
        except (KeyError, IndexError, ValueError) as error:
            raise FileFormatError(
                f"{site}: grid moments need samples, rows_var, rows_std, mean and m2 ({error})."
            ) from error
        if rows_var.shape != rows_std.shape or mean.shape != m2.shape or (samples and mean.shape[1:] != rows_var.shape):
            raise FileFormatError(
                f"{site}: the arrays of these grid moments do not fit each other; the file is damaged."
            )
        return GridSums(site, samples, rows_var, rows_std, mean, m2)

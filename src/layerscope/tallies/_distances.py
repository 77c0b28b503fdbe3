"""How far apart a layer's answers to the transformed versions of one sample lie, pair by pair."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._errors import FileFormatError, MergeError, ShapeError
from .._site import Activations, Chunk, Site
from ._abstract import AbstractTally, to_numpy
from ._grid_block import rows_of
from ._grid_groups import GROUPS, groups_of
from ._grid_sums import RELATIVE

KINDS = ("squared", "distance", "cosine")


@dataclass
class Distances:
    """The value of `GridDistances`: sums over samples, by group, of three (T, T) matrices: squared distance, distance, cosine.

    `sums` (G, 3, T, T); `count` (G,) samples; `values` of a sample; `skipped` why nothing was summed.
    """

    site: Site
    values: int = 0
    count: NDArray[np.int64] = field(default_factory=lambda: np.zeros(GROUPS, np.int64))
    sums: NDArray[np.float64] = field(default_factory=lambda: np.zeros((GROUPS, 3, 0, 0)))
    skipped: str = ""

    @property
    def samples(self) -> int:
        return int(self.count.sum())

    @property
    def transformations(self) -> int:
        return self.sums.shape[-1]


@dataclass(frozen=True)
class GridDistances(AbstractTally[Distances]):
    """Squared distances, distances and cosines between a layer's answers under every two transformations, mergeable over samples.

    **Arguments:** `aligned` first takes each transformation back in the layer's output; then only places inside the map count.
    Distances are those of whole layers, √Σ over values; exact in float64, at T multiplications a value.
    **Raises:** `ShapeError` for incomplete rows or another shape.
    """

    aligned: bool = False

    @property
    def grid(self) -> bool:
        return True

    def read(self, activations: Activations) -> dict[str, Any]:
        a, rows = activations, rows_of(activations, self.aligned)
        if rows is None:
            return {}
        x = a.xp.asarray(rows.values, dtype=a.xp.float32) if "bfloat16" in str(rows.values.dtype) else rows.values
        inside = {} if rows.inside is None else {"inside": rows.inside}
        return {"values": a.xp.reshape(x, (x.shape[0], -1)), **inside}

    def init(self, site: Site) -> Distances:
        return Distances(site)

    def add(self, value: Distances, chunk: Chunk) -> Distances:
        if not chunk.arrays:
            value.skipped = "the layer has no space the transformations could be taken back in"
            return value
        n, T = len(chunk.samples), chunk.samples.transformations
        x = to_numpy(chunk.arrays["values"])
        if len(x) < n * T:
            raise ShapeError(
                f"{value.site}: {n} samples × {T} transformations need {n * T} rows, {len(x)} arrived. A batch must hold complete rows of "
                "the grid."
            )
        inside = chunk.arrays.get("inside")
        x = x[: n * T] if inside is None else x[: n * T, to_numpy(inside)]
        if not value.values and not value.samples:
            value.values, value.sums = x.shape[1], np.zeros((GROUPS, 3, T, T))
        elif (value.values, value.transformations) != (x.shape[1], T):
            raise ShapeError(
                f"{value.site}: {value.transformations} transformations of {value.values} values so far, {T} of {x.shape[1]} in this batch. "
                "Resize or crop the inputs to one size."
            )
        for row, g in zip(x.reshape(n, T, value.values), groups_of(chunk.samples), strict=True):
            value.sums[g] += pairs_of(row.astype(np.float64))
            value.count[g] += 1
        return value

    def merge(self, left: Distances, right: Distances) -> Distances:
        left.skipped = left.skipped or right.skipped
        if not right.samples:
            return left
        if left.samples and left.sums.shape != right.sums.shape:
            raise MergeError(
                f"merge: distances under {left.transformations} transformations at {str(left.site)!r}, then under {right.transformations}. "
                "Only grids of the same transformations belong together."
            )
        left.sums = left.sums + right.sums if left.samples else right.sums.copy()
        left.count, left.values = left.count + right.count, right.values
        return left

    def same(self, left: Distances, right: Distances) -> bool:
        if (
            not np.array_equal(left.count, right.count)
            or left.sums.shape != right.sums.shape
            or left.skipped != right.skipped
        ):
            return False
        near = RELATIVE * (np.abs(left.sums) + np.abs(right.sums)) + 1e-9 * left.samples
        return bool(np.all((np.abs(left.sums - right.sums) <= near) | (np.isnan(left.sums) & np.isnan(right.sums))))

    def nbytes(self, value: Distances) -> int:
        return value.sums.nbytes + value.count.nbytes

    def expected_nbytes(self, shape: tuple[int, ...], unit: int, transformations: int) -> int:
        """What `nbytes` will be after the first batch, whatever the shape of a sample."""
        return 8 * GROUPS * (3 * transformations**2 + 1)

    def to_arrays(self, value: Distances) -> Mapping[str, NDArray[Any]]:
        skipped = np.frombuffer(value.skipped.encode(), np.uint8)
        return {
            "sums": value.sums,
            "count": value.count,
            "values": np.array([value.values], np.int64),
            "skipped": skipped,
        }

    def from_arrays(self, site: Site, arrays: Mapping[str, NDArray[Any]]) -> Distances:
        try:
            value = Distances(
                site,
                int(arrays["values"][0]),
                arrays["count"].astype(np.int64),
                arrays["sums"].astype(np.float64),
                arrays["skipped"].tobytes().decode(),
            )
            fits = value.count.shape == (GROUPS,) and value.sums.shape == (GROUPS, 3, *2 * value.sums.shape[-1:])
        except (KeyError, IndexError, ValueError) as error:
            raise FileFormatError(f"{site}: distances need sums, count, values and skipped ({error}).") from error
        if not fits:
            raise FileFormatError(f"{site}: the arrays of these distances do not fit each other; the file is damaged.")
        return value


def pairs_of(row: NDArray[np.float64]) -> NDArray[np.float64]:
    """Squared distance, distance and cosine of all pairs of rows (T, D): (3, T, T).

    From products about the mean row: about zero, a mean far above the deviations would leave no digits.  Two vectors of zeros point the
    same way; a vector of zeros and another have no cosine.
    """
    centre = row.mean(axis=0)
    apart = row - centre
    gram = apart @ apart.T
    squares = np.maximum(np.diag(gram)[:, None] + np.diag(gram)[None] - 2 * gram, 0.0)
    np.fill_diagonal(squares, 0.0)
    along = apart @ centre
    inner = gram + along[:, None] + along[None] + centre @ centre
    size = np.sqrt(np.maximum(np.diag(inner), 0.0))
    both = size[:, None] * size[None]
    cosine = np.divide(inner, both, out=np.full(both.shape, np.nan), where=both > 0)
    cosine[(size[:, None] == 0) & (size[None] == 0)] = 1.0
    return np.stack([squares, np.sqrt(squares), np.clip(cosine, -1.0, 1.0)])

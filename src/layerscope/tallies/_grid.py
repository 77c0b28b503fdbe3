"""Variances over a grid of samples × transformations, in one pass over blocks of complete rows."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from .._errors import DataError, FileFormatError, MergeError, ShapeError
from .._site import Activations, Chunk, Samples, Site
from ..kernels import grid_into, groups_into
from ._abstract import AbstractTally, to_numpy
from ._grid_block import Pool, block_sums, in_floats, pooled, rows_of
from ._grid_groups import Groups, groups_of, picked_of
from ._grid_sums import Flavour, GridSums, check_flavour

FLOATS = (np.dtype(np.float32), np.dtype(np.float64))
ALL = 0
"""The stratum of everything, where nothing is stratified."""


@dataclass
class Grid:
    """The value of `GridMoments` at one site.

    `shape` of a sample's values, of which axis `unit` counts units; `by` the sums of every stratum, under `ALL` where there is only one;
    `inside` (D,) which values rest on the layer's own after alignment, None where all do; `skipped` why nothing was summed.
    """

    site: Site
    shape: tuple[int, ...] = ()
    unit: int = 0
    transformations: int = 0
    by: dict[int, GridSums] = field(default_factory=dict[int, GridSums])
    groups: Groups | None = None
    inside: NDArray[np.bool_] | None = None
    skipped: str = ""

    @property
    def samples(self) -> int:
        return sum(sums.samples for sums in self.by.values())

    @property
    def values(self) -> int:
        return math.prod(self.shape)

    @property
    def form(self) -> tuple[Any, ...]:
        """What must agree for two to be joined."""
        return self.transformations, self.shape, self.unit

    @property
    def nbytes(self) -> int:
        groups = () if self.groups is None else self.groups.arrays
        return sum(array.nbytes for array in (*groups, *(a for sums in self.by.values() for a in sums.arrays)))


@dataclass(frozen=True)
class GridMoments(AbstractTally[Grid]):
    """Variances over transformations and over samples of every value of a layer, mergeable over samples.

    **Arguments:** `flavour` "std" keeps what mean deviations and mean variances need, 2 T D numbers; "variance" what mean variances need,
    T D + D; `pool` first reduces every feature map over its positions ("mean", "max", "sum"), which is another measure; `aligned` first
    takes each transformation back in the layer's output; `strata` "label" keeps the sums of every class apart.

    A batch holds every sample T times in a row (`Samples.transformations`): a row of the grid is there whole.
    **Raises:** `ShapeError` for incomplete rows, another shape, or masked positions that are not pooled.
    """

    flavour: Flavour = "std"
    pool: Pool | None = None
    aligned: bool = False
    strata: Literal["label"] | None = None

    def __post_init__(self) -> None:
        check_flavour(self.flavour)
        if self.pool not in (None, *get_args(Pool)):
            raise DataError(f"pool={self.pool!r}: choose None, 'mean', 'max' or 'sum'.")

    @property
    def grid(self) -> bool:
        return True

    def covers(self, other: AbstractTally[Any]) -> bool:
        """Whether this value answers whatever the other would: deviations need more than variances do."""
        return self == other or (
            isinstance(other, GridMoments)
            and (self.flavour, other.flavour) == ("std", "variance")
            and (self.pool, self.aligned, self.strata) == (other.pool, other.aligned, other.strata)
        )

    # --- reading -----------------------------------------------------------------------------------------------------------------

    def read(self, activations: Activations) -> dict[str, Any]:
        a, rows = activations, rows_of(activations, self.aligned)
        if rows is None:
            return {}
        x = rows.values if self.pool is None else pooled(rows, self.pool, a)
        x = in_floats(a.xp.reshape(x, (x.shape[0], -1)), a.xp)
        inside = {} if rows.inside is None else {"inside": rows.inside}
        if a.host is not None or a.grid is None or self.strata is not None:  # classes are told apart on the host
            return {"values": x, **inside}
        picked = picked_of(int(x.shape[1]), rows.inside)
        return {**block_sums(x, len(a.grid), a.real, picked, self.flavour == "std", a.xp), **inside}

    def observe(self, value: Grid, activations: Activations, samples: Samples) -> Grid:
        a, x = activations, activations.host
        plain = not self.aligned and self.pool is None and self.strata is None and samples.mask is None
        if x is None or not plain or a.axes.sample or x.dtype not in FLOATS:
            return self.add(value, Chunk.of(self.read(a), a, samples))
        self._fit(value, x.shape[1:], a.axes.among(x.ndim), samples.transformations, None)
        _add_rows(value, x.reshape(len(x), value.values), samples, self.flavour == "std")
        return value

    # --- summing -----------------------------------------------------------------------------------------------------------------

    def init(self, site: Site) -> Grid:
        return Grid(site)

    def add(self, value: Grid, chunk: Chunk) -> Grid:
        if not chunk.arrays:
            value.skipped = "the layer has no space the transformations could be taken back in"
            return value
        shape, unit = self._shape(chunk)
        self._check_mask(chunk, value.site)
        inside = to_numpy(chunk.arrays["inside"]) if "inside" in chunk.arrays else None
        self._fit(value, shape, unit, chunk.samples.transformations, inside)
        if "values" not in chunk.arrays:
            _add_sums(value, {name: to_numpy(array) for name, array in chunk.arrays.items()}, chunk.samples)
            return value
        x = to_numpy(chunk.arrays["values"])
        if self.strata is None:
            _add_rows(value, x, chunk.samples, self.flavour == "std")
        else:
            _add_strata(value, x, chunk.samples, self.flavour == "std")
        return value

    def _shape(self, chunk: Chunk) -> tuple[tuple[int, ...], int]:
        if self.pool is not None:
            return (chunk.units,), 0
        return (*chunk.positions[: chunk.unit], chunk.units, *chunk.positions[chunk.unit :]), chunk.unit

    def _check_mask(self, chunk: Chunk, site: Site) -> None:
        mask = chunk.samples.mask
        if mask is None or self.pool is not None or not chunk.positions or mask.all():
            return
        raise ShapeError(
            f"{site}: some positions are masked, so a place in one sample is not the same place in another. Pool them: "
            "NormalizedVariance(pool='mean'), or measure a layer after pooling."
        )

    def _fit(self, value: Grid, shape: tuple[int, ...], unit: int, T: int, inside: Any) -> None:
        """Take the form of the first batch, or insist on it."""
        form = (T, tuple(shape), unit)
        if not value.shape and not value.transformations:
            value.transformations, value.shape, value.unit = form
            value.inside = None if inside is None or inside.all() else np.asarray(inside, np.bool_)
            return
        if value.form != form:
            raise ShapeError(
                f"{value.site}: {value.transformations} transformations of values {value.shape} so far, {T} of {tuple(shape)} in this "
                "batch. One grid has one shape: resize or crop the inputs to one size, or pool: NormalizedVariance(pool='mean')."
            )

    def merge(self, left: Grid, right: Grid) -> Grid:
        left.skipped = left.skipped or right.skipped
        if not right.by:
            return left
        if not left.by:
            left.transformations, left.shape, left.unit, left.inside = *right.form, right.inside
        elif left.form != right.form:
            raise MergeError(
                f"merge: {left.transformations} transformations of values {left.shape} at {str(left.site)!r}, then {right.transformations} of "
                f"{right.shape}. Only grids of the same transformations of the same layer belong together."
            )
        for stratum, sums in right.by.items():
            left.by[stratum] = left.by[stratum].joined(sums) if stratum in left.by else sums.copy()
        if right.groups is not None:
            nothing = Groups.zeros(right.groups.picked, left.transformations)
            left.groups = (left.groups or nothing).joined(right.groups)
        return left

    def same(self, left: Grid, right: Grid) -> bool:
        if left.form != right.form or left.by.keys() != right.by.keys() or left.skipped != right.skipped:
            return False
        if not all(left.by[stratum].same(right.by[stratum]) for stratum in left.by):
            return False
        if left.groups is None or right.groups is None:
            return left.groups is right.groups
        return left.groups.same(right.groups)

    def nbytes(self, value: Grid) -> int:
        return value.nbytes

    def expected_nbytes(
        self, shape: tuple[int, ...], unit: int, transformations: int, strata: int | None = None
    ) -> int | None:
        """What `nbytes` will be after the first batch, for samples of this shape with units along axis `unit`, before there is any.

        At most so much where places outside the map leave fewer than 16 values that count; `strata` classes, where sums are kept by class:
        None, where nobody says of how many.
        """
        if self.strata is not None and strata is None:
            return None
        T, D = transformations, shape[unit] if self.pool is not None else math.prod(shape)
        sums = 8 * D * (T + (T if self.flavour == "std" else 1) + 2)
        return sums + Groups.expected_nbytes(D, T) if strata is None or self.strata is None else sums * strata

    # --- files -------------------------------------------------------------------------------------------------------------------

    def to_arrays(self, value: Grid) -> Mapping[str, NDArray[Any]]:
        arrays: dict[str, NDArray[Any]] = {
            "form": np.array([value.transformations, value.unit, *value.shape], np.int64),
            "strata": np.array([(s, sums.samples) for s, sums in value.by.items()], np.int64).reshape(-1, 2),
            "skipped": np.frombuffer(value.skipped.encode(), np.uint8),
        }
        if value.by:
            for k, name in enumerate(_SUMS):
                arrays[name] = np.stack([sums.arrays[k] for sums in value.by.values()])
        if value.groups is not None:
            arrays |= dict(zip(_GROUPS, value.groups.arrays, strict=True))
        if value.inside is not None:
            arrays["inside"] = value.inside
        return arrays

    def from_arrays(self, site: Site, arrays: Mapping[str, NDArray[Any]]) -> Grid:
        try:
            T, unit, *shape = arrays["form"].tolist()
            value = Grid(site, tuple(shape), unit, T, skipped=arrays["skipped"].tobytes().decode())
            D, each = value.values, T if self.flavour == "std" else 1
            strata = [(int(s), int(samples)) for s, samples in arrays["strata"]]
            for k, (stratum, samples) in enumerate(strata):
                value.by[stratum] = GridSums(samples, *(arrays[name][k].astype(np.float64) for name in _SUMS))
            fits = all([a.shape for a in sums.arrays] == [(T, D), (each, D), (D,), (D,)] for sums in value.by.values())
            if "picked" in arrays:
                value.groups = Groups(*(np.array(arrays[name]) for name in _GROUPS))
                fits &= value.groups.fits and value.groups.mean.shape[1] == T
            if "inside" in arrays:
                value.inside = arrays["inside"].astype(np.bool_)
                fits &= value.inside.shape == (D,)
        except (KeyError, IndexError, ValueError, TypeError) as error:
            raise FileFormatError(
                f"{site}: grid moments need arrays that are not there or not whole ({error})."
            ) from error
        if not fits:
            raise FileFormatError(
                f"{site}: the arrays of these grid moments do not fit each other; the file is damaged."
            )
        return value


_SUMS = ("mean", "m2", "rows_var", "rows_std")
_GROUPS = ("picked", "group_count", "group_mean", "group_m2", "group_rows_var", "group_rows_std")


def _add_rows(value: Grid, x: NDArray[Any], samples: Samples, each: bool) -> None:
    """Rows of complete samples, (samples · T, D); what lies behind them is padding."""
    n, T = len(samples), value.transformations
    if len(x) < n * T:
        raise ShapeError(
            f"{value.site}: {n} samples × {T} transformations need {n * T} rows, {len(x)} arrived. A batch must hold complete rows of the "
            "grid."
        )
    if not n:
        return
    x = x[: n * T]
    sums = _sums_of(value, ALL, x.shape[1], each)
    grid_into(x, T, sums.samples, *sums.arrays)
    sums.samples += n
    if value.groups is None:
        value.groups = Groups.zeros(picked_of(value.values, value.inside), T)
    picked, *rest = value.groups.arrays
    groups_into(x, T, picked, groups_of(samples), *rest)


def _sums_of(value: Grid, stratum: int, D: int, each: bool) -> GridSums:
    if stratum not in value.by:
        value.by[stratum] = GridSums.zeros(value.transformations, D, each)
    return value.by[stratum]


def _add_strata(value: Grid, x: NDArray[Any], samples: Samples, each: bool) -> None:
    if samples.labels is None:
        raise DataError(
            f"{value.site}: a measure by class needs labels, the data has none. Give them, for example ls.Data(source, label='labels')."
        )
    T, n = value.transformations, len(samples)
    block = x[: n * T].reshape(n, T, -1)
    for label in np.unique(samples.labels).tolist():
        rows = block[samples.labels == label]
        sums = _sums_of(value, label, block.shape[2], each)
        grid_into(rows.reshape(-1, block.shape[2]), T, sums.samples, *sums.arrays)
        sums.samples += len(rows)


def _add_sums(value: Grid, block: Mapping[str, NDArray[Any]], samples: Samples) -> None:
    """The sums of one block, made on the device."""
    n = int(block["samples"])
    sums = GridSums(n, *(np.asarray(block[name], np.float64) for name in _SUMS))
    value.by[ALL] = value.by[ALL].joined(sums) if ALL in value.by else sums
    if value.groups is None:
        value.groups = Groups.zeros(picked_of(value.values, value.inside), value.transformations)
    few: NDArray[Any] = np.ascontiguousarray(block["few"][: n * value.transformations])
    _, *rest = value.groups.arrays
    groups_into(few, value.transformations, np.arange(len(value.groups.picked)), groups_of(samples), *rest)

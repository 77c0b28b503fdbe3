"""Variances over a grid of samples × transformations, in one pass over blocks of complete rows."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from .._errors import DataError, FileFormatError, MergeError, ShapeError
from .._site import Activations, Chunk, Samples, Site, mask_fits
from ..kernels import grid_into, groups_into
from ._abstract import AbstractTally, to_numpy

Flavour = Literal["std", "variance"]
Pool = Literal["mean", "max", "sum"]

RELATIVE = 2e-6
NOISE = 1e-6
"""What values themselves may differ by between frameworks: in a group of few samples that is more of a variance than `RELATIVE`."""
GROUPS = 16
"""Groups of samples that a jackknife leaves out one by one."""
PICKED = 16
"""Values of a layer, evenly spaced, whose sums are kept group by group."""
ALL = 0
"""The stratum of everything, where nothing is stratified."""


@dataclass
class GridSums:
    """Sums over samples × transformations (T) × values (D) of one stratum, all float64.

    `rows_var`, `rows_std` (D,): Σ over samples of variance and deviation over transformations; `mean` (T, D), `m2` (T, D): per
    transformation mean and squared deviations over samples; (1, D) where only the sum of `m2` is kept.
    """

    samples: int
    mean: NDArray[np.float64]
    m2: NDArray[np.float64]
    rows_var: NDArray[np.float64]
    rows_std: NDArray[np.float64]

    @classmethod
    def zeros(cls, T: int, D: int, each: bool) -> "GridSums":
        return cls(0, np.zeros((T, D)), np.zeros((T if each else 1, D)), np.zeros(D), np.zeros(D))

    @property
    def arrays(self) -> tuple[NDArray[np.float64], ...]:
        return self.mean, self.m2, self.rows_var, self.rows_std

    def copy(self) -> "GridSums":
        return GridSums(self.samples, *(array.copy() for array in self.arrays))

    def joined(self, other: "GridSums") -> "GridSums":
        """Both together, by the rule of Chan, Golub & LeVeque (1979)."""
        if not self.samples or not other.samples:
            return (other if other.samples else self).copy()
        total = self.samples + other.samples
        with np.errstate(invalid="ignore"):  # infinite means are not joined to anything finite
            delta = other.mean - self.mean
            between = delta * delta * (self.samples * other.samples / total)
            return GridSums(
                total,
                self.mean + delta * (other.samples / total),
                self.m2 + other.m2 + (between if len(self.m2) == len(delta) else between.sum(axis=0, keepdims=True)),
                self.rows_var + other.rows_var,
                self.rows_std + other.rows_std,
            )

    def same(self, other: "GridSums", noise: float = 0.0) -> bool:
        """Whether both say the same, where every value may differ by `noise` of the largest mean."""
        pairs = list(zip(self.arrays, other.arrays, strict=True))
        if self.samples != other.samples or any(a.shape != b.shape for a, b in pairs):
            return False
        size, n = np.abs(self.mean), max(self.samples, 1)
        moved = noise * float(size.max(initial=0.0))
        close = [np.abs(self.mean - other.mean) <= RELATIVE * (size + np.sqrt(self.m2 / n)) + moved]
        for mine, theirs in pairs[1:]:
            whole = np.abs(mine) + np.abs(theirs)
            close.append(np.abs(mine - theirs) <= RELATIVE * whole + 4 * moved * (np.sqrt(n * whole) + n * moved + n))
        return all(bool(np.all(each)) for each in close)


@dataclass
class Groups:
    """The same sums for the values `picked` (K,), for each of G groups of samples: what a jackknife leaves out.

    A sample's group is a function of its id, so sums do not depend on the order or cutting of the data.
    """

    picked: NDArray[np.int64]
    count: NDArray[np.int64]
    mean: NDArray[np.float64]
    m2: NDArray[np.float64]
    rows_var: NDArray[np.float64]
    rows_std: NDArray[np.float64]

    @classmethod
    def zeros(cls, picked: NDArray[np.int64], T: int, each: bool) -> "Groups":
        K = len(picked)
        sums = (np.zeros((GROUPS, T, K)), np.zeros((GROUPS, T if each else 1, K)))
        return cls(picked, np.zeros(GROUPS, np.int64), *sums, np.zeros((GROUPS, K)), np.zeros((GROUPS, K)))

    def __iter__(self) -> Iterator[GridSums]:
        """The sums of every group that has samples."""
        for g in np.flatnonzero(self.count).tolist():
            yield GridSums(int(self.count[g]), self.mean[g], self.m2[g], self.rows_var[g], self.rows_std[g])

    @property
    def arrays(self) -> tuple[NDArray[Any], ...]:
        return self.picked, self.count, self.mean, self.m2, self.rows_var, self.rows_std

    def joined(self, other: "Groups") -> "Groups":
        together = Groups.zeros(self.picked, self.mean.shape[1], self.m2.shape[1] == self.mean.shape[1])
        for g in range(GROUPS):
            one, two = (
                GridSums(int(x.count[g]), x.mean[g], x.m2[g], x.rows_var[g], x.rows_std[g]) for x in (self, other)
            )
            both = one.joined(two)
            together.count[g] = both.samples
            for name in ("mean", "m2", "rows_var", "rows_std"):
                getattr(together, name)[g] = getattr(both, name)
        return together


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
        return int(np.prod(self.shape, dtype=np.int64))

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
        a = activations
        if self.aligned and a.grid is None:
            raise DataError("same-equivariance: nothing was transformed. Pass transformations= to ls.examine.")
        rank = len(a.values.shape)
        x, unit = a.xp.moveaxis(a.values, a.axes.sample % rank, 0), a.axes.among(rank) + 1
        inside: dict[str, Any] = {}
        if self.aligned:
            shape = tuple(int(size) for size in x.shape)
            x = a.grid.align(x, unit)
            if x is None:
                return {}
            inside = {"inside": a.grid.supported(shape, unit).reshape(-1)}
        if self.pool is not None:
            x = _pooled(x, unit, self.pool, a.mask, a.xp)
        x = a.xp.reshape(x, (x.shape[0], -1))
        if not str(x.dtype).endswith(("float32", "float64")):
            x = a.xp.asarray(x, dtype=a.xp.float32)
        if a.host is None and a.grid is not None:
            picked = picked_of(int(x.shape[1]), inside.get("inside"))
            return {**_block(x, len(a.grid), a.real, picked, self.flavour == "std", a.xp), **inside}
        return {"values": x, **inside}

    def observe(self, value: Grid, activations: Activations, samples: Samples) -> Grid:
        a, x = activations, activations.host
        plain = not self.aligned and self.pool is None and self.strata is None and samples.mask is None
        if x is None or not plain or a.axes.sample or x.dtype.name not in ("float32", "float64"):
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
        inside = chunk.arrays.get("inside")
        self._fit(value, shape, unit, chunk.samples.transformations, inside)
        if "values" not in chunk.arrays:
            if self.strata is not None:
                raise DataError(
                    f"{value.site}: sums by class are made on the host. Run the model on the CPU, or without by_class."
                )
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
            nothing = Groups.zeros(right.groups.picked, left.transformations, self.flavour == "std")
            left.groups = (left.groups or nothing).joined(right.groups)
        return left

    def same(self, left: Grid, right: Grid) -> bool:
        if left.form != right.form or left.by.keys() != right.by.keys() or left.skipped != right.skipped:
            return False
        if not all(left.by[stratum].same(right.by[stratum]) for stratum in left.by):
            return False
        one, two = ([*g] if g is not None else [] for g in (left.groups, right.groups))
        return len(one) == len(two) and all(a.same(b, NOISE) for a, b in zip(one, two, strict=True))

    def nbytes(self, value: Grid) -> int:
        return value.nbytes

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
                G, K = GROUPS, len(value.groups.picked)
                fits &= [a.shape for a in value.groups.arrays] == [(K,), (G,), (G, T, K), (G, each, K), (G, K), (G, K)]
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


def check_flavour(flavour: str) -> None:
    if flavour not in get_args(Flavour):
        raise DataError(f"flavour={flavour!r}: choose 'std' (mean deviations) or 'variance' (mean variances).")


def picked_of(D: int, inside: NDArray[np.bool_] | None) -> NDArray[np.int64]:
    """The values of D whose sums are kept by group: evenly spaced over those that count."""
    chosen = np.arange(D) if inside is None else np.flatnonzero(inside)
    places = np.rint(np.linspace(0, len(chosen) - 1, min(PICKED, len(chosen))))
    return chosen[np.unique(places.astype(np.int64))]


def groups_of(samples: Samples) -> NDArray[np.int64]:
    """The group of every sample, a function of its id."""
    return (samples.keys % np.uint64(GROUPS)).astype(np.int64)


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
        value.groups = Groups.zeros(picked_of(value.values, value.inside), T, each)
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
    each = len(block["m2"]) == value.transformations
    n = int(block["samples"])
    sums = GridSums(n, *(np.asarray(block[name], np.float64) for name in _SUMS))
    value.by[ALL] = value.by[ALL].joined(sums) if ALL in value.by else sums
    if value.groups is None:
        value.groups = Groups.zeros(picked_of(value.values, value.inside), value.transformations, each)
    few: NDArray[Any] = np.ascontiguousarray(block["few"][: n * value.transformations])
    _, *rest = value.groups.arrays
    groups_into(few, value.transformations, np.arange(len(value.groups.picked)), groups_of(samples), *rest)


def _block(x: Any, T: int, real: Any, picked: NDArray[np.int64], each: bool, xp: Any) -> dict[str, Any]:
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
        "few": xp.stack([x[:, int(k)] for k in picked], axis=1),
    }


def _pooled(x: Any, unit: int, how: Pool, mask: Any, xp: Any) -> Any:
    """Every map (rows, …) reduced over its positions: (rows, units); masked positions take no part."""
    x = xp.moveaxis(x, unit, -1)
    if not str(x.dtype).endswith(("float32", "float64")):
        x = xp.asarray(x, dtype=xp.float32)
    if len(x.shape) == 2:
        return x
    axes = tuple(range(1, len(x.shape) - 1))
    positions: Sequence[int] = [int(size) for size in x.shape[1:-1]]
    if mask is None or not mask_fits(tuple(int(size) for size in mask.shape[1:]), tuple(positions)):
        return {"mean": xp.mean, "sum": xp.sum, "max": xp.max}[how](x, axis=axes)
    counts = xp.reshape(mask, (*mask.shape, *(1,) * (len(x.shape) - len(mask.shape))))
    if how == "max":
        return xp.max(xp.where(counts, x, xp.asarray(-np.inf, dtype=x.dtype)), axis=axes)
    total = xp.sum(xp.where(counts, x, xp.zeros_like(x)), axis=axes)
    if how == "sum":
        return total
    seen = xp.sum(xp.asarray(counts, dtype=x.dtype) * xp.ones_like(x[..., :1]), axis=axes)
    return total / xp.where(seen > 0, seen, xp.ones_like(seen))

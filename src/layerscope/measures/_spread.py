"""Deviations over transformations and over samples, value by value of a layer, and what is made of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from .._errors import DataError, EmptyTally
from .._site import Site
from ..tallies import Grid, GridSums
from ..tallies._grid import ALL, Flavour

Level = Literal["layer", "map", "element"]
Undefined = Literal["nan", "one", "inf"]
Aggregate = Literal["mean of ratios", "ratio of means"]
Numbers = NDArray[np.float64]


@dataclass(frozen=True)
class Spread:
    """Of every value: `over_t` the mean spread over transformations, `over_samples` the mean spread over samples, `mean` its mean.

    Spreads are deviations in the flavour "std", variances in the flavour "variance".  `outside` values do not count and are NaN.
    """

    over_t: Numbers
    over_samples: Numbers
    mean: Numbers
    outside: int = 0

    def of(self, cells: "Cells") -> "Spread":
        """The same of cells: elements as they are, or averaged over every map."""
        t, s, mean = (cells.averaged(each) for each in (self.over_t, self.over_samples, self.mean))
        return Spread(t, s, mean, cells.outside)


def spread_of(sums: GridSums, flavour: Flavour, ddof: int) -> Spread:
    """The spreads from the sums of a grid.

    tv = mean over samples of var over transformations, sv = mean over transformations of var over samples, or of their roots.
    **Source:** Quiroga et al. 2019, CCIS 1050; 2023, arXiv:2310.17404.
    """
    n, T = sums.samples, len(sums.mean)
    rescaled = (T - 1) / (T - ddof)
    columns = sums.m2 / (n - ddof)
    if flavour == "variance":
        over_t = sums.rows_var / n * rescaled
        over_samples = columns.mean(axis=0) if len(columns) == T else columns[0] / T
    else:
        over_t, over_samples = sums.rows_std / n * np.sqrt(rescaled), np.sqrt(columns).mean(axis=0)
    return Spread(over_t, over_samples, sums.mean.mean(axis=0))


@dataclass(frozen=True)
class Cells:
    """What one number stands for: an element of a layer, or a feature map.

    `shape` of a sample's values, whose axis `unit` counts units; `inside` the values that count, None for all.
    """

    shape: tuple[int, ...]
    unit: int
    inside: NDArray[np.bool_] | None
    maps: bool = False

    @property
    def outside(self) -> int:
        """Cells that do not count."""
        if self.inside is None:
            return 0
        count = np.asarray(self.inside, np.float64)
        return int((self.by_map(count) == 0).sum() if self.maps else (~self.inside).sum())

    def averaged(self, elements: Numbers) -> Numbers:
        """Elements as they are, those that do not count as NaN; or their mean over every map."""
        counted = elements if self.inside is None else np.where(self.inside, elements, np.nan)
        return self.by_map(counted) if self.maps else counted

    def by_map(self, elements: Numbers) -> Numbers:
        """Means over the elements of every map that are numbers, (units,)."""
        units = np.moveaxis(elements.reshape(self.shape), self.unit, 0) if self.shape else elements.reshape(1, 1)
        return mean_of(units.reshape(units.shape[0], -1), axis=1)


def unknown_in(spreads: Sequence[Spread], inside: NDArray[np.bool_] | None) -> str:
    """How many values, class by class, held NaN or infinite activations; nothing where none did."""
    known = [np.isfinite(each.over_t) & np.isfinite(each.over_samples) for each in spreads]
    lost = sum(int((~each if inside is None else ~each & inside).sum()) for each in known)
    whole = sum(each.size if inside is None else int(inside.sum()) for each in known)
    return f"{lost:,} of {whole:,} values held NaN or infinite activations" if lost else ""


def cells_of(value: Grid, maps: bool) -> Cells:
    return Cells(value.shape, value.unit, value.inside, maps)


def mean_of(numbers: Numbers, axis: int | None = None) -> Any:
    """The mean of those that are numbers; NaN of none, without a warning."""
    known = ~np.isnan(numbers)
    count = known.sum(axis=axis)
    total = np.where(known, numbers, 0.0).sum(axis=axis)
    return np.divide(total, count, out=np.full(np.shape(total), np.nan), where=count > 0)[()]


@dataclass(frozen=True)
class Ratio:
    """Spread over transformations relative to spread over samples, cell by cell, with what could not be divided.

    `value` NaN where undefined and left out; `dead` never moved and lie at zero, `constant` never moved, `only_t` moved with the
    transformation alone, `unknown` held NaN or infinite values: numbers of cells, of `cells`.
    """

    value: Numbers
    dead: int
    constant: int
    only_t: int
    unknown: int
    cells: int

    @property
    def note(self) -> str:
        parts = ((self.dead, "dead"), (self.constant, "constant"), (self.only_t, "moved by the transformation only"))
        found = ", ".join(f"{count:,} {what}" for count, what in parts if count)
        return f"{found} of {self.cells:,}" if found else ""


def ratio_of(spread: Spread, flavour: Flavour, undefined: Undefined, floor: float) -> Ratio:
    """Spreads divided.

    A spread counts as none when, as a deviation, it is at most `floor` times the size of its cell, which is the larger of its mean and of
    the layer's root mean square: below that lies rounding, not movement.  0 / 0 is then NaN, or 1 under "one" and "inf"; x / 0 is NaN, or
    infinite under "inf".
    """
    t, s, mean = spread.over_t, spread.over_samples, spread.mean
    unknown = ~(np.isfinite(t) & np.isfinite(s))
    counted = ~np.isnan(t) if unknown.all() else ~unknown
    sizes = np.abs(mean)
    squares = (s if flavour == "variance" else s * s) + mean * mean
    layer = float(np.sqrt(mean_of(np.where(unknown, np.nan, squares)))) if counted.any() else 0.0
    least = floor * np.maximum(sizes, 0.0 if np.isnan(layer) else layer)
    least = least * least if flavour == "variance" else least
    still_t, still_s = (t <= least) & ~unknown, (s <= least) & ~unknown
    both, only_t = still_t & still_s, still_s & ~still_t
    value = np.divide(t, s, out=np.full(t.shape, np.nan), where=~still_s & ~unknown)
    if undefined != "nan":
        value[both] = 1.0
    if undefined == "inf":
        value[only_t] = np.inf
    dead = both & (sizes <= floor * (0.0 if np.isnan(layer) else layer))
    lost, cells = int(unknown.sum()) - spread.outside, value.size - spread.outside
    return Ratio(value, int(dead.sum()), int((both & ~dead).sum()), int(only_t.sum()), lost, cells)


def strata_of(value: Grid, by_class: bool) -> dict[int, GridSums]:
    """The sums to average over: of every class that has two samples, or of everything.

    **Raises:** `EmptyTally` where nothing can be said.
    """
    check_seen(value.site, value.samples, value.transformations, value.skipped)
    strata = {label: sums for label, sums in value.by.items() if sums.samples > 1}
    if by_class and not strata:
        raise EmptyTally(
            f"{value.site}: no class has two samples. A variance within a class needs two or more of each."
        )
    return strata if by_class else {ALL: value.by[ALL]}


def check_seen(site: Site, samples: int, transformations: int, skipped: str = "") -> None:
    """**Raises:** `EmptyTally` for a grid without two rows and two columns."""
    if skipped:
        raise EmptyTally(f"{site}: not measured: {skipped}.")
    if not samples:
        raise EmptyTally(f"{site}: no activation was observed yet. Run data through the model first.")
    if samples < 2:
        raise EmptyTally(f"{site}: only one sample was seen. A variance over samples needs two or more.")
    if transformations < 2:
        raise EmptyTally(
            f"{site}: every sample was seen under one transformation only. Pass transformations= with two or more to ls.examine."
        )


def check_choice(who: str, what: str, value: Any, choices: Any) -> None:
    """**Raises:** `DataError` for what is no choice."""
    if value not in get_args(choices):
        raise DataError(f"{who}: {what} is one of {', '.join(map(repr, get_args(choices)))}; got {value!r}.")


def averaged(numbers: Sequence[Numbers]) -> Numbers:
    """The mean over classes, every class one vote."""
    return mean_of(np.stack(numbers), axis=0) if len(numbers) > 1 else numbers[0]

"""Invariance: how far activations move with transformations of the input, next to how far they move from sample to sample."""

import abc
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from .._errors import DataError
from .._reading import NAN, Reading
from ..tallies import Grid, GridMoments, GridSums
from ..tallies._grid import ALL, Flavour, Pool, check_flavour
from ._abstract import AbstractMeasure
from ._grid_intervals import jackknife_of
from ._intervals import clipped, interval
from ._spread import (
    Aggregate,
    Cells,
    Level,
    Numbers,
    Ratio,
    Spread,
    Undefined,
    averaged,
    cells_of,
    check_choice,
    mean_of,
    ratio_of,
    spread_of,
    strata_of,
    unknown_in,
)


@dataclass(frozen=True)
class AbstractGridMeasure(AbstractMeasure[Grid]):
    """What all of them share.

    **Arguments:** `flavour` "std": means of standard deviations, "variance": means of variances; `level` "layer": one number, "map": one a
    feature map, "element": one a value; `by_class` measured within every class, then averaged, every class one vote; `pool` first reduces
    every map over its positions ("mean", "max", "sum"), as Quiroga et al. 2019 do, which is another measure; `ddof`.
    **Reads:** `GridMoments`. **Raises:** `EmptyTally` for fewer than two samples or transformations.
    """

    flavour: Flavour = "std"
    level: Level = "layer"
    by_class: bool = False
    pool: Pool | None = None
    ddof: int = 1

    maps: ClassVar[bool] = False
    """Whether a cell is a feature map instead of an element."""
    aligned: ClassVar[bool] = False
    """Whether the transformations are taken back in the layer's output first."""

    def __post_init__(self) -> None:
        check_flavour(self.flavour)
        check_choice(type(self).__name__, "level", self.level, Level)
        if self.ddof not in (0, 1):
            raise DataError(f"{type(self).__name__}: ddof is 0 or 1, got {self.ddof!r}.")
        if self.maps and self.level == "element":
            raise DataError(f"{type(self).__name__}: it has one number a feature map. Choose level='map' or 'layer'.")
        if self.aligned and self.pool is not None:
            raise DataError(
                f"{type(self).__name__}: pool={self.pool!r} leaves no space to take transformations back in. Leave it out, or measure "
                f"NormalizedVariance(pool={self.pool!r})."
            )

    @property
    def tally(self) -> GridMoments:
        return GridMoments(self.flavour, self.pool, self.aligned, "label" if self.by_class else None)

    @property
    @abc.abstractmethod
    def unit(self) -> str:
        """What it is measured in, with {T} and {N}."""

    @abc.abstractmethod
    def cells(self, spread: Spread) -> tuple[Numbers, str]:
        """One number a cell, NaN where there is none, and what must be said of them."""

    def summary(self, spread: Spread) -> float:
        """One number of all cells."""
        return float(mean_of(self.cells(spread)[0]))

    def quotient(self, spread: Spread) -> tuple[float, ...]:
        """The means whose quotient it is, of all cells; nothing where it is none."""
        return ()

    def compute(self, value: Grid) -> Reading:
        strata = strata_of(value, self.by_class)
        cells = cells_of(value, self.maps)
        elements = [spread_of(sums, self.flavour, self.ddof) for sums in strata.values()]
        spreads = [spread.of(cells) for spread in elements]
        found = [self.cells(spread) for spread in spreads]
        samples = sum(sums.samples for sums in strata.values())
        known = sum(bool(np.isfinite(numbers).any()) for numbers, _ in found)
        notes = [*(text for _, text in found if text), unknown_in(elements, value.inside)]
        notes = [*filter(None, notes), *_also(value, self.by_class, len(strata), known)]
        each = averaged([numbers for numbers, _ in found])
        reading = Reading(
            cells.by_map(each) if self.level == "map" and not self.maps else each,
            observations=samples * value.transformations,
            samples=samples,
            measured_in=self.unit.format(T=value.transformations, N=samples),
            note="; ".join(dict.fromkeys(notes)),
        )
        if self.level != "layer":
            return reading

        def part(k: int) -> Reading:
            plain = replace(reading, measured_in=self.what, note="")
            return self._with_interval(plain, value, spreads, lambda spread: self.quotient(spread)[k])

        whole = self._with_interval(reading, value, spreads, self.summary)
        return replace(whole, parts=tuple(part(k) for k in range(len(self.quotient(spreads[0])))))

    def _with_interval(
        self, reading: Reading, value: Grid, spreads: Sequence[Spread], of: Callable[[Spread], float]
    ) -> Reading:
        """The reading with the number `of` all cells, and its 95 % interval from a few values taken for elements."""
        number = float(mean_of(np.array([of(spread) for spread in spreads])))
        if self.by_class or value.groups is None:
            return replace(reading, value=number)
        few = Cells((len(value.groups.picked),), 0, None)

        def without(sums: GridSums) -> float:
            return of(spread_of(sums, self.flavour, self.ddof).of(few)) if sums.samples > 1 else NAN

        jackknife, why = jackknife_of(value, number, without)
        low, high = (NAN, NAN) if jackknife is None else clipped(*interval(number, jackknife), math.inf)
        note = "; ".join(filter(None, (reading.note, why)))
        return replace(reading, value=number, low=low, high=high, note=note, jackknife=jackknife)

    def classes(self, value: Grid) -> dict[int, Reading]:
        """The same of every class by itself, by label, from a value whose sums are kept by class; classes of one sample are left out."""
        alone, strata = replace(self, by_class=False), strata_of(value, by_class=True)
        return {label: alone.compute(replace(value, by={ALL: strata[label]}, groups=None)) for label in sorted(strata)}

    @property
    def what(self) -> str:
        return "standard deviation" if self.flavour == "std" else "variance"


def _also(value: Grid, by_class: bool, strata: int, known: int) -> list[str]:
    notes: list[str] = []
    if by_class:
        left, without = len(value.by) - strata, strata - known
        notes.append(
            f"mean over {known} classes"
            + (f", {left} with a single sample left out" if left else "")
            + (f", {without} without a number left out" if without else "")
        )
    if value.inside is not None:
        notes.append(
            f"{int((~value.inside).sum()):,} of {value.values:,} values lie outside the map under some transformation"
        )
    return notes


@dataclass(frozen=True)
class TransformationVariance(AbstractGridMeasure):
    r"""How far activations move when the input is transformed: $\mathrm{mean}_i\, \mathrm{std}_j\, A_{ij}$ of samples i, transformations j.

    See `AbstractGridMeasure` for its arguments; in the flavour "variance" $\mathrm{mean}_i\, \mathrm{var}_j$, which is half the mean squared
    distance between two transformed versions. **Gives:** the activation's own scale (squared in the flavour "variance"), 0 for invariance.
    **Source:** Quiroga et al. 2023, arXiv:2310.17404.
    """

    name: ClassVar[str] = "transformation variance"

    @property
    def unit(self) -> str:
        return f"activation: {self.what} over {{T}} transformations, mean over {{N}} samples"

    def cells(self, spread: Spread) -> tuple[Numbers, str]:
        return spread.over_t, ""


@dataclass(frozen=True)
class SampleVariance(AbstractGridMeasure):
    r"""How far activations move from sample to sample: $\mathrm{mean}_j\, \mathrm{std}_i\, A_{ij}$, what `NormalizedVariance` divides by.

    See `AbstractGridMeasure` for its arguments. **Source:** Quiroga et al. 2023, arXiv:2310.17404.
    """

    name: ClassVar[str] = "sample variance"

    @property
    def unit(self) -> str:
        return f"activation: {self.what} over {{N}} samples, mean over {{T}} transformations"

    def cells(self, spread: Spread) -> tuple[Numbers, str]:
        return spread.over_samples, ""


@dataclass(frozen=True)
class AbstractRatio(AbstractGridMeasure):
    """Spread over transformations relative to spread over samples.

    **Arguments:** besides those of `AbstractGridMeasure`, `aggregate` "mean of ratios", each cell one vote, or "ratio of means", which
    dead cells do not disturb; the other one stands in the note. `undefined` what becomes of cells that do not move from sample to sample:
    "nan" leaves them out, "one" takes 0 / 0 for 1, "inf" does that and takes x / 0 for infinite; they are counted in the note. `floor`:
    a deviation of at most so much of a cell's size is none.
    """

    aggregate: Aggregate = "mean of ratios"
    undefined: Undefined = "nan"
    floor: float = 1e-6

    def __post_init__(self) -> None:
        AbstractGridMeasure.__post_init__(self)
        check_choice(type(self).__name__, "aggregate", self.aggregate, Aggregate)
        check_choice(type(self).__name__, "undefined", self.undefined, Undefined)
        if not 0 <= self.floor < 1:
            raise DataError(
                f"{type(self).__name__}: floor is a share of a cell's size, 0 or more and below 1, got {self.floor!r}."
            )

    @property
    def unit(self) -> str:
        return f"{self.what} over {{T}} transformations / {self.what} over {{N}} samples"

    def ratio(self, spread: Spread) -> Ratio:
        return ratio_of(spread, self.flavour, self.undefined, self.floor)

    def ratios(self, value: Grid) -> list[Ratio]:
        """The ratio of every cell with the numbers of those that could not be divided; one of every class where `by_class`."""
        cells = cells_of(value, self.maps)
        sums = strata_of(value, self.by_class).values()
        return [self.ratio(spread_of(each, self.flavour, self.ddof).of(cells)) for each in sums]

    def cells(self, spread: Spread) -> tuple[Numbers, str]:
        ratio = self.ratio(spread)
        both = {"mean of ratios": float(mean_of(ratio.value)), "ratio of means": ratio_of_means(spread)}
        other = "ratio of means" if self.aggregate == "mean of ratios" else "mean of ratios"
        beside = f"{other} {both[other]:.3g}" if self.level == "layer" else ""
        return ratio.value, "; ".join(filter(None, (beside, ratio.note)))

    def summary(self, spread: Spread) -> float:
        return (
            ratio_of_means(spread) if self.aggregate == "ratio of means" else float(mean_of(self.ratio(spread).value))
        )

    def quotient(self, spread: Spread) -> tuple[float, ...]:
        return float(mean_of(spread.over_t)), float(mean_of(spread.over_samples))


def ratio_of_means(spread: Spread) -> float:
    """The mean spread over transformations over the mean spread over samples; NaN where nothing moves."""
    t, s = float(mean_of(spread.over_t)), float(mean_of(spread.over_samples))
    return t / s if s > 0 else NAN


@dataclass(frozen=True)
class NormalizedVariance(AbstractRatio):
    r"""The movement ratio: how far a unit moves with the transformation, next to how far it moves from sample to sample.

    $\mathrm{mean}_i\, \mathrm{std}_j\, A_{ij} \,/\, \mathrm{mean}_j\, \mathrm{std}_i\, A_{ij}$ of every element, then averaged. 0: invariant;
    1: the transformation moves it as much as another sample does.

    **Arguments:** see `AbstractRatio`. **Beware:** one layer can read .29, .27, .10 or .07 by flavour, aggregate and policy: name them.
    **Source:** Quiroga et al. 2019, CCIS 1050; 2023, arXiv:2310.17404.
    """

    name: ClassVar[str] = "normalized variance"


@dataclass(frozen=True)
class FeaturesVariance(AbstractGridMeasure):
    """How far feature maps move when the input is transformed: `TransformationVariance` averaged over the space of every map.

    See `AbstractGridMeasure` for its arguments; in a layer without space every unit is its own map.
    """

    name: ClassVar[str] = "features variance"
    maps: ClassVar[bool] = True

    @property
    def unit(self) -> str:
        return f"activation: {self.what} over {{T}} transformations, mean over maps and {{N}} samples"

    def cells(self, spread: Spread) -> tuple[Numbers, str]:
        return spread.over_t, ""


@dataclass(frozen=True)
class NormalizedFeaturesVariance(AbstractRatio):
    """The movement ratio of feature maps: spreads are averaged over the space of every map, then divided. Arguments: see `AbstractRatio`."""

    name: ClassVar[str] = "normalized features variance"
    maps: ClassVar[bool] = True


@dataclass(frozen=True)
class SameEquivariance(AbstractGridMeasure):
    r"""How far feature maps move, once the transformation is taken back in them: $\mathrm{mean}_i\, \mathrm{std}_j\, t_j^{-1}(A_{ij})$.

    0 for a layer that turns, shifts or mirrors its output exactly as its input was; only places that stay inside the map under every
    transformation count. Layers without space are skipped.

    **Arguments:** see `AbstractGridMeasure`. **Beware:** resampling alone moves values: row 0 of the profile, the input itself, is the floor.
    **Source:** Quiroga et al. 2023, arXiv:2310.17404.
    """

    name: ClassVar[str] = "same-equivariance"
    aligned: ClassVar[bool] = True

    @property
    def unit(self) -> str:
        return f"activation, transformations taken back: {self.what} over {{T}} of them, mean over {{N}} samples"

    def cells(self, spread: Spread) -> tuple[Numbers, str]:
        return spread.over_t, ""


@dataclass(frozen=True)
class NormalizedSameEquivariance(AbstractRatio):
    """`SameEquivariance` relative to how far the aligned maps move from sample to sample. Arguments: see `AbstractRatio`."""

    name: ClassVar[str] = "normalized same-equivariance"
    aligned: ClassVar[bool] = True

    @property
    def unit(self) -> str:
        return f"transformations taken back: {self.what} over {{T}} of them / {self.what} over {{N}} samples"

"""Analysis of variance: how much of a unit's movement the transformation itself explains."""

from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import numpy as np

from .._errors import DataError
from .._reading import NAN, Reading
from ..tallies import Grid, GridMoments, GridSums
from ._abstract import AbstractMeasure
from ._grid_intervals import jackknife_of
from ._intervals import clipped, interval
from ._spread import Level, Numbers, averaged, cells_of, check_choice, mean_of, strata_of

Design = Literal["repeated", "one-way"]
Statistic = Literal["effect", "F"]


@dataclass(frozen=True)
class Anova(AbstractMeasure[Grid]):
    r"""How much of a unit's movement the transformation explains, beyond what differs from sample to sample.

    With $SS_t = N \sum_j (\bar A_{\cdot j} - \bar A)^2$: in the design "repeated" every sample is its own control,
    $F = \frac{SS_t / (T - 1)}{SS_{ts} / ((N - 1)(T - 1))}$ with the interaction $SS_{ts}$, and the effect is partial
    $\eta^2 = SS_t / (SS_t + SS_{ts})$; "one-way" takes the samples under each transformation for other samples,
    $F = \frac{SS_t / (T - 1)}{SS_w / (T (N - 1))}$ and $\eta^2 = SS_t / (SS_t + SS_w)$.

    **Arguments:** `design`; `statistic` "effect" (within [0, 1]; a layer's is the mean over elements) or "F" (a layer's is the median, as a
    mean follows its few largest); `level` "layer", "map" (means over a map) or "element"; `by_class` within every class, then averaged.
    **Reads:** `GridMoments`. **Gives:** beside a layer's effect a 95 % interval from leaving out groups of samples, and in the note what
    chance alone would read.
    **Raises:** `EmptyTally` for fewer than two samples or transformations.
    **Beware:** a unit whose every sample moves in its own way (a rotated edge) has a small effect and a large transformation variance.
    $SS_{ts}$ is a difference: its error is 2e-6 of the larger of its two parts. **Source:** Fisher 1925.
    """

    design: Design = "repeated"
    statistic: Statistic = "effect"
    level: Level = "layer"
    by_class: bool = False
    name: ClassVar[str] = "anova"

    def __post_init__(self) -> None:
        check_choice("Anova", "design", self.design, Design)
        check_choice("Anova", "statistic", self.statistic, Statistic)
        check_choice("Anova", "level", self.level, Level)
        if self.statistic == "F" and self.level == "map":
            raise DataError(
                "Anova: F has no mean over a map. Choose level='element' or 'layer', or statistic='effect'."
            )

    @property
    def tally(self) -> GridMoments:
        return GridMoments("variance", strata="label" if self.by_class else None)

    def compute(self, value: Grid) -> Reading:
        strata = strata_of(value, self.by_class)
        cells = cells_of(value, maps=False)
        found = [cells.averaged(_statistic(sums, self.design, self.statistic)) for sums in strata.values()]
        each = averaged(found)
        known = each[~np.isnan(each)]
        number: float | Numbers = each
        if self.level == "layer":
            number = float(mean_of(each) if self.statistic == "effect" else np.median(known) if known.size else np.nan)
        elif self.level == "map":
            number = cells.by_map(each)
        samples, T = sum(sums.samples for sums in strata.values()), value.transformations
        still, values = sum(int(np.isnan(of_class).sum()) for of_class in found), each.size * len(found)
        freedom = (T - 1, (samples - 1) * (T - 1) if self.design == "repeated" else T * (samples - 1))
        what = "η²" if self.design == "one-way" else "partial η²"
        reading = Reading(
            number,
            observations=samples * T,
            samples=samples,
            measured_in=f"{what if self.statistic == 'effect' else 'F({}, {})'.format(*freedom)} of {T} transformations, {samples} samples",
            note=f"{still:,} of {values:,} values never moved or are no numbers" if still else "",
        )
        if self.level != "layer" or self.statistic != "effect" or self.by_class:
            return reading
        chance = f"values that no transformation moves would read {freedom[0] / sum(freedom):.2g} on average"
        jackknife, _ = jackknife_of(value, float(mean_of(each)), self._of_few, share=True)
        low, high = (NAN, NAN) if jackknife is None else clipped(*interval(float(mean_of(each)), jackknife), 1.0)
        note = "; ".join(filter(None, (chance, reading.note)))
        return replace(reading, low=low, high=high, note=note, jackknife=jackknife)

    def _of_few(self, sums: GridSums) -> float:
        return float(mean_of(_statistic(sums, self.design, self.statistic))) if sums.samples > 1 else NAN


def _statistic(sums: GridSums, design: Design, statistic: Statistic) -> Numbers:
    """F or effect size of every value; NaN where nothing moves."""
    n, T = sums.samples, len(sums.mean)
    between = n * ((sums.mean - sums.mean.mean(axis=0)) ** 2).sum(axis=0)
    if design == "one-way":
        within, freedom = sums.m2.sum(axis=0), T * (n - 1)
    else:
        # what varies over the transformations of a sample is what all samples share, and the rest
        inside = (T - 1) * sums.rows_var
        within, freedom = np.maximum(inside - between, 0.0), (n - 1) * (T - 1)
        within[within <= 1e-12 * inside] = 0.0
    whole = between + within
    moved = np.isfinite(whole) & (whole > 0)
    out = np.full(whole.shape, np.nan)
    if statistic == "effect":
        return np.divide(between, whole, out=out, where=moved)
    with np.errstate(divide="ignore"):
        return np.divide(between / (T - 1), within / freedom, out=out, where=moved)

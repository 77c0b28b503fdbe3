"""Goodfellow's invariance: how often a unit fires when the input is transformed, next to how often it fires at all."""

import math
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from .._reading import NAN, Jackknife, Reading
from ..tallies import Firing, GridFiring
from ..tallies._firing import Rule
from ._abstract import AbstractMeasure
from ._grid_intervals import FEWEST
from ._intervals import clipped, interval
from ._spread import Cells, Level, Numbers, check_choice, check_seen, mean_of

FEW = 5
"""Samples above a threshold below which it hardly rests on anything."""
LOCAL = "firing over {T} transformations of {N} samples / firing over {M} untransformed"


@dataclass(frozen=True)
class Goodfellow(AbstractMeasure[Firing]):
    r"""Local / global firing: how often a value lies above its threshold under transformations, next to the untransformed data.

    $P(A_{ij} > \theta) / P(A_i > \theta)$ with samples i, transformations j, and a threshold θ for every value, which a share `alpha` of
    the untransformed data exceeds. 1: it fires under transformations as often as without them; 0: only without them.

    **Arguments:** `rule` "gaussian": θ = mean + z · sd of the untransformed data, z the 1 - alpha quantile of a normal distribution;
    "quantile": ⌈alpha · N⌉ of the N activations lie above it; `alpha`; `level` "layer" (mean of the ratios), "map" (means over
    a feature map) or "element". The ratio of the means stands in the note.
    **Reads:** `GridFiring`, which needs a pass over the untransformed data first: N forwards more.
    **Undefined** where a value never lies above its threshold in the untransformed data: left out, and counted in the note.
    **Errors:** counts are exact. Of samples that a threshold was taken from, too few lie above it: as k of n do, k + 1 of n + 1 others would,
    so the ratio reads high, by up to 1 / (alpha · N) of it. The interval leaves out groups of samples, with the thresholds as they are, and
    reaches down by so much more.
    **Raises:** `EmptyTally` for fewer than two samples or transformations.
    **Beware:** Goodfellow et al. average over the stimuli that make a unit fire, so that invariance is 1 / alpha; here, as Quiroga et al.
    do, over all samples.
    **Source:** Goodfellow, Lee, Le, Saxe & Ng 2009, NIPS 22; Quiroga et al. 2023, arXiv:2310.17404.
    """

    rule: Rule = "gaussian"
    alpha: float = 0.01
    level: Level = "layer"
    name: ClassVar[str] = "goodfellow"

    def __post_init__(self) -> None:
        self.tally  # noqa: B018 - it checks rule and alpha
        check_choice("Goodfellow", "level", self.level, Level)

    @property
    def tally(self) -> GridFiring:
        return GridFiring(self.rule, self.alpha)

    def compute(self, value: Firing) -> Reading:
        N, T, M = value.samples, value.transformations, int(value.plain_count.sum())
        check_seen(value.site, N, T)
        ratios = ratio(value.fired.sum(axis=0), N * T, value.plain.sum(axis=0), M)
        reading = Reading(
            Cells(value.shape, value.unit, None).by_map(ratios) if self.level == "map" else ratios,
            observations=N * T,
            samples=N,
            measured_in=f"{LOCAL.format(N=N, T=T, M=M)}, threshold: {self._threshold()}",
            note=_note(value, ratios, self.level == "layer", self.alpha),
        )
        return reading if self.level != "layer" else _summed(reading, value, ratios, self.alpha)

    def _threshold(self) -> str:
        share = f"{100 * self.alpha:.3g} %"
        if self.rule == "quantile":
            return f"exceeded by {share}"
        return f"mean + {self.tally.z:.3g} sd, a normal distribution's {share}"


def ratio(fired: NDArray[np.int64], of: int, plain: NDArray[np.int64], of_plain: int) -> Numbers:
    """Local over global firing, value by value; NaN where there is no global firing."""
    shares = fired / of, plain / of_plain
    return np.divide(*shares, out=np.full(len(plain), np.nan), where=plain > 0)


def _summed(reading: Reading, value: Firing, ratios: Numbers, alpha: float) -> Reading:
    """The reading of a layer: the mean of the ratios, with its interval."""
    number = float(mean_of(ratios))
    jackknife = _jackknife(value, number, alpha)
    low, high = (NAN, NAN) if jackknife is None else clipped(*interval(number, jackknife), math.inf)
    return replace(reading, value=number, low=low, high=high, jackknife=jackknife)


def _jackknife(value: Firing, number: float, alpha: float) -> Jackknife | None:
    """The mean ratio without each group of samples; None for too few groups."""
    groups = np.flatnonzero(value.count)
    if len(groups) < FEWEST or not math.isfinite(number):
        return None
    fired, plain, T = value.fired.sum(axis=0), value.plain.sum(axis=0), value.transformations
    N, M = value.samples, int(value.plain_count.sum())
    without = [
        float(mean_of(ratio(fired - value.fired[g], (N - int(value.count[g])) * T, plain - value.plain[g], M - int(value.plain_count[g]))))
        for g in groups.tolist()
    ]  # fmt: skip
    if not np.isfinite(without).all():
        return None
    return Jackknife(groups, np.array(without), N, below=number / (alpha * M), sizes=value.count[groups])


def _note(value: Firing, ratios: Numbers, layer: bool, alpha: float) -> str:
    D, unknown = len(ratios), np.isnan(_thresholds(value))
    never = int(np.count_nonzero(np.isnan(ratios) & ~unknown))
    notes = ["thresholds from a pass over the untransformed data"]
    fired, plain = int(value.fired[:, ~np.isnan(ratios)].sum()), int(value.plain.sum())
    if layer and plain:
        N, M = value.samples * value.transformations, int(value.plain_count.sum())
        notes.append(f"ratio of means {fired / N / (plain / M):.3g}")
    if (above := alpha * int(value.plain_count.sum())) < FEW:
        notes.append(f"thresholds rest on {above:.2g} samples above them: give more samples, or a larger alpha")
    if never:
        notes.append(f"{never:,} of {D:,} values are never above their threshold in the untransformed data")
    if unknown.any():
        notes.append(f"{int(unknown.sum()):,} of {D:,} held NaN or infinite values there")
    if value.nan:
        notes.append(f"{value.nan:,} activations under transformations were NaN, which fires nowhere")
    return "; ".join(notes)


def _thresholds(value: Firing) -> Any:
    assert value.threshold is not None  # where samples were counted there are thresholds
    return value.threshold

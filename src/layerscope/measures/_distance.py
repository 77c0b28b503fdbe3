"""How far apart a layer's answers to transformed versions of one sample lie."""

import math
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from .._errors import DataError
from .._reading import NAN, Jackknife, Reading
from ..tallies import Distances, GridDistances
from ..tallies._distances import KINDS
from ._abstract import AbstractMeasure
from ._grid_intervals import FEWEST
from ._intervals import clipped, interval
from ._spread import check_choice, check_seen

Metric = Literal["squared", "distance", "cosine"]


@dataclass(frozen=True)
class Distance(AbstractMeasure[Distances]):
    r"""How far apart a layer's answers to two transformed versions of one sample lie, on average over samples and pairs.

    **Arguments:** `metric` "squared" $\mathrm{mean}_i \frac1D \lVert A_{ij} - A_{ik} \rVert^2$ (twice the transformation variance),
    "distance" $\mathrm{mean}_i \lVert A_{ij} - A_{ik} \rVert / \sqrt D$ or "cosine" similarity, of D values; `against` the number of a
    transformation: pairs with that one only, None for all pairs; `level` "layer" or "transformation": one number for each, its mean over
    the pairs it is in; `aligned` takes the transformations back first: the simple form of same-equivariance.
    **Reads:** `GridDistances`. **Gives:** the activation's own scale (squared), or a cosine within [-1, 1].
    **Raises:** `EmptyTally` for fewer than two samples or transformations, `DataError` for a transformation that is not there.
    """

    metric: Metric = "distance"
    against: int | None = None
    level: Literal["layer", "transformation"] = "layer"
    aligned: bool = False
    name: ClassVar[str] = "distance"

    def __post_init__(self) -> None:
        check_choice("Distance", "metric", self.metric, Metric)
        check_choice("Distance", "level", self.level, Literal["layer", "transformation"])

    @property
    def tally(self) -> GridDistances:
        return GridDistances(self.aligned)

    def compute(self, value: Distances) -> Reading:
        T, n = value.transformations, value.samples
        check_seen(value.site, n, T, value.skipped)
        if self.against is not None and not 0 <= self.against < T:
            raise DataError(
                f"{value.site}: Distance(against={self.against}): transformations are numbered 0 to {T - 1}."
            )
        matrix = value.sums.sum(axis=0)[KINDS.index(self.metric)] / n / self._scale(value)
        number: Any = self._of(matrix) if self.level == "layer" else self._each(matrix)
        pairs = "all pairs" if self.against is None else f"pairs with transformation {self.against}"
        jackknife = self._jackknife(value, number) if self.level == "layer" else None
        least, most = (-1.0, 1.0) if self.metric == "cosine" else (0.0, math.inf)
        low, high = (NAN, NAN) if jackknife is None else clipped(*interval(number, jackknife), most, least)
        return Reading(
            number,
            low=low,
            high=high,
            observations=n * T,
            samples=n,
            measured_in=f"{_WORDS[self.metric]}{' after taking them back' if self.aligned else ''}, {pairs} of {T} transformations, {n} samples",
            note="" if np.isfinite(number).all() else "NaN or infinite values",
            jackknife=jackknife,
        )

    def _scale(self, value: Distances) -> float:
        return {"squared": value.values, "distance": math.sqrt(value.values), "cosine": 1.0}[self.metric]

    def _each(self, matrix: NDArray[np.float64]) -> NDArray[np.float64]:
        """One number a transformation."""
        if self.against is not None:
            return matrix[self.against]
        return (matrix.sum(axis=1) - np.diag(matrix)) / (len(matrix) - 1)

    def _of(self, matrix: NDArray[np.float64]) -> float:
        each = self._each(matrix)
        return float(each.mean() if self.against is None else np.delete(each, self.against).mean())

    def _jackknife(self, value: Distances, number: float) -> Jackknife | None:
        """The number without each group of samples; sums are means of different samples, so what is left is exact."""
        chosen = np.flatnonzero(value.count)
        if len(chosen) < FEWEST or not math.isfinite(number):
            return None
        sizes, sums = value.count[chosen], value.sums[chosen, KINDS.index(self.metric)] / self._scale(value)
        total = sums.sum(axis=0)
        rest = [(total - each) / (value.samples - m) for each, m in zip(sums, sizes.tolist(), strict=True)]
        return Jackknife(chosen, np.array([self._of(matrix) for matrix in rest]), value.samples, sizes=sizes)


_WORDS = {
    "squared": "activation², mean squared distance of a value",
    "distance": "activation, root mean square distance of a value",
    "cosine": "cosine similarity",
}

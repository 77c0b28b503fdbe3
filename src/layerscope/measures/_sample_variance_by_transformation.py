"""How far samples lie apart under each transformation of them."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from .._errors import DataError
from .._reading import Reading
from ..tallies import Grid, GridMoments
from ..tallies._grid import ALL
from ..tallies._grid_sums import Flavour, check_flavour
from ._abstract import AbstractMeasure
from ._spread import cells_of, check_seen, mean_of


@dataclass(frozen=True)
class SampleVarianceByTransformation(AbstractMeasure[Grid]):
    r"""Whether a layer tells turned samples apart as well as upright ones: $\mathrm{mean}_s\, \mathrm{std}_i\, A_{ijs}$ of every transformation j.

    Its mean over transformations is `SampleVariance`.

    **Arguments:** `flavour` "std" or "variance", `ddof` 0 or 1. **Reads:** `GridMoments("std")`, which keeps every transformation by itself.
    **Gives:** the activation's own scale (squared in the flavour "variance"), one number a transformation.
    **Raises:** `EmptyTally` for fewer than two samples or transformations. **Source:** Quiroga et al. 2023, arXiv:2310.17404, before the mean.
    """

    flavour: Flavour = "std"
    ddof: int = 1
    name: ClassVar[str] = "sample variance by transformation"

    def __post_init__(self) -> None:
        check_flavour(self.flavour)
        if self.ddof not in (0, 1):
            raise DataError(f"SampleVarianceByTransformation: ddof is 0 or 1, got {self.ddof!r}.")

    @property
    def tally(self) -> GridMoments:
        return GridMoments("std")

    def compute(self, value: Grid) -> Reading:
        n, T = value.samples, value.transformations
        check_seen(value.site, n, T, value.skipped)
        cells = cells_of(value, maps=False)
        variances = value.by[ALL].m2 / (n - self.ddof)
        spreads = variances if self.flavour == "variance" else np.sqrt(variances)
        what = "standard deviation" if self.flavour == "std" else "variance"
        return Reading(
            np.array([mean_of(cells.averaged(each)) for each in spreads]),
            observations=n * T,
            samples=n,
            measured_in=f"activation: {what} over {n} samples, under each of {T} transformations",
        )

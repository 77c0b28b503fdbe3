"""The six measures: variances over the columns of a matrix of inputs, plain and relative to those over its rows."""

import abc
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from ... import measures
from ..._errors import EmptyTally, SiteError
from ..._inputs import INPUT
from ..._results import Results
from ..._view import View
from ...measures._spread import Cells, Spread, mean_of, ratio_of, spread_of
from ...tallies import Grid
from ...tallies._grid import ALL
from ._grid import walked
from ._iterator import Iterator

FLOOR = 1e-6
"""A deviation of at most so much of an activation's size is rounding: it counts as none."""

Numbers = NDArray[np.float64]


class Computed(tuple[list[float], list[Numbers]]):
    """What `compute` gives: (variance_layers, variance_layers_activations), and more beside.

    `total` of the network; `notes` layer by layer; `of_input` the same number of the inputs themselves, as if they were a layer: what the
    transformations do before any layer, and in same-equivariance what resampling alone does.  NaN for inputs that are no real numbers.
    """

    total: float
    of_input: float
    notes: tuple[str, ...]

    def __new__(
        cls, layers: list[float], activations: list[Numbers], total: float, of_input: float, notes: tuple[str, ...]
    ) -> "Computed":
        made = tuple.__new__(cls, (layers, activations))  # pyright: ignore[reportUnknownMemberType] - its own stub says no more
        made.total, made.of_input, made.notes = total, of_input, notes
        return made

    def __repr__(self) -> str:
        return f"<{len(self[0])} layers: {', '.join(f'{value:.4g}' for value in self[0])}; total {self.total:.4g}>"


class AbstractVariance(abc.ABC):
    """A variance over the columns of a matrix of inputs, of every activation or feature of every layer.

    With A[i, j] an activation for the input at row i and column j: v = mean_i var_j A and, the other way round, w = mean_j var_i A, both
    with ddof = 1; for features both are averaged over each map.  On a transposed data set v and w change places.
    **Arguments:** `iterator`.  **Attributes:** those of `Computed`, as computed last, and `names` of the layers.
    **Raises:** `EmptyTally` before `compute`; `SiteError` for a model without feature maps, where these are measured.
    """

    maps: ClassVar[bool] = False
    """Whether one number stands for a feature map, and only layers that have such count."""
    aligned: ClassVar[bool] = False
    """Whether the transformations are taken back in the layers first."""

    def __init__(self, iterator: Iterator) -> None:
        self.iterator = iterator
        self._computed: Computed | None = None

    def compute(self, height: int | None = None, width: int | None = None) -> Computed:
        """(variance_layers, variance_layers_activations): the number of every layer, and of every activation or feature in it.

        `height`, `width` of the blocks: how much is held at a time.  They change no number.
        """
        self._computed = self.of(walked(self.iterator, (self.asks(),), height, width))
        return self._computed

    @classmethod
    def asks(cls) -> measures.AbstractMeasure[Any]:
        """What `ls.examine` has to count for it."""
        kind = measures.SameEquivariance if cls.aligned else measures.TransformationVariance
        return kind(flavour="variance")

    def of(self, results: Results) -> Computed:
        """The same of a pass that was made already."""
        spreads, outside = zip(*(self._spread(results[name]) for name in self.names), strict=True)
        layers, activations, notes = zip(*map(self.layer, spreads), strict=True)
        notes = tuple("; ".join(filter(None, both)) for both in zip(notes, outside, strict=True))
        return Computed(list(layers), list(activations), self.total_of([*spreads]), self._of_input(results), notes)

    def _spread(self, view: View) -> tuple[Spread, str]:
        """v and w of every cell, and how many activations do not count."""
        grid: Grid = view.value(self.asks().tally)
        cells = Cells(grid.shape, grid.unit, grid.inside, self.maps)
        found = spread_of(grid.by[ALL], "variance", 1).of(cells)
        lost = 0 if cells.inside is None else int((~cells.inside).sum())
        note = f"{lost:,} of {grid.values:,} activations outside the map under some transformation" if lost else ""
        return _turned(found) if self.iterator.dataset.is_transpose() else found, note

    def _of_input(self, results: Results) -> float:
        name = str(INPUT)
        if name not in results or (self.maps and len(results[name].layer.shape) < 4):
            return np.nan
        return self.layer(self._spread(results[name])[0])[0]

    @abc.abstractmethod
    def layer(self, spread: Spread) -> tuple[float, Numbers, str]:
        """One layer: its number, those of its activations or features, and what must be said of them."""

    @abc.abstractmethod
    def total_of(self, spreads: list[Spread]) -> float:
        """One number for the network, every layer one vote."""

    @property
    def names(self) -> list[str]:
        structure = self.iterator.get_model().get_model_structure()
        chosen = structure.layers_features if self.maps else structure.layers
        if not chosen:
            raise SiteError(
                f"{type(self).__name__}: no layer of the model has feature maps (activations along more than two axes). Use Variance."
            )
        return [layer.name for layer in chosen]

    @property
    def variance_layers(self) -> list[float]:
        return self._done()[0]

    @property
    def variance_layers_activations(self) -> list[Numbers]:
        return self._done()[1]

    @property
    def total(self) -> float:
        return self._done().total

    @property
    def of_input(self) -> float:
        return self._done().of_input

    @property
    def notes(self) -> tuple[str, ...]:
        return self._done().notes

    def _done(self) -> Computed:
        if self._computed is None:
            raise EmptyTally(f"{type(self).__name__}: nothing was computed yet. Call compute() first.")
        return self._computed


class AbstractPlain(AbstractVariance):
    """v itself: a layer's number is the mean of its activations' or features', the total the mean of the layers'."""

    def layer(self, spread: Spread) -> tuple[float, Numbers, str]:
        lost = int((~np.isfinite(spread.over_t)).sum()) - spread.outside
        return _mean(spread), spread.over_t, _unknown(lost, spread.over_t.size)

    def total_of(self, spreads: list[Spread]) -> float:
        return float(np.mean([_mean(spread) for spread in spreads]))


class AbstractNormalized(AbstractVariance):
    """v / w of every activation or feature, NaN where w is none, which `notes` counts; the total is the layers' mean v / their mean w."""

    def layer(self, spread: Spread) -> tuple[float, Numbers, str]:
        ratio = ratio_of(spread, "variance", "nan", FLOOR)
        whole = mean_of(ratio.value) if self.maps else _over(_mean(spread), _mean(_turned(spread)))
        note = "; ".join(filter(None, (ratio.note, _unknown(ratio.unknown, ratio.cells))))
        return np.nan if ratio.unknown else float(whole), ratio.value, note

    def total_of(self, spreads: list[Spread]) -> float:
        t, s = (np.mean([_mean(each) for each in of]) for of in (spreads, map(_turned, spreads)))
        return _over(float(t), float(s))


class Variance(AbstractPlain):
    """The variance of every activation; see `AbstractVariance`."""


class NormalizedVariance(AbstractNormalized):
    """v / w of every activation; of a layer mean v / mean w, which dead activations do not disturb."""


class FeaturesVariance(AbstractPlain):
    """The variance of every feature map, averaged over its activations; of the layers that have such."""

    maps = True


class NormalizedFeaturesVariance(AbstractNormalized):
    """v / w of every feature map; of a layer the mean over the maps that have one."""

    maps = True


class SameEquivariance(AbstractPlain):
    """The variance of every feature map once the transformations are taken back in it: 0 for a layer that moves as its input does.

    Only places that stay inside the map under every transformation count.
    """

    maps = aligned = True


class NormalizedSameEquivariance(AbstractNormalized):
    """`SameEquivariance` of every feature map relative to the variance between samples; of a layer the mean over the maps that have one."""

    maps = aligned = True


def _unknown(lost: int, of: int) -> str:
    return f"{lost:,} of {of:,} with NaN or infinite values" if lost else ""


def _turned(spread: Spread) -> Spread:
    """v and w in each other's place."""
    return Spread(spread.over_samples, spread.over_t, spread.mean, spread.outside)


def _mean(spread: Spread) -> float:
    """The mean v of a layer; NaN where that of a cell that counts is unknown."""
    known = int(np.isfinite(spread.over_t).sum()) + spread.outside
    return float(mean_of(spread.over_t)) if known == spread.over_t.size else np.nan


def _over(t: float, s: float) -> float:
    return t / s if s > 0 else np.nan

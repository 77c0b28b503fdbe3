"""Whether a measure of invariance goes with accuracy, over the groups of transformations of a data set."""

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..._errors import DataError
from ._dataset import TransformationsDataSet
from ._grid import walked
from ._images import AbstractImages
from ._iterator import Iterator
from ._model import Model
from ._variances import AbstractVariance, NormalizedVariance, Variance


@dataclass(frozen=True)
class Correlation:
    """Pearson's r of a measure and the accuracy over n groups, with its 95 % interval (Fisher 1921); NaN where it cannot be said.

    `without` the lowest and highest r when one group is left out: groups are few and chosen by hand, and one may make all of it.
    """

    r: float
    low: float
    high: float
    n: int
    without: tuple[float, float] = (math.nan, math.nan)

    def __str__(self) -> str:
        inside = "" if math.isnan(self.low) else f" [{self.low:.2f}, {self.high:.2f}]"
        one = "" if math.isnan(self.without[0]) else "; {:.2f} to {:.2f} without one of them".format(*self.without)
        return f"r = {self.r:.2f}{inside}, n = {self.n} groups{one}"


@dataclass(frozen=True)
class Analysis:
    """A measure or several against accuracy, group by group of transformations.

    `groups` names; `accuracy` (groups,) share of the transformed inputs that were classified right; `totals` of each measure (groups,);
    `inputs` how many a group has; `columns` transformations of each.
    """

    groups: tuple[str, ...]
    accuracy: tuple[float, ...]
    totals: dict[str, tuple[float, ...]]
    inputs: int
    columns: int

    def correlation(self, name: str) -> Correlation:
        """How a measure goes with accuracy over the groups."""
        return correlation(self.totals[name], self.accuracy)

    def __str__(self) -> str:
        names, wide = [*self.totals], max(map(len, self.groups))
        lines = [f"{self.inputs:,} inputs a group, {self.columns} transformations each"]
        lines.append("  ".join(["group".ljust(wide), "accuracy", *names]))
        for k, group in enumerate(self.groups):
            numbers = [f"{self.totals[name][k]:.4g}".rjust(len(name)) for name in names]
            lines.append("  ".join([group.ljust(wide), f"{self.accuracy[k]:8.3f}", *numbers]))
        lines += [f"{name} and accuracy: {self.correlation(name)}" for name in names]
        return "\n".join(lines)


class Analyzer:
    """Whether accuracy goes with a measure, over the groups of transformations of a data set.

    **Arguments:** `model`, `dataset`, and the `iterator` over both; `metrics` the measures, of which the network's total is taken.  The data
    set gives labels (`get_labels`).  Every group is measured in one pass, on a copy of the data set, which stays as it is.
    """

    def __init__(
        self,
        model: Model,
        dataset: TransformationsDataSet,
        iterator: Iterator,
        metrics: Sequence[type[AbstractVariance]] = (Variance, NormalizedVariance),
    ) -> None:
        if iterator.get_model() is not model or iterator.dataset is not dataset:
            raise DataError(
                "Analyzer: the iterator goes over another model or data set. Write Analyzer(model, dataset, Iterator(model, dataset))."
            )
        if not isinstance(dataset, TransformationsDataSet):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise DataError(
                f"Analyzer: {type(dataset).__name__} has no groups of transformations. Give a TransformationsDataSet."
            )
        if dataset.get_labels() is None:
            raise DataError(
                f"Analyzer: {type(dataset).__name__} gives no labels, so there is no accuracy. Define get_labels(): the class of every sample."
            )
        self.model, self.dataset, self.metrics = model, dataset, tuple(metrics)

    def run(self, n: int) -> Analysis:
        """Measure and accuracy under n transformations of every group; printed, and given back."""
        groups, accuracy = range(self.dataset.get_size_transformations_groups()), list[float]()
        totals: dict[str, list[float]] = {metric.__name__: [] for metric in self.metrics}
        inputs = 0
        for group in groups:
            dataset = copy.copy(self.dataset)
            dataset.set_transformation_group(group, n)
            iterator = Iterator(self.model, dataset)
            results = walked(iterator, tuple(dict.fromkeys(metric.asks() for metric in self.metrics)))
            if results.accuracy is None or results.task.kind != "accuracy":
                raise DataError(f"Analyzer: there is no accuracy: {results.task.note}.")
            inputs = results.accuracy.observations
            accuracy.append(float(results.accuracy))
            for metric in self.metrics:
                totals[metric.__name__].append(metric(iterator).of(results).total)
        given = self.dataset
        names = given.groups if isinstance(given, AbstractImages) else tuple(f"group {g}" for g in groups)
        found = Analysis(names, tuple(accuracy), {k: tuple(v) for k, v in totals.items()}, inputs, n)
        print(found)  # running it is all there is to do, says its page
        return found


def correlation(x: Sequence[float], y: Sequence[float]) -> Correlation:
    """Pearson's r of the pairs that are numbers; its interval from 4 pairs on."""
    pairs = np.array([pair for pair in zip(x, y, strict=True) if np.isfinite(pair).all()], np.float64).reshape(-1, 2)
    n, r = len(pairs), _pearson(pairs)
    if n < 4 or not abs(r) < 1:
        return Correlation(r, math.nan, math.nan, n)
    z, half = math.atanh(r), 1.959964 / math.sqrt(n - 3)
    others = [_pearson(np.delete(pairs, k, axis=0)) for k in range(n)]
    without = (math.nan, math.nan) if np.isnan(others).any() else (min(others), max(others))
    return Correlation(r, math.tanh(z - half), math.tanh(z + half), n, without)


def _pearson(pairs: NDArray[np.float64]) -> float:
    """NaN for fewer than three pairs, or where one side does not vary beyond rounding."""
    if len(pairs) < 3:
        return math.nan
    away = pairs - pairs.mean(axis=0)
    spread = np.sqrt((away * away).mean(axis=0))
    if (spread <= 1e-12 * np.abs(pairs).max(axis=0)).any():
        return math.nan
    return float(np.clip((away[:, 0] * away[:, 1]).mean() / spread.prod(), -1, 1))

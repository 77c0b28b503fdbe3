"""A network followed over its training: results epoch after epoch on the same samples, and windows of several epochs."""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from ._errors import DataError
from ._results import Results
from .measures import AbstractMeasure
from .tallies import StateCounts

if TYPE_CHECKING:
    import pandas as pd


class Epochs(Mapping[int, Results]):
    """Results of one network epoch after epoch, on the *same* samples: what changes from one to the next is the network.

        epochs = ls.Epochs()
        for epoch in range(5):
            train(model)
            epochs.add(ls.examine(model, sample))
        epochs.table                          # a row per epoch, site and measure: ready to plot
        epochs.readings(ls.measures.Entropy(estimator="c2"))  # any other measure, with its limits
        epochs.window(3, 4)["fc1"].entropy()  # the states of several epochs together

    A mapping from the number of the epoch to its results.  With `ls.watch` around the training, `epochs.add(watched.results())` and then
    `watched.reset()`: the samples of an epoch are then those it trained on, and must be as many in each.
    """

    def __init__(self) -> None:
        self._results: dict[int, Results] = {}

    def add(self, results: Results, epoch: int | None = None) -> None:
        """Take in the results of an epoch, by default the one after the last.

        **Raises:** `DataError` for an epoch that is there already, other sites, or other samples: a curve would follow these instead.
        """
        epoch = max(self._results, default=-1) + 1 if epoch is None else epoch
        if epoch in self._results:
            raise DataError(
                f"Epochs: epoch {epoch} is there already. Add every epoch once; give the number: add(results, {epoch + 1})."
            )
        if self._results:
            last, first = next(iter(self._results.items()))
            if [*first] != [*results]:
                raise DataError(
                    f"Epochs: epoch {last} read {', '.join(first)}; epoch {epoch} {', '.join(results)}. Examine with the same layers=."
                )
            pairs = zip(first.layers.read, results.layers.read, strict=True)
            if other := [str(a.site) for a, b in pairs if (a.threshold, a.axes) != (b.threshold, b.axes)]:
                raise DataError(
                    f"Epochs: units fire by other rules in epoch {epoch} than in epoch {last}, at {', '.join(other)}. Examine with the same "
                    "thresholds= and axes=."
                )
            if _samples(first) != _samples(results):
                raise DataError(
                    f"Epochs: epoch {epoch} was measured on other samples than epoch {last}, so a curve would follow the samples, not the "
                    "network. Give the same data each time, in arrays or a loader that does not shuffle."
                )
        self._results[epoch] = results

    def __getitem__(self, epoch: int) -> Results:
        if epoch not in self._results:
            raise KeyError(f"no epoch {epoch}; there are {', '.join(map(str, self)) or 'none'}")
        return self._results[epoch]

    def __iter__(self) -> Iterator[int]:
        return iter(sorted(self._results))

    def __len__(self) -> int:
        return len(self._results)

    def __repr__(self) -> str:
        return f"<Epochs {', '.join(map(str, self)) or '(none)'}>"

    @property
    def table(self) -> "pd.DataFrame":
        """The tables of all epochs one below the other, with the epoch as first column: value, low, high, verdict, coverage … of each."""
        import pandas as pd

        if not self._results:
            raise DataError("Epochs: there is no epoch yet. Add results first: epochs.add(ls.examine(model, sample)).")
        tables = [self[epoch].table for epoch in self]
        for epoch, table in zip(self, tables, strict=True):
            table.insert(0, "epoch", epoch)
        return pd.concat(tables, ignore_index=True)

    def readings(self, measure: AbstractMeasure[Any]) -> "pd.DataFrame":
        """Any one measure over the training: a row per epoch and site, with the columns epoch, layer, value, low, high, verdict, coverage, note.

        Where the measure gives a number per unit, `value` is their mean.
        """
        import pandas as pd

        lines = [
            (epoch, str(site), float(np.mean(r.value)), r.low, r.high, r.verdict, r.coverage, r.note)
            for epoch in self
            for site, r in self[epoch].readings(measure).items()
        ]
        return pd.DataFrame(lines, columns=["epoch", "layer", "value", "low", "high", "verdict", "coverage", "note"])

    def window(self, *epochs: int) -> Results:
        """Several epochs as one, all of them where none is named: the sum of their counts, so the states the layers took in any of them.

        Every sample counts once an epoch.  That is no larger sample of the data, and numbers about the data behind it say so.
        """
        chosen = epochs or tuple(self)
        if not chosen:
            raise DataError("Epochs: there is no epoch yet, so no window. Add results first.")
        together = self[chosen[0]]
        for epoch in chosen[1:]:
            together = together.merge(self[epoch])
        r, manifest = together, {**together.manifest, "epochs": list(chosen)}
        return Results(r.layers, r.values_by_site, r.measures, manifest, r.task, r.references)


def _samples(results: Results) -> tuple[object, ...]:
    """What tells samples apart, as far as results know: how many, their first batch, and the ids of those whose rows are kept."""
    kept = [
        tuple(sorted(value.kept.sifted().ids.tolist()))
        for layer in results.layers.read[-1:]
        for value in results.values_by_site[layer.site].values()
        if isinstance(value, StateCounts)
    ]
    return results.manifest.get("samples"), results.manifest.get("first_batch"), *kept

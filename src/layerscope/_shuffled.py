"""Shuffled labels as a reference: the same activations, counted in the same pass by the labels of a fixed random permutation of the samples."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeGuard, cast

import numpy as np
from numpy.typing import NDArray

from ._errors import DataError
from ._results import Results, Values
from ._site import Samples, Site
from ._task import Task
from .feed import Batch, Feed, labels_of
from .measures import AbstractMeasure
from .tallies import AbstractTally, StateTable

SHUFFLED = "shuffled labels"
"""The name of the reference."""
STRATUM = "shuffled label"
SEED = np.int64(0x2545F4914F6CDD1D)
"""Told from the order in which samples are kept, or those kept would have the labels of the first samples."""


@dataclass(frozen=True, eq=False)
class Permuted:
    """Labels of other samples: `ids` (samples,) ascending, and the label that each gets.

    A function of the set of ids and labels alone, so shards, batches and orders of the stream give one and the same; every class keeps
    its size.  Samples with one id get one label, that of a sample which came as often.
    """

    ids: NDArray[np.int64]
    labels: NDArray[np.int64]

    @classmethod
    def of(cls, ids: NDArray[np.int64], labels: NDArray[np.int64]) -> "Permuted":
        each, first, times = np.unique(ids, return_index=True, return_counts=True)
        taken = np.empty(len(each), np.int64)
        order = np.lexsort((Samples(each ^ SEED).keys, times))
        taken[order] = labels[first][np.argsort(times, kind="stable")]
        return cls(each, taken)

    def __call__(self, batch: Batch) -> Batch:
        """The batch, whose samples know their shuffled labels."""
        ids = batch.samples.ids
        at = np.minimum(np.searchsorted(self.ids, ids), len(self.ids) - 1)
        if (strange := ids[self.ids[at] != ids]).size:
            raise DataError(
                f"references=[{SHUFFLED!r}]: sample {strange[0]} was not there when the labels were looked through. The data must give the same "
                "samples each time it is read; give arrays, or ids that stay (ls.Data(…, ids=…))."
            )
        return replace(batch, samples=replace(batch.samples, shuffled=self.labels[at]))


def shuffler(feed: Feed, data: Any, samples: int | None = None) -> Permuted:
    """Gives the samples of every batch of `feed` their shuffled labels, known from one look through its `data`, without forwards.

    **Raises:** `DataError` where the data has no labels, or can be read only once.
    """
    return Permuted.of(*labels_of(feed, data, samples))


def shuffled(recipes: Sequence[AbstractTally[Any]]) -> list[AbstractTally[Any]]:
    """The tallies that count by shuffled label what these count by label.

    **Raises:** `DataError` where none counts by label.
    """
    found: list[AbstractTally[Any]] = [replace(r, strata=STRATUM) for r in recipes if _by(r, "label")]
    if not found:
        raise DataError(
            f"references=[{SHUFFLED!r}]: none of the measures reads labels, so shuffling them changes nothing. Add one to measures=, for "
            "example ls.measures.Information(), and give labels with the data."
        )
    return found


def apart(results: Results) -> Results:
    """The same results with what was counted by shuffled labels in `references`, beside the measures that read labels.

    Everything else would be the same with any labels, and is not repeated there.
    """
    here = next((results.values_by_site[layer.site] for layer in results.layers.read[-1:]), None)
    if here is None or not any(_by(tally, STRATUM) for tally in here):
        return results
    asked: list[AbstractMeasure[Any]] = [m for m in results.measures if _by(m.tally, "label")]
    manifest = {**results.manifest, "labels": "those of other samples, by a fixed random permutation"}
    mine, theirs = (cast(Values, _Taken(results.values_by_site, each)) for each in (False, True))
    other = Results(results.layers, theirs, asked, manifest, Task(note="labels were shuffled"))
    references = {**results.references, SHUFFLED: other}
    return Results(results.layers, mine, results.measures, results.manifest, results.task, references)


class _Taken(Mapping[Site, Mapping[AbstractTally[Any], Any]]):
    """Of the values of each site those by shuffled label, under the name of those by label; or all others."""

    def __init__(self, values: Values, by_shuffled: bool) -> None:
        self._values, self._by_shuffled = values, by_shuffled

    def __getitem__(self, site: Site) -> dict[AbstractTally[Any], Any]:
        values = self._values[site]
        if not self._by_shuffled:
            return {tally: value for tally, value in values.items() if not _by(tally, STRATUM)}
        return {replace(tally, strata="label"): value for tally, value in values.items() if _by(tally, STRATUM)}

    def __iter__(self) -> Iterator[Site]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)


def _by(tally: AbstractTally[Any], strata: str) -> TypeGuard[StateTable]:
    return isinstance(tally, StateTable) and tally.strata == strata

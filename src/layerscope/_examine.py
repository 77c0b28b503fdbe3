"""The road, walked: data → feed → probe → tallies → results."""

import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from ._choices import Choices
from ._errors import DataError
from ._manifest import Making
from ._results import Results
from ._road import opened
from ._shuffled import apart
from .feed import Batch, Feed
from .inventory import Selection
from .measures import AbstractMeasure


def examine(
    model: Any,
    data: Any,
    *,
    layers: Selection = None,
    exclude: Selection = None,
    measures: Sequence[AbstractMeasure[Any]] | None = None,
    transformations: Any = None,
    references: Sequence[str] | Mapping[str, Any] = (),
    samples: int | None = None,
    batch_size: int | None = None,
    thresholds: Mapping[str, float] | None = None,
    axes: Mapping[str, Any] | None = None,
    params: Any = None,
    device: Any = None,
    amp: str | None = None,
    nonfinite: str = "note",
    keep_rows: bool | str | os.PathLike[str] = False,
    sketch: int | None = None,
    memory_limit: int | str | None = None,
    shard: tuple[int, int] | None = None,
    resume: str | os.PathLike[str] | None = None,
    progress: bool = False,
) -> Results:
    """Measure what the layers of a trained model do on some data, in one pass.

    **Arguments:**
    `model` of PyTorch, Keras, Flax, Equinox, an energy network's retrieval, or a JAX function with taps.
    `data` a loader, data set, array, pair, dict, iterable of batches, or `ls.Data`.
    `layers`, `exclude` classes, names, globs or predicates; None reads where units fire, "all" every leaf.
    `measures` to be tabulated. None: entropy and efficiency, plain and corrected, firing rates, dead, always-on, equal and redundant units,
    and what the states tell about labels where there are any; with `transformations` the variances over these.
    `transformations` a set of T, `ls.transformations.rotations(16)` for example: every sample is shown under each, transformed before
    `preprocess`, in N · T forwards; the input itself is row 0 of the results. Measures that compare with the untransformed data
    (`Goodfellow`) take a pass over all of it first, N forwards more.
    `references` ["untrained"], ["shuffled labels"], {name: model} or {name: (model, params)} are measured on the same batches.
    `samples` at most so many; `batch_size` rows a forward (the last batch is padded, so every forward has one size).
    `thresholds`, `axes` by name, class or glob override when a unit fires and which axis holds units.
    `params` what a model without parameters of its own is called with (Flax Linen, JAX functions).
    `device`, `amp` where and in which precision the model runs. `nonfinite` "note" or "raise".
    `keep_rows` True or a folder keeps every state in order. `sketch` counts states in fixed memory, so many of them at a site.
    `memory_limit` ("4 GiB") bounds tallies and a batch together, and changes no number: where the tallies of all layers do not fit, layers
    take turns, one more pass over the data for each turn, and those that are done lie in a temporary folder; where `batch_size` is left
    open and a batch would take more than half of it, batches are smaller.
    `shard` (i, n) takes every n-th batch; merge the results. `resume` a file that is written while running and continued from.
    `progress` shows a bar.

    **Gives:** `Results`, whose manifest tells passes and forwards. The model's mode, device, hooks and all random states are as before.
    **Raises:** errors of `layerscope._errors`, before the first batch where they can be known.
    """
    choices = Choices(
        layers=layers,
        exclude=exclude,
        measures=measures,
        transformations=transformations,
        references=references,
        samples=samples,
        batch_size=batch_size,
        thresholds=thresholds,
        axes=axes,
        amp=amp,
        keep_rows=keep_rows,
        sketch=sketch,
        shard=shard,
        params=params,
        device=device,
        nonfinite=nonfinite,
        memory_limit=memory_limit,
    )
    if resume is not None and choices.rows_on_disk:
        raise DataError(
            "resume=, keep_rows=: rows in a folder cannot be continued. Keep them in memory, keep_rows=True."
        )
    began = time.perf_counter()
    with opened(model, data, choices) as road:
        made = Making(road.probe, road.feed, road.measured, choices.said, resume)
        done = made.resumed(road)
        more = True
        while more:
            if not done:
                road.prepare(_bar("untransformed", progress))
            for batch in _bar("examine", progress)(road.feed):
                if batch.number < done:
                    continue
                made.saw(batch)
                road.step(batch)
                made.save_sometimes(road, batch.number + 1, began)
            more, done = road.again(road.walk.samples), 0
        results = made.results(road.walk, road.others, time.perf_counter() - began)
        results.manifest |= road.facts()
        results = apart(results)
    if resume is not None:
        results.save(resume)
    return results


def _bar(name: str, progress: bool) -> Callable[[Feed], Iterable[Batch]]:
    """The batches of a feed, with a bar where one is asked for."""

    def batches(feed: Feed) -> Iterable[Batch]:
        if not progress:
            return feed
        from tqdm import tqdm

        return tqdm(feed, total=feed.batches, desc=name, unit="batch")

    return batches

"""The road, walked once: data → feed → probe → tallies → results."""

import os
import re
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import Any, cast

from ._errors import DataError
from ._inputs import with_input
from ._manifest import Making, said
from ._results import Results
from ._site import mask_fits
from ._walk import Walk
from .feed import Batch, Data, Feed
from .inventory import Layers, Selection, select, wants_inputs, with_rules
from .measures import (
    AbstractMeasure,
    AlwaysOnUnits,
    DeadUnits,
    Efficiency,
    Entropy,
    EqualUnits,
    FiringRate,
    NormalizedVariance,
    SampleVariance,
    TransformationVariance,
)
from .probes import AbstractProbe, probe_for
from .tallies import AbstractTally, PackedRows, StateTable, fewest
from .transformations import AbstractTransformation, Transformations

LOOK = 3
"""Samples of the forward that shows what the model has."""

ASKED = tuple(
    "layers exclude measures transformations references samples batch_size thresholds axes amp keep_rows shard".split()
)
"""The arguments that a number can depend on; the manifest names them."""


def default_measures() -> tuple[AbstractMeasure[Any], ...]:
    """What is measured when nothing is asked for: one tally feeds it all."""
    rates = tuple(FiringRate(quantile) for quantile in (0.05, 0.5, 0.95))
    corrected = Entropy(estimator="c2"), Efficiency(estimator="c2")
    return (Entropy(), Efficiency(), *corrected, *rates, DeadUnits(), AlwaysOnUnits(), EqualUnits())


def grid_measures() -> tuple[AbstractMeasure[Any], ...]:
    """What is measured of transformed samples when nothing is asked for: one tally feeds it all."""
    return (NormalizedVariance(), TransformationVariance(), SampleVariance())


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
    memory_limit: int | str | None = None,
    shard: tuple[int, int] | None = None,
    resume: str | os.PathLike[str] | None = None,
    progress: bool = False,
) -> Results:
    """Measure what the layers of a trained model do on some data, in one pass.

    **Arguments:** `model` of PyTorch, Keras, Flax, Equinox, or a JAX function with taps; `data` a loader, data set, array, pair, dict, iterable of batches, or `ls.Data`.
    `layers`, `exclude` classes, names, globs or predicates; None reads where units fire, "all" every leaf. `measures` to be tabulated
    (None: entropy and efficiency, plain and corrected, firing rates, dead, always-on and equal units; with `transformations` the variances over these).
    `transformations` a set of T, `ls.transformations.rotations(16)` for example: every sample is shown under each, transformed before
    `preprocess`, in N · T forwards; the input itself is row 0 of the results. `references` ["untrained"], {name: model} or {name: (model, params)} are
    measured on the same batches. `samples` at most so many; `batch_size` rows a forward (the last batch is padded, so every forward has one
    size). `thresholds`, `axes` by name, class or glob override when a unit fires and which axis holds units. `params` what a model without parameters of its own is called with (Flax Linen,
    JAX functions). `device`, `amp` where and in
    which precision the model runs. `nonfinite` "note" or "raise". `keep_rows` True or a folder keeps every state in order.
    `memory_limit` ("4 GiB") bounds the tallies. `shard` (i, n) takes every n-th batch; merge the results. `resume` a file that is written
    while running and continued from. `progress` shows a bar.
    **Gives:** `Results`. The model's mode, device, hooks and all random states are as before afterwards.
    **Raises:** errors of `layerscope._errors`, before the first batch where they can be known.
    """
    if nonfinite not in ("note", "raise"):
        raise DataError(f"nonfinite={nonfinite!r}: choose 'note' (count and say so) or 'raise'.")
    limit = None if memory_limit is None else parse_bytes(memory_limit)
    if resume is not None and isinstance(keep_rows, str | os.PathLike):
        raise DataError(
            "resume=, keep_rows=: rows in a folder cannot be continued. Keep them in memory, keep_rows=True."
        )
    choices = (
        layers,
        exclude,
        measures,
        transformations,
        references,
        samples,
        batch_size,
        thresholds,
        axes,
        amp,
        keep_rows,
        shard,
    )
    asked = {name: said(value) for name, value in zip(ASKED, choices, strict=True) if value not in (None, (), False)}
    grid = None if transformations is None else checked(transformations)
    measures = tuple(measures if measures is not None else default_measures() if grid is None else grid_measures())
    began = time.perf_counter()
    with ExitStack() as stack:
        probe = stack.enter_context(probe_for(model, device=device, amp=amp, forward=forward_of(data), params=params))
        # within, as loaders draw random numbers
        feed = Feed(data, samples=samples, batch_size=batch_size, shard=shard, transformations=grid)
        found = probe.describe(feed.peek(LOOK if grid is None else 1).flat, wants_inputs(layers))
        listed = chosen_layers(found, feed, layers, exclude, thresholds, axes)
        if grid is not None:
            listed = with_input(listed, feed.peek(1), feed.alignment)
        recipes = fewest(m.tally for m in measures)
        _check_states(recipes, grid)
        if keep_rows:
            recipes.append(PackedRows(None if keep_rows is True else os.fspath(keep_rows)))
        walk = Walk(probe, listed, recipes, feed, nonfinite == "raise")
        twins = _references(probe, references, device, amp, forward_of(data))
        others = {name: Walk(stack.enter_context(twin), listed, recipes, feed) for name, twin in twins.items()}
        made = Making(probe, feed, measures, asked, resume)
        done = made.resumed(walk, others)
        for batch in _bar(feed, progress):
            if batch.number < done:
                continue
            walk.step(batch)
            for other in others.values():
                other.step(batch)
            walk.check_memory(limit, others.values())
            made.save_sometimes(walk, others, batch.number + 1, began)
        results = made.results(walk, others, time.perf_counter() - began)
    if resume is not None:
        results.save(resume)
    return results


def chosen_layers(
    found: Layers,
    feed: Feed,
    layers: Selection = None,
    exclude: Selection = None,
    thresholds: Mapping[str, float] | None = None,
    axes: Mapping[str, Any] | None = None,
) -> Layers:
    """The sites that will be read, all others with their reason."""
    listed = with_rules(select(found, layers, exclude), thresholds, axes, layers)
    mask = feed.peek(LOOK).flat.samples.mask
    if mask is None:
        return listed
    sizes = mask.shape[1:]
    fitted = [
        x
        if x.left_out or mask_fits(sizes, x.positions)
        else replace(x, unfit=f"its positions {x.positions} do not match the mask {sizes}")
        for x in listed
    ]
    return with_rules(Layers(fitted), None, None, layers)


def _references(
    probe: AbstractProbe,
    asked: Sequence[str] | Mapping[str, Any],
    device: Any,
    amp: str | None,
    forward: Callable[..., Any] | None,
) -> dict[str, AbstractProbe]:
    if isinstance(asked, Mapping):
        probes: dict[str, AbstractProbe] = {}
        for name, given in asked.items():
            model, params = cast(tuple[Any, Any], given) if isinstance(given, tuple) else (given, None)
            probes[str(name)] = probe_for(model, device=device, amp=amp, forward=forward, params=params)
        return probes
    unknown = [name for name in asked if name != "untrained"]
    if isinstance(asked, str) or unknown:
        raise DataError(
            f"references={asked!r}: known is 'untrained'. Write references=['untrained'], or give networks: references={{'name': model}}."
        )
    return {name: probe.untrained() for name in asked}


def checked(transformations: Any) -> Transformations:
    """The set of transformations that was given, also as a sequence of them.

    **Raises:** `DataError` for anything else.
    """
    if isinstance(transformations, Transformations):
        return transformations
    if isinstance(transformations, AbstractTransformation):
        transformations = (transformations,)
    if isinstance(transformations, str) or not isinstance(transformations, Sequence):
        raise DataError(
            f"transformations={transformations!r}: give a set such as ls.transformations.rotations(16), or Transformations((…, …)) of a "
            "few; wrap a function of a batch in ls.transformations.Custom."
        )
    return Transformations(tuple(transformations))  # pyright: ignore[reportUnknownArgumentType]


def _check_states(recipes: Sequence[AbstractTally[Any]], grid: Transformations | None) -> None:
    """**Raises:** `DataError` for states that would span the transformed versions of a sample."""
    wide = [r.per for r in recipes if isinstance(r, StateTable) and r.per != "position"]
    if grid is not None and wide:
        raise DataError(
            f"transformations=: states per={wide[0]!r} span a whole sample, of which there are {len(grid)} versions here. Measure them per "
            "'position', or without transformations."
        )


def forward_of(data: Any) -> Callable[..., Any] | None:
    """How a `Data` says the model is called."""
    return data.forward if isinstance(data, Data) else None


def parse_bytes(text: int | str) -> int:
    """Bytes of "4 GiB", "500 MB" or a number."""
    units = {"": 1, "B": 1, "kB": 10**3, "MB": 10**6, "GB": 10**9, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([A-Za-z]*)\s*", str(text))
    if found is None or found[2] not in units or float(found[1]) <= 0:
        raise DataError(
            f"memory_limit={text!r} is no amount of memory. Write a number of bytes, or for example '4 GiB' or '500 MB'."
        )
    return int(float(found[1]) * units[found[2]])


def _bar(feed: Feed, progress: bool) -> Iterable[Batch]:
    if not progress:
        return feed
    from tqdm import tqdm

    return tqdm(feed, total=feed.batches, desc="examine", unit="batch")

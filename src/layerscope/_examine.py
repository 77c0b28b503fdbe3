"""The road, walked once: data → feed → probe → tallies → results."""

import math
import os
import re
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from ._errors import DataError, MemoryLimitError, NonFiniteError
from ._results import Results, Task, Values
from ._site import Activations, Chunk, Samples, Site
from .feed import Batch, Data, Feed
from .inventory import Layer, Layers, Selection, select, wants_inputs, with_rules
from .measures import (
    AbstractMeasure,
    AlwaysOnUnits,
    DeadUnits,
    Efficiency,
    Entropy,
    EqualUnits,
    FiringRate,
)
from .probes import AbstractProbe, Read, probe_for
from .tallies import AbstractTally, PackedRows, StateCounts
from .tallies._abstract import to_numpy

LOOK = 2
"""Samples of the forward that shows what the model has."""
SAVE_EVERY = 30.0
"""Seconds between two saves of a run that can be resumed."""


def default_measures() -> tuple[AbstractMeasure[Any], ...]:
    """What is measured when nothing is asked for: one tally feeds it all."""
    rates = tuple(FiringRate(quantile) for quantile in (0.05, 0.5, 0.95))
    return (Entropy(), Efficiency(), *rates, DeadUnits(), AlwaysOnUnits(), EqualUnits())


def examine(
    model: Any,
    data: Any,
    *,
    layers: Selection = None,
    exclude: Selection = None,
    measures: Sequence[AbstractMeasure[Any]] | None = None,
    references: Sequence[str] | Mapping[str, Any] = (),
    samples: int | None = None,
    batch_size: int | None = None,
    thresholds: Mapping[str, float] | None = None,
    axes: Mapping[str, Any] | None = None,
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

    **Arguments:** `model` a PyTorch module; `data` a loader, data set, array, pair, dict, iterable of batches, or `ls.Data`.
    `layers`, `exclude` classes, names, globs or predicates; None reads where units fire, "all" every leaf. `measures` to be tabulated
    (None: entropy, efficiency, firing rates, dead, always-on and equal units). `references` ["untrained"] or {name: model} are measured
    on the same batches. `samples` at most so many; `batch_size` samples a forward (the last batch is padded, so every forward has one
    size). `thresholds`, `axes` by name, class or glob override when a unit fires and which axis holds units. `device`, `amp` where and in
    which precision the model runs. `nonfinite` "note" or "raise". `keep_rows` True or a folder keeps every state in order.
    `memory_limit` ("4 GiB") bounds the tallies. `shard` (i, n) takes every n-th batch; merge the results. `resume` a file that is written
    while running and continued from. `progress` shows a bar.
    **Gives:** `Results`. The model's mode, device, hooks and all random states are as before afterwards.
    **Raises:** errors of `layerscope._errors`, before the first batch where they can be known.
    """
    if nonfinite not in ("note", "raise"):
        raise DataError(f"nonfinite={nonfinite!r}: choose 'note' (count and say so) or 'raise'.")
    limit = None if memory_limit is None else parse_bytes(memory_limit)
    measures = default_measures() if measures is None else tuple(measures)
    began = time.perf_counter()
    with probe_for(model, device=device, amp=amp, forward=_forward_of(data)) as probe:
        feed = Feed(data, samples=samples, batch_size=batch_size, shard=shard)  # within, as loaders draw random numbers
        listed = chosen_layers(
            probe.describe(feed.peek(LOOK), wants_inputs(layers)), feed, layers, exclude, thresholds, axes
        )
        recipes = [*dict.fromkeys(m.tally for m in measures)]
        if keep_rows:
            recipes.append(PackedRows(None if keep_rows is True else os.fspath(keep_rows)))
        walk = Walk(probe, listed, recipes, feed)
        others = {
            name: Walk(twin, listed, recipes, feed)
            for name, twin in _references(probe, references, device, amp).items()
        }
        made = Making(
            probe, feed, measures, {"batch_size": feed.batch_size, "samples_asked": samples, "shard": shard}, resume
        )
        done = made.resumed(walk, others)
        for batch in _bar(feed, progress):
            if batch.number < done:
                continue
            walk.step(batch)
            for other in others.values():
                with other.probe:
                    other.step(batch)
            if nonfinite == "raise":
                walk.check_finite(batch)
            walk.check_memory(limit, others.values())
            made.save_sometimes(walk, others, batch.number + 1, began)
        results = made.results(walk, others, time.perf_counter() - began)
    if resume is not None:
        results.save(resume)
    return results


class Walk:
    """One model on its way through the data: its tallies so far, and how well it did its task."""

    def __init__(self, probe: AbstractProbe, listed: Layers, recipes: Sequence[AbstractTally[Any]], feed: Feed) -> None:
        self.probe, self.listed, self.recipes, self.score = probe, listed, recipes, feed.score
        self.values: Values = {x.site: {tally: tally.init(x.site) for tally in recipes} for x in listed.read}
        self.task, self.samples, self.batches = Task(note="no batch was seen"), 0, 0

    def step(self, batch: Batch) -> None:
        """Run one batch: what the host sees is counted on the spot, what lies on a device when the forward is through."""
        samples, values = batch.samples, self.values

        def read(layer: Layer, a: Activations) -> dict[AbstractTally[Any], Chunk]:
            mine = values[layer.site]
            if a.host is None:
                return {tally: Chunk.of(tally.read(a), a, samples) for tally in mine}
            for tally in mine:
                mine[tally] = tally.observe(mine[tally], a, samples)
            return {}

        output, chunks = self.probe.run(batch, self.listed.read, read)
        for layer, by_tally in chunks.items():
            mine = values[layer.site]
            for tally, chunk in by_tally.items():
                mine[tally] = tally.add(mine[tally], chunk)
        self.task = scored(self.task, output, batch, self.score)
        self.samples += len(samples)
        self.batches += 1

    def counts(self) -> Iterable[tuple[Site, StateCounts]]:
        for site, values in self.values.items():
            for value in values.values():
                if isinstance(value, StateCounts):
                    yield site, value

    def check_finite(self, batch: Batch) -> None:
        bad = {str(site): (value.nan, value.inf) for site, value in self.counts() if value.nan or value.inf}
        if bad:
            listed = ", ".join(f"{site} ({nan:,} NaN, {inf:,} infinite)" for site, (nan, inf) in bad.items())
            raise NonFiniteError(
                f"nonfinite='raise': batch {batch.number} has values that are not finite at {listed}. Look at its inputs, or pass "
                "nonfinite='note' to count them and go on."
            )

    @property
    def nbytes(self) -> int:
        return sum(value.nbytes for values in self.values.values() for value in values.values())

    def check_memory(self, limit: int | None, others: Iterable["Walk"]) -> None:
        if limit is None:
            return
        used = self.nbytes + sum(other.nbytes for other in others)
        if used > limit:
            sizes = {site: sum(v.nbytes for v in values.values()) for site, values in self.values.items()}
            largest = sorted(sizes, key=sizes.__getitem__, reverse=True)[:3]
            listed = ", ".join(f"{site} {sizes[site] / 2**20:.0f} MiB" for site in largest)
            raise MemoryLimitError(
                f"memory_limit: {used / 2**20:.0f} MiB of tallies after {self.samples:,} samples, {limit / 2**20:.0f} MiB are allowed; the "
                f"largest are {listed}. Measure fewer layers at a time (layers=, exclude=), fewer samples (samples=), or raise the limit: "
                "a number is never changed to save memory."
            )


def reader(recipes: Sequence[AbstractTally[Any]], samples: Callable[[Layer], Samples]) -> Read:
    """What a probe does with an activation: every tally reads it, and the chunks remember whose it is."""

    def read(layer: Layer, a: Activations) -> dict[AbstractTally[Any], Chunk]:
        whose = samples(layer)
        return {tally: Chunk.of(tally.read(a), a, whose) for tally in recipes}

    return read


def scored(task: Task, output: Any, batch: Batch, score: Callable[[Any, Any], Any] | None) -> Task:
    """The task with one more batch: by `score=`, or by the largest of (N, C) outputs against labels."""
    if score is not None:
        each = to_numpy(score(output, batch.targets)).astype(np.float64).reshape(-1)
        if len(each) != len(batch.samples):
            raise DataError(
                f"score=: {len(each)} scores for {len(batch.samples)} samples. Give one score per sample, not their mean."
            )
        return Task(task.score + float(each.sum()), task.samples + len(each), getattr(score, "__name__", "score"), "")
    labels = batch.samples.labels
    if labels is None:
        return replace(task, note="the data has no labels")
    values = None if output is None else to_numpy(output.float() if "bfloat16" in str(output.dtype) else output)
    if values is None or values.ndim != 2 or values.shape[1] < 2 or len(values) != len(labels):
        shape = None if values is None else tuple(values.shape)
        return replace(
            task, note=f"accuracy needs outputs (samples, classes); they are {shape}. Pass ls.Data(…, score=…)"
        )
    if labels.min() < 0 or labels.max() >= values.shape[1]:
        return replace(task, note=f"labels {labels.min()} … {labels.max()} do not fit {values.shape[1]} outputs")
    return Task(task.score + float((values.argmax(1) == labels).sum()), task.samples + len(labels), "accuracy", "")


def chosen_layers(
    found: Layers,
    feed: Feed,
    layers: Selection = None,
    exclude: Selection = None,
    thresholds: Mapping[str, float] | None = None,
    axes: Mapping[str, Any] | None = None,
) -> Layers:
    """The sites that will be read, all others with their reason."""
    from ._site import mask_fits

    listed = with_rules(select(found, layers, exclude), thresholds, axes, layers)
    mask = feed.peek(LOOK).samples.mask
    if mask is None:
        return listed
    fitted = [
        replace(x, left_out=f"its positions {x.positions} do not match the mask {mask.shape[1:]}")
        if not x.left_out and not mask_fits(mask.shape[1:], x.positions)
        else x
        for x in listed
    ]
    return select(Layers(fitted), None)


def _references(
    probe: AbstractProbe, asked: Sequence[str] | Mapping[str, Any], device: Any, amp: str | None
) -> dict[str, AbstractProbe]:
    if isinstance(asked, Mapping):
        return {str(name): probe_for(model, device=device, amp=amp) for name, model in asked.items()}
    unknown = [name for name in asked if name != "untrained"]
    if isinstance(asked, str) or unknown:
        raise DataError(
            f"references={asked!r}: known is 'untrained'. Write references=['untrained'], or give networks: references={{'name': model}}."
        )
    return {name: probe.untrained() for name in asked}


@dataclass
class Making:
    """How results are made: what goes into the manifest, and the file from which a run goes on."""

    probe: AbstractProbe
    feed: Feed
    measures: Sequence[AbstractMeasure[Any]]
    asked: dict[str, Any]
    resume: str | os.PathLike[str] | None
    saved: float = 0.0

    def results(self, walk: Walk, others: Mapping[str, Walk], seconds: float) -> Results:
        references = {name: self.results(other, {}, 0.0) for name, other in others.items()}
        return Results(walk.listed, walk.values, self.measures, self.manifest(walk, seconds), walk.task, references)

    def manifest(self, walk: Walk, seconds: float) -> dict[str, Any]:
        from importlib.metadata import version

        return {
            "layerscope": version("layerscope"),
            **walk.probe.facts(),
            **self.asked,
            "mode": "evaluation",
            "samples": walk.samples,
            "batches": walk.batches,
            "seconds": seconds,
            "data": list(self.feed.notes),
        }

    def save_sometimes(self, walk: Walk, others: Mapping[str, Walk], batches: int, began: float) -> None:
        if self.resume is None or time.perf_counter() - max(self.saved, began) < SAVE_EVERY:
            return
        results = self.results(walk, others, time.perf_counter() - began)
        results.manifest |= {"resume": {"batches": batches, "network": self.probe.fingerprint()}}
        results.save(self.resume)
        self.saved = time.perf_counter()

    def resumed(self, walk: Walk, others: Mapping[str, Walk]) -> int:
        """How many batches of the stream are in the file already, whose tallies are taken over."""
        if self.resume is None or not Path(self.resume).exists():
            return 0
        old = Results.load(self.resume)
        state = old.manifest.get("resume")
        if state is None:
            raise DataError(f"resume={self.resume}: this run is finished. Load it with ls.load, or give another file.")
        same = [x.site for x in old.layers.read] == [x.site for x in walk.listed.read]
        settings = all(old.manifest.get(key) == _as_json(value) for key, value in self.asked.items())
        if not (same and settings and state["network"] == self.probe.fingerprint()):
            raise DataError(
                f"resume={self.resume}: the file was made with another network, other layers or another batch size. Numbers of two "
                "different runs are not joined; give another file, or call examine as before."
            )
        for mine, theirs in ((walk, old), *((others[name], old.references[name]) for name in others)):
            mine.values, mine.task = theirs.values_by_site, theirs.task
            mine.samples, mine.batches = theirs.manifest["samples"], theirs.manifest["batches"]
        return int(state["batches"])


def layers(
    model: Any, batch: Any, *, layers: Selection = None, exclude: Selection = None, device: Any = None
) -> Layers:
    """What can be read in a model, and what is read by default: the first line anyone types.

    **Arguments:** `batch` any data that `examine` takes; its first two samples are run. **Gives:** a table, a line per site, in the order
    of the forward pass.
    """
    with probe_for(model, device=device, forward=_forward_of(batch)) as probe:
        feed = Feed(_one_batch(batch))
        return select(probe.describe(feed.peek(LOOK), wants_inputs(layers)), layers, exclude)


def activations(
    model: Any,
    batch: Any,
    *,
    layers: Selection = None,
    exclude: Selection = None,
    device: Any = None,
    amp: str | None = None,
) -> dict[str, NDArray[Any]]:
    """The values themselves: {site name: array} for one batch, without tallies; half floats come as float32."""

    def read(layer: Layer, a: Activations) -> NDArray[Any]:
        half = "float16" in str(a.values.dtype)
        return np.array(to_numpy(a.xp.asarray(a.values, dtype=a.xp.float32) if half else a.values))

    with probe_for(model, device=device, amp=amp, forward=_forward_of(batch)) as probe:
        feed = Feed(_one_batch(batch))
        whole = feed.peek(feed.length or feed.batch_size)
        chosen = select(probe.describe(feed.peek(LOOK), wants_inputs(layers)), layers, exclude).read
        _, found = probe.run(whole, chosen, read)
        return {str(layer.site): found[layer] for layer in chosen}


@dataclass(frozen=True)
class Plan:
    """What an examination will take: `sites`, `rows` of each a sample, `forwards`, `gibibytes` the tallies can grow to, `minutes`.

    Unknown numbers (a stream without length) are NaN.
    """

    sites: tuple[str, ...]
    rows: tuple[int, ...]
    forwards: float
    gibibytes: float
    minutes: float

    def __str__(self) -> str:
        sites = "\n".join(f"  {site}: {rows:,} rows a sample" for site, rows in zip(self.sites, self.rows, strict=True))
        return (
            f"{len(self.sites)} sites\n{sites}\n{self.forwards:,.0f} forwards, about {self.minutes:.2g} minutes; tallies at most "
            f"{self.gibibytes:.2g} GiB (if every state were different)"
        )


def plan(
    model: Any,
    data: Any,
    *,
    layers: Selection = None,
    exclude: Selection = None,
    samples: int | None = None,
    batch_size: int | None = None,
    device: Any = None,
    amp: str | None = None,
) -> Plan:
    """Sites, rows, forwards, memory and minutes of an examination, from one timed batch."""
    recipes = [*dict.fromkeys(m.tally for m in default_measures())]
    with probe_for(model, device=device, amp=amp, forward=_forward_of(data)) as probe:
        feed = Feed(data, samples=samples, batch_size=batch_size)
        listed = chosen_layers(probe.describe(feed.peek(LOOK), wants_inputs(layers)), feed, layers, exclude)
        walk = Walk(probe, listed, recipes, feed)
        seconds: list[float] = []
        for _ in range(2):
            began = time.perf_counter()
            walk.step(feed.peek(feed.batch_size))
            seconds.append(time.perf_counter() - began)
    rows = tuple(math.prod(x.positions) for x in listed.read)
    forwards = math.nan if feed.batches is None else float(feed.batches)
    total = math.nan if feed.length is None else float(feed.length)
    state_bytes = sum(r * (8 * -(-x.units // 64) + 56) for r, x in zip(rows, listed.read, strict=True))
    return Plan(
        tuple(str(x.site) for x in listed.read),
        rows,
        forwards,
        total * state_bytes / 2**30,
        forwards * min(seconds) / 60,
    )


def _forward_of(data: Any) -> Callable[..., Any] | None:
    return data.forward if isinstance(data, Data) else None


def _as_json(setting: Any) -> Any:
    """A setting as it comes back from a file, where tuples are lists."""
    # a cast, as isinstance says not of what
    return list(cast(tuple[Any, ...], setting)) if isinstance(setting, tuple) else setting


def _one_batch(batch: Any) -> Any:
    """A batch as loaders give it: a list of two is the pair (inputs, labels) here, not two batches."""
    # a cast, as isinstance says not of what
    return tuple(cast(list[Any], batch)) if isinstance(batch, list) else batch


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

"""How results were made, and the file from which an interrupted run goes on."""

import functools
import hashlib
import os
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from ._errors import DataError
from ._results import Results
from ._road import Road
from ._walk import Walk
from .feed import Batch, Feed
from .measures import AbstractMeasure
from .probes import AbstractProbe
from .tallies import to_numpy

SAVE_EVERY = 30.0
"""Seconds between two saves of a run that can be resumed."""


@dataclass
class Making:
    """Makes results of walks; `asked` is what the user asked for, in words, `resume` the file of a run that can go on."""

    probe: AbstractProbe
    feed: Feed
    measures: Sequence[AbstractMeasure[Any]]
    asked: dict[str, Any]
    resume: str | os.PathLike[str] | None
    saved: float = 0.0
    first: str = ""

    def saw(self, batch: Batch) -> None:
        """Remember the first batch, by which samples can be told from others."""
        self.first = self.first or _digest(batch)

    def results(self, walk: Walk, others: Mapping[str, Walk], seconds: float) -> Results:
        references = {name: self.results(other, {}, 0.0) for name, other in others.items()}
        return Results(walk.listed, walk.values, self.measures, self.manifest(walk, seconds), walk.task, references)

    def manifest(self, walk: Walk, seconds: float) -> dict[str, Any]:
        return {
            "layerscope": _version(),
            **walk.probe.facts(),
            "batch_size": self.feed.batch_size,
            "asked": self.asked,
            "mode": "evaluation",
            "samples": walk.samples,
            "batches": walk.batches,
            "seconds": seconds,
            "data": list(self.feed.notes),
            "first_batch": self.first,
            "transformations": [] if self.feed.transformations is None else list(self.feed.transformations.names),
            "transformations_digest": None
            if self.feed.transformations is None
            else _digest_of(self.feed.transformations),
            "untransformed": None if self.feed.transformations is None else self.feed.transformations.identity,
        }

    def save_sometimes(self, road: Road, batches: int, began: float) -> None:
        if self.resume is None or time.perf_counter() - max(self.saved, began) < SAVE_EVERY:
            return
        results = self.results(road.walk, road.others, time.perf_counter() - began)
        state = {"batches": batches, "passes": road.passes, "networks": {n: w.state() for n, w in road.named.items()}}
        results.manifest |= {"resume": {**state, **self._identity(road)}}
        results.save(self.resume)
        self.saved = time.perf_counter()

    def resumed(self, road: Road) -> int:
        """How many batches of the stream are in the file already, whose tallies are taken over.

        **Raises:** `DataError` where anything differs that a number depends on: two different runs are never joined.
        """
        if self.resume is None or not Path(self.resume).exists():
            return 0
        old = Results.load(self.resume)
        state = dict(old.manifest.get("resume") or {})
        if not state:
            raise DataError(f"resume={self.resume}: this run is finished. Load it with ls.load, or give another file.")
        now = self._identity(road)
        differs = [what for what in now if state.get(what) != now[what]]
        if differs:
            raise DataError(
                f"resume={self.resume}: the file was made with another {' and another '.join(differs)}. Numbers of two different runs "
                "are not joined; give another file, or call examine as before."
            )
        for name, walk in road.named.items():
            theirs = old.references[name] if name else old
            walk.go_on(theirs.values_by_site, theirs.task, theirs.manifest, state["networks"][name])
        road.passes, self.first = list(state["passes"]), str(old.manifest.get("first_batch", ""))
        return int(state["batches"])

    def _identity(self, road: Road) -> dict[str, Any]:
        """What must be equal for a run to go on, by the name a message gives it."""
        return {
            "network": self.probe.fingerprint(),
            "reference": {name: walk.probe.fingerprint() for name, walk in road.others.items()},
            "choice of layers": [f"{x.site} {x.axes} {x.threshold}" for x in road.walk.listed.read],
            "batch size": self.feed.batch_size,
            "set of arguments": self.asked,
            "first batch of data": _digest(self.feed.peek(self.feed.batch_size)),
        }


def _digest(batch: Batch) -> str:
    """A digest of the inputs, ids, labels and mask of a batch."""
    samples = batch.samples
    digest = hashlib.blake2b(np.ascontiguousarray(samples.ids).data, digest_size=16)
    for value in (*batch.args, *batch.kwargs.values(), batch.targets, samples.labels, samples.mask):
        if hasattr(value, "shape"):
            digest.update(np.ascontiguousarray(to_numpy(value)).tobytes())
    return digest.hexdigest()


def _digest_of(transformations: object) -> str:
    """A digest of what transformations are made of, which tells apart those of one name; of functions only their names are known.

    Addresses change from process to process, and cosines in their last digits from machine to machine: neither counts.
    """
    text = re.sub(r" at 0x[0-9a-f]+", "", repr(transformations))
    text = re.sub(r"-?\d+\.\d+(?:e[-+]?\d+)?", lambda number: f"{round(float(number[0]), 9) + 0.0:.9f}", text)
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


@functools.cache
def _version() -> str:
    """The version of this package; looking it up takes longer than a small forward."""
    return version("layerscope")

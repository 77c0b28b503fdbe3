"""One model on its way through the data: the engine under `examine` and `watch`."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from ._errors import MemoryLimitError, NonFiniteError
from ._inputs import input_of, is_input
from ._results import Values
from ._site import Activations, Chunk, Samples
from ._states import count_nonfinite
from ._task import Task
from .feed import Batch, Feed
from .inventory import Layer, Layers
from .probes import AbstractProbe, Read
from .tallies import AbstractTally, to_numpy

FINITE = "finite"
"""The key of what is read to see that all values are finite."""


class Walk:
    """One model on its way through the data: its tallies so far, and how well it did its task.

    `finite` raises at values that are not, whatever is measured; no tally needs to count them for it.
    """

    def __init__(
        self,
        probe: AbstractProbe,
        listed: Layers,
        recipes: Sequence[AbstractTally[Any]],
        feed: Feed,
        finite: bool = False,
    ) -> None:
        self.probe, self.listed, self.score, self.finite = probe, listed, feed.score, finite
        self.layers = tuple(x for x in listed.read if not is_input(x))
        self.input = next((x for x in listed.read if is_input(x)), None)
        self.alignment = feed.alignment
        self._recipes = tuple(recipes)
        self._samples = Samples(np.empty(0, np.int64))
        self._bad: list[str] = []
        self.restart()

    def restart(self) -> None:
        """Forget all that was seen.  What the probe compiled stays compiled."""
        self.values: Values = {x.site: {tally: tally.init(x.site) for tally in self._recipes} for x in self.layers}
        if self.input is not None:
            site = self.input.site
            self.values = {site: {tally: tally.init(site) for tally in self._recipes if tally.grid}, **self.values}
        self.task, self.samples, self.batches = Task(), 0, 0

    def step(self, batch: Batch) -> None:
        """Run one batch: what the host sees is counted on the spot, what lies on a device when the forward is through."""
        self._samples, self._bad = batch.samples, []
        output, chunks = self.probe.run(batch.flat, self.layers, self._read)
        for layer, by_tally in chunks.items():
            if (finite := by_tally.get(FINITE)) is not None:
                self._check_finite(layer, *(int(to_numpy(finite.arrays[name])) for name in ("nan", "inf")))
        if self._bad:
            raise NonFiniteError(
                f"nonfinite='raise': batch {batch.number} has values that are not finite at {', '.join(self._bad)}. Look at its inputs, or "
                "pass nonfinite='note' to count them and go on."
            )
        for layer, by_tally in chunks.items():
            mine = self.values[layer.site]
            for tally, chunk in by_tally.items():
                if tally is not FINITE:
                    mine[tally] = tally.add(mine[tally], self._on_grid(tally, chunk))
        if self.input is not None:
            a, mine = replace(input_of(self.input, batch), grid=self.alignment), self.values[self.input.site]
            for tally in mine:
                mine[tally] = tally.observe(mine[tally], a, batch.samples)
        self.task = self.task.with_batch(output, batch, self.score)
        self.samples += len(batch.samples)
        self.batches += 1

    def _read(self, layer: Layer, a: Activations) -> dict[Any, Chunk]:
        """Called while the forward runs, or once while a program is traced."""
        if self.alignment is not None:
            a = replace(a, grid=self.alignment)
        if a.host is None:
            found: dict[Any, Chunk] = {tally: Chunk.of(tally.read(a), a, self._samples) for tally in self._recipes}
            if self.finite:
                found[FINITE] = Chunk.of(dict(zip(("nan", "inf"), count_nonfinite(a), strict=True)), a, self._samples)
            return found
        if self.finite:
            self._check_finite(layer, *count_nonfinite(a))
        mine = self.values[layer.site]
        for tally in self._recipes:
            if tally.grid or a.grid is None:
                mine[tally] = tally.observe(mine[tally], a, self._samples)
            else:
                chunk = Chunk.of(tally.read(a), a, self._samples)
                mine[tally] = tally.add(mine[tally], self._on_grid(tally, chunk))
        return {}

    def _on_grid(self, tally: AbstractTally[Any], chunk: Chunk) -> Chunk:
        """A chunk whose samples come T times in a row, where a probe saw every row as a sample of its own."""
        if self.alignment is None:
            return chunk
        samples, mask, T = self._samples, chunk.samples.mask, len(self.alignment)
        if chunk.samples is not samples and mask is not None:  # a probe that knows masks of its own
            samples = replace(samples, mask=mask.reshape(-1, T, *mask.shape[1:]))
        positions = chunk.positions if tally.grid else (T, *chunk.positions)
        return replace(chunk, samples=samples, positions=positions)

    def _check_finite(self, layer: Layer, nan: int, inf: int) -> None:
        if nan or inf:
            self._bad.append(f"{layer.site} ({nan:,} NaN, {inf:,} infinite)")

    @property
    def nbytes(self) -> int:
        return sum(map(_nbytes, self.values.values()))

    def check_memory(self, limit: int | None, others: Iterable["Walk"]) -> None:
        if limit is None:
            return
        used = self.nbytes + sum(other.nbytes for other in others)
        if used > limit:
            sizes = {site: _nbytes(values) for site, values in self.values.items()}
            largest = sorted(sizes, key=sizes.__getitem__, reverse=True)[:3]
            listed = ", ".join(f"{site} {sizes[site] / 2**20:.0f} MiB" for site in largest)
            slim = "pooled maps (pool=) or flavour='variance', which are other measures, " if self.alignment else ""
            raise MemoryLimitError(
                f"memory_limit: {used / 2**20:.0f} MiB of tallies after {self.samples:,} samples, {limit / 2**20:.0f} MiB are allowed; the "
                f"largest are {listed}. Measure fewer layers at a time (layers=, exclude=), {slim}fewer samples (samples=), or raise the limit: "
                "a number is never changed to save memory."
            )


def _nbytes(values: Mapping[AbstractTally[Any], Any]) -> int:
    return sum(tally.nbytes(value) for tally, value in values.items())


def reader(recipes: Sequence[AbstractTally[Any]], samples: Callable[[Layer], Samples]) -> Read:
    """What a probe does with an activation: every tally reads it, and the chunks remember whose it is."""

    def read(layer: Layer, a: Activations) -> dict[AbstractTally[Any], Chunk]:
        whose = samples(layer)
        return {tally: Chunk.of(tally.read(a), a, whose) for tally in recipes}

    return read

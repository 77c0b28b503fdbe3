"""One model on its way through the data: the engine under `examine` and `watch`."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from ._errors import MemoryLimitError, NonFiniteError
from ._results import Values
from ._site import Activations, Chunk, Samples
from ._states import count_nonfinite
from ._task import Task
from .feed import Batch, Feed
from .inventory import Layer, Layers
from .probes import AbstractProbe, Read
from .tallies import AbstractTally


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
        self.probe, self.listed, self.layers, self.score, self.finite = probe, listed, listed.read, feed.score, finite
        self.values: Values = {x.site: {tally: tally.init(x.site) for tally in recipes} for x in self.layers}
        self.task, self.samples, self.batches = Task(), 0, 0

    def step(self, batch: Batch) -> None:
        """Run one batch: what the host sees is counted on the spot, what lies on a device when the forward is through."""
        samples, values = batch.samples, self.values
        bad: list[str] = []

        def read(layer: Layer, a: Activations) -> dict[AbstractTally[Any], Chunk]:
            mine = values[layer.site]
            if self.finite and any(found := count_nonfinite(a)):
                bad.append(f"{layer.site} ({found[0]:,} NaN, {found[1]:,} infinite)")
            if a.host is None:
                return {tally: Chunk.of(tally.read(a), a, samples) for tally in mine}
            for tally in mine:
                mine[tally] = tally.observe(mine[tally], a, samples)
            return {}

        output, chunks = self.probe.run(batch, self.layers, read)
        if bad:
            raise NonFiniteError(
                f"nonfinite='raise': batch {batch.number} has values that are not finite at {', '.join(bad)}. Look at its inputs, or pass "
                "nonfinite='note' to count them and go on."
            )
        for layer, by_tally in chunks.items():
            mine = values[layer.site]
            for tally, chunk in by_tally.items():
                mine[tally] = tally.add(mine[tally], chunk)
        self.task = self.task.with_batch(output, batch, self.score)
        self.samples += len(samples)
        self.batches += 1

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
            raise MemoryLimitError(
                f"memory_limit: {used / 2**20:.0f} MiB of tallies after {self.samples:,} samples, {limit / 2**20:.0f} MiB are allowed; the "
                f"largest are {listed}. Measure fewer layers at a time (layers=, exclude=), fewer samples (samples=), or raise the limit: "
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

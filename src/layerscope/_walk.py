"""One model on its way through the data: the engine under `examine` and `watch`."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from ._errors import NonFiniteError
from ._inputs import input_of, is_input
from ._results import Values
from ._room import Room
from ._shelf import Shelf
from ._site import Activations, Chunk, Samples, Site
from ._states import count_nonfinite
from ._task import Task
from .feed import Batch, Feed
from .inventory import Layer, Layers
from .probes import AbstractProbe, Read
from .tallies import AbstractTally, StateTable, to_numpy

FINITE = "finite"
"""The key of what is read to see that all values are finite."""


class Walk:
    """One model on its way through the data: its tallies so far, and how well it did its task.

    `finite` raises at values that are not, whatever is measured; no tally needs to count them for it. `room` is the memory that tallies
    may take: sites for which there is none wait for another pass over the data. `scored` says that the task is counted, in the first pass.
    """

    def __init__(
        self,
        probe: AbstractProbe,
        listed: Layers,
        recipes: Sequence[AbstractTally[Any]],
        feed: Feed,
        finite: bool = False,
        room: Room | None = None,
        scored: bool = True,
    ) -> None:
        self.probe, self.listed, self.score, self.finite = probe, listed, feed.score, finite
        self.layers = tuple(x for x in listed.read if not is_input(x))
        self.input = next((x for x in listed.read if is_input(x)), None)
        self.alignment = feed.alignment
        self.room = Room() if room is None else room
        self.recipes = tuple(recipes)
        self._scored = scored
        T = 1 if self.alignment is None else len(self.alignment)
        self.needs = {x.site: expected_of(self._recipes_of(x.site), x, T) for x in listed.read}
        self._samples = Samples(np.empty(0, np.int64))
        self._bad: list[str] = []
        self.restart()

    def restart(self) -> None:
        """Forget all that was seen.  What the probe compiled stays compiled."""
        sites = [x.site for x in self.layers]
        sites = sites if self.input is None else [self.input.site, *sites]
        self.values: Values = {site: self._nothing(site) for site in sites}
        self.active: set[Site] = set(sites)
        self.waiting: set[Site] = set()
        for site in sites:
            self.room.leave(self, site)
        self.task, self.samples, self.batches, self.passes, self.forwards = Task(), 0, 0, 0, 0

    def _nothing(self, site: Site) -> dict[AbstractTally[Any], Any]:
        """The values of a site that has seen nothing."""
        return {tally: tally.init(site) for tally in self._recipes_of(site)}

    def _recipes_of(self, site: Site) -> Sequence[AbstractTally[Any]]:
        """What is tallied at a site: of the input only what tells transformed versions apart, and no states."""
        if self.input is None or site != self.input.site:
            return self.recipes
        return [tally for tally in self.recipes if tally.grid and not isinstance(tally, StateTable)]

    # --- one batch ---------------------------------------------------------------------------------------------------------------

    def step(self, batch: Batch) -> None:
        """Run one batch: what the host sees is counted on the spot, what lies on a device when the forward is through.

        Sites that wait are read as well and not counted, so that the program that runs is the same in every pass, and so are its numbers.
        """
        counted = self._scored and not self.passes
        if not self.active and not counted:
            return
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
            if by_tally and layer.site in self.active:
                mine = self.values[layer.site]
                for tally, chunk in by_tally.items():
                    if tally is not FINITE:
                        mine[tally] = tally.add(mine[tally], self._on_grid(tally, chunk))
                self._weigh(layer.site)
        if self.input is not None and self.input.site in self.active:
            a, mine = replace(input_of(self.input, batch), grid=self.alignment), self.values[self.input.site]
            for tally in mine:
                mine[tally] = tally.observe(mine[tally], a, batch.samples)
            self._weigh(self.input.site)
        self.forwards += len(batch.samples) * batch.samples.transformations
        if counted:
            self.task = self.task.with_batch(output, batch, self.score)
            self.samples += len(batch.samples)
            self.batches += 1

    def _read(self, layer: Layer, a: Activations) -> dict[Any, Chunk]:
        """Called while the forward runs, or once while a program is traced."""
        if self.alignment is not None:
            a = replace(a, grid=self.alignment)
        if a.host is None:
            found: dict[Any, Chunk] = {tally: Chunk.of(tally.read(a), a, self._samples) for tally in self.recipes}
            if self.finite:
                found[FINITE] = Chunk.of(dict(zip(("nan", "inf"), count_nonfinite(a), strict=True)), a, self._samples)
            return found
        if self.finite:
            self._check_finite(layer, *count_nonfinite(a))
        if layer.site not in self.active:
            return {}
        mine = self.values[layer.site]
        for tally in self.recipes:
            if tally.grid or a.grid is None:
                mine[tally] = tally.observe(mine[tally], a, self._samples)
            else:
                chunk = Chunk.of(tally.read(a), a, self._samples)
                mine[tally] = tally.add(mine[tally], self._on_grid(tally, chunk))
        self._weigh(layer.site)
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

    # --- several passes ----------------------------------------------------------------------------------------------------------

    def _weigh(self, site: Site) -> None:
        if self.room.limit is not None:
            values = self.values[site]
            self.room.put(self, site, size_of(values), self.needs[site][1])

    def defer(self, site: Site) -> None:
        """Forget what was counted at a site: there is no room for it, and it waits for another pass."""
        self.values[site] = self._nothing(site)
        self.active.discard(site)
        self.waiting.add(site)

    def first(self, plain: Feed, samples: int) -> "Walk | None":
        """The walk over so many untransformed samples that must come before this one; None where nothing must be known of them."""
        recipes = [first for tally in self.recipes if (first := tally.first(samples)) is not None]
        if not recipes or not self.active:
            return None
        walk = Walk(self.probe, self.listed, [*dict.fromkeys(recipes)], plain, self.finite, self.room, scored=False)
        walk.layers = self.layers  # the same object: a probe keeps the program it made for these
        for site in walk.active - self.active:
            walk.defer(site)
        return walk

    def take(self, first: "Walk", samples: int) -> None:
        """Take over what that walk found out, site by site."""
        for site in [x for x in self.values if x in self.active]:
            self.room.leave(first, site)
            found, mine = first.values.pop(site), self.values[site]
            if site not in first.active:
                self.defer(site)
                continue
            for tally in mine:
                if (before := tally.first(samples)) is not None:
                    mine[tally] = tally.prepared(mine[tally], found[before])
            self._weigh(site)
        self.forwards += first.forwards

    def again(self, more: bool) -> None:
        """End a pass over the data; with `more` to come, for this model or another, what is done makes room."""
        self.passes += 1
        if more:
            shelf = self.values if isinstance(self.values, Shelf) else Shelf(self.values)
            for site in self.active:
                shelf.put_away(site)
                self.room.leave(self, site)
            self.values = shelf
        self.active, self.waiting = self.waiting, set()

    def state(self) -> dict[str, Any]:
        """Where it stands among its passes, for a file."""
        active, waiting = (sorted(map(str, sites)) for sites in (self.active, self.waiting))
        return {"passes": self.passes, "forwards": self.forwards, "active": active, "waiting": waiting}

    def go_on(
        self,
        values: Mapping[Site, Mapping[AbstractTally[Any], Any]],
        task: Task,
        manifest: Mapping[str, Any],
        state: Mapping[str, Any],
    ) -> None:
        """Stand where another walk stood."""
        self.values, self.task = {site: dict(tallied) for site, tallied in values.items()}, task
        self.samples, self.batches = manifest["samples"], manifest["batches"]
        self.passes, self.forwards = state["passes"], state["forwards"]
        self.active, self.waiting = ({x for x in self.values if str(x) in state[w]} for w in ("active", "waiting"))
        if self.passes and self.room.limit is not None:
            self.values = shelf = Shelf(self.values)
            for site in set(shelf) - self.active - self.waiting:
                shelf.put_away(site)
        for site in self.active:
            self._weigh(site)


def expected_of(recipes: Sequence[AbstractTally[Any]], layer: Layer, T: int) -> tuple[int, bool]:
    """Bytes that the tallies of a site are known to take from the first batch on, and whether some grow beyond it."""
    shape = tuple(size for axis, size in enumerate(layer.shape) if axis != layer.axes.sample)
    sizes = [tally.expected_nbytes(shape, layer.axes.among(len(layer.shape)), T) for tally in recipes]
    return sum(size or 0 for size in sizes), None in sizes


def size_of(values: Mapping[AbstractTally[Any], Any]) -> int:
    """Bytes of the values of a site."""
    return sum(tally.nbytes(value) for tally, value in values.items())


def reader(recipes: Sequence[AbstractTally[Any]], samples: Callable[[Layer], Samples]) -> Read:
    """What a probe does with an activation: every tally reads it, and the chunks remember whose it is."""

    def read(layer: Layer, a: Activations) -> dict[AbstractTally[Any], Chunk]:
        whose = samples(layer)
        return {tally: Chunk.of(tally.read(a), a, whose) for tally in recipes}

    return read

"""A run made ready: model, references and data opened, sites chosen, and the passes over the data that it takes."""

import math
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, cast

import numpy as np

from ._choices import Choices, forward_of
from ._errors import DataError, MemoryLimitError
from ._inputs import with_input
from ._room import Room, in_mib
from ._shuffled import SHUFFLED, shuffled, shuffler
from ._site import mask_fits
from ._walk import Walk
from .feed import Batch, Feed, SameData
from .inventory import Layer, Layers, Selection, select, wants_inputs, with_rules
from .measures import AbstractMeasure
from .probes import AbstractProbe, probe_for

LOOK = 3
"""Samples of the forward that shows what the model has."""


@dataclass
class Road:
    """A run that is ready, and where it stands.

    `measured` is read of the tallies in the end; `walk` takes the model along `feed`, `others` the references by name; `shuffle` tells a
    batch its shuffled labels, where these are a reference; `plain` is the untransformed data, of `samples`, where something must be known
    of it first; `passes` says in words what went through the networks.
    """

    choices: Choices
    measured: tuple[AbstractMeasure[Any], ...]
    probe: AbstractProbe
    feed: Feed
    walk: Walk
    others: dict[str, Walk]
    room: Room
    shuffle: Callable[[Batch], Batch] | None = None
    plain: Feed | None = None
    samples: int = 0
    passes: list[str] = field(default_factory=list[str])

    @property
    def named(self) -> dict[str, Walk]:
        """The model under an empty name, and the references by theirs."""
        return {"": self.walk, **self.others}

    @property
    def walks(self) -> tuple[Walk, ...]:
        return (self.walk, *self.others.values())

    def facts(self) -> dict[str, Any]:
        """What the manifest says of memory, passes and forwards."""
        return {"memory_limit": self.choices.memory_limit, "passes": list(self.passes), "forwards": self.forwards}

    @property
    def forwards(self) -> int:
        """Samples, or versions of them, that went through a network."""
        return sum(walk.forwards for walk in self.walks)

    def prepare(self, batches: Callable[[Feed], Iterable[Batch]]) -> int:
        """Learn of the untransformed data what thresholds are taken from, for the sites of this pass: in how many networks."""
        plain, count = self.plain, self.samples
        firsts = [(walk, first) for walk in self.walks if plain and (first := walk.first(plain, count)) is not None]
        if plain is None or not firsts:
            return 0
        self.passes.append(f"{count:,} untransformed samples, for thresholds of {_sites(self.walks)}")
        seen = 0
        for batch in batches(plain):
            for _, first in firsts:
                first.step(batch)
            seen += len(batch.samples)
            self.room.check(seen)
        for walk, first in firsts:
            walk.take(first, count)
        self.room.check(count)
        return len(firsts)

    def step(self, batch: Batch) -> None:
        """One batch through the model and all references."""
        batch = batch if self.shuffle is None else self.shuffle(batch)
        for walk in self.walks:
            walk.step(batch)
        self.room.check(self.walk.samples)

    def again(self, samples: float) -> bool:
        """End a pass over so many samples: whether another one follows."""
        versions = f" × {self.feed.columns} transformations" if self.feed.transformations is not None else ""
        count = "all" if math.isnan(samples) else f"{samples:,.0f}"
        self.passes.append(f"{count} samples{versions}: {_sites(self.walks)}")
        more = any(walk.waiting for walk in self.walks)
        for walk in self.walks:
            walk.again(more)
        return more


@contextmanager
def opened(model: Any, data: Any, choices: Choices) -> Generator[Road]:
    """The run of these choices, ready; the model is as before when it is left."""
    forward, grid = forward_of(data), choices.grid
    with ExitStack() as stack:
        probe = stack.enter_context(
            probe_for(model, device=choices.device, amp=choices.amp, forward=forward, params=choices.params)
        )
        # within, as loaders draw random numbers
        same = SameData() if choices.limit is not None or choices.wants_untransformed else None

        def feed_of(batch_size: int | None) -> Feed:
            return Feed(
                data,
                samples=choices.samples,
                batch_size=batch_size,
                shard=choices.shard,
                transformations=grid,
                same=same,
                place=probe.place,
            )

        feed = feed_of(choices.batch_size)
        found = probe.describe(feed.peek(LOOK if grid is None else 1).flat, wants_inputs(choices.layers))
        listed = chosen_layers(found, feed, choices.layers, choices.exclude, choices.thresholds, choices.axes)
        if grid is not None:
            listed = with_input(listed, feed.peek(1), feed.alignment)
        rows = rows_within(choices, feed, row := bytes_of(listed, feed))
        feed = feed if rows is None else feed_of(rows)
        firm = choices.batch_size is not None or not feed.restartable
        room = Room(choices.limit, feed.batch_size * feed.columns * row, _stuck(choices, feed), firm)
        measured = choices.measured(labels=feed.peek(1).samples.labels is not None)
        recipes = choices.recipes(measured)
        plain = _plain(data, choices, feed) if choices.wants_untransformed else None
        own = [*recipes, *shuffled(recipes)] if choices.shuffles_labels else recipes
        shuffle = shuffler(feed, data, choices.samples) if choices.shuffles_labels else None
        walk = Walk(probe, listed, own, feed, choices.nonfinite == "raise", room)
        twins = references_of(probe, choices, forward)
        others = {
            name: Walk(stack.enter_context(twin), listed, recipes, feed, room=room) for name, twin in twins.items()
        }
        count = 0 if plain is None else _count(plain)
        _check_room(room, walk, plain, count)
        yield Road(choices, measured, probe, feed, walk, others, room, shuffle, plain, count)


def _plain(data: Any, choices: Choices, feed: Feed) -> Feed:
    """The untransformed data, all of it also where only a shard is measured: shards whose thresholds differ could not be merged."""
    if not feed.restartable:
        raise DataError(
            "measures=: a threshold is taken from the untransformed data first, and these data can be read once only. Give a list, arrays, a "
            "loader, or a function that makes them: lambda: make_batches()."
        )
    batch_size = choices.batch_size if choices.limit is None else feed.batch_size * feed.columns
    return Feed(data, samples=choices.samples, batch_size=batch_size, same=feed.same)


def _check_room(room: Room, walk: Walk, plain: Feed | None, samples: int) -> None:
    """**Raises:** `MemoryLimitError` where the tallies of one site are known not to fit, before anything runs."""
    needs = walk.needs
    if plain is not None:
        first = walk.first(plain, samples)
        more = {} if first is None else first.needs
        needs = {site: max(need, more.get(site, need)) for site, need in needs.items()}
    if not room.stuck:
        room.check_alone(needs)


def _count(feed: Feed) -> int:
    """How many samples there are; data that do not say are counted, without a forward."""
    return sum(len(batch.samples) for batch in feed) if feed.length is None else feed.length


def _stuck(choices: Choices, feed: Feed) -> str:
    """Why no site can wait for another pass over the data; an empty text where all can."""
    if not feed.restartable:
        return "the data can be read once only: give a list, arrays, a loader or a function that makes them, and layers take turns"
    return (
        "states in a folder cannot be begun anew: keep them in memory, keep_rows=True" if choices.rows_on_disk else ""
    )


def _sites(walks: Sequence[Walk]) -> str:
    """Which sites are counted in a pass."""
    walk = walks[0]
    if all(each.active == set(each.values) for each in walks):
        return f"all {len(walk.values)} sites"
    count = sum(len(each.active) for each in walks)
    named = ", ".join(str(site) for site in walk.values if site in walk.active)
    models = "" if len(walks) == 1 else f" of {len(walks)} networks"
    return f"{named or 'references'} ({count} of {sum(len(each.values) for each in walks)} sites{models})"


# --- memory of a batch ---------------------------------------------------------------------------------------------------------------


def bytes_of(listed: Layers, feed: Feed) -> int:
    """Bytes of one row of a forward: what the model is given, and the activations that are read of it."""
    batch = feed.peek(1)
    given = [values for values in (*batch.args, *batch.kwargs.values()) if hasattr(values, "shape")]
    inputs = sum(math.prod(int(size) for size in values.shape) * _width(values.dtype) for values in given)
    read = sum(math.prod(x.shape) // max(1, x.shape[x.axes.sample]) * _width(x.dtype) for x in listed.read)
    return -(-inputs // batch.size) + read


def _width(dtype: Any) -> int:
    """Bytes of one value of a type of any framework."""
    name = str(getattr(dtype, "name", dtype)).removeprefix("torch.")
    return 2 if name == "bfloat16" else np.dtype(name).itemsize


def rows_within(choices: Choices, feed: Feed, row: int) -> int | None:
    """Rows of a forward, where those the feed has would take more than half of the limit; None where they may stay.

    **Raises:** `MemoryLimitError` where not even one sample fits, or the user's own batches do not.
    """
    limit, now = choices.limit, feed.batch_size * feed.columns
    if limit is None or now * row <= limit // 2:
        return None
    one = feed.columns * row
    if one >= limit:
        what = f"one sample under {feed.columns} transformations" if feed.columns > 1 else "one sample"
        raise MemoryLimitError(
            f"memory_limit: {what} takes {in_mib(one)} with the activations that are read, {in_mib(limit)} are allowed, and nothing is left "
            f"for tallies. memory_limit='{in_mib(2 * one)}' leaves as much for them; or measure fewer layers (layers=, exclude=)"
            f"{', or fewer transformations' if feed.columns > 1 else ''}."
        )
    if choices.batch_size is not None or not feed.restartable:
        if now * row < limit:
            return None
        most = max(feed.columns, limit // 2 // row)
        raise MemoryLimitError(
            f"memory_limit: a batch of {now} rows takes {in_mib(now * row)} with the activations that are read, {in_mib(limit)} are allowed. "
            f"Choose batch_size={most}, or leave it out; or memory_limit='{in_mib(2 * now * row)}'."
        )
    samples = max(1, limit // 2 // one)
    return feed.columns * 2 ** int(math.log2(samples))


# --- what is measured ----------------------------------------------------------------------------------------------------------------


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
    fitted: list[Layer] = [
        x
        if x.left_out or mask_fits(sizes, x.positions)
        else replace(x, unfit=f"its positions {x.positions} do not match the mask {sizes}")
        for x in listed
    ]
    return with_rules(Layers(fitted), None, None, layers)


def references_of(
    probe: AbstractProbe, choices: Choices, forward: Callable[..., Any] | None
) -> dict[str, AbstractProbe]:
    """The networks that are measured on the same batches, by name."""
    asked = choices.references
    if isinstance(asked, Mapping):
        probes: dict[str, AbstractProbe] = {}
        for name, given in asked.items():
            model, params = cast(tuple[Any, Any], given) if isinstance(given, tuple) else (given, None)
            probes[str(name)] = probe_for(model, device=choices.device, amp=choices.amp, forward=forward, params=params)
        return probes
    return {name: probe.untrained() for name in asked if name != SHUFFLED}

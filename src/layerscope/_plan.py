"""What an examination would take, before it is made: sites, rows, passes, forwards, memory and minutes."""

import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ._choices import Choices
from ._road import Road, opened
from ._room import in_mib
from ._site import Site
from ._walk import expected_of
from .feed import Batch, Feed
from .inventory import Layer, Selection
from .measures import AbstractMeasure
from .tallies import AbstractTally, StateTable


@dataclass(frozen=True)
class Plan:
    """What an examination would take.

    **Fields:** `sites` that are read; `rows` a sample gives at each (positions × transformations); `nbytes` of the tallies at each, of all
    networks, at most where they grow with the samples (every state another one), NaN where the data do not say their length; `passes` over
    the data, in words; `forwards` samples and versions of them that go through a network, references included; `minutes`, from one timed
    batch; `batch_size` rows of a forward.
    """

    sites: tuple[str, ...]
    rows: tuple[int, ...]
    nbytes: tuple[float, ...]
    passes: tuple[str, ...]
    forwards: float
    minutes: float
    batch_size: int

    @property
    def gibibytes(self) -> float:
        """All tallies together."""
        return sum(self.nbytes) / 2**30

    def __str__(self) -> str:
        lines = [
            f"  {site}: {rows:,} rows a sample, tallies of {_mebibytes(size)}"
            for site, rows, size in zip(self.sites, self.rows, self.nbytes, strict=True)
        ]
        passes = [f"  {each}" for each in self.passes]
        return "\n".join(
            [
                f"{len(self.sites)} sites",
                *lines,
                f"{len(self.passes)} {'pass' if len(self.passes) == 1 else 'passes'} over the data",
                *passes,
                f"{_count(self.forwards)} forwards in batches of {self.batch_size:,}, {_duration(self.minutes)}; tallies of "
                f"{_size(sum(self.nbytes))}",
            ]
        )


def plan(
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
    sketch: int | None = None,
    memory_limit: int | str | None = None,
    shard: tuple[int, int] | None = None,
) -> Plan:
    """What `ls.examine` of the same arguments would take: it is run on the first batch alone.

    Passes under `memory_limit` are those of tallies whose size is known (variances); tallies of states grow, and may take more passes.
    A generator has given its first batch away by then: hand over a list, arrays, a loader, or a fresh one for the run.
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
        sketch=sketch,
        shard=shard,
        params=params,
        device=device,
        memory_limit=memory_limit,
    )
    with opened(model, data, choices) as road:
        return _planned(road)


def _planned(road: Road) -> Plan:
    feed, versions = road.feed, road.feed.columns
    samples = math.nan if feed.length is None else float(feed.length)
    batches = math.nan if feed.batches is None else float(feed.batches)
    sizes: dict[Site, float] = dict.fromkeys(road.walk.values, 0.0)
    forwards = seconds = 0.0
    batch, more = feed.peek(feed.batch_size), True
    while more:
        if road.plain is not None:
            networks = 0

            def first() -> None:
                nonlocal networks
                networks = road.prepare(_first_batch)

            seconds += _timed(first) * -(-road.samples // road.plain.batch_size)
            forwards += road.samples * networks
        networks = sum(bool(walk.active) or not walk.passes for walk in road.walks)
        if not road.walk.passes:
            road.step(batch)  # what is compiled is compiled then
        seconds += _timed(lambda: road.step(batch)) * batches
        forwards += samples * versions * networks
        for walk in road.walks:
            for layer in walk.listed.read:
                if layer.site in walk.active:
                    sizes[layer.site] += _nbytes(walk.values[layer.site], layer, samples, versions, len(batch.samples))
        more = road.again(samples)
    read = road.walk.listed.read
    return Plan(
        tuple(str(x.site) for x in read),
        tuple(math.prod(x.positions) * versions for x in read),
        tuple(sizes[x.site] for x in read),
        tuple(road.passes),
        forwards,
        seconds / 60,
        feed.batch_size * versions,
    )


def _first_batch(feed: Feed) -> Iterable[Batch]:
    return [feed.peek(feed.batch_size)]


def _timed(run: Callable[[], None]) -> float:
    began = time.perf_counter()
    run()
    return time.perf_counter() - began


def _nbytes(values: Mapping[AbstractTally[Any], Any], layer: Layer, samples: float, versions: int, seen: int) -> float:
    """Bytes of the tallies of a site in the end, where every state is another one."""
    total = 0.0
    for tally, value in values.items():
        _, grows = expected_of([tally], layer, versions)
        if not grows:
            total += tally.nbytes(value)
        elif isinstance(tally, StateTable):
            total += samples * math.prod(layer.positions) * versions * (8 * -(-layer.units // 64) + 56)
        else:
            total += tally.nbytes(value) * samples / seen
    return total


def _mebibytes(size: float) -> str:
    return "unknown size" if math.isnan(size) else in_mib(int(size))


def _count(number: float) -> str:
    return "an unknown number of" if math.isnan(number) else f"{number:,.0f}"


def _duration(minutes: float) -> str:
    """A time to expect, in the unit one would say it in."""
    if math.isnan(minutes):
        return "an unknown time"
    if minutes < 1 / 60:
        return "less than a second"
    return f"about {minutes * 60:.0f} s" if minutes < 2 else f"about {minutes:,.0f} minutes"


def _size(size: float) -> str:
    if math.isnan(size):
        return "unknown size"
    return f"at most {in_mib(int(size)) if size < 2**30 else f'{size / 2**30:.3g} GiB'}"

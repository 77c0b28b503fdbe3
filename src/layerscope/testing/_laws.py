"""The laws every tally and measure must obey, as checks that anyone can run on their own.

    import layerscope.testing as check

    check.check_measure(MyMeasure())

A check asserts by itself and returns nothing.  The streams are random and reproducible: the seed stands in every message.
"""

from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import FrozenInstanceError, fields, is_dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._errors import EmptyTally
from .._reading import Reading
from .._site import Activations, Chunk, Samples, Site
from ..measures import AbstractMeasure
from ..tallies import AbstractTally

SITE = Site("checked")


def random_chunks(
    tally: AbstractTally[Any],
    seed: int = 0,
    *,
    batches: int = 4,
    units: int = 7,
    positions: tuple[int, ...] = (3, 2),
    T: int = 1,
) -> list[Chunk]:
    """What `tally.read` makes of batches of random activations with few different states, labels and ids; each sample comes once."""
    rng = np.random.default_rng(seed)
    prototypes = rng.normal(size=(6, units))
    ids = rng.permutation(10 * batches).astype(np.int64) - 5
    chunks: list[Chunk] = []
    for b in range(batches):
        count = int(rng.integers(1, 9))
        which = rng.integers(0, len(prototypes), (count * T, *positions))
        values = np.moveaxis(prototypes[which] + 0.05 * rng.normal(size=(*which.shape, units)), -1, 1)
        read = tally.read(Activations.of(values.astype(np.float32), unit=1))
        samples = Samples(ids[10 * b : 10 * b + count], rng.integers(0, 3, count), transformations=T, epoch=0)
        chunks.append(Chunk(read, samples, positions, units))
    return chunks


def check_tally(
    tally: AbstractTally[Any], seed: int = 0, *, chunks: Sequence[Chunk] | None = None, first: Any = None
) -> None:
    """Assert the law of tallies: `add(v, c)` is `merge(v, add(init, c))`, and `merge` is associative, commutative and has `init` as identity.

    Also that merging leaves its right value unharmed, that files give back what they were given, and that `same` can tell values apart.
    `chunks` are the batches to try, None for random ones; each sample must be in one of them only. `first` is what `tally.first` found of
    the untransformed data, where it needs something; None for random data.
    """
    stream = list(random_chunks(tally, seed) if chunks is None else chunks)
    assert len(stream) >= 3, "check_tally needs at least 3 chunks"

    def init() -> Any:
        return tally.init(SITE)

    def of(*some: Chunk) -> Any:
        value = beginning(tally, seed, first)
        for chunk in some:
            value = tally.add(value, chunk)
        return value

    def holds(law: str, left: Any, right: Any) -> None:
        assert tally.same(left, right), f"{tally!r} breaks the law of {law} (seed {seed}): {left!r} is not {right!r}"

    whole = of(*stream)
    a, b, c = stream[0], stream[1], stream[2]
    holds("identity (left)", tally.merge(init(), of(a)), of(a))
    holds("identity (right)", tally.merge(of(a), init()), of(a))
    holds("add is merge", tally.merge(of(a), of(b)), of(a, b))
    holds("commutativity", tally.merge(of(b), of(a)), tally.merge(of(a), of(b)))
    holds("associativity", tally.merge(tally.merge(of(a), of(b)), of(c)), tally.merge(of(a), tally.merge(of(b), of(c))))
    for cut in range(len(stream) + 1):
        holds(f"split at {cut} = whole", tally.merge(of(*stream[:cut]), of(*stream[cut:])), whole)
    holds("order of the stream", of(*reversed(stream)), whole)
    right = of(b, c)
    tally.merge(of(a), right)
    holds("merge leaves its right value unharmed", right, of(b, c))
    holds("files", tally.from_arrays(SITE, tally.to_arrays(of(*stream))), whole)
    holds("files of nothing", tally.from_arrays(SITE, tally.to_arrays(init())), init())
    assert not tally.same(of(a), of(a, b)), (
        f"{tally!r}: same() calls one batch and two the same, so it can reject nothing (seed {seed})"
    )
    assert not tally.same(init(), of(a)), (
        f"{tally!r}: same() calls nothing and one batch the same, so it can reject nothing"
    )
    if chunks is None:
        _check_observe(tally, seed)
    check_recipe(tally)


def _check_observe(tally: AbstractTally[Any], seed: int) -> None:
    """Assert that observing is reading and adding, also for other types, strides and sample axes."""
    rng = np.random.default_rng(seed)
    one, two = (beginning(tally, seed, shape=(5, 3, 2)) for _ in range(2))
    for k, size in enumerate((4, 1, 7, 3)):
        x = rng.normal(size=(size, 5, 3, 2)).round(1).astype(np.float64 if k == 1 else np.float32)
        samples = Samples(np.arange(10 * k, 10 * k + size), np.zeros(size, np.int64), epoch=0)
        a = Activations.of(np.moveaxis(x, 0, 2), unit=0, sample=2) if k == 3 else Activations.of(x, unit=1)
        one = tally.observe(one, a, samples)
        two = tally.add(two, Chunk.of(tally.read(a), a, samples))
        assert tally.same(one, two), (
            f"{tally!r}: observe is not add of read (batch {k}, seed {seed}): {one!r} is not {two!r}"
        )


def beginning(
    tally: AbstractTally[Any],
    seed: int,
    first: Any = None,
    shape: tuple[int, ...] = (7, 3, 2),
    order: NDArray[np.int64] | None = None,
) -> Any:
    """A value that has seen nothing; prepared, where the tally must know of untransformed data first: random of this shape, unless given.

    `order` renames the units of the random data.
    """
    rng, count = np.random.default_rng(seed), 20
    recipe = tally.first(count)
    if recipe is None:
        return tally.init(SITE)
    if first is None:
        x = rng.normal(size=(count, *shape)).astype(np.float32)
        x = x if order is None else np.ascontiguousarray(x[:, order])
        first = recipe.observe(recipe.init(SITE), Activations.of(x, unit=1), Samples(np.arange(count)))
    return tally.prepared(tally.init(SITE), first)


def check_recipe(recipe: Any) -> None:
    """Assert that a recipe is a frozen dataclass, compared and hashed by value."""
    assert is_dataclass(recipe), f"{recipe!r} is no dataclass: recipes are compared by value"
    twin = deepcopy(recipe)
    assert twin == recipe, f"{recipe!r} is not equal to a copy of itself"
    assert hash(twin) == hash(recipe), f"{recipe!r} and a copy of it have different hashes"
    for f in fields(recipe):
        try:
            setattr(twin, f.name, getattr(twin, f.name))
        except FrozenInstanceError:
            continue
        raise AssertionError(f"{recipe!r} is not frozen: {f.name} can be set")


def check_measure(
    measure: AbstractMeasure[Any],
    seed: int = 0,
    *,
    symmetric: bool = True,
    chunks: Sequence[Chunk] | None = None,
    first: Any = None,
) -> None:
    """Assert what a measure promises: it only reads, says what it measures, knows nothing from nothing, and obeys its tally's laws.

    `symmetric` also asserts that renaming units leaves a number unchanged (or renames an array with one number a unit).
    """
    assert not isinstance(measure, type), f"{measure.__name__} is a class: give an object of it, {measure.__name__}()"
    tally = measure.tally
    check_tally(tally, seed, chunks=chunks, first=first)
    check_recipe(measure)
    stream = list(random_chunks(tally, seed) if chunks is None else chunks)

    def of(some: Sequence[Chunk]) -> Any:
        value = beginning(tally, seed, first)
        for chunk in some:
            value = tally.add(value, chunk)
        return value

    value = of(stream)
    found = measure.compute(value)
    _check_reading(measure, found, seed)
    assert tally.same(value, of(stream)), f"{measure!r}: compute changed the tally it read (seed {seed})"
    _check_equal(measure, measure.compute(value), found, f"computing twice gives two numbers (seed {seed})")
    merged = tally.merge(of(stream[:2]), of(stream[2:]))
    _check_equal(measure, measure.compute(merged), found, f"merged shards give another number (seed {seed})")
    _check_nothing(measure, lambda: measure.compute(tally.init(SITE)))
    assert isinstance(measure.name, str), f"{measure!r}: name must be a text"
    assert measure.name, f"{measure!r}: name is empty, tables need one"
    if symmetric and chunks is None:
        _check_symmetry(measure, seed, found)


def _check_reading(measure: Any, reading: Any, seed: int) -> None:
    assert isinstance(reading, Reading), f"{measure!r}: compute must give a Reading, gave {type(reading).__name__}"
    assert reading.observations > 0, f"{measure!r}: the reading does not say how many observations it rests on"
    assert reading.measured_in, f"{measure!r}: the reading does not say what it is measured in"
    if not np.isnan(reading.low) and not np.isnan(reading.high) and not np.ndim(reading.value):
        low, value, high = reading.low, float(reading), reading.high
        assert low <= value <= high, f"{measure!r}: {value} lies outside its own interval [{low}, {high}] (seed {seed})"


def _check_equal(measure: Any, left: Reading, right: Reading, what: str) -> None:
    close = np.allclose(np.asarray(left.value), np.asarray(right.value), rtol=1e-5, atol=1e-12, equal_nan=True)
    assert close, f"{measure!r}: {what}: {left.value} and {right.value}"
    assert left.observations == right.observations, (
        f"{measure!r}: {what}: {left.observations}, {right.observations} observations"
    )


def _check_nothing(measure: Any, compute: Callable[[], Reading]) -> None:
    try:
        reading = compute()
    except EmptyTally:
        return
    except Exception as error:
        raise AssertionError(
            f"{measure!r}: of nothing it raises {type(error).__name__} ({error}); raise EmptyTally or give NaN"
        ) from error
    assert np.all(np.isnan(reading.value)), (
        f"{measure!r}: of nothing it says {reading.value}; raise EmptyTally or give NaN"
    )
    assert reading.observations == 0, f"{measure!r}: of nothing it claims {reading.observations} observations"


def _check_symmetry(measure: AbstractMeasure[Any], seed: int, first: Reading) -> None:
    tally, units = measure.tally, 7
    order = np.random.default_rng(seed + 1).permutation(units)

    class Renamed:
        """Reads the same activations with their units in another order."""

        @staticmethod
        def read(a: Activations) -> dict[str, Any]:
            return tally.read(Activations.of(np.ascontiguousarray(a.values[:, order]), unit=1))

    value = beginning(tally, seed, order=order)
    for chunk in random_chunks(Renamed(), seed, units=units):  # type: ignore[arg-type]  # only `read` is called
        value = tally.add(value, chunk)
    renamed = np.asarray(measure.compute(value).value)
    expected = np.asarray(first.value)
    if expected.ndim:
        expected = expected[order]
    assert np.allclose(renamed, expected, rtol=1e-5, equal_nan=True), (
        f"{measure!r}: renaming units changes it from {expected} to {renamed} (seed {seed}). If that is meant: symmetric=False."
    )


def check_order(values: Sequence[float], what: str) -> None:
    """Assert that numbers never rise, for laws such as "Rényi entropy falls with its order"."""
    for left, right in pairwise(values):
        assert right <= left + 1e-9, f"{what}: {right} after {left} in {list(values)}"

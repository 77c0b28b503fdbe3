"""How data is cut into batches, how much of it is read, and what is said about that."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from layerscope._errors import DataError
from layerscope.feed import Data, Feed
from layerscope.feed._nest import Columns, cut
from layerscope.feed._stream import recut
from tests.conftest import require
from tests.unit.feed.arrays import MASK, TOKENS, X, Y, same


def test_nothing_heavier_than_numpy_is_loaded():
    heavy = "{'torch', 'jax', 'tensorflow', 'keras', 'pandas', 'zarr', 'sklearn', 'array_api_compat'}"
    code = f"import sys, numpy; before = set(sys.modules); import layerscope.feed; print(sorted({heavy} & set(sys.modules) - before))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
    canary = subprocess.run(
        [sys.executable, "-c", code.replace("import layerscope.feed", "import array_api_compat")],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "array_api_compat" in canary.stdout


def columns(sizes: list[int]) -> list[Columns]:
    rows = np.arange(sum(sizes))
    whole = Columns(({"a": rows, "b": rows[:, None] * [1, 10]},), rows % 5, None, rows)
    ends = np.cumsum([0, *sizes])
    return [cut(whole, int(a), int(b)) for a, b in pairwise(ends)]


def check_recut(function: Callable[[Iterator[Columns], int], Iterator[Columns]], sizes: list[int], size: int) -> None:
    """The same samples in the same order; every piece but the last of the size asked for."""
    pieces = list(function(iter(columns(sizes)), size))
    lengths = [len(piece.ids) for piece in pieces]
    assert all(length == size for length in lengths[:-1])
    assert not lengths or 0 < lengths[-1] <= size
    rows = np.concatenate([[], *(piece.ids for piece in pieces)])
    same(rows, np.arange(sum(sizes)))
    for piece in pieces:
        same(piece.inputs[0]["a"], piece.ids)
        same(piece.inputs[0]["b"], piece.ids[:, None] * [1, 10])
        same(piece.target, piece.ids % 5)
        assert piece.mask is None


@given(st.lists(st.integers(0, 9), max_size=12), st.integers(1, 12))
def test_recutting_keeps_every_sample_in_its_place(sizes, size):
    check_recut(recut, sizes, size)


def _lossy(stream: Iterator[Columns], size: int) -> Iterator[Columns]:
    return (piece for piece in recut(stream, size) if len(piece.ids) == size)


def _reversing(stream: Iterator[Columns], size: int) -> Iterator[Columns]:
    return iter(list(recut(stream, size))[::-1])


def _uncut(stream: Iterator[Columns], size: int) -> Iterator[Columns]:
    return stream


def _mixing(stream: Iterator[Columns], size: int) -> Iterator[Columns]:
    return (piece._replace(target=piece.target[::-1]) for piece in recut(stream, size))


@pytest.mark.parametrize("wrong", [_lossy, _reversing, _uncut, _mixing])
def test_the_check_of_recutting_can_fail(wrong):
    with pytest.raises(AssertionError):
        check_recut(wrong, [3, 4, 1, 5], 4)


@given(
    st.lists(st.integers(1, 9), min_size=1, max_size=8),
    st.integers(1, 12),
    st.integers(1, 4),
    st.integers(1, 40) | st.none(),
)
def test_shards_of_a_stream_are_the_whole(sizes, size, n, samples):
    def batches(shard: tuple[int, int] | None) -> list[tuple[int, int, list[int], list[int]]]:
        feed = Feed(
            lambda: ((c.inputs[0]["a"], c.target) for c in columns(sizes)),
            batch_size=size,
            shard=shard,
            samples=samples,
        )
        return [(b.number, b.size, b.args[0].tolist(), b.samples.ids.tolist()) for b in feed]

    whole = batches(None)
    assert sorted(batch for i in range(n) for batch in batches((i, n))) == whole
    assert [i for *_, ids in whole for i in ids] == list(range(min(sum(sizes), samples or sum(sizes))))


def test_without_batch_size_a_stream_keeps_its_cuts_and_pads_to_the_largest():
    feed = Feed([(X[:4], Y[:4]), (X[4:6], Y[4:6]), (X[6:11], Y[6:11]), (X[11:], Y[11:])])
    assert [(b.size, len(b.samples)) for b in feed] == [(4, 4), (4, 2), (5, 5), (5, 1)]
    assert feed.batch_size == 4
    loader = require("torch.utils.data").DataLoader(list(zip(X, Y, strict=True)), batch_size=5)
    assert [(b.size, len(b.samples)) for b in Feed(loader)] == [(5, 5), (5, 5), (5, 2)]


def test_tokens_of_different_lengths_keep_their_cuts():
    def batches() -> Iterator[Any]:
        return ({"input_ids": TOKENS[4 * i : 4 * i + 4, :width]} for i, width in enumerate((2, 3, 1)))

    assert [b.kwargs["input_ids"].shape for b in Feed(batches)] == [(4, 2), (4, 3), (4, 1)]
    assert [b.kwargs["input_ids"].shape for b in Feed(batches, batch_size=4)] == [(4, 2), (4, 3), (4, 1)]
    assert len(Feed(batches).peek(9).samples) == 4  # as far as they can be joined
    with pytest.raises(DataError, match=r"\(N, 3\) in one batch, but .*\(N, 2\).*leave out batch_size="):
        Feed(batches, batch_size=6)


def test_data_on_disk_is_read_batch_by_batch():
    class Counting:
        """An array that remembers how much of it was read at once."""

        shape, dtype = (1000, 2), np.dtype(np.float32)

        def __init__(self) -> None:
            self.read: list[int] = []

        def __getitem__(self, part: Any) -> Any:
            rows = np.arange(1000)[part]
            self.read.append(len(rows))
            return np.stack([rows, rows], axis=1).astype(np.float32)

    array = Counting()
    assert sum(len(batch.samples) for batch in Feed(array, batch_size=10)) == 1000
    assert max(array.read) == 10
    array.read.clear()
    list(Feed(array, batch_size=10, shard=(3, 10)))
    assert sum(array.read) == 110  # a tenth, and a first look


def test_streams_are_not_read_beyond_what_was_asked_for():
    taken = []

    def endless(sample: bool) -> Iterator[Any]:
        for number in range(10**9):
            taken.append(number)
            yield (X[0], 1) if sample else (X[:4], Y[:4])

    for sample, expected in ((False, 3), (True, 10)):
        taken.clear()
        assert sum(len(batch.samples) for batch in Feed(endless(sample), samples=10, batch_size=3)) == 10
        assert len(taken) == expected


def test_a_loader_is_opened_once_for_looking_and_reading():
    opened = []

    class Loader:
        batch_size = 4

        def __iter__(self) -> Iterator[Any]:
            opened.append(1)
            return iter([(X[:4], Y[:4]), (X[4:8], Y[4:8])])

    feed = Feed(Loader())
    feed.peek(2)
    feed.peek(7)
    assert [len(batch.samples) for batch in feed] == [4, 4]
    assert len(opened) == 1
    list(feed)
    assert len(opened) == 2


def test_a_few_samples_of_a_sorted_loader_are_spread_over_it():
    data = require("torch.utils.data")
    feed = Feed(data.DataLoader(list(zip(X, np.sort(Y), strict=True)), batch_size=5), samples=3)
    same([label for batch in feed for label in np.asarray(batch.samples.labels)], [0, 1, 2])
    assert "3 of 12 samples, evenly spaced" in feed.notes
    assert feed.batch_size == 5


def test_a_loader_that_drops_its_last_batch_is_counted_so():
    data = require("torch.utils.data")
    loader = data.DataLoader(list(zip(X, Y, strict=True)), batch_size=5, drop_last=True)
    assert (Feed(loader).length, Feed(loader).batches, len(list(Feed(loader)))) == (10, 2, 2)


def test_batches_without_samples_are_skipped_and_said():
    feed = Feed([(X[:0], Y[:0]), (X[:3], Y[:3]), (X[3:3], Y[3:3]), (X[3:5], Y[3:5])])
    assert [(b.number, len(b.samples)) for b in feed] == [(0, 3), (1, 2)]
    assert [note for note in feed.notes if "skipped" in note] == [
        f"batch {i} of the data has no samples and was skipped" for i in (0, 2)
    ]


def test_notes_say_how_the_data_was_read():
    assert Feed((X, Y)).notes == ("inputs: item[0]; labels: item[1] (integers)",)
    assert Feed((X, Y[:, None])).notes == ("inputs: item[0]; labels: item[1] (integers, squeezed from (N, 1))",)
    assert Feed(X).notes == ("inputs: the whole item; no labels",)
    assert Feed(X, samples=5).notes[0] == "5 of 12 samples, evenly spaced"
    assert Feed(iter([X]), samples=5).notes[1] == "the first 5 samples of the stream"
    assert Feed({"a": X, "attention_mask": MASK, "y": Y}).notes == (
        "inputs: a, attention_mask (passed by name); labels: item['y'] (integers)",
        "mask: attention_mask",
    )
    assert Feed(Data(X, label=Y, mask=MASK)).notes == (
        "inputs: the whole item; labels: label= (integers)",
        "mask: as given in ls.Data",
    )


def test_a_function_may_give_a_function():
    feed = Feed(lambda: lambda: iter([(X[:4], Y[:4])]))
    assert [[len(batch.samples) for batch in feed] for _ in range(2)] == [[4], [4]]


@pytest.mark.torch
@pytest.mark.parametrize("kind", ["numpy", "torch"])
def test_a_preprocess_that_works_in_place_leaves_the_data_as_they_are(kind: str) -> None:
    """It is called again for every look at the first samples, and in every pass."""

    def doubled(x: Any) -> Any:
        x *= 2
        return x

    given = np.arange(12.0).reshape(6, 2)
    x: Any = require("torch").from_numpy(given.copy()) if kind == "torch" else given.copy()
    feed = Feed(Data(x, preprocess=doubled), batch_size=4)
    for _ in range(2):
        feed.peek(3)
        rows = np.concatenate([np.asarray(batch.args[0])[: len(batch.samples)] for batch in feed])
        np.testing.assert_array_equal(rows, 2 * given)
    np.testing.assert_array_equal(np.asarray(x), given)


def test_a_generator_that_gave_items_before_is_said_to_have() -> None:
    def items() -> Iterator[np.ndarray]:
        yield from np.split(X, 2)

    fresh, begun = items(), items()
    next(begun)
    assert not any("before" in note for note in Feed(fresh).notes)
    feed = Feed(begun)
    assert any("given items before" in note for note in feed.notes)
    assert sum(len(batch.samples) for batch in feed) == len(X) // 2

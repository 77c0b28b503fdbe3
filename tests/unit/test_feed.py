"""The feed: what is read as what, how batches are re-cut, and every message a user can meet."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from layerscope._data import Columns, cut, read_ids, read_labels
from layerscope._errors import DataError
from layerscope._feed import Data, Feed, recut
from tests.conftest import require

X = np.arange(24, dtype=np.float32).reshape(12, 2)
Y = np.arange(12) % 3
TOKENS = np.arange(36).reshape(12, 3)
MASK = np.arange(3) < 1 + np.arange(12)[:, None] % 3


def only(data: Any, **options: Any) -> Any:
    """The one batch of the data."""
    (batch,) = Feed(data, batch_size=12, **options)
    return batch


def same(left: Any, right: Any) -> None:
    np.testing.assert_array_equal(np.asarray(left), np.asarray(right))


def test_nothing_heavier_than_numpy_is_loaded():
    heavy = "{'torch', 'jax', 'tensorflow', 'keras', 'pandas', 'zarr', 'sklearn', 'array_api_compat'}"
    code = f"import sys, numpy; before = set(sys.modules); import layerscope._feed; print(sorted({heavy} & set(sys.modules) - before))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
    canary = subprocess.run(
        [sys.executable, "-c", code.replace("import layerscope._feed", "import array_api_compat")],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "array_api_compat" in canary.stdout


# ---- what is a label


@pytest.mark.parametrize(
    ("target", "kind"),
    [
        (Y, "integers"),
        (Y.astype(np.uint8), "integers"),
        (Y == 1, "integers"),
        (Y[:, None], "integers, squeezed from (N, 1)"),
        (np.eye(3)[Y], "one-hot of 3"),
        (np.eye(3, dtype=bool)[Y], "one-hot of 3"),
        (np.eye(3, dtype=np.int64)[Y], "one-hot of 3"),
        (Y.astype(np.float32), ""),
        (Y[:, None].astype(np.float32), ""),
        (np.full((12, 3), 1 / 3), ""),
        (TOKENS, ""),
        (np.zeros((12, 3)), ""),
        (np.ones((12, 3)), ""),
        (-np.eye(3)[Y], ""),
        (2 * np.eye(3)[Y], ""),
        (np.eye(3)[Y][:, :, None], ""),
    ],
)
def test_labels_are_integers_or_one_hot_rows(target, kind):
    labels, found = read_labels(target)
    assert found == kind
    if not kind:
        assert labels is None
        return
    assert labels is not None
    assert labels.dtype == np.int64
    same(labels, Y == 1 if target.dtype == bool and target.ndim == 1 else Y)


@pytest.mark.parametrize("row", range(12))
def test_one_row_that_is_not_one_hot_makes_the_target_no_label(row):
    target = np.eye(3)[Y]
    target[row] = [0.5, 0.5, 0]
    assert read_labels(target) == (None, "")


def test_labels_of_half_precision_are_read():
    torch = require("torch")
    labels, kind = read_labels(torch.eye(3, dtype=torch.bfloat16, requires_grad=True)[torch.from_numpy(Y)])
    assert kind == "one-hot of 3"
    same(labels, Y)


def test_a_target_that_is_no_label_is_kept_and_said():
    feed = Feed((X, X))
    batch = next(iter(feed))
    assert batch.samples.labels is None
    same(batch.targets, X)
    assert "second element is not labels (float32, shape (N, 2)): accuracy is not computed" in feed.notes[0]
    assert "left to score=" in Feed(Data((X, X), score=lambda output, target: target)).notes[0]


def test_a_matrix_is_left_to_the_score():
    batch = only(Data((X, np.eye(3)[Y]), score=lambda output, target: target))
    assert batch.samples.labels is None
    same(batch.targets, np.eye(3)[Y])


def test_rows_that_happen_to_be_one_hot_do_not_turn_other_targets_into_labels():
    several = np.ones((12, 3))
    several[4:] = np.eye(3)[Y[4:]]
    feed = Feed((X, several), batch_size=4)
    assert [batch.samples.labels for batch in feed] == [None, None, None]
    assert feed.peek(1).samples.labels is None


# ---- which part is what


@pytest.mark.parametrize("key", ["labels", "label", "y", "target", "targets", "class"])
def test_the_label_of_a_dict_is_found_and_not_passed_on(key):
    batch = only({"a": X, key: Y, "b": X})
    assert list(batch.kwargs) == ["a", "b"]
    same(batch.samples.labels, Y)
    same(batch.targets, Y)


SAID: dict[str, tuple[Any, tuple[int, ...], tuple[str, ...], bool]] = {
    # data, shapes of the positional inputs, names of the others, whether there are labels
    "key": (Data({"a": X, "b": TOKENS, "y": Y}, inputs="b"), (3,), (), True),
    "keys": (Data({"a": X, "b": TOKENS, "c": Y}, inputs=["b", "a"], label="c"), (), ("b", "a"), True),
    "a label key as input": (Data({"x": X, "y": TOKENS}, inputs=["x", "y"]), (), ("x", "y"), False),
    "label=False in a dict": (Data({"x": X, "y": Y}, label=False), (), ("x",), False),
    "label=False in a pair": (Data((X, Y), label=False), (2,), (), False),
    "index": (Data((X, TOKENS, Y), inputs=1, label=2), (3,), (), True),
    "negative index": (Data((X, Y, TOKENS), label=1, mask=-1), (2,), (), True),
    "inputs=0 of a pair": (Data((X, Y), inputs=0), (2,), (), True),
    "inputs=1 of a pair": (Data((Y, X), inputs=1), (2,), (), False),
    "indices": (Data((X, TOKENS, Y), inputs=[1, 0], label=2), (3, 2), (), True),
    "function": (Data((X, Y), inputs=lambda item: item[0][:, :1]), (1,), (), True),
    "function for names": (Data((X, Y), inputs=lambda item: {"a": item[0]}), (), ("a",), True),
    "function for labels": (Data((X, np.eye(3)[Y]), label=lambda item: item[1].argmax(1)), (2,), (), True),
    "ids leave a pair": (Data((np.arange(12), X, Y), ids=0), (2,), (), True),
    "a named tuple": (Columns(X, Y, TOKENS), (2, 3), (), True),
}
SAID["a named tuple"] = (Data(Columns(X, Y, TOKENS, X), inputs=[0, 2], label=1), (2, 3), (), True)


@pytest.mark.parametrize("name", SAID)
def test_what_is_said_is_done(name):
    data, widths, names, labelled = SAID[name]
    if name == "negative index":
        data = Data((X, Y, MASK), label=1, mask=-1)
    batch = only(data)
    assert tuple(arg.shape[1] for arg in batch.args) == widths
    assert tuple(batch.kwargs) == names
    if labelled:
        same(batch.samples.labels, Y)
    else:
        assert batch.samples.labels is None


def test_forward_and_score_are_handed_on():
    def forward(model: Any, inputs: Any) -> Any: ...
    def score(output: Any, target: Any) -> Any: ...

    feed = Feed(Data(X, forward=forward, score=score))
    assert (feed.forward, feed.score) == (forward, score)
    assert (Feed(X).forward, Feed(X).score) == (None, None)


def test_preprocess_sees_whole_batches_and_padding_comes_after():
    seen = []

    def lengths(texts: list[str]) -> dict[str, Any]:
        seen.append(list(texts))
        longest = max(map(len, texts))
        mask = np.arange(longest) < np.array([len(t) for t in texts])[:, None]
        return {"input_ids": np.ones((len(texts), longest), np.int64), "attention_mask": mask}

    texts = ["a", "bbb", "cc", "dddd", "e"]
    feed = Feed(Data((texts, [0, 1, 0, 1, 0]), preprocess=lengths), batch_size=2)
    seen.clear()
    batches = list(feed)
    assert seen == [texts[:2], texts[2:4], texts[4:]]
    assert [batch.kwargs["input_ids"].shape for batch in batches] == [(2, 3), (2, 4), (2, 1)]
    same(batches[0].samples.mask, [[True, False, False], [True, True, True]])
    assert [len(batch.samples) for batch in batches] == [2, 2, 1]


@pytest.mark.parametrize(
    ("source", "rows"),
    [
        (["a", "bb", "c"], 3),  # a list of texts: samples
        ([["a", "bb"], ["c"]], 3),  # lists of texts: batches
        ([("a", 0), ("bb", 1), ("c", 1)], 3),  # texts with their labels: samples
        ([(["a", "bb"], [0, 1]), (["c"], [1])], 3),  # batches of both
        ([{"text": "a"}, {"text": "bb"}], 2),
        (np.array(["a", "bb", "c"]), 3),
    ],
)
def test_texts_in_every_form(source, rows):
    def lengths(texts: Any) -> Any:
        texts = texts["text"] if isinstance(texts, dict) else texts
        assert isinstance(texts, list)
        return np.array([[len(text)] for text in texts])

    batch = only(Data(source, preprocess=lengths))
    same(batch.args[0][:rows, 0], [1, 2, 1][:rows])
    assert len(batch.samples) == rows


def test_pictures_need_preprocess():
    image = require("PIL.Image")
    pictures = [image.fromarray(np.full((2, 2), 40 * i, np.uint8)) for i in range(3)]
    with pytest.raises(DataError, match=r"inputs \(a list of Image\).*ls\.Data\(data, preprocess="):
        Feed(pictures)
    batch = only(
        Data(list(zip(pictures, [0, 1, 2], strict=True)), preprocess=lambda p: np.stack([np.asarray(i) for i in p]))
    )
    same(batch.args[0][:3, 0, 0], [0, 40, 80])
    same(batch.samples.labels, [0, 1, 2])


def test_pandas_columns_are_arrays():
    pandas = require("pandas")
    frame = pandas.DataFrame({"a": X[:, 0], "b": X[:, 1], "y": Y}, index=np.arange(12)[::-1])
    batch = only((frame[["a", "b"]], frame["y"]), samples=5)
    same(batch.args[0][:5], X[np.arange(5) * 12 // 5])
    same(batch.samples.labels, Y[np.arange(5) * 12 // 5])


def test_numbers_beside_tensors_become_tensors():
    torch = require("torch")
    batch = only([{"x": torch.ones(2), "t": 0.5, "y": 1}, {"x": torch.ones(2), "t": 0.25, "y": 0}])
    assert isinstance(batch.kwargs["t"], torch.Tensor)
    same(batch.kwargs["t"][:2], [0.5, 0.25])
    same(batch.samples.labels, [1, 0])


# ---- masks


def masked(**said: Any) -> Any:
    return only(Data({"input_ids": TOKENS, "attention_mask": MASK.astype(int), "y": Y, "other": ~MASK}, **said))


def test_attention_mask_is_passed_and_is_the_mask():
    batch = masked()
    assert list(batch.kwargs) == ["input_ids", "attention_mask", "other"]
    same(batch.samples.mask, MASK)
    assert batch.samples.mask.dtype == np.bool_


def test_a_mask_that_is_said_comes_first():
    batch = masked(mask="other")
    assert list(batch.kwargs) == ["input_ids", "attention_mask"]
    same(batch.samples.mask, ~MASK)
    same(masked(mask=~MASK).samples.mask, ~MASK)
    same(masked(mask=lambda item: item["input_ids"] > 4).samples.mask, TOKENS > 4)
    assert list(masked(mask="attention_mask").kwargs) == ["input_ids", "attention_mask", "other"]


def test_mask_false_ignores_what_looks_like_one():
    batch = masked(mask=False)
    assert batch.samples.mask is None
    assert "attention_mask" in batch.kwargs


def test_a_mask_of_pairs_of_positions_is_only_passed_on():
    feed = Feed({"input_ids": TOKENS, "attention_mask": np.ones((12, 3, 3), bool)})
    assert next(iter(feed)).samples.mask is None
    assert any("is no mask of positions" in note for note in feed.notes)


# ---- ids


def test_ids_are_indices_running_numbers_or_given():
    same(only(X).samples.ids, np.arange(12))
    same(only(X, samples=4).samples.ids, [0, 3, 6, 9])
    feed = Feed(lambda: iter([X[:5], X[5:]]), batch_size=4)
    same(np.concatenate([batch.samples.ids for batch in feed]), np.arange(12))
    assert "ids are running numbers: the data has no addressable index" in feed.notes
    feed = Feed(Data(lambda: iter([(X, Y, Y + 7)]), ids=2))
    same(next(iter(feed)).samples.ids, Y + 7)
    assert not any("running" in note for note in feed.notes)
    same(only(Data(X, ids=np.arange(12)[::-1]), samples=4).samples.ids, [11, 8, 5, 2])


def test_ids_that_are_no_integers_are_hashed_alike_everywhere():
    names = [f"image_{i}.png" for i in range(12)]
    feed = Feed(Data({"x": X, "name": names}, ids="name"))
    ids = next(iter(feed)).samples.ids
    assert ids.dtype == np.int64
    assert len(set(ids.tolist())) == 12
    assert ids[0] == 8560960157104166710  # BLAKE2b of 8 bytes, little-endian, signed
    assert any("64-bit hashes" in note for note in feed.notes)
    same(read_ids(np.array(names), 12)[0], ids)
    same(read_ids(np.array(names, dtype=object), 12)[0], ids)


def test_a_shuffling_loader_says_that_its_ids_are_no_indices():
    data = require("torch.utils.data")
    pairs = data.TensorDataset(*map(require("torch").from_numpy, (X, Y)))
    assert any("the loader's order is not" in note for note in Feed(data.DataLoader(pairs, shuffle=True)).notes)
    assert not any("running" in note for note in Feed(data.DataLoader(pairs)).notes)


# ---- cutting


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


# ---- messages: what was given, what was seen, the line that would say it


class NoLength:
    """A map-style data set without a length, made where torch is."""

    def __new__(cls) -> Any:
        dataset = require("torch.utils.data").Dataset
        return type("NoLength", (dataset,), {"__getitem__": lambda self, i: (X[i], Y[i])})()


def fixed_tf() -> Any:
    return require("tensorflow").data.Dataset.from_tensor_slices(X)


MESSAGES: dict[str, tuple[Callable[[], Any], str]] = {
    "three parts": (lambda: (X, X, Y), r"3 parts.*ls\.Data\(data, inputs=\[0, 1\], label=2\)"),
    "three parts in a batch": (lambda: [(X, X, Y)], r"3 parts.*ls\.Data\(data, inputs=\[0, 1\], label=2\)"),
    "which inputs": (lambda: Data((X, X, Y), label=2), r"3 parts.*inputs=\[0, 1\], label=2"),
    "a pair, its label named": (lambda: Data((X, Y, X), label=1), "3 parts, and it is not clear"),
    "two lengths": (lambda: (X, Y[:5]), r"inputs has 12, target has 5.*ls\.Data\(data, inputs=0, label=1\)"),
    "two lengths of inputs": (lambda: ((X, X[:5]), Y), r"inputs\[0\] has 12, inputs\[1\] has 5, target has 12"),
    "two lengths in a dict": (lambda: {"a": X, "b": X[:5]}, r"inputs\['a'\] has 12, inputs\['b'\] has 5"),
    "a list of two arrays": (lambda: [X, X], r"list of 2 arrays could be batches, samples.*np\.stack.*inputs=\[0, 1\]"),
    "a list of batches of inputs": (
        lambda: [X, X, X[:3]],
        r"list of 3 arrays.*lambda: iter\(data\) if they are batches",
    ),
    "a list of numbers": (lambda: [1.0, 2.0], "a list of numbers could be"),
    "a list of lists of numbers": (lambda: [[1.0, 2.0], [3.0, 4.0]], "a list of numbers could be"),
    "dicts of arrays": (lambda: [{"a": X}, {"a": X}], r"could be batches or single samples.*lambda: iter\(data\)"),
    "tf.data of inputs": (fixed_tf, "could be batches or single samples"),
    "texts": (lambda: ["a", "b"], r"inputs \(a list of str\) is nothing a model takes.*ls\.Data\(data, preprocess="),
    "texts in a pair": (lambda: (["a", "b"], [0, 1]), r"inputs \(a list of str\)"),
    "no inputs": (lambda: {"labels": Y}, r"no inputs in a dict with the keys 'labels'.*inputs='x'"),
    "keys that are no names": (lambda: {1: X, 2: Y}, "found no inputs in a dict with the keys 1, 2"),
    "two labels": (lambda: {"x": X, "y": Y, "label": Y}, r"several keys look like labels: label, y.*label='label'"),
    "labels inside and outside": (lambda: ({"x": X, "labels": Y}, Y), "the inputs hold 'labels', which looks like"),
    "a number": (lambda: 3, "a int is no data that can be read"),
    "a path": (lambda: "train.npy", "'train.npy' is text, not data.*np.load"),
    "a data frame": (lambda: require("pandas").DataFrame({"a": [1]}), r"data frame.*frame\['label'\]"),
    "a point": (lambda: np.array(3.0), "no sample axis"),
    "a set without length": (NoLength, "NoLength has no length.*DataLoader"),
    "a function of one": (lambda: lambda n: X, r"needs arguments.*lambda: "),
    "an empty list": (list, "the data gave nothing: it is empty"),
    "an empty dict": (dict, "the data gave nothing: it is empty"),
    "an empty array": (lambda: X[:0], "the data gave nothing: it is empty"),
    "an empty generator": (lambda: iter(()), "it was used up, or empty.*lambda: make_batches"),
    "a function of nothing": (lambda: lambda: iter(()), "the data gave nothing"),
    "only empty batches": (lambda: [(X[:0], Y[:0])], "the data gave nothing"),
    "no such key": (
        lambda: Data({"pixels": X}, inputs="pixel"),
        "has no 'pixel'; its keys are: pixels. Did you mean 'pixels'",
    ),
    "no such index": (lambda: Data((X, Y), inputs=0, label=5), r"there is no item\[5\]: an item has 2 parts"),
    "an index into one array": (lambda: Data(X, label=1), "an item is one thing without parts, float32, shape"),
    "labels of another length": (lambda: Data(X, label=Y[:5]), "label= has 5 rows for 12 samples"),
    "ids of another length": (lambda: Data(X, ids=["a"]), "ids= has 1 rows for 12 samples"),
    "a whole array for a stream": (lambda: Data(iter([X]), ids=Y), r"ids= is a whole array, but the data is a stream"),
    "two ids a sample": (lambda: Data((X, TOKENS), ids=1), r"ids have the shape \(12, 3\) for 12 samples"),
    "a longer mask": (lambda: Data(iter([(X, MASK[:5])]), mask=1), "inputs has 12, mask has 5"),
    "a mask of weights": (lambda: Data((X, MASK * 0.5), mask=1), "mask mask= holds values other than 0 and 1"),
    "an additive mask": (
        lambda: {"a": X, "attention_mask": np.where(MASK, 0, -1e9)},
        "attention_mask holds values other than 0 and 1.*== 0",
    ),
    "a mask lost by preprocess": (
        lambda: Data(X, preprocess=lambda x: {"a": x, "attention_mask": MASK[:5]}),
        r"inputs\['a'\] has 12, inputs\['attention_mask'\] has 5",
    ),
    "rows lost by preprocess": (lambda: Data(X, preprocess=lambda x: x[:5]), "preprocess made 5 rows of 12 samples"),
    "no arrays from preprocess": (lambda: Data(["a"], preprocess=lambda t: t), "preprocess gave no array.*tokenizer"),
    "Data in Data": (lambda: Data(Data(X)), "the source is a Data already"),
    "preprocess": (lambda: Data(X, preprocess=3), "preprocess=3 cannot be called"),  # pyright: ignore[reportArgumentType]
    "inputs": (lambda: Data(X, inputs=1.5), r"inputs=1.5 is no key, index, list of them or function"),
    "no inputs at all": (lambda: Data(X, inputs=[]), r"inputs=\[\] is no key"),
    "label=True": (lambda: Data(X, label=True), "label=True is no key, index, function or array"),
    "ids=False": (lambda: Data(X, ids=False), "ids=False is no key"),
}


@pytest.mark.parametrize("name", MESSAGES)
def test_what_cannot_be_read_says_so(name):
    make, message = MESSAGES[name]
    with pytest.raises(DataError, match=message):
        Feed(make())


LATER: dict[str, tuple[Callable[[], Any], str]] = {
    # the first batch is right, the third is not
    "labels turn into numbers": (
        lambda: [(X[:2], np.eye(3)[Y[:2]])] * 2 + [(X[:2], np.ones((2, 3)))],
        "no labels in this batch, but one-hot of 3 in the first.*score=",
    ),
    "more classes": (
        lambda: [(X[:2], np.eye(3)[Y[:2]])] * 2 + [(X[:2], np.eye(4)[Y[:2]])],
        "one-hot of 4 in this batch",
    ),
    "another type": (lambda: [(X[:2], Y[:2])] * 2 + [(X[:2], Y[:2] * 1.0)], "target is numpy float64.*int64"),
    "another framework": (
        lambda: [(X[:2], Y[:2])] * 2 + [(require("torch").ones(2, 2), Y[:2])],
        "inputs is torch float32.*numpy float32",
    ),
    "another axis": (lambda: [(X[:2], Y[:2])] * 2 + [(X[:2, :, None], Y[:2])], r"\(N, \*, \*\) in this batch, but"),
    "another number of parts": (lambda: [(X[:2], Y[:2])] * 2 + [(X[:2], X[:2], Y[:2])], "has 3 parts, the first had 2"),
    "other keys": (lambda: [{"x": X, "y": Y}] * 2 + [{"x": X, "z": Y}], "the keys x, z, the first had the keys x, y"),
    "another length": (lambda: [(X[:2], Y[:2])] * 2 + [(X[:2], Y[:3])], "inputs has 2, target has 3"),
    "a mask of weights": (
        lambda: [{"a": X, "attention_mask": MASK * 1.0, "y": Y}] * 2 + [{"a": X, "attention_mask": MASK * 0.5, "y": Y}],
        "holds values other than 0 and 1",
    ),
}


@pytest.mark.parametrize("batch_size", [None, 2])
@pytest.mark.parametrize("name", LATER)
def test_what_changes_midway_says_so_and_where(name, batch_size):
    make, message = LATER[name]
    if name == "more classes" and batch_size is not None:
        message = r"\(N, 4\)|one-hot of 4"
    feed = Feed(make(), batch_size=batch_size)
    batches = iter(feed)
    next(batches)
    next(batches)
    with pytest.raises(DataError, match=message) as caught:
        list(batches)
    assert any("batch" in note for note in caught.value.__notes__)


def test_samples_of_different_sizes_cannot_be_stacked():
    samples = [(X[:2], 0), (X[:2], 1), (X[:3], 1)]
    with pytest.raises(DataError, match=r"\(3, 2\) in sample 2 of a batch, but .*\(2, 2\) in sample 0.*Pad or resize"):
        Feed(samples)
    with pytest.raises(DataError, match=r"\(N, 3, 2\) in this batch, but .*\(N, 2, 2\) in the first"):
        list(Feed(samples, batch_size=1))


def test_a_collate_function_that_loses_samples_is_found():
    data = require("torch.utils.data")
    loader = data.DataLoader(
        list(zip(X, Y, strict=True)), batch_size=4, collate_fn=lambda s: (np.stack([s[0][0]]), Y[:1])
    )
    with pytest.raises(DataError, match="4 samples were asked for, 1 came"):
        Feed(loader, samples=5)


def test_a_generator_cannot_be_read_twice():
    feed = Feed(iter([(X[:4], Y[:4]), (X[4:], Y[4:])]))
    assert not feed.restartable
    next(iter(feed))
    with pytest.raises(DataError, match=r"it was used up.*Pass a list, or a function"):
        list(feed)
    assert len(feed.peek(3).samples) == 3  # the first batch is kept
    with pytest.raises(DataError, match="used up"):
        feed.peek(9)


def test_a_function_that_gives_the_same_generator_again_is_found():
    batches = iter([(X, Y)])
    feed = Feed(lambda: batches)
    assert len(list(feed)) == 1
    with pytest.raises(DataError, match="used up"):
        list(feed)


def test_an_error_of_the_data_passes_and_says_where():
    def broken() -> Iterator[Any]:
        yield X[:4], Y[:4]
        yield X[4:8], Y[4:8]
        raise OSError("the disk is gone")

    with pytest.raises(OSError, match="the disk is gone") as caught:
        list(Feed(broken()))
    assert caught.value.__notes__ == ["layerscope: while reading batch 2 of the data"]


def test_an_error_of_a_data_set_says_where():
    class Broken(list[Any]):
        def __getitem__(self, i: Any) -> Any:
            if i == 9:
                raise OSError("file 9 is gone")
            return X[i], 1

    with pytest.raises(OSError, match="file 9 is gone") as caught:
        list(Feed(Broken(range(12)), batch_size=4))
    assert caught.value.__notes__ == ["layerscope: while reading batch 2 of the data"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"samples": 0}, "samples=0 is no number of samples"),
        ({"samples": -3}, "samples=-3 is no number of samples"),
        ({"samples": 2.5}, "samples=2.5 is no number"),
        ({"samples": True}, "samples=True is no number"),
        ({"batch_size": 0}, "batch_size=0 is no number of samples"),
        ({"batch_size": "8"}, "batch_size='8' is no number"),
        ({"shard": (3, 3)}, r"shard=\(3, 3\) is not \(i, n\) with 0 <= i < n.*shard=\(0, 4\)"),
        ({"shard": (-1, 3)}, "is not"),
        ({"shard": (0, 0)}, "is not"),
        ({"shard": (0, 1, 2)}, "is not"),
        ({"shard": 2}, "shard=2 is not"),
        ({"shard": (0.0, 2)}, "is not"),
    ],
)
def test_options_that_make_no_sense_are_refused(options, message):
    with pytest.raises(DataError, match=message):
        Feed(X, **options)


def test_a_peek_at_nothing_is_refused():
    with pytest.raises(DataError, match=r"peek\(0\) asks for no samples"):
        Feed(X).peek(0)


def test_more_shards_than_batches_leave_some_empty():
    assert list(Feed(X, batch_size=12, shard=(1, 2))) == []
    assert Feed(X, batch_size=12, shard=(1, 2)).length == 0
    assert list(Feed(iter([X]), batch_size=12, shard=(1, 2))) == []


def test_every_message_says_what_to_do():
    """Three parts: the last one, after the facts, is a sentence of its own."""
    for name, (make, _) in MESSAGES.items():
        with pytest.raises(DataError) as caught:
            Feed(make())
        assert len(str(caught.value).split(". ")) + str(caught.value).count(": ") >= 3, name

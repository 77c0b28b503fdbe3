"""Every message about data: what was given, what was seen, the line that would say it."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from layerscope._errors import DataError
from layerscope.feed import Data, Feed
from tests.conftest import require
from tests.unit.feed.arrays import MASK, TOKENS, X, Y


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

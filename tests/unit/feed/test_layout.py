"""Which part of the data is what, in every way to say it."""

from typing import Any

import numpy as np
import pytest

from layerscope._errors import DataError
from layerscope.feed import Data, Feed
from layerscope.feed._nest import Columns
from tests.conftest import require
from tests.unit.feed.arrays import MASK, TOKENS, X, Y, only, same


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
    "negative index": (Data((X, Y, MASK), label=1, mask=-1), (2,), (), True),
    "inputs=0 of a pair": (Data((X, Y), inputs=0), (2,), (), True),
    "inputs=1 of a pair": (Data((Y, X), inputs=1), (2,), (), False),
    "indices": (Data((X, TOKENS, Y), inputs=[1, 0], label=2), (3, 2), (), True),
    "function": (Data((X, Y), inputs=lambda item: item[0][:, :1]), (1,), (), True),
    "function for names": (Data((X, Y), inputs=lambda item: {"a": item[0]}), (), ("a",), True),
    "function for labels": (Data((X, np.eye(3)[Y]), label=lambda item: item[1].argmax(1)), (2,), (), True),
    "ids leave a pair": (Data((np.arange(12), X, Y), ids=0), (2,), (), True),
    "a named tuple": (Data(Columns(X, Y, TOKENS, X), inputs=[0, 2], label=1), (2, 3), (), True),
}


@pytest.mark.parametrize("name", SAID)
def test_what_is_said_is_done(name):
    data, widths, names, labelled = SAID[name]
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

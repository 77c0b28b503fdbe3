"""Labels, masks and ids: what is read as one, and what is not."""

from typing import Any

import numpy as np
import pytest

from layerscope.feed import Data, Feed
from layerscope.feed._samples import read_ids, read_labels
from tests.conftest import require
from tests.unit.feed.arrays import MASK, TOKENS, X, Y, only, same


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

"""Shuffled labels: one fixed permutation of the samples, known before the first forward, beside the same activations by their own labels."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import layerscope as ls
from layerscope._errors import DataError
from layerscope._shuffled import Permuted, shuffled, shuffler
from layerscope.feed import Feed
from layerscope.tallies import StateTable


def labels_of(permuted: Permuted, feed: Feed) -> dict[int, int]:
    """The shuffled label of every sample of a feed."""
    found: dict[int, int] = {}
    for batch in feed:
        samples = permuted(batch).samples
        assert samples.shuffled is not None
        found |= dict(zip(samples.ids.tolist(), samples.shuffled.tolist(), strict=True))
    return found


def pair(n: int = 101, classes: int = 4) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    return rng.normal(size=(n, 3)), np.sort(rng.integers(0, classes, n))


@given(seed=st.integers(0, 2**32 - 1), n=st.integers(1, 200))
def test_classes_keep_their_size_and_the_order_does_not_matter(seed: int, n: int) -> None:
    rng = np.random.default_rng(seed)
    ids, labels = rng.permutation(5 * n)[:n].astype(np.int64), rng.integers(0, 3, n)
    one = Permuted.of(ids, labels)
    np.testing.assert_array_equal(np.bincount(one.labels, minlength=3), np.bincount(labels, minlength=3))
    order = rng.permutation(n)
    other = Permuted.of(ids[order], labels[order])
    np.testing.assert_array_equal(one.labels, other.labels)


def test_it_is_a_permutation_that_tells_nothing() -> None:
    """Labels in order come out mixed: beside the true ones as independent ones would stand."""
    labels = np.repeat(np.arange(10), 500)
    taken = Permuted.of(np.arange(5000), labels).labels
    table = np.zeros((10, 10))
    np.add.at(table, (labels, taken), 1)
    chi2 = float(((table - 50) ** 2 / 50).sum())  # 81 degrees of freedom: mean 81, deviation 12.7
    assert 81 - 4 * 12.7 < chi2 < 81 + 4 * 12.7
    ordered = np.zeros((10, 10))
    np.add.at(ordered, (labels, labels), 1)
    assert float(((ordered - 50) ** 2 / 50).sum()) > 10_000  # what the check must reject


def test_those_whose_rows_are_kept_have_labels_like_all_others() -> None:
    """The same hash for both would give the kept samples the labels of the first ids."""
    from layerscope._site import Samples

    labels = np.repeat(np.arange(10), 500)
    permuted = Permuted.of(np.arange(5000), labels)
    kept = np.argsort(Samples(np.arange(5000)).keys)[:300]
    assert np.bincount(permuted.labels[kept], minlength=10).max() < 60


def test_repeated_ids_have_one_label_and_classes_keep_their_size() -> None:
    ids = np.array([1, 2, 3, 4, 5, 6, 1, 2, 3])
    labels = np.array([0, 0, 1, 2, 2, 1, 0, 0, 1])
    permuted = Permuted.of(ids, labels)
    got = dict(zip(permuted.ids.tolist(), permuted.labels.tolist(), strict=True))
    assert np.bincount([got[i] for i in ids.tolist()]).tolist() == np.bincount(labels).tolist()


@pytest.mark.parametrize("batch_size", [1, 16, 1000])
@pytest.mark.parametrize("shard", [None, (1, 3)])
def test_batches_shards_and_transformed_samples_have_the_same_labels(batch_size: int, shard: Any) -> None:
    data = pair()
    whole = labels_of(shuffler(Feed(data), data), Feed(data))
    feed = Feed(data, batch_size=batch_size, shard=shard)
    some = labels_of(shuffler(feed, data), feed)
    assert some.items() <= whole.items()
    assert len(some) == (101 if shard is None else feed.length)
    few = Feed(data, samples=10)
    assert labels_of(shuffler(few, data, 10), few).keys() == {*few.peek(10).samples.ids.tolist()}


def test_streams_that_can_start_anew_are_looked_through() -> None:
    x, y = pair()

    def batches() -> Iterator[Any]:
        yield from ((x[at : at + 20], y[at : at + 20]) for at in range(0, 101, 20))

    feed = Feed(batches)
    found = labels_of(shuffler(feed, batches), feed)
    assert sorted(found.values()) == sorted(y.tolist())
    once = Feed(batches())
    with pytest.raises(DataError, match="can be read only once"):
        shuffler(once, batches())


def test_what_cannot_be_shuffled_is_refused() -> None:
    x, y = pair()
    with pytest.raises(DataError, match="the data has no labels to shuffle"):
        shuffler(Feed(x), x)
    with pytest.raises(DataError, match="none of the measures reads labels"):
        shuffled([StateTable()])
    assert shuffled([StateTable(strata="label")]) == [StateTable(strata="shuffled label")]
    permuted = shuffler(Feed((x, y)), (x, y))
    with pytest.raises(DataError, match="sample 101 was not there"):
        permuted(Feed(ls.Data((x, y), ids=np.arange(101) + 1)).peek(101))

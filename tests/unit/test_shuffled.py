"""Shuffled labels: one fixed permutation of the samples, known before the first forward, beside the same activations by their own labels."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import layerscope as ls
from layerscope import measures as ms
from layerscope._errors import DataError
from layerscope._shuffled import SHUFFLED, Permuted, shuffled, shuffler
from layerscope.feed import Feed
from layerscope.measures import trust_in
from layerscope.measures._information import _Given
from layerscope.tallies import StateTable
from tests.conftest import require

LABELLED = StateTable(strata="label")


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


# --- under examine ----------------------------------------------------------------------------------------------------------------


def net() -> Any:
    torch = require("torch")
    torch.manual_seed(0)
    nn = torch.nn
    return nn.Sequential(
        nn.Conv2d(1, 5, 3), nn.ReLU(), nn.Flatten(), nn.Linear(180, 6), nn.ReLU(), nn.Linear(6, 10)
    ).eval()


def digits(n: int = 600) -> tuple[np.ndarray, np.ndarray]:
    x, y = ls.datasets.digits(size=8, split="train")
    return np.asarray(x)[:n], np.asarray(y)[:n]


BOTH = ["untrained", SHUFFLED]


@pytest.mark.torch
def test_the_reference_is_what_examine_finds_with_those_labels() -> None:
    """Ours are the same numbers with and without the reference; the reference's those of the permuted labels, by hand."""
    x, y = digits()
    plain, results = ls.examine(net(), (x, y)), ls.examine(net(), (x, y), references=BOTH, batch_size=64)
    assert [*results.references] == ["untrained", SHUFFLED]
    assert results.table[results.table.network == ""].drop(columns="network").equals(plain.table)
    reference = results.references[SHUFFLED]
    permuted = Permuted.of(np.arange(600), y)
    assert not np.array_equal(permuted.labels, y)
    by_hand = ls.examine(net(), (x, permuted.labels), measures=[ms.Information()])
    assert reference.table.equals(by_hand.table)
    assert reference.accuracy is None
    assert [m.name for m in reference.measures] == ["information"]
    assert reference["1"].classes().equals(by_hand["1"].classes())
    assert reference["1"].class_entropy() == pytest.approx(float(by_hand["1"].class_entropy()))


@pytest.mark.torch
def test_shuffled_labels_tell_what_was_computed_without_shuffling() -> None:
    """The plain count by shuffled labels lies about the analytic mean, over several permutations; by the true ones far above."""
    x, y = digits()
    off: list[float] = []
    orders = [np.random.default_rng(seed).permutation(600).astype(np.int64) for seed in range(12)]
    every = [
        ls.examine(net(), ls.Data((x, y), ids=order), references=[SHUFFLED], layers="1", samples=600)
        for order in orders  # other ids are another permutation
    ]
    for results in every:
        mine, theirs = results["1"].value(LABELLED), results.references[SHUFFLED]["1"].value(LABELLED)
        expected, seen = (_Given.of(value) for value in (mine, theirs))
        h = trust_in(mine).plug_in
        off.append((h - seen.plug_in) - (h - expected.by_chance))
        assert h - expected.plug_in > 2 * (h - expected.by_chance)
    error = float(np.std(off, ddof=1)) / np.sqrt(len(off))
    assert abs(np.mean(off)) < 4 * error + 0.002
    assert error < 0.01
    information = every[-1].references[SHUFFLED]["1"].information()
    assert abs(float(information)) < 0.01 < float(every[-1]["1"].information())


@pytest.mark.torch
def test_numbers_stand_beside_ours() -> None:
    results = ls.examine(net(), digits(), references=BOTH)
    table = results.beside()
    assert [*table.columns[-2:]] == BOTH
    assert len(table) == len(results) * len(results.measures)
    told = table[table.measure == "information"].set_index("layer")
    for name in results:
        assert told[SHUFFLED][name] == float(results.references[SHUFFLED][name].information())
        assert told["untrained"][name] == float(results.references["untrained"][name].information())
    assert table[table.measure != "information"][SHUFFLED].isna().all()
    assert [*ls.examine(net(), digits()).beside().columns] == [*table.columns[:-2]]


@pytest.mark.torch
def test_shards_files_and_loaders(tmp_path: Path) -> None:
    torch = require("torch")
    x, y = digits()
    how: dict[str, Any] = {"references": [SHUFFLED], "batch_size": 50}
    whole = ls.examine(net(), (x, y), **how)
    one, two = (ls.examine(net(), (x, y), shard=(i, 2), **how) for i in range(2))
    assert one.merge(two).beside().equals(whole.beside())
    assert ls.load(whole.save(tmp_path / "r.lscope")).beside().equals(whole.beside())
    dataset = torch.utils.data.TensorDataset(torch.from_numpy(x), torch.from_numpy(y))
    assert ls.examine(net(), torch.utils.data.DataLoader(dataset, 50), **how).beside().equals(whole.beside())
    model = net()
    loader = torch.utils.data.DataLoader(dataset, 50, shuffle=True)
    state = torch.get_rng_state()
    shuffling = ls.examine(model, loader, references=[SHUFFLED])
    assert torch.equal(torch.get_rng_state(), state)
    taken = shuffling.references[SHUFFLED]["1"].classes()["samples"]
    assert taken.tolist() == np.bincount(y).tolist()


@pytest.mark.torch
def test_transformed_and_masked_samples_keep_one_label() -> None:
    x, y = digits(60)
    turned = ls.examine(
        net(),
        (x, y),
        transformations=ls.transformations.rotations(4),
        measures=[ms.Information()],
        references=[SHUFFLED],
    )
    assert turned.references[SHUFFLED]["1"].classes()["samples"].sum() == 60
    assert turned.references[SHUFFLED]["1"].classes()["observations"].sum() == 60 * 4 * 36


@pytest.mark.torch
def test_an_interrupted_run_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from layerscope import _manifest

    x, y = digits()
    whole = ls.examine(net(), (x, y), references=BOTH, batch_size=50)
    monkeypatch.setattr(_manifest, "SAVE_EVERY", 0.0)
    path, calls = tmp_path / "run.lscope", []

    def stop(model: Any, inputs: Any) -> None:
        calls.append(1)
        if len(calls) == 8:
            raise KeyboardInterrupt

    model = net()
    hook = model.register_forward_pre_hook(stop)
    with pytest.raises(KeyboardInterrupt):
        ls.examine(model, (x, y), references=BOTH, batch_size=50, resume=path)
    hook.remove()
    again = ls.examine(model, (x, y), references=BOTH, batch_size=50, resume=path)
    assert again.beside().equals(whole.beside())


@pytest.mark.torch
def test_references_that_cannot_be_are_refused() -> None:
    x, y = digits(40)
    with pytest.raises(DataError, match="none of the measures reads labels"):
        ls.examine(net(), x, references=[SHUFFLED])
    with pytest.raises(DataError, match="none of the measures reads labels"):
        ls.examine(net(), (x, y), references=[SHUFFLED], measures=[ms.Entropy()])
    with pytest.raises(DataError, match="can be read only once"):
        ls.examine(net(), iter([(x[:20], y[:20]), (x[20:], y[20:])]), references=[SHUFFLED])
    with pytest.raises(DataError, match="the data has no labels to shuffle"):
        ls.examine(net(), x, references=[SHUFFLED], measures=[ms.Information()])

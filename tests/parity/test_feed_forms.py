"""One set of samples in every form people keep data in: the feed gives the same samples, labels and ids from each."""

from collections import UserDict
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest

from layerscope.feed import Batch, Data, Feed
from tests.conftest import require

torch = require("torch")
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset  # noqa: E402

N = 23
X = np.random.default_rng(0).standard_normal((N, 3, 2)).astype(np.float32)
Y = np.random.default_rng(1).integers(0, 4, N)
MASK = np.arange(3) < 1 + np.arange(N)[:, None] % 3  # (N, 3): one to three of three positions count
TX, TY = torch.from_numpy(X), torch.from_numpy(Y)
CUTS = [(0, 5), (5, 6), (6, 17), (17, N)]  # batches of different sizes, one of a single sample


class Pairs(Dataset):
    def __len__(self) -> int:
        return N

    def __getitem__(self, i: int) -> tuple[Any, int]:
        return TX[i], int(TY[i])


class Streamed(IterableDataset):
    def __iter__(self) -> Any:
        return ((TX[i], TY[i]) for i in range(N))


class Dicts(Dataset):
    def __len__(self) -> int:
        return N

    def __getitem__(self, i: int) -> dict[str, Any]:
        return {"values": TX[i], "labels": TY[i]}


class Encoding(UserDict):
    """A mapping that is no dict, as tokenizers give."""


def encode(samples: list[dict[str, Any]]) -> Encoding:
    return Encoding({key: torch.stack([sample[key] for sample in samples]) for key in samples[0]})


def batches(x: Any = X, y: Any = Y) -> list[tuple[Any, Any]]:
    return [(x[a:b], y[a:b]) for a, b in CUTS]


def memmap(tmp_path: Any) -> tuple[Any, Any]:
    for name, array in (("x", X), ("y", Y)):
        np.save(tmp_path / f"{name}.npy", array)
    return tuple(np.load(tmp_path / f"{name}.npy", mmap_mode="r") for name in ("x", "y"))


def zarr(tmp_path: Any) -> tuple[Any, Any]:
    zarr = require("zarr")
    x = zarr.create_array(str(tmp_path / "x.zarr"), data=X, chunks=(4, 3, 2))
    return x, zarr.create_array(str(tmp_path / "y.zarr"), data=Y, chunks=(4,))


def h5py(tmp_path: Any) -> tuple[Any, Any]:
    file = require("h5py").File(tmp_path / "data.h5", "w")
    return file.create_dataset("x", data=X), file.create_dataset("y", data=Y)


def jax(_: Any) -> tuple[Any, Any]:
    jnp = require("jax.numpy")
    return jnp.asarray(X), jnp.asarray(Y.astype(np.int32))


def tensorflow(_: Any) -> tuple[Any, Any]:
    tf = require("tensorflow")
    return tf.constant(X), tf.constant(Y)


def tf_data(_: Any) -> Any:
    return require("tensorflow").data.Dataset.from_tensor_slices((X, Y))


def py_dataset(_: Any) -> Any:
    class Batches(require("keras").utils.PyDataset):
        def __len__(self) -> int:
            return len(CUTS)

        def __getitem__(self, i: int) -> tuple[Any, Any]:
            return batches()[i]

    return Batches()


@dataclass(frozen=True)
class Form:
    """How to make the data; what the inputs are called; whether there are labels; where its arrays come from."""

    make: Callable[[Any], Any]
    inputs: tuple[int | str, ...] = (0,)
    labels: bool = True
    mask: bool = False
    kind: str = "torch"
    restartable: bool = True
    addressable: bool = True
    say: dict[str, Any] | None = None


FORMS: dict[str, Form] = {
    "loader of pairs": Form(lambda _: DataLoader(Pairs(), batch_size=6)),
    "loader of inputs": Form(lambda _: DataLoader(TensorDataset(TX), batch_size=6), labels=False),
    "loader of dicts": Form(lambda _: DataLoader(Dicts(), batch_size=6), ("values",)),
    "loader of encodings": Form(lambda _: DataLoader(Dicts(), batch_size=6, collate_fn=encode), ("values",)),
    "loader that batches by itself": Form(lambda _: DataLoader(Pairs(), batch_size=None), addressable=False),
    "map-style dataset": Form(lambda _: Pairs()),
    "dataset of dicts": Form(lambda _: Dicts(), ("values",)),
    "iterable dataset": Form(lambda _: Streamed(), addressable=False),
    "loader of an iterable dataset": Form(lambda _: DataLoader(Streamed(), batch_size=6), addressable=False),
    "tensor dataset": Form(lambda _: TensorDataset(TX, TY)),
    "array": Form(lambda _: X, labels=False, kind="numpy"),
    "tensor": Form(lambda _: TX, labels=False),
    "pair of arrays": Form(lambda _: (X, Y), kind="numpy"),
    "pair of tensors": Form(lambda _: (TX, TY)),
    "pair with a list of labels": Form(lambda _: (X, Y.tolist()), kind="numpy"),
    "pair with one-hot labels": Form(lambda _: (X, np.eye(4, dtype=np.float32)[Y]), kind="numpy"),
    "pair of jax arrays": Form(jax, kind="jaxlib"),
    "pair of tensorflow tensors": Form(tensorflow, kind="tensorflow"),
    "dict of arrays": Form(
        lambda _: {"input_ids": X, "attention_mask": MASK.astype(np.int64), "labels": Y},
        ("input_ids",),
        mask=True,
        kind="numpy",
    ),
    "several inputs": Form(lambda _: ((TX, TX), TY), (0, 1)),
    "several inputs by name": Form(lambda _: ({"a": X, "b": X}, Y), ("a", "b"), kind="numpy"),
    "list of batches": Form(lambda _: batches(), kind="numpy", addressable=False),
    "list of lists, as a loader's": Form(lambda _: [list(b) for b in batches(TX, TY)], addressable=False),
    "list of samples": Form(lambda _: list(zip(X, Y, strict=True)), kind="numpy"),
    "generator of batches": Form(lambda _: iter(batches(TX, TY)), restartable=False, addressable=False),
    "generator of samples": Form(lambda _: zip(TX, TY, strict=True), restartable=False, addressable=False),
    "generator of inputs": Form(
        lambda _: (x for x, _ in batches()), labels=False, kind="numpy", restartable=False, addressable=False
    ),
    "function": Form(lambda _: lambda: (b for b in batches()), kind="numpy", addressable=False),
    "function that gives a pair": Form(lambda _: lambda: (X, Y), kind="numpy"),
    "memmap": Form(memmap, kind="numpy"),
    "zarr": Form(zarr, kind="numpy"),
    "hdf5": Form(h5py, kind="numpy"),
    "tf.data of samples": Form(tf_data, kind="tensorflow", addressable=False),
    "tf.data of batches": Form(lambda _: tf_data(_).batch(6), kind="tensorflow", addressable=False),
    "keras PyDataset": Form(py_dataset, kind="numpy", addressable=False),
    "three arrays, explained": Form(lambda _: (X, X, Y), (0, 1), kind="numpy", say={"inputs": [0, 1], "label": 2}),
    "a list of arrays, explained": Form(lambda _: [X, Y], kind="numpy", say={"inputs": 0, "label": 1}),
    "an array and its labels": Form(lambda _: X, kind="numpy", say={"label": Y}),
    "a loader, by functions": Form(
        lambda _: DataLoader(Pairs(), batch_size=6), say={"inputs": lambda b: b[0], "label": lambda b: b[1]}
    ),
    "a dataset, by functions": Form(lambda _: Pairs(), say={"inputs": lambda b: b[0], "label": lambda b: b[1]}),
    "a dict, by key": Form(lambda _: {"a": X, "b": X, "c": Y}, kind="numpy", say={"inputs": "a", "label": "c"}),
    "numbers turned into arrays": Form(
        lambda _: (X.tolist(), Y), kind="numpy", say={"preprocess": lambda x: np.asarray(x, np.float32)}
    ),
}


def feed_of(form: Form, tmp_path: Any, **options: Any) -> Feed:
    source = form.make(tmp_path)
    return Feed(source if form.say is None else Data(source, **form.say), **options)


def host(x: Any) -> np.ndarray:
    return np.asarray(x)


def check(batches: list[Batch], form: Form, index: np.ndarray) -> None:
    """The batches hold exactly the samples of `index`, in that order, with everything that belongs to them."""
    assert sum(len(batch.samples) for batch in batches) == len(index)
    seen = 0
    for batch in batches:
        here = index[seen : seen + len(batch.samples)]
        rows = np.concatenate([here, np.repeat(here[-1:], batch.size - len(here))])
        given = {**dict(enumerate(batch.args)), **batch.kwargs}
        assert set(given) == {*form.inputs} | ({"attention_mask"} if form.mask else set())
        for name in form.inputs:
            assert type(given[name]).__module__.split(".")[0] == form.kind
            np.testing.assert_array_equal(host(given[name]), X[rows])
        assert batch.samples.ids.dtype == np.int64
        np.testing.assert_array_equal(batch.samples.ids, here)
        if form.labels:
            assert batch.samples.labels is not None
            assert batch.samples.labels.dtype == np.int64
            np.testing.assert_array_equal(batch.samples.labels, Y[here])
            assert len(batch.targets) == len(here)
        else:
            assert batch.samples.labels is None
            assert batch.targets is None
        if form.mask:
            assert batch.samples.mask is not None
            assert batch.samples.mask.dtype == np.bool_
            np.testing.assert_array_equal(batch.samples.mask, MASK[here])
        else:
            assert batch.samples.mask is None
        seen += len(here)


every_form = pytest.mark.parametrize("name", FORMS)


@every_form
@pytest.mark.parametrize("batch_size", [None, 1, 7, 40])
def test_every_form_gives_the_same_samples(name, batch_size, tmp_path):
    feed = feed_of(FORMS[name], tmp_path, batch_size=batch_size)
    given = list(feed)
    check(given, FORMS[name], np.arange(N))
    assert [batch.number for batch in given] == list(range(len(given)))
    assert feed.length in (None, N)
    assert feed.batches in (None, len(given))
    if batch_size is not None:
        assert {batch.size for batch in given} == {batch_size} == {feed.batch_size}
    assert feed.notes


@every_form
def test_every_form_begins_anew_or_says_that_it_cannot(name, tmp_path):
    feed = feed_of(FORMS[name], tmp_path, batch_size=4)
    check(list(feed), FORMS[name], np.arange(N))
    assert feed.restartable is FORMS[name].restartable
    if feed.restartable:
        check(list(feed), FORMS[name], np.arange(N))
    else:
        with pytest.raises(ValueError, match="used up"):
            list(feed)


@every_form
@pytest.mark.parametrize("n", [1, 6, 9, 100])
def test_every_form_can_be_peeked_at(name, n, tmp_path):
    feed = feed_of(FORMS[name], tmp_path)
    peeked = feed.peek(n)
    check([peeked], FORMS[name], np.arange(min(n, N)))
    assert peeked.size == len(peeked.samples)
    check(list(feed), FORMS[name], np.arange(N))


@every_form
def test_shards_of_every_form_are_its_batches(name, tmp_path):
    def batches(shard: tuple[int, int] | None) -> list[Batch]:
        feed = feed_of(FORMS[name], tmp_path / f"{shard}", batch_size=5, shard=shard)
        given = list(feed)
        assert feed.length in (None, sum(len(batch.samples) for batch in given))
        assert feed.batches in (None, len(given))
        return given

    for shard in (None, *((i, 3) for i in range(3))):
        (tmp_path / f"{shard}").mkdir()
    shards = [batch for i in range(3) for batch in batches((i, 3))]
    shards.sort(key=lambda batch: batch.number)
    check(shards, FORMS[name], np.arange(N))
    assert [batch.number for batch in shards] == [batch.number for batch in batches(None)]


@every_form
@pytest.mark.parametrize("samples", [1, 10, N, 50])
def test_samples_are_spread_over_addressable_data_and_first_of_streams(name, samples, tmp_path):
    feed = feed_of(FORMS[name], tmp_path, samples=samples)
    k = min(samples, N)
    check(list(feed), FORMS[name], np.arange(k) * N // k if FORMS[name].addressable else np.arange(k))
    assert feed.length in (None, k)
    said = [note for note in feed.notes if "evenly spaced" in note or "first" in note]
    assert bool(said) or samples >= N


def test_there_are_forms_enough():
    assert len(FORMS) >= 14
    assert {form.kind for form in FORMS.values()} == {"numpy", "torch", "jaxlib", "tensorflow"}


# A checker that cannot fail checks nothing.
CANARIES: dict[str, Callable[[Batch], Batch]] = {
    "another order": lambda b: replace(b, args=(b.args[0].flip(0),)),
    "another value": lambda b: replace(b, args=(b.args[0] + 1e-6,)),
    "padding of zeros": lambda b: replace(
        b, args=(b.args[0] * (torch.arange(b.size) < len(b.samples))[:, None, None],)
    ),
    "another framework": lambda b: replace(b, args=(b.args[0].numpy(),)),
    "inputs by name": lambda b: replace(b, args=(), kwargs={"x": b.args[0]}),
    "labels in the inputs": lambda b: replace(b, kwargs={"labels": b.targets}),
    "other labels": lambda b: replace(b, samples=replace(b.samples, labels=(np.asarray(b.samples.labels) + 1) % 4)),
    "no labels": lambda b: replace(b, samples=replace(b.samples, labels=None)),
    "narrow labels": lambda b: replace(b, samples=replace(b.samples, labels=np.asarray(b.samples.labels, np.int32))),
    "ids from 1": lambda b: replace(b, samples=replace(b.samples, ids=b.samples.ids + 1)),
    "a mask from nowhere": lambda b: replace(b, samples=replace(b.samples, mask=np.ones((len(b.samples), 3), bool))),
    "padded targets": lambda b: replace(b, targets=torch.zeros(b.size)),
}


def test_the_check_passes_what_is_right():
    check(list(Feed((TX, TY), batch_size=5)), FORMS["pair of tensors"], np.arange(N))


@pytest.mark.parametrize("name", CANARIES)
def test_the_check_refuses(name):
    batches = list(Feed((TX, TY), batch_size=5))
    with pytest.raises((AssertionError, ValueError, TypeError)):
        check([*batches[:-1], CANARIES[name](batches[-1])], FORMS["pair of tensors"], np.arange(N))


def test_the_check_refuses_lost_samples():
    with pytest.raises(AssertionError):
        check(list(Feed((TX, TY), batch_size=5))[:-1], FORMS["pair of tensors"], np.arange(N))

"""Real digits: the same everywhere, and never one set in the place of another."""

import gzip
import sys
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from layerscope import datasets
from layerscope._errors import DataError
from tests.conftest import require


@pytest.fixture(scope="module")
def recorded() -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    loaded = require("sklearn.datasets").load_digits()
    return loaded.images, loaded.target


def test_at_their_own_size_digits_are_the_recorded_pixels(recorded):
    x, y = datasets.digits(8, split="all", normalize=False)
    np.testing.assert_array_equal(x[:, 0], recorded[0].astype(np.float32))
    np.testing.assert_array_equal(y, recorded[1])
    assert (x.dtype, y.dtype) == (np.float32, np.int64)


def test_the_splits_are_parts_of_the_whole(recorded):
    test, train, whole = (datasets.digits(8, split=split) for split in ("test", "train", "all"))
    assert len(test[1]) == 500
    together = np.concatenate([test[0], train[0]]).reshape(len(whole[1]), -1)
    assert sorted(map(bytes, together)) == sorted(map(bytes, whole[0].reshape(len(whole[1]), -1)))


def test_every_class_is_held_out_alike():
    share = np.bincount(datasets.digits(8)[1]) / np.bincount(datasets.digits(8, split="all")[1])
    np.testing.assert_allclose(share, 500 / 1797, atol=0.005)  # whole images, about 180 a class


def test_the_split_is_the_same_everywhere():
    first = [4, 6, 0, 5, 3, 8, 5, 9, 1, 1, 2, 0, 1, 2, 6, 3, 9, 2, 8, 0]
    assert datasets.digits(8)[1][:20].tolist() == first  # as of the first version: numbers in pages hang on it
    assert not np.array_equal(datasets.digits(8, seed=1)[0], datasets.digits(8, seed=0)[0])


@pytest.mark.parametrize("size", [5, 8, 13, 28, 32])
@pytest.mark.torch
def test_enlarging_is_bilinear_as_in_torch(size, recorded):
    torch = require("torch")
    x, _ = datasets.digits(size, split="all")
    small = torch.as_tensor(recorded[0] / 16)[:, None]
    theirs = torch.nn.functional.interpolate(small, (size, size), mode="bilinear", align_corners=False)
    assert x.shape == (1797, 1, size, size)
    np.testing.assert_allclose(x, theirs.numpy(), atol=1e-6)  # float32 against float64
    assert x.min() >= 0
    assert x.max() <= 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [({"split": "valid"}, "none of 'train', 'test', 'all'"), ({"size": 0}, "size=0 holds no pixel")],
)
def test_digits_say_what_is_wrong(arguments, message):
    with pytest.raises(DataError, match=message):
        datasets.digits(**arguments)


def test_digits_without_scikit_learn_say_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(ImportError, match="pip install scikit-learn"):
        datasets.digits()


# ---- MNIST, in the format of its files, with made-up pixels


def idx(values: NDArray[np.uint8], magic: int | None = None) -> bytes:
    magic = 0x800 + values.ndim if magic is None else magic
    return np.array([magic, *values.shape], dtype=">u4").tobytes() + values.tobytes()


def made_up(count: int, seed: int = 0) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (count, 28, 28), dtype=np.uint8), (np.arange(count) % 10).astype(np.uint8)


TRAIN, TEST = made_up(7), made_up(5, seed=1)


def write_idx(folder: Path, *, packed: bool = False, dotted: bool = False) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for prefix, (images, labels) in (("train", TRAIN), ("t10k", TEST)):
        for kind, values in (("images-idx3", images), ("labels-idx1", labels)):
            name = f"{prefix}-{kind.replace('-', '.') if dotted else kind}-ubyte"
            (folder / (name + ".gz" * packed)).write_bytes(gzip.compress(idx(values)) if packed else idx(values))
    return folder


def write_npz(path: Path, **changes) -> Path:
    arrays = {"x_train": TRAIN[0], "y_train": TRAIN[1], "x_test": TEST[0], "y_test": TEST[1], **changes}
    np.savez(path, **{name: array for name, array in arrays.items() if array is not None})
    return path


@pytest.mark.parametrize("form", ["idx", "gz", "dotted", "below", "npz"])
def test_mnist_reads_every_form_alike(form, tmp_path):
    path = {
        "idx": lambda: write_idx(tmp_path),
        "gz": lambda: write_idx(tmp_path, packed=True),
        "dotted": lambda: write_idx(tmp_path, dotted=True),
        "below": lambda: write_idx(tmp_path / "MNIST" / "raw").parents[1],
        "npz": lambda: write_npz(tmp_path / "mnist.npz"),
    }[form]()
    x, y = datasets.mnist(path, normalize=False)
    np.testing.assert_array_equal(x[:, 0], TEST[0])
    np.testing.assert_array_equal(y, TEST[1])
    assert (x.dtype, y.dtype) == (np.float32, np.int64)
    x, y = datasets.mnist(path, split="all")
    np.testing.assert_array_equal(x[:, 0], np.concatenate([TRAIN[0], TEST[0]]).astype(np.float32) / 255)
    np.testing.assert_array_equal(y, np.concatenate([TRAIN[1], TEST[1]]))


def test_a_missing_path_says_what_to_give(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"there is no .*nowhere.*train-images-idx3-ubyte.*x_train.*digits\(\)"):
        datasets.mnist(tmp_path / "nowhere")


def test_an_empty_folder_names_the_files_it_looked_for(tmp_path):
    with pytest.raises(
        FileNotFoundError, match=r"t10k-images-idx3-ubyte, t10k-images-idx3-ubyte\.gz, t10k-images\.idx3"
    ):
        datasets.mnist(tmp_path)


IMAGES = "t10k-images-idx3-ubyte"


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (IMAGES, idx(TEST[0], magic=0x801), r"starts with \[2049.*not with \[2051"),
        (IMAGES, idx(TEST[0][:, :8, :8]), "no such file of MNIST"),
        (IMAGES, idx(TEST[0])[:-1], "holds 3,935.*damaged or cut short"),
        (IMAGES, idx(TEST[0]) + b"x", "damaged or cut short"),
        (IMAGES, b"\0\0\x08", r"starts with \[\]"),
        # 4 billion images in the header, five in the file: refused before anything is allocated
        (
            IMAGES,
            np.array([0x803, 2**32 - 1, 28, 28], dtype=">u4").tobytes() + bytes(5 * 784),
            "should hold 3,367,254,3",
        ),
        (IMAGES, idx(TEST[0][:4]), "4 images.*5 labels.*do not belong together"),
        ("t10k-labels-idx1-ubyte", idx(TEST[1] + np.uint8(9)), "has the label 13"),
    ],
)
def test_files_that_are_no_mnist_are_refused(name, content, message, tmp_path):
    (write_idx(tmp_path) / name).write_bytes(content)
    with pytest.raises(DataError, match=message):
        datasets.mnist(tmp_path)


def test_a_set_without_images_is_refused(tmp_path):
    write_idx(tmp_path)
    (tmp_path / IMAGES).write_bytes(idx(TEST[0][:0]))
    (tmp_path / "t10k-labels-idx1-ubyte").write_bytes(idx(TEST[1][:0]))
    with pytest.raises(DataError, match="holds no images"):
        datasets.mnist(tmp_path)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda packed: packed[: len(packed) // 2], "no whole gzip file|should hold"),
        (lambda packed: b"not gzip at all", "no whole gzip file"),
        (lambda packed: packed[:-4] + b"\0\0\0\0", "should hold|no whole gzip"),
    ],
)
def test_damaged_gzip_is_refused(damage, message, tmp_path):
    write_idx(tmp_path, packed=True)
    file = tmp_path / f"{IMAGES}.gz"
    file.write_bytes(damage(file.read_bytes()))
    with pytest.raises(DataError, match=message):
        datasets.mnist(tmp_path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"x_test": None}, "has no x_test; it has"),
        ({"x_test": TEST[0][:, :8, :8]}, r"shape \(5, 8, 8\).*no such array of MNIST"),
        ({"x_test": TEST[0] / 255}, "float64 of shape"),
        ({"x_test": TEST[0].astype(np.int16) - 1}, "outside 0 … 255"),
        ({"y_test": TEST[1][:3]}, "5 images.*3 labels"),
        ({"y_test": TEST[1] + 9}, "has the label 13"),
    ],
)
def test_archives_that_are_no_mnist_are_refused(changes, message, tmp_path):
    with pytest.raises(DataError, match=message):
        datasets.mnist(write_npz(tmp_path / "mnist.npz", **changes))


def test_objects_in_an_archive_are_never_unpickled(tmp_path):
    path = write_npz(tmp_path / "mnist.npz", x_test=np.array([print] * 5, dtype=object))
    with pytest.raises(DataError, match="no such array of MNIST"):
        datasets.mnist(path)


def test_a_file_of_another_kind_is_refused(tmp_path):
    (tmp_path / "mnist.npz").write_bytes(b"hello")
    with pytest.raises(DataError, match="neither a folder nor an"):
        datasets.mnist(tmp_path / "mnist.npz")


def test_an_unknown_split_is_refused(tmp_path):
    with pytest.raises(DataError, match="split='validation' is none of"):
        datasets.mnist(tmp_path, split="validation")  # pyright: ignore[reportArgumentType] - the mistake under test


# ---- CIFAR-10, likewise

COLOURS = np.random.default_rng(2).integers(0, 256, (6, 3, 32, 32), dtype=np.uint8)
CLASSES = np.arange(6, dtype=np.uint8)


def write_batches(folder: Path, cut: int = 0) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    records = np.concatenate([CLASSES[:, None], COLOURS.reshape(6, -1)], axis=1)
    for k in range(5):
        (folder / f"data_batch_{k + 1}.bin").write_bytes(records[k : k + 1].tobytes())
    whole = records[5:].tobytes()
    (folder / "test_batch.bin").write_bytes(whole[: len(whole) - cut])
    return folder


@pytest.mark.parametrize("below", ["", "cifar-10-batches-bin"])
def test_cifar10_is_read_from_its_binary_batches(below, tmp_path):
    write_batches(tmp_path / below)
    x, y = datasets.cifar10(tmp_path, split="train", normalize=False)
    np.testing.assert_array_equal(x, COLOURS[:5])
    np.testing.assert_array_equal(y, CLASSES[:5])
    x, y = datasets.cifar10(tmp_path, split="all")
    np.testing.assert_allclose(x, COLOURS / 255, atol=1e-7)
    assert (x.dtype, y.dtype) == (np.float32, np.int64)


@pytest.mark.parametrize("column", [False, True])
def test_cifar10_is_read_from_an_archive(column, tmp_path):
    labels = CLASSES[:, None] if column else CLASSES
    images = np.moveaxis(COLOURS, 1, -1)
    np.savez(tmp_path / "c.npz", x_train=images[:4], y_train=labels[:4], x_test=images[4:], y_test=labels[4:])
    x, y = datasets.cifar10(tmp_path / "c.npz", normalize=False)
    np.testing.assert_array_equal(x, COLOURS[4:])
    np.testing.assert_array_equal(y, CLASSES[4:])


def test_batches_that_are_no_cifar10_are_refused(tmp_path):
    with pytest.raises(DataError, match="no whole number of records of 3,073"):
        datasets.cifar10(write_batches(tmp_path / "cut", cut=1))
    with pytest.raises(FileNotFoundError, match="there is no"):
        datasets.cifar10(tmp_path / "nowhere")
    with pytest.raises(DataError, match="split='dev' is none of"):
        datasets.cifar10(tmp_path, split="dev")  # pyright: ignore[reportArgumentType] - the mistake under test
    np.savez(tmp_path / "m.npz", x_test=TEST[0], y_test=TEST[1])
    with pytest.raises(DataError, match="no such array of CIFAR-10"):
        datasets.cifar10(tmp_path / "m.npz")


def test_pickled_batches_are_refused_with_the_reason(tmp_path):
    (tmp_path / "cifar-10-batches-py").mkdir()
    (tmp_path / "cifar-10-batches-py" / "data_batch_1").write_bytes(b"not even a pickle")
    with pytest.raises(FileNotFoundError, match="is pickled: loading it would run whatever its author wrote"):
        datasets.cifar10(tmp_path)

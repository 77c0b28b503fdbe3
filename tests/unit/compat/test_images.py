"""The data sets that come with it: real images, the documented groups of transformations, and never one set in the place of another."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import layerscope.compat.transformational_measures as tm
from layerscope import datasets
from layerscope._errors import DataError
from tests.conftest import require

require("sklearn")
ndimage = require("scipy.ndimage")


def digits(group: int, n: int, size: int = 12) -> tm.DigitsTransformationsDataSet:
    dataset = tm.DigitsTransformationsDataSet(size, samples=5)
    dataset.set_transformation_group(group, n)
    return dataset


def whole(dataset: tm.DataSet) -> Any:
    return dataset.get_matrix(range(dataset.get_height()), range(dataset.get_width()))


def test_rows_are_images_and_columns_transformations() -> None:
    dataset = digits(1, 4)
    assert (dataset.get_height(), dataset.get_width(), dataset.get_data_shape()) == (5, 4, (12, 12, 1))
    x, y = datasets.digits(12)
    np.testing.assert_array_equal(dataset.get_labels(), y[:5])
    matrix = whole(dataset)
    assert (matrix.shape, matrix.dtype) == ((5, 4, 12, 12, 1), np.float32)
    for k in range(4):
        np.testing.assert_allclose(matrix[:, k, ..., 0], np.rot90(x[:5, 0], k, axes=(1, 2)), atol=1e-6)
    np.testing.assert_array_equal(dataset.get_matrix([3, 1], [2]), matrix[[3, 1]][:, [2]])


def test_transposing_twice_is_nothing() -> None:
    dataset = digits(1, 4)
    before = whole(dataset)
    dataset.transpose()
    assert (dataset.is_transpose(), dataset.get_height(), dataset.get_width()) == (True, 4, 5)
    np.testing.assert_array_equal(whole(dataset), np.swapaxes(before, 0, 1))
    np.testing.assert_array_equal(dataset.get_matrix([2], [4, 0]), np.swapaxes(before, 0, 1)[[2]][:, [4, 0]])
    dataset.transpose()
    np.testing.assert_array_equal(whole(dataset), before)


@pytest.mark.parametrize(("group", "x", "y"), [(0, 0, 0), (2, 1, 0), (3, 0, 1), (4, 1, 1)])
def test_translations_are_steps_of_the_size(group: int, x: int, y: int) -> None:
    """12 pixels in 4 steps of 3, to the right and downwards; what comes in from outside is 0."""
    matrix, step = whole(digits(group, 4)), 3
    for k in range(4):
        wanted = np.zeros((5, 12, 12))
        wanted[:, y * k * step :, x * k * step :] = matrix[:, 0, : 12 - y * k * step, : 12 - x * k * step, 0]
        np.testing.assert_allclose(matrix[:, k, ..., 0], wanted, atol=1e-6)


def test_steps_are_not_floored() -> None:
    """10 steps of a width of 12 are 1.2 pixels each."""
    matrix = whole(digits(2, 10))
    wanted = ndimage.shift(matrix[0, 0, ..., 0].astype(float), (0, 1.2), order=1)
    np.testing.assert_allclose(matrix[0, 1, ..., 0], wanted, atol=1e-5)


@pytest.mark.parametrize(("group", "x", "y"), [(5, 1, 0), (6, 0, 1)])
def test_a_rotation_comes_before_its_translation(group: int, x: int, y: int) -> None:
    both, turned = whole(digits(group, 4)), whole(digits(1, 4))
    for k in range(4):
        moved = np.zeros((5, 12, 12))
        moved[:, y * 3 * k :, x * 3 * k :] = turned[:, k, : 12 - y * 3 * k, : 12 - x * 3 * k, 0]
        np.testing.assert_allclose(both[:, k, ..., 0], moved, atol=1e-6)


@pytest.mark.parametrize("group", range(7))
def test_an_inverse_takes_back_what_was_done(group: int) -> None:
    """Of a smooth picture in the middle, as far as it stays in the image."""
    dataset = digits(group, 8, size=28)
    y, x = np.mgrid[:28, :28] - 13.5
    picture = np.exp(-((x - 1) ** 2 + (y + 2) ** 2) / 36).astype(np.float32)[..., None]
    for k in range(8):
        item = dataset.transformations[k]
        frame = dataset.transformations.frame_of(picture[None])
        there, inside = item.apply(picture[None], frame)[0], item.supported((28, 28), frame)
        back = dataset.apply_inverse_transformation(there, k)
        assert np.abs(back - picture)[inside].max() < 0.05, item.name
        assert inside.any()
        assert group == 0 or k == 0 or np.abs(there - picture).max() > 0.1
        np.testing.assert_array_equal(dataset.apply_inverse_transformation(there[..., 0], k), back[..., 0])


def test_an_inverse_takes_one_tensor() -> None:
    with pytest.raises(DataError, match="a tensor has shape"):
        digits(1, 4).apply_inverse_transformation(np.zeros((2, 3, 12, 12)), 0)


def test_there_are_seven_groups() -> None:
    dataset = digits(0, 2)
    assert dataset.get_size_transformations_groups() == len(dataset.groups) == 7
    with pytest.raises(DataError, match="groups are 0 to 6"):
        dataset.set_transformation_group(7, 4)


def test_without_a_group_there_is_no_matrix() -> None:
    with pytest.raises(DataError, match=r"Say which group and how many: .*set_transformation_group\(1, 16\)"):
        tm.DigitsTransformationsDataSet(12).get_width()


@pytest.mark.parametrize("samples", [0, 501])
def test_no_more_images_than_there_are(samples: int) -> None:
    with pytest.raises(DataError, match="there are 500 images"):
        tm.DigitsTransformationsDataSet(12, samples=samples)


# ---- MNIST and CIFAR-10, in the format of their files, with made-up pixels


def write_mnist(path: Path) -> tuple[Any, Any]:
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 256, (12, 28, 28), dtype=np.uint8), np.arange(12, dtype=np.uint8) % 10
    np.savez(path, x_train=x, y_train=y, x_test=x[:6], y_test=y[:6])
    return x, y


def test_mnist_comes_from_a_file(tmp_path: Path) -> None:
    x, y = write_mnist(tmp_path / "mnist.npz")
    dataset = tm.MnistTransformationsDataSet(tmp_path / "mnist.npz", split="train", samples=10)
    dataset.set_transformation_group(0, 2)
    assert (dataset.get_height(), dataset.get_data_shape()) == (10, (28, 28, 1))
    np.testing.assert_allclose(whole(dataset)[:, 1, ..., 0], x[:10] / 255, atol=1e-6)
    np.testing.assert_array_equal(dataset.get_labels(), y[:10])
    raw = tm.MnistTransformationsDataSet(tmp_path / "mnist.npz", normalize=False)
    assert raw.images.max() > 200


def test_mnist_is_looked_for_where_keras_puts_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    for kind in (tm.MnistTransformationsDataSet, tm.MnistDataSet):
        with pytest.raises(FileNotFoundError, match=r"Put mnist.npz there .*Nothing is downloaded.*needs no file"):
            kind()
    (tmp_path / "datasets").mkdir()
    write_mnist(tmp_path / "datasets" / "mnist.npz")
    assert len(tm.MnistTransformationsDataSet().images) == 6


def test_mnist_as_it_is_fills_a_matrix(tmp_path: Path) -> None:
    x, _ = write_mnist(tmp_path / "mnist.npz")
    dataset = tm.MnistDataSet(tmp_path / "mnist.npz", split="train", height=4, width=3)
    np.testing.assert_allclose(whole(dataset)[..., 0], x.reshape(4, 3, 28, 28) / 255, atol=1e-6)
    np.testing.assert_allclose(dataset.get_matrix([2], [1])[0, 0, ..., 0], x[7] / 255, atol=1e-6)
    dataset.transpose()
    assert (dataset.get_height(), dataset.get_width(), dataset.is_transpose()) == (3, 4, True)
    np.testing.assert_allclose(dataset.get_matrix([1], [2])[0, 0, ..., 0], x[7] / 255, atol=1e-6)
    with pytest.raises(DataError, match="4 × 4 images cannot be made of 12"):
        tm.MnistDataSet(tmp_path / "mnist.npz", split="train", height=4, width=4)


def test_cifar10_comes_from_its_binary_files(tmp_path: Path) -> None:
    x = np.random.default_rng(0).integers(0, 256, (4, 3, 32, 32), dtype=np.uint8)
    records = np.concatenate([np.arange(4, dtype=np.uint8)[:, None], x.reshape(4, -1)], axis=1)
    (tmp_path / "test_batch.bin").write_bytes(records.tobytes())
    dataset = tm.Cifar10TransformationsDataSet(tmp_path)
    dataset.set_transformation_group(2, 2)
    assert dataset.get_data_shape() == (32, 32, 3)
    np.testing.assert_allclose(whole(dataset)[:, 0], np.moveaxis(x, 1, -1) / 255, atol=1e-6)
    np.testing.assert_array_equal(dataset.get_labels(), np.arange(4))

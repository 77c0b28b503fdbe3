"""Images under the published groups of transformations: the data sets that come with layerscope."""

import abc
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from ... import datasets
from ..._errors import DataError
from ...transformations import Frame, Transformations, published
from ._dataset import DataSet, TransformationsDataSet

GROUPS = (
    "identity",
    "rotations",
    "x-translations",
    "y-translations",
    "x,y-translations",
    "rotations and x-translations",
    "rotations and y-translations",
)
"""The groups by number; column i of n turns by i · 360° / n and shifts by i / n of the image's size."""

Split = Literal["train", "test", "all"]


class AbstractImages(TransformationsDataSet):
    """Images, one a row, under the transformations of a published group, one a column.

    Images are (height, width, channels).
    **Attributes:** `images`, `labels` of the samples, `transformations` of the group, `groups` their names.
    """

    groups: ClassVar[tuple[str, ...]] = GROUPS

    @abc.abstractmethod
    def __init__(self, images: NDArray[np.float32], labels: NDArray[np.int64], samples: int | None) -> None:
        """From images (N, channels, height, width): the first so many samples, or all."""
        if samples is not None and not 1 <= samples <= len(images):
            raise DataError(
                f"{type(self).__name__}: samples={samples!r}: there are {len(images):,} images. Give 1 to {len(images):,}."
            )
        self.images = np.ascontiguousarray(np.moveaxis(images[:samples], 1, -1))
        self.labels = labels[:samples]
        self._set: Transformations | None = None
        self._transposed = False

    @property
    def transformations(self) -> Transformations:
        if self._set is None:
            raise DataError(
                f"{type(self).__name__}: no transformations were chosen yet. Say which group and how many: "
                "dataset.set_transformation_group(1, 16) for 16 rotations."
            )
        return self._set

    def set_transformation_group(self, group: int, n: int) -> None:
        """Take n transformations of a group as columns: see `groups`."""
        self._set = published(group, n, channels="last")

    def get_size_transformations_groups(self) -> int:
        return len(self.groups)

    def get_labels(self) -> NDArray[np.int64]:
        return self.labels

    def get_data_shape(self) -> tuple[int, ...]:
        return self.images.shape[1:]

    def get_height(self) -> int:
        return len(self.transformations) if self._transposed else len(self.images)

    def get_width(self) -> int:
        return len(self.images) if self._transposed else len(self.transformations)

    def get_matrix(self, rows: Sequence[int], columns: Sequence[int]) -> NDArray[np.float32]:
        samples, turns = (columns, rows) if self._transposed else (rows, columns)
        chosen = Transformations(tuple(self.transformations[k] for k in turns), "last")
        matrix = chosen(self.images[list(samples)]).reshape(len(samples), len(turns), *self.get_data_shape())
        return np.swapaxes(matrix, 0, 1) if self._transposed else matrix

    def transpose(self) -> None:
        self._transposed = not self._transposed

    def is_transpose(self) -> bool:
        return self._transposed

    def apply_inverse_transformation(self, tensor: Any, index_transformation: int) -> NDArray[Any]:
        """What a transformation did to an image or a layer's map, (height, width) or (height, width, features), taken back.

        A map of another size than the images moves by as many pixels fewer; what would come from outside is 0.
        """
        maps: NDArray[Any] = np.asarray(tensor)
        if maps.ndim not in (2, 3):
            raise DataError(
                f"apply_inverse_transformation: a tensor has shape (height, width) or (height, width, features), this one {maps.shape}."
            )
        height, width = self.images.shape[1:3]
        frame = Frame(1, 2, height, width, (1, 2))
        return np.asarray(self.transformations[index_transformation].undo(maps[None], frame))[0]


class MnistTransformationsDataSet(AbstractImages):
    """MNIST under transformations, from a file of the user's: nothing is downloaded, and nothing else is given in its place.

    **Arguments:** `path` see `layerscope.datasets.mnist`; None looks where Keras puts it, `~/.keras/datasets/mnist.npz`. `split`,
    `samples` the first so many, `normalize` pixels 0 … 1, else 0 … 255.
    """

    def __init__(
        self,
        path: str | os.PathLike[str] | None = None,
        *,
        split: Split = "test",
        samples: int | None = None,
        normalize: bool = True,
    ) -> None:
        images, labels = datasets.mnist(mnist_path(path), split=split, normalize=normalize)
        AbstractImages.__init__(self, images, labels, samples)


class Cifar10TransformationsDataSet(AbstractImages):
    """CIFAR-10 under transformations, from files of the user's.

    **Arguments:** `path` see `layerscope.datasets.cifar10`; `split`, `samples`, `normalize` as of `MnistTransformationsDataSet`.
    """

    def __init__(
        self, path: str | os.PathLike[str], *, split: Split = "test", samples: int | None = None, normalize: bool = True
    ) -> None:
        images, labels = datasets.cifar10(Path(path), split=split, normalize=normalize)
        AbstractImages.__init__(self, images, labels, samples)


class DigitsTransformationsDataSet(AbstractImages):
    """The handwritten digits of scikit-learn under transformations: real images that need no file, and no MNIST.

    **Arguments:** see `layerscope.datasets.digits`; `samples` the first so many.
    """

    def __init__(
        self,
        size: int = 28,
        *,
        split: Split = "test",
        samples: int | None = None,
        seed: int = 0,
        normalize: bool = True,
    ) -> None:
        images, labels = datasets.digits(size, split=split, seed=seed, normalize=normalize)
        AbstractImages.__init__(self, images, labels, samples)


class MnistDataSet(DataSet):
    """MNIST as it is, in a matrix: row i and column j hold image i · width + j.

    **Arguments:** `path`, `split`, `normalize` as of `MnistTransformationsDataSet`; `height`, `width` of the matrix.
    """

    def __init__(
        self,
        path: str | os.PathLike[str] | None = None,
        *,
        height: int = 100,
        width: int = 100,
        split: Split = "test",
        normalize: bool = True,
    ) -> None:
        images, labels = datasets.mnist(mnist_path(path), split=split, normalize=normalize)
        if not (height > 0 and width > 0 and height * width <= len(images)):
            raise DataError(
                f"MnistDataSet: a matrix of {height} × {width} images cannot be made of {len(images):,}. Give a smaller height or width."
            )
        shape = (height, width, *images.shape[2:], images.shape[1])
        self.matrix = np.moveaxis(images[: height * width], 1, -1).reshape(shape)
        self.labels = labels[: height * width].reshape(height, width)
        self._transposed = False

    def get_data_shape(self) -> tuple[int, ...]:
        return self.matrix.shape[2:]

    def get_height(self) -> int:
        return self.matrix.shape[0]

    def get_width(self) -> int:
        return self.matrix.shape[1]

    def get_matrix(self, rows: Sequence[int], columns: Sequence[int]) -> NDArray[np.float32]:
        return self.matrix[np.ix_(list(rows), list(columns))]

    def transpose(self) -> None:
        self.matrix, self._transposed = np.swapaxes(self.matrix, 0, 1), not self._transposed

    def is_transpose(self) -> bool:
        return self._transposed


def mnist_path(path: str | os.PathLike[str] | None) -> Path:
    """Where MNIST is: as given, or where Keras puts it.  **Raises:** `FileNotFoundError` that says where to put it."""
    usual = Path(os.environ.get("KERAS_HOME", Path.home() / ".keras")) / "datasets" / "mnist.npz"
    if path is None and not usual.exists():
        raise FileNotFoundError(
            f"MNIST: no path was given, and there is no {usual}. Put mnist.npz there (x_train, y_train, x_test, y_test), or give a path: of "
            "such a file, or of a folder with the four IDX files. Nothing is downloaded, and nothing else is given in its place: "
            "DigitsTransformationsDataSet() needs no file."
        )
    return usual if path is None else Path(path)

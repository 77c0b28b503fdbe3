"""A matrix of inputs as the grid that `ls.examine` walks once: its rows are samples, its columns transformations."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..._errors import DataError
from ..._examine import examine
from ..._results import Results
from ...feed import Data
from ...measures import AbstractMeasure
from ...tallies import to_numpy
from ...transformations import AbstractTransformation, Frame, Transformations
from ...transformations._arrays import beside
from ._dataset import DataSet, TransformationsDataSet
from ._images import AbstractImages
from ._iterator import Iterator, check_size, matrix_of

DEFAULT = 128
"""Inputs of a forward, where nobody says how large a block is."""


@dataclass(frozen=True, eq=False)
class Column(AbstractTransformation):
    """A column of a matrix of inputs: it acts on the place of an input, (row, column), which `Matrix` turns into the input itself."""

    dataset: DataSet
    number: int

    @property
    def name(self) -> str:
        if isinstance(self.dataset, AbstractImages):
            return self.dataset.transformations[self.number].name
        return f"column {self.number}"

    def apply(self, x: Any, frame: Frame) -> Any:
        places = np.array(x)
        places[:, 1] = self.number
        return places

    def inverse(self) -> AbstractTransformation:
        raise DataError(f"{self.name}: a place in a matrix has no inverse; only layers are taken back.")

    def undo(self, values: Any, frame: Frame) -> Any | None:
        """Every output of a layer taken back, as an image (rows, columns, features) where the user's own data set does it."""
        if frame.space is None:
            return None
        if isinstance(self.dataset, AbstractImages):
            return self.dataset.transformations[self.number].undo(values, self._framed(frame))
        maps = np.moveaxis(self._hosted(values), frame.space, (1, 2))
        back = np.stack([self._taken_back(image) for image in maps])
        return beside(values, np.moveaxis(back, (1, 2), frame.space).astype(maps.dtype))

    def supported(self, shape: tuple[int, int], frame: Frame) -> NDArray[np.bool_]:
        """For a data set of the user's: the places whose value follows that of the map, and is no filling."""
        if isinstance(self.dataset, AbstractImages):
            return self.dataset.transformations[self.number].supported(shape, self._framed(frame))
        ones = np.ones((*shape, 1), np.float32)
        follows = np.abs(self._taken_back(2 * ones) - self._taken_back(ones))[..., 0]
        return follows >= 0.999 * np.nanmax(follows, initial=0.0)

    def _framed(self, frame: Frame) -> Frame:
        height, width = self.dataset.get_data_shape()[:2]
        return Frame(frame.rows, frame.columns, height, width, frame.axes)

    def _hosted(self, values: Any) -> NDArray[Any]:
        try:
            return to_numpy(values)
        except Exception as error:  # each framework has its own for a value that is only being traced
            raise DataError(
                f"{type(self.dataset).__name__}: apply_inverse_transformation takes arrays, but this model runs as a compiled program on an "
                "accelerator, where layers are never on the host. Run it on the CPU for same-equivariance."
            ) from error

    def _taken_back(self, image: NDArray[Any]) -> NDArray[Any]:
        if not isinstance(self.dataset, TransformationsDataSet):
            raise DataError(
                f"{type(self.dataset).__name__}: it cannot take its columns back, which same-equivariance asks for. Derive it from "
                "TransformationsDataSet and define apply_inverse_transformation."
            )
        back = to_numpy(self.dataset.apply_inverse_transformation(image, self.number))
        if back.shape != image.shape:
            raise DataError(
                f"{type(self.dataset).__name__}: apply_inverse_transformation made shape {back.shape} of a tensor {image.shape}. Layers are "
                "handed over one output at a time, (height, width, features); keep the shape."
            )
        return back


@dataclass(frozen=True, eq=False)
class Matrix:
    """A data set whose rows are samples and whose columns are transformations, whichever way round it lies at the moment."""

    dataset: DataSet

    @property
    def samples(self) -> int:
        return self.dataset.get_width() if self.dataset.is_transpose() else self.dataset.get_height()

    @property
    def transformations(self) -> Transformations:
        number = self.dataset.get_height() if self.dataset.is_transpose() else self.dataset.get_width()
        return Transformations(tuple(Column(self.dataset, k) for k in range(number)))

    def __call__(self, places: Any) -> NDArray[Any]:
        """The inputs at complete rows, given as places (samples · T, 2)."""
        T = len(self.transformations)
        rows, columns = to_numpy(places)[::T, 0].tolist(), list(range(T))
        if self.dataset.is_transpose():
            matrix = np.swapaxes(matrix_of(self.dataset, columns, rows), 0, 1)
        else:
            matrix = matrix_of(self.dataset, rows, columns)
        return matrix.reshape(len(rows) * T, *matrix.shape[2:])


def walked(
    iterator: Iterator, measures: tuple[AbstractMeasure[Any], ...], height: int | None = None, width: int | None = None
) -> Results:
    """Everything that was asked for, in one pass over the matrix; a forward has about height · width inputs, and whole samples.

    **Raises:** `DataError` for a matrix with fewer than two samples or transformations.
    """
    for name, size in (("height", height), ("width", width)):
        if size is not None:
            check_size("compute", name, size)
    matrix, layers = Matrix(iterator.dataset), iterator.get_model().read(_first_input(iterator.dataset))
    samples, T = matrix.samples, len(matrix.transformations)
    if samples < 2 or T < 2:
        raise DataError(
            f"{type(iterator.dataset).__name__}: {samples} samples under {T} transformations. A variance needs two or more of both."
        )
    labels: Any = iterator.dataset.get_labels()
    places = np.stack([np.arange(samples), np.zeros(samples, np.int64)], axis=1)
    data = Data(places, label=False if labels is None else np.asarray(labels), preprocess=matrix)
    # by site, as a name may also be that of a class
    axes: Any = {layer.site: layer.axes for layer in layers}
    thresholds: Any = dict.fromkeys(axes, 0.0)  # which variances do not ask for
    return examine(
        iterator.get_model().model_keras,
        data,
        layers=[layer.site for layer in layers],
        thresholds=thresholds,
        axes=axes,
        transformations=matrix.transformations,
        measures=measures,
        batch_size=DEFAULT if height is None or width is None else height * width,
    )


def _first_input(dataset: DataSet) -> Any:
    return matrix_of(dataset, [0], [0])[0]

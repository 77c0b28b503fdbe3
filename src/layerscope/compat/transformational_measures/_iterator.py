"""Block by block through the activations of a model for a matrix of inputs."""

from collections.abc import Iterator as Iterates
from typing import Any

from ..._errors import DataError, ShapeError
from ...tallies import to_numpy
from ._block import Block
from ._dataset import DataSet
from ._model import Model


class Iterator:
    """Block by block through the activations of a model for a matrix of inputs.

    **Arguments:** `model`, `dataset`.
    """

    def __init__(self, model: Model, dataset: DataSet) -> None:
        if not isinstance(model, Model) or not isinstance(dataset, DataSet):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise DataError(
                f"Iterator: it takes a Model and a DataSet, got {type(model).__name__} and {type(dataset).__name__}. Write "
                "Iterator(Model(model_keras=model), dataset)."
            )
        self.model, self.dataset = model, dataset

    def get_model(self) -> Model:
        return self.model

    def get_block(self, height: int, width: int) -> Iterates[tuple[int, Iterates[tuple[int, Block]]]]:
        """Down the matrix, and within each step along it: (height, ((width, block), …)); the last ones may be smaller.

        Activations are computed when a block is asked for, and belong to it alone.
        """
        for name, size in (("height", height), ("width", width)):
            check_size("get_block", name, size)
        for top in range(0, self.dataset.get_height(), height):
            rows = list(range(top, min(top + height, self.dataset.get_height())))
            yield len(rows), self._along(rows, width)

    def _along(self, rows: list[int], width: int) -> Iterates[tuple[int, Block]]:
        for left in range(0, self.dataset.get_width(), width):
            columns = list(range(left, min(left + width, self.dataset.get_width())))
            block = self.model.predict(matrix_of(self.dataset, rows, columns))
            block.set_rows_dataset(rows)
            block.set_columns_dataset(columns)
            block.set_state_transpose_dataset(self.dataset.is_transpose())
            yield len(columns), block


def check_size(who: str, name: str, size: Any) -> None:
    """**Raises:** `DataError` for what is no number of rows or columns."""
    if isinstance(size, bool) or not isinstance(size, int) or size < 1:
        raise DataError(f"{who}: {name} is a number of inputs, 1 or more, got {size!r}.")


def matrix_of(dataset: DataSet, rows: list[int], columns: list[int]) -> Any:
    """A part of the matrix.  **Raises:** `ShapeError` unless it has the shape that was asked for."""
    matrix = to_numpy(dataset.get_matrix(rows, columns))
    wanted = (len(rows), len(columns), *(int(size) for size in dataset.get_data_shape()))
    if matrix.shape != wanted:
        raise ShapeError(
            f"{type(dataset).__name__}: get_matrix of {len(rows)} rows and {len(columns)} columns gave shape {matrix.shape}, where "
            f"{wanted} follows from get_data_shape(). Give (rows, columns, *shape), also when it is transposed."
        )
    return matrix

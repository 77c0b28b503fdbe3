"""The activations of a block of inputs."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from numpy.typing import NDArray

from ..._errors import ShapeError
from ._structure import ModelStructure


@dataclass(eq=False)
class Block:
    """The activations of all layers for a block of inputs, (rows, columns).

    `block[i, j, k]` are those of layer k for the input at row i and column j; `block[i, j, k, f]` its feature f.
    **Arguments:** `outputs` per layer (rows, columns, …); `model_structure`.  Which rows and columns of a data set these are, and whether
    it was transposed, whoever made the block may note in it.
    """

    outputs: Sequence[NDArray[Any]]
    model_structure: ModelStructure
    _rows: list[int] = field(default_factory=list[int])
    _columns: list[int] = field(default_factory=list[int])
    _transposed: bool = False

    @property
    def height(self) -> int:
        return self.outputs[0].shape[0]

    @property
    def width(self) -> int:
        return self.outputs[0].shape[1]

    def __getitem__(self, index: tuple[int, ...]) -> NDArray[Any]:
        limits = (self.height, self.width, len(self.outputs))
        if not isinstance(index, tuple) or len(index) not in (3, 4):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise ShapeError(
                f"Block: index {index!r}: give row, column and layer, block[i, j, k], or also a feature, block[i, j, k, f]."
            )
        for name, number, limit in zip(("row", "column", "layer"), index, limits, strict=False):
            if not -limit <= number < limit:
                raise IndexError(f"Block: there is no {name} {number}: this block has {limit}.")
        i, j, k, *feature = index
        activations = self.outputs[k][i, j]
        if not feature:
            return activations
        layer, (f,) = self.model_structure.layers[k], feature
        if not -layer.number_features <= f < layer.number_features:
            raise IndexError(f"Block: there is no feature {f}: {layer.name} has {layer.number_features}.")
        return layer.feature(activations, f)

    def set_rows_dataset(self, rows: Sequence[int]) -> None:
        """Note which rows of the data set these are."""
        self._rows = list(rows)

    def set_columns_dataset(self, columns: Sequence[int]) -> None:
        """Note which columns of the data set these are."""
        self._columns = list(columns)

    def set_state_transpose_dataset(self, state: bool) -> None:
        """Note whether the data set was transposed."""
        self._transposed = bool(state)

    def get_rows_dataset(self) -> list[int]:
        return list(self._rows)

    def get_columns_dataset(self) -> list[int]:
        return list(self._columns)

    def is_dataset_transpose(self) -> bool:
        return self._transposed

"""A matrix of inputs: samples by transformations, or whatever its user makes of rows and columns."""

import abc
from collections.abc import Sequence
from typing import Any


class DataSet(abc.ABC):
    """A matrix of inputs, to be implemented by its user.

    Rows are usually samples and columns transformations; `transpose` swaps the two, and says so in `is_transpose`.
    """

    @abc.abstractmethod
    def get_data_shape(self) -> tuple[int, ...]:
        """The shape of one input."""

    @abc.abstractmethod
    def get_width(self) -> int:
        """How many columns there are."""

    @abc.abstractmethod
    def get_height(self) -> int:
        """How many rows there are."""

    @abc.abstractmethod
    def get_matrix(self, rows: Sequence[int], columns: Sequence[int]) -> Any:
        """The inputs at these rows and columns, (rows, columns, *shape)."""

    @abc.abstractmethod
    def transpose(self) -> None:
        """Swap rows and columns."""

    @abc.abstractmethod
    def is_transpose(self) -> bool:
        """Whether rows and columns are swapped."""

    def get_labels(self) -> Any | None:
        """The class of every sample (samples,), rows of the matrix before any transposition; None where there is none.  `Analyzer` needs it."""
        return None


class TransformationsDataSet(DataSet, abc.ABC):
    """A matrix whose columns are the transformations of one group, chosen among several; to be implemented by its user."""

    @abc.abstractmethod
    def apply_inverse_transformation(self, tensor: Any, index_transformation: int) -> Any:
        """What a transformation, by its column, did to a tensor (height, width) or (height, width, features), taken back: shape as before."""

    @abc.abstractmethod
    def get_size_transformations_groups(self) -> int:
        """How many groups of transformations there are."""

    @abc.abstractmethod
    def set_transformation_group(self, group: int, n: int) -> None:
        """Take n transformations of a group as columns."""

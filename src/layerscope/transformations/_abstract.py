"""What a transformation is: it changes inputs, may be undone, and may be undone in what a layer made of them."""

import abc
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._errors import DataError


@dataclass(frozen=True)
class Frame:
    """Where space lies in an array: its row axis (downwards) and column axis (to the right), and the size of the images it comes from.

    **Arguments:** `rows`, `columns` axes of the array, None where it has no space; `height`, `width` of the input images: a map of half
    that size moves by half as many pixels; `axes` the position axes of an array without space, such as tokens.
    """

    rows: int | None
    columns: int | None
    height: int = 0
    width: int = 0
    axes: tuple[int, ...] = ()

    @property
    def space(self) -> tuple[int, int] | None:
        return None if self.rows is None or self.columns is None else (self.rows, self.columns)

    def of_input(self, shape: tuple[int, ...]) -> "Frame":
        """The same frame with the height and width of an input of this shape."""
        return self if self.space is None else replace(self, height=shape[self.space[0]], width=shape[self.space[1]])


class AbstractTransformation(abc.ABC):
    """One transformation of a batch of inputs, the same for every sample; a frozen dataclass compared by value."""

    @property
    @abc.abstractmethod
    def name(self) -> str:
        """What it does, in words and units: "rotate 30°"."""

    @abc.abstractmethod
    def apply(self, x: Any, frame: Frame) -> Any:
        """The transformed batch, samples along axis 0; shape and type as before."""

    @abc.abstractmethod
    def inverse(self) -> "AbstractTransformation":
        """The transformation that takes it back.  Raises `DataError` where there is none."""

    @abc.abstractmethod
    def undo(self, values: Any, frame: Frame) -> Any | None:
        """What a layer gave for transformed inputs, taken back; None where the layer offers nothing to act on.

        `frame` says where the layer has space, and the size of the images; shape as before.
        """

    def supported(self, shape: tuple[int, int], frame: Frame) -> NDArray[np.bool_]:
        """Which pixels (rows, columns) of `undo` rest on values inside the map: all, unless something moved out of it."""
        return np.ones(shape, np.bool_)

    def then(self, following: "AbstractTransformation") -> "AbstractTransformation":
        """This one, then the following."""
        from ._chain import chain

        return chain((self, following))


def check_number(who: str, **values: Any) -> None:
    """**Raises:** `DataError` for anything that is no finite number."""
    for name, value in values.items():
        if isinstance(value, bool) or not isinstance(value, int | float | np.number) or not np.isfinite(float(value)):  # pyright: ignore[reportUnknownArgumentType]
            raise DataError(f"{who}: {name} must be a finite number, got {value!r}.")


def space_of(x: Any, frame: Frame, who: str) -> tuple[int, int]:
    """The row and column axes.  **Raises:** `DataError` where there is no space."""
    if frame.space is None:
        raise DataError(
            f"{who}: inputs of shape {tuple(x.shape)} have no rows and columns to move. Give images, or a transformation of your own: "
            "ls.transformations.Custom(function)."
        )
    return frame.space

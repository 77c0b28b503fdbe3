"""Transformations that move values and compute none: what they leave is exactly what was there."""

from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from .._errors import DataError
from ._abstract import AbstractTransformation, Frame, space_of
from ._arrays import beside, is_array, namespace, ready, transposed


@dataclass(frozen=True)
class Identity(AbstractTransformation):
    """Nothing: the untransformed inputs."""

    @property
    def name(self) -> str:
        return "identity"

    def apply(self, x: Any, frame: Frame) -> Any:
        return ready(x) if is_array(x) else x

    def inverse(self) -> "Identity":
        return self

    def undo(self, values: Any, frame: Frame) -> Any:
        return values


@dataclass(frozen=True)
class Flip(AbstractTransformation):
    """Mirror the image: "horizontal" swaps left and right, "vertical" top and bottom."""

    direction: Literal["horizontal", "vertical"] = "horizontal"

    def __post_init__(self) -> None:
        if self.direction not in ("horizontal", "vertical"):
            raise DataError(f"Flip: direction is 'horizontal' or 'vertical', got {self.direction!r}.")

    @property
    def name(self) -> str:
        return f"flip {self.direction}"

    def apply(self, x: Any, frame: Frame) -> Any:
        rows, columns = space_of(x, frame, self.name)
        x = ready(x)
        return namespace(x).flip(x, axis=columns if self.direction == "horizontal" else rows)

    def inverse(self) -> "Flip":
        return self

    def undo(self, values: Any, frame: Frame) -> Any | None:
        return None if frame.space is None else self.apply(values, frame)


@dataclass(frozen=True)
class QuarterTurns(AbstractTransformation):
    """Turn a square image counter-clockwise by so many times 90°.

    **Raises:** `DataError` where an odd number of turns would change the shape of the image.
    """

    turns: int = 1

    @property
    def name(self) -> str:
        return f"{self.turns % 4} quarter turns" if self.turns % 4 != 1 else "1 quarter turn"

    def apply(self, x: Any, frame: Frame) -> Any:
        rows, columns = space_of(x, frame, self.name)
        if self.turns % 2 and x.shape[rows] != x.shape[columns]:
            raise DataError(
                f"{self.name}: images of {x.shape[rows]} × {x.shape[columns]} pixels change their shape. Use rotate(), which keeps it, or "
                "square images."
            )
        x = ready(x)
        xp, turns = namespace(x), self.turns % 4
        if turns == 2:
            return xp.flip(xp.flip(x, axis=rows), axis=columns)
        if turns:  # transposed, then upside down (counter-clockwise) or mirrored
            return xp.flip(_swapped(x, rows, columns), axis=rows if turns == 1 else columns)
        return x

    def inverse(self) -> "QuarterTurns":
        return QuarterTurns(-self.turns % 4)

    def undo(self, values: Any, frame: Frame) -> Any | None:
        if frame.space is None or (self.turns % 2 and values.shape[frame.space[0]] != values.shape[frame.space[1]]):
            return None
        return self.inverse().apply(values, frame)


@dataclass(frozen=True)
class Roll(AbstractTransformation):
    """Shift the image by whole pixels (x, y), to the right and downwards; what leaves on one side enters on the other."""

    x: int = 0
    y: int = 0

    def __post_init__(self) -> None:
        for name in ("x", "y"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | np.integer):
                raise DataError(
                    f"Roll: {name} is a whole number of pixels, got {value!r}. For parts of a pixel use translate()."
                )

    @property
    def name(self) -> str:
        return f"roll ({self.x}, {self.y}) px"

    def apply(self, x: Any, frame: Frame) -> Any:
        rows, columns = space_of(x, frame, self.name)
        x = ready(x)
        return namespace(x).roll(x, (int(self.y), int(self.x)), axis=(rows, columns))

    def inverse(self) -> "Roll":
        return Roll(-self.x, -self.y)

    def undo(self, values: Any, frame: Frame) -> Any | None:
        if frame.space is None:
            return None
        rows, columns = frame.space
        y, below = divmod(self.y * int(values.shape[rows]), frame.height or int(values.shape[rows]))
        x, beside = divmod(self.x * int(values.shape[columns]), frame.width or int(values.shape[columns]))
        # a map of half the size would have to move by half a pixel
        return None if below or beside else Roll(-x, -y).apply(values, frame)


@dataclass(frozen=True)
class Permute(AbstractTransformation):
    """Reorder entries along an axis of the inputs: entry k of the result is entry `order[k]` of the input.

    **Arguments:** `order`; `axis` of the batch, 1 for the tokens of (samples, tokens); `undone_on` "positions" where a layer with as many
    positions along its only position axis can be put back in order, "nothing" where it cannot.
    """

    order: tuple[int, ...] = field()
    axis: int = 1
    undone_on: Literal["positions", "nothing"] = "positions"

    def __post_init__(self) -> None:
        object.__setattr__(self, "order", tuple(int(k) for k in self.order))
        if sorted(self.order) != list(range(len(self.order))) or self.axis == 0:
            raise DataError(
                f"Permute: the order must hold 0 … {len(self.order) - 1} once each, along an axis other than that of the samples (0); got "
                f"{self.order} along axis {self.axis}."
            )

    @property
    def name(self) -> str:
        shown = ", ".join(map(str, self.order[:6])) + (", …" if len(self.order) > 6 else "")
        return f"permute axis {self.axis} ({shown})"

    def apply(self, x: Any, frame: Frame) -> Any:
        x = ready(x)
        if len(x.shape) <= self.axis or x.shape[self.axis] != len(self.order):
            raise DataError(
                f"{self.name}: {len(self.order)} entries are reordered, the inputs have shape {tuple(x.shape)}. Give an order as long as "
                "that axis."
            )
        return self._taken(x, self.order, self.axis)

    def inverse(self) -> "Permute":
        return Permute(tuple(np.argsort(self.order).tolist()), self.axis, self.undone_on)

    def undo(self, values: Any, frame: Frame) -> Any | None:
        fits = self.undone_on == "positions" and len(frame.axes) == 1
        if not fits or values.shape[frame.axes[0]] != len(self.order):
            return None
        return self._taken(values, self.inverse().order, frame.axes[0])

    @staticmethod
    def _taken(x: Any, order: tuple[int, ...], axis: int) -> Any:
        index: NDArray[np.int64] = np.array(order, np.int64)
        return namespace(x).take(x, beside(x, index), axis=axis)


def _swapped(x: Any, rows: int, columns: int) -> Any:
    order = list(range(len(x.shape)))
    order[rows], order[columns] = columns, rows
    return transposed(x, order)

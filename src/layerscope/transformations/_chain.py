"""One transformation after the other."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._errors import DataError
from ._abstract import AbstractTransformation, Frame
from ._affine import Affine
from ._exact import Identity


@dataclass(frozen=True)
class Chain(AbstractTransformation):
    """Transformations in order, the first first.  `chain` makes one where it takes more than one resample."""

    parts: tuple[AbstractTransformation, ...]

    def __post_init__(self) -> None:
        if not self.parts:
            raise DataError("Chain: no transformation to follow. For nothing at all use Identity().")

    @property
    def name(self) -> str:
        return ", ".join(part.name for part in self.parts)

    def apply(self, x: Any, frame: Frame) -> Any:
        return reduce(lambda done, part: part.apply(done, frame), self.parts, x)

    def inverse(self) -> "Chain":
        return Chain(tuple(part.inverse() for part in reversed(self.parts)))

    def undo(self, values: Any, frame: Frame) -> Any | None:
        for part in reversed(self.parts):
            values = part.undo(values, frame)
            if values is None:
                return None
        return values

    def supported(self, shape: tuple[int, int], frame: Frame) -> NDArray[np.bool_]:
        """A pixel rests on values inside the map when each step does, and the steps before it did where it looks."""
        flat = Frame(1, 2, frame.height, frame.width)
        so_far = np.ones(shape, np.bool_)
        for part in reversed(self.parts):
            moved = part.undo(so_far[None].astype(np.float64), flat)
            so_far = part.supported(shape, frame) & (so_far if moved is None else moved[0] > 1 - 1e-6)
        return so_far


def chain(parts: Sequence[AbstractTransformation]) -> AbstractTransformation:
    """The parts in order as one transformation: neighbouring affine maps of one mode become one map, and identities nothing."""
    flat: list[AbstractTransformation] = []
    for part in parts:
        flat += part.parts if isinstance(part, Chain) else [part]
    flat = [part for part in flat if not isinstance(part, Identity)]
    joined: list[AbstractTransformation] = []
    for part in flat:
        last = joined[-1] if joined else None
        if isinstance(part, Affine) and isinstance(last, Affine) and last.mode == part.mode:
            joined[-1] = last.followed_by(part)
        else:
            joined.append(part)
    if len(joined) < 2:
        return joined[0] if joined else Identity()
    return Chain(tuple(joined))

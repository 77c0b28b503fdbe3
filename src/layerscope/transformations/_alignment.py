"""Taking transformations back in what the layers of a model made of them."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ._abstract import Frame
from ._arrays import namespace
from ._grid import Transformations


@dataclass(frozen=True)
class Alignment:
    """The transformations of a run with the size of its images: what an aligned layer is compared by.

    **Arguments:** `transformations`; `height`, `width` of the inputs they acted on, 0 where these are no images.
    """

    transformations: Transformations
    height: int = 0
    width: int = 0

    def __len__(self) -> int:
        return len(self.transformations)

    def frame(self, shape: tuple[int, ...], unit: int) -> Frame:
        """Where a layer's output (rows, …) has space: its two axes besides samples and units, in order."""
        positions = tuple(axis for axis in range(1, len(shape)) if axis != unit % len(shape))
        if len(positions) != 2:
            return Frame(None, None, axes=positions)
        return Frame(*positions, self.height, self.width, positions)

    def align(self, values: Any, unit: int) -> Any | None:
        """A layer's output (samples · T, …), every column taken back; None where the layer offers nothing to act on."""
        shape = tuple(int(size) for size in values.shape)
        if any(kind in str(values.dtype) for kind in ("float16", "int", "bool")):
            values = namespace(values).asarray(values, dtype=namespace(values).float32)
        return self.transformations.align(values, self.frame(shape, unit))

    def supported(self, shape: tuple[int, ...], unit: int) -> NDArray[np.bool_]:
        """Which values of a sample, of the shape without its first axis, rest on the layer's own under every transformation."""
        frame = self.frame(shape, unit)
        inside = np.ones(shape[1:], np.bool_)
        if frame.space is None:
            return inside
        rows, columns = frame.space
        good = self.transformations.supported((shape[rows], shape[columns]), frame)
        spread = [1] * (len(shape) - 1)
        spread[rows - 1], spread[columns - 1] = good.shape
        return inside & good.reshape(spread)

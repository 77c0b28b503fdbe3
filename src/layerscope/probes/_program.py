"""What is read of a compiled program: states made inside it where it runs on a device, its activations where it runs on the host.

On a device bits are 32 times less to move than floats, so they are packed inside the program.  On a CPU nothing moves: the program's own
buffers are read where they lie, which costs half a percent of a LeNet where packing inside the program doubles its time.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._errors import ShapeError
from .._site import Activations, Chunk, Samples
from ..feed import Batch
from ..inventory import Layer


@dataclass
class Reads:
    """What `read` gave while a program was traced.

    States are outputs of the program, never side effects of it: `arrays` go out of the program, and `filled` puts those of a batch where the
    traced ones were, with the samples they belong to.
    """

    chunks: dict[Layer, Mapping[Any, Chunk]] = field(default_factory=dict[Layer, Mapping[Any, Chunk]])

    def arrays(self) -> list[list[dict[str, Any]]]:
        """The traced arrays, as nested lists and dicts that every framework can return from a compiled function."""
        return [[dict(chunk.arrays) for chunk in given.values()] for given in self.chunks.values()]

    def forget_arrays(self) -> None:
        """Traced values must not outlive their trace."""
        for layer, given in self.chunks.items():
            self.chunks[layer] = {key: replace(chunk, arrays={}) for key, chunk in given.items()}

    def filled(self, arrays: list[list[dict[str, Any]]], samples: Samples) -> dict[Layer, dict[Any, Chunk]]:
        """The chunks of one batch, from the arrays that the program gave for it."""
        return {
            layer: {
                key: replace(chunk, arrays=found, samples=samples)
                for (key, chunk), found in zip(given.items(), each, strict=True)
            }
            for (layer, given), each in zip(self.chunks.items(), arrays, strict=True)
        }


def counted(batch: Batch, size: int | None = None) -> tuple[NDArray[np.bool_], NDArray[np.bool_] | None]:
    """Which rows of a forward count: (size,), False where the batch is padded, and the mask of positions, padded with False.

    `size` rows of the forward, where it is padded further, as for several devices.
    """
    size = batch.size if size is None else size
    count, given = len(batch.samples), batch.samples.mask
    real = np.arange(size) < count
    if given is None:
        return real, None
    mask = np.zeros((size, *given.shape[1:]), np.bool_)
    mask[:count] = given
    return real, mask


def hosted(layer: Layer, values: NDArray[Any], batch: Batch) -> Activations:
    """An activation that lies in host memory, without padded samples and without a copy; for programs that ran on a CPU.

    **Raises:** `ShapeError` when it has fewer entries on its sample axis than the batch has rows.
    """
    sample, count = layer.axes.sample, len(batch.samples)
    if values.shape[sample] < batch.size:
        raise ShapeError(
            f"{layer.site}: axis {sample} of shape {values.shape} has {values.shape[sample]} entries, the batch has {batch.size} samples. "
            f"Say which axis is which with axes={{{layer.site.path!r}: ls.Axes(unit=…, sample=…)}}, or leave the site out with exclude=."
        )
    if values.shape[sample] != count:
        values = values[(slice(None),) * sample + (slice(count),)]
    host, dtype = values, None
    if values.dtype.name == "bfloat16":  # NumPy knows it by name only
        host, dtype = values.view(np.int16), "bfloat16"
        values = values.astype(np.float32)
    threshold = 0.0 if layer.threshold is None else layer.threshold
    return Activations(values, layer.axes, np, threshold, batch.samples.mask, host, dtype)

"""What is read inside a compiled program: traced once, then filled in at every batch."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._site import Chunk, Samples
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

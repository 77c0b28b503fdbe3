"""Whether data that are read several times are the same every time."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._errors import DataError
from . import _nest as nest
from ._leaf import host, is_array


class SameData:
    """The samples of a first reading, which every later one must repeat: numbers of different data never stand side by side.

    A shuffling loader or a random augmentation gives other samples under the same ids.
    """

    def __init__(self) -> None:
        self._known, self._complete = set[int](), False

    def again(self) -> None:
        """From now on every sample must be one that was seen."""
        self._complete = self._complete or bool(self._known)

    def check(self, ids: NDArray[np.int64], inputs: Any) -> None:
        """**Raises:** `DataError` where a sample was not there in the first reading."""
        found = digests(ids, inputs)
        if not self._complete:
            self._known.update(found)
            return
        for number, digest in zip(ids.tolist(), found, strict=True):
            if digest not in self._known:
                raise DataError(
                    f"the data are read more than once (for thresholds of untransformed data, or layers in turns under memory_limit=), and "
                    f"sample {number} is another one than before: they are shuffled, or changed at random. Give data that stay as they are, "
                    "shuffle=False and no random augmentation, or arrays."
                )


def digests(ids: NDArray[np.int64], inputs: Any) -> Sequence[int]:
    """A number for every sample that tells its id and its raw inputs."""
    rows: list[list[bytes]] = [[each.to_bytes(8, "little", signed=True)] for each in ids.tolist()]
    for _, leaf in nest.leaves(inputs):
        if leaf is None:
            continue
        values: Any = np.ascontiguousarray(host(leaf)) if is_array(leaf) else leaf
        for row, value in zip(rows, values, strict=True):
            row.append(_bytes(value))
    return [hash(tuple(row)) for row in rows]


def _bytes(value: Any) -> bytes:
    """What a sample holds; of an object that nobody here can look into, only its type."""
    if hasattr(value, "tobytes"):
        return value.tobytes()
    plain = type(value) in (str, bytes, int, float, list, tuple)
    return (repr(value) if plain else type(value).__name__).encode()

"""Packed firing states of plain arrays: pack, unpack, sort."""

import sys
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ... import kernels
from ..._errors import DtypeError, ShapeError
from ..._states import as_bytes, as_words, unpack_states
from ...tallies._abstract import to_numpy


def compress_states(states: Any) -> NDArray[np.uint8]:
    """Which units fire (value > 0), eight to a byte: uint8 (rows, ceil(units / 8)), unit k in bit k % 8 of byte k // 8.

    **Arguments:** `states` (rows, units), any real type, strides and framework. **Raises:** `ShapeError`, `DtypeError`.

    >>> compress_states(np.array([[-1.0, 2.0, 3.0, 4.0, 5.0]]))
    array([[30]], dtype=uint8)
    """
    torch = sys.modules.get("torch")
    dtype = None
    if torch is not None and isinstance(states, torch.Tensor) and states.dtype == torch.bfloat16:
        states, dtype = states.detach().cpu().view(torch.int16), "bfloat16"
    x = to_numpy(states)
    if x.ndim != 2:
        raise ShapeError(
            f"compress_states: rows of units are packed, an array (rows, units); this one has shape {x.shape}. Bring the units to the "
            "last axis and the rest to the first: x.reshape(-1, units)."
        )
    words, _ = kernels.pack(x, 1, 0.0, dtype)
    return np.ascontiguousarray(as_bytes(words, x.shape[1]))


def decompress_states(states: Any, num_neurons: int) -> NDArray[np.bool_]:
    """Which units fire, bool (rows, num_neurons): the exact inverse of `compress_states`.

    **Raises:** `ShapeError` when so many units do not fill the bytes of a row.

    >>> decompress_states(np.array([[30]], np.uint8), 5)
    array([[False,  True,  True,  True,  True]])
    """
    packed = _packed(states, "decompress_states")
    units = _whole(num_neurons, "decompress_states: num_neurons")
    if -(-units // 8) != packed.shape[1]:
        least, most = max(0, 8 * packed.shape[1] - 7), 8 * packed.shape[1]
        raise ShapeError(
            f"decompress_states: asked for {units} units, but rows of {packed.shape[1]} bytes hold {least} to {most}. Give the number "
            "of units that were packed."
        )
    return unpack_states(as_words(packed, units), units)


def sort_states(states: Any, state_count: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """An order that puts equal states side by side, and where each begins.

    **Arguments:** `states` uint8 (rows, bytes) as `compress_states` gives them; `state_count` how many of the rows, from the first.
    **Gives:** `(edges, index)`: `states[index]` ascends by the row read as an unsigned little-endian integer (last byte first), rows
    of one state in the order they came; `edges` runs from 0 to `state_count`, and `np.diff(edges)` are the counts.

    >>> sort_states(np.array([[9], [2], [9]], np.uint8), 3)
    (array([0, 1, 3]), array([1, 0, 2]))
    """
    packed = _packed(states, "sort_states")
    rows = _whole(state_count, "sort_states: state_count")
    if rows > len(packed):
        raise ShapeError(
            f"sort_states: asked to sort {rows} rows, there are {len(packed)}. Give state_count ≤ {len(packed)}."
        )
    words = as_words(packed[:rows], 8 * packed.shape[1])
    # last key first and stable: the last word decides, and rows of one state keep their order
    index = np.lexsort(words.T) if words.shape[1] else np.arange(rows)
    ordered = words[index]
    begins = np.flatnonzero((ordered[1:] != ordered[:-1]).any(axis=1)) + 1
    edges = np.concatenate([[0], begins, [rows]]) if rows else np.zeros(1)
    return edges.astype(np.int64), index.astype(np.int64)


def _packed(states: Any, asked: str) -> NDArray[np.uint8]:
    packed = to_numpy(states)
    if packed.dtype != np.uint8:
        raise DtypeError(
            f"{asked}: packed states are uint8, this array holds {packed.dtype}. Pack it with compress_states first."
        )
    if packed.ndim != 2:
        raise ShapeError(
            f"{asked}: packed states have shape (rows, bytes), this array {packed.shape}. Reshape it to rows."
        )
    return packed


def _whole(number: Any, what: str) -> int:
    if isinstance(number, bool | np.bool_) or not isinstance(number, int | np.integer) or number < 0:
        raise ShapeError(f"{what} must be a whole number ≥ 0, got {number!r}.")
    return int(number)

"""Labels, masks and ids of samples, from whatever the data gives for them."""

import hashlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._errors import DataError
from ._leaf import host, is_array, is_rows


def read_labels(target: Any, *, matrix: bool = True) -> tuple[NDArray[np.int64] | None, str]:
    """Labels and their kind: integers of shape (N,) or (N, 1) or, with `matrix`, one-hot rows (N, C); "" for a target that is no label."""
    if not is_array(target):
        return None, ""
    values = host(target)
    if values.dtype.kind in "iub" and (values.ndim == 1 or (values.ndim == 2 and values.shape[1] == 1)):
        return values.reshape(-1).astype(np.int64), "integers" if values.ndim == 1 else "integers, squeezed from (N, 1)"
    if matrix and values.ndim == 2 and values.shape[1] > 1 and values.dtype.kind in "iubf":
        zero_or_one = (values == 0) | (values == 1)
        if bool(zero_or_one.all()) and bool(((values != 0).sum(axis=1) == 1).all()):
            return values.argmax(axis=1).astype(np.int64), f"one-hot of {values.shape[1]}"
    return None, ""


def read_mask(mask: Any, rows: int, name: str) -> NDArray[np.bool_]:
    """The mask as booleans (samples, *positions).

    **Raises:** `DataError` for another number of samples, or values other than 0 and 1.
    """
    values = host(mask)
    if values.ndim == 0 or len(values) != rows:
        raise DataError(
            f"Data: the mask {name} has {len(values) if values.ndim else 'no'} rows for {rows} samples. "
            "A mask has one row per sample, (samples, positions); mask=False ignores it."
        )
    if values.dtype.kind not in "biuf" or not bool(((values == 0) | (values == 1)).all()):
        raise DataError(
            f"Data: the mask {name} holds values other than 0 and 1 ({values.dtype.name}). Give True where a position counts, "
            "for example ls.Data(data, mask=lambda item: item['bias'] == 0), or mask=False."
        )
    return values.astype(np.bool_)


def read_ids(ids: Any, rows: int) -> tuple[NDArray[np.int64], bool]:
    """Ids as int64, and whether they were hashed: texts, and all that is no integer, to 64 bits of BLAKE2b, alike on every machine."""
    values = ids if is_rows(ids) else host(ids)
    shape = (len(values),) if is_rows(values) else values.shape
    if shape not in ((rows,), (rows, 1)):
        raise DataError(f"Data: ids have the shape {shape} for {rows} samples. Give one per sample, shape ({rows},).")
    values = values if is_rows(values) else values.reshape(-1)
    if not is_rows(values) and values.dtype.kind in "iu":
        return values.astype(np.int64), False
    texts = (value if isinstance(value, bytes) else str(value).encode() for value in values)
    hashes = b"".join(hashlib.blake2b(text, digest_size=8).digest() for text in texts)
    return np.frombuffer(hashes, dtype="<i8").astype(np.int64), True

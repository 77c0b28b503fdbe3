"""What the leaves of a nest are: arrays of any framework, numbers, rows of texts; and what people call them."""

import numbers
import sys
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray


class Rows(list[Any]):
    """Samples that are no array (texts, pictures): a list along the sample axis, not parts of an item."""


def is_array(x: Any) -> bool:
    """Whether it is an array of any framework, in memory or on disk; a NumPy scalar is a number."""
    return hasattr(x, "shape") and hasattr(x, "dtype") and not isinstance(x, np.generic)


def is_number(x: Any) -> bool:
    return isinstance(x, (numbers.Number, np.generic))


def is_list(x: Any) -> bool:
    """Whether it has parts by index."""
    return isinstance(x, (list, tuple)) and not isinstance(x, Rows)


def is_tuple(x: Any) -> bool:
    return isinstance(x, tuple)


def is_mapping(x: Any) -> bool:
    """Whether it has parts by name."""
    return isinstance(x, Mapping)


def is_rows(x: Any) -> bool:
    return isinstance(x, Rows)


def is_numpy(x: Any) -> bool:
    return isinstance(x, np.ndarray)


def is_integer(x: Any) -> bool:
    """Whether it is an index or a number of samples; True and False are neither."""
    return type(x) is not bool and isinstance(x, numbers.Integral)


def is_scalar(x: Any) -> bool:
    """Whether it is one value: a number, a text, a picture, an array without axes."""
    return len(x.shape) == 0 if is_array(x) else not (x is None or is_list(x) or is_rows(x) or is_mapping(x))


def is_numeric(x: Any) -> bool:
    return is_number(x) or (is_list(x) and len(x) > 0 and all(map(is_numeric, x)))


def is_text(x: Any) -> bool:
    """Whether a NumPy array holds texts or objects."""
    return is_numpy(x) and x.dtype.kind in "OUST"


def length(leaf: Any) -> int | None:
    """Samples of a leaf, None where it has no sample axis."""
    if is_rows(leaf):
        return len(leaf)
    return int(leaf.shape[0]) if is_array(leaf) and len(leaf.shape) else None


def dtype_name(x: Any) -> str:
    """`float32`, whatever the framework calls it."""
    return str(getattr(x.dtype, "name", x.dtype)).removeprefix("torch.")


def describe(leaf: Any) -> str:
    """`float32, shape (N, 3)` for people."""
    if is_array(leaf):
        sizes = [str(int(size)) if axis else "N" for axis, size in enumerate(leaf.shape)]
        return f"{dtype_name(leaf)}, shape ({', '.join(sizes)}{',' if len(sizes) == 1 else ''})"
    if is_rows(leaf):
        return f"a list of {type(leaf[0]).__name__}" if leaf else "an empty list"
    if is_list(leaf) or is_mapping(leaf):
        return f"a {type(leaf).__name__} of {len(leaf)}"
    return f"the number {leaf!r}" if is_number(leaf) else f"of type {type(leaf).__name__}"


def is_tensorflow(x: Any) -> bool:
    return type(x).__module__.startswith("tensorflow")


def namespace(x: Any) -> Any:
    """The functions `stack` and `concat` of the array's framework."""
    if is_tensorflow(x):
        return sys.modules["tensorflow"]
    from array_api_compat import array_namespace

    return array_namespace(x)


def host(x: Any) -> NDArray[Any]:
    """The array in NumPy, from any framework and device."""
    if hasattr(x, "detach"):
        x = x.detach().cpu()
        x = x.float() if dtype_name(x) == "bfloat16" else x  # NumPy has no bfloat16
    return np.asarray(x)

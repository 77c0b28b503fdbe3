"""Samples of any framework, stacked, joined, cut and read.

A *nest* is what data gives for one sample or for a batch: tuples, lists and mappings whose leaves are arrays of any framework, numbers,
or `Rows` (texts, pictures: what is no array yet).
"""

import math
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .._errors import DataError
from ._leaf import (
    Rows,
    describe,
    dtype_name,
    is_array,
    is_list,
    is_mapping,
    is_number,
    is_numeric,
    is_rows,
    is_tensorflow,
    is_text,
    length,
    namespace,
)

_RAGGED = "Pad or resize them in the data set, or give batches of your own."
_UNLIKE = "They cannot be joined: leave out batch_size= to keep batches as they are, or pad all alike."


class Columns(NamedTuple):
    """The parts of an item or of a batch, by what they mean."""

    inputs: Any
    target: Any = None
    mask: Any = None
    ids: Any = None


def normal(nest: Any, *, batch: bool) -> Any:
    """The nest with pandas columns and lists of numbers as arrays and, in a batch, texts and other objects as `Rows`."""
    if isinstance(nest, Columns):
        return Columns(*(normal(part, batch=batch) for part in nest))
    if hasattr(nest, "iloc"):
        nest = nest.to_numpy()
    if is_text(nest):
        return Rows(nest.tolist()) if nest.ndim else nest.item()
    if is_mapping(nest):
        return {key: normal(nest[key], batch=batch) for key in nest}
    if not is_list(nest):
        return nest
    if is_numeric(nest):
        try:
            return np.asarray(nest)
        except ValueError:
            return Rows(nest)  # lists of different lengths
    if batch and len(nest) and not any(is_array(part) or is_list(part) or hasattr(part, "iloc") for part in nest):
        return Rows(nest)
    return _like(nest, [normal(part, batch=batch) for part in nest])


def _like(nest: Any, parts: Sequence[Any]) -> Any:
    return type(nest)(*parts) if hasattr(nest, "_fields") else tuple(parts)  # a named tuple stays one


def each(function: Callable[..., Any], *nests: Any) -> Any:
    """The nest of `function(leaf of the first, leaf of the second, …)`; None stays None."""
    first = nests[0]
    if is_mapping(first):
        return {key: each(function, *(nest[key] for nest in nests)) for key in first}
    if is_list(first):
        return _like(first, [each(function, *parts) for parts in zip(*nests, strict=True)])
    return None if first is None else function(*nests)


def leaves(nest: Any, name: str = "inputs") -> Iterator[tuple[str, Any]]:
    """Every leaf with its name: `inputs[0]`, `inputs['mask']`; None included."""
    if isinstance(nest, Columns):
        for field, part in zip(nest._fields, nest, strict=True):
            yield from leaves(part, field)
    elif is_mapping(nest):
        for key in nest:
            yield from leaves(nest[key], f"{name}[{key!r}]")
    elif is_list(nest):
        for index, part in enumerate(nest):
            yield from leaves(part, f"{name}[{index}]")
    else:
        yield name, nest


def count(nest: Any, what: str = "the batch") -> int:
    """Samples of a nest.

    **Raises:** `DataError` where its leaves disagree, or one has no sample axis.
    """
    rows = 0
    lengths: dict[str, int] = {}
    for name, leaf in leaves(nest):
        if leaf is None:
            continue
        if (found := length(leaf)) is None:
            raise DataError(
                f"Data: {name} of {what} is {describe(leaf)} and has no sample axis. Give arrays whose first axis counts samples, "
                "or say which parts to read: ls.Data(data, inputs=0, label=1)."
            )
        lengths[name] = rows = found
    if not lengths:
        raise DataError(f"Data: {what} holds no inputs. Say where they are: ls.Data(data, inputs=...).")
    if len(set(lengths.values())) > 1:
        seen = ", ".join(f"{name} has {found}" for name, found in lengths.items())
        raise DataError(
            f"Data: the parts of {what} differ in their number of samples: {seen}. The first axis of each must count the same samples: "
            "say which parts to read, ls.Data(data, inputs=0, label=1), or stack the data first if each item is one sample."
        )
    return rows


def form(nest: Any, *, sizes_from: float = math.inf) -> dict[str, str]:
    """Per leaf its framework, dtype, number of axes, and sizes from that axis on, if any: what must not change from batch to batch."""

    def one(leaf: Any) -> str:
        if is_array(leaf):
            sizes = [str(int(n)) if axis >= sizes_from else "*" if axis else "N" for axis, n in enumerate(leaf.shape)]
            return f"{type(leaf).__module__.split('.')[0].removesuffix('lib')} {dtype_name(leaf)} ({', '.join(sizes)})"
        return "None" if leaf is None else "a number" if is_number(leaf) else "an object"

    return {name: one(leaf) for name, leaf in leaves(nest)}


def signature(nest: Any) -> list[tuple[Any, ...]]:
    """What `form` would put in words, cheap to compare: per leaf its name, type, dtype and the sizes of a sample."""
    return [
        (name, type(leaf), leaf.dtype, tuple(leaf.shape[1:])) if is_array(leaf) else (name, type(leaf))
        for name, leaf in leaves(nest)
    ]


def check_form(here: dict[str, str], first: dict[str, str], names: tuple[str, str], remedy: str) -> None:
    """**Raises:** `DataError` that names the first difference."""
    for name in first | here:
        a, b = here.get(name, "nothing"), first.get(name, "nothing")
        if a != b:
            raise DataError(f"Data: {name} is {a} in {names[0]}, but {b} in {names[1]}. {remedy}")


def stack(samples: Sequence[Any]) -> Any:
    """A batch of samples: arrays are stacked, numbers become an array of the framework beside them, all else `Rows`.

    **Raises:** `DataError` where the samples are not of one form.
    """
    first = form(samples[0], sizes_from=0)
    for number, sample in enumerate(samples):
        check_form(form(sample, sizes_from=0), first, (f"sample {number} of a batch", "sample 0"), _RAGGED)
    beside = next((leaf for _, leaf in leaves(samples[0]) if is_array(leaf)), np.empty(0))

    def one(*values: Any) -> Any:
        if is_array(values[0]):
            return namespace(values[0]).stack(values)
        if not is_number(values[0]):
            return Rows(values)
        xp = namespace(beside)
        return (xp.convert_to_tensor if is_tensorflow(beside) else xp.asarray)(np.asarray(values))

    return each(one, *samples)


def join(pieces: Sequence[Any]) -> Any:
    """Batches one behind the other; a single one is given back as it is.

    **Raises:** `DataError` where they are not of one form.
    """
    first = form(pieces[0], sizes_from=1) if len(pieces) > 1 else {}
    for piece in pieces[1:]:
        check_form(form(piece, sizes_from=1), first, ("one batch", "the one before"), _UNLIKE)

    def one(*values: Any) -> Any:
        if is_rows(values[0]):
            return Rows(row for rows in values for row in rows)
        return namespace(values[0]).concat(values, axis=0)

    return pieces[0] if len(pieces) == 1 else each(one, *pieces)


def cut(nest: Any, start: int, stop: int) -> Any:
    """Samples start … stop of a nest."""

    def one(leaf: Any) -> Any:
        return Rows(leaf[start:stop]) if is_rows(leaf) else leaf[start:stop]

    return each(one, nest)


def copied(nest: Any) -> Any:
    """The nest with arrays of its own, so that what works in place leaves the user's data as they are; some cannot be changed anyway."""

    def one(leaf: Any) -> Any:
        if is_rows(leaf):
            return Rows(leaf)
        copy = getattr(leaf, "copy" if type(leaf).__module__ == "numpy" else "clone", None)  # that of PyTorch
        return copy() if callable(copy) else leaf

    return each(one, nest)


def take(nest: Any, index: NDArray[np.int64]) -> Any:
    """Samples by increasing index: a slice where they lie side by side, so that a file is read in one piece."""
    together = index[-1] - index[0] == len(index) - 1

    def one(leaf: Any) -> Any:
        if is_rows(leaf):
            return Rows(leaf[int(i)] for i in index)
        if together:
            part = leaf[int(index[0]) : int(index[-1]) + 1]
        elif is_tensorflow(leaf):
            part = sys.modules["tensorflow"].gather(leaf, index)
        else:
            part = leaf.oindex[index] if hasattr(leaf, "oindex") else leaf[index]  # zarr: by its outer index
        return np.array(part) if type(part) is np.memmap else part  # read now, and no longer tied to the file

    return each(one, nest)


def pad(nest: Any, size: int) -> Any:
    """The nest with its last sample repeated until there are `size`."""
    rows = count(nest)
    return nest if rows == size else join([nest, *[cut(nest, rows - 1, rows)] * (size - rows)])

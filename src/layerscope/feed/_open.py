"""Opening a user's data: which source it is, told by what it can do; a framework is known only if the user imported it."""

import inspect
import sys
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._errors import DataError
from . import _nest as nest
from ._data import Data
from ._layout import Layout, locate
from ._leaf import is_array, is_integer, is_list, is_mapping, is_number, is_tuple
from ._nest import Columns
from ._source import EMPTY, AbstractSource, Cut, is_single
from ._stream import Stream
from ._table import Table


def open_source(data: Data, cut: Cut) -> AbstractSource:
    """The source as a table or a stream.

    **Raises:** `DataError` for what is neither, or could be read in more than one way.
    """
    source = data.source
    _refuse(source)
    if _made_by(source, "torch.utils.data", "TensorDataset", exactly=True):
        source = tuple(source.tensors)
    if _is_columns(source, data):
        return _open_columns(source, data, cut)
    if _made_by(source, "torch.utils.data", "DataLoader"):
        return _open_loader(source, data, cut)
    if _made_by(source, "torch.utils.data", "IterableDataset"):
        return Stream(lambda: iter(source), data, cut, bare="samples")
    if _made_by(source, "keras.utils", "PyDataset"):
        return Stream(lambda: _begin(source), data, cut, batches=_length(source))
    if _made_by(source, "torch.utils.data", "Dataset") or _made_by(source, "datasets", "Dataset"):
        return _open_items(source, data, cut)
    if hasattr(source, "__getitem__") and hasattr(source, "__len__"):
        return _open_sequence(source, data, cut)
    if hasattr(source, "__iter__"):
        own = getattr(source, "batch_size", None)
        return Stream(
            lambda: _begin(source),
            data,
            cut,
            bare="unclear" if _has_fixed_shape(source) else "batches",
            own_size=own if is_integer(own) else None,
            batches=_length(source),
            restartable=not isinstance(source, Iterator),
            begun=inspect.isgenerator(source) and inspect.getgeneratorstate(source) != inspect.GEN_CREATED,
        )
    if callable(source):
        return _open_function(source, data, cut)
    raise DataError(
        f"Data: a {type(source).__name__} is no data that can be read. Give arrays, a pair (x, y), a data set, a loader, "
        "an iterable of batches, or a function that makes one."
    )


def _refuse(source: Any) -> None:
    if isinstance(source, (str, bytes)):
        raise DataError(
            f"Data: {source!r} is text, not data. Load it first, for example np.load({source!r}, mmap_mode='r')."
        )
    if hasattr(source, "iloc"):
        raise DataError(
            "Data: a data frame does not say what goes into the model. Write (frame[[...]].to_numpy(), frame['label'])."
        )
    if (is_list(source) or is_mapping(source)) and len(source) == 0:
        raise DataError(EMPTY)


def _made_by(source: Any, module: str, name: str, *, exactly: bool = False) -> bool:
    kind = getattr(sys.modules.get(module), name, None)
    return kind is not None and (type(source) is kind if exactly else isinstance(source, kind))


def _length(source: Any) -> int | None:
    try:
        return len(source)
    except TypeError:
        return None


def _begin(source: Any) -> Iterator[Any]:
    """Its items from the first on; what has neither `iter` nor a length is a function that a function gave."""
    if hasattr(source, "__iter__"):
        return iter(source)
    return (source[i] for i in range(len(source))) if hasattr(source, "__len__") else _begin(source())


def _has_fixed_shape(source: Any) -> bool:
    """Whether items of a tf.data set could be batches or samples: an array has no open first axis."""
    shapes = (leaf.shape for _, leaf in nest.leaves(getattr(source, "element_spec", None)) if is_array(leaf))
    return any(shape.rank and shape[0] is not None for shape in shapes)


def _is_columns(source: Any, data: Data) -> bool:
    """Whether the source is arrays along the samples, rather than items; a list only when its parts are named by index."""
    if is_list(source) and not is_tuple(source):
        named = data.inputs is not None and not callable(data.inputs)
        return named and all(map(is_array, source))
    return is_array(source) or is_list(source) or is_mapping(source)


def _open_columns(source: Any, data: Data, cut: Cut) -> Table:
    columns = nest.normal(source, batch=True)
    layout = locate(data, columns)
    if any(map(callable, (layout.inputs, layout.label, layout.mask, layout.ids))):

        def read(index: NDArray[np.int64]) -> Columns:
            return nest.normal(layout.select(nest.take(columns, index)), batch=True)

        return Table(read, nest.count(columns, "the data"), data, layout, cut)
    chosen = layout.select(columns)
    return Table(lambda index: nest.take(chosen, index), nest.count(chosen, "the data"), data, layout, cut)


def _open_items(source: Any, data: Data, cut: Cut) -> Table:
    """A data set that gives one sample by index."""
    if (total := _length(source)) is None:
        raise DataError(f"Data: {type(source).__name__} has no length. Give it a __len__, or wrap it in a DataLoader.")
    layout = locate(data, source[0]) if total else Layout()

    def read(index: NDArray[np.int64]) -> Columns:
        return nest.stack([nest.normal(layout.select(source[int(i)]), batch=False) for i in index])

    return Table(read, total, data, layout, cut)


def _open_sequence(source: Any, data: Data, cut: Cut) -> AbstractSource:
    """A list: of single samples where a target is one value, or an input a text or picture; else of batches."""
    if (total := len(source)) == 0:
        raise DataError(EMPTY)
    first = source[0]
    if is_array(first) or is_number(first) or (is_list(first) and all(map(is_number, first))):
        kinds = f"{total} arrays" if is_array(first) else "numbers"
        raise DataError(
            f"Data: a list of {kinds} could be batches, samples, several inputs or a pair. Write lambda: iter(data) if they are batches, "
            "np.stack(data) if they are samples, ls.Data(data, inputs=[0, 1]) for several inputs, (x, y) for inputs and targets."
        )
    if is_single(locate(data, first).select(first), "unclear"):
        return _open_items(source, data, cut)
    return Stream(lambda: _begin(source), data, cut, batches=total)


def _open_function(source: Any, data: Data, cut: Cut) -> AbstractSource:
    """A function that makes the data, called anew for each pass."""
    name = getattr(source, "__name__", type(source).__name__)
    try:
        inspect.signature(source).bind()
    except (TypeError, ValueError):
        raise DataError(
            f"Data: {name} needs arguments. Give a function of none that makes the data: lambda: {name}(...)."
        ) from None
    opened = open_source(replace(data, source=source()), cut)
    if isinstance(opened, Stream):
        opened.begin, opened.restartable = lambda: _begin(source()), True
    return opened


def _open_loader(loader: Any, data: Data, cut: Cut) -> AbstractSource:
    """A torch loader. One that keeps the order of its data set is addressable: ids are indices, and a few samples can be spread out."""
    torch = sys.modules["torch.utils.data"]
    plain = type(loader.batch_sampler) is torch.BatchSampler
    in_order = plain and type(loader.sampler) is torch.SequentialSampler
    if in_order and cut.samples is not None and cut.samples < len(loader.dataset):
        layout = locate(data, loader.collate_fn([loader.dataset[0]]))

        def read(index: NDArray[np.int64]) -> Columns:
            batch = loader.collate_fn([loader.dataset[int(i)] for i in index])
            return nest.normal(layout.select(batch), batch=True)

        note = "samples were read from the loader's data set with its collate_fn, without its workers"
        return Table(read, len(loader.dataset), data, layout, cut, own_size=loader.batch_size, notes=(note,))
    total = _length(loader.sampler) if plain else None
    if total is not None and loader.drop_last:
        total -= total % loader.batch_size
    return Stream(
        lambda: iter(loader),
        data,
        cut,
        own_size=loader.batch_size,
        length=total,
        batches=_length(loader),
        ids=None if in_order else "the loader's order is not that of its data",
    )

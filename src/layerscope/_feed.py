"""From a user's data to batches of one size: source → items → raw batches → re-cut → `Batch`.

Two kinds of source: a *table* knows its length and gives any of its samples (arrays, data sets, files); a *stream* only goes on
(loaders, generators). Tables are read batch by batch, never whole, and a shard of a table reads no other shard's samples.
"""

import inspect
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import _data
from ._data import Columns, Layout
from ._data import Data as Data
from ._errors import DataError
from ._site import Samples

DEFAULT_BATCH = 128
RUNNING = "ids are running numbers: "


@dataclass(frozen=True, eq=False)
class Batch:
    """What one forward gets, and what is known of its samples.

    **Arguments:** `args`, `kwargs` inputs of the forward, `size` rows each: the last sample is repeated to fill a short batch; `samples`
    ids, labels and mask of the real ones; `targets` of the real ones as they came, or None; `number` position in the whole stream.
    """

    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    samples: Samples
    targets: Any
    number: int
    size: int


class Feed:
    """Batches of any data, each sample once and in order.

    **Arguments:** `data` a loader, data set, array, pair, dict, iterable of batches, function that makes one, or a `Data`. `samples` how
    many at most: evenly spaced over addressable data, the first ones of a stream. `batch_size` rows of a forward: by default those of
    the loader, whose batches are then kept as they are, else 128. `shard` (i, n): only the batches whose number is i modulo n.

    `length` and `batches` count what this feed gives, None where that is unknown; `notes` say how the data was read.

    **Raises:** `DataError` for data that is empty, used up, or has more than one reading.

    >>> (batch,) = Feed((np.arange(6.0).reshape(3, 2), [0, 1, 1]), batch_size=4)
    >>> batch.size, batch.samples.ids, batch.samples.labels
    (4, array([0, 1, 2]), array([0, 1, 1]))
    >>> batch.args[0][:, 0]
    array([0., 2., 4., 4.])
    """

    def __init__(
        self,
        data: Any,
        *,
        samples: int | None = None,
        batch_size: int | None = None,
        shard: tuple[int, int] | None = None,
    ) -> None:
        for name, value in (("samples", samples), ("batch_size", batch_size)):
            if value is not None and (not _data.is_key(value) or isinstance(value, str) or value < 1):
                raise DataError(f"Feed: {name}={value!r} is no number of samples. Give 1 or more, or leave it out.")
        self._data = data if isinstance(data, Data) else Data(data)
        self._shard = _checked_shard(shard)
        self._source = _open(self._data, samples, batch_size)
        self._notes: dict[str, None] = {}
        self._kind: str | None = None
        self.forward = self._data.forward
        self.score = self._data.score
        self.restartable = self._source.restartable
        self._first = self._source.head(batch_size or self._source.own_size)
        self.batch_size = batch_size or self._source.own_size or _data.count(self._first)
        self.length, self.batches = self._sizes()
        self._batch(self._first, 0, _data.count(self._first))  # its notes and its errors come now, not in the middle

    @property
    def notes(self) -> tuple[str, ...]:
        """Sentences that say how the data was read; some come while it is read."""
        return tuple(dict.fromkeys((*self._source.notes, *self._notes)))

    def __iter__(self) -> Iterator[Batch]:
        """The batches of this shard, from the beginning where the data can be restarted."""
        for number, size, columns in self._source.pieces(self.batch_size, self._shard):
            yield self._batch(columns, number, size)

    def peek(self, n: int) -> Batch:
        """The first samples, at most n, as one batch without padding; nothing is consumed."""
        if n < 1:
            raise DataError(f"Feed: peek({n}) asks for no samples. Give 1 or more.")
        rows = _data.count(self._first)
        columns = _data.cut(self._first, 0, n) if n <= rows else self._source.head(n)
        return self._batch(columns, 0, _data.count(columns))

    def _batch(self, columns: Columns, number: int, size: int) -> Batch:
        rows = _data.count(columns)
        with _during(f"batch {number}"):
            inputs = columns.inputs
            if self._data.preprocess is not None:
                inputs = _data.normal(self._data.preprocess(inputs), batch=True)
            args, kwargs = _data.arguments(inputs)
            _data.check_tensors(args, kwargs, preprocessed=self._data.preprocess is not None)
            if (given := _data.count((args, kwargs), "what preprocess gave")) != rows:
                raise DataError(
                    f"Data: preprocess made {given} rows of {rows} samples. It must give one row per sample, in order."
                )
            samples = Samples(
                self._ids(columns.ids, rows), self._labels(columns.target), self._mask(columns.mask, kwargs, rows)
            )
            args, kwargs = _data.pad((args, kwargs), size)
        return Batch(args, kwargs, samples, columns.target, number, size)

    def _ids(self, ids: Any, rows: int) -> NDArray[np.int64]:
        values, hashed = _data.read_ids(ids, rows)
        if hashed:
            self._note("ids are 64-bit hashes of the given ones, which are no integers")
        return values

    def _labels(self, target: Any) -> NDArray[np.int64] | None:
        # A matrix that a score= is for may be multi-label, and then looks one-hot in some batches.
        labels, kind = _data.read_labels(target, matrix=self.score is None)
        if self._kind is None:
            self._kind = kind
            self._note(f"{self._source.words}; {self._target_words(target, kind)}")
        if kind != self._kind:
            raise DataError(
                f"Data: the targets are {kind or 'no labels'} in this batch, but {self._kind or 'no labels'} in the first. "
                "Say what they are: ls.Data(data, label=lambda item: ...) for labels, score=... for other targets, or label=False."
            )
        return labels

    def _target_words(self, target: Any, kind: str) -> str:
        where = self._source.target_words
        if target is None:
            return "no labels"
        if kind:
            return f"labels: {where} ({kind})"
        name = "second element" if where == "item[1]" else where
        follows = "accuracy is not computed" if self.score is None else "left to score="
        return f"{name} is not labels ({_data.describe(target)}): {follows}"

    def _mask(self, mask: Any, kwargs: Mapping[str, Any], rows: int) -> NDArray[np.bool_] | None:
        if mask is not None:
            self._note("mask: as given in ls.Data")
            return _data.read_mask(mask, rows, "mask=")
        mask = kwargs.get("attention_mask")
        if mask is None or self._data.mask is False:
            return None
        if len(mask.shape) != 2:
            self._note(f"attention_mask ({_data.describe(mask)}) is no mask of positions: passed to the model only")
            return None
        self._note("mask: attention_mask")
        return _data.read_mask(mask, rows, "attention_mask")

    def _note(self, sentence: str) -> None:
        self._notes[sentence] = None

    def _sizes(self) -> tuple[int | None, int | None]:
        (i, n), length, batches = self._shard, self._source.length, self._source.batches
        if length is not None:
            batches = -(-length // self.batch_size)
            length = sum(min(self.batch_size, length - number * self.batch_size) for number in range(i, batches, n))
        return length, None if batches is None else len(range(i, batches, n))


def _checked_shard(shard: Any) -> tuple[int, int]:
    if shard is None:
        return 0, 1
    whole = (
        isinstance(shard, (tuple, list))
        and len(shard) == 2
        and all(_data.is_key(x) and not isinstance(x, str) for x in shard)
    )
    if not whole or not 0 <= shard[0] < shard[1]:
        raise DataError(
            f"Feed: shard={shard!r} is not (i, n) with 0 <= i < n. Write shard=(0, 4) for the first of four."
        )
    return int(shard[0]), int(shard[1])


@contextmanager
def _during(what: str) -> Iterator[None]:
    """Says with an exception that passes by where in the data it came from."""
    try:
        yield
    except Exception as error:
        note = f"layerscope: while reading {what} of the data"
        if note not in getattr(error, "__notes__", ()):
            error.add_note(note)
        raise


# Sources


class _Table:
    """Samples that can be asked for by index."""

    restartable = True

    def __init__(
        self,
        read: Callable[[NDArray[np.int64]], Columns],
        total: int,
        data: Data,
        layout: Layout,
        *,
        samples: int | None,
        own_size: int | None = DEFAULT_BATCH,
        notes: tuple[str, ...] = (),
    ) -> None:
        if total == 0:
            raise DataError("Data: the data is empty: it has 0 samples. Give at least one.")
        self._read, self._total, self.own_size = read, total, own_size
        self.length = total if samples is None else min(samples, total)
        self.batches: int | None = None
        self._given = {"target": data.label, "mask": data.mask, "ids": data.ids}
        self._given = {
            name: _data.normal(array, batch=True) for name, array in self._given.items() if _data.whole(array)
        }
        for name, array in self._given.items():
            if _data.length(array) != total:
                argument = "label" if name == "target" else name
                raise DataError(
                    f"Data: {argument}= has {_data.length(array)} rows for {total} samples. Give one row per sample, in their order."
                )
        few = (f"{self.length:,} of {total:,} samples, evenly spaced",) if self.length < total else ()
        self.notes = (*notes, *few)
        self.words, self.target_words = (
            layout.words(),
            "label=" if "target" in self._given else _data.place(layout.label),
        )

    def pieces(self, size: int, shard: tuple[int, int]) -> Iterator[tuple[int, int, Columns]]:
        first: dict[str, str] = {}
        for number in range(shard[0], -(-self.length // size), shard[1]):
            with _during(f"batch {number}"):
                columns = self._take(number * size, min((number + 1) * size, self.length))
                first = first or _data.form(columns, sizes_from=1)
                _data.same_form(first, _data.form(columns, sizes_from=1), ("the first batch", "this one"), _UNLIKE)
            yield number, size, columns

    def head(self, n: int | None) -> Columns:
        """The first n samples."""
        with _during("batch 0"):
            return self._take(0, min(n or DEFAULT_BATCH, self.length))

    def _take(self, start: int, stop: int) -> Columns:
        index = np.arange(start, stop, dtype=np.int64) * self._total // self.length
        columns = self._read(index)
        columns = columns._replace(**{name: _data.take(array, index) for name, array in self._given.items()})
        if (rows := _data.count(columns)) != len(index):
            raise DataError(
                f"Data: asked for {len(index)} samples, got {rows}. A collate function must keep every sample."
            )
        return columns if columns.ids is not None else columns._replace(ids=index)


class _Stream:
    """Items that come one after the other; the first are looked at before they are taken."""

    def __init__(
        self,
        begin: Callable[[], Iterator[Any]],
        data: Data,
        *,
        samples: int | None,
        batch_size: int | None,
        bare: str = "batches",
        own_size: int | None = None,
        length: int | None = None,
        batches: int | None = None,
        restartable: bool = True,
        notes: tuple[str, ...] = (RUNNING + "the data has no addressable index",),
    ) -> None:
        for name in ("label", "mask", "ids"):
            if _data.whole(getattr(data, name)):
                raise DataError(
                    f"Data: {name}= is a whole array, but the data is a stream, whose samples have no index. "
                    f"Say where it lies in an item, {name}='key' or a function, or give the data as arrays."
                )
        self.begin, self.restartable = begin, restartable
        self._limit, self._exact = samples, batch_size is not None
        self._ahead: _Lookahead | None = _Lookahead(begin())
        with _during("batch 0"):
            first = next(self._ahead.look(), _NOTHING)
        if first is _NOTHING:
            raise DataError(_EMPTY if restartable else _USED_UP)
        self.layout = _data.locate(data, first)
        self._singles = _singles(self.layout.select(first), bare)
        self.own_size = DEFAULT_BATCH if self._singles else own_size
        self.length = length if samples is None or length is None else min(samples, length)
        self.batches = batches if samples is None and not self._exact and not self._singles else None
        few = () if samples is None else (f"the first {samples:,} samples of the stream",)
        self.notes: tuple[str, ...] = (*(() if data.ids is not None else notes), *few)
        self.words, self.target_words = self.layout.words(), _data.place(self.layout.label)

    def pieces(self, size: int, shard: tuple[int, int]) -> Iterator[tuple[int, int, Columns]]:
        stream = self._columns(self._items(), size)
        number = -1
        for number, columns in enumerate(recut(stream, size) if self._exact else stream):
            size = max(size, _data.count(columns))
            if number % shard[1] == shard[0]:
                yield number, size, columns
        if number < 0:
            raise DataError(_USED_UP)

    def head(self, n: int | None) -> Columns:
        """The first n samples, or fewer where batches cannot be joined; without n the first batch."""
        if self._ahead is None and not self.restartable:
            raise DataError(_USED_UP)
        if self._ahead is None:
            self._ahead = _Lookahead(self.begin())
        held: list[Columns] = []
        for columns in self._columns(self._ahead.look(), n or DEFAULT_BATCH):
            if held and not self._exact and _data.form(held[0], sizes_from=1) != _data.form(columns, sizes_from=1):
                break
            held.append(columns)
            if n is None or sum(map(_data.count, held)) >= n:
                break
        if not held:
            raise DataError(_EMPTY)
        columns = _data.concat(held)
        rows = _data.count(columns)
        return _data.cut(columns, 0, min(n or rows, rows))

    def _items(self) -> Iterator[Any]:
        ahead, self._ahead = self._ahead, None
        if ahead is None and not self.restartable:
            raise DataError(_USED_UP)
        return ahead or self.begin()

    def _columns(self, items: Iterator[Any], size: int) -> Iterator[Columns]:
        """Raw batches, numbered, of one form, none empty, and no more than were asked for."""
        start, first = 0, {}
        for number, columns in _numbered(self._raw(items, size)):
            with _during(f"batch {number}"):
                rows = _data.count(columns)
                if rows == 0:
                    self.notes = (*self.notes, f"batch {number} of the data has no samples and was skipped")
                    continue
                first = first or _data.form(columns, sizes_from=99)
                _data.same_form(first, _data.form(columns, sizes_from=99), ("the first batch", "this one"), _UNLIKE)
                if columns.ids is None:
                    columns = columns._replace(ids=np.arange(start, start + rows))
            if self._limit is not None and start + rows >= self._limit:
                yield _data.cut(columns, 0, self._limit - start)
                return
            yield columns
            start += rows

    def _raw(self, items: Iterator[Any], size: int) -> Iterator[Columns]:
        if not self._singles:
            for item in items:
                yield _data.normal(self.layout.select(item), batch=True)
            return
        size = min(size, self._limit or size)
        while samples := [_data.normal(self.layout.select(item), batch=False) for item in islice(items, size)]:
            yield _data.stack(samples)


class _Lookahead:
    """An iterator whose next items can be seen without being taken."""

    def __init__(self, items: Iterator[Any]) -> None:
        self._items, self._seen = items, deque[Any]()

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        return self._seen.popleft() if self._seen else next(self._items)

    def look(self) -> Iterator[Any]:
        """The items to come, which stay to come."""
        yield from list(self._seen)
        for item in self._items:
            self._seen.append(item)
            yield item


_NOTHING = object()
_EMPTY = "Data: the data gave nothing: it is empty. Give at least one sample."
_USED_UP = "Data: the data gave nothing: it was used up, or empty. Pass a list, or a function that makes one: lambda: make_batches()."
_UNLIKE = "All batches must have the same parts, types and axes: convert them where they are made."


def recut(stream: Iterable[Columns], size: int) -> Iterator[Columns]:
    """The same samples in the same order, cut anew: all pieces but the last have `size` samples."""
    held: list[Columns] = []
    waiting = 0
    for columns in stream:
        start, rows = 0, _data.count(columns)
        while waiting + rows - start >= size:
            stop = start + size - waiting
            yield _data.concat([*held, _data.cut(columns, start, stop)])
            held, waiting, start = [], 0, stop
        if start < rows:
            held.append(_data.cut(columns, start, rows))
            waiting += rows - start
    if held:
        yield _data.concat(held)


def _numbered(items: Iterator[Any]) -> Iterator[tuple[int, Any]]:
    number = 0
    while True:
        with _during(f"batch {number}"):
            item = next(items, _NOTHING)
        if item is _NOTHING:
            return
        yield number, item
        number += 1


# Opening


def _open(data: Data, samples: int | None, batch_size: int | None) -> _Table | _Stream:
    """What kind of source it is, told by what it can do; frameworks are known only if the user imported them."""
    source = data.source
    if isinstance(source, (str, bytes)):
        raise DataError(
            f"Data: {source!r} is text, not data. Load it first, for example np.load({source!r}, mmap_mode='r')."
        )
    if hasattr(source, "iloc"):
        raise DataError(
            "Data: a data frame does not say what goes into the model. Write (frame[[...]].to_numpy(), frame['label'])."
        )
    if _made_by(source, "torch.utils.data", "TensorDataset", exactly=True):
        source = tuple(source.tensors)
    if _is_columns(source, data):
        return _columns_table(source, data, samples)
    if _made_by(source, "torch.utils.data", "DataLoader"):
        return _open_loader(source, data, samples, batch_size)
    if _made_by(source, "torch.utils.data", "IterableDataset"):
        return _Stream(lambda: iter(source), data, samples=samples, batch_size=batch_size, bare="samples")
    if _made_by(source, "torch.utils.data", "Dataset") or _made_by(source, "datasets", "Dataset"):
        if not hasattr(source, "__len__"):
            raise DataError(
                f"Data: {type(source).__name__} has no length. Give it a __len__, or wrap it in a DataLoader."
            )
        return _items_table(source, data, samples)
    if hasattr(source, "__getitem__") and hasattr(source, "__len__"):
        return _open_sequence(source, data, samples, batch_size)
    if callable(source) and not hasattr(source, "__iter__"):
        return _open_function(source, data, samples, batch_size)
    if hasattr(source, "__iter__"):
        own = getattr(source, "batch_size", None)
        return _Stream(
            lambda: iter(source),
            data,
            samples=samples,
            batch_size=batch_size,
            bare="unclear" if _fixed_shape(source) else "batches",
            own_size=own if isinstance(own, int) else None,
            batches=_length(source),
            restartable=not isinstance(source, Iterator),
        )
    raise DataError(
        f"Data: a {type(source).__name__} is no data that can be read. Give arrays, a pair (x, y), a data set, a loader, an iterable of "
        "batches, or a function that makes one."
    )


def _made_by(source: Any, module: str, name: str, *, exactly: bool = False) -> bool:
    kind = getattr(sys.modules.get(module), name, None)
    return kind is not None and (type(source) is kind if exactly else isinstance(source, kind))


def _length(source: Any) -> int | None:
    try:
        return len(source)
    except TypeError:
        return None


def _fixed_shape(source: Any) -> bool:
    """Whether a tf.data set could be of batches or of samples: its arrays have no open axis."""
    spec = getattr(source, "element_spec", None)
    return spec is not None and len(shape := getattr(spec, "shape", (None,))) > 0 and shape[0] is not None


def _is_columns(source: Any, data: Data) -> bool:
    """Whether the source is arrays along the samples, rather than items."""
    if _data.is_array(source) or isinstance(source, (tuple, Mapping)):
        return True
    chosen = data.inputs is not None and not isinstance(data.inputs, str) and not callable(data.inputs)
    return isinstance(source, list) and len(source) > 0 and chosen and all(_data.is_array(part) for part in source)


def _columns_table(source: Any, data: Data, samples: int | None) -> _Table:
    columns = _data.normal(source, batch=True)
    layout = _data.locate(data, columns)
    if any(callable(part) for part in (layout.inputs, layout.label, layout.mask, layout.ids)):
        total = _data.count(columns, "the data")
        return _Table(
            lambda index: _data.normal(layout.select(_data.take(columns, index)), batch=True),
            total,
            data,
            layout,
            samples=samples,
        )
    chosen = layout.select(columns)
    return _Table(
        lambda index: _data.take(chosen, index), _data.count(chosen, "the data"), data, layout, samples=samples
    )


def _items_table(source: Any, data: Data, samples: int | None) -> _Table:
    total = len(source)
    layout = _data.locate(data, source[0]) if total else Layout()

    def read(index: NDArray[np.int64]) -> Columns:
        return _data.stack([_data.normal(layout.select(source[int(i)]), batch=False) for i in index])

    return _Table(read, total, data, layout, samples=samples)


def _open_sequence(source: Any, data: Data, samples: int | None, batch_size: int | None) -> _Table | _Stream:
    """A list: of single samples when their targets are single values, else of batches."""
    total = len(source)
    if total == 0:
        raise DataError(_EMPTY)
    first = source[0]
    if (
        _data.is_array(first)
        or _data.is_number(first)
        or (isinstance(first, (list, tuple)) and all(map(_data.is_number, first)))
    ):
        kinds = f"a list of {total} arrays" if _data.is_array(first) else "a list of numbers"
        raise DataError(
            f"Data: {kinds} could be batches, samples, inputs or a pair. Write np.stack(data) if they are samples, lambda: iter(data) if "
            "they are batches, (x, y) if they are inputs and targets, ls.Data(data, inputs=[0, 1]) if they are several inputs."
        )
    layout = _data.locate(data, first)
    if not _made_by(source, "keras.utils", "PyDataset") and _singles(layout.select(first), "unclear"):
        return _items_table(source, data, samples)
    return _Stream(lambda: _begin(source), data, samples=samples, batch_size=batch_size, batches=total)


def _singles(columns: Columns, bare: str) -> bool:
    """Whether items are single samples: their target is one value, or an input is (a text, a picture)."""
    if columns.target is not None:
        return _data.is_scalar(columns.target)
    if any(leaf is not None and _data.is_scalar(leaf) for _, leaf in _data.leaves(columns.inputs)):
        return True
    if bare == "unclear" and any(_data.is_array(leaf) for _, leaf in _data.leaves(columns.inputs)):
        raise DataError(
            "Data: the items hold arrays and no target, so they could be batches or single samples. "
            "Write lambda: iter(data) if they are batches, np.stack(...) of them if they are samples."
        )
    return bare == "samples"


def _begin(source: Any) -> Iterator[Any]:
    return iter(source) if hasattr(source, "__iter__") else (source[i] for i in range(len(source)))


def _open_function(source: Any, data: Data, samples: int | None, batch_size: int | None) -> _Table | _Stream:
    try:
        inspect.signature(source).bind()
    except (TypeError, ValueError):
        raise DataError(
            f"Data: {getattr(source, '__name__', source)!r} cannot be called without arguments. Give a function that makes the data: "
            "lambda: make(...)."
        ) from None
    made = source()
    if callable(made) and not hasattr(made, "__iter__") and not hasattr(made, "__getitem__"):
        raise DataError("Data: the function gave a function. Give one that makes the data itself.")
    opened = _open(replace(data, source=made), samples, batch_size)
    if isinstance(opened, _Stream):
        opened.begin, opened.restartable = lambda: _begin(source()), True
    return opened


def _open_loader(loader: Any, data: Data, samples: int | None, batch_size: int | None) -> _Table | _Stream:
    """A torch loader. In the order of its data set it is addressable: its ids are indices, and a few samples can be spread out."""
    torch = sys.modules["torch.utils.data"]
    in_order = type(loader.sampler) is torch.SequentialSampler and type(loader.batch_sampler) is torch.BatchSampler
    total = _length(loader.sampler) if type(loader.batch_sampler) is torch.BatchSampler else None
    if in_order and samples is not None and samples < len(loader.dataset):
        layout = _data.locate(data, loader.collate_fn([loader.dataset[0]]))

        def read(index: NDArray[np.int64]) -> Columns:
            batch = loader.collate_fn([loader.dataset[int(i)] for i in index])
            return _data.normal(layout.select(batch), batch=True)

        size = loader.batch_size
        note = "samples were read from the loader's data set with its collate_fn, without its workers"
        return _Table(read, len(loader.dataset), data, layout, samples=samples, own_size=size, notes=(note,))
    if total is not None and loader.drop_last:
        total -= total % loader.batch_size
    return _Stream(
        lambda: iter(loader),
        data,
        samples=samples,
        batch_size=batch_size,
        own_size=loader.batch_size,
        length=total,
        batches=_length(loader),
        notes=() if in_order else (RUNNING + "the loader's order is not that of its data",),
    )

"""From a user's data to batches of one size: source → items → raw batches → re-cut → `Batch`.

Two kinds of source: a *table* knows its length and gives any of its samples (arrays, data sets, files); a *stream* only goes on
(loaders, generators). Tables are read batch by batch, never whole, and a shard of a table reads no other shard's samples.
"""

import inspect
import sys
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
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
_NOTHING = object()
_EMPTY = "Data: the data gave nothing: it is empty. Give at least one sample."
_USED_UP = "Data: the data gave nothing: it was used up, or empty. Pass a list, or a function that makes one: lambda: make_batches()."
_UNLIKE = "All batches must have the same parts, types and axes: convert them where they are made."


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

    A pair is (inputs, target); a list or stream holds single samples where its targets are single values, else batches. A list of bare
    arrays could be either, and raises. `length` and `batches` count what this feed gives, None where that is unknown; `notes` say how
    the data was read.

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
        self._data = data if isinstance(data, Data) else Data(data)
        self._cut = _Cut(samples, batch_size, (0, 1) if shard is None else shard)
        self._source = _open(self._data, self._cut)
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
        for number, size, columns in self._source.pieces(self.batch_size):
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
            _data.check_arrays(inputs, preprocessed=self._data.preprocess is not None)
            if (given := _data.count(inputs, "what preprocess gave")) != rows:
                raise DataError(
                    f"Data: preprocess made {given} rows of {rows} samples. It must give one row per sample, in order."
                )
            args, kwargs = _data.arguments(inputs)
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
            self._note(f"inputs: {self._source.words}; {self._target_words(target, kind)}")
        if self._kind and kind != self._kind:
            raise DataError(
                f"Data: the targets are {kind or 'no labels'} in this batch, but {self._kind} in the first. "
                "Say what they are: ls.Data(data, label=lambda item: ...) for labels, score=... for other targets, or label=False."
            )
        return labels if self._kind else None

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
        (i, n), length, batches = self._cut.shard, self._source.length, self._source.batches
        if length is not None:
            batches = -(-length // self.batch_size)
            length = sum(min(self.batch_size, length - number * self.batch_size) for number in range(i, batches, n))
        return length, None if batches is None else len(range(i, batches, n))


@contextmanager
def _during(what: str) -> Generator[None]:
    """Says with an exception that passes by where in the data it came from."""
    try:
        yield
    except Exception as error:
        note = f"layerscope: while reading {what} of the data"
        if note not in getattr(error, "__notes__", ()):
            error.add_note(note)
        raise


# ---- sources: how samples are got


@dataclass(frozen=True)
class _Cut:
    """How many samples, in batches of what size, and which of these."""

    samples: int | None
    batch_size: int | None
    shard: tuple[int, int]

    def __post_init__(self) -> None:
        for name in ("samples", "batch_size"):
            value = getattr(self, name)
            if value is not None and not (_is_int(value) and value > 0):
                raise DataError(f"Feed: {name}={value!r} is no number of samples. Give 1 or more, or leave it out.")
        shard: Any = self.shard
        if not (_data.is_list(shard) and len(shard) == 2 and all(map(_is_int, shard)) and 0 <= shard[0] < shard[1]):
            raise DataError(
                f"Feed: shard={shard!r} is not (i, n) with 0 <= i < n. Write shard=(0, 4) for the first of four."
            )


def _is_int(value: Any) -> bool:
    return _data.is_key(value) and not isinstance(value, str)


class _Table:
    """Samples that can be asked for by index: `read` gives those of an increasing index."""

    restartable = True
    batches: int | None = None

    def __init__(
        self,
        read: Callable[[NDArray[np.int64]], Columns],
        total: int,
        data: Data,
        layout: Layout,
        cut: _Cut,
        *,
        own_size: int = DEFAULT_BATCH,
        notes: tuple[str, ...] = (),
    ) -> None:
        if total == 0:
            raise DataError(_EMPTY)
        self._read, self._total, self._cut, self.own_size = read, total, cut, own_size
        self.length = min(cut.samples or total, total)
        given = {"label": data.label, "mask": data.mask, "ids": data.ids}
        self._given = {name: _data.normal(array, batch=True) for name, array in given.items() if _data.is_whole(array)}
        for name, array in self._given.items():
            if (rows := _data.length(array)) != total:
                raise DataError(
                    f"Data: {name}= has {rows} rows for {total} samples. Give one row per sample, in their order."
                )
        self.words = layout.words()
        self.target_words = "label=" if "label" in self._given else _data.place(layout.label)
        few = (f"{self.length:,} of {total:,} samples, evenly spaced",) if self.length < total else ()
        self.notes = (*notes, *few)

    def pieces(self, size: int) -> Iterator[tuple[int, int, Columns]]:
        """Number, rows to pad to, and samples of each batch of the shard."""
        first: dict[str, str] = {}
        for number in range(self._cut.shard[0], -(-self.length // size), self._cut.shard[1]):
            with _during(f"batch {number}"):
                columns = self._take(number * size, min((number + 1) * size, self.length))
                here = _data.form(columns, sizes_from=1)
                first = first or here
                _data.check_form(here, first, ("this batch", "the first one"), _UNLIKE)
            yield number, size, columns

    def head(self, n: int | None) -> Columns:
        """The first n samples."""
        with _during("batch 0"):
            return self._take(0, min(n or self.own_size, self.length))

    def _take(self, start: int, stop: int) -> Columns:
        index = np.arange(start, stop, dtype=np.int64) * self._total // self.length
        columns = self._read(index)
        given = {name: _data.take(array, index) for name, array in self._given.items()}
        if "label" in given:
            given["target"] = given.pop("label")
        columns = columns._replace(**given)
        if (rows := _data.count(columns)) != len(index):
            raise DataError(
                f"Data: {len(index)} samples were asked for, {rows} came. A collate_fn must keep every sample."
            )
        return columns if columns.ids is not None else columns._replace(ids=index)


class _Stream:
    """Items that come one after the other; `begin` starts anew, and the first item is looked at before it is taken.

    `bare` says what items without a target are: "batches", "samples", or "unclear", which raises.
    """

    def __init__(
        self,
        begin: Callable[[], Iterator[Any]],
        data: Data,
        cut: _Cut,
        *,
        bare: str = "batches",
        own_size: int | None = None,
        length: int | None = None,
        batches: int | None = None,
        restartable: bool = True,
        ids: str | None = "the data has no addressable index",
    ) -> None:
        for name in ("label", "mask", "ids"):
            if _data.is_whole(getattr(data, name)):
                raise DataError(
                    f"Data: {name}= is a whole array, but the data is a stream, whose samples have no index. "
                    f"Say where it lies in an item, {name}='key' or a function, or give the data as arrays."
                )
        self.begin, self.restartable, self._cut = begin, restartable, cut
        self._ahead: _Lookahead | None = _Lookahead(begin())
        with _during("batch 0"):
            first = next(self._ahead.look(), _NOTHING)
        if first is _NOTHING:
            raise DataError(_EMPTY if restartable else _USED_UP)
        self._layout = _data.locate(data, first)
        self._singles = _singles(self._layout.select(first), bare)
        self.own_size = DEFAULT_BATCH if self._singles else own_size
        limit = cut.samples if length is None or (cut.samples or 0) < length else None
        self.length = length if limit is None or length is None else limit
        self.batches = batches if cut.samples is None and cut.batch_size is None and not self._singles else None
        self.words, self.target_words = self._layout.words(), _data.place(self._layout.label)
        running = () if data.ids is not None or ids is None else (f"ids are running numbers: {ids}",)
        self.notes: tuple[str, ...] = (
            running if limit is None else (*running, f"the first {limit:,} samples of the stream")
        )

    def pieces(self, size: int) -> Iterator[tuple[int, int, Columns]]:
        """Number, rows to pad to, and samples of each batch of the shard."""
        i, n = self._cut.shard
        stream = self._columns(self._items(), size)
        number = -1
        for number, columns in enumerate(recut(stream, size) if self._cut.batch_size else stream):
            size = max(size, _data.count(columns))
            if number % n == i:
                yield number, size, columns
        if number < 0:
            raise DataError(_USED_UP)

    def head(self, n: int | None) -> Columns:
        """The first n samples, or fewer where batches cannot be joined; without n the first batch."""
        if self._ahead is None:
            self._ahead = _Lookahead(self._items())
        held: list[Columns] = []
        rows = 0
        for columns in self._columns(self._ahead.look(), n or DEFAULT_BATCH):
            joins = not held or _data.form(held[0], sizes_from=1) == _data.form(columns, sizes_from=1)
            if not joins and self._cut.batch_size is None:
                break
            held.append(columns)
            rows += _data.count(columns)
            if n is None or rows >= n:
                break
        if not held:
            raise DataError(_EMPTY)
        return _data.cut(_data.concat(held), 0, min(n or rows, rows))

    def _items(self) -> Iterator[Any]:
        ahead, self._ahead = self._ahead, None
        if ahead is None and not self.restartable:
            raise DataError(_USED_UP)
        return ahead or self.begin()

    def _columns(self, items: Iterator[Any], size: int) -> Iterator[Columns]:
        """Raw batches with ids, of one form, none empty, and no more samples than were asked for."""
        start = 0
        first: dict[str, str] = {}
        for number, columns in _numbered(self._raw(items, size)):
            with _during(f"batch {number}"):
                rows = _data.count(columns)
                if rows == 0:
                    self.notes = (*self.notes, f"batch {number} of the data has no samples and was skipped")
                    continue
                here = _data.form(columns, sizes_from=99)
                first = first or here
                _data.check_form(here, first, ("this batch", "the first one"), _UNLIKE)
            if columns.ids is None:
                columns = columns._replace(ids=np.arange(start, start + rows))
            if self._cut.samples is not None and start + rows >= self._cut.samples:
                yield _data.cut(columns, 0, self._cut.samples - start)
                return
            yield columns
            start += rows

    def _raw(self, items: Iterator[Any], size: int) -> Iterator[Columns]:
        """Each item read; single samples stacked, none taken beyond those asked for."""
        if not self._singles:
            yield from (_data.normal(self._layout.select(item), batch=True) for item in items)
            return
        left = self._cut.samples
        while singles := list(islice(items, size if left is None else min(size, left))):
            yield _data.stack([_data.normal(self._layout.select(item), batch=False) for item in singles])
            left = None if left is None else left - len(singles)


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
        yield from tuple(self._seen)
        for item in self._items:
            self._seen.append(item)
            yield item


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


# ---- opening: which source it is


def _open(data: Data, cut: _Cut) -> _Table | _Stream:
    """What kind of source it is, told by what it can do; a framework is known only if the user imported it."""
    source = data.source
    _refuse(source)
    if _made_by(source, "torch.utils.data", "TensorDataset", exactly=True):
        source = tuple(source.tensors)
    if _is_columns(source, data):
        return _open_columns(source, data, cut)
    if _made_by(source, "torch.utils.data", "DataLoader"):
        return _open_loader(source, data, cut)
    if _made_by(source, "torch.utils.data", "IterableDataset"):
        return _Stream(lambda: iter(source), data, cut, bare="samples")
    if _made_by(source, "keras.utils", "PyDataset"):
        return _Stream(lambda: _begin(source), data, cut, batches=_length(source))
    if _made_by(source, "torch.utils.data", "Dataset") or _made_by(source, "datasets", "Dataset"):
        return _open_items(source, data, cut)
    if hasattr(source, "__getitem__") and hasattr(source, "__len__"):
        return _open_sequence(source, data, cut)
    if hasattr(source, "__iter__"):
        own = getattr(source, "batch_size", None)
        return _Stream(
            lambda: _begin(source),
            data,
            cut,
            bare="unclear" if _has_fixed_shape(source) else "batches",
            own_size=own if _is_int(own) else None,
            batches=_length(source),
            restartable=not isinstance(source, Iterator),
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
    if (_data.is_list(source) or _data.is_mapping(source)) and len(source) == 0:
        raise DataError(_EMPTY)


def _made_by(source: Any, module: str, name: str, *, exactly: bool = False) -> bool:
    kind = getattr(sys.modules.get(module), name, None)
    return kind is not None and (type(source) is kind if exactly else isinstance(source, kind))


def _length(source: Any) -> int | None:
    try:
        return len(source)
    except TypeError:
        return None


def _begin(source: Any) -> Iterator[Any]:
    return iter(source) if hasattr(source, "__iter__") else (source[i] for i in range(len(source)))


def _has_fixed_shape(source: Any) -> bool:
    """Whether items of a tf.data set could be batches or samples: an array has no open first axis."""
    shapes = (leaf.shape for _, leaf in _data.leaves(getattr(source, "element_spec", None)) if _data.is_array(leaf))
    return any(shape.rank and shape[0] is not None for shape in shapes)


def _is_columns(source: Any, data: Data) -> bool:
    """Whether the source is arrays along the samples, rather than items; a list only when its parts are named by index."""
    if _data.is_list(source) and not _data.is_tuple(source):
        named = data.inputs is not None and not callable(data.inputs)
        return named and all(map(_data.is_array, source))
    return _data.is_array(source) or _data.is_list(source) or _data.is_mapping(source)


def _open_columns(source: Any, data: Data, cut: _Cut) -> _Table:
    columns = _data.normal(source, batch=True)
    layout = _data.locate(data, columns)
    if any(map(callable, (layout.inputs, layout.label, layout.mask, layout.ids))):

        def read(index: NDArray[np.int64]) -> Columns:
            return _data.normal(layout.select(_data.take(columns, index)), batch=True)

        return _Table(read, _data.count(columns, "the data"), data, layout, cut)
    chosen = layout.select(columns)
    return _Table(lambda index: _data.take(chosen, index), _data.count(chosen, "the data"), data, layout, cut)


def _open_items(source: Any, data: Data, cut: _Cut) -> _Table:
    """A data set that gives one sample by index."""
    if (total := _length(source)) is None:
        raise DataError(f"Data: {type(source).__name__} has no length. Give it a __len__, or wrap it in a DataLoader.")
    layout = _data.locate(data, source[0]) if total else Layout()

    def read(index: NDArray[np.int64]) -> Columns:
        return _data.stack([_data.normal(layout.select(source[int(i)]), batch=False) for i in index])

    return _Table(read, total, data, layout, cut)


def _open_sequence(source: Any, data: Data, cut: _Cut) -> _Table | _Stream:
    """A list: of single samples where a target is one value, or an input a text or picture; else of batches."""
    if (total := len(source)) == 0:
        raise DataError(_EMPTY)
    first = source[0]
    if _data.is_array(first) or _data.is_number(first) or (_data.is_list(first) and all(map(_data.is_number, first))):
        kinds = f"{total} arrays" if _data.is_array(first) else "numbers"
        raise DataError(
            f"Data: a list of {kinds} could be batches, samples, several inputs or a pair. Write lambda: iter(data) if they are batches, "
            "np.stack(data) if they are samples, ls.Data(data, inputs=[0, 1]) for several inputs, (x, y) for inputs and targets."
        )
    if _singles(_data.locate(data, first).select(first), "unclear"):
        return _open_items(source, data, cut)
    return _Stream(lambda: _begin(source), data, cut, batches=total)


def _singles(columns: Columns, bare: str) -> bool:
    """Whether an item is a single sample: its target is one value, or an input is (a text, a picture)."""
    if columns.target is not None:
        return _data.is_scalar(columns.target)
    inputs = [leaf for _, leaf in _data.leaves(_data.normal(columns.inputs, batch=True))]
    if any(map(_data.is_scalar, inputs)):
        return True
    if bare == "unclear" and any(map(_data.is_array, inputs)):
        raise DataError(
            "Data: the items hold arrays and no target, so they could be batches or single samples. "
            "Write lambda: iter(data) if they are batches, np.stack(...) of them if they are samples."
        )
    return bare == "samples"


def _open_function(source: Any, data: Data, cut: _Cut) -> _Table | _Stream:
    """A function that makes the data, called anew for each pass."""
    name = getattr(source, "__name__", type(source).__name__)
    try:
        inspect.signature(source).bind()
    except (TypeError, ValueError):
        raise DataError(
            f"Data: {name} needs arguments. Give a function of none that makes the data: lambda: {name}(...)."
        ) from None
    opened = _open(replace(data, source=source()), cut)
    if isinstance(opened, _Stream):
        opened.begin, opened.restartable = lambda: _begin(source()), True
    return opened


def _open_loader(loader: Any, data: Data, cut: _Cut) -> _Table | _Stream:
    """A torch loader. One that keeps the order of its data set is addressable: ids are indices, and a few samples can be spread out."""
    torch = sys.modules["torch.utils.data"]
    plain = type(loader.batch_sampler) is torch.BatchSampler
    in_order = plain and type(loader.sampler) is torch.SequentialSampler
    if in_order and cut.samples is not None and cut.samples < len(loader.dataset):
        layout = _data.locate(data, loader.collate_fn([loader.dataset[0]]))

        def read(index: NDArray[np.int64]) -> Columns:
            batch = loader.collate_fn([loader.dataset[int(i)] for i in index])
            return _data.normal(layout.select(batch), batch=True)

        note = "samples were read from the loader's data set with its collate_fn, without its workers"
        return _Table(read, len(loader.dataset), data, layout, cut, own_size=loader.batch_size, notes=(note,))
    total = _length(loader.sampler) if plain else None
    if total is not None and loader.drop_last:
        total -= total % loader.batch_size
    return _Stream(
        lambda: iter(loader),
        data,
        cut,
        own_size=loader.batch_size,
        length=total,
        batches=_length(loader),
        ids=None if in_order else "the loader's order is not that of its data",
    )

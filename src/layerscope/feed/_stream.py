"""Data that only goes on, and may be asked to start anew: loaders, generators, lists of batches."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Any

import numpy as np

from .._errors import DataError
from . import _nest as nest
from ._data import Data, is_whole
from ._layout import locate, place
from ._nest import Columns
from ._source import DEFAULT_BATCH, EMPTY, UNLIKE, AbstractSource, Cut, during, is_single

_NOTHING = object()
_USED_UP = "Data: the data gave nothing: it was used up, or empty. Pass a list, or a function that makes one: lambda: make_batches()."


class Stream(AbstractSource):
    """Items that come one after the other; `begin` starts anew, and the first item is looked at before it is taken.

    `bare` says what items without a target are: "batches", "samples", or "unclear", which raises; `begun` that it gave items before.
    """

    def __init__(
        self,
        begin: Callable[[], Iterator[Any]],
        data: Data,
        cut: Cut,
        *,
        bare: str = "batches",
        own_size: int | None = None,
        length: int | None = None,
        batches: int | None = None,
        restartable: bool = True,
        begun: bool = False,
        ids: str | None = "the data has no addressable index",
    ) -> None:
        _refuse_whole(data)
        self.begin, self.restartable, self._cut = begin, restartable, cut
        self._ahead: _Lookahead | None = _Lookahead(begin())
        with during("batch 0"):
            first = next(self._ahead.look(), _NOTHING)
        if first is _NOTHING:
            raise DataError(EMPTY if restartable else _USED_UP)
        self._layout = locate(data, first)
        self._singles = is_single(self._layout.select(first), bare)
        self.own_size = DEFAULT_BATCH if self._singles else own_size
        self.length = None if length is None else min(cut.samples or length, length)
        self.batches = batches if cut.samples is None and cut.batch_size is None and not self._singles else None
        self.words, self.target_words = self._layout.words(), place(self._layout.label)
        running = () if data.ids is not None or ids is None else (f"ids are running numbers: {ids}",)
        running += ("the generator had given items before, which are not among these samples",) if begun else ()
        few = cut.samples is not None and (length is None or cut.samples < length)
        self.notes = (*running, f"the first {cut.samples:,} samples of the stream") if few else running

    def pieces(self, size: int) -> Iterator[tuple[int, int, Columns]]:
        i, n = self._cut.shard
        stream = self._columns(self._items(), size)
        number = -1
        for number, columns in enumerate(recut(stream, size) if self._cut.batch_size else stream):
            size = max(size, nest.count(columns))
            if number % n == i:
                yield number, size, columns
        if number < 0:
            raise DataError(_USED_UP)

    def head(self, n: int | None) -> Columns:
        if self._ahead is None:
            self._ahead = _Lookahead(self._items())
        held: list[Columns] = []
        rows = 0
        for columns in self._columns(self._ahead.look(), n or DEFAULT_BATCH):
            joins = not held or nest.form(held[0], sizes_from=1) == nest.form(columns, sizes_from=1)
            if not joins and self._cut.batch_size is None:
                break
            held.append(columns)
            rows += nest.count(columns)
            if n is None or rows >= n:
                break
        if not held:
            raise DataError(EMPTY)
        return nest.cut(nest.join(held), 0, min(n or rows, rows))

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
            with during(f"batch {number}"):
                rows = nest.count(columns)
                if rows == 0:
                    self.notes = (*self.notes, f"batch {number} of the data has no samples and was skipped")
                    continue
                here = nest.form(columns)
                first = first or here
                nest.check_form(here, first, ("this batch", "the first one"), UNLIKE)
            if columns.ids is None:
                columns = columns._replace(ids=np.arange(start, start + rows))
            if self._cut.samples is not None and start + rows >= self._cut.samples:
                yield nest.cut(columns, 0, self._cut.samples - start)
                return
            yield columns
            start += rows

    def _raw(self, items: Iterator[Any], size: int) -> Iterator[Columns]:
        """Each item read; single samples stacked, none taken beyond those asked for."""
        if not self._singles:
            yield from (nest.normal(self._layout.select(item), batch=True) for item in items)
            return
        left = self._cut.samples
        while singles := list(islice(items, size if left is None else min(size, left))):
            yield nest.stack([nest.normal(self._layout.select(item), batch=False) for item in singles])
            left = None if left is None else left - len(singles)


def _refuse_whole(data: Data) -> None:
    for name in ("label", "mask", "ids"):
        if is_whole(getattr(data, name)):
            raise DataError(
                f"Data: {name}= is a whole array, but the data is a stream, whose samples have no index. "
                f"Say where it lies in an item, {name}='key' or a function, or give the data as arrays."
            )


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
        start, rows = 0, nest.count(columns)
        while waiting + rows - start >= size:
            stop = start + size - waiting
            yield nest.join([*held, nest.cut(columns, start, stop)])
            held, waiting, start = [], 0, stop
        if start < rows:
            held.append(nest.cut(columns, start, rows))
            waiting += rows - start
    if held:
        yield nest.join(held)


def _numbered(items: Iterator[Any]) -> Iterator[tuple[int, Any]]:
    number = 0
    while True:
        with during(f"batch {number}"):
            item = next(items, _NOTHING)
        if item is _NOTHING:
            return
        yield number, item
        number += 1

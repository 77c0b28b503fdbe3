"""Data that knows its length and gives any of its samples: arrays, data sets, files."""

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from .._errors import DataError
from . import _nest as nest
from ._data import Data, is_whole
from ._layout import Layout, place
from ._leaf import length
from ._nest import Columns
from ._source import DEFAULT_BATCH, EMPTY, UNLIKE, AbstractSource, Cut, during


class Table(AbstractSource):
    """Samples that can be asked for by index: `read` gives those of an increasing index."""

    restartable = True
    batches = None

    def __init__(
        self,
        read: Callable[[NDArray[np.int64]], Columns],
        total: int,
        data: Data,
        layout: Layout,
        cut: Cut,
        *,
        own_size: int = DEFAULT_BATCH,
        notes: tuple[str, ...] = (),
    ) -> None:
        if total == 0:
            raise DataError(EMPTY)
        self._read, self._total, self._cut, self.own_size = read, total, cut, own_size
        self._chosen = self.length = min(cut.samples or total, total)
        given = {"label": data.label, "mask": data.mask, "ids": data.ids}
        self._given = {name: nest.normal(array, batch=True) for name, array in given.items() if is_whole(array)}
        for name, array in self._given.items():
            if (rows := length(array)) != total:
                raise DataError(
                    f"Data: {name}= has {rows} rows for {total} samples. Give one row per sample, in their order."
                )
        self.words = layout.words()
        self.target_words = "label=" if "label" in self._given else place(layout.label)
        few = (f"{self._chosen:,} of {total:,} samples, evenly spaced",) if self._chosen < total else ()
        self.notes = (*notes, *few)

    def pieces(self, size: int) -> Iterator[tuple[int, int, Columns]]:
        first: dict[str, str] = {}
        known: object = None
        for number in range(self._cut.shard[0], -(-self._chosen // size), self._cut.shard[1]):
            with during(f"batch {number}"):
                columns = self._take(number * size, min((number + 1) * size, self._chosen))
                if (seen := nest.signature(columns)) != known:  # only then is it worth being put in words
                    here = nest.form(columns, sizes_from=1)
                    first, known = first or here, seen
                    nest.check_form(here, first, ("this batch", "the first one"), UNLIKE)
            yield number, size, columns

    def head(self, n: int | None) -> Columns:
        with during("batch 0"):
            return self._take(0, min(n or DEFAULT_BATCH, self._chosen))

    def _take(self, start: int, stop: int) -> Columns:
        index = np.arange(start, stop, dtype=np.int64) * self._total // self._chosen
        columns = self._read(index)
        given = {name: nest.take(array, index) for name, array in self._given.items()}
        if "label" in given:
            given["target"] = given.pop("label")
        columns = columns._replace(**given)
        if (rows := nest.count(columns)) != len(index):
            raise DataError(
                f"Data: {len(index)} samples were asked for, {rows} came. A collate_fn must keep every sample."
            )
        return columns if columns.ids is not None else columns._replace(ids=index)

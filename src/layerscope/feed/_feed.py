"""From a user's data to batches of one size: source → items → raw batches → re-cut → `Batch`."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._errors import DataError
from .._site import Samples
from . import _nest as nest
from ._data import Data
from ._leaf import describe, is_array, is_list, is_mapping
from ._nest import Columns
from ._open import open_source
from ._same import SameData
from ._samples import read_ids, read_labels, read_mask
from ._source import DEFAULT_BATCH, Cut, during

CHECKED = 4
"""Samples on which transformations are checked to be what they say."""


@dataclass(frozen=True, eq=False)
class Batch:
    """What one forward gets, and what is known of its samples.

    **Arguments:** `args`, `kwargs` inputs of the forward, `size` rows each: the last sample is repeated to fill a short batch; `samples`
    ids, labels and mask of the real ones; `targets` of the real ones as they came, or None; `number` position in the whole stream;
    `padding_counts` where the user said so (`mask=False`), whatever the model itself knows of masks.
    """

    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    samples: Samples
    targets: Any
    number: int
    size: int
    padding_counts: bool = False

    @property
    def flat(self) -> "Batch":
        """The batch as a model sees it: every row of the forward a sample of its own."""
        return replace(self, samples=self.samples.flat())


class Feed:
    """Batches of any data, each sample once and in order.

    **Arguments:** `data` a loader, data set, array, pair, dict, iterable of batches, function that makes one, or a `Data`. `samples` how
    many at most: evenly spaced over addressable data, the first ones of a stream. `batch_size` rows of a forward: by default those of
    the loader, whose batches are then kept as they are, else 128. `shard` (i, n): only the batches whose number is i modulo n.
    `transformations` a set of T: every sample comes T times in a row, transformed before `preprocess`, and a batch holds whole samples,
    as many as give at most `batch_size` rows (128); `feed.batch_size` then counts samples. `same` is shown every sample that is given, and
    raises where data that are read again are other data. `place` puts an array where it is transformed, unless code of the user's works on
    it.

    A pair is (inputs, target); a list or stream holds single samples where its targets are single values, else batches. A list of bare
    arrays could be either, and raises. An endless stream needs `samples=`: without it, iterating never ends. `length` and `batches` count what this feed gives, None where that is unknown; `notes` say how
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
        transformations: Any = None,
        same: SameData | None = None,
        place: Callable[[Any], Any] | None = None,
    ) -> None:
        self.same, self._place = same, place
        self._data = data if isinstance(data, Data) else Data(data)
        Cut(samples, batch_size, (0, 1) if shard is None else shard)  # the user's numbers, before they are divided
        self.transformations, self.columns = transformations, 1 if transformations is None else len(transformations)
        if transformations is not None:
            batch_size = max(1, (batch_size or DEFAULT_BATCH) // self.columns)
        self._cut = Cut(samples, batch_size, (0, 1) if shard is None else shard)
        self._source = open_source(self._data, self._cut)
        self._notes: dict[str, None] = {}
        self._peeked: dict[int, Batch] = {}
        self._kind: str | None = None
        self.alignment: Any = None
        self.forward = self._data.forward
        self.score = self._data.score
        self.restartable = self._source.restartable
        self._first = self._source.head(batch_size or self._source.own_size)
        self.batch_size = batch_size or self._source.own_size or nest.count(self._first)
        if transformations is not None:
            few = nest.cut(self._first, 0, CHECKED).inputs
            transformations.check(few)
            self.alignment = transformations.alignment(few)
            self._note(
                f"transformations: every sample comes {self.columns} times, and every number is of these: {_listed(transformations.names)}"
            )
        self.length, self.batches = self._sizes()
        few = self._first if transformations is None else nest.cut(self._first, 0, CHECKED)
        self._batch(few, 0, nest.count(few))  # its notes and its errors come now, not in the middle

    @property
    def notes(self) -> tuple[str, ...]:
        """Sentences that say how the data was read; some come while it is read."""
        return tuple(dict.fromkeys((*self._source.notes, *self._notes)))

    def __iter__(self) -> Iterator[Batch]:
        """The batches of this shard, from the beginning where the data can be restarted."""
        if self.same is not None:
            self.same.again()
        for number, size, columns in self._source.pieces(self.batch_size):
            batch = self._batch(columns, number, size)
            if self.same is not None:
                self.same.check(batch.samples.ids, columns.inputs)
            yield batch

    def peek(self, n: int) -> Batch:
        """The first samples, at most n, as one batch without padding; nothing is consumed."""
        if n < 1:
            raise DataError(f"Feed: peek({n}) asks for no samples. Give 1 or more.")
        if n not in self._peeked:
            rows = nest.count(self._first)
            columns = nest.cut(self._first, 0, n) if n <= rows else self._source.head(n)
            self._peeked[n] = self._batch(columns, 0, nest.count(columns))
        return self._peeked[n]

    def _batch(self, columns: Columns, number: int, size: int) -> Batch:
        rows = nest.count(columns)
        with during(f"batch {number}"):
            args, kwargs = _arguments(self._prepared(self._transformed(columns.inputs), rows * self.columns))
            ids, labels = self._ids(columns.ids, rows), self._labels(columns.target)
            samples = Samples(ids, labels, self._mask(columns.mask, kwargs, rows), self.columns)
            args, kwargs = nest.pad((args, kwargs), size * self.columns)
        return Batch(args, kwargs, samples, columns.target, number, size * self.columns, self._data.mask is False)

    def _transformed(self, inputs: Any) -> Any:
        """The raw inputs, or every sample T times in a row as the transformations leave it."""
        if self.transformations is None:
            return inputs
        if self._place is not None and self._data.preprocess is None and is_array(inputs) and self.transformations.ours:
            inputs = self._place(inputs)
        return nest.normal(self.transformations(inputs), batch=True)

    def _prepared(self, inputs: Any, rows: int) -> Any:
        """What the model takes: the raw inputs, or what `preprocess` makes of them."""
        preprocess = self._data.preprocess
        if preprocess is not None:
            inputs = nest.copied(inputs) if self.transformations is None else inputs  # it may work in place
            inputs = nest.normal(preprocess(inputs), batch=True)
        _check_arrays(inputs, preprocessed=preprocess is not None)
        if (given := nest.count(inputs, "what preprocess gave")) != rows:
            raise DataError(
                f"Data: preprocess made {given} rows of {rows} samples. It must give one row per sample, in order."
            )
        return inputs

    def _ids(self, ids: Any, rows: int) -> NDArray[np.int64]:
        values, hashed = read_ids(ids, rows)
        if hashed:
            self._note("ids are 64-bit hashes of the given ones, which are no integers")
        return values

    def _labels(self, target: Any) -> NDArray[np.int64] | None:
        # A matrix that a score= is for may be multi-label, and then looks one-hot in some batches.
        labels, kind = read_labels(target, matrix=self.score is None)
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
        return f"{name} is not labels ({describe(target)}): {follows}"

    def _mask(self, mask: Any, kwargs: Mapping[str, Any], rows: int) -> NDArray[np.bool_] | None:
        if mask is not None:
            self._note("mask: as given in ls.Data")
            return self._by_column(np.repeat(read_mask(mask, rows, "mask="), self.columns, axis=0))
        mask = kwargs.get("attention_mask")
        if mask is None or self._data.mask is False:
            return None
        if len(mask.shape) != 2:
            self._note(f"attention_mask ({describe(mask)}) is no mask of positions: passed to the model only")
            return None
        self._note("mask: attention_mask")
        return self._by_column(read_mask(mask, rows * self.columns, "attention_mask"))

    def _by_column(self, mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """(samples, T, *positions) where every sample comes T times."""
        return mask if self.transformations is None else mask.reshape(-1, self.columns, *mask.shape[1:])

    def _note(self, sentence: str) -> None:
        self._notes[sentence] = None

    def _sizes(self) -> tuple[int | None, int | None]:
        (i, n), length, batches = self._cut.shard, self._source.length, self._source.batches
        if length is not None:
            batches = -(-length // self.batch_size)
            length = sum(min(self.batch_size, length - number * self.batch_size) for number in range(i, batches, n))
        return length, None if batches is None else len(range(i, batches, n))


def repeated(targets: Any, times: int) -> Any:
    """Targets as they came, every one so many times in a row."""
    if times == 1 or targets is None:
        return targets
    return nest.take(targets, np.repeat(np.arange(nest.count(targets)), times))


def _listed(names: tuple[str, ...]) -> str:
    return ", ".join(names if len(names) <= 6 else (*names[:3], "…", names[-1]))


def _arguments(inputs: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Inputs as a forward takes them: a mapping by name, a tuple in order."""
    if is_mapping(inputs):
        return (), {str(key): inputs[key] for key in inputs}
    return (tuple(inputs) if is_list(inputs) else (inputs,)), {}


def _check_arrays(inputs: Any, *, preprocessed: bool) -> None:
    """**Raises:** `DataError` where an input is text, a picture or another object."""
    for name, leaf in nest.leaves(inputs):
        if leaf is None or is_array(leaf):
            continue
        if preprocessed:
            raise DataError(
                f"Data: preprocess gave no array for {name} ({describe(leaf)}). It must give what the model takes, for example "
                "preprocess=lambda texts: tokenizer(texts, padding=True, return_tensors='pt')."
            )
        raise DataError(
            f"Data: {name} ({describe(leaf)}) is nothing a model takes. Say how to make arrays of a batch: "
            "ls.Data(data, preprocess=lambda batch: ...)."
        )

"""What a feed reads from: a *table* gives any of its samples, a *stream* only goes on.

Tables are read batch by batch, never whole, and a shard of a table reads no other shard's samples.
"""

import abc
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from .._errors import DataError
from . import _nest as nest
from ._leaf import is_array, is_integer, is_list, is_scalar
from ._nest import Columns

DEFAULT_BATCH = 128
EMPTY = "Data: the data gave nothing: it is empty. Give at least one sample."
UNLIKE = "All batches must have the same parts, types and axes: convert them where they are made."


class AbstractSource(abc.ABC):
    """Samples of the user's data, by what they mean, in batches.

    `own_size` rows of a batch unless the user says otherwise, None where the first batch tells; `length` and `batches` of all shards
    together, None where unknown; `words`, `target_words` where inputs and target lie; `notes` say how the data is read.
    """

    own_size: int | None
    length: int | None
    batches: int | None
    restartable: bool
    words: str
    target_words: str
    notes: tuple[str, ...]

    @abc.abstractmethod
    def pieces(self, size: int) -> Iterator[tuple[int, int, Columns]]:
        """Number, rows to pad to, and samples of each batch of the shard."""

    @abc.abstractmethod
    def head(self, n: int | None) -> Columns:
        """The first n samples, or fewer where there are no more or batches cannot be joined; without n the first batch."""


@dataclass(frozen=True)
class Cut:
    """How many samples, in batches of what size, and which of these."""

    samples: int | None
    batch_size: int | None
    shard: tuple[int, int]

    def __post_init__(self) -> None:
        for name in ("samples", "batch_size"):
            value = getattr(self, name)
            if value is not None and not (is_integer(value) and value > 0):
                raise DataError(f"Feed: {name}={value!r} is no number of samples. Give 1 or more, or leave it out.")
        shard: Any = self.shard
        if not (is_list(shard) and len(shard) == 2 and all(map(is_integer, shard)) and 0 <= shard[0] < shard[1]):
            raise DataError(
                f"Feed: shard={shard!r} is not (i, n) with 0 <= i < n. Write shard=(0, 4) for the first of four."
            )


def is_single(columns: Columns, bare: str) -> bool:
    """Whether an item is a single sample: its target is one value, or an input is (a text, a picture)."""
    if columns.target is not None:
        return is_scalar(columns.target)
    inputs = [leaf for _, leaf in nest.leaves(nest.normal(columns.inputs, batch=True))]
    if any(map(is_scalar, inputs)):
        return True
    if bare == "unclear" and any(map(is_array, inputs)):
        raise DataError(
            "Data: the items hold arrays and no target, so they could be batches or single samples. "
            "Write lambda: iter(data) if they are batches, np.stack(...) of them if they are samples."
        )
    return bare == "samples"


@contextmanager
def during(what: str) -> Generator[None]:
    """Says with an exception that passes by where in the data it came from."""
    try:
        yield
    except Exception as error:
        note = f"layerscope: while reading {what} of the data"
        if note not in getattr(error, "__notes__", ()):
            error.add_note(note)
        raise

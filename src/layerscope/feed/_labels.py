"""The labels of all samples, before anything goes through a model."""

import random
import sys
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._errors import DataError
from . import _nest as nest
from ._data import Data
from ._feed import Feed
from ._open import open_source
from ._samples import read_ids, read_labels
from ._source import DEFAULT_BATCH, Cut


def labels_of(feed: Feed, data: Any, samples: int | None = None) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Ids and labels of all samples that `Feed(data, samples=samples)` and its shards give, in one look through the data, without forwards.

    A loader that shuffles gives the same order afterwards as if nobody had looked.
    **Raises:** `DataError` where there are no labels, or the data can be read only once.
    """
    if not feed.restartable:
        raise DataError(
            "shuffled labels: all labels must be known before the first forward, and this data can be read only once. Give arrays, a list, or a "
            "function that makes the data: lambda: make_batches()."
        )
    data = data if isinstance(data, Data) else Data(data)
    size = feed.batch_size if samples is None else DEFAULT_BATCH
    ids: list[NDArray[np.int64]] = []
    labels: list[NDArray[np.int64]] = []
    with same_order(data):
        for _, _, columns in open_source(data, Cut(samples, None, (0, 1))).pieces(size):
            here, _ = read_labels(columns.target, matrix=data.score is None)
            if here is None:
                raise DataError(
                    "shuffled labels: the data has no labels to shuffle. Give class numbers with it, (inputs, labels) or ls.Data(source, "
                    "label='label')."
                )
            ids.append(read_ids(columns.ids, nest.count(columns))[0])
            labels.append(here)
    return np.concatenate(ids), np.concatenate(labels)


@contextmanager
def same_order(data: Any) -> Generator[None]:
    """What a loader draws its order from, its own generator or everyone's, as if nothing had been read."""
    loader = data.source if isinstance(data, Data) else data
    owners = (
        (loader, "generator"),
        (getattr(loader, "sampler", None), "generator"),
        (sys.modules.get("torch"), "default_generator"),
    )
    drawing: list[Any] = [found for owner, name in owners if hasattr(found := getattr(owner, name, None), "set_state")]
    states = [generator.get_state() for generator in drawing]
    everyones = random.getstate(), np.random.get_state()  # noqa: NPY002 - the user's global state, not ours
    try:
        yield
    finally:
        for generator, state in zip(drawing, states, strict=True):
            generator.set_state(state)
        random.setstate(everyones[0])
        np.random.set_state(everyones[1])  # noqa: NPY002

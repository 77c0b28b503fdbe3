"""The twelve samples that the tests of the feed read, in arrays."""

from typing import Any

import numpy as np

from layerscope.feed import Feed

X = np.arange(24, dtype=np.float32).reshape(12, 2)
Y = np.arange(12) % 3
TOKENS = np.arange(36).reshape(12, 3)
MASK = np.arange(3) < 1 + np.arange(12)[:, None] % 3


def only(data: Any, **options: Any) -> Any:
    """The one batch of the data."""
    (batch,) = Feed(data, batch_size=12, **options)
    return batch


def same(left: Any, right: Any) -> None:
    np.testing.assert_array_equal(np.asarray(left), np.asarray(right))

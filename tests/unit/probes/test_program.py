"""What a compiled program gives back: arrays filled in per batch, buffers of the host read where they lie."""

import numpy as np
import pytest

from layerscope._errors import ShapeError
from layerscope._site import Activations, Axes, Chunk, Samples, Site
from layerscope.feed import Batch
from layerscope.inventory import Layer, Role
from layerscope.probes._program import Reads, counted, hosted
from tests.conftest import require

X = np.random.default_rng(0).normal(size=(4, 3, 5)).astype(np.float32)


def layer(sample: int = 0) -> Layer:
    return Layer(Site("fc"), "Dense", Role.NONLINEARITY, X.shape, "float32", Axes(2, sample), 0.5)


def batch(real: int = 3, mask: np.ndarray | None = None) -> Batch:
    return Batch((X,), {}, Samples(np.arange(real), mask=mask), None, 0, 4)


def test_reads_are_filled_in_at_every_batch() -> None:
    reads, first, later = Reads(), Samples(np.arange(2)), Samples(np.arange(7, 9))
    reads.chunks[layer()] = {"k": Chunk({"states": "traced"}, first, (3,), 5, 0.5, 4)}
    assert reads.arrays() == [[{"states": "traced"}]]
    reads.forget_arrays()
    assert reads.chunks[layer()]["k"].arrays == {}
    chunk = reads.filled([[{"states": "real"}]], later)[layer()]["k"]
    assert chunk.arrays == {"states": "real"}
    assert chunk.samples is later
    assert (chunk.positions, chunk.units, chunk.threshold, chunk.forward_samples) == ((3,), 5, 0.5, 4)
    with pytest.raises(ValueError, match="zip"):
        reads.filled([], later)


def test_what_counts_is_said_for_the_padded_forward() -> None:
    real, mask = counted(batch())
    assert real.tolist() == [True, True, True, False]
    assert mask is None
    real, mask = counted(batch(mask=np.ones((3, 2), bool)), size=6)
    assert real.tolist() == [True] * 3 + [False] * 3
    assert mask is not None
    assert mask.tolist() == [[True, True]] * 3 + [[False, False]] * 3


def test_the_hosts_own_memory_is_read_without_padding() -> None:
    a = hosted(layer(), X, batch())
    assert a.host is not None
    assert np.shares_memory(a.host, X)
    assert a.host.shape == (3, 3, 5)
    assert (a.threshold, a.axes, a.dtype) == (0.5, Axes(2, 0), None)
    second = hosted(layer(sample=1), np.moveaxis(X, 0, 1), batch())
    assert second.values.shape == (3, 3, 5)
    with pytest.raises(ShapeError, match="has 3 entries, the batch has 4 samples"):
        hosted(layer(sample=1), X, batch())


def test_bfloat16_is_read_by_its_bits() -> None:
    half = np.asarray(require("jax").numpy.asarray(X, dtype="bfloat16"))
    a = hosted(layer(), half, batch())
    assert a.host is not None
    assert (a.host.dtype, a.dtype) == (np.int16, "bfloat16")
    assert isinstance(a, Activations)
    assert np.array_equal(a.values, half[:3].astype(np.float32))

"""The protocol carries compiled frameworks: `read` runs inside a graph, `add` on the host, and the tables are the same to the bit.

Small runners stand in for the probes of TensorFlow and JAX: a two-layer network whose compiled function returns its output and what every
tally read, as the real probes will.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from layerscope._site import Activations, Axes, Chunk, Samples, Site
from layerscope.tallies import AbstractTally, GridMoments, Moments, StateTable
from tests.conftest import require

TALLIES: list[AbstractTally[Any]] = [
    StateTable(),
    StateTable(per="sample"),
    StateTable(per="channel"),
    Moments(),
    GridMoments(),
]
RNG = np.random.default_rng(0)
X = RNG.normal(size=(50, 6, 5, 12)).astype(np.float32)
W = RNG.normal(size=(12, 19)).astype(np.float32)
MASK = RNG.random((50, 6, 5)) < 0.8


def runner_numpy() -> Callable[..., Any]:
    def run(x: Any, mask: Any) -> Any:
        hidden = np.maximum(x @ W, 0)
        a = Activations(hidden, Axes(-1), np, mask=mask, host=hidden)
        return hidden, {tally: tally.read(a) for tally in TALLIES}

    return run


def runner_jax() -> Callable[..., Any]:
    jax = require("jax")

    @jax.jit
    def graph(x: Any, mask: Any) -> Any:
        hidden = jax.nn.relu(x @ W)
        a = Activations(hidden, Axes(-1), jax.numpy, mask=mask)
        return hidden, [tally.read(a) for tally in TALLIES]

    def run(x: Any, mask: Any) -> Any:
        hidden, reads = graph(x, mask)
        return hidden, dict(zip(TALLIES, reads, strict=True))

    return run


def runner_tensorflow(**options: Any) -> Callable[..., Any]:
    tf = require("tensorflow")

    @tf.function(reduce_retracing=True, **options)
    def graph(x: Any, mask: Any) -> Any:
        hidden = tf.nn.relu(x @ W)
        a = Activations(hidden, Axes(-1), tf.experimental.numpy, mask=mask)
        return hidden, [tally.read(a) for tally in TALLIES]

    def run(x: Any, mask: Any) -> Any:
        hidden, reads = graph(tf.constant(x), tf.constant(mask))
        return hidden, dict(zip(TALLIES, reads, strict=True))

    return run


def runner_torch() -> Callable[..., Any]:
    torch = require("torch")
    import array_api_compat.torch as xp

    def graph(x: Any, mask: Any) -> Any:
        hidden = torch.relu(x @ torch.from_numpy(W))
        a = Activations(hidden, Axes(-1), xp, mask=mask)
        return hidden, [tally.read(a) for tally in TALLIES]

    def run(x: Any, mask: Any) -> Any:
        hidden, reads = graph(torch.from_numpy(x), torch.from_numpy(mask))
        return hidden, dict(zip(TALLIES, reads, strict=True))

    return run


RUNNERS = {
    "jax.jit": runner_jax,
    "tf.function": runner_tensorflow,
    "tf.function with XLA": lambda: runner_tensorflow(jit_compile=True),
    "torch by the device kernel": runner_torch,
}


def stream(run: Callable[..., Any], tally: AbstractTally[Any]) -> Any:
    """The value after batches of 16, the last one padded, as the feed cuts them."""
    value = tally.init(Site("hidden"))
    masked = isinstance(tally, Moments) or tally == StateTable()
    for start in range(0, len(X), 16):
        x, mask = X[start : start + 16], MASK[start : start + 16]
        ids = np.arange(start, start + len(x), dtype=np.int64)
        pad = 16 - len(x)
        padded = np.concatenate([x, np.repeat(x[-1:], pad, 0)])
        in_graph = np.concatenate([mask, np.zeros((pad, 6, 5), bool)])
        _, reads = run(padded, in_graph)
        samples = Samples(ids, mask=mask if masked else None)
        value = tally.add(value, Chunk(reads[tally], samples, (6, 5), 19))
    return value


def check_parity(run: Callable[..., Any], tally: AbstractTally[Any]) -> None:
    mine, oracle = stream(run, tally), stream(runner_numpy(), tally)
    assert tally.same(mine, oracle), f"{tally!r} read in a graph differs from NumPy"


@pytest.mark.parametrize("tally", TALLIES, ids=repr)
@pytest.mark.parametrize("framework", RUNNERS)
def test_reads_inside_a_graph_are_numpys(framework: str, tally: AbstractTally[Any]) -> None:
    check_parity(RUNNERS[framework](), tally)


@pytest.mark.parametrize("tally", TALLIES, ids=repr)
def test_the_comparison_can_fail(tally: AbstractTally[Any]) -> None:
    """The canary: a runner one of whose activations lies on the other side of the threshold."""
    right = runner_numpy()

    def wrong(x: Any, mask: Any) -> Any:
        hidden, _ = right(x, mask)
        hidden = hidden.copy()
        hidden[0, np.argwhere(mask[0])[0][0], np.argwhere(mask[0])[0][1], 0] = 5.0 - hidden[0].max()
        a = Activations(hidden, Axes(-1), np, mask=mask, host=hidden)
        return hidden, {t: t.read(a) for t in TALLIES}

    with pytest.raises(AssertionError, match="differs from NumPy"):
        check_parity(wrong, tally)


def test_nonfinite_values_are_counted_in_a_graph_too() -> None:
    jax = require("jax")
    x = X[:4].copy()
    x[0, 0, 0, 0], x[1, 0, 0, 1], x[2, 0, 0, 2] = np.nan, np.inf, -np.inf
    read = jax.jit(lambda v: StateTable().read(Activations(v, Axes(-1), jax.numpy)))(x)
    value = StateTable().add(StateTable().init(Site("x")), Chunk(read, Samples(np.arange(4)), (6, 5), 12))
    assert (value.nan, value.inf) == (1, 2)


@pytest.mark.parametrize("framework", ["jax", "tensorflow", "torch"])
def test_padded_samples_count_nowhere(framework: str) -> None:
    """A forward of fixed size repeats its last sample, whose NaN must not count again, nor its values."""
    x = X[:4].copy()
    x[1, 0, 0, 0], x[1, 2, 3, 4] = np.nan, np.inf
    padded = np.concatenate([x[:2], x[1:2], x[1:2]])
    real = np.array([True, True, False, False])
    tallies: list[AbstractTally[Any]] = [StateTable(), Moments()]

    if framework == "jax":
        jax = require("jax")
        values, counts, xp = jax.numpy.asarray(padded), jax.numpy.asarray(real), jax.numpy
    elif framework == "tensorflow":
        tf = require("tensorflow")
        values, counts, xp = tf.constant(padded), tf.constant(real), tf.experimental.numpy
    else:
        torch = require("torch")
        import array_api_compat.torch as xp

        values, counts = torch.from_numpy(padded), torch.from_numpy(real)

    for tally in tallies:
        a = Activations(values, Axes(-1), xp, real=counts)
        mine = tally.add(tally.init(Site("x")), Chunk.of(tally.read(a), a, Samples(np.arange(2))))
        host = Activations.of(x[:2])
        oracle = tally.add(tally.init(Site("x")), Chunk.of(tally.read(host), host, Samples(np.arange(2))))
        assert tally.same(mine, oracle)
        without = Activations(values, Axes(-1), xp)  # the canary: the same, had nobody said what is real
        wrong = tally.add(tally.init(Site("x")), Chunk.of(tally.read(without), without, Samples(np.arange(2))))
        assert not tally.same(wrong, oracle)

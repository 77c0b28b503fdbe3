"""What capture and counting cost beside a framework's own compiled forward: `python -m benchmarks.frameworks all|keras|nnx|equinox [rounds]`.

LeNet-5 on 10,000 images of real digits, 28 × 28, three convolutions (5.8, 0.64 and 0.01 million states).  The bare run is what a user has: `predict`
for Keras, the jitted apply over batches for Flax NNX and Equinox.  Keras runs on the backend of KERAS_BACKEND.  One process per
framework, CPU time of all its threads, rounds of bare, captured, captured, bare; the one compilation is a row of its own.
"""

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from itertools import pairwise
from typing import Any, NamedTuple

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1")
for name in ("OMP_NUM_THREADS", "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS"):
    os.environ.setdefault(name, "1")

import numpy as np  # noqa: E402 - threads are chosen before anything loads

from layerscope import datasets  # noqa: E402
from layerscope._choices import default_measures  # noqa: E402
from layerscope._road import LOOK, chosen_layers  # noqa: E402
from layerscope._walk import Walk  # noqa: E402
from layerscope.feed import Feed  # noqa: E402
from layerscope.probes import probe_for  # noqa: E402

IMAGES, BATCH = 10_000, 200


def images() -> np.ndarray:
    """Real digits at 28 × 28, each in several places: shifted by up to three pixels, no two alike."""
    digits, _ = datasets.digits(size=28, split="all")
    shifts = [(y, x) for y in (0, -3, 3) for x in (0, -2, 2)]
    shifted = np.concatenate([np.roll(digits, shift, axis=(2, 3)) for shift in shifts])
    return np.ascontiguousarray(shifted[:IMAGES].transpose(0, 2, 3, 1), np.float32)


class Case(NamedTuple):
    """A network, its data, and the run that a user would do without us."""

    title: str
    model: Any
    data: Any
    bare: Callable[[], Any]


def keras_case() -> Case:
    import keras
    from keras import layers

    if keras.backend.backend() == "torch":
        import torch

        torch.set_num_threads(1)
    stack: list[Any] = [layers.Input((28, 28, 1))]
    for k, (width, size) in enumerate(((20, 5), (50, 5), (100, 4)), 1):
        stack += [layers.Conv2D(width, size, activation="elu", name=f"conv_{k}"), layers.BatchNormalization()]
        stack += [layers.MaxPooling2D(2)] if k < 3 else []
    model = keras.Sequential([*stack, layers.Flatten(), layers.Dense(10)])
    return Case(f"Keras on {keras.backend.backend()}", model, X, lambda: model.predict(X, batch_size=BATCH, verbose=0))


def nnx_case() -> Case:
    import jax
    from flax import nnx

    class LeNet5(nnx.Module):
        def __init__(self, rngs: nnx.Rngs) -> None:
            convolution = {"padding": "VALID", "rngs": rngs}
            self.conv_1, self.norm_1 = nnx.Conv(1, 20, (5, 5), **convolution), nnx.BatchNorm(20, rngs=rngs)
            self.conv_2, self.norm_2 = nnx.Conv(20, 50, (5, 5), **convolution), nnx.BatchNorm(50, rngs=rngs)
            self.conv_3, self.norm_3 = nnx.Conv(50, 100, (4, 4), **convolution), nnx.BatchNorm(100, rngs=rngs)
            self.pred = nnx.Linear(100, 10, rngs=rngs)

        def __call__(self, x: Any) -> Any:
            x = nnx.max_pool(self.norm_1(nnx.elu(self.conv_1(x))), (2, 2), (2, 2))
            x = nnx.max_pool(self.norm_2(nnx.elu(self.conv_2(x))), (2, 2), (2, 2))
            x = self.norm_3(nnx.elu(self.conv_3(x)))
            return self.pred(x.reshape(len(x), -1))

    model = LeNet5(nnx.Rngs(0))
    model.eval()
    graph, state = nnx.split(model)
    apply = jax.jit(lambda state, x: nnx.merge(graph, state)(x))

    def bare() -> None:
        for start in range(0, IMAGES, BATCH):
            np.asarray(apply(state, X[start : start + BATCH]))

    return Case("Flax NNX", model, X, bare)


def equinox_case() -> Case:
    import equinox as eqx
    import jax

    class LeNet5(eqx.Module):
        convs: list[Any]
        pool: Any
        pred: Any

        def __init__(self, key: Any) -> None:
            keys = jax.random.split(key, 4)
            sizes = ((1, 20, 5), (20, 50, 5), (50, 100, 4))
            self.convs = [eqx.nn.Conv2d(*size, key=k) for size, k in zip(sizes, keys[:3], strict=True)]
            self.pool, self.pred = eqx.nn.MaxPool2d(2, 2), eqx.nn.Linear(100, 10, key=keys[3])

        def __call__(self, x: Any) -> Any:
            x = self.pool(jax.nn.elu(self.convs[0](x)))
            x = self.pool(jax.nn.elu(self.convs[1](x)))
            return self.pred(jax.nn.elu(self.convs[2](x)).reshape(-1))

    model, images = LeNet5(jax.random.key(0)), np.ascontiguousarray(X.transpose(0, 3, 1, 2))
    apply = eqx.filter_jit(lambda model, x: jax.vmap(model)(x))

    def bare() -> None:
        for start in range(0, IMAGES, BATCH):
            np.asarray(apply(model, images[start : start + BATCH]))

    return Case("Equinox", model, images, bare)


X = images()
CASES = {"keras": keras_case, "nnx": nnx_case, "equinox": equinox_case}


def main(name: str, rounds: int) -> None:
    case = CASES[name]()
    case.bare()
    recipes = [*dict.fromkeys(m.tally for m in default_measures())]
    with probe_for(case.model) as probe:
        began = time.perf_counter()
        feed = Feed(case.data, batch_size=BATCH)
        walk = Walk(probe, chosen_layers(probe.describe(feed.peek(LOOK)), feed), recipes, feed)
        found = time.perf_counter() - began
        walk.step(next(iter(feed)))
        first = time.perf_counter() - began

        def captured() -> None:
            walk.restart()
            for batch in feed:
                walk.step(batch)

        captured()
        ratios, bares = [], []
        for _ in range(rounds):
            marks = [time.process_time()]
            for function in (case.bare, captured, captured, case.bare):
                function()
                marks.append(time.process_time())
            steps = [b - a for a, b in pairwise(marks)]
            ratios.append((steps[1] + steps[2]) / (steps[0] + steps[3]))
            bares.append((steps[0] + steps[3]) / 2)
        low, median, high = statistics.quantiles(ratios, n=4)
        rows = sum(tally.observations for by_tally in walk.values.values() for tally in by_tally.values())
    print(
        f"{case.title}: bare {statistics.median(bares) * 1e3:.0f} ms CPU; captured and counted / bare {median:.3f} ({low:.3f} to {high:.3f}), "
        f"{rounds} rounds, {len(walk.layers)} sites, {rows:,} states; first call {first:.1f} s, of which {found:.1f} s to see what there is",
        flush=True,
    )


def every(rounds: int) -> None:
    """Each framework in a process of its own, as a backend of Keras is chosen when it is imported."""
    for name in ("keras tensorflow", "keras jax", "keras torch", "nnx", "equinox"):
        framework, _, backend = name.partition(" ")
        environment = {**os.environ, "KERAS_BACKEND": backend or "jax"}
        words = [sys.executable, "-m", "benchmarks.frameworks", framework, str(rounds)]
        subprocess.run(words, env=environment, check=True, stderr=subprocess.DEVNULL)


if __name__ == "__main__":
    if sys.argv[1] == "all":
        every(int(sys.argv[2]) if len(sys.argv) > 2 else 15)
        sys.exit()
    main(sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 15)

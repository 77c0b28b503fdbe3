"""What a descent costs beside loops written by hand: `python -m benchmarks.energy jax|torch [rounds]`.

784 identity and 1000 softmax neurons, batch 100, 100 Euler steps, and a small net (64, 128, batch 10); both sides keep the energy of every step.
"""

import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks._timing import paired
from layerscope import energy

BETA, DT, STEPS = 2.0, 0.1, 100
SIZES = {"784 and 1000, batch 100": (784, 1000, 100), "64 and 128, batch 10": (64, 128, 10)}


def numbers(visible: int, hidden: int, batch: int) -> tuple[Any, Any]:
    """Weights and a start, float32."""
    rng = np.random.default_rng(0)
    W = rng.standard_normal((visible, hidden)) / np.sqrt(visible)
    return W.astype(np.float32), rng.standard_normal((batch, visible)).astype(np.float32)


def network(W: Any) -> energy.HAM:
    visible, hidden = W.shape
    layers = {"v": energy.IdentityLayer((visible,)), "h": energy.SoftmaxLayer((hidden,), beta=BETA)}
    return energy.HAM(layers, {"W": energy.DenseSynapse(W)}, [(("v", "h"), "W")])


def with_jax(sizes: tuple[int, int, int]) -> tuple[Callable[[], Any], Callable[[], Any]]:
    """Ours, and a `lax.scan` written by hand for this one network."""
    import jax
    import jax.numpy as jnp

    W, v = map(jnp.asarray, numbers(*sizes))
    h = jnp.zeros((len(v), W.shape[1]), jnp.float32)

    def look(v: Any, h: Any) -> tuple[Any, Any, Any]:
        logs = jax.nn.log_softmax(BETA * h)
        g = jnp.exp(logs)
        pull = g @ W.T
        return g, pull, (v * v).sum(1) / 2 + (g * logs).sum(1) / BETA - (v * pull).sum(1)

    def step(carry: Any, _: None) -> tuple[Any, Any]:
        v, h = carry
        _, pull, e = look(v, h)
        return (v - DT * (v - pull), h - DT * (h - v @ W)), e

    @jax.jit
    def tight(W: Any, v: Any, h: Any) -> Any:
        (v, h), energies = jax.lax.scan(step, (v, h), None, STEPS)
        return jnp.concatenate([energies, look(v, h)[2][None]])

    ham = network(W)
    return (
        lambda: ham.run({"v": v, "h": h}, STEPS, DT).energies.block_until_ready(),
        lambda: tight(W, v, h).block_until_ready(),
    )


def with_torch(sizes: tuple[int, int, int]) -> tuple[Callable[[], Any], Callable[[], Any]]:
    """Ours, and a loop of PyTorch written by hand for this one network."""
    import torch

    torch.set_num_threads(1)
    W, v = map(torch.from_numpy, numbers(*sizes))
    h = torch.zeros(len(v), W.shape[1])

    def tight() -> Any:
        x, y, energies = v, h, []
        for step in range(STEPS + 1):
            logs = torch.log_softmax(BETA * y, 1)
            g = logs.exp()
            pull = g @ W.T
            energies.append((x * x).sum(1) / 2 + (g * logs).sum(1) / BETA - (x * pull).sum(1))
            if step < STEPS:
                x, y = x - DT * (x - pull), y - DT * (y - x @ W)
        return torch.stack(energies)

    ham = network(W)
    return lambda: ham.run({"v": v, "h": h}, STEPS, DT).energies, tight


def sweeps() -> str:
    """Steps until the energy is within 1e-4 of its minimum, by rule: 1000 patterns on a sphere in 784 dimensions, β = 50."""
    rng = np.random.default_rng(0)
    stored = rng.standard_normal((1000, 784))
    stored /= np.linalg.norm(stored, axis=1, keepdims=True)
    ham = energy.HAM(
        {"v": energy.IdentityLayer((784,)), "h": energy.SoftmaxLayer((1000,), beta=50.0)},
        {"W": energy.DenseSynapse(stored.T)},
        [(("v", "h"), "W")],
    )
    start = {"v": stored[:20] + 0.3 * rng.standard_normal((20, 784)) / 28, "h": np.zeros((20, 1000))}
    least = ham.run(start, 100, energy.Exact()).energies[-1]

    def needed(descent: Any) -> int:
        near = (ham.run(start, 200, descent).energies - least).max(axis=1) < 1e-4
        return int(np.argmax(near)) if near.any() else -1

    return (
        f"within 1e-4 of the minimum: exact updates {needed(energy.Exact())} sweeps, Euler with 0.1 {needed(0.1)} steps"
    )


def main(framework: str, rounds: int) -> None:
    print("| network | ours / by hand (quartiles) | first call | largest difference of energies |\n|---|---|---|---|")
    for title, sizes in SIZES.items():
        ours, tight = {"jax": with_jax, "torch": with_torch}[framework](sizes)
        begin = time.perf_counter()
        energies = np.asarray(ours())
        first = time.perf_counter() - begin
        apart = float(np.abs(energies - np.asarray(tight())).max() / np.abs(energies).max())
        print(f"| {title} | {paired(ours, tight, pairs=rounds)} | {first:.2f} s | {apart:.0e} |", flush=True)
    if framework == "jax":
        print(f"\n{sweeps()}")


if __name__ == "__main__":
    words = sys.argv[1:]
    main(words[0], int(words[1]) if len(words) > 1 else 7)

"""How many patterns a memory holds, measured beside theory: `python -m benchmarks.capacity [seeds]`.

Random patterns are stored in the energies of hidden layers with other Lagrangians; what is asked is whether the patterns stay where they are.
Every figure is a mean over seeds, ± two standard errors of that mean.
"""

import math
import sys
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from layerscope import energy

ASKED = 200
"""Stored patterns that are asked about, at most."""
ROWS = 2_000_000
"""Overlaps of flipped states with patterns that are held at once."""


class Share(NamedTuple):
    """A mean over seeds with two standard errors of it."""

    mean: float
    error: float

    @classmethod
    def of(cls, values: Sequence[float]) -> "Share":
        spread = float(np.std(values, ddof=1) / math.sqrt(len(values))) if len(values) > 1 else math.nan
        return cls(float(np.mean(values)), 2 * spread)

    def __str__(self) -> str:
        return f"{self.mean:.4f} ± {self.error:.4f}"


def signs(units: int, patterns: int, seed: int) -> NDArray[np.float64]:
    """Random patterns of ±1, (patterns, units)."""
    return np.random.default_rng(seed).choice([-1.0, 1.0], (patterns, units))


def unstable(patterns: NDArray[np.float64], lagrangian: energy.AbstractLagrangian) -> tuple[float, float]:
    """Shares of bits whose flip lowers the energy −L(ξ·σ), and of patterns with such a bit, among stored patterns."""
    synapse = energy.HiddenSynapse(patterns.T, lagrangian)
    units, lowered = patterns.shape[1], []
    flips = 1 - 2 * np.eye(units)
    for block in np.array_split(patterns[:ASKED], max(1, min(ASKED, len(patterns)) * units * len(patterns) // ROWS)):
        if len(block):
            flipped = synapse.energy((block[:, None] * flips).reshape(-1, units), ranks=[1]).reshape(-1, units)
            lowered.append(flipped < synapse.energy(block, ranks=[1])[:, None])
    bits = np.concatenate(lowered)
    return float(bits.mean()), float(bits.any(axis=1).mean())


def tail(z: float) -> float:
    """The share of a normal distribution above z."""
    return math.erfc(z / math.sqrt(2)) / 2


def odd_factorial(n: int) -> int:
    """(2n − 3)!!"""
    return math.prod(range(1, 2 * n - 2, 2))


def classical(load: float, seeds: int, units: int = 200) -> tuple[Share, float]:
    """Unstable bits of a Hopfield network, and of theory: crosstalk as normal noise of variance load."""
    count = round(load * units)
    found = [unstable(signs(units, count, seed), energy.LIdentity())[0] for seed in range(seeds)]
    return Share.of(found), tail(math.sqrt(units / (count - 1)))


def polynomial(power: int, units: int, times: float, seeds: int) -> tuple[int, Share, float]:
    """Patterns stored at `times` the capacity N^(n−1) / (2 (2n−3)!! ln N), the share with an unstable bit, and that of normal noise.

    Above n = 2 the power is rectified, which halves the noise: half of the patterns are silent.
    """
    count = max(2, int(times * units ** (power - 1) / (2 * odd_factorial(power) * math.log(units))))
    lagrangian = energy.LIdentity() if power == 2 else energy.LRepu(float(power))
    found = [unstable(signs(units, count, seed), lagrangian)[1] for seed in range(seeds)]
    signal = units ** (power - 1) * (1 if power == 2 else 2)
    bit = tail(math.sqrt(signal / (odd_factorial(power) * (count - 1))))
    return count, Share.of(found), 1 - (1 - bit) ** units


def exponential(alpha: float, units: int, seeds: int) -> tuple[int, Share]:
    """Patterns stored, exp(αN), and the share with an unstable bit."""
    count = int(math.exp(alpha * units))
    return count, Share.of([unstable(signs(units, count, seed), energy.LExp())[1] for seed in range(seeds)])


def sphere(dimension: int, count: int, seed: int, beta: float = 20.0) -> float:
    """The share of patterns on a unit sphere that one exact update moves by less than half the way to their nearest neighbour."""
    points = np.random.default_rng(seed).standard_normal((count, dimension)).astype(np.float32)
    points /= np.linalg.norm(points, axis=1, keepdims=True)
    asked = points[: 2 * ASKED]
    near = asked @ points.T
    near[np.arange(len(asked)), np.arange(len(asked))] = -1
    nearest = np.sqrt(np.maximum(2 - 2 * near.max(axis=1), 0))
    layers = {"v": energy.IdentityLayer((dimension,))}
    ham = energy.HAM(layers, [energy.HiddenSynapse(points.T, energy.LSoftmax(beta))], [("v", 0)])
    moved = np.linalg.norm(ham.step({"v": asked}, energy.Exact())["v"] - asked, axis=1)
    return float((moved < nearest / 2).mean())


def half(dimension: int, seed: int, counts: Sequence[int]) -> float:
    """The number of patterns at which half of them stay, between those tried on a scale of logarithms."""
    shares = np.array([sphere(dimension, count, seed) for count in counts])
    below = int(np.argmax(shares < 0.5))
    if not 0 < below or shares[below] >= 0.5:
        return math.nan
    logs = np.log(counts)
    part = (shares[below - 1] - 0.5) / (shares[below - 1] - shares[below])
    return float(np.exp(logs[below - 1] + part * (logs[below] - logs[below - 1])))


def balance(dimension: int, beta: float = 20.0) -> float:
    """The number of patterns at which all others together weigh as much as the one that is shown: 1 / ⟨exp β(cos − 1)⟩ on the sphere."""
    cosines = np.linspace(-1, 1, 200_001)
    density = (1 - cosines**2) ** ((dimension - 3) / 2)
    return float(density.sum() / (density * np.exp(beta * (cosines - 1))).sum())


def table(head: str, rows: Sequence[Sequence[Any]]) -> None:
    print(f"\n| {head} |\n|{'---|' * (head.count('|') + 1)}")
    for row in rows:
        print("| " + " | ".join(map(str, row)) + " |", flush=True)


def main(seeds: int) -> None:
    loads = (0.05, 0.1, 0.138, 0.2)
    found = ((load, *classical(load, 4 * seeds)) for load in loads)
    table(
        "Hopfield, 200 units: patterns / units | unstable bits | normal noise",
        [(a, b, f"{c:.4f}") for a, b, c in found],
    )
    sizes = [(n, units, times) for n, units in ((2, 100), (3, 60), (4, 30)) for times in (0.5, 1, 2, 4)]
    powers = (
        (n, units, times, *polynomial(n, units, times, 4 * seeds if n == 2 else seeds)) for n, units, times in sizes
    )
    table(
        "power | units | times the capacity | patterns | with an unstable bit | normal noise",
        [(n, units, times, f"{count:,}", share, f"{theory:.4f}") for n, units, times, count, share, theory in powers],
    )
    grows = ((alpha, *exponential(alpha, 20, seeds)) for alpha in (0.15, 0.25, 0.3, 0.35, 0.42))
    table(
        "exponential, 20 units: α (proved below 0.347) | patterns e^(αN) | with an unstable bit",
        [(a, f"{k:,}", s) for a, k, s in grows],
    )
    counts = [2**k for k in range(7, 17)]
    halves: list[tuple[Any, ...]] = []
    for dimension in (4, 6, 8):
        seen = Share.of([math.log(half(dimension, seed, counts)) for seed in range(max(2, seeds // 2))])
        low, high = (math.exp(seen.mean + sign * seen.error) for sign in (-1, 1))
        halves.append(
            (dimension, f"{math.exp(seen.mean):,.0f} ({low:,.0f} to {high:,.0f})", f"{balance(dimension):,.0f}")
        )
    table("softmax on a sphere, β = 20: dimensions | half of the patterns stay at | others weigh as much at", halves)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 6)

"""`python -m benchmarks.sketch [SETS=8]`: what a sketch of 65,536 states says of streams with far more, beside the whole table.

Writes `docs/sketch-bench.md`.  Fails where an error passes four of the standard errors that the sketch states for itself.
"""

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.__main__ import machine
from layerscope._site import Chunk, Samples, Site
from layerscope.measures import trust_in
from layerscope.measures._columns import sample_aware
from layerscope.measures._sketched import PROMISED, sketched_entropy
from layerscope.tallies import SketchCounts, StateCounts, StateSketch, StateTable

Rows = NDArray[np.uint64]
SAMPLES, POSITIONS = 200, 256
ASKED = (("plug-in", 1.0), ("c1", 1.0), ("c2", 1.0), ("c2", 2.0))
SITE = Site("layer")


def power_law(exponent: float, states: int) -> Callable[[np.random.Generator, int], Rows]:
    edges = np.cumsum(np.arange(1.0, states + 1) ** -exponent)
    return lambda rng, rows: np.searchsorted(edges, rng.random(rows) * edges[-1]).astype(np.uint64)


def lognormal(states: int) -> Callable[[np.random.Generator, int], Rows]:
    edges = np.cumsum(np.exp(2.0 * np.random.default_rng(0).standard_normal(states)))
    return lambda rng, rows: np.searchsorted(edges, rng.random(rows) * edges[-1]).astype(np.uint64)


def uniform(states: int) -> Callable[[np.random.Generator, int], Rows]:
    return lambda rng, rows: rng.integers(0, states, rows).astype(np.uint64)


def factor(units: int) -> Callable[[np.random.Generator, int], Rows]:
    """Units that share three Gaussian factors."""
    weights = np.random.default_rng(1).standard_normal((3, units)).astype(np.float32)
    weights *= 0.9 / np.linalg.norm(weights, axis=0)

    def draw(rng: np.random.Generator, rows: int) -> Rows:
        x = rng.standard_normal((rows, 3), dtype=np.float32) @ weights
        x += 0.43 * rng.standard_normal((rows, units), dtype=np.float32)
        return np.packbits(x > 0.6, axis=1, bitorder="little").view(np.uint64)[:, 0]

    return draw


@dataclass(frozen=True, eq=False)
class Stream:
    """Rows that come batch by batch; with `classes`, sorted: every class shows half of its states alone, the other half is shared."""

    name: str
    draw: Callable[[np.random.Generator, int], Rows]
    batches: int
    classes: int = 1

    def __iter__(self) -> Iterator[tuple[int, Callable[[np.random.Generator], Rows]]]:
        for b in range(self.batches):
            yield b, lambda rng, b=b: self._batch(rng, b)

    def _batch(self, rng: np.random.Generator, b: int) -> Rows:
        rows = self.draw(rng, SAMPLES * POSITIONS)
        own = (b * self.classes // self.batches) << 40
        return np.where(rows % np.uint64(2) == 1, rows + np.uint64(own), rows)


STREAMS = [
    Stream("power law 1.1", power_law(1.1, 10**7), 40),
    Stream("power law 1.1, sorted by 10 classes", power_law(1.1, 10**7), 40, 10),
    Stream("64 units of 3 factors", factor(64), 30),
    Stream("lognormal", lognormal(3 * 10**6), 40),
    Stream("lognormal, sorted by 40 classes", lognormal(3 * 10**6), 40, 40),
    Stream("uniform, 2^20 states", uniform(2**20), 40),
    Stream("all different", uniform(2**62), 20),
]


def chunk(rows: Rows, b: int) -> Chunk:
    return Chunk({"states": rows[:, None]}, Samples(np.arange(b * SAMPLES, (b + 1) * SAMPLES)), (POSITIONS,), 64)


def counted(stream: Stream, seed: int, tally: StateSketch, shards: int = 1) -> tuple[SketchCounts, StateCounts]:
    """One stream, sketched (in shards that are merged) and counted whole; the bits of states are turned over, so that every seed has
    another sample."""
    rng, table = np.random.default_rng(seed), StateTable()
    turn = np.uint64(rng.integers(0, 2**63))
    parts, whole = [tally.init(SITE) for _ in range(shards)], table.init(SITE)
    for b, batch in stream:
        rows = (batch(rng) * np.uint64(0x9E3779B97F4A7C15)) ^ turn
        shard = b * shards // stream.batches
        parts[shard], whole = tally.add(parts[shard], chunk(rows, b)), table.add(whole, chunk(rows, b))
    together = parts[0]
    for part in parts[1:]:
        together = tally.merge(together, part)
    return together, whole


def errors_of(sketch: SketchCounts, whole: StateCounts) -> list[tuple[float, float]]:
    """Error and stated standard error, in bits, of each number asked for."""
    columns = trust_in(whole).columns
    found: list[tuple[float, float]] = []
    for estimator, order in ASKED:
        truth = columns.plug_in if estimator == "plug-in" else sample_aware(columns, order, estimator)
        value, error = sketched_entropy(sketch, order, estimator)
        found.append((value - truth, error))
    return found


PAGE = """# How far off a sketch is

Written by `python -m benchmarks.sketch {sets}` ({machine}): {sets} streams of each kind, seeds fixed, through a sketch of {k:,} states and through the whole table. Given is the largest error in bits, and in
brackets how many of the standard errors it is that the sketch stated for itself; four are promised. *Sorted*: half of every class's states are its own, so common states come late. *Shards*: consecutive parts of the
stream, sketched apart and merged. What a sketch is: [Can I trust this number?](can-i-trust-this-number.md).

{table}

{said}
"""


def line(stream: Stream, sets: int, k: int, shards: int) -> tuple[str, float]:
    """A line of the table, and its largest error in standard errors."""
    pairs = [counted(stream, seed, StateSketch(k), shards) for seed in range(sets)]
    states = max(0 if whole.table is None else len(whole.table) for _, whole in pairs)
    errors = np.array([errors_of(*pair) for pair in pairs])
    cells: list[str] = []
    worst = 0.0
    for error, stated in zip(errors[:, :, 0].T, errors[:, :, 1].T, strict=True):
        if np.isnan(error).all():
            cells.append("–")
            continue
        ratio = float(np.nanmax(np.abs(error) / stated))
        worst = max(worst, ratio)
        cells.append(f"{np.nanmax(np.abs(error)):.4f} ({ratio:.1f})")
    return f"| {stream.name} | {shards} | {states:,} | {' | '.join(cells)} |", worst


def main(sets: int = 8, k: int = 65_536) -> int:
    names = [estimator + ("" if order == 1 else f", order {order:g}") for estimator, order in ASKED]
    lines = ["| stream | shards | states | " + " | ".join(names) + " |", "|" + "---|" * (3 + len(names))]
    worst = 0.0
    print("\n".join(lines))
    for stream in STREAMS:
        for shards in (1, 4):
            text, ratio = line(stream, sets, k, shards)
            lines, worst = [*lines, text], max(worst, ratio)
            print(text, flush=True)
    said = f"The largest error is {worst:.1f} of its standard errors."
    print(f"\n{said}")
    page = PAGE.format(sets=sets, machine=machine(), k=k, table="\n".join(lines), said=said)
    (Path(__file__).resolve().parents[1] / "docs" / "sketch-bench.md").write_text(page, encoding="utf-8")
    return worst > PROMISED


if __name__ == "__main__":
    raise SystemExit(main(*map(int, sys.argv[1:])))

"""Speed of the kernels, against the targets: `python benchmarks/kernels.py` prints a markdown table.

CPU time of one thread.  Ratios are medians of ABBA rounds, with quartiles; ns a row are medians of fresh tables, growth included.
"""

import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from layerscope import kernels

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # for `python benchmarks/kernels.py`
from benchmarks._timing import cpu_seconds, first_call, paired

RNG = np.random.default_rng(0)
BATCHES = 50


def line(what: str, measured: str, target: str, met: bool | None = None) -> None:
    """One row of the table."""
    print(f"| {what} | {measured} | {target} | {'' if met is None else 'yes' if met else '**no**'} |", flush=True)


# Packing.


def bfloat16(x: np.ndarray) -> np.ndarray:
    """The int16 view of x in bfloat16, which is all of it that NumPy can hold."""
    return (x.view(np.uint32) >> 16).astype(np.uint16).view(np.int16)


def packing() -> None:
    """Against the shortest way in NumPy; for bfloat16 NumPy compares the int16 view, which is fair though it would let NaN fire."""
    cases = [
        ("rows of 64 units, 4 MB", (16_000, 64), {"float32": 1.4, "bfloat16": 1.5, "float16": 20}),
        ("rows of 64 units, 128 MB", (500_000, 64), {"float32": 1.4}),
        ("rows of 512 units, 4 MB", (2_000, 512), {"float32": 1.2, "bfloat16": 1.5, "float16": 20}),
        ("rows of 512 units, 131 MB", (64_000, 512), {"float32": 1.2}),
        ("channels first (200,20,24,24)", (200, 20, 24, 24), {"float32": 8, "bfloat16": 1.5, "float16": 20}),
        ("channels first (64,64,56,56)", (64, 64, 56, 56), {"float32": None}),
        ("channels first (64,512,7,7)", (64, 512, 7, 7), {"float32": 1.5}),
        ("channels first (64,512,2,2)", (64, 512, 2, 2), {"float32": None}),
    ]
    for name, shape, targets in cases:
        base = RNG.standard_normal(shape, dtype=np.float32)
        for kind, target in targets.items():
            x = bfloat16(base) if kind == "bfloat16" else base.astype(kind)
            dtype, units = ("bfloat16" if kind == "bfloat16" else None), shape[1]
            ratio = paired(
                lambda x=x, units=units: np.packbits(
                    np.moveaxis(x, 1, -1).reshape(-1, units) > 0, axis=1, bitorder="little"
                ),
                lambda x=x, dtype=dtype: kernels.pack(x, 1, 0.0, dtype),
            )
            gigabytes = x.nbytes / ratio.right / 1e9
            measured = f"{ratio} times, {gigabytes:.0f} GB/s"
            line(f"pack {name}, {kind}", measured, f"≥ {target}" if target else "", target and ratio.median >= target)
    x = np.zeros((1, 64), np.float32)
    seconds = cpu_seconds(lambda: kernels.pack(x, 1))
    line("pack one row: Python's part", f"{seconds * 1e6:.1f} us", "≤ 8 us", seconds <= 8e-6)


# Counting.


def lenet() -> np.ndarray:
    """The states of the first convolution of LeNet on noise: 5.76 M rows of 20 units, 576 a sample."""
    import torch

    torch.set_num_threads(1)
    torch.manual_seed(0)
    convolution, images = torch.nn.Conv2d(1, 20, 5), torch.rand(10_000, 1, 28, 28)
    with torch.inference_mode():
        return np.concatenate([kernels.pack(convolution(batch).numpy(), 1)[0] for batch in images.split(200)])


def different(rows: int, words: int) -> np.ndarray:
    """Random states, all different."""
    return RNG.integers(0, 2**64, (rows, words), dtype=np.uint64)


def twice(rows: int, words: int) -> np.ndarray:
    """Every state twice, shuffled."""
    return different(rows // 2, words)[RNG.permutation(np.r_[0 : rows // 2, 0 : rows // 2])]


def zipf(rows: int, exponent: float, universe: int) -> np.ndarray:
    """State k with probability proportional to k^-exponent."""
    p = np.cumsum(1 / np.arange(1, universe + 1) ** exponent)
    return different(universe, 1)[np.minimum(np.searchsorted(p / p[-1], RNG.random(rows)), universe - 1)]


def nanoseconds_a_row(rows: np.ndarray, per_sample: int, evict: bool = False) -> tuple[float, kernels.Table]:
    """The median of five fresh tables, each filled in 50 batches; `evict`: other data fills the caches before each batch."""
    samples = len(rows) // per_sample
    step, found, table = -(-samples // BATCHES), [], None
    elsewhere = np.zeros(12_000_000) if evict else np.zeros(1)
    for _ in range(5):
        table, spent = kernels.Table(rows.shape[1]), 0.0
        for g in range(0, samples, step):
            count = min(step, samples - g)
            batch, offsets, ids = (
                rows[g * per_sample : (g + count) * per_sample],
                np.arange(count + 1) * per_sample,
                np.arange(g, g + count),
            )
            if evict:
                elsewhere += 1
                batch = batch.copy()  # as a layer leaves it
            begin = time.process_time()
            table.add(batch, offsets, ids)
            spent += time.process_time() - begin
        found.append(spent / (samples * per_sample) * 1e9)
    assert table is not None
    assert table.rows == samples * per_sample == table.records().n.sum()
    return statistics.median(found), table


def counting() -> None:
    """All four integers of every state."""
    cases: list[tuple[str, Callable[[], np.ndarray], tuple[int, ...], float, float]] = [
        ("LeNet conv_1", lenet, (576,), 4, 9),
        ("64 units, Zipf 1.1", lambda: zipf(1_000_000, 1.1, 1_000_000), (1, 64), 12, 17),
        ("64 units, all different", lambda: different(1_000_000, 1), (1, 64), 35, 40),
        ("64 units, each twice", lambda: twice(1_000_000, 1), (1, 64), 30, 35),
        ("512 units, all different", lambda: different(500_000, 8), (1, 64), 50, 55),
        ("512 units, each twice", lambda: twice(500_000, 8), (1, 64), 60, 65),
    ]
    for name, make, sizes, target, limit in cases:
        rows = make()
        for per_sample in sizes:
            ns, table = nanoseconds_a_row(rows, per_sample)
            what = f"count {name}, {per_sample} rows a sample, {len(table)} states, {table.nbytes / len(table):.0f} B a state"
            line(what, f"{ns:.1f} ns a row", f"≤ {target} (at most {limit})", ns <= target)
        if make is lenet:
            ns, _ = nanoseconds_a_row(rows, 576, evict=True)
            line("the same, caches emptied before every batch", f"{ns:.1f} ns a row", "")


# Starting.


def starting() -> None:
    """First calls in a new process."""
    pack = (
        "import numpy as np; from layerscope import kernels; x = np.ones((4, 20, 3, 3), np.{})",
        "kernels.pack(x, {})",
    )
    calls = {
        "pack rows, float32": (pack[0].format("float32"), pack[1].format(3)),
        "pack planes, float32": (pack[0].format("float32"), pack[1].format(1)),
        "pack planes, float16": (pack[0].format("float16"), pack[1].format(1)),
        "count": (
            "import numpy as np; from layerscope.kernels import Table; table = Table(1)",
            "table.add(np.zeros((4, 1), np.uint64), np.array([0, 4]), np.array([0]))",
        ),
    }
    for name, (setup, call) in calls.items():
        cold, warm = first_call(setup, call, cached=False), first_call(setup, call, cached=True)
        line(f"first call, {name} (with importing Numba)", f"{cold:.2f} s; cached {warm:.2f} s", "")
    line("importing the kernels", f"{first_call('', 'import layerscope.kernels', cached=True):.3f} s", "")


if __name__ == "__main__":
    print("| what | measured | target | met |\n|---|---|---|---|")
    packing()
    counting()
    starting()

"""`make bench`: everything that must be fast, measured; ratios are taken within one run, so a shared machine does not matter much.

Each part runs in a process of its own: threads and caches of one do not reach the next.
"""

import os
import platform
import subprocess
import sys
from pathlib import Path

PARTS = [
    ("Packing and counting", ["benchmarks.kernels"]),
    ("LeNet-5, 10,000 images, three convolutions captured and counted", ["benchmarks.capture", "lenet", "1", "15"]),
    ("The same on two threads, wall time", ["benchmarks.capture", "lenet", "2", "15"]),
    ("A residual net at 64 px, 17 ReLU layers", ["benchmarks.capture", "residual", "1", "15"]),
    ("A transformer, 4 feed-forward layers of 1024 GELU units", ["benchmarks.capture", "transformer", "1", "15"]),
    ("The same LeNet-5 in compiled frameworks, on real digits", ["benchmarks.frameworks", "all"]),
    ("Memory", ["benchmarks.capture", "lenet", "memory"]),
    ("Invariance: LeNet, 200 samples under 16 rotations", ["benchmarks.invariance", "lenet"]),
    ("Invariance: a residual net at 64 px, 32 samples under 8 rotations", ["benchmarks.invariance", "residual", "5"]),
    ("Descents of networks with an energy: JAX beside a scan written by hand", ["benchmarks.energy", "jax"]),
    ("The same: PyTorch beside a loop written by hand", ["benchmarks.energy", "torch"]),
    ("How many patterns a memory holds, beside theory", ["benchmarks.capacity"]),
]


def machine() -> str:
    """The processor in words."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    model = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.processor())
    return f"{model}, {os.cpu_count()} cores, Python {platform.python_version()}"


def main() -> None:
    print(machine(), flush=True)
    environment = {**os.environ, "OMP_WAIT_POLICY": "passive"}  # spinning threads on shared cores time nothing
    for title, words in PARTS:
        print(f"\n## {title}\n", flush=True)
        subprocess.run([sys.executable, "-m", *words], env=environment, check=True)
    print("\n## Import\n", flush=True)
    code = "import time; t = time.perf_counter(); import layerscope; print(f'import layerscope {1e3 * (time.perf_counter() - t):.0f} ms')"
    subprocess.run([sys.executable, "-c", code], check=True)


if __name__ == "__main__":
    main()

"""The documentation's PyTorch tutorial runs as it is printed, but for its import line and its data."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.boundary.source import ROOT
from tests.conftest import require

pytestmark = pytest.mark.torch
require("torch")

LINES = r"""Layer conv_1_post_states number of states: {}
Layer conv_2_post_states number of states: {}
Layer conv_3_post_states number of states: {}
"""


def tutorial(*options: str) -> str:
    command = [sys.executable, "-W", "error", str(ROOT / "examples" / "tensorstate_pytorch.py"), *options]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


def numbers(out: str) -> dict[str, float]:
    return {what: float(share) for what, share in re.findall(r"(conv_\d|Network \w+|aIQ).*: ([\d.]+)%", out)}


def test_the_tutorial_on_real_digits() -> None:
    require("sklearn")
    out = tutorial("--epochs", "3")
    assert LINES.format(500 * 24 * 24, 500 * 8 * 8, 500) in out
    found = numbers(out)
    assert set(found) == {"conv_1", "conv_2", "conv_3", "Network efficiency", "Network accuracy", "aIQ"}
    assert found["Network accuracy"] > 60  # 10 by guessing
    product = found["conv_1"] * found["conv_2"] * found["conv_3"]
    assert found["Network efficiency"] == pytest.approx(product ** (1 / 3), abs=0.2)
    assert found["aIQ"] == pytest.approx(
        (found["Network accuracy"] ** 2 * found["Network efficiency"]) ** (1 / 3), abs=0.2
    )
    assert found["conv_3"] <= 9.0  # log2(500) of 100 bits is all that 500 images can show


def test_the_tutorial_on_files_of_mnist(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    parts = {}
    for part, count in (("train", 400), ("test", 200)):
        parts[f"x_{part}"] = rng.integers(0, 256, (count, 28, 28), dtype=np.uint8)
        parts[f"y_{part}"] = rng.integers(0, 10, count, dtype=np.uint8)
    np.savez(tmp_path / "mnist.npz", **parts)  # type: ignore[arg-type]
    out = tutorial("--epochs", "1", "--mnist", str(tmp_path / "mnist.npz"))
    assert LINES.format(200 * 24 * 24, 200 * 8 * 8, 200) in out

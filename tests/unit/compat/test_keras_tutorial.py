"""The documentation's TensorFlow tutorial runs as it is printed, but for its import lines and its data, on every Keras backend."""

import os
import subprocess
import sys

import pytest

from tests.boundary.source import ROOT
from tests.conftest import require
from tests.unit.compat.test_tutorial import LINES, numbers

pytestmark = pytest.mark.keras
keras = require("keras")
require("sklearn")
EXAMPLE = ROOT / "examples" / "tensorstate_keras.py"


def test_the_tutorial_on_real_digits() -> None:
    assert len(EXAMPLE.read_text(encoding="utf-8").splitlines()) < 60
    old = "ignore:__array__ implementation doesn't accept a copy:DeprecationWarning"  # Keras's own, on JAX and PyTorch
    ran = subprocess.run(
        [sys.executable, "-W", "error", "-W", old, str(EXAMPLE)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "KERAS_BACKEND": keras.backend.backend()},
    )
    assert ran.returncode == 0, ran.stderr
    assert LINES.format(500 * 24 * 24, 500 * 8 * 8, 500) in ran.stdout
    found = numbers(ran.stdout)
    assert set(found) == {"conv_1", "conv_2", "conv_3", "Network efficiency", "Network accuracy", "aIQ"}
    assert found["Network accuracy"] > 80  # 10 by guessing
    product = found["conv_1"] * found["conv_2"] * found["conv_3"]
    assert found["Network efficiency"] == pytest.approx(product ** (1 / 3), abs=0.2)
    assert found["aIQ"] == pytest.approx(
        (found["Network accuracy"] ** 2 * found["Network efficiency"]) ** (1 / 3), abs=0.2
    )
    assert found["conv_3"] <= 9.0  # log2(500) of 100 bits is all that 500 images can show

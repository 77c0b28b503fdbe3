"""Every example runs and prints something; each is short enough to be read at once."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import require

require("torch")
require("sklearn")
EXAMPLES = sorted((Path(__file__).resolve().parents[2] / "examples").glob("*.py"))
OF_OTHERS = {"tensorstate_pytorch.py", "tensorstate_keras.py"}  # published tutorials with tests of their own
# run by tests where their framework is, or where their numbers are
ELSEWHERE = {
    "augmentation_makes_invariant.py",
    "can_i_trust_it.py",
    "can_i_trust_minilm.py",
    "monitor_keras.py",
    "monitor_lightning.py",
    "transformational_measures_keras.py",
}


def test_there_are_examples() -> None:
    assert len(EXAMPLES) >= 4


@pytest.mark.parametrize("path", [p for p in EXAMPLES if p.name not in OF_OTHERS | ELSEWHERE], ids=lambda p: p.name)
def test_the_example_runs(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) < 60
    done = subprocess.run(
        [sys.executable, "-W", "error", str(path)],
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "2"},
    )
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) >= 2, done.stdout

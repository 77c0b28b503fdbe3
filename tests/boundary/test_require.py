"""A missing framework is a polite skip at home and a failure where `LAYERSCOPE_REQUIRE` names it, as in CI."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.boundary.source import ROOT
from tests.conftest import require_program


def run_with(tmp_path: Path, require: str, asks: str) -> subprocess.CompletedProcess[str]:
    """pytest in a new process, over a copy of our conftest and one file that asks for a framework nobody has."""
    (tmp_path / "tests").mkdir()
    (tmp_path / "pyproject.toml").write_text(
        '[tool.pytest.ini_options]\naddopts = ["--import-mode=importlib"]\npythonpath = ["."]\n'
    )
    (tmp_path / "tests" / "conftest.py").write_text(
        (ROOT / "tests" / "conftest.py").read_text(encoding="utf-8"), encoding="utf-8"
    )
    (tmp_path / "tests" / "test_a.py").write_text(asks, encoding="utf-8")
    env = {**os.environ, "LAYERSCOPE_REQUIRE": require}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-rs", "tests"]
    return subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, check=False)


ASKS_OURS = "from tests.conftest import require\nmissing = require('no_such_framework')\ndef test_never(): raise AssertionError\n"
ASKS_PYTEST = (
    "import pytest\nmissing = pytest.importorskip('no_such_framework')\ndef test_never(): raise AssertionError\n"
)


@pytest.mark.parametrize("asks", [ASKS_OURS, ASKS_PYTEST])
def test_at_home_a_missing_framework_is_skipped(tmp_path: Path, asks: str) -> None:
    run = run_with(tmp_path, "", asks)
    assert "1 skipped" in run.stdout, run.stdout + run.stderr
    assert "no_such_framework" in run.stdout
    assert run.returncode in (0, 5)  # 5: nothing ran


@pytest.mark.parametrize("asks", [ASKS_OURS, ASKS_PYTEST])
def test_where_it_is_required_it_fails(tmp_path: Path, asks: str) -> None:
    run = run_with(tmp_path, "numpy, no_such_framework", asks)
    assert run.returncode == 4, run.stdout + run.stderr
    assert "not installed here: no_such_framework." in run.stderr


def test_a_required_program_that_is_missing_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    run = run_with(tmp_path, "chromium", ASKS_OURS)
    assert run.returncode == 4, run.stdout + run.stderr
    assert "not installed here: chromium." in run.stderr


def test_a_program_that_is_missing_is_skipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(pytest.skip.Exception, match="chromium is not installed"):
        require_program("chromium")

"""How the kernels start: lazily, without Numba, without a place for its cache, and never with an old result."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import layerscope
from layerscope import kernels

SOURCE = Path(layerscope.__file__).parent
PACK = "import numpy as np; from layerscope.kernels import pack; print(int(pack(np.array([[0.0, 1.0, -1.0]], np.float32), 1)[0][0, 0]))"
EVERYTHING = """
import numpy as np
from layerscope import kernels
from layerscope.kernels import _engine, reference
assert _engine.engine() is reference
rows, offsets, ids = np.array([[7], [7], [1]], np.uint64), np.array([0, 2, 3]), np.array([5, 4])
table = kernels.Table(1)
table.add(rows, offsets, ids)
table.merge(kernels.Table.of(table.records()))
assert (table.rows, len(table), table.nbytes > 0) == (6, 2, True)
assert [column.tolist() for column in table.copy().records()] == [[[1], [7]], [2, 4], [2, 2], [2, 8], [4, 5]]
assert kernels.pack(np.array([[-1.0, 1.0]]), 1)[0].tolist() == [[2]]
assert kernels.nonfinite(np.array([np.nan, np.inf])) == (1, 1)
assert kernels.unit_counts(rows, np.array([1, 1, 1]), 3).tolist() == [3, 2, 2]
try:
    table.add(rows, np.array([0, 9, 3]), ids)
except Exception as error:
    print(type(error).__name__)
"""


def run(code, path=SOURCE.parent, **environment):
    """What a fresh process prints."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        env={**os.environ, "PYTHONPATH": str(path), **environment},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.fixture
def copy(tmp_path):
    """The kernels alone, in a folder of their own."""
    package = tmp_path / "layerscope"
    package.mkdir()
    shutil.copytree(SOURCE / "kernels", package / "kernels", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(SOURCE / "_errors.py", package)
    (package / "__init__.py").touch()
    return tmp_path


LOADED = "; import sys; print(sorted({'numba', 'torch', 'jax', 'tensorflow', 'keras', 'scipy'} & set(sys.modules)))"


def test_import_loads_neither_numba_nor_a_framework():
    assert run("import layerscope.kernels, layerscope.kernels.device" + LOADED) == "[]"
    assert "numba" in run("import layerscope.kernels.cpu" + LOADED)  # the check can fail


def test_without_numba_the_reference_runs():
    assert run("import sys; sys.modules['numba'] = None" + EVERYTHING) == "ShapeError"


def test_an_edit_of_a_helper_gives_the_new_result(copy):
    kernel = copy / "layerscope" / "kernels" / "cpu.py"
    cache = {"NUMBA_CACHE_DIR": str(copy / "cache")}
    assert run(PACK, copy, **cache) == "2"
    assert any((copy / "cache").rglob("*.nbc"))  # or nothing is proved
    assert run(PACK, copy, **cache) == "2"
    source = kernel.read_text()
    old = 'builder.fcmp_ordered(">", x'
    assert source.count(old) == 1
    kernel.write_text(source.replace(old, 'builder.fcmp_ordered(">=", x') + "# edited\n")
    # Three values are a scalar tail; 64 of them meet the vector compare that was edited.
    wide = PACK.replace("[[0.0, 1.0, -1.0]]", "[[0.0] + [-1.0] * 63]")
    assert run(wide, copy, **cache) == "1"
    kernel.write_text(source)
    assert run(wide, copy, **cache) == "0"


def test_everything_compiled_stands_in_one_file():
    for file in (SOURCE / "kernels").glob("*.py"):
        assert file.name == "cpu.py" or "njit" not in file.read_text(), file
    assert "from numba" in (SOURCE / "kernels" / "cpu.py").read_text()


def test_an_install_without_any_writable_place_still_works(copy):
    # A file where the folder should be refuses everyone, root too.
    (copy / "layerscope" / "kernels" / "__pycache__").touch()
    (copy / "__pycache__").touch()
    (copy / "bare.py").write_text("import numba\n@numba.njit(cache=True)\ndef f(): return 1\n")
    nowhere = str(copy / "layerscope" / "__init__.py")
    places = {name: nowhere for name in ("HOME", "XDG_CACHE_HOME", "NUMBA_CACHE_DIR")}
    with pytest.raises(AssertionError, match="no locator available"):  # or nothing is proved
        run("import bare", copy, PYTHONDONTWRITEBYTECODE="1", **places)
    assert run(PACK, copy, PYTHONDONTWRITEBYTECODE="1", **places) == "2"
    assert not list(copy.rglob("*.nbc"))


def test_other_runtime_errors_are_not_swallowed(monkeypatch):
    from layerscope.kernels import cpu

    def broken(**_):
        raise RuntimeError("something else")

    monkeypatch.setattr(cpu.nb, "njit", broken)
    with pytest.raises(RuntimeError, match="something else"):
        cpu._jit(kernels.pack)

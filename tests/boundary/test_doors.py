"""Modules are private, each package's `__init__` is its door, and the public names are pinned in `public_names.txt`.

To pin a new name:  .venv/bin/python -m tests.boundary.test_doors > tests/boundary/public_names.txt
"""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from tests.boundary.source import PACKAGE, ROOT, SRC, dotted, modules, plant
from tests.boundary.test_frameworks import NAMED

# Public modules besides the files named after frameworks, and besides `compat`, whose file names are other people's.
PUBLIC = {
    "cli.py",
    "datasets.py",
    "distributed/processes.py",
    "kernels/cpu.py",
    "kernels/device.py",
    "kernels/reference.py",
    "kernels/table.py",
    "probes/energy.py",
}
NAMES = Path(__file__).with_name("public_names.txt")


def surplus_in_door(tree: ast.Module, top: bool) -> list[str]:
    """Statements of an `__init__.py` that are no door: only `from ._x import Y as Y`, and at the top the lazy table and its functions."""
    wrong: list[str] = []
    for at, node in enumerate(tree.body):
        docstring = at == 0 and isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        passage = isinstance(node, ast.ImportFrom) and node.level == 1 and all(a.asname == a.name for a in node.names)
        table = isinstance(node, ast.Assign | ast.AnnAssign)
        lazy = isinstance(node, ast.FunctionDef) and node.name in {"__getattr__", "__dir__"}
        standard = isinstance(node, ast.Import | ast.ImportFrom) and not getattr(node, "level", 0)
        checking = isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING")
        if not (docstring or passage or (top and (table or lazy or standard or checking))):
            wrong.append(f"line {node.lineno}: {ast.unparse(node).splitlines()[0]}")
    return wrong


def check_doors(src: Path) -> None:
    wrong: list[str] = []
    for path, tree in modules(src).items():
        if path.name == "__init__.py":
            wrong += [f"{path}: {line}" for line in surplus_in_door(tree, top=path.parts == ("__init__.py",))]
        elif not (
            path.name.startswith("_") or path.stem in NAMED or path.as_posix() in PUBLIC or path.parts[0] == "compat"
        ):
            wrong.append(f"{path}: a module is private (_{path.name}) unless PUBLIC in {Path(__file__).name} lists it")
    assert not wrong, "\n".join(wrong)


def public_names() -> list[str]:
    """Every name that a door lets through, in full, sorted; to be asked in a new process, where no submodule is loaded yet."""
    import layerscope

    names = {f"{PACKAGE}.{name}" for name in dir(layerscope) if not name.startswith("_")}
    for path, tree in modules().items():
        if path.name == "__init__.py" and len(path.parts) > 1:
            passages = (node for node in tree.body if isinstance(node, ast.ImportFrom))
            names |= {f"{dotted(path)}.{alias.name}" for node in passages for alias in node.names if alias.asname}
    return sorted(names)


def test_doors_hold_nothing_but_passages() -> None:
    check_doors(SRC)


def test_public_names_are_pinned() -> None:
    command = [sys.executable, "-m", "tests.boundary.test_doors"]
    now = set(subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split())
    pinned = set(NAMES.read_text(encoding="utf-8").split())
    new, gone = sorted(now - pinned), sorted(pinned - now)
    assert now == pinned, f"new: {new}; gone: {gone}. To pin this, run the line at the top of {Path(__file__).name}."


def test_every_public_name_exists() -> None:
    import layerscope

    for name in dir(layerscope):
        assert getattr(layerscope, name, None) is not None, name


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("measures/entropy.py", "x = 1"),
        ("utils.py", "x = 1"),
        ("measures/__init__.py", "from ._entropy import Entropy"),
        ("measures/__init__.py", "from numpy import log as log"),
        ("measures/__init__.py", "def entropy(): ..."),
        ("__init__.py", "def examine(): ..."),
        ("__init__.py", "class Results: ..."),
    ],
)
def test_a_hole_in_the_wall_is_seen(tmp_path: Path, path: str, code: str) -> None:
    with pytest.raises(AssertionError, match=path):
        check_doors(plant(tmp_path, {path: code + "\n"}))


def test_a_proper_door_passes(tmp_path: Path) -> None:
    door = '"""Doc."""\nfrom typing import Any\n_TABLE = {}\ndef __getattr__(name: str) -> Any: ...\n'
    check_doors(plant(tmp_path, {"__init__.py": door, "measures/__init__.py": '"""Doc."""\nfrom ._a import B as B\n'}))


if __name__ == "__main__":
    print(*public_names(), sep="\n")

"""Reads a source tree without importing it: its modules, who imports whom, and where."""

import ast
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SRC = ROOT / "src" / "layerscope"
PACKAGE = "layerscope"


@dataclass(frozen=True)
class Import:
    """One imported module: `module` in full, `names` taken from it, `line`, and whether it waits inside a function."""

    module: str
    names: tuple[tuple[str, str | None], ...]
    line: int
    lazy: bool


def modules(src: Path = SRC) -> dict[Path, ast.Module]:
    """Every Python file under `src`, by its path relative to `src`."""
    return {p.relative_to(src): ast.parse(p.read_text(encoding="utf-8"), str(p)) for p in sorted(src.rglob("*.py"))}


def dotted(path: Path) -> str:
    """The full name of the module in the file `path` (relative to the package): `probes/torch.py` is `layerscope.probes.torch`."""
    parts = path.with_suffix("").parts
    return ".".join((PACKAGE, *(parts[:-1] if parts[-1] == "__init__" else parts)))


def imports(path: Path, tree: ast.Module) -> Iterator[Import]:
    """Every import statement of a file, relative ones resolved; those inside functions are `lazy`."""
    package = dotted(path).split(".")[: None if path.name == "__init__.py" else -1]

    def walk(node: ast.AST, lazy: bool) -> Iterator[Import]:
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(alias.name, (), node.lineno, lazy)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            yield Import(module, tuple((a.name, a.asname) for a in node.names), node.lineno, lazy)
        inside = lazy or isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        for child in ast.iter_child_nodes(node):
            yield from walk(child, inside)

    return walk(tree, False)


def tracked() -> list[Path]:
    """The files of the project: what git tracks or would track; all but hidden and built ones where there is no git."""
    git = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if git.returncode == 0:
        return [ROOT / name for name in git.stdout.split("\0") if name and (ROOT / name).is_file()]
    return [p for p in ROOT.rglob("*") if p.is_file() and not {".venv", "build", "dist", "__pycache__"} & set(p.parts)]


def plant(root: Path, files: dict[str, str]) -> Path:
    """A made-up tree for canaries: `files` by path, written under `root`."""
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text, encoding="utf-8")
    return root

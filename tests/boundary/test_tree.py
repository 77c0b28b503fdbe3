"""What no file of the project may hold: dependencies that break others, and traces of one person's machine."""

import ast
import re
from collections.abc import Iterable
from pathlib import Path

import pytest

from tests.boundary.source import ROOT, plant, tracked

# torchvision's wheel brings a CUDA build of torch, and its mere presence breaks torchmetrics, lightning and transformers.
UNWANTED = {"torchvision", "torchaudio", "timm"}
REQUIREMENTS = {
    "pyproject.toml",
    "constraints.txt",
    "Makefile",
    "run",
    "setup.cfg",
    "environment.yml",
    ".pre-commit-config.yaml",
}
MACHINE = re.compile(r"""(?<![\w.~-])/(root|home|work|Users|opt|mnt)/\w|\b[A-Z]:\\\\?Users\b""")
INDEX = re.compile(
    r"\b(extra-)?index-url\b|\bfind-links\b|\btrusted-host\b|https?://[\w.-]*(pypi|registry|mirror|hosted|wheel)|https?://\S*/(simple|whl)/"
)


def unwanted(files: Iterable[Path]) -> list[str]:
    wrong: list[str] = []
    for path in files:
        if path.suffix == ".py":
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
                names += [node.module or ""] if isinstance(node, ast.ImportFrom) and not node.level else []
                wrong += [f"{path.name}:{name}" for name in names if name.partition(".")[0] in UNWANTED]
        elif path.name in REQUIREMENTS or path.name.startswith("requirements"):
            lines = (line.partition("#")[0] for line in path.read_text(encoding="utf-8").splitlines())
            wrong += [
                f"{path.name}:{name}" for line in lines for name in re.findall(r"[A-Za-z]+", line) if name in UNWANTED
            ]
    return wrong


def traces(files: Iterable[Path]) -> list[str]:
    wrong: list[str] = []
    for path in files:
        try:
            lines = path.read_text(encoding="utf-8").splitlines()
        except UnicodeDecodeError:
            continue  # a picture or an array
        wrong += [
            f"{path.name}:{n}: {line.strip()[:100]}"
            for n, line in enumerate(lines, 1)
            if MACHINE.search(line) or INDEX.search(line)
        ]
    return wrong


def ours() -> list[Path]:
    """The project's files but for this one, which has to name what it forbids."""
    return [p for p in tracked() if p != Path(__file__).resolve()]


def test_no_file_asks_for_an_unwanted_dependency() -> None:
    assert unwanted(ours()) == []


def test_no_file_names_a_machine_or_a_package_index() -> None:
    assert traces(ours()) == []


def test_the_tree_is_seen() -> None:
    names = {p.relative_to(ROOT).as_posix() for p in tracked()}
    assert {"pyproject.toml", "Makefile", ".ci/run", "src/layerscope/__init__.py"} <= names


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.py", "import torchvision.models"),
        ("b.py", "def f():\n    from timm import x"),
        ("constraints.txt", "torchvision==1"),
        ("pyproject.toml", 'x = ["timm"]'),
    ],
)
def test_an_unwanted_dependency_is_seen(tmp_path: Path, name: str, text: str) -> None:
    assert unwanted(plant(tmp_path, {name: text + "\n"}).rglob("*.*"))


@pytest.mark.parametrize(
    "text",
    [
        "cache = '/home/ann/data'",
        "see /root/x",
        r"C:\Users\ann",
        "pip install --index-url https://example.org/x",
        "https://example.org/whl/cpu",
        "https://pypi.example/x",
    ],
)
def test_a_trace_is_seen(tmp_path: Path, text: str) -> None:
    assert traces(plant(tmp_path, {"a.txt": text + "\n"}).rglob("*.txt"))


def test_ordinary_words_leave_no_trace(tmp_path: Path) -> None:
    text = "https://arxiv.org/abs/2006.02909, ~/work/x, src/work/y, /usr/bin/chromium, /tmp/x, see docs/home/index.md\n"
    assert traces(plant(tmp_path, {"a.txt": text}).rglob("*.txt")) == []

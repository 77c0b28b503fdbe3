"""A class is abstract (it cannot be made) or final (nobody inherits from it).  Errors, protocols and named tuples are excepted."""

import ast
import builtins
from pathlib import Path

import pytest

from tests.boundary.source import SRC, imports, modules, plant

ERRORS = {
    name for name, value in vars(builtins).items() if isinstance(value, type) and issubclass(value, BaseException)
}
EXCEPTED = {"Protocol", "NamedTuple"}


def last_name(base: ast.expr) -> str:
    """`Generic[T]` is Generic, `abc.ABC` is ABC."""
    base = base.value if isinstance(base, ast.Subscript) else base
    return base.attr if isinstance(base, ast.Attribute) else ast.unparse(base)


def root_name(base: ast.expr) -> str:
    """`Generic[T]` is Generic, `abc.ABC` is abc: where the name comes from."""
    while isinstance(base, ast.Subscript | ast.Attribute):
        base = base.value
    return ast.unparse(base)


def inherited(trees: dict[Path, ast.Module]) -> list[str]:
    """Classes of ours that are neither abstract nor final, with who inherits from them."""
    bases: dict[str, set[str]] = {}  # ours by name; classes of one name are judged together
    children: list[tuple[str, str, str]] = []
    for path, tree in trees.items():
        foreign = {
            asname or name
            for line in imports(path, tree)
            if line.module.partition(".")[0] != "layerscope"
            for name, asname in line.names
        }
        whole = (alias for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names)
        foreign |= {
            alias.asname or alias.name.partition(".")[0] for alias in whole if not alias.name.startswith("layerscope")
        }
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef):
                abstract = (
                    {"ABC"}
                    if any(k.arg == "metaclass" and last_name(k.value) == "ABCMeta" for k in node.keywords)
                    else set[str]()
                )
                bases.setdefault(node.name, set()).update(map(last_name, node.bases), abstract)
                children += [
                    (last_name(base), node.name, f"{path}:{node.lineno}")
                    for base in node.bases
                    if root_name(base) not in foreign
                ]

    def descends(name: str, roots: set[str], seen: frozenset[str] = frozenset()) -> bool:
        return name in roots or any(descends(b, roots, seen | {name}) for b in bases.get(name, ()) if b not in seen)

    def may_be_inherited(name: str) -> bool:
        return (
            "ABC" in bases[name]
            or (name.startswith("Abstract") and descends(name, {"ABC"}))
            or descends(name, ERRORS | EXCEPTED)
        )

    return [
        f"{where}: {child} inherits from {base}, which is not abstract; wrap it, or give it a field"
        for base, child, where in children
        if base in bases and not may_be_inherited(base)
    ]


def check_classes(src: Path) -> None:
    wrong = inherited(modules(src))
    assert not wrong, "\n".join(wrong)


def test_every_class_is_abstract_or_final() -> None:
    check_classes(SRC)


LEGAL = {
    "_abstract.py": "import abc\nfrom typing import Generic\nclass AbstractMeasure(abc.ABC, Generic[T]): ...\nclass AbstractDeep(AbstractMeasure): ...\n",
    "_leaf.py": "from ._abstract import AbstractMeasure\nclass Entropy(AbstractMeasure[int]): ...\n",
    "_errors.py": "class Root(Exception): ...\nclass Leaf(Root, ValueError): ...\nclass Lower(Leaf): ...\n",
    "_foreign.py": "from torch import nn\nclass Probe(nn.Entropy): ...\n",
    "_alias.py": "import equinox as eqx\nimport torch.nn\nclass Net(eqx.Entropy): ...\nclass Twin(torch.nn.Entropy): ...\n",
}


def test_a_legal_tree_passes(tmp_path: Path) -> None:
    check_classes(plant(tmp_path, LEGAL))


@pytest.mark.parametrize(
    "code",
    [
        "from ._leaf import Entropy\nclass Renyi(Entropy): ...",
        "from . import _leaf\nclass Renyi(_leaf.Entropy): ...",
        "import layerscope._leaf as leaf\nclass Renyi(leaf.Entropy): ...",
        "class Base: ...\nclass Renyi(Base): ...",
        "class AbstractInNameOnly: ...\nclass Renyi(AbstractInNameOnly): ...",
        "class Base: ...\ndef f():\n    class Renyi(Base): ...",
    ],
)
def test_an_inherited_leaf_is_seen(tmp_path: Path, code: str) -> None:
    with pytest.raises(AssertionError, match="Renyi inherits from"):
        check_classes(plant(tmp_path, {**LEGAL, "_renyi.py": code + "\n"}))

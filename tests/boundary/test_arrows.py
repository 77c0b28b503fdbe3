"""The arrows between the parts of layerscope, one way: who may import whom.  A new file in a package needs no edit here."""

import ast
from pathlib import Path

import pytest

from tests.boundary.source import PACKAGE, SRC, imports, modules, plant

# The road, each part seeing the parts before it.
ROAD = (
    "_errors",
    "_site",
    "_reading",
    "kernels",
    "_states",
    "tallies",
    "measures",
    "_seen",
    "_view",
    "_task",
    "_results",
    "report",
)
ARROWS: dict[str, set[str]] = {part: set(ROAD[:at]) for at, part in enumerate(ROAD)}
ARROWS["_files"] = {"_errors", "_site", "_reading"}
ARROWS["inventory"] = {"_errors", "_site"}
ARROWS["_view"] |= {"inventory"}
ARROWS["_results"] |= {"_files", "inventory"}
ARROWS["report"] |= {"_files", "inventory"}
ARROWS["probes"] = {"_errors", "_site", "inventory", "tallies", "feed"}
ARROWS["feed"] = {"_errors", "_site"}
ARROWS["datasets"] = {"_errors"}
ARROWS["transformations"] = {"_errors"}
ARROWS["energy"] = {"_errors"}
ARROWS["distributed"] = {"_errors", "_site", "tallies", "_files"}

ARROWS["_watch"] = ARROWS["_results"] | {"_results", "probes", "_choices", "_walk"}

ARROWS["_task"] = {"_errors", "_reading", "tallies", "feed"}
ARROWS["_inputs"] = {"_errors", "_site", "feed", "inventory", "tallies"}
ARROWS["_room"] = {"_errors", "_site"}
ARROWS["_shelf"] = {"_files", "_site", "tallies"}
ARROWS["_choices"] = {"_errors", "_shuffled", "feed", "inventory", "measures", "tallies", "transformations"}
ARROWS["_road"] = {
    *("_errors", "_site", "_choices", "_inputs", "_room", "_walk", "measures", "feed", "inventory", "probes"),
    *("_shuffled", "_task", "_results"),
}
ARROWS["_plan"] = {"_choices", "_road", "_room", "_site", "_walk", "feed", "inventory", "measures", "tallies"}
ARROWS["_walk"] = {
    "_errors",
    "_site",
    "_room",
    "_shelf",
    "_inputs",
    "_states",
    "_task",
    "_results",
    "tallies",
    "feed",
    "inventory",
    "probes",
}
ARROWS["_manifest"] = {"_errors", "_road", "_walk", "_results", "tallies", "measures", "feed", "probes"}
ARROWS["_index"] = {"_errors", "_site", "inventory", "measures", "tallies"}
ARROWS["_results"] |= {"_index"}
ARROWS["_beside"] = set()
ARROWS["_results"] |= {"_beside"}
ARROWS["_epochs"] = {"_errors", "_results", "tallies", "measures"}
ARROWS["_shuffled"] = {"_errors", "_site", "_task", "_results", "tallies", "measures", "feed"}
ARROWS["demo"] = {"_errors", "_results", "datasets", "_examine", "transformations"}

PARTS = {*ARROWS, "_examine", "_look", "integrations", "compat", "testing", "cli"}
ARROWS["_look"] = {"_choices", "_road", "_site", "tallies", "feed", "inventory", "probes"}
ARROWS["_examine"] = PARTS - {"_watch", "_look", "_plan", "report", "demo", "cli", "compat", "integrations", "testing"}
ARROWS["testing"] = PARTS - {"report", "demo", "cli", "compat", "integrations"}
ARROWS["cli"] = PARTS - {"compat", "integrations"} | {PACKAGE}
ARROWS["integrations"] = ARROWS["compat"] = PARTS | {PACKAGE}
ARROWS[PACKAGE] = PARTS - {"cli", "demo"}  # the door

FILES = {("probes/energy.py", "energy")}  # single files that see more than their package does
LAZY = {
    ("_results", "report"),
    ("energy", "report"),
}  # the back doors, only inside functions: results and ledgers plot themselves


def part_of(path: Path) -> str:
    """The part a file belongs to: its package, or its own name; the door is `layerscope` itself."""
    return PACKAGE if path.parts == ("__init__.py",) else Path(path.parts[0]).stem


def targets(module: str, names: tuple[str, ...], parts: set[str]) -> set[str]:
    """The parts that one import statement points to; `from .. import kernels` names them last."""
    first, _, rest = module.partition(".")
    if first != PACKAGE:
        return set()
    if rest:
        return {rest.partition(".")[0]}
    return {name if name in parts else PACKAGE for name in names} or {PACKAGE}


def forbidden(trees: dict[Path, ast.Module]) -> list[str]:
    """Every import that follows no arrow, as a line a person can act on."""
    parts = {part_of(path) for path in trees} | PARTS
    wrong: list[str] = []
    for path, tree in trees.items():
        part = part_of(path)
        if part not in ARROWS:
            wrong.append(f"{path}: {part!r} is a new part; say in ARROWS what it may import")
            continue
        for line in imports(path, tree):
            for target in targets(line.module, tuple(name for name, _ in line.names), parts) - {part} - ARROWS[part]:
                if (path.as_posix(), target) in FILES or (line.lazy and (part, target) in LAZY):
                    continue
                wrong.append(
                    f"{path}:{line.line}: {part} imports {target}; it may import {', '.join(sorted(ARROWS[part])) or 'nothing'}"
                )
    return wrong


def check_arrows(src: Path) -> None:
    wrong = forbidden(modules(src))
    assert not wrong, "\n".join(wrong)


def test_every_import_follows_an_arrow() -> None:
    check_arrows(SRC)


def test_the_arrows_have_no_cycle() -> None:
    """Apart from the parts that see everything by design, an order exists in which each part sees only earlier ones."""
    left = {
        part: seen - {part}
        for part, seen in ARROWS.items()
        if part not in {PACKAGE, "cli", "integrations", "compat", "testing"}
    }
    left["_examine"] -= {"testing"}
    while left:
        free = {part for part, seen in left.items() if not seen & set(left)}
        assert free, f"a cycle among {sorted(left)}"
        left = {part: seen for part, seen in left.items() if part not in free}


LEGAL = {
    "__init__.py": "from ._site import Site as Site\n",
    "_site.py": "from ._errors import X\n",
    "_errors.py": "import math\n",
    "_results.py": "from .measures import M\ndef page():\n    from .report import write\n",
    "measures/_m.py": "from ..tallies import T\nfrom .. import kernels\nfrom . import _n\n",
    "probes/energy.py": "from ..energy import step\n",
    "compat/a/_b.py": "import layerscope\nfrom ... import report\n",
}


def test_a_legal_tree_passes(tmp_path: Path) -> None:
    check_arrows(plant(tmp_path, LEGAL))


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("kernels/_a.py", "from ..measures import M"),
        ("kernels/_a.py", "from .. import measures"),
        ("kernels/_a.py", "from .. import examine"),
        ("kernels/_a.py", "import layerscope.measures._m"),
        ("kernels/_a.py", "def f():\n    from layerscope import tallies"),
        ("kernels/deep/_a.py", "from ...measures import M"),
        ("tallies/_t.py", "if TYPE_CHECKING:\n    from ..measures import M"),
        ("_results.py", "from .report import page"),
        ("_examine.py", "def f():\n    from .report import page"),
        ("probes/torch.py", "from ..energy import step"),
        ("probes/_select.py", "from ..measures import M"),
        ("energy/_ham.py", "from .._site import Site"),
        ("energy/_ledger.py", "from ..report import plot"),
        ("transformations/_grid.py", "from ..tallies import T"),
        ("distributed/_fold.py", "from ..measures import M"),
        ("_newcomer.py", "import math"),
    ],
)
def test_a_forbidden_arrow_is_seen(tmp_path: Path, path: str, code: str) -> None:
    with pytest.raises(AssertionError, match=Path(path).stem):
        check_arrows(plant(tmp_path, {**LEGAL, path: code + "\n"}))

"""Frameworks are imported only in files named after them, whether at the top or inside a function."""

import ast
from pathlib import Path

import pytest

from tests.boundary.source import PACKAGE, SRC, imports, modules, plant

# What a file of this name may import.  Keras runs on the other three; Flax and Equinox stand on JAX, the last three on PyTorch.
NAMED: dict[str, set[str]] = {
    "torch": {"torch"},
    "tensorflow": {"tensorflow"},
    "keras": {"keras", "tensorflow", "jax", "torch"},
    "jax": {"jax", "jaxlib", "flax", "equinox"},
    "flax": {"flax", "jax"},
    "equinox": {"equinox", "jax"},
    "ray": {"ray"},
    "lightning": {"lightning", "pytorch_lightning", "torch"},
    "transformers": {"transformers", "torch"},
    "torchmetrics": {"torchmetrics", "torch"},
}
FRAMEWORKS = set().union(*NAMED.values())


def misplaced(trees: dict[Path, ast.Module]) -> list[str]:
    wrong: list[str] = []
    for path, tree in trees.items():
        may = set().union(*(NAMED.get(Path(part).stem, set()) for part in path.parts))
        for line in imports(path, tree):
            if line.module.partition(".")[0] == PACKAGE:
                continue
            named = {line.module, *(f"{line.module}.{name}" for name, _ in line.names)}
            # `array_api_compat.torch` imports torch just the same
            used = {part for name in named for part in name.split(".")} & FRAMEWORKS
            wrong += [f"{path}:{line.line}: imports {name}; only {name}.py may" for name in sorted(used - may)]
    return wrong


def check_frameworks(src: Path) -> None:
    wrong = misplaced(modules(src))
    assert not wrong, "\n".join(wrong)


def test_frameworks_stay_in_files_of_their_name() -> None:
    check_frameworks(SRC)


def test_legal_places_pass(tmp_path: Path) -> None:
    check_frameworks(
        plant(
            tmp_path,
            {"probes/torch.py": "import torch\n", "probes/keras.py": "def f():\n    import tensorflow as tf\n"},
        )
    )


@pytest.mark.parametrize(
    "code",
    ["import torch", "import torch.nn as nn", "def f():\n    from jax import numpy", "import array_api_compat.torch"],
)
def test_a_misplaced_import_is_seen(tmp_path: Path, code: str) -> None:
    with pytest.raises(AssertionError, match=r"_select\.py:\d+: imports (torch|jax)"):
        check_frameworks(plant(tmp_path, {"probes/_select.py": code + "\n"}))


def test_one_framework_does_not_open_another(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="imports jax"):
        check_frameworks(plant(tmp_path, {"probes/torch.py": "import jax\n"}))

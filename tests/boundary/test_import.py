"""`import layerscope` is cheap: no framework, and none of the heavy libraries the road uses later."""

import subprocess
import sys

import pytest

MAY_LOAD = {"layerscope", "numpy"}  # beyond the standard library
FRAMEWORKS = {"torch", "tensorflow", "keras", "jax", "flax", "equinox", "ray", "lightning", "transformers"}


def loads(code: str) -> set[str]:
    """Top-level modules outside the standard library that `code` brings into a new interpreter."""
    probe = f"import sys; before = set(sys.modules)\n{code}\nprint(*{{m.partition('.')[0] for m in set(sys.modules) - before}})"
    run = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    return set(run.stdout.split()) - set(sys.stdlib_module_names)


def check_import(code: str, may_load: set[str] = MAY_LOAD) -> None:
    surplus = loads(code) - may_load
    assert not surplus, (
        f"`{code}` loads {', '.join(sorted(surplus))}: import these inside the functions that need them."
    )


def test_the_door_loads_only_what_is_listed() -> None:
    check_import("import layerscope")


def test_every_public_name_can_be_had_without_a_framework() -> None:
    code = "import layerscope\nfor name in dir(layerscope): getattr(layerscope, name)"
    surplus = loads(code) & FRAMEWORKS
    assert not surplus, f"touching a public name of layerscope loads {', '.join(sorted(surplus))}"


@pytest.mark.parametrize("heavy", ["pandas", "numba", "matplotlib"])
def test_the_check_sees_a_heavy_import(heavy: str) -> None:
    with pytest.raises(AssertionError, match=heavy):
        check_import(f"import layerscope, {heavy}")


def test_the_check_sees_a_broken_import() -> None:
    with pytest.raises(AssertionError, match="ModuleNotFoundError"):
        check_import("import layerscope.no_such_module")

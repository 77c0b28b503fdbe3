"""What every test may ask for: a framework, or a tool, that this machine may not have.

At home a test of a missing framework is skipped.  Where `LAYERSCOPE_REQUIRE=torch,keras,jax,tensorflow,chromium` is set, as CI does,
the same absence is a failure, so that a green run cannot hide tests that never ran.
"""

import importlib
import importlib.util
import os
import shutil
from pathlib import Path
from types import ModuleType

import pytest
from hypothesis import settings

TOOLS = {"chromium": ("chromium", "chromium-browser", "google-chrome")}  # required by name, but programs and no modules

# Frameworks pick threads and devices when they load; a test run wants neither a GPU it did not ask for nor a page of log lines.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("MPLBACKEND", "agg")

# No deadline: nothing here is timed.  A failure prints what repeats it; in CI Hypothesis draws the same examples every time.
settings.register_profile("layerscope", deadline=None, print_blob=True)
settings.load_profile("layerscope")


def required() -> tuple[str, ...]:
    """The names in `LAYERSCOPE_REQUIRE`: frameworks and tools whose absence is a failure."""
    return tuple(name.strip() for name in os.environ.get("LAYERSCOPE_REQUIRE", "").split(",") if name.strip())


def require(name: str) -> ModuleType:
    """The module `name`; where it is not installed the test (or the whole file) is skipped.

    Wrong: `import jax` at the top of a test file.  Right: `jax = require("jax")`.
    """
    if importlib.util.find_spec(name.partition(".")[0]) is None:
        pytest.skip(f"{name} is not installed", allow_module_level=True)
    return importlib.import_module(name)  # installed but broken is never a skip


def require_program(name: str) -> str:
    """The path of a program such as "chromium"; skipped like `require` where there is none."""
    found = _program(name)
    if found is None:
        pytest.skip(f"{name} is not installed", allow_module_level=True)
    return found


def _program(name: str) -> str | None:
    return next(filter(None, map(shutil.which, TOOLS.get(name, (name,)))), None)


def pytest_configure(config: pytest.Config) -> None:
    """Stops the run at once if a required framework is missing, whichever way the tests would have skipped it."""
    missing = [n for n in required() if (_program(n) if n in TOOLS else importlib.util.find_spec(n)) is None]
    if missing:
        raise pytest.UsageError(
            f"LAYERSCOPE_REQUIRE={os.environ['LAYERSCOPE_REQUIRE']}: not installed here: {', '.join(missing)}. "
            "Install them (`make test` does), or leave them out of LAYERSCOPE_REQUIRE to skip their tests."
        )
    config.pluginmanager.register(_FrameworkFiles())


class _FrameworkFiles:
    """Leaves the doctests of `probes/jax.py` and its like alone where jax is not installed (a conftest does not reach into `src`)."""

    def pytest_ignore_collect(self, collection_path: Path) -> bool | None:
        name = collection_path.stem
        framework = collection_path.suffix == ".py" and name in {
            "torch",
            "keras",
            "tensorflow",
            "jax",
            "flax",
            "equinox",
            "ray",
            "lightning",
            "transformers",
        }
        return True if framework and name not in required() and importlib.util.find_spec(name) is None else None

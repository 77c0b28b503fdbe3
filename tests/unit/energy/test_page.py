"""The page on energy layers is true: its code runs in order and prints what it says."""

import re
import subprocess
import sys

from layerscope import energy
from tests.boundary.source import ROOT
from tests.conftest import require

PAGE = (ROOT / "docs" / "energy.md").read_text(encoding="utf-8")


def test_the_code_of_the_page_prints_what_it_says() -> None:
    require("sklearn")
    code = "\n".join(re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL))
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    said = [line.partition("  # ")[2] for line in code.splitlines() if line.startswith("print(")]
    assert done.stdout.splitlines() == said


def test_every_name_of_the_page_is_public() -> None:
    names = set(re.findall(r"(?<![\w-])energy\.([A-Za-z_]+)", PAGE)) | set(
        re.findall(r"`(L[A-Z]\w+|[A-Z]\w+Synapse|[A-Z]\w+Layer)\(", PAGE)
    )
    assert len(names) > 25
    assert [name for name in sorted(names) if not hasattr(energy, name) and name not in ("torch", "energies")] == []

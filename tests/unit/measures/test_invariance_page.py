"""The page on invariance is true: its code runs in order and prints what it says, and its table is what the example prints."""

import re
import subprocess
import sys

import pytest

from layerscope import measures
from tests.boundary.source import ROOT
from tests.conftest import require

PAGE = (ROOT / "docs" / "invariance.md").read_text(encoding="utf-8")
NUMBER = re.compile(r"\d+(?:,\d{3})*(?:\.\d+)?")
pytestmark = pytest.mark.torch


def numbers(text: str) -> list[float]:
    return [float(found.replace(",", "")) for found in NUMBER.findall(text)]


def check_lines(said: list[str], printed: list[str]) -> None:
    """The same words, and numbers as near as another CPU may round them: 2 % or 0.03."""
    assert len(said) == len(printed), f"{len(said)} claims, {len(printed)} lines: {printed}"
    for claim, line in zip(said, printed, strict=True):
        assert NUMBER.sub("#", claim) == NUMBER.sub("#", line), f"{claim!r} is claimed, {line!r} printed"
        assert numbers(claim) == pytest.approx(numbers(line), rel=0.02, abs=0.03), f"{claim!r}, {line!r} printed"


def run(code: str) -> list[str]:
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_the_code_of_the_page_prints_what_it_says() -> None:
    require("torch")
    require("sklearn")
    code = "\n".join(re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL))
    said = [line.partition("  # ")[2] for line in code.splitlines() if line.startswith("print(")]
    assert len(said) > 10
    check_lines(said, run(code))


def test_the_choices_are_those_of_the_example() -> None:
    require("torch")
    require("sklearn")
    table = PAGE.partition("| choice | ratio |")[2].partition("\n\n")[0]
    said = [float(line.split("|")[2]) for line in table.splitlines()[2:]]
    printed = run((ROOT / "examples" / "invariance.py").read_text(encoding="utf-8"))
    first = float(printed[0].split(",")[1].split()[0])
    found = [first, *(float(line.split()[-1]) for line in printed[1:6])]
    # trained weights differ from one CPU to another; what the table shows is how far apart the choices are
    assert said == pytest.approx(found, rel=0.1)


def test_a_false_claim_is_rejected() -> None:
    for false in ("1.3 of 5", "1.14 of 6", "≥ 1.14 of 5"):
        with pytest.raises(AssertionError):
            check_lines(["1.14 of 5"], [false])


def test_every_measure_of_transformed_samples_is_on_the_page() -> None:
    for name in re.findall(r"`([A-Z]\w+)`", PAGE.partition("## Which number")[0]):
        assert hasattr(measures, name), name
    kinds = [getattr(measures, name) for name in dir(measures) if not name.startswith(("_", "Abstract"))]
    grids = [kind for kind in kinds if isinstance(kind, type) and issubclass(kind, measures.AbstractGridMeasure)]
    assert all(f"`{kind.__name__}`" in PAGE for kind in [*grids, measures.Anova, measures.Distance, measures.CKA])

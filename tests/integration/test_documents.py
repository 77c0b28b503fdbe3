"""What the README and the pages say is true: their code runs and prints what they claim, and their links lead somewhere."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

import layerscope._errors as errors
from tests.conftest import require

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
NUMBER = re.compile(r"\d+(?:\.\d+)?")


def claims(code: str) -> list[str]:
    """What the lines that print something are said to print."""
    return [line.partition("  # ")[2] for line in code.splitlines() if line.startswith("print(")]


def check_claims(said: list[str], printed: list[str]) -> None:
    assert len(said) == len(printed), f"{len(said)} claims, {len(printed)} lines: {printed}"
    for claim, line in zip(said, printed, strict=True):
        assert NUMBER.sub("#", claim) == NUMBER.sub("#", line), f"{claim!r} is claimed, {line!r} printed"
        numbers = [list(map(float, NUMBER.findall(text))) for text in (claim, line)]
        # another CPU rounds convolutions differently, which moves a few states
        assert numbers[0] == pytest.approx(numbers[1], rel=0.02, abs=0.5), f"{claim!r} is claimed, {line!r} printed"


def test_the_code_of_the_readme_prints_what_it_says(tmp_path: Path) -> None:
    require("torch")
    require("sklearn")
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    code = "\n".join(re.findall(r"```python\n(.*?)```", readme, re.DOTALL))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, check=True)
    assert len(claims(code)) == 5
    check_claims(claims(code), done.stdout.splitlines())
    for name in ("report.html", "turned.html"):
        assert (tmp_path / name).stat().st_size > 20_000


def test_a_false_claim_is_rejected() -> None:
    with pytest.raises(AssertionError):
        check_claims(["5.06 bits"], ["6.06 bits"])
    with pytest.raises(AssertionError):
        check_claims(["≥ 5.06 bits"], ["5.06 bits"])


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", page.read_text(encoding="utf-8")):
        if "://" not in target:
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_the_page_of_errors_names_every_error() -> None:
    text = (ROOT / "docs" / "errors.md").read_text(encoding="utf-8")
    for name, error in vars(errors).items():
        if isinstance(error, type) and issubclass(error, errors.LayerscopeError):
            assert f"`{name}`" in text or f"`layerscope.{name}`" in text, f"docs/errors.md says nothing of {name}"

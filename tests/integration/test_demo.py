"""`layerscope demo`: real digits, a network that learns them, and a report that says what cannot be measured."""

from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

import layerscope as ls
from layerscope.cli import app
from tests.conftest import require

torch = require("torch")
require("sklearn")
pytestmark = pytest.mark.torch


@pytest.fixture(scope="module")
def output(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The folder the demo wrote to, and what it said."""
    folder = tmp_path_factory.mktemp("demo")
    ran = CliRunner().invoke(app, ["demo", "--output", str(folder / "report.html")], catch_exceptions=False)
    assert ran.exit_code == 0, ran.output
    return folder, ran.stdout


def test_it_learns_the_held_out_digits(output: tuple[Path, str]) -> None:
    results = ls.load(output[0] / "report.lscope")
    assert results.accuracy is not None
    assert results.accuracy.samples == 500
    assert float(results.accuracy) >= 0.97


def test_it_measures_three_layers_beside_the_untrained_network(output: tuple[Path, str]) -> None:
    results = ls.load(output[0] / "report.lscope")
    assert list(results) == list(results.references["untrained"]) == ["elu_1", "elu_2", "elu_3"]
    assert results["elu_1"].state_count == 500 * 24 * 24
    assert float(results["elu_1"].entropy()) != float(results.references["untrained"]["elu_1"].entropy())


def test_the_first_thing_said_is_that_wide_layers_cannot_be_measured(output: tuple[Path, str]) -> None:
    folder, said = output
    html = (folder / "report.html").read_text(encoding="utf-8")
    for text in (said, html.replace("<b>", "").replace("</b>", "")):
        assert "1 of 3 layers can be measured with 500 samples: elu_1. elu_2 and elu_3 are too wide" in " ".join(
            text.split()
        )
    assert html.index("too wide") < html.index('id="words"')


def test_turning_tells_the_twin_that_learned_turned_digits_apart(output: tuple[Path, str]) -> None:
    folder, said = output
    results = ls.load(folder / "report-turned.lscope")
    ratio = ls.measures.NormalizedVariance()
    twin = results.references["a twin trained on turns"]
    plain, invariant = float(results["pred"].reading(ratio)), float(twin["pred"].reading(ratio))
    assert invariant < 0.4 < 0.9 < plain
    assert results.accuracy is not None
    assert twin.accuracy is not None
    assert float(results.accuracy) < 0.5 < 0.9 < float(twin.accuracy)
    assert "Rotating the input moves pred, the last layer that was read" in " ".join(said.split())
    assert "What LeNet-5 makes of digits that are turned" in (folder / "report-turned.html").read_text(encoding="utf-8")


def test_it_says_where_the_report_is_and_what_comes_next(output: tuple[Path, str]) -> None:
    folder, said = output
    for line in (
        f"The report is {folder / 'report.html'}",
        f"The report is {folder / 'report-turned.html'}",
        "ls.transformations.rotations(16)",
        "report.lscope",
        "ls.examine(model, data)",
        "What to distrust",
        "LeNet5: 9",
    ):
        assert line in said
    assert max(map(len, said.split("The report is")[0].splitlines())) < 121, "a table for a terminal"


def test_the_page_names_the_command_that_repeats_it(output: tuple[Path, str]) -> None:
    html = (output[0] / "report.html").read_text(encoding="utf-8")
    assert "layerscope demo --epochs 8 --seed 0" in html
    assert "held out of training" in html


def test_equal_seeds_give_equal_numbers_and_others_do_not() -> None:
    from layerscope.demo import run

    torch.manual_seed(1)
    state, threads = torch.get_rng_state(), torch.get_num_threads()
    first, turned = run(epochs=1, seed=3, progress=False)
    assert torch.equal(torch.get_rng_state(), state), "the user's random state is put back"
    assert torch.get_num_threads() == threads
    torch.manual_seed(2)
    (second, again), (other, _) = run(epochs=1, seed=3, progress=False), run(epochs=1, seed=4, progress=False)
    assert first.table.equals(second.table)
    assert turned.table.equals(again.table)
    assert not first.table.equals(other.table)


def test_mnist_can_be_given_instead(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    arrays = {}
    for part, count in (("train", 101), ("test", 40)):
        arrays[f"x_{part}"] = random.integers(0, 256, (count, 28, 28)).astype(np.uint8)
        arrays[f"y_{part}"] = random.integers(0, 10, count).astype(np.uint8)
    np.savez(tmp_path / "mnist.npz", **arrays)
    ran = CliRunner().invoke(
        app, ["demo", "-o", str(tmp_path / "m.html"), "--mnist", str(tmp_path / "mnist.npz"), "--epochs", "1"], catch_exceptions=False
    )  # fmt: skip
    assert ran.exit_code == 0, ran.output
    html = (tmp_path / "m.html").read_text(encoding="utf-8")
    assert "40 MNIST images, held out of training (101 were trained on)" in html
    assert "--mnist PATH" in html
    assert str(tmp_path) not in html, "no path of the user's machine"

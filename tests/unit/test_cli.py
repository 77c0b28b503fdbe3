"""The command line: what it prints, where it writes, and how it fails."""

import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from layerscope.cli import app
from tests.unit.report.made import narrow, results_of, usual


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, [*map(str, arguments)])


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    return usual().save(tmp_path / "mine.lscope")


def check_failed(result: Result, *words: str) -> None:
    """Exit code 1, one line on standard error, no traceback."""
    assert result.exit_code == 1, result.output
    assert result.stderr.startswith("layerscope: ")
    assert "Traceback" not in result.output
    for word in words:
        assert word in result.stderr


# --- help and version ------------------------------------------------------------------------------------------------------------


def test_help_lists_the_commands_and_what_they_do() -> None:
    said = run("--help")
    assert said.exit_code == 0
    for line in ("demo", "report", "show", "--version", "Measures what the layers of a neural network do"):
        assert line in said.stdout
    assert "..." not in said.stdout.split("Commands:")[1], "the first sentence of each command fits"


def test_no_arguments_show_the_help() -> None:
    assert "Usage: layerscope" in run().output


@pytest.mark.parametrize("command", ["demo", "report", "show"])
def test_every_command_has_help(command: str) -> None:
    said = run(command, "--help")
    assert said.exit_code == 0
    assert f"Usage: layerscope {command}" in said.stdout


def test_the_version_is_the_packages() -> None:
    from importlib.metadata import version

    assert run("--version").stdout == f"layerscope {version('layerscope')}\n"


def test_help_loads_no_framework_and_nothing_heavy() -> None:
    code = (
        "import sys\nfrom layerscope.cli import app\ntry:\n    app(['--help'])\nexcept SystemExit: pass\n"
        "print({'torch', 'keras', 'jax', 'tensorflow', 'matplotlib', 'pandas', 'numba', 'sklearn'} & set(sys.modules))"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.splitlines()[-1] == "set()"


@pytest.mark.parametrize("arguments", [("nonsense",), ("show",), ("demo", "--epochs", "many"), ("report", "--what")])
def test_wrong_usage_is_exit_code_two(arguments: tuple[str, ...]) -> None:
    assert run(*arguments).exit_code == 2


# --- show ------------------------------------------------------------------------------------------------------------------------


def test_show_prints_the_table_and_the_doubts(saved: Path) -> None:
    said = run("show", saved)
    assert said.exit_code == 0
    assert "conv_1  ReLU" in said.stdout
    assert "What to distrust" in said.stdout


@pytest.mark.parametrize("command", ["show", "report"])
def test_a_file_that_is_not_there(command: str, tmp_path: Path) -> None:
    check_failed(run(command, tmp_path / "none.lscope"), "there is no file", "none.lscope", "results.save()")


@pytest.mark.parametrize("command", ["show", "report"])
def test_a_file_that_is_something_else(command: str, tmp_path: Path) -> None:
    (tmp_path / "model.pt").write_bytes(b"something else")
    check_failed(run(command, tmp_path / "model.pt"), "damaged or no layerscope file")


# --- report ----------------------------------------------------------------------------------------------------------------------


def test_report_writes_beside_the_file(saved: Path) -> None:
    said = run("report", saved)
    assert said.exit_code == 0
    target = saved.with_suffix(".html")
    assert f"The report is {target}" in said.stdout
    assert target.as_uri() in said.stdout
    assert target.read_text(encoding="utf-8") == usual().to_html()


def test_report_writes_where_it_is_told_with_the_title_it_is_given(saved: Path, tmp_path: Path) -> None:
    target = tmp_path / "there.html"
    assert run("report", saved, "-o", target, "--title", "A & B").exit_code == 0
    assert "<title>A &amp; B</title>" in target.read_text(encoding="utf-8")


def test_a_folder_that_is_not_there_is_told_before_the_work(saved: Path, tmp_path: Path) -> None:
    check_failed(run("report", saved, "-o", tmp_path / "no" / "a.html"), "there is no folder", "Make it first")
    check_failed(run("demo", "-o", tmp_path / "no" / "a.html"), "there is no folder")
    check_failed(run("report", saved, "-o", tmp_path), "is a folder", "Name a file")


def test_the_report_never_overwrites_the_results(tmp_path: Path) -> None:
    saved = results_of({"a": narrow()}).save(tmp_path / "odd.html")
    check_failed(run("report", saved), "would overwrite", "--output")
    saved = results_of({"a": narrow()}).save(tmp_path / "b.lscope")
    check_failed(run("report", saved, "-o", saved), "would overwrite")
    check_failed(run("demo", "-o", tmp_path / "c.lscope"), "would overwrite")


# --- demo: what is wrong is said before anything is trained -----------------------------------------------------------------------


def test_the_demo_wants_at_least_one_epoch(tmp_path: Path) -> None:
    check_failed(run("demo", "-o", tmp_path / "a.html", "--epochs", "0"), "epochs=0 trains nothing")


def test_the_demo_says_which_files_of_mnist_are_missing(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    check_failed(run("demo", "-o", tmp_path / "a.html", "--mnist", tmp_path), "train-images-idx3-ubyte")
    check_failed(run("demo", "-o", tmp_path / "a.html", "--mnist", tmp_path / "none"), "there is no")


def test_without_torch_the_demo_says_what_to_install(tmp_path: Path) -> None:
    code = (
        "import sys\nsys.modules['torch'] = None\nfrom layerscope.cli import app\n"
        f"app(['demo', '-o', {str(tmp_path / 'a.html')!r}])"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert ran.returncode == 1
    assert "PyTorch is not installed: pip install 'layerscope[torch]'" in ran.stderr
    assert "Traceback" not in ran.stderr


def test_an_error_of_ours_keeps_its_traceback(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> str:
        raise ZeroDivisionError

    monkeypatch.setattr("layerscope.report.text", broken)
    assert isinstance(run("show", saved).exception, ZeroDivisionError)


def test_the_check_of_failures_sees_a_success(saved: Path) -> None:
    with pytest.raises(AssertionError):
        check_failed(run("show", saved))

"""The command line: `layerscope demo`, `layerscope report`, `layerscope show`."""

import shutil
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from ._results import Results

app = typer.Typer(
    name="layerscope",
    help="Measures what the layers of a neural network do: how many states they use, and how far these numbers can be trusted.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(asked: bool) -> None:
    if asked:
        from importlib.metadata import version

        typer.echo(f"layerscope {version('layerscope')}")
        raise typer.Exit


@app.callback()
def main(
    version: Annotated[
        bool, typer.Option("--version", help="Show the version and end.", callback=_version, is_eager=True)
    ] = False,
) -> None:
    """Measures what the layers of a neural network do: how many states they use, and how far these numbers can be trusted."""


@app.command()
def demo(
    output: Annotated[Path, typer.Option("--output", "-o", help="Where the report is written.")] = Path("report.html"),
    mnist: Annotated[
        Path | None, typer.Option(help="Folder with MNIST's IDX files, or an .npz, instead of the small digits.")
    ] = None,
    epochs: Annotated[
        int | None, typer.Option(help="Epochs of training. [default: 8, with MNIST 2]", show_default=False)
    ] = None,
    seed: Annotated[int, typer.Option(help="Of weights and order: equal seeds give equal numbers.")] = 0,
) -> None:
    """Train, measure, report: a small network on handwritten digits.

    Takes about a minute on two cores.  Writes two pages, of digits as they are and of turned ones (with "-turned" in its name), and beside
    them all numbers as .lscope files.
    """
    with _errors_said():
        second = output.with_stem(f"{output.stem}-turned")
        for target in (output, second):
            _check_target(target, target.with_suffix(".lscope"))
        from .demo import run

        upright, turned = run(mnist=mnist, epochs=epochs, seed=seed)
        for results, target in ((upright, output), (turned, second)):
            typer.echo(f"\n{_text(results)}\n")
            results.save(target.with_suffix(".lscope"))
            _write(results, target)
        saved, other = output.with_suffix(".lscope"), second.with_suffix(".lscope")
        typer.echo(
            f"All numbers are in {saved} and {other}:  layerscope show {saved}   or, in Python,  layerscope.load({str(saved)!r}).table\n"
            "Next, your own network:\n\n"
            "    import layerscope as ls\n"
            "    results = ls.examine(model, data)\n"
            '    results.to_html("report.html")\n'
            "    turned = ls.examine(model, data, transformations=ls.transformations.rotations(16))"
        )


@app.command()
def report(
    file: Annotated[Path, typer.Argument(help="What results.save() wrote.", metavar="FILE.lscope")],
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Where the page is written. [default: FILE.html]", show_default=False),
    ] = None,
    title: Annotated[str | None, typer.Option(help="The headline.", show_default=False)] = None,
) -> None:
    """Write the page of saved results.

    It needs neither the model nor a framework, and the page needs no network.
    """
    with _errors_said():
        target = output or file.with_suffix(".html")
        _check_target(target, file)
        _write(_load(file), target, title)


@app.command()
def show(file: Annotated[Path, typer.Argument(help="What results.save() wrote.", metavar="FILE.lscope")]) -> None:
    """Print what saved results say.

    The answer, a table of all layers, the findings, and what to distrust.
    """
    with _errors_said():
        typer.echo(_text(_load(file)))


@contextmanager
def _errors_said() -> Generator[None]:
    """Errors that a user can mend, in one line and with exit code 1; all others with their traceback."""
    from ._errors import LayerscopeError

    try:
        yield
    except (LayerscopeError, ImportError, OSError) as error:
        typer.echo(f"layerscope: {error}", err=True)
        raise typer.Exit(1) from error


def _load(file: Path) -> "Results":
    from ._errors import DataError
    from ._results import load

    if not file.is_file():
        raise DataError(
            f"there is no file {file}. Give one that results.save() wrote; `layerscope demo` makes report.lscope."
        )
    return load(file)


def _check_target(target: Path, numbers: Path) -> None:
    """Whether a page can be written there: asked before the work, and not after it."""
    from ._errors import DataError

    if not target.parent.is_dir():
        raise DataError(f"--output {target}: there is no folder {target.parent}. Make it first, or choose another one.")
    if target.is_dir():
        raise DataError(f"--output {target} is a folder. Name a file, for example {target / 'report.html'}.")
    if target.resolve() == numbers.resolve():
        raise DataError(
            f"the page {target} would overwrite the results of the same name. Name another one: --output report.html"
        )


def _write(results: "Results", target: Path, title: str | None = None) -> None:
    html = results.to_html(target, title=title)
    typer.echo(
        f"The report is {target} ({len(html.encode()) / 1000:.0f} kB, one file). Open it in a browser: {target.resolve().as_uri()}"
    )


def _text(results: "Results") -> str:
    from .report import text

    width = shutil.get_terminal_size((100, 24)).columns
    return text(results, max(60, min(width, 120)))


if __name__ == "__main__":
    sys.exit(app())

"""Picture: how well the model does its task under each transformation."""

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from .._results import Results
from ._facts import Facts
from ._look import Look, axes, figure, fitted, inches
from ._movement import OURS, legend_words, styles
from ._movement_facts import Movement
from ._names import plain, shorten
from ._picture import Picture

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Z = 1.959964


def draw_accuracy(facts: Facts, look: Look) -> "Figure":
    """A dot in its 95 % interval for every transformation in order, the untransformed one ringed; reference networks beside."""
    return accuracy_of({OURS: facts.results, **facts.movement.networks}, facts.movement, look)


def accuracy_of(networks: Mapping[str, Results], movement: Movement, look: Look) -> "Figure":
    """The same of any networks, the first of which tells the transformations; those that were shown others are left out."""
    from matplotlib.lines import Line2D

    ink, first = look.ink, next(iter(networks.values()))
    shown = {name: r for name, r in networks.items() if len(r.task.columns) == movement.count}
    handles, of = list[Any](), styles([*shown], look)
    head = 0.12 + 0.178 * len(shown)
    share = first.task.kind == "accuracy"
    labels, common = short_labels(movement.transformations)
    labels, common = (
        [fitted(label, 0.76 if look.narrow else 1.0, 8.5) for label in labels],
        fitted(common, 1.2, 9.5) if common else "",
    )
    tilted = max(inches(label, 8.5) for label in labels) > 0.75
    fig = figure(look, head + 2.3 + (1.15 if tilted else 0.62))
    ax = axes(fig, look, 0.8, 0.25, head + 0.08, 1.05 if tilted else 0.55)
    ax.spines["left"].set_visible(True)
    k = movement.untransformed
    for number, (name, results) in enumerate(shown.items()):
        grey = name == "untrained"
        colour, marker, _ = of[name]
        x, y = range(movement.count), [float(r) for r in results.task.by_transformation]
        ax.plot(x, y, color=colour, linewidth=1.3, linestyle="--" if grey else "-", zorder=2, alpha=0.75)
        ax.plot(x, y, marker, color=colour, markersize=5, zorder=4, clip_on=False)
        if share and not grey:
            limits = [(at, *wilson(float(r), r.samples)) for at, r in enumerate(results.task.by_transformation)]
            ax.vlines(*zip(*limits, strict=True), color=colour, linewidth=1.2, zorder=3, alpha=0.75)
        if k is not None and number == 0:
            ax.plot(
                [k],
                [y[k]],
                "o",
                color=ink["text"],
                markerfacecolor="none",
                markersize=11,
                markeredgewidth=1.2,
                zorder=5,
                clip_on=False,
            )
        handles.append(
            Line2D(
                [],
                [],
                color=colour,
                marker=marker,
                markersize=5,
                linestyle="--" if grey else "-",
                label=legend_words(name, results, 3.0),
            )
        )
    _axes(ax, labels, common, k, tilted, share, plain(first.task.kind), look)
    fig.legend(handles=handles, loc="upper left", frameon=False, labelcolor=ink["text"], fontsize=8.5, borderaxespad=0.1, borderpad=0.1,
               labelspacing=0.35)  # fmt: skip
    return fig


def _axes(
    ax: Any, labels: list[str], common: str, k: int | None, tilted: bool, share: bool, kind: str, look: Look
) -> None:
    from matplotlib.ticker import MaxNLocator, PercentFormatter

    room = look.width - 1.05
    widest = 0.22 if tilted else max(inches(label, 8.5) for label in labels) + 0.08
    every = max(1, math.ceil(len(labels) * widest / room))
    ticks = range(0, len(labels), every)
    turned: dict[str, Any] = {"rotation": 40, "ha": "right", "rotation_mode": "anchor"} if tilted else {}
    ax.set_xticks(ticks, [labels[t] for t in ticks], fontsize=8.5, **turned)
    ax.set_xlim(-0.4, len(labels) - 0.6)
    ax.set_xlabel(
        f"{common}{'; ' if common and k is not None else ''}{'ringed: untransformed' if k is not None else ''}",
        color=look.ink["text"],
    )
    ax.grid(axis="y", color=look.ink["room"], linewidth=0.7)
    ax.set_axisbelow(True)
    ax.set_ylabel("samples that are right" if share else shorten(kind, 30), color=look.ink["text"])
    if share:
        ax.set_ylim(0, 1)
        ax.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0, symbol=" %"))
        ax.yaxis.set_major_locator(MaxNLocator(nbins=5, steps=[1, 2, 5, 10]))


def short_labels(names: list[str]) -> tuple[list[str], str]:
    """Names without the word they all begin with, and that word.

    >>> short_labels(["rotate 0°", "rotate 90°"])
    (['0°', '90°'], 'rotate')
    >>> short_labels(["identity", "flip rows"])
    (['identity', 'flip rows'], '')
    """
    words = {name.partition(" ")[0] for name in names}
    if len(words) == 1 and all(" " in name for name in names):
        return [shorten(name.partition(" ")[2], 18) for name in names], words.pop()
    return [shorten(name, 18) for name in names], ""


def wilson(share: float, n: int) -> tuple[float, float]:
    """The 95 % interval of a share of n independent samples.  **Source:** Wilson 1927.

    >>> [round(limit, 3) for limit in wilson(0.9, 100)]
    [0.826, 0.945]
    """
    middle, spread = share + Z * Z / (2 * n), Z * math.sqrt(share * (1 - share) / n + Z * Z / (4 * n * n))
    return max(0.0, (middle - spread) / (1 + Z * Z / n)), min(1.0, (middle + spread) / (1 + Z * Z / n))


def _scored(results: Results) -> bool:
    return bool(results.task.kind and results.task.columns and results.task.samples)


ACCURACY = Picture(
    "accuracy",
    "How well the task is done under each transformation",
    "The share of samples that are right when all of them are shown under one transformation, with its 95 % interval. A layer that does not mind the "
    "transformation is no merit where this falls to chance.",
    shows=lambda facts: bool(facts.movement.sites) and _scored(facts.results),
    draw=draw_accuracy,
)

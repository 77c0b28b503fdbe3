"""Picture of several networks in one: how far their layers move with the transformations, from the input to the last layer."""

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from .._reading import NAN
from .._results import Results
from ._axis import from_zero
from ._look import Look, axes, figure
from ._movement import LABEL, legend_words, styles
from ._movement_facts import Movement, movement_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def draw_several(networks: Mapping[str, Results], look: Look) -> "Figure":
    """A line for every network over its depth, 0 % the input and 100 % the last layer, so that networks of any depth can be laid over each other."""
    moved = {name: movement_of(results) for name, results in networks.items()}
    columns = 1 if look.narrow else 2
    head = 0.12 + 0.178 * math.ceil(len(networks) / columns)
    fig = figure(look, head + 3.2 + 0.6)
    ax = axes(fig, look, 0.62, 0.25, head + 0.1, 0.52)
    ax.spines["left"].set_visible(True)
    handles = [_line(ax, name, moved[name], style, look) for name, style in styles([*moved], look).items()]
    top = max(
        [1.0, *(x for m in moved.values() for s in m.sites for x in (float(s.ratio), s.ratio.high) if math.isfinite(x))]
    )
    ax.axhline(1, color=look.ink["ceiling"], linewidth=1.1, zorder=1)
    words = "1: as far as swapping the sample"
    ax.text(-1.5, 0.98, words, color=look.ink["text"], fontsize=8.5, va="top")
    from_zero(ax, top, LABEL[True], look, "y")
    ax.set_xlim(-2, 102)
    ax.set_xticks([0, 25, 50, 75, 100], ["input", "25 %", "50 %", "75 %", "last layer"])
    labels = ax.get_xticklabels()
    labels[-1].set_ha("right")
    ax.grid(axis="y", color=look.ink["room"], linewidth=0.7)
    ax.set_axisbelow(True)
    ax.set_xlabel("depth", color=look.ink["text"])
    fig.legend(
        handles=handles, loc="upper left", ncols=columns, frameon=False, labelcolor=look.ink["text"], fontsize=8.5,
        borderaxespad=0.1, borderpad=0.1, handlelength=2.2, columnspacing=1.6, labelspacing=0.35,
    )  # fmt: skip
    return fig


def _line(ax: Any, name: str, movement: Movement, style: tuple[str, str, Any], look: Look) -> Any:
    from matplotlib.lines import Line2D

    colour, marker, line = style
    layers = max(1, len(movement.layers))
    at: list[float] = []
    seen = 0
    for site in movement.sites:
        seen += not site.is_input
        at.append(100 * seen / layers)
    y = [float(site.ratio) if site.known else NAN for site in movement.sites]
    size = 5.5 if layers <= 24 else 3.0
    ax.plot(at, y, linestyle=line, color=colour, linewidth=1.3, alpha=0.75, zorder=2)
    ax.plot(at, y, marker, color=colour, markersize=size, clip_on=False, zorder=4)
    spans = [
        (x, s.ratio.low, s.ratio.high)
        for x, s in zip(at, movement.sites, strict=True)
        if s.known and s.ratio.low < s.ratio.high
    ]
    if spans:
        ax.vlines(*zip(*spans, strict=True), color=colour, linewidth=1.3, alpha=0.75, zorder=3)
    gaps = [x for x, ratio in zip(at, y, strict=True) if math.isnan(ratio)]
    if gaps:
        ax.plot(gaps, [0] * len(gaps), "x", color=colour, markersize=6, markeredgewidth=1.6, clip_on=False, zorder=5)
    words = legend_words(name, movement.results, 3.0) + (f" (× {len(gaps)} without a ratio)" if gaps else "")
    return Line2D([], [], color=colour, marker=marker, linestyle=line, markersize=5.5, label=words)

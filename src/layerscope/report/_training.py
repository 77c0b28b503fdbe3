"""Picture of one network over its training: the entropy of its layers, or how far they move, epoch after epoch."""

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from .._reading import NAN, Reading
from .._results import Results
from .._site import Site
from ._look import SERIES, Look, axes, figure, fitted
from ._movement import LABEL
from ._movement_facts import movement_of
from ._state_facts import states_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SHOWN = {"states": "entropy, corrected, in bits", "movement": LABEL[True]}
"""What can be followed, and what its axis says."""


def draw_training(epochs: Mapping[int, Results], what: str, look: Look) -> "Figure":
    """A line for up to six layers, evenly chosen, with their intervals; hollow where undersampled: then only bounds are known."""
    from matplotlib.lines import Line2D
    from matplotlib.ticker import MaxNLocator

    found = {epoch: _readings(epochs[epoch], what) for epoch in sorted(epochs)}
    names = {site: str(site) for readings in found.values() for site in readings}
    sites = [*names]
    chosen = [sites[int(k)] for k in np.unique(np.linspace(0, len(sites) - 1, min(len(SERIES), len(sites))).round())]
    columns = 1 if look.narrow else 3
    head = 0.12 + 0.178 * math.ceil((len(chosen) + (len(sites) > len(chosen))) / columns)
    fig = figure(look, head + 2.8 + 0.55)
    ax = axes(fig, look, 0.62, 0.2, head + 0.08, 0.5)
    ax.spines["left"].set_visible(True)
    handles: list[Any] = []
    for k, site in enumerate(chosen):
        colour, marker = look.series(k)
        _line(ax, {epoch: readings.get(site, Reading(NAN)) for epoch, readings in found.items()}, colour, marker, look)
        handles.append(Line2D([], [], color=colour, marker=marker, markersize=5, label=fitted(names[site], 1.9, 8.5)))
    if len(sites) > len(chosen):
        handles.append(Line2D([], [], linestyle="", label=f"and {len(sites) - len(chosen)} more layers"))
    if what == "movement":
        ax.axhline(1, color=look.ink["ceiling"], linewidth=1.1, zorder=1)
    ax.set_ylim(0, None)
    ax.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=6 if look.narrow else 12))
    ax.grid(axis="y", color=look.ink["room"], linewidth=0.7)
    ax.set_axisbelow(True)
    ax.set_xlabel("epoch", color=look.ink["text"])
    ax.set_ylabel(SHOWN[what], color=look.ink["text"])
    fig.legend(
        handles=handles, loc="upper left", ncols=columns, frameon=False, labelcolor=look.ink["text"], fontsize=8.5,
        borderaxespad=0.1, borderpad=0.1, handlelength=1.8, columnspacing=1.6, labelspacing=0.35,
    )  # fmt: skip
    return fig


def _readings(results: Results, what: str) -> dict[Site, Reading]:
    if what == "movement":
        return {site.layer.site: site.ratio for site in movement_of(results).sites}
    return {site.layer.site: site.corrected for site in states_of(results).sites}


def _line(ax: Any, readings: Mapping[int, Reading], colour: str, marker: str, look: Look) -> None:
    at = [*readings]
    y = [r.low if r.bracketed else float(r) for r in readings.values()]
    ax.plot(at, y, color=colour, linewidth=1.2, alpha=0.75, zorder=2)
    for hollow in (False, True):
        shown = [
            (x, v)
            for x, v, r in zip(at, y, readings.values(), strict=True)
            if r.undersampled == hollow and not math.isnan(v)
        ]
        if shown:
            face = look.ink["paper"] if hollow else colour
            ax.plot(
                *zip(*shown, strict=True),
                marker,
                color=colour,
                markerfacecolor=face,
                markersize=5,
                zorder=4,
                clip_on=False,
            )
    spans = [(x, r.low, r.high) for x, r in readings.items() if r.low < r.high and not r.bracketed]
    if spans:
        ax.vlines(*zip(*spans, strict=True), color=colour, linewidth=1.3, alpha=0.75, zorder=3)

"""Picture: how far each layer moves with the transformations, next to how far it moves from sample to sample."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from .._reading import NAN, Reading
from .._results import Results
from ._axis import from_zero
from ._facts import Facts
from ._look import Look, axes, figure, fitted, inches
from ._movement_facts import Movement, SiteMovement, ratio_digits
from ._names import plain, rough, shorten
from ._picture import Picture
from ._rows import Rows

if TYPE_CHECKING:
    from matplotlib.figure import Figure


LABEL = {False: "movement when transformed ÷ movement between samples", True: "movement ratio"}
"""What the axis shows, on a wide and on a narrow picture."""
SERIES_OF = (0, 1, 2, 4, 5)
"""The series that networks take; the fourth is that of the transformations taken back."""
OURS = "this network"


def draw_movement(facts: Facts, look: Look) -> "Figure":
    """A dot in its interval for every site, the input first, joined by a line; grey and other markers for reference networks.

    A site without a ratio keeps its row, with a cross at the edge.  Hollow is a mean of ratios that a few values carry: a tick then shows the
    ratio of means (or the other way round).
    """
    movement = facts.movement
    rows = Rows(movement.sites, [_said(site, look) for site in movement.sites], look, "map", beside=True)
    handles = _legend(movement, look)
    columns = 1 if look.narrow else 2
    head = 0.08 + 0.178 * math.ceil(len(handles) / columns) + 0.2
    fig = figure(look, head + rows.height + 0.6)
    ax = axes(fig, look, rows.left, rows.right, head + 0.05, 0.52)
    from_zero(ax, _largest(movement), LABEL[look.narrow], look)
    ax.plot([1, 1], [0, rows.height], color=look.ink["ceiling"], linewidth=1.1, zorder=1)
    _name_the_line(ax, look)
    of = styles([OURS, *movement.references], look)
    for name, readings in movement.references.items():
        found = [readings.get(site.layer.site, Reading(NAN)) for site in movement.sites]
        _profile(ax, rows, found, of[name], look)
    if movement.back is not None:
        found = [site.back or Reading(NAN) for site in movement.sites]
        _profile(ax, rows, found, (look.ink["c4"], "D", ":"), look, hollow=True)
    _profile(ax, rows, [site.ratio for site in movement.sites], (*look.series(0), "-"), look, over=1)
    apart = [(site, rows.middle(k)) for k, site in enumerate(movement.sites) if site.apart]
    if apart:
        colour, size = look.ink["c1"], 6.5 if rows.few else 4.0
        x, y = [float(site.ratio) for site, _ in apart], [y for _, y in apart]
        ax.plot(
            x, y, "o", color=colour, markersize=size, markerfacecolor=look.ink["paper"], markeredgewidth=1.3, zorder=7
        )
        ax.plot([site.other for site, _ in apart], y, "|", color=colour, markersize=8, markeredgewidth=2.0, zorder=7)
    gaps = [rows.middle(k) for k, site in enumerate(movement.sites) if not site.known]
    if gaps:
        ax.plot(
            [0] * len(gaps),
            gaps,
            "x",
            color=look.ink["muted"],
            markersize=6,
            markeredgewidth=1.6,
            clip_on=False,
            zorder=6,
        )
    rows.write(ax)
    fig.legend(
        handles=handles, loc="upper left", ncols=columns, frameon=False, labelcolor=look.ink["text"], fontsize=8.5,
        borderaxespad=0.1, borderpad=0.1, handlelength=2.2, columnspacing=1.6, labelspacing=0.35,
    )  # fmt: skip
    return fig


def _name_the_line(ax: Any, look: Look) -> None:
    """What the line at 1 means, above it, as near as the edges of the picture allow."""
    words = "1: as far as swapping the sample"
    half, at = inches(words, 8.5) / 2 + 0.05, ax.transData.transform((1, 0))[0] / ax.figure.dpi
    moved = min(max(at, half), look.width - half) - at
    ax.annotate(
        words, (1, 0), xytext=(72 * moved, 4), textcoords="offset points", color=look.ink["text"], fontsize=8.5, ha="center", va="bottom",
        annotation_clip=False,
    )  # fmt: skip


def _largest(movement: Movement) -> float:
    """The largest number that is drawn; 1 at least."""
    readings = [site.ratio for site in movement.sites] + [site.back for site in movement.sites if site.back is not None]
    readings += [r for found in movement.references.values() for r in found.values()]
    limits = [x for r in readings for x in (float(r), r.high) if math.isfinite(x)]
    return max([1.0, *limits])


def styles(names: Sequence[str], look: Look) -> dict[str, tuple[str, str, Any]]:
    """Colour, marker and line of every network, the same in every picture: grey and dashed for the untrained, a series of its own for any other."""
    others = [name for name in names if name != "untrained"]
    found: dict[str, tuple[str, str, Any]] = {
        name: (*look.series(SERIES_OF[k % len(SERIES_OF)]), "-") for k, name in enumerate(others)
    }
    return {name: found.get(name, (look.ink["muted"], "^", "--")) for name in names}


def _profile(
    ax: Any, rows: Rows, readings: Sequence[Reading], style: tuple[str, str, str], look: Look, *, hollow: bool = False, over: int = 0
) -> None:  # fmt: skip
    """Dots, their intervals, and a line from row to row that is broken where there is no ratio."""
    colour, marker, line = style
    x = [float(r) if math.isfinite(float(r)) else NAN for r in readings]
    y = [rows.middle(k) for k in range(len(readings))]
    size = 6.5 if rows.few else max(2.2, min(5.0, rows.pitch * 34))
    face = look.ink["paper"] if hollow else colour
    spans = [
        (r.low, r.high, at) for r, at in zip(readings, y, strict=True) if math.isfinite(float(r)) and r.low < r.high
    ]
    if spans:  # one line with gaps: one shape, however many sites
        ends = [end for low, high, _ in spans for end in (low, high, NAN)]
        ax.plot(
            ends,
            [at for _, _, at in spans for _ in range(3)],
            color=colour,
            linewidth=1.6 if rows.few else 0.9,
            zorder=3 + over,
        )
    ax.plot(x, y, line, color=colour, linewidth=1.2, zorder=2 + over, alpha=0.75)
    ax.plot(
        x,
        y,
        marker,
        color=colour,
        markersize=size,
        markerfacecolor=face,
        markeredgewidth=1.2,
        clip_on=False,
        zorder=4 + over,
    )


def _said(site: SiteMovement, look: Look) -> str:
    """The words right of a row."""
    if not site.known:
        return "none" if look.narrow else "no ratio"
    return ratio_digits(float(site.ratio)) if look.narrow else site.lead


def _legend(movement: Movement, look: Look) -> list[Any]:
    """Each network with how much of the transformed data it gets right."""
    from matplotlib.lines import Line2D

    def mark(style: tuple[str, str, Any], label: str, hollow: bool = False) -> Line2D:
        colour, marker, line = style
        face = look.ink["paper"] if hollow else colour
        return Line2D(
            [], [], color=colour, marker=marker, linestyle=line, markersize=6, markerfacecolor=face, label=label
        )

    room = 3.0
    handles = [mark((*look.series(0), "-"), legend_words(OURS, movement.results, room))]
    of = styles([OURS, *movement.networks], look)
    for name, other in movement.networks.items():
        handles.append(mark(of[name], legend_words(name, other, room)))
    if movement.back is not None:
        handles.append(mark((look.ink["c4"], "D", ":"), "transformations taken back in the layer", hollow=True))
    if any(site.apart for site in movement.sites):
        handles.append(mark((look.ink["c1"], "o", ""), "hollow: carried by a few values", hollow=True))
        handles.append(mark((look.ink["c1"], "|", ""), f"tick: the {movement.other} there"))
    if any(not site.known for site in movement.sites):
        handles.append(
            Line2D([], [], linestyle="", marker="x", color=look.ink["muted"], markeredgewidth=1.6, label="no ratio")
        )
    return handles


def legend_words(name: str, results: Results, room: float) -> str:
    """A network's name within so many inches, and how much of the transformed data it gets right: "augmented: 90 % right, transformed"."""
    accuracy = results.accuracy
    if accuracy is None or math.isnan(float(accuracy)):
        return fitted(name, room, 8.5)
    kind = results.task.kind
    score = (
        f"{rough(float(accuracy))} right" if kind == "accuracy" else f"{shorten(plain(kind), 12)} {float(accuracy):.3g}"
    )
    score = f": {score}, transformed"
    return fitted(name, room - inches(score, 8.5), 8.5) + score


MOVEMENT = Picture(
    "movement",
    "What moves when the input is transformed",
    "How far a layer moves with the transformations, divided by how far it moves from one sample to another: left of the line at 1 it minds the "
    "transformation less than the sample, at 0 it does not mind it at all. The input, first, is what the layers start from. Lines through the dots "
    "are 95 % intervals.",
    shows=lambda facts: bool(facts.movement.sites),
    draw=draw_movement,
    names=lambda facts: facts.movement.names,
)

"""Picture 1: what each layer's firing states carry, and how much of it these data could show."""

import math
from typing import TYPE_CHECKING, Any

from .._reading import Reading
from ._axis import doubled
from ._facts import Facts
from ._look import Look, axes, figure
from ._picture import Picture
from ._rows import RIGHT, Rows
from ._state_facts import SiteStates, States

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LINEAR = 130
"""Bits up to which the axis is linear; beyond, each step doubles, or the dots of wide layers would all stand at the left edge."""


def draw_states(facts: Facts, look: Look) -> "Figure":
    """A bar to n units for every site, darker to Σ h(p), with the entropy as a dot in its interval; hollow in its bracket where unproven."""
    states = facts.states
    rows = Rows(states.sites, [_said(site, look) for site in states.sites], look)
    handles = _legend(states, look)
    columns = 1 if look.narrow else 2
    head = 0.08 + 0.178 * math.ceil(len(handles) / columns)
    fig = figure(look, head + rows.height + 0.6)
    ax = axes(fig, look, rows.left, RIGHT, head + 0.05, 0.52)
    widest = max((site.units for site in states.sites), default=1)
    _scale(ax, widest, look)
    for bits, ink in (
        ([site.units for site in states.sites], "room"),
        ([site.independent for site in states.sites], "used"),
    ):
        boxes = [_box(0, rows.top(k), width, rows.thick) for k, width in enumerate(bits) if width > 0]
        _shape(ax, boxes, facecolor=look.ink[ink], linewidth=0)
    _marks(ax, rows, states, look)
    rows.write(ax)
    fig.legend(
        handles=handles, loc="upper left", ncols=columns, frameon=False, labelcolor=look.ink["text"], fontsize=8.5,
        borderaxespad=0.1, borderpad=0.1, handlelength=1.8, columnspacing=1.6, labelspacing=0.35,
    )  # fmt: skip
    return fig


def _marks(ax: Any, rows: Rows, states: States, look: Look) -> None:
    """Ticks, triangles and dots; one shape for all of a kind, or a page of 150 layers would be large."""
    ink, over = look.ink, 0.045 if rows.few else 0
    size, edge = (7.5, 1.7) if rows.few else (max(2.6, min(5.0, rows.pitch * 34)), 1.1)
    known = [(k, site) for k, site in enumerate(states.sites) if not math.isnan(float(site.entropy))]
    ticks = [(math.log2(max(1, site.entropy.observations)), rows.top(k)) for k, site in known]
    _shape(
        ax,
        [_stroke(x, y - over, y + rows.thick + over) for x, y in ticks],
        fill=False,
        edgecolor=ink["ceiling"],
        linewidth=2.2,
        zorder=3,
    )
    below = rows.thick / 2 + 0.055 if rows.few else 0
    before = [(k, states.untrained.get(site.layer.site, Reading(math.nan))) for k, site in known]
    _limits(ax, rows, [(k, site.corrected) for k, site in known], look)
    for hollow in (False, True):
        at = [
            (r.low if r.bracketed else float(r), rows.middle(k) + below)
            for k, r in before
            if r.undersampled == hollow and not math.isnan(float(r))
        ]
        _points(ax, at, "^", ink["muted"], ink["paper"] if hollow else ink["muted"], size * 0.8, 1.0)
        at = [(dot(site), rows.middle(k)) for k, site in known if site.measured != hollow]
        _points(ax, at, "o", ink["c1"], ink["paper"] if hollow else ink["c1"], size, edge)


def dot(site: SiteStates) -> float:
    """Where the dot stands: at the corrected entropy, or at the plain count where nothing better is known."""
    return float(site.entropy if site.corrected.bracketed else site.corrected)


def _limits(ax: Any, rows: Rows, known: list[tuple[int, Reading]], look: Look) -> None:
    """A line from limit to limit of every interval and bracket."""
    spans = [[(r.low, rows.middle(k)), (r.high, rows.middle(k))] for k, r in known if r.low < r.high]
    _shape(ax, spans, fill=False, edgecolor=look.ink["c1"], linewidth=2.0 if rows.few else 1.0, zorder=4)


def _points(
    ax: Any, at: list[tuple[float, float]], marker: str, colour: str, face: str, size: float, edge: float
) -> None:
    if at:
        x, y = zip(*at, strict=True)
        ax.plot(
            x, y, marker, color=colour, markerfacecolor=face, markersize=size, markeredgewidth=edge, clip_on=False,
            zorder=5 if marker == "o" else 4,
        )  # fmt: skip


def _box(x: float, y: float, width: float, height: float) -> list[tuple[float, float]]:
    return [(x, y), (x + width, y), (x + width, y + height), (x, y + height), (x, y)]


def _stroke(x: float, y: float, end: float) -> list[tuple[float, float]]:
    return [(x, y), (x, end)]


def _shape(ax: Any, outlines: list[list[tuple[float, float]]], **style: Any) -> None:
    """All outlines as one shape."""
    from matplotlib.patches import PathPatch
    from matplotlib.path import Path

    if outlines:
        ax.add_patch(PathPatch(Path.make_compound_path(*(Path(outline) for outline in outlines)), **style))


def _said(site: SiteStates, look: Look) -> str:
    """The line above a bar, right: the number, and what it is worth."""
    if math.isnan(float(site.entropy)):
        return "not measured"
    words = f"{site.lead} of {site.units:,} bits"
    return words if look.narrow or site.measured else f"{site.verdict}: {words}"


def _scale(ax: Any, widest: int, look: Look) -> None:
    if widest <= LINEAR:
        ax.set_xlim(0, widest * 1.02)
        ax.set_xlabel("bits", color=look.ink["text"])
        return
    doubled(ax, [0, *(2.0**k for k in range(int(math.log2(widest)) + 1))], widest, "bits", look)


def _legend(states: States, look: Look) -> list[Any]:
    """Only what occurs in this picture."""
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    ink = look.ink

    def mark(label: str, face: str) -> Line2D:
        return Line2D(
            [],
            [],
            linestyle="",
            marker="o",
            markersize=7,
            color=ink["c1"],
            markerfacecolor=face,
            markeredgewidth=1.6,
            label=label,
        )

    handles: list[Any] = []
    if states.measured:
        handles.append(mark("entropy, corrected, with its 95 % interval", ink["c1"]))
    if len(states.measured) < sum(not math.isnan(float(site.entropy)) for site in states.sites):
        handles.append(mark("hollow: not measured, between the ends of its line", ink["paper"]))
    if states.counted:
        handles.append(Line2D([], [], linestyle="", marker="|", markersize=11, markeredgewidth=2.2, color=ink["ceiling"],
                              label="log₂ observations: no plain count can pass it"))  # fmt: skip
    if states.untrained:
        handles.append(
            Line2D(
                [], [], linestyle="", marker="^", markersize=6, color=ink["muted"], label="the same network, untrained"
            )
        )
    handles.append(Patch(color=ink["room"], linewidth=0, label="room: one bit per unit"))
    if states.counted:
        handles.append(Patch(color=ink["used"], linewidth=0, label="used, if units fired independently"))
    return handles


STATES = Picture(
    "states",
    "What each layer's firing states carry",
    "A bar is a layer's room, one bit per unit; its dark part is what the units would carry if they fired "
    "independently of each other. The dot is the entropy, corrected for the states not seen, in its 95 % interval. "
    "A plain count cannot pass the orange tick, log₂ of the observations: a hollow dot near it tells how many "
    "samples there were; the entropy lies between the ends of its line.",
    shows=lambda facts: bool(facts.states.sites),
    draw=draw_states,
    names=lambda facts: facts.states.names,
)

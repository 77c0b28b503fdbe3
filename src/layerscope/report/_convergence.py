"""Picture: what fewer samples, or fewer transformations, would have said of how far the layers move."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from .._errors import LayerscopeError
from ..measures import Convergence, Reckoned, convergence
from ._facts import Facts
from ._look import SERIES, Look, axes, figure, fitted, inches
from ._movement_facts import Movement, SiteMovement
from ._picture import Picture

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LEAST = 0.1
"""The axis shows at least so much to either side."""


def draw_convergence(facts: Facts, look: Look) -> "Figure":
    """For up to six sites the ratio against N, and against T, relative to what everything gives, in its 95 % interval."""
    lines = lines_of(facts.movement)
    if not lines:
        fig = figure(look, 0.7)
        fig.text(0.02, 0.5, "Too few groups of samples to draw from.", color=look.ink["muted"], va="center")
        return fig
    handles = [_handle(site, curve, look.series(k), look) for k, (site, curve) in enumerate(lines)]
    columns = 1 if look.narrow else 2
    head = 0.1 + 0.178 * math.ceil(len(handles) / columns)
    tall, foot, left, gap = 2.3, 0.55, 0.78, 0.62
    height = head + tall + foot + (gap + tall if look.narrow else 0)
    fig = figure(look, height)
    wide = (look.width - left - 0.25) if look.narrow else (look.width - left - 0.25 - 0.3) / 2
    first = axes(fig, look, left, look.width - left - wide, head, height - head - tall)
    second = (
        axes(fig, look, left, 0.25, head + tall + gap, foot)
        if look.narrow
        else axes(fig, look, look.width - 0.25 - wide, 0.25, head, foot)
    )
    panels = [
        (first, [c.over_samples for _, c in lines], "samples"),
        (second, [c.over_transformations for _, c in lines], "transformations"),
    ]
    ends = [_panel(ax, k, curve, what, look) for ax, curves, what in panels for k, curve in enumerate(curves)]
    low, high = min(-LEAST, *(low for low, _ in ends)), max(LEAST, *(high for _, high in ends))
    for number, (ax, curves, what) in enumerate(panels):
        limits = max(-1.0, 1.08 * low), min(1.0, 1.08 * high)
        _axes(ax, curves, what, limits, look, labelled=look.narrow or number == 0)
    fig.legend(
        handles=handles, loc="upper left", ncols=columns, frameon=False, labelcolor=look.ink["text"], fontsize=8.5,
        borderaxespad=0.1, borderpad=0.1, handlelength=2.0, columnspacing=1.6, labelspacing=0.35,
    )  # fmt: skip
    return fig


def lines_of(movement: Movement) -> list[tuple[SiteMovement, Convergence]]:
    """The input, the last layer and layers evenly between, with their curves; at most six."""
    found: list[tuple[SiteMovement, Convergence]] = []
    known = [site for site in movement.sites if site.known]
    places = np.unique(np.linspace(0, len(known) - 1, min(len(SERIES), len(known))).round().astype(int))
    for k in places.tolist():
        site = known[int(k)]
        try:
            curve = convergence(movement.measure, movement.results[site.layer.site].value(movement.measure.tally))
        except LayerscopeError:
            continue
        if len(curve.over_samples) > 1 and curve.over_samples[-1].ratio > 0:
            found.append((site, curve))
    return found


def relative(points: Sequence[Reckoned], what: str) -> list[tuple[int, float, float, float]]:
    """Size of the experiment, ratio and its limits, these in parts of the ratio of everything, less 1."""
    end = points[-1].ratio
    sizes = [(p.samples if what == "samples" else p.transformations, p) for p in points if math.isfinite(p.ratio)]
    return [(n, p.ratio / end - 1, p.low / end - 1, p.high / end - 1) for n, p in sizes]


def halved(points: Sequence[Reckoned], what: str) -> float:
    """What half of the samples or transformations would have changed, relative; NaN where there is no half."""
    found = relative(points, what)
    half = [change for n, change, *_ in found if 2 * n <= found[-1][0]]
    return half[-1] if half else math.nan


def _panel(ax: Any, k: int, points: Sequence[Reckoned], what: str, look: Look) -> tuple[float, float]:
    """One site's line with its interval; from where to where it reaches once a quarter of everything is there."""
    colour, marker = look.series(k)
    found = relative(points, what)
    n, change, low, high = (list(column) for column in zip(*found, strict=True))
    ax.plot(n, change, color=colour, marker=marker, markersize=4, linewidth=1.3, zorder=3 + k, clip_on=True)
    spans = [(at, a, b) for at, a, b in zip(n, low, high, strict=True) if math.isfinite(a)]
    if spans:
        ax.fill_between(*zip(*spans, strict=True), color=colour, alpha=0.16, linewidth=0, zorder=2)
    late = [(c, a, b) for at, c, a, b in found if 4 * at >= n[-1]]
    known = [x for each in late for x in each if math.isfinite(x)]
    return min(known), max(known)


def _axes(
    ax: Any, curves: Sequence[Sequence[Reckoned]], what: str, limits: tuple[float, float], look: Look, *, labelled: bool
) -> None:
    from matplotlib.ticker import MaxNLocator, PercentFormatter

    sizes = sorted(
        {p.samples if what == "samples" else p.transformations for points in curves for p in points if p.samples > 1}
    )
    ticks = sizes if what == "transformations" else _spaced(sizes)
    ax.set_xscale("log", base=2)
    ax.minorticks_off()
    ax.set_xticks(ticks, [f"{t:,}" for t in ticks])
    ax.set_xlim(sizes[0] * 0.93, sizes[-1] * 1.07)
    ax.set_ylim(*limits)
    ax.axhline(0, color=look.ink["line"], linewidth=1.0, zorder=1)
    ax.grid(axis="y", color=look.ink["room"], linewidth=0.7)
    ax.set_axisbelow(True)
    ax.yaxis.set_major_locator(MaxNLocator(nbins=6))
    ax.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0, symbol=" %"))
    ax.set_xlabel(what, color=look.ink["text"])
    if labelled:
        ax.set_ylabel("ratio, less that of all", color=look.ink["text"])
    else:
        ax.set_yticklabels([])


def _spaced(sizes: list[int]) -> list[int]:
    """The largest size, its half, its quarter and so on, as near as there are sizes."""
    kept = [sizes[-1]]
    for size in reversed(sizes[:-1]):
        if size <= kept[-1] / 1.8:
            kept.append(size)
    return kept[::-1]


def _handle(site: SiteMovement, curve: Convergence, style: tuple[str, str], look: Look) -> Any:
    from matplotlib.lines import Line2D

    changes = [halved(curve.over_samples, "samples"), halved(curve.over_transformations, "transformations")]
    said = [f"{sign(c)} at {what}/2" for c, what in zip(changes, ("N", "T"), strict=True) if math.isfinite(c)]
    words = f": {', '.join(said)}" if said else ""
    colour, marker = style
    return Line2D(
        [],
        [],
        color=colour,
        marker=marker,
        markersize=5,
        label=fitted(site.name, 3.0 - inches(words, 8.5), 8.5) + words,
    )


def sign(change: float) -> str:
    """A relative change in percent.

    >>> sign(0.0123), sign(-0.2), sign(0.0001)
    ('+1.2 %', '−20 %', '±0 %')
    """
    if abs(change) < 0.0005:
        return "±0 %"
    return f"{'+' if change > 0 else '−'}{100 * abs(change):.2g} %"


CONVERGENCE = Picture(
    "convergence",
    "Were there enough samples and transformations?",
    "The movement ratio that fewer of the samples, or every second, fourth … of the transformations would have given, relative to that of all, in its "
    "95 % interval. A line that is flat at its end can be believed. It rests on a few values of each layer, evenly spaced over it.",
    shows=lambda facts: any(site.known for site in facts.movement.sites),
    draw=draw_convergence,
)

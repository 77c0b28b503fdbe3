"""Picture 2: plain counts against the number of samples, and what the correction makes of the last.  On its dotted ceiling: a bound."""

import math
from typing import TYPE_CHECKING, Any

from ._facts import Facts
from ._look import SERIES, Look, axes, figure, fitted, inches
from ._picture import Picture
from ._state_facts import FLAT, SiteStates

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def draw_samples(facts: Facts, look: Look) -> "Figure":
    """A line per layer, in colour for up to six of them, the others thin and grey; dotted, the most that so many samples could show."""
    states = facts.states
    shown = [
        site
        for site in states.counted
        if not math.isnan(float(site.entropy)) and site.counts and site.counts.samples > 1
    ]
    if not shown:
        fig = figure(look, 0.7)
        fig.text(
            0.02, 0.5, "There are no samples to draw from: see what to distrust.", color=look.ink["muted"], va="center"
        )
        return fig
    chosen = _chosen(shown)
    rest = [site for site in shown if site not in chosen]
    head = 0.1 + (0.2 * (len(chosen) + bool(rest) + 1) if look.narrow else 0.0)
    right = 0.3 if look.narrow else 2.35
    foot = 0.55 if look.narrow else 0.72
    fig = figure(look, head + 2.6 + foot)
    ax = axes(fig, look, 0.55, right, head, foot)
    ax.spines["left"].set_visible(True)
    for site in rest:
        ax.plot(site.thinned, site.curve, color=look.ink["line"], linewidth=0.8, zorder=1)
    ends: list[tuple[float, int]] = []
    for k, site in enumerate(chosen):
        colour, marker = look.series(k)
        face = look.ink["paper"] if site.undersampled else colour
        shared = sum(other.ceiling[-1] == site.ceiling[-1] for other in shown) > 1
        ax.plot(site.thinned, site.ceiling, ":", color=look.ink["muted"] if shared else colour, linewidth=1.3, zorder=2)
        ax.plot(
            site.thinned, site.curve, color=colour, marker=marker, markersize=5, markerfacecolor=face, linewidth=1.6, zorder=3, clip_on=False
        )  # fmt: skip
        if site.measured and site.corrected.low < site.corrected.high:
            at = site.thinned[-1] * 1.02
            ax.plot([at, at], [site.corrected.low, site.corrected.high], color=colour, linewidth=3.5, alpha=0.45, zorder=2,
                    solid_capstyle="butt", clip_on=False)  # fmt: skip
        ends.append((float(site.curve[-1]), -k))
    _axes(ax, shown, look)
    _legend(fig, ax, chosen, len(rest), ends, look)
    return fig


def verdict(site: SiteStates) -> str:
    """What the curve tells, in two or three words."""
    if site.undersampled:
        return site.verdict if site.growth < FLAT else f"{site.verdict}, +{site.growth:.2g} a doubling"
    low = float(site.corrected) - float(site.entropy)
    return "flat" if low <= site.trust.tolerance else f"count {low:.2g} bits low"


def _chosen(shown: list[SiteStates]) -> list[SiteStates]:
    """The sites in colour, in the order of the forward pass: measured ones before others, then those whose entropies differ most."""
    if len(shown) <= len(SERIES):
        return shown
    picked: list[SiteStates] = []
    for group in ([site for site in shown if site.measured], [site for site in shown if not site.measured]):
        left = sorted(group, key=lambda site: -float(site.entropy))
        while left and len(picked) < len(SERIES):
            farthest = max(
                left,
                key=lambda site: min((abs(float(site.entropy) - float(p.entropy)) for p in picked), default=math.inf),
            )
            left.remove(farthest)
            picked.append(farthest)
    return [site for site in shown if site in picked]


def _axes(ax: Any, shown: list[SiteStates], look: Look) -> None:
    from matplotlib.ticker import MaxNLocator

    first, last = min(int(site.thinned[0]) for site in shown), max(int(site.thinned[-1]) for site in shown)
    ax.set_xscale("log")
    ax.minorticks_off()
    ticks = sorted({*(t for t in (s * 10**p for p in range(8) for s in (1, 2, 5)) if first <= t < last * 0.75), last})
    ax.set_xticks(ticks, [f"{t:,}" for t in ticks])
    ax.set_xlim(first * 0.96, last * 1.02)
    ax.set_ylim(0, None)
    ax.grid(axis="y", color=look.ink["room"], linewidth=0.7)
    ax.set_axisbelow(True)
    ax.yaxis.set_major_locator(MaxNLocator(nbins=7, integer=True))
    ax.set_xlabel("samples", color=look.ink["text"])
    ax.set_ylabel("plain count in bits", color=look.ink["text"])


def _legend(fig: Any, ax: Any, chosen: list[SiteStates], rest: int, ends: list[tuple[float, int]], look: Look) -> None:
    from matplotlib.lines import Line2D

    ink = look.ink
    others = f"grey: {rest} more layer{'s' if rest > 1 else ''}"
    ceiling = "dotted: the most so many samples can show"
    if look.narrow:
        handles: list[Any] = []
        for k, site in enumerate(chosen):
            colour, marker = look.series(k)
            face = ink["paper"] if site.undersampled else colour
            said = verdict(site)
            label = f"{fitted(site.name, look.width - 0.7 - inches(said, 8.5), 8.5)}: {said}"
            handles.append(Line2D([], [], color=colour, marker=marker, markersize=5, markerfacecolor=face, label=label))
        handles.append(Line2D([], [], color=ink["muted"], linestyle=":", label=ceiling))
        if rest:
            handles.append(Line2D([], [], color=ink["line"], label=others))
        fig.legend(handles=handles, loc="upper left", frameon=False, labelcolor=ink["text"], fontsize=8.5, borderaxespad=0.1, borderpad=0.1,
                   labelspacing=0.35)  # fmt: skip
        return
    low, high = ax.get_ylim()
    tall = ax.get_position().height * fig.get_size_inches()[1]
    order = sorted(ends)
    places = spread([y for y, _ in order], 0.34 * (high - low) / tall, low, high)
    for (y, minus_k), place in zip(order, places, strict=True):
        k = -minus_k
        site = chosen[k]
        colour, marker = look.series(k)
        face = ink["paper"] if site.undersampled else colour
        edge = ax.get_yaxis_transform()
        ax.plot([1.005, 1.035], [y, place], color=ink["line"], linewidth=0.8, transform=edge, clip_on=False)
        ax.plot(
            1.05, place, marker=marker, color=colour, markerfacecolor=face, markersize=5, transform=edge, clip_on=False
        )
        words = f"{fitted(site.name, 1.95, 8.5)}\n{verdict(site)}"
        ax.text(1.07, place, words, transform=edge, color=ink["text"], va="center", fontsize=8.5, linespacing=1.15)
    ceiling += ";  bar at the end: the corrected entropy"
    said = ceiling if not rest else f"{ceiling};  {others}"
    fig.text(0.55 / look.width, 0.02, said, color=ink["muted"], fontsize=8.5)


def spread(wanted: list[float], gap: float, low: float, high: float) -> list[float]:
    """Places as near as can be to those wanted (in rising order), at least `gap` apart and, if there is room, within low … high.

    >>> spread([1.0, 1.0, 5.0], 2.0, 0.0, 10.0)
    [1.0, 3.0, 5.0]
    """
    places: list[float] = []
    for y in wanted:
        places.append(max(y, low + gap / 2, places[-1] + gap if places else -math.inf))
    ceiling = high - gap / 2
    for k in range(len(places) - 1, -1, -1):
        places[k] = min(places[k], ceiling)
        ceiling = places[k] - gap
    return places


SAMPLES = Picture(
    "samples",
    "Were there enough samples?",
    "The plain count that fewer of the same samples would have shown. A flat line can be believed; a line that "
    "still rises is low by what the bar at its end corrects; a line along its dotted ceiling is only a lower bound.",
    shows=lambda facts: bool(facts.states.sites),
    draw=draw_samples,
    names=lambda facts: facts.states.names,
)

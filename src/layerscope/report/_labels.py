"""Picture: what each layer's states tell about the label, beside what they would seem to tell about labels drawn at random."""

import math
from typing import TYPE_CHECKING, Any

from .._reading import NAN, Reading
from ._facts import Facts
from ._label_facts import Labels, SiteLabels
from ._look import Look, axes, figure, fitted
from ._picture import Picture
from ._rows import Rows

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def draw_labels(facts: Facts, look: Look) -> "Figure":
    """A dot in its interval for every site, hollow where extrapolated, a cross where undefined; a tick at what random labels would show."""
    from matplotlib.lines import Line2D

    labels, ink = facts.labels, look.ink
    rows = Rows(labels.sites, [_said(site, look) for site in labels.sites], look, beside=True)
    marks = _references(labels, look)
    ours = look.series(0)[0]
    handles: list[Any] = [_mark("o", ours, ours, "information of the states", 6.5)]
    if any(site.known and site.information.undersampled for site in labels.sites):
        handles.append(_mark("o", ours, ink["paper"], "hollow: extrapolated, no interval", 6.5))
    handles.append(Line2D([], [], linestyle="", marker="|", markersize=10, markeredgewidth=2.2, color=ink["ceiling"],
                          label="what the plain count shows with random labels"))  # fmt: skip
    handles += [_mark(marker, colour, colour, fitted(name, 3.0, 8.5), 5.5) for name, marker, colour, _ in marks]
    if any(not site.known for site in labels.sites):
        handles.append(
            Line2D([], [], linestyle="", marker="x", color=ink["muted"], markeredgewidth=1.6, label="undefined")
        )
    columns = 1 if look.narrow else 2
    head = 0.1 + 0.178 * math.ceil(len(handles) / columns)
    fig = figure(look, head + rows.height + 0.6)
    ax = axes(fig, look, rows.left, rows.right, head + 0.02, 0.52)
    for _, marker, colour, readings in marks:
        _dots(ax, rows, readings, marker, colour, look, size=5.5)
    _ticks(ax, rows, labels, look)
    _dots(ax, rows, [site.information for site in labels.sites], "o", ours, look, size=6.5)
    gaps = [rows.middle(k) for k, site in enumerate(labels.sites) if not site.known]
    ax.plot([0] * len(gaps), gaps, "x", color=ink["muted"], markersize=6, markeredgewidth=1.6, clip_on=False, zorder=6)
    most = max(site.there_is for site in labels.sites)
    ax.set_xlim(0, most * 1.03)
    ax.axvline(most, color=ink["line"], linewidth=1.0, zorder=1)
    ax.set_xlabel("bits" if look.narrow else f"bits about the label, of {most:.3g} there are", color=ink["text"])
    rows.write(ax)
    fig.legend(
        handles=handles, loc="upper left", ncols=columns, frameon=False, labelcolor=ink["text"], fontsize=8.5,
        borderaxespad=0.1, borderpad=0.1, handlelength=1.8, columnspacing=1.6, labelspacing=0.35,
    )  # fmt: skip
    return fig


def _mark(marker: str, colour: str, face: str, label: str, size: float) -> Any:
    from matplotlib.lines import Line2D

    return Line2D([], [], linestyle="", marker=marker, color=colour, markerfacecolor=face, markersize=size, label=label)


def _references(labels: Labels, look: Look) -> list[tuple[str, str, str, list[Reading]]]:
    """Name, marker, colour and readings of every reference."""
    found: list[tuple[str, str, str, list[Reading]]] = []
    for k, (name, readings) in enumerate(labels.references.items()):
        colour, marker = look.series(k + 1)
        if name in ("untrained", "shuffled labels"):
            colour, marker = look.ink["muted"], "^" if name == "untrained" else "X"
        found.append((name, marker, colour, [readings.get(site.layer.site, Reading(NAN)) for site in labels.sites]))
    return found


def _dots(
    ax: Any, rows: Rows, readings: list[Reading], marker: str, colour: str, look: Look, size: float
) -> None:  # fmt: skip
    known = [(float(r), rows.middle(k), r) for k, r in enumerate(readings) if not math.isnan(float(r))]
    size = size if rows.few else max(2.4, min(size, rows.pitch * 34))
    ends = [end for _, _, r in known if r.low < r.high for end in (r.low, r.high, NAN)]
    ax.plot(ends, [y for _, y, r in known if r.low < r.high for _ in range(3)], color=colour, linewidth=1.6, zorder=3)
    for hollow in (False, True):
        at = [(x, y) for x, y, r in known if r.undersampled == hollow]
        if at:
            face = look.ink["paper"] if hollow else colour
            ax.plot(
                *zip(*at, strict=True),
                marker,
                color=colour,
                markerfacecolor=face,
                markersize=size,
                markeredgewidth=1.4,
                clip_on=False,
                zorder=5,
            )


def _ticks(ax: Any, rows: Rows, labels: Labels, look: Look) -> None:
    y = [rows.middle(k) for k in range(len(labels.sites))]
    size = 12 if rows.few else max(3.0, rows.pitch * 60)
    ax.plot(
        [site.by_chance for site in labels.sites],
        y,
        "|",
        color=look.ink["ceiling"],
        markersize=size,
        markeredgewidth=2.2,
        zorder=4,
    )


def _said(site: SiteLabels, look: Look) -> str:
    if not site.known:
        return "none" if look.narrow else "undefined"
    return f"{float(site.information):.2g}" if look.narrow else site.lead.partition(" of ")[0]


LABELS = Picture(
    "labels",
    "What the states tell about the label",
    "How many bits of the class a layer's state gives away, corrected for the states not seen, in its 95 % interval. A plain count tells much of any "
    "labels where states hardly come twice: the orange tick is what it would show if labels had been drawn at random. Where it comes near the right end, "
    "nothing can be said.",
    shows=lambda facts: any(site.there_is for site in facts.labels.sites),  # of one class there is nothing to tell
    draw=draw_labels,
    names=lambda facts: facts.labels.names,
)

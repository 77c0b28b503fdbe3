"""Picture 3: every unit at once.  A row per site, its units from those that fire least to those that fire most."""

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ._facts import Facts
from ._look import Look, axes, figure
from ._picture import Picture
from ._rows import RIGHT, Rows, ends_inside
from ._state_facts import SiteStates

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLUMNS = 200


def draw_units(facts: Facts, look: Look) -> "Figure":
    """Firing rates in cividis: dead units are the dark edge on the left, units that always fire the bright one on the right."""
    states = facts.states
    from matplotlib.patches import Rectangle

    rows = Rows(states.sites, [_said(site) for site in states.sites], look)
    fig = figure(look, 0.62 + rows.height + 0.55)
    ax = axes(fig, look, rows.left, RIGHT, 0.62, 0.5)
    ax.set_xlim(0, 100)
    for k, site in enumerate(states.sites):
        top, bottom = rows.top(k), rows.top(k) + rows.thick
        if not rows.few:
            top, bottom = k * rows.pitch + 0.02, (k + 1) * rows.pitch + 0.02
        if site.rates.size:
            image = sorted_rates(site.rates)[None, :]
            ax.imshow(
                image,
                cmap="cividis",
                vmin=0,
                vmax=1,
                aspect="auto",
                extent=(0, 100, bottom, top),
                interpolation="nearest",
            )
        if rows.few:
            ax.add_patch(Rectangle((0, top), 100, bottom - top, fill=False, edgecolor=look.ink["line"], linewidth=0.8))
    ax.set_xlim(0, 100)
    ax.set_xticks([0, 25, 50, 75, 100], ["0 %", "25 %", "50 %", "75 %", "100 %"])
    ends_inside(ax)
    ax.set_xlabel(
        "units, from rarely to often firing" if look.narrow else "units of the layer, from rarely to often firing",
        color=look.ink["text"],
    )
    rows.write(ax)
    _bar(fig, 0.2 if look.narrow else rows.left, look)
    return fig


def sorted_rates(rates: NDArray[np.float64], columns: int = COLUMNS) -> NDArray[np.float64]:
    """Rates from low to high in so many columns, each that of the unit there (no mean of two), the first and last unit always among them."""
    ranked = np.sort(rates)
    return (
        ranked[np.linspace(0, len(ranked) - 1, columns).round().astype(int)]
        if len(ranked) > columns
        else (ranked[(np.arange(columns) * len(ranked)) // columns])
    )


def _said(site: SiteStates) -> str:
    if not site.rates.size:
        return "not measured"
    marked = [
        f"{count:,} {word}"
        for count, word in ((site.dead, "dead"), (site.always_on, "always on"), (site.copies, "repeated"))
        if count
    ]
    words = ", ".join(marked) or "none dead or always on"
    return words


def _bar(fig: Any, left: float, look: Look) -> None:
    """The colour scale, above the picture."""
    width, height = fig.get_size_inches()
    long = 1.4 if look.narrow else 2.2
    bar: Any = fig.add_axes((left / width, (height - 0.24) / height, long / width, 0.13 / height))
    bar.imshow(np.linspace(0, 1, 128)[None, :], cmap="cividis", aspect="auto", extent=(0, 1, 0, 1))
    bar.set_yticks([])
    bar.set_xticks([0, 0.5, 1], ["never", "half", "always"])
    ends_inside(bar)
    bar.tick_params(labelsize=8, labelcolor=look.ink["text"], color=look.ink["line"], length=2, pad=1.5)
    for spine in bar.spines.values():
        spine.set_color(look.ink["line"])
    words = "how often a unit fires" if look.narrow else "share of observations in which a unit fires"
    bar.text(1.09, 0.5, words, transform=bar.transAxes, va="center", fontsize=8.5, color=look.ink["text"])


UNITS = Picture(
    "units",
    "Every unit at once",
    "Each row is a layer, its units sorted by how often they fire. Units that never fire are the dark edge on the "
    "left, units that always fire the bright edge on the right: both carry no information on these data.",
    shows=lambda facts: bool(facts.states.sites),
    draw=draw_units,
    names=lambda facts: facts.states.names,
)

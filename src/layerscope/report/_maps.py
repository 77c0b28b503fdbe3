"""Picture: the movement ratio of every feature map at once.  A row per site, its maps from the most invariant to the least."""

import math
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ._facts import Facts
from ._look import Look, axes, figure
from ._movement_facts import Movement, SiteMovement, ratio_digits
from ._picture import Picture
from ._rows import RIGHT, Rows, ends_inside

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLUMNS = 200


def draw_maps(facts: Facts, look: Look) -> "Figure":
    """Ratios in cividis from 0 on; maps without a ratio are hatched, at the right end of their row."""
    from matplotlib.patches import Rectangle

    movement = facts.movement
    rows = Rows(movement.sites, [_said(site, look) for site in movement.sites], look, "map")
    fig = figure(look, 0.62 + rows.height + 0.55)
    ax = axes(fig, look, rows.left, RIGHT, 0.62, 0.5)
    top_value = scale_of(movement)
    for k, site in enumerate(movement.sites):
        top, bottom = rows.top(k), rows.top(k) + rows.thick
        if not rows.few:
            top, bottom = k * rows.pitch + 0.02, (k + 1) * rows.pitch + 0.02
        image = sorted_maps(site.maps)
        known = int(np.isfinite(image).sum())
        if known:
            ax.imshow(
                image[None, :known], cmap="cividis", vmin=0, vmax=top_value, aspect="auto", interpolation="nearest",
                extent=(0, 100 * known / COLUMNS, bottom, top),
            )  # fmt: skip
        if known < COLUMNS:
            left = 100 * known / COLUMNS
            ax.add_patch(
                Rectangle(
                    (left, top),
                    100 - left,
                    bottom - top,
                    fill=False,
                    hatch="////",
                    edgecolor=look.ink["muted"],
                    linewidth=0,
                )
            )
        if rows.few:
            ax.add_patch(Rectangle((0, top), 100, bottom - top, fill=False, edgecolor=look.ink["line"], linewidth=0.8))
    ax.set_xlim(0, 100)
    ax.set_xticks([0, 25, 50, 75, 100], ["0 %", "25 %", "50 %", "75 %", "100 %"])
    ends_inside(ax)
    words = (
        "maps, most invariant first"
        if look.narrow
        else "feature maps of the layer, from the most invariant to the least"
    )
    ax.set_xlabel(words, color=look.ink["text"])
    rows.write(ax)
    _bar(fig, 0.2 if look.narrow else rows.left, top_value, look)
    return fig


def scale_of(movement: Movement) -> float:
    """Where the colours end: at 2, or beyond where a twentieth of the maps of most layers lies there."""
    every = [site.maps[np.isfinite(site.maps)] for site in movement.sites]
    tops = [float(np.quantile(maps, 0.95)) for maps in every if maps.size]
    return 2.0 if not tops or np.median(tops) <= 2 else float(2.0 ** math.ceil(math.log2(float(np.median(tops)))))


def sorted_maps(maps: NDArray[np.float64], columns: int = COLUMNS) -> NDArray[np.float64]:
    """Ratios from low to high in so many columns, each that of the map there (no mean of two); undefined ones, as NaN, last.

    The lowest, the highest, and any undefined map are always among them.
    """
    ranked = np.sort(np.where(np.isfinite(maps), maps, np.nan))
    known = ranked[~np.isnan(ranked)]
    lost = 0 if not maps.size else columns * (maps.size - known.size) / maps.size
    blank = columns if not known.size else min(columns - 1, max(int(lost > 0), round(lost)))
    room = columns - blank
    places = (
        np.linspace(0, known.size - 1, room).round()
        if known.size > room
        else (np.arange(room) * known.size) // max(1, room)
    )
    shown = known[places.astype(int)] if known.size else np.empty(0)
    return np.concatenate([shown, np.full(blank, np.nan)])


def _said(site: SiteMovement, look: Look) -> str:
    known = site.maps[np.isfinite(site.maps)]
    if not known.size:
        return "no ratio"
    words = f"{ratio_digits(float(known.min()))} to {ratio_digits(float(known.max()))}"
    lost = site.maps.size - known.size
    return f"{words}, {lost:,} undefined" if lost and not look.narrow else words


def _bar(fig: Any, left: float, top: float, look: Look) -> None:
    """The colour scale, above the picture."""
    from matplotlib.patches import Rectangle

    width, height = fig.get_size_inches()
    long = 1.4 if look.narrow else 2.2
    bar: Any = fig.add_axes((left / width, (height - 0.24) / height, long / width, 0.13 / height))
    bar.imshow(np.linspace(0, 1, 128)[None, :], cmap="cividis", aspect="auto", extent=(0, top, 0, 1))
    bar.set_yticks([])
    bar.set_xticks([0, 1, top], ["0", "1", f"{top:g} or more"])
    bar.get_xticklabels()[0].set_ha("left")
    bar.tick_params(labelsize=8, labelcolor=look.ink["text"], color=look.ink["line"], length=2, pad=1.5)
    for spine in bar.spines.values():
        spine.set_color(look.ink["line"])
    words = "movement ratio of a map" if look.narrow else "movement ratio of a feature map;"
    bar.text(1.09, 0.5, words, transform=bar.transAxes, va="center", fontsize=8.5, color=look.ink["text"])
    if look.narrow:
        return
    patch: Any = fig.add_axes(((left + long + 2.35) / width, (height - 0.24) / height, 0.3 / width, 0.13 / height))
    patch.set_axis_off()
    patch.add_patch(Rectangle((0, 0), 1, 1, fill=False, hatch="////", edgecolor=look.ink["muted"], linewidth=0))
    patch.text(1.2, 0.5, "undefined", transform=patch.transAxes, va="center", fontsize=8.5, color=look.ink["text"])


MAPS = Picture(
    "maps",
    "Every feature map at once",
    "Each row is a layer, its feature maps sorted by how far they move with the transformations next to how far they move between samples: dark maps "
    "are invariant. Hatched maps have no ratio: they do not move from sample to sample.",
    shows=lambda facts: any(site.maps.size for site in facts.movement.sites),
    draw=draw_maps,
    names=lambda facts: facts.movement.names,
)

"""Pictures of what the measures found, as matplotlib figures that are not tied to pyplot."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from ..._errors import DataError
from ...report._look import ON_PAPER, WIDE, Look, axes, drawing, figure, fitted, inches
from ._analyzer import Analysis
from ._variances import AbstractVariance

MAPS = 16
"""Feature maps that a picture of one layer shows at most."""

SHAPES = "os^DvPX*<>"
"""More than there are colours: no two groups look alike."""


class Graphs:
    """Pictures of what the measures found: `Graphs().layers({"trained": variance}).savefig("layers.png")`.

    Every method gives a `matplotlib.figure.Figure`.  **Arguments:** `width` of the pictures in inches.
    """

    def __init__(self, width: float = WIDE) -> None:
        self.look = Look(ON_PAPER, width)

    def layers(self, computed: Mapping[str, AbstractVariance]) -> Any:
        """One number a layer, from the first layer at the top to the last; a line for every measure or model, by its name.

        Layers of models that are called differently stand in rows of their own.
        """
        names = [*dict.fromkeys(name for metric in computed.values() for name in metric.names)]
        if not names:
            raise DataError('Graphs: there is nothing to draw. Give what was computed: layers({"Variance": variance}).')
        with drawing():
            fig = figure(self.look, 0.75 + 0.34 * len(names) + 0.5)
            short = [fitted(name, 1.6, 9) for name in names]
            ax = axes(fig, self.look, max(inches(name, 9) for name in short) + 0.3, 0.25, 0.6, 0.55)
            for k, (said, metric) in enumerate(computed.items()):
                colour, marker = self.look.series(k)
                rows = [names.index(name) for name in metric.names]
                ax.plot(
                    metric.variance_layers, rows, color=colour, marker=marker, markersize=6, linewidth=1.4, label=said
                )
            ax.set_yticks(range(len(names)), short)
            ax.set_ylim(len(names) - 0.5, -0.5)
            ax.set_xlim(left=0)
            ax.tick_params(axis="y", length=0)
            ax.grid(axis="y", color=self.look.ink["room"], linewidth=0.8)
            ax.set_axisbelow(True)
            ax.set_xlabel(_measured(computed), color=self.look.ink["text"])
            _legend(ax, self.look)
            fig.draw_without_rendering()
        return fig

    def activations(self, metric: AbstractVariance, layer: int) -> Any:
        """The numbers within one of the measured layers: every activation in its place, map by map, or features from low to high."""
        values, name = np.asarray(metric.variance_layers_activations[layer]), metric.names[layer]
        structure = metric.iterator.get_model().get_model_structure()
        shape = next(each for each in structure.layers if each.name == name)
        with drawing():
            if metric.maps or not shape.has_features or len(shape.shape) != 3:
                return self._sorted(
                    values,
                    f"{type(metric).__name__} of {name}, {'features' if metric.maps else 'activations'} from low to high",
                )
            maps = np.moveaxis(values.reshape(shape.shape), shape.axis, 0)
            return self._maps(maps, f"{type(metric).__name__} of {name}")

    def analysis(self, found: Analysis, name: str) -> Any:
        """A measure against accuracy, a point for every group of transformations, with their correlation and how many groups it rests on."""
        if name not in found.totals:
            raise DataError(f"Graphs: {name!r} was not analysed; there is {', '.join(found.totals)}.")
        with drawing():
            fig = figure(self.look, 3.9)
            wide = max(inches(group, 9) for group in found.groups) + 0.75
            ax = axes(fig, self.look, 0.75, wide, 0.55, 0.55)
            ax.spines["left"].set_visible(True)
            room = max([total for total in found.totals[name] if math.isfinite(total)], default=1.0) or 1.0
            for k, group in enumerate(found.groups):
                colour, marker = self.look.series(k)[0], SHAPES[k % len(SHAPES)]
                x, y = found.totals[name][k], found.accuracy[k]
                ax.plot(x, y, marker=marker, color=colour, markersize=8, linestyle="none", label=group)
            ax.set_xlim(-0.04 * room, 1.06 * room)
            ax.set_ylim(0, 1.04)
            ax.set_xlabel(f"{name} of the network", color=self.look.ink["text"])
            ax.set_ylabel("accuracy", color=self.look.ink["text"])
            ax.set_title(str(found.correlation(name)), loc="left", fontsize=10, color=self.look.ink["text"], pad=12)
            ax.legend(
                frameon=False, fontsize=9, labelcolor=self.look.ink["text"], loc="upper left", bbox_to_anchor=(1.02, 1)
            )
            fig.draw_without_rendering()
        return fig

    def _sorted(self, values: Any, title: str) -> Any:
        fig = figure(self.look, 2.6)
        ax = axes(fig, self.look, 0.75, 0.25, 0.5, 0.5)
        ranked = np.sort(values[np.isfinite(values)])
        ax.spines["left"].set_visible(True)
        ax.fill_between(
            np.arange(len(ranked) + 1), np.append(ranked, ranked[-1:]), step="post", color=self.look.ink["c1"]
        )
        ax.set_xlim(0, max(1, len(ranked)))
        ax.set_ylim(bottom=0)
        ax.set_xlabel(f"{len(ranked):,} of {values.size:,} have a number", color=self.look.ink["text"])
        ax.set_title(title, loc="left", fontsize=10, color=self.look.ink["text"])
        fig.draw_without_rendering()
        return fig

    def _maps(self, maps: Any, title: str) -> Any:
        """The maps with the highest values first, all in one scale."""
        with np.errstate(all="ignore"):
            order = np.argsort(-np.nan_to_num(maps.reshape(len(maps), -1)).mean(axis=1))[:MAPS]
        columns = min(8, len(order))
        lines = -(-len(order) // columns)
        side = (self.look.width - 1.2) / columns
        fig = figure(self.look, 0.5 + lines * (side + 0.2) + 0.1)
        width, height = fig.get_size_inches()
        most = float(np.nanmax(maps)) if np.isfinite(maps).any() else 1.0
        for k, number in enumerate(order.tolist()):
            left, top = 0.15 + (k % columns) * side, 0.5 + (k // columns) * (side + 0.2)
            ax = fig.add_axes((left / width, 1 - (top + side) / height, (side - 0.06) / width, (side - 0.06) / height))
            shown = ax.imshow(maps[number], cmap="cividis", vmin=0, vmax=most, interpolation="nearest")
            ax.set_title(f"map {number}", fontsize=8, pad=2, color=self.look.ink["muted"])
            ax.set_axis_off()
        bar = fig.add_axes(((width - 0.8) / width, 0.15 / height, 0.14 / width, (height - 0.75) / height))
        fig.colorbar(shown, cax=bar).ax.tick_params(labelsize=8, color=self.look.ink["line"])  # pyright: ignore[reportPossiblyUnboundVariable] - a layer has maps
        bar.spines[:].set_visible(False)
        more = f", the {len(order)} highest of {len(maps)} maps" if len(maps) > len(order) else ""
        fig.text(0.15 / width, 1 - 0.22 / height, title + more, fontsize=10, color=self.look.ink["text"])
        fig.draw_without_rendering()
        return fig


def _measured(computed: Mapping[str, AbstractVariance]) -> str:
    """What the numbers of several measures are."""
    kinds = {type(metric).__name__ for metric in computed.values()}
    if len(kinds) == 1:
        return kinds.pop()
    over = "variance over columns"
    return f"{over} / variance over rows" if all(kind.startswith("Normalized") for kind in kinds) else over


def _legend(ax: Any, look: Look) -> None:
    options = {
        "frameon": False,
        "fontsize": 9,
        "labelcolor": look.ink["text"],
        "loc": "lower left",
        "borderaxespad": 0.0,
    }
    ax.legend(bbox_to_anchor=(0, 1.02), ncols=3, **options)

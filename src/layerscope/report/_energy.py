"""The picture of a descent: where its energy sits at every step, and how near it comes to what it should find."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ._look import ON_PAPER, Look, axes, drawing, figure, fitted, inches

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Curve = NDArray[np.float64]


class Balance(Protocol):
    """What the picture needs of a ledger (`layerscope.energy.Ledger`), which this package does not import."""

    @property
    def energy(self) -> Curve: ...
    @property
    def interaction(self) -> Curve: ...
    @property
    def layers(self) -> Mapping[str, Curve]: ...
    @property
    def entropies(self) -> Mapping[str, Curve]: ...
    @property
    def betas(self) -> Mapping[str, float]: ...
    @property
    def batch(self) -> int: ...
    @property
    def overlaps(self) -> Curve | None: ...
    @property
    def baseline(self) -> Curve | None: ...


def plot(balance: Balance) -> "Figure":
    """The picture on paper, as a matplotlib figure."""
    with drawing():
        drawn = draw_energy(balance, Look(ON_PAPER))
        drawn.draw_without_rendering()  # what is made late (ticks) is made under our settings too
    return drawn


def draw_energy(balance: Balance, look: Look) -> "Figure":
    """Above: energy and its parts, mean of the batch. Below, where there is a target: overlaps, median and quartiles, beside their baseline."""
    met = balance.overlaps is not None
    left, right = 0.62, 0.25 if look.narrow else 2.75
    upper, lower, foot = 2.5, 1.5, 0.55
    curves = parts(balance)
    head = 0.3 + (0.19 * len(curves) if look.narrow else 0)
    gap = 0.42 + (0.19 * (1 + (balance.baseline is not None)) if look.narrow else 0)
    height = head + upper + (gap + lower if met else 0) + foot
    fig = figure(look, height)
    ax = _panel(fig, look, left, right, head, height - head - upper)
    steps = np.arange(len(balance.energy))
    every = max(1, len(steps) // 6)  # a marker now and then: nothing is told by colour alone
    for k, (_, curve) in enumerate(curves):
        colour, marker = look.series(k)
        ax.plot(
            steps, curve, color=colour, linewidth=2.2 if k == 0 else 1.6, marker=marker, markersize=4.5, markevery=every, zorder=5 - k / 10, clip_on=False
        )  # fmt: skip
    low, high = ax.get_ylim()
    ax.set_ylim(low, high + 0.02 * (high - low))
    ends = [
        (f"{name}  {_short(curve[0])} → {_short(curve[-1])}", float(curve[-1]), k)
        for k, (name, curve) in enumerate(curves)
    ]
    _names(fig, ax, look, ends, right)
    many = f"{balance.batch:,} states" if balance.batch > 1 else "one state"
    _title(fig, look, f"energy, mean of {many}" if balance.batch > 1 else "energy of one state", left, height - 0.12)
    last = ax
    if balance.overlaps is not None:
        ax.tick_params(labelbottom=False)
        last = _panel(fig, look, left, right, head + upper + gap, foot)
        _overlaps(fig, last, look, balance.overlaps, balance.baseline, right)
        spread = "" if look.narrow or balance.batch == 1 else f", median and quartiles of {many}"
        _title(fig, look, f"overlap with what should be found{spread}", left, foot + lower + 0.14 + (gap - 0.42))
    last.set_xlabel("steps of the descent", color=look.ink["text"])
    for each in fig.axes:
        each.set_xlim(0, max(len(steps) - 1, 1))
        each.xaxis.get_major_locator().set_params(integer=True)
    return fig


def parts(balance: Balance) -> list[tuple[str, Curve]]:
    """The whole and its parts, which sum up to it, by name: −S/β where a layer's energy is that, up to a constant, else its energy."""
    listed = [("E", balance.energy), ("interaction", balance.interaction)]
    for name, curve in balance.layers.items():
        entropic = name in balance.entropies and _alike(curve, -balance.entropies[name] / balance.betas[name])
        listed.append((f"−S/β of {name}" if entropic else f"E of {name}", curve))
    return listed


def _alike(left: Curve, right: Curve) -> bool:
    """Whether two curves are the same: no constant between them."""
    return bool(np.allclose(left, right, rtol=1e-4, atol=1e-6))


def _overlaps(fig: Any, ax: Any, look: Look, found: Curve, baseline: Curve | None, right: float) -> None:
    steps = np.arange(len(found))
    known = ~np.isnan(found).all(axis=1)  # a state of zeros has no direction, so the first step may have no overlap
    steps, found = steps[known], found[known]
    low, middle, high = np.nanquantile(found, (0.25, 0.5, 0.75), axis=1)
    (colour, marker), every = look.series(0), max(1, len(steps) // 6)
    ax.fill_between(steps, low, high, color=colour, alpha=0.18, linewidth=0, zorder=2)
    ax.plot(
        steps,
        middle,
        color=colour,
        linewidth=2.2,
        marker=marker,
        markersize=4.5,
        markevery=every,
        zorder=4,
        clip_on=False,
    )
    least, ends = float(low.min()), [(f"this descent  {middle[-1]:.2f}", float(middle[-1]), 0)]
    if baseline is not None:
        below, centre, above = np.nanquantile(baseline, (0.25, 0.5, 0.75))
        ax.axhspan(below, above, color=look.ink["muted"], alpha=0.1, linewidth=0, zorder=1)
        ax.axhline(centre, color=look.ink["muted"], linewidth=1.5, linestyle=(0, (5, 2)), zorder=3)
        ends.append((f"nearest neighbour  {centre:.2f}", float(centre), -1))
        least = min(least, float(below))
    ax.set_ylim(least - 0.08 * (1 - least), 1.01)
    _names(fig, ax, look, ends, right)


def _panel(fig: Any, look: Look, left: float, right: float, top: float, bottom: float) -> Any:
    ax = axes(fig, look, left, right, top, bottom)
    ax.spines["left"].set_visible(True)
    ax.grid(axis="y", color=look.ink["room"], linewidth=0.8)
    ax.set_axisbelow(True)
    return ax


def _title(fig: Any, look: Look, text: str, left: float, bottom: float) -> None:
    width, height = fig.get_size_inches()
    fig.text(
        (left if not look.narrow else 0.12) / width,
        bottom / height,
        text,
        color=look.ink["muted"],
        fontsize=9,
        va="center",
    )


def _names(fig: Any, ax: Any, look: Look, ends: list[tuple[str, float, int]], right: float) -> None:
    """Names at the ends of their lines, moved apart where they would overlap; above the panel where the page is narrow."""
    width, height = fig.get_size_inches()
    box = ax.get_position()
    if look.narrow:
        for k, (text, _, series) in enumerate(ends):
            y = box.y1 + (0.12 + 0.19 * (len(ends) - 1 - k)) / height
            _line(fig, look, series, box.x0, y, width)
            fig.text(
                box.x0 + 0.28 / width, y, fitted(text, width - 1.1, 9), color=look.ink["text"], fontsize=9, va="center"
            )
        return
    low, high = ax.get_ylim()
    ordered = sorted(ends, key=lambda end: end[1])
    wanted = [box.y0 + (value - low) / (high - low) * box.height for _, value, _ in ordered]
    placed = _spread(wanted, 0.17 / height, box.y0, box.y1)
    room = right - 0.45
    size = 9.0 if max(inches(text, 9) for text, _, _ in ends) <= room else 8.0
    for (text, _, series), y in zip(ordered, placed, strict=True):
        _line(fig, look, series, box.x1 + 0.1 / width, y, width)
        fig.text(box.x1 + 0.36 / width, y, fitted(text, room, size), color=look.ink["text"], fontsize=size, va="center")


def _line(fig: Any, look: Look, series: int, x: float, y: float, width: float) -> None:
    """A short piece of a curve's line, as its key."""
    from matplotlib.lines import Line2D

    if series < 0:
        fig.add_artist(
            Line2D([x, x + 0.2 / width], [y, y], color=look.ink["muted"], linewidth=1.5, linestyle=(0, (5, 2)))
        )
        return
    colour, marker = look.series(series)
    places = [x, x + 0.1 / width, x + 0.2 / width]
    fig.add_artist(
        Line2D(
            places,
            [y] * 3,
            color=colour,
            linewidth=2.2 if series == 0 else 1.6,
            marker=marker,
            markersize=4.5,
            markevery=[1],
        )
    )


def _spread(wanted: list[float], apart: float, low: float, high: float) -> list[float]:
    """Places in rising order, each at least `apart` from the next, near where they are wanted, between low and high where there is room."""
    placed: list[float] = []
    for y in wanted:
        placed.append(max(y, placed[-1] + apart) if placed else max(y, low))
    above = high
    for k in range(len(placed) - 1, -1, -1):
        placed[k] = min(placed[k], above)
        above = placed[k] - apart
    return placed


def _short(value: float) -> str:
    return f"{value:.3g}".replace("-", "−")

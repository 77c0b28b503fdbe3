"""An axis from 0 that stays readable whatever the largest number is: linear, or each step doubling."""

import math
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ._look import Look

LINEAR = 5.0
"""A largest ratio up to which its axis is linear; beyond, each step doubles, or all others would stand at the edge."""


def from_zero(ax: Any, largest: float, label: str, look: Look, axis: Literal["x", "y"] = "x") -> None:
    """The axis of ratios from 0 to the largest."""
    from matplotlib.ticker import MaxNLocator

    if largest <= LINEAR:
        ax.set(**{f"{axis}lim": (0, largest * 1.04)})
        getattr(ax, f"{axis}axis").set_major_locator(MaxNLocator(nbins=5 if look.narrow else 9, steps=[1, 2, 5, 10]))
        getattr(ax, f"set_{axis}label")(label, color=look.ink["text"])
        return
    doubled(ax, [0, 0.5, *(2.0**k for k in range(math.ceil(math.log2(largest)) + 1))], largest, label, look, axis)


def doubled(ax: Any, ticks: list[float], largest: float, label: str, look: Look, axis: Literal["x", "y"] = "x") -> None:
    """An axis whose steps double, with so many of its ticks labelled as there is room for."""
    getattr(ax, f"set_{axis}scale")("function", functions=(_doubling, _undoubled))
    most = 5 if look.narrow else 13
    labelled = [0, *ticks[1 :: math.ceil(len(ticks) / most)]]
    getattr(ax, f"set_{axis}ticks")(ticks, [_written(t) if t in labelled else "" for t in ticks])
    ax.set(**{f"{axis}lim": (0, largest * 1.04)})
    words = f"{label} (steps double)" if look.narrow or axis == "y" else f"{label} (each step doubles)"
    getattr(ax, f"set_{axis}label")(words, color=look.ink["text"])


def _written(tick: float) -> str:
    return f"{tick:,.0f}" if tick >= 1 else f"{tick:g}"


def _doubling(x: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.log2(1 + np.maximum(x, 0))


def _undoubled(place: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.exp2(place) - 1

"""Activations of a grid of samples × transformations, streamed into a tally, and what float64 says of the full tensor."""

from typing import Any

import numpy as np

from layerscope._site import Activations, Axes, Samples, Site
from layerscope.tallies import AbstractTally

SITE = Site("layer")


def activations(samples: int, T: int, *shape: int, seed: int = 0) -> np.ndarray:
    """(samples, T, …) float32: some units invariant, some moving with the transformation, none dead."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(samples, 1, *shape)) + rng.random(shape) * rng.normal(size=(samples, T, *shape))
    return (x + 0.3 * rng.normal(size=(1, T, *shape)) + 1).astype(np.float32)


def stream(
    tally: AbstractTally[Any],
    x: np.ndarray,
    *,
    cuts: int = 3,
    unit: int = 1,
    grid: Any = None,
    labels: Any = None,
    ids: Any = None,
    value: Any = None,
) -> Any:
    """`x` (samples, T, …) in batches of whole rows."""
    value = tally.init(SITE) if value is None else value
    for part in np.array_split(np.arange(len(x)), cuts):
        flat = x[part].reshape(-1, *x.shape[2:])
        a = Activations(flat, Axes(unit), np, host=flat, grid=grid)
        names = (part if ids is None else ids[part]).astype(np.int64)
        value = tally.observe(
            value, a, Samples(names, None if labels is None else labels[part], transformations=x.shape[1])
        )
    return value


def spreads(x: np.ndarray, flavour: str, ddof: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Spread over transformations and over samples of every element, from the full tensor in float64."""
    exact = x.astype(np.float64)
    one = np.ndarray.std if flavour == "std" else np.ndarray.var
    return one(exact, axis=1, ddof=ddof).mean(0), one(exact, axis=0, ddof=ddof).mean(0)

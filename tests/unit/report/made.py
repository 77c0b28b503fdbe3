"""Results made of NumPy arrays, so that the report can be tested without a framework."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from layerscope import Axes, Results, Site
from layerscope._choices import default_measures
from layerscope._results import Task, Values
from layerscope._site import Activations, Chunk, Samples
from layerscope.inventory import Layer, Layers, Role
from layerscope.measures import AbstractMeasure
from layerscope.tallies import StateTable

EVIL = "<script>alert(1)</script>$x_1$&\"' onload=y"
MANIFEST: dict[str, Any] = {
    "layerscope": "0.1.0", "framework": "torch", "framework_version": "2.13", "model": "Net", "parameters": 1234, "dtype": "float32",
    "device": "cpu", "batch_size": 128, "mode": "evaluation", "samples": 400, "seconds": 1.25, "data": ["inputs: item[0]"],
}  # fmt: skip


def layer(name: str, units: int, positions: int = 1, **fields: Any) -> Layer:
    kept = {"kind": "ReLU", "role": Role.NONLINEARITY, "dtype": "float32", **fields}
    return Layer(Site(name), shape=(2, positions, units), axes=Axes(-1), **kept)


def counts(name: str, values: NDArray[Any], mask: NDArray[np.bool_] | None = None) -> Any:
    """The state counts of values (samples, positions, units)."""
    tally, values = StateTable(), values.astype(np.float32)
    samples = Samples(np.arange(len(values)), mask=mask)
    chunk = Chunk(tally.read(Activations.of(values)), samples, values.shape[1:2], values.shape[2], 0.0, len(values))
    return tally.add(tally.init(Site(name)), chunk)


def results_of(
    values: Mapping[str, NDArray[Any]],
    *,
    untrained: Mapping[str, NDArray[Any]] | None = None,
    left_out: Mapping[str, str] | None = None,
    unreached: Sequence[str] = (),
    mask: NDArray[np.bool_] | None = None,
    task: Task | None = None,
    measures: Sequence[AbstractMeasure[Any]] | None = None,
    manifest: Mapping[str, Any] | None = None,
    **fields: Any,
) -> Results:
    """Results of sites whose values (samples, positions, units) are given; units fire above 0."""
    layers = [layer(name, v.shape[2], v.shape[1], **fields) for name, v in values.items()]
    layers += [layer(name, 3) for name in unreached]
    layers += [layer(name, 3, left_out=why) for name, why in (left_out or {}).items()]
    seen: Values = {Site(name): {StateTable(): counts(name, v, mask)} for name, v in values.items()}
    references = {} if untrained is None else {"untrained": results_of(untrained)}
    task = Task(380.0, 400, "accuracy", "") if task is None else task
    asked = default_measures() if measures is None else measures
    return Results(Layers(layers), seen, asked, {**MANIFEST, **(manifest or {})}, task, references)


def narrow(samples: int = 400, units: int = 3, positions: int = 4, seed: int = 0) -> NDArray[np.float64]:
    """Few patterns, seen often: measured."""
    return np.random.default_rng(seed).normal(size=(samples, positions, units))


def halfway(samples: int = 200, units: int = 12, positions: int = 4, seed: int = 0) -> NDArray[np.float64]:
    """Units that fire together, half of their patterns seen: extrapolated."""
    rng = np.random.default_rng(seed)
    return (
        rng.normal(size=(samples, positions, units))
        + rng.normal(size=(samples, positions, 1))
        + np.linspace(-1, 1, units)
    )


def wide(samples: int = 400, units: int = 60, positions: int = 1, seed: int = 1) -> NDArray[np.float64]:
    """Every pattern is new: undersampled."""
    return np.random.default_rng(seed).normal(size=(samples, positions, units))


def usual(**more: Any) -> Results:
    """A measured and an undersampled layer, with one site left out."""
    values = {"conv_1": narrow(), "conv_2": wide()}
    return results_of(values, left_out={"norm": "normalisation: no unit of its own fires"}, **more)

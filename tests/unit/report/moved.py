"""Results of made-up layers that move with transformations by a known ratio, without a framework."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from layerscope import Axes, Results, Site
from layerscope._results import Task, Values
from layerscope._site import Activations, Chunk, Samples
from layerscope.inventory import Layer, Layers, Role
from layerscope.measures import AbstractMeasure, NormalizedVariance, SampleVariance, TransformationVariance
from layerscope.tallies import GridMoments
from tests.unit.report.made import MANIFEST, layer

INPUT = "the input"
"""Under this name values become those of the model's own input."""


def moving(
    ratio: float, samples: int = 60, T: int = 4, maps: int = 3, positions: int = 2, seed: int = 0
) -> NDArray[np.float64]:
    """Values (samples, T, positions, maps) that move `ratio` times as far with the transformation as from sample to sample."""
    rng = np.random.default_rng(seed)
    by_sample = rng.normal(size=(samples, 1, positions, maps))
    by_turn = rng.normal(size=(1, T, positions, maps))
    for part, axis in ((by_sample, 0), (by_turn, 1)):
        part -= part.mean(axis, keepdims=True)
        part /= part.std(axis, ddof=1, keepdims=True)
    return by_sample + ratio * by_turn + 3.0


def grid(site: Site, values: NDArray[Any], tally: GridMoments) -> Any:
    samples, T, *rest = values.shape
    activations = Activations.of(values.reshape(samples * T, *rest).astype(np.float32))
    whose = Samples(np.arange(samples), transformations=T)
    return tally.add(tally.init(site), Chunk.of(tally.read(activations), activations, whose))


def moved_of(
    values: Mapping[str, NDArray[Any]],
    *,
    references: Mapping[str, Mapping[str, NDArray[Any]]] | None = None,
    unreached: Sequence[str] = (),
    left_out: Mapping[str, str] | None = None,
    accuracy: Sequence[float] = (0.9, 0.4, 0.2, 0.4),
    names: Sequence[str] = ("rotate 0°", "rotate 90°", "rotate 180°", "rotate 270°"),
    measures: Sequence[AbstractMeasure[Any]] = (NormalizedVariance(), TransformationVariance(), SampleVariance()),
    manifest: Mapping[str, Any] | None = None,
    **fields: Any,
) -> Results:
    """Results of sites whose values (samples, T, positions, maps) are given; an accuracy for each transformation."""
    tally = GridMoments()
    sites = {name: Site("", port="in") if name == INPUT else Site(name) for name in values}
    layers: list[Layer] = []
    for name, v in values.items():
        shape = (v.shape[1], *v.shape[2:])
        kind = {"kind": "input", "role": Role.OTHER, "note": "what the model is given"} if name == INPUT else fields
        kept: dict[str, Any] = {"kind": "Conv2d", "role": Role.NONLINEARITY, "dtype": "float32", **kind}
        layers.append(Layer(sites[name], shape=shape, axes=Axes(-1), **kept))
    layers += [layer(name, 3) for name in unreached]
    layers += [layer(name, 3, left_out=why) for name, why in (left_out or {}).items()]
    seen: Values = {sites[name]: {tally: grid(sites[name], v, tally)} for name, v in values.items()}
    N = max((len(v) for v in values.values()), default=0)
    scored = Task(N * sum(accuracy), N * len(accuracy), "accuracy", "", tuple(N * share for share in accuracy))
    task = scored if accuracy else Task(note="the data has no labels")
    made = {**MANIFEST, "samples": N, "transformations": list(names), "untransformed": 0, **(manifest or {})}
    others = {name: moved_of(v, accuracy=accuracy, names=names) for name, v in (references or {}).items()}
    return Results(Layers(layers), seen, measures, made, task, others)


def turned(**more: Any) -> Results:
    """An input and three layers of which the last hardly moves."""
    ratios = {INPUT: 1.4, "conv_1": 1.4, "conv_2": 1.3, "fc": 0.25}
    return moved_of(
        {name: moving(ratio, maps=1 if name == INPUT else 6, seed=k) for k, (name, ratio) in enumerate(ratios.items())},
        **more,
    )

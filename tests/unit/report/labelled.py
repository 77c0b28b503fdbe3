"""Results whose states were counted by label, without a framework."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from layerscope import Results, Site
from layerscope._site import Activations, Chunk, Samples
from layerscope.measures import Entropy, Information
from layerscope.tallies import StateTable
from tests.unit.report.made import results_of

CLASSES = 4
BY_LABEL = StateTable(strata="label")


def telling(share: float, samples: int = 400, seed: int = 0) -> NDArray[np.float64]:
    """Two units whose states are the label of the sample (its number modulo four) in so many of the samples, else anything."""
    rng = np.random.default_rng(seed)
    label = np.where(rng.random(samples) < share, np.arange(samples) % CLASSES, rng.integers(0, CLASSES, samples))
    return np.stack([label % 2, label // 2], axis=1)[:, None, :] - 0.5


def labelled(values: Mapping[str, NDArray[Any]], **more: Any) -> Results:
    """Results whose states were counted by label; labels are the samples' numbers modulo four."""
    results = results_of(values, measures=[Entropy(), Entropy(estimator="c2"), Information()], **more)
    for name, v in values.items():
        a, samples = Activations.of(v.astype(np.float32)), Samples(np.arange(len(v)), np.arange(len(v)) % CLASSES)
        value = BY_LABEL.add(BY_LABEL.init(Site(name)), Chunk.of(BY_LABEL.read(a), a, samples))
        results.values_by_site[Site(name)] = {BY_LABEL: value}
    return results

"""The rules by which two published libraries sum up a grid of activations, from one tally of each layer.

The rules are those of `spec/invariance.md`, "Library-compatible results": of transformational_measures_tf 0.72a, which takes variances and
gives a total, layers and units; and of tmeasures 1.2, which takes deviations, and 0 / 0 for 1 and x / 0 for infinite.  The activations below
are small whole numbers, so every wanted number can be worked out by hand.
"""

from typing import Any

import numpy as np
import pytest

from layerscope import measures as ms
from layerscope._reading import Reading
from layerscope._site import Site
from layerscope.tallies import GridMoments
from tests.unit.measures.grids import stream

# (samples 3, transformations 2, units): a dense layer of three units and a map of 1 x 2 values
DENSE = np.array([
    [[0, 0, 1], [2, 0, 1]],
    [[2, 4, 1], [4, 4, 3]],
    [[4, 8, 1], [6, 8, 5]],
], np.float32)  # fmt: skip
MAP = np.array([[[[0, 1]], [[0, 3]]], [[[3, 1]], [[3, 3]]], [[[6, 1]], [[6, 3]]]], np.float32)
# variances over two transformations, mean over samples; variances over three samples, mean over transformations
V = {"dense": [2, 0, (0 + 2 + 8) / 3], "map": [0, 2]}
W = {"dense": [4, 16, (0 + 4) / 2], "map": [9, 0]}
LAYERS = {"dense": DENSE, "map": MAP}
VALUES = {name: stream(GridMoments(), x) for name, x in LAYERS.items()}


def readings(measure: Any, *layers: str) -> dict[Site, Reading]:
    return {Site(name): measure.compute(VALUES[name]) for name in layers}


def test_variance_is_total_layers_units() -> None:
    """V_l = mean of v_l over units; total = mean of V_l over layers."""
    units = readings(ms.TransformationVariance("variance", "element"), *LAYERS)
    for name in LAYERS:
        np.testing.assert_allclose(units[Site(name)].value, V[name], rtol=1e-12)
    layers = ms.TransformationVariance("variance")
    V_l = [np.mean(V[name]) for name in LAYERS]
    assert [float(r) for r in readings(layers, *LAYERS).values()] == pytest.approx(V_l)
    assert float(ms.Total(layers).compute(readings(layers, *LAYERS))) == pytest.approx(np.mean(V_l))


def test_normalized_variance_is_a_ratio_at_every_level() -> None:
    """Units v / w, layers V_l / W_l, total (mean V_l) / (mean W_l): never a mean of ratios."""
    units = ms.NormalizedVariance("variance", "element").compute(VALUES["dense"])
    np.testing.assert_allclose(units.value, [1 / 2, 0, 10 / 3 / 2], rtol=1e-12)
    ratio = ms.NormalizedVariance("variance", aggregate="ratio of means")
    found = readings(ratio, *LAYERS)
    V_l, W_l = ([np.mean(spread[name]) for name in LAYERS] for spread in (V, W))
    assert [float(r) for r in found.values()] == pytest.approx(np.divide(V_l, W_l))
    total = float(ms.Total(ratio, "ratio of totals").compute(found))
    assert total == pytest.approx(np.mean(V_l) / np.mean(W_l))
    assert total == pytest.approx((16 / 9 + 1) / (22 / 3 + 4.5))
    assert abs(total - float(ms.Total(ratio).compute(found))) > 1e-3


def test_feature_variances_are_of_feature_layers() -> None:
    """FV: v averaged over the space of every map; a layer's is their mean, the total that of the feature layers; normalized: FV / FW by map."""
    maps = ms.FeaturesVariance("variance", "map").compute(VALUES["map"])
    np.testing.assert_allclose(maps.value, [1.0], rtol=1e-12)
    ratio = ms.NormalizedFeaturesVariance("variance", "map").compute(VALUES["map"])
    np.testing.assert_allclose(ratio.value, [1.0 / 4.5], rtol=1e-12)
    layer = ms.NormalizedFeaturesVariance("variance")
    assert float(ms.Total(layer, "ratio of totals").compute(readings(layer, "map"))) == pytest.approx(1 / 4.5)


def test_tmeasures_takes_deviations_and_its_own_side_of_zero() -> None:
    """Units mean_i std_j / mean_j std_i; the unit of the map that moves with the transformation alone is infinite, a dead one 1."""
    roots = np.sqrt([0, 2, 8]).mean()
    units = ms.NormalizedVariance("std", "element", undefined="inf").compute(VALUES["dense"])
    np.testing.assert_allclose(units.value, [np.sqrt(2) / 2, 0, roots / (np.sqrt(4) / 2)], rtol=1e-7)
    of_map = ms.NormalizedVariance("std", "element", undefined="inf").compute(VALUES["map"])
    np.testing.assert_allclose(of_map.value, [0, np.inf])
    dead = stream(GridMoments(), np.zeros((3, 2, 4), np.float32))
    assert float(ms.NormalizedVariance(undefined="inf").compute(dead)) == 1
    assert np.isnan(float(ms.NormalizedVariance().compute(dead)))


def test_neither_rule_gives_the_reciprocal_at_the_second_call() -> None:
    measure = ms.NormalizedVariance("variance", aggregate="ratio of means")
    calls = [float(measure.compute(VALUES["dense"])) for _ in range(3)]
    assert calls == [calls[0]] * 3
    assert calls[0] == pytest.approx(16 / 66)

"""What went wrong in the original library for transformational measures, one test each, which its code would have failed.

The faults are those of `docs/compat-transformational-measures.md`. Run once under each KERAS_BACKEND.
"""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import layerscope.compat.transformational_measures as tm
from tests.conftest import require

keras = require("keras")
require("sklearn")
layers = keras.layers
pytestmark = [
    pytest.mark.keras,
    pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning"),
]
SIDE = 16
NORMALIZED = (tm.NormalizedVariance, tm.NormalizedFeaturesVariance, tm.NormalizedSameEquivariance)


def digits(group: int = 1, n: int = 4, **more: Any) -> tm.DigitsTransformationsDataSet:
    dataset = tm.DigitsTransformationsDataSet(SIDE, samples=20, **more)
    dataset.set_transformation_group(group, n)
    return dataset


def iterator(net: Any, dataset: tm.DataSet) -> tm.Iterator:
    return tm.Iterator(tm.Model(model_keras=net), dataset)


def convolutions() -> Any:
    keras.utils.set_random_seed(0)
    return keras.Sequential(
        [
            keras.Input((SIDE, SIDE, 1)),
            layers.Conv2D(4, 3, padding="same", activation="relu", name="conv"),
            layers.AveragePooling2D(2, name="pool"),
            layers.Flatten(name="flatten"),
            layers.Dense(10, name="dense"),
        ]
    )


# ---- 1: normalized measures left the data set transposed


@pytest.mark.parametrize("kind", NORMALIZED)
def test_a_second_call_gives_the_same_and_no_reciprocal(kind: type) -> None:
    dataset = digits()
    metric = kind(iterator(convolutions(), dataset))
    first = metric.compute()
    assert not dataset.is_transpose()
    second = metric.compute()
    assert (first[0], first.total, first.notes) == (second[0], second.total, second.notes)
    for one, two in zip(first[1], second[1], strict=True):
        np.testing.assert_array_equal(one, two)
    assert not np.allclose(first[0], np.reciprocal(first[0]), rtol=0.05)  # so that a reciprocal would be seen


def test_one_measure_does_not_disturb_the_next() -> None:
    over = iterator(convolutions(), digits())
    alone = tm.Variance(over).compute()
    tm.NormalizedVariance(over).compute()
    assert tm.Variance(over).compute()[0] == alone[0]


class Broken(tm.DigitsTransformationsDataSet):
    """Breaks in the middle of the data."""

    def get_matrix(self, rows: Any, columns: Any) -> Any:
        if 15 in rows or 15 in columns:
            raise RuntimeError("the disk is gone")
        return tm.DigitsTransformationsDataSet.get_matrix(self, rows, columns)


@pytest.mark.parametrize("kind", NORMALIZED)
def test_an_error_on_the_way_leaves_the_data_set_as_it_was(kind: type) -> None:
    dataset = Broken(SIDE, samples=20)
    dataset.set_transformation_group(1, 4)
    with pytest.raises(RuntimeError, match="the disk is gone"):
        kind(iterator(convolutions(), dataset)).compute(2, 4)
    assert not dataset.is_transpose()


def test_the_analyzer_reports_no_reciprocals() -> None:
    net, dataset = convolutions(), digits()
    over = iterator(net, dataset)
    found = tm.Analyzer(over.get_model(), dataset, over, metrics=[tm.NormalizedVariance]).run(3)
    for group in range(7):
        dataset.set_transformation_group(group, 3)
        alone = tm.NormalizedVariance(over).compute().total
        assert found.totals["NormalizedVariance"][group] == pytest.approx(alone, rel=1e-9)


class Counting(tm.DigitsTransformationsDataSet):
    """Counts the inputs that are asked for."""

    asked = 0

    def get_matrix(self, rows: Any, columns: Any) -> Any:
        self.asked += len(rows) * len(columns)
        return tm.DigitsTransformationsDataSet.get_matrix(self, rows, columns)


@pytest.mark.parametrize("kind", NORMALIZED)
def test_every_input_goes_through_the_network_once(kind: type) -> None:
    dataset = Counting(SIDE, samples=200)
    dataset.set_transformation_group(1, 4)
    metric = kind(iterator(convolutions(), dataset))
    metric.compute()
    assert 200 * 4 <= dataset.asked < 200 * 4 * 1.5  # and a few in front, which show what the model has


# ---- 2: same-equivariance mapped the layer index twice, and its inverse negated every parameter


def test_same_equivariance_counts_layers_once() -> None:
    """A layer without features comes first; the one with features behind it is the convolution, and gives the convolution's numbers."""
    conv = layers.Conv2D(4, 3, padding="same", name="conv")
    net = keras.Sequential(
        [
            keras.Input((SIDE, SIDE, 1)),
            layers.Flatten(),
            layers.Dense(30),
            layers.Dense(SIDE * SIDE),
            layers.Reshape((SIDE, SIDE, 1)),
            conv,
        ]
    )
    metric = tm.SameEquivariance(iterator(net, digits()))
    found = metric.compute()
    assert metric.iterator.get_model().get_model_structure().map_layers_features == [3, 4]
    assert len(found[0]) == len(metric.names) == 2
    assert [len(values) for values in found[1]] == [1, 4]
    matrix = digits().get_matrix(range(20), range(4))
    maps = np.asarray(keras.ops.convert_to_numpy(net(matrix.reshape(-1, SIDE, SIDE, 1))), np.float64)
    maps = maps.reshape(20, 4, SIDE, SIDE, 4)
    back = np.stack([np.rot90(maps[:, k], -k, axes=(1, 2)) for k in range(4)], axis=1)
    np.testing.assert_allclose(found[1][1], back.var(1, ddof=1).mean(axis=(0, 1, 2)), rtol=1e-4)


def test_the_inverse_of_a_rotation_and_shift_undoes_the_shift_first() -> None:
    """A bright pixel, turned by 90° and shifted by 4 pixels, comes back to its place; with both parameters negated it does not."""
    dataset = digits(group=5)
    image = np.zeros((SIDE, SIDE, 1), np.float32)
    image[6, 3] = 1
    there = dataset.transformations[1].apply(image[None], dataset.transformations.frame_of(image[None]))[0]
    wanted = np.zeros_like(image)
    wanted[:, 4:] = np.rot90(image)[:, :-4]
    np.testing.assert_allclose(there, wanted, atol=1e-6)
    assert there.sum() == pytest.approx(1)
    np.testing.assert_allclose(dataset.apply_inverse_transformation(there, 1), image, atol=1e-6)
    from layerscope.transformations import Frame, rotate, translate

    negated = rotate(-90).followed_by(translate(fraction=(-1 / 4, 0))).apply(there[None], Frame(1, 2, SIDE, SIDE))[0]
    assert np.abs(negated - image).max() > 0.5


# ---- 3: shifts were not scaled to pooled maps; normalised images went back into whole numbers


def test_a_pooled_map_moves_by_as_many_pixels_fewer() -> None:
    """Shifts of 4 pixels are 2 after pooling by 2: taken back so, averages of pixels are where they were."""
    net = keras.Sequential(
        [
            keras.Input((SIDE, SIDE, 1)),
            layers.AveragePooling2D(2, name="half"),
            layers.AveragePooling2D(2, name="quarter"),
        ]
    )
    found = tm.SameEquivariance(iterator(net, digits(group=2))).compute()
    np.testing.assert_allclose(found[0], 0, atol=1e-12)
    assert min(tm.Variance(iterator(net, digits(group=2))).compute()[0]) > 1e-3


def test_images_between_0_and_1_stay_fractions() -> None:
    matrix = digits(n=8).get_matrix(range(20), range(8))
    assert matrix.dtype == np.float32
    assert 0 < np.mean((matrix > 0.01) & (matrix < 0.99))
    assert len(np.unique(matrix[:, 1])) > 100


# ---- 5: one dead feature map made a layer NaN, or was dropped in silence


def with_dead_maps(dead: int) -> Any:
    keras.utils.set_random_seed(0)
    net = keras.Sequential([keras.Input((SIDE, SIDE, 1)), layers.Conv2D(4, 3, activation="relu", name="conv")])
    kernel, bias = net.layers[0].get_weights()
    kernel, bias = np.abs(kernel), bias + 0.1  # the others are sure to fire
    bias[:dead] = -100
    net.layers[0].set_weights([kernel, bias])
    return net


@pytest.mark.parametrize(
    ("kind", "note"), [(tm.NormalizedVariance, "196 dead of 784"), (tm.NormalizedFeaturesVariance, "1 dead of 4")]
)
def test_a_dead_map_is_counted_and_spoils_no_layer(kind: type, note: str) -> None:
    metric = kind(iterator(with_dead_maps(1), digits()))
    metric.compute()
    assert np.isfinite(metric.variance_layers[0])
    assert np.isfinite(metric.total)
    per_map = np.isnan(metric.variance_layers_activations[0]).reshape(-1, 4)
    assert per_map[:, 0].all()
    assert not per_map[:, 1:].all(axis=0).any()
    assert note in metric.notes[0]


def test_a_dead_layer_is_no_number_and_says_so() -> None:
    metric = tm.NormalizedFeaturesVariance(iterator(with_dead_maps(4), digits()))
    metric.compute()
    assert np.isnan(metric.variance_layers[0])
    assert metric.notes == ("4 dead of 4",)


# ---- what else its documentation shows


def test_groups_are_those_of_the_page() -> None:
    """The page speaks of eight groups and lists seven; in the original some were swapped."""
    turned, x, y = (digits(group, 4).get_matrix([0], [1])[0, 0, ..., 0] for group in (1, 2, 3))
    image = digits(0, 2).get_matrix([0], [1])[0, 0, ..., 0]
    np.testing.assert_allclose(turned, np.rot90(image), atol=1e-6)
    np.testing.assert_allclose(x[:, 4:], image[:, :-4], atol=1e-6)
    np.testing.assert_allclose(y[4:], image[:-4], atol=1e-6)
    assert not x[:, :4].any()  # nothing wraps around
    assert not y[:4].any()


def test_the_usage_of_the_page_runs() -> None:
    """Its lines, with its names of arguments; one has a missing colon and prints a sum of text and number, which no Python runs."""
    model_keras = convolutions()
    model = tm.Model(model_keras=model_keras)
    dataset = digits()
    input = dataset.get_matrix([0, 1], [0, 1, 2])
    output = model.predict(input)
    i, j, l = 1, 2, 0  # noqa: E741 - its names
    assert str(output[(i, j, l)])
    iterator = tm.Iterator(model, dataset)
    height = 3
    width = 3
    seen = 0
    for height, blocks in iterator.get_block(height, width):  # noqa: B020 - its lines
        for width, _ in blocks:
            seen += height * width
    assert seen == 20 * 4
    variance = tm.Variance(iterator)
    variance_layers, variance_layers_activations = variance.compute(3, 3)
    assert variance.variance_layers is variance_layers
    assert (
        len(variance_layers)
        == len(variance_layers_activations)
        == iterator.get_model().get_model_structure().number_layers
    )


def test_every_documented_name_is_there() -> None:
    names = (
        "Model DataSet TransformationsDataSet Iterator ModelStructure LayerStructure Block MnistDataSet MnistTransformationsDataSet Analyzer "
        "Graphs Variance NormalizedVariance FeaturesVariance NormalizedFeaturesVariance SameEquivariance NormalizedSameEquivariance"
    ).split()
    assert all(isinstance(getattr(tm, name), type) for name in names)


PAGE = Path(__file__).resolve().parents[2] / "docs" / "compat-transformational-measures.md"


def test_every_mended_fault_of_our_page_has_its_test() -> None:
    named = re.findall(r"`(test_\w+)`", PAGE.read_text(encoding="utf-8"))
    rows = [line for line in PAGE.read_text(encoding="utf-8").splitlines() if line.startswith("|") and "test_" in line]
    assert len(rows) == 10
    assert len(named) == len(set(named)) >= len(rows)
    assert [name for name in named if name not in globals()] == []


def test_the_code_of_our_page_runs(capsys: pytest.CaptureFixture[str]) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    exec(compile(code, PAGE.name, "exec"), {})
    layers, shapes = capsys.readouterr().out.splitlines()
    assert layers.startswith("{'conv': ")
    assert f"# {shapes}" in code


def test_the_example_runs() -> None:
    example = Path(__file__).resolve().parents[2] / "examples" / "transformational_measures_keras.py"
    done = subprocess.run([sys.executable, str(example)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "n = 7 groups" in done.stdout
    assert len(example.read_text(encoding="utf-8").splitlines()) < 60

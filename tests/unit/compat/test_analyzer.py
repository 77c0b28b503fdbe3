"""A measure against accuracy, group by group, and the pictures. Run once under each KERAS_BACKEND."""

import math
from typing import Any

import numpy as np
import pytest

import layerscope.compat.transformational_measures as tm
from layerscope._errors import DataError
from layerscope.compat.transformational_measures._analyzer import correlation
from tests.conftest import require

keras = require("keras")
require("sklearn")
stats = require("scipy.stats")
layers = keras.layers
pytestmark = [
    pytest.mark.keras,
    pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning"),
]


@pytest.fixture(scope="module")
def net() -> Any:
    keras.utils.set_random_seed(0)
    return keras.Sequential(
        [
            keras.Input((12, 12, 1)),
            layers.Conv2D(4, 3, activation="relu", name="conv"),
            layers.Flatten(name="flatten"),
            layers.Dense(10, name="dense"),
        ]
    )


def digits() -> tm.DigitsTransformationsDataSet:
    dataset = tm.DigitsTransformationsDataSet(12, samples=30)
    dataset.set_transformation_group(1, 3)
    return dataset


@pytest.fixture(scope="module")
def analysis(net: Any) -> tm.Analysis:
    dataset, model = digits(), tm.Model(model_keras=net)
    return tm.Analyzer(model, dataset, tm.Iterator(model, dataset)).run(4)


def test_every_group_has_its_measure_and_its_accuracy(net: Any, analysis: tm.Analysis) -> None:
    assert analysis.groups == digits().groups
    assert (analysis.inputs, analysis.columns) == (30 * 4, 4)
    dataset = digits()
    for group in range(7):
        dataset.set_transformation_group(group, 4)
        for name, kind in (("Variance", tm.Variance), ("NormalizedVariance", tm.NormalizedVariance)):
            alone = kind(tm.Iterator(tm.Model(model_keras=net), dataset)).compute()
            assert analysis.totals[name][group] == pytest.approx(alone.total, rel=1e-9)
        matrix = dataset.get_matrix(range(30), range(4))
        output = np.asarray(keras.ops.convert_to_numpy(net(matrix.reshape(-1, 12, 12, 1))))
        right = output.argmax(1).reshape(30, 4) == np.asarray(dataset.get_labels())[:, None]
        assert analysis.accuracy[group] == pytest.approx(right.mean())


def test_n_stands_beside_every_correlation(net: Any, analysis: tm.Analysis, capsys: pytest.CaptureFixture[str]) -> None:
    found = analysis.correlation("NormalizedVariance")
    wanted = stats.pearsonr(analysis.totals["NormalizedVariance"], analysis.accuracy)
    low, high = wanted.confidence_interval()
    assert (found.r, found.low, found.high) == pytest.approx((wanted.statistic, low, high))
    x, y = (np.array(of) for of in (analysis.totals["NormalizedVariance"], analysis.accuracy))
    others = [stats.pearsonr(np.delete(x, k), np.delete(y, k)).statistic for k in range(7)]
    assert found.without == pytest.approx((min(others), max(others)))
    assert f"n = 7 groups; {min(others):.2f} to {max(others):.2f} without one of them" in str(found)
    dataset, model = digits(), tm.Model(model_keras=net)
    tm.Analyzer(model, dataset, tm.Iterator(model, dataset), metrics=[tm.Variance]).run(2)
    printed = capsys.readouterr().out
    assert "60 inputs a group, 2 transformations each" in printed
    assert printed.count("n = 7 groups") == 1


def test_the_data_set_is_left_as_it_was(net: Any) -> None:
    dataset, model = digits(), tm.Model(model_keras=net)
    dataset.transpose()
    before = dataset.transformations
    tm.Analyzer(model, dataset, tm.Iterator(model, dataset), metrics=[tm.Variance]).run(2)
    assert dataset.transformations is before
    assert dataset.is_transpose()


@pytest.mark.parametrize(
    ("x", "y", "r", "low", "n"),
    [
        ((1.0, 2.0), (1.0, 2.0), math.nan, math.nan, 2),
        ((1.0, 1.0, 1.0), (1.0, 2.0, 3.0), math.nan, math.nan, 3),
        ((1.0, 2.0, 3.0), (1.0, 2.0, 3.0), 1.0, math.nan, 3),
        ((1.0, 2.0, 3.0, math.nan), (3.0, 2.0, 1.0, 0.0), -1.0, math.nan, 3),
        ((), (), math.nan, math.nan, 0),
        ((0.1 + 0.2, 0.3, 0.3, 0.3), (1.0, 2.0, 3.0, 4.0), math.nan, math.nan, 4),
    ],
)
def test_too_few_groups_have_no_interval(x: Any, y: Any, r: float, low: float, n: int) -> None:
    found = correlation(x, y)
    np.testing.assert_allclose((found.r, found.low, found.n), (r, low, n), rtol=1e-12)


class Unlabelled(tm.DigitsTransformationsDataSet):
    def get_labels(self) -> Any:
        return None


def test_what_cannot_be_analysed_says_so(net: Any) -> None:
    dataset, model = digits(), tm.Model(model_keras=net)
    iterator = tm.Iterator(model, dataset)
    with pytest.raises(DataError, match="another model or data set"):
        tm.Analyzer(model, digits(), iterator)
    without = Unlabelled(12, samples=30)
    with pytest.raises(DataError, match=r"Define get_labels\(\)"):
        tm.Analyzer(model, without, tm.Iterator(model, without))
    part = tm.Model(model_keras=keras.Model(net.inputs, net.get_layer("conv").output))
    with pytest.raises(DataError, match="there is no accuracy: accuracy needs outputs"):
        tm.Analyzer(part, dataset, tm.Iterator(part, dataset)).run(2)


def test_a_plain_matrix_has_no_groups(net: Any) -> None:
    class Plain(tm.DataSet):
        def get_data_shape(self) -> Any: ...
        def get_width(self) -> Any: ...
        def get_height(self) -> Any: ...
        def get_matrix(self, rows: Any, columns: Any) -> Any: ...
        def transpose(self) -> None: ...
        def is_transpose(self) -> Any: ...

    model, dataset = tm.Model(model_keras=net), Plain()
    with pytest.raises(DataError, match="Plain has no groups of transformations"):
        tm.Analyzer(model, dataset, tm.Iterator(model, dataset))  # pyright: ignore[reportArgumentType] - the mistake under test


# ---- pictures


def test_layers_are_drawn_with_their_numbers(net: Any) -> None:
    iterator = tm.Iterator(tm.Model(model_keras=net), digits())
    variance, features = tm.NormalizedVariance(iterator), tm.NormalizedFeaturesVariance(iterator)
    variance.compute()
    features.compute()
    axes = tm.Graphs().layers({"activations": variance, "features": features}).axes[0]
    first, second = axes.lines
    np.testing.assert_array_equal(first.get_xdata(), variance.variance_layers)
    assert [list(line.get_ydata()) for line in (first, second)] == [[0, 1, 2], [0]]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["conv", "flatten", "dense"]
    with pytest.raises(DataError, match="nothing to draw"):
        tm.Graphs().layers({})


def test_activations_are_drawn_in_their_places(net: Any) -> None:
    metric = tm.Variance(tm.Iterator(tm.Model(model_keras=net), digits()))
    metric.compute()
    figure = tm.Graphs().activations(metric, 0)
    images = {axes.get_title(): axes.images[0].get_array() for axes in figure.axes if axes.images}
    assert len(images) == 4
    values = metric.variance_layers_activations[0].reshape(10, 10, 4)
    for number in range(4):
        np.testing.assert_array_equal(images[f"map {number}"], values[..., number])
    ranked = tm.Graphs().activations(metric, 2).axes[0]
    assert ranked.get_xlabel() == "10 of 10 have a number"


def test_an_analysis_is_drawn_with_its_groups(analysis: tm.Analysis) -> None:
    axes = tm.Graphs().analysis(analysis, "Variance").axes[0]
    points = [(line.get_xdata()[0], line.get_ydata()[0]) for line in axes.lines]
    np.testing.assert_array_equal(points, list(zip(analysis.totals["Variance"], analysis.accuracy, strict=True)))
    assert "n = 7 groups" in axes.get_title(loc="left")
    with pytest.raises(DataError, match="'Distance' was not analysed"):
        tm.Graphs().analysis(analysis, "Distance")

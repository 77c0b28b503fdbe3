"""The six measures against their definitions in float64, on what plain Keras gives for the same inputs. Run once under each KERAS_BACKEND."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import layerscope as ls
import layerscope.compat.transformational_measures as tm
from layerscope._errors import DataError, EmptyTally, ShapeError, SiteError
from tests.conftest import require

keras = require("keras")
require("sklearn")
ndimage = require("scipy.ndimage")
layers = keras.layers
pytestmark = [
    pytest.mark.keras,
    pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning"),
]
SIDE = 12
PLAIN = (tm.Variance, tm.FeaturesVariance, tm.SameEquivariance)
NORMALIZED = (tm.NormalizedVariance, tm.NormalizedFeaturesVariance, tm.NormalizedSameEquivariance)
TOLERANCE = 1e-4  # of a float32 forward, whose batches are cut otherwise than the oracle's


def network() -> Any:
    """Feature layers behind one without, so that a number in one list is another in the other; the last is a softmax."""
    keras.utils.set_random_seed(0)
    inputs = keras.Input((SIDE, SIDE, 1))
    x = layers.Reshape((SIDE * SIDE,), name="flat")(inputs)
    x = layers.Reshape((SIDE, SIDE, 1), name="image")(x)
    x = layers.Conv2D(5, 3, padding="same", activation="relu", name="conv")(x)
    x = layers.MaxPooling2D(name="pool")(x)
    x = layers.Flatten(name="flatten")(layers.Dropout(0.5, name="dropout")(x))
    return keras.Model(inputs, layers.Dense(10, activation="softmax", name="dense")(x))


NAMES = ["flat", "image", "conv", "pool", "dropout", "flatten", "dense"]
MAPS = [1, 2, 3, 4]


def digits(group: int = 1, n: int = 4, samples: int = 12) -> tm.DigitsTransformationsDataSet:
    dataset = tm.DigitsTransformationsDataSet(SIDE, samples=samples)
    dataset.set_transformation_group(group, n)
    return dataset


# ---- the oracle: full tensors in float64, from the graph's own outputs


def activations(net: Any, matrix: NDArray[Any]) -> list[NDArray[np.float64]]:
    """(rows, columns, …) of every layer, by a model whose outputs they are."""
    every = keras.Model(net.inputs, [net.get_layer(name).output for name in NAMES])
    found = every.predict(matrix.reshape(-1, *matrix.shape[2:]), verbose=0)
    return [np.asarray(a, np.float64).reshape(*matrix.shape[:2], *a.shape[1:]) for a in found]


def oracle(net: Any, dataset: Any, kind: type) -> tuple[list[float], list[NDArray[np.float64]], float]:
    """The documented definitions, word by word."""
    rows, columns = range(dataset.get_height()), range(dataset.get_width())
    matrix = keras.ops.convert_to_numpy(dataset.get_matrix(rows, columns))
    a = activations(net, matrix)
    if kind not in (tm.Variance, tm.NormalizedVariance):
        a = [a[k] for k in MAPS]
    if "SameEquivariance" in kind.__name__:
        a = [taken_back(each) for each in a]
    v, w = [x.var(1, ddof=1).mean(0) for x in a], [x.var(0, ddof=1).mean(0) for x in a]
    if kind not in (tm.Variance, tm.NormalizedVariance):
        v, w = ([x.mean(axis=(0, 1)) for x in of] for of in (v, w))
    V, W = [float(x.mean()) for x in v], [float(x.mean()) for x in w]
    if kind in PLAIN:
        return V, v, float(np.mean(V))
    ratios = [np.divide(x, y, out=np.full(x.shape, np.nan), where=y > 1e-12) for x, y in zip(v, w, strict=True)]
    by_layer = (
        [x / y for x, y in zip(V, W, strict=True)]
        if kind is tm.NormalizedVariance
        else [float(np.nanmean(r)) for r in ratios]
    )
    return by_layer, ratios, float(np.mean(V) / np.mean(W))


def taken_back(a: NDArray[np.float64]) -> NDArray[np.float64]:
    """Quarter turns of square maps, undone by NumPy."""
    return np.stack([np.rot90(a[:, k], -k, axes=(1, 2)) for k in range(a.shape[1])], axis=1)


def check(found: Any, wanted: tuple[list[float], list[NDArray[np.float64]], float]) -> None:
    by_layer, by_activation, total = wanted
    assert issubclass(type(found), tuple)
    assert len(found) == 2
    np.testing.assert_allclose(found[0], by_layer, rtol=TOLERANCE)
    assert found.total == pytest.approx(total, rel=TOLERANCE)
    assert len(found[1]) == len(by_activation)
    for mine, theirs in zip(found[1], by_activation, strict=True):
        assert mine.shape == (theirs.size,)  # "a list with the variance of every activation in the respective layer"
        np.testing.assert_allclose(mine, theirs.reshape(-1), rtol=20 * TOLERANCE, atol=1e-9)


@pytest.mark.parametrize("kind", [*PLAIN, *NORMALIZED])
def test_every_measure_is_its_definition(kind: Any) -> None:
    net, dataset = network(), digits()
    metric = kind(tm.Iterator(tm.Model(model_keras=net), dataset))
    found: Any = metric.compute()
    wanted = oracle(net, dataset, kind)
    check(found, wanted)
    assert (metric.variance_layers, metric.total) == (found[0], found.total)
    assert metric.of_input == pytest.approx(found[0][NAMES.index("image") - (kind.maps and 1)], rel=1e-6)
    assert metric.variance_layers_activations is found[1]
    with pytest.raises(AssertionError):
        check(found, (wanted[0][::-1], *wanted[1:]))
    with pytest.raises(AssertionError):
        check(found, (*wanted[:2], wanted[2] * 1.001))


@pytest.mark.parametrize("kind", [*PLAIN, *NORMALIZED])
def test_a_transposed_data_set_swaps_rows_and_columns(kind: type) -> None:
    net, dataset = network(), digits()
    metric = kind(tm.Iterator(tm.Model(model_keras=net), dataset))
    upright = metric.compute()
    dataset.transpose()
    turned = metric.compute()
    assert dataset.is_transpose()
    if kind is tm.Variance:
        check(turned, oracle(net, dataset, kind))
    if kind is tm.NormalizedVariance:
        np.testing.assert_allclose(np.multiply(upright[0], turned[0]), 1, rtol=1e-6)
    dataset.transpose()
    again = metric.compute()
    assert (again[0], again.total) == (upright[0], upright.total)


@pytest.mark.parametrize(("height", "width"), [(1, 1), (5, 3), (12, 4), (100, 100)])
@pytest.mark.parametrize("kind", [tm.Variance, tm.NormalizedSameEquivariance])
def test_blocks_change_no_number(kind: type, height: int, width: int) -> None:
    iterator = tm.Iterator(tm.Model(model_keras=network()), digits())
    whole, cut = kind(iterator).compute(), kind(iterator).compute(height, width)
    np.testing.assert_allclose(cut[0], whole[0], rtol=2e-6)
    assert cut.total == pytest.approx(whole.total, rel=2e-6)
    assert cut.notes == whole.notes


def test_same_equivariance_of_shifts_follows_pooled_maps() -> None:
    """Shifts of 3 px are 1.5 px in a map of half the size; only what stays inside counts."""
    net, dataset = network(), digits(group=2)
    found = tm.SameEquivariance(tm.Iterator(tm.Model(model_keras=net), dataset)).compute()
    matrix = dataset.get_matrix(range(12), range(4))
    for number, a in enumerate(activations(net, matrix)[k] for k in MAPS):
        side = a.shape[2]
        back = np.stack([ndimage.shift(a[:, k], (0, 0, -k * side / 4, 0), order=1) for k in range(4)], axis=1)
        inside = slice(0, side // 4)  # what 3/4 of the width moves to the right stays visible of the first quarter
        wanted = back[:, :, :, inside].var(1, ddof=1).mean(axis=(0, 1, 2))
        np.testing.assert_allclose(found[1][number], wanted, rtol=1e-3, atol=1e-9)
    assert "outside the map" in tm.SameEquivariance(tm.Iterator(tm.Model(model_keras=net), dataset)).compute().notes[0]


def test_the_road_gives_the_same_without_the_data_set() -> None:
    """`ls.examine` with the transformations themselves, instead of a matrix of inputs."""
    net, dataset = network(), digits(group=1, n=6)
    iterator = tm.Iterator(tm.Model(model_keras=net), dataset)
    ratio = ls.measures.NormalizedVariance(flavour="variance", aggregate="ratio of means")
    aligned = ls.measures.SameEquivariance(flavour="variance")
    turns = ls.transformations.published(1, 6, channels="last")
    results = ls.examine(net, dataset.images, layers="all", transformations=turns, measures=[ratio, aligned])
    compat = dict(zip(NAMES, tm.NormalizedVariance(iterator).compute()[0], strict=True))
    for name in ("conv", "pool", "flatten"):
        assert compat[name] == pytest.approx(float(results[name].reading(ratio)), rel=2e-6)
    taken_back = tm.SameEquivariance(iterator)
    taken_back.compute()
    for name in ("conv", "pool"):
        mine = taken_back.variance_layers[taken_back.names.index(name)]
        assert mine == pytest.approx(float(results[name].reading(aligned)), rel=2e-6)
    assert taken_back.of_input == pytest.approx(float(results["(model):in"].reading(aligned)), rel=2e-6)


class Rolled(tm.TransformationsDataSet):
    """A data set of a user's: images rolled along their width, and a shape that is asked for after a transposition too."""

    def __init__(self, images: NDArray[Any], n: int = 3) -> None:
        self.images, self.n, self.turned = images, n, False

    def get_data_shape(self) -> tuple[int, ...]:
        return self.images.shape[1:]

    def get_width(self) -> int:
        return len(self.images) if self.turned else self.n

    def get_height(self) -> int:
        return self.n if self.turned else len(self.images)

    def get_matrix(self, rows: Sequence[int], columns: Sequence[int]) -> Any:
        samples, shifts = (columns, rows) if self.turned else (rows, columns)
        made = np.stack([np.roll(self.images[list(samples)], 2 * k, axis=2) for k in shifts], axis=1)
        return keras.ops.convert_to_tensor(np.swapaxes(made, 0, 1) if self.turned else made)

    def transpose(self) -> None:
        self.turned = not self.turned

    def is_transpose(self) -> bool:
        return self.turned

    def apply_inverse_transformation(self, tensor: Any, index_transformation: int) -> Any:
        return np.roll(tensor, -index_transformation * 2 * tensor.shape[1] // SIDE, axis=1)

    def get_size_transformations_groups(self) -> int:
        return 1

    def set_transformation_group(self, group: int, n: int) -> None:
        self.n = n


def test_a_data_set_of_ones_own_is_measured() -> None:
    dataset = Rolled(digits().images)
    net = network()
    iterator = tm.Iterator(tm.Model(model_keras=net), dataset)
    check(tm.Variance(iterator).compute(), oracle(net, dataset, tm.Variance))
    aligned = tm.NormalizedSameEquivariance(iterator).compute()
    image, pool = aligned[0][0], aligned[0][2]
    assert image == 0  # what is rolled back is what it was
    assert 0 < pool < 1  # and a convolution that pads with zeros is nearly so
    assert tm.SameEquivariance(iterator).compute()[0][0] == 0


class Wrapped(Rolled):
    def apply_inverse_transformation(self, tensor: Any, index_transformation: int) -> Any:
        return tensor[:-1]


def test_an_inverse_that_changes_the_shape_is_refused() -> None:
    iterator = tm.Iterator(tm.Model(model_keras=network()), Wrapped(digits().images))
    with pytest.raises(DataError, match=r"apply_inverse_transformation made shape .* keep the shape"):
        tm.SameEquivariance(iterator).compute()


@pytest.mark.skipif(keras.backend.backend() == "torch", reason="PyTorch hands layers over one by one wherever they are")
def test_an_inverse_of_ones_own_cannot_be_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on an accelerator, where what is measured is part of the program; our own data sets are taken back inside it."""
    from layerscope.probes.keras import engine

    net, dataset = network(), digits()
    on_host = tm.SameEquivariance(tm.Iterator(tm.Model(model_keras=net), dataset)).compute()
    monkeypatch.setattr(type(engine()), "on_host", lambda _: False)
    inside = tm.SameEquivariance(tm.Iterator(tm.Model(model_keras=net), dataset)).compute()
    np.testing.assert_allclose(inside[0], on_host[0], rtol=1e-4)
    with pytest.raises(DataError, match="Run it on the CPU for same-equivariance"):
        tm.SameEquivariance(tm.Iterator(tm.Model(model_keras=net), Rolled(dataset.images))).compute()


class Flat(Rolled):
    def get_matrix(self, rows: Sequence[int], columns: Sequence[int]) -> Any:
        return np.zeros((len(rows) * len(columns), *self.get_data_shape()), "float32")


def test_a_matrix_of_another_shape_is_refused() -> None:
    with pytest.raises(ShapeError, match=r"get_matrix of 1 rows and 1 columns gave shape \(1, 12, 12, 1\)"):
        tm.Variance(tm.Iterator(tm.Model(model_keras=network()), Flat(digits().images))).compute()


@pytest.mark.parametrize(("n", "samples"), [(1, 12), (4, 1)])
def test_one_sample_or_one_transformation_has_no_variance(n: int, samples: int) -> None:
    iterator = tm.Iterator(tm.Model(model_keras=network()), digits(n=n, samples=samples))
    with pytest.raises(DataError, match="needs two or more of both"):
        tm.Variance(iterator).compute()


def test_nothing_is_there_before_it_was_computed() -> None:
    metric = tm.Variance(tm.Iterator(tm.Model(model_keras=network()), digits()))
    for name in ("variance_layers", "variance_layers_activations", "total", "of_input", "notes"):
        with pytest.raises(EmptyTally, match="Call compute"):
            getattr(metric, name)


@pytest.mark.parametrize("size", [0, -1, 2.5, True])
def test_a_block_has_a_size(size: Any) -> None:
    iterator = tm.Iterator(tm.Model(model_keras=network()), digits())
    with pytest.raises(DataError, match="height is a number of inputs"):
        tm.Variance(iterator).compute(size, 2)
    with pytest.raises(DataError, match="width is a number of inputs"):
        next(iterator.get_block(2, size))


def test_a_model_without_maps_has_no_features() -> None:
    net = keras.Sequential([keras.Input((SIDE, SIDE, 1)), layers.Flatten(), layers.Dense(3)])
    iterator = tm.Iterator(tm.Model(model_keras=net), digits())
    with pytest.raises(SiteError, match="no layer of the model has feature maps"):
        tm.FeaturesVariance(iterator).compute()
    assert len(tm.Variance(iterator).compute()[0]) == 2


def test_an_iterator_takes_a_model_and_a_data_set() -> None:
    with pytest.raises(DataError, match="it takes a Model and a DataSet"):
        tm.Iterator(network(), digits())  # pyright: ignore[reportArgumentType] - the mistake under test


def test_inputs_that_are_no_images_have_no_features() -> None:
    net = keras.Sequential([keras.Input((4,)), layers.Dense(SIDE * SIDE), layers.Reshape((SIDE, SIDE, 1))])

    class Vectors(Rolled):
        def get_matrix(self, rows: Sequence[int], columns: Sequence[int]) -> Any:
            return np.stack([self.images[list(rows)] * (k + 1) for k in columns], axis=1)

    iterator = tm.Iterator(
        tm.Model(model_keras=net), Vectors(np.random.default_rng(0).normal(size=(5, 4)).astype("float32"))
    )
    features = tm.FeaturesVariance(iterator).compute()
    assert np.isfinite(features.total)
    assert np.isnan(features.of_input)
    assert tm.Variance(iterator).compute().of_input > 0


def test_layers_may_be_called_like_classes() -> None:
    """A name means its layer alone, whatever class bears it too."""
    keras.utils.set_random_seed(0)
    inputs = keras.Input((SIDE, SIDE, 1))
    rows = layers.Dense(3, name="rows")(layers.Reshape((SIDE, SIDE), name="Dense")(inputs))
    net = keras.Model(inputs, layers.Dense(2, name="Reshape")(layers.Flatten(name="Conv2D")(rows)))
    found = tm.Variance(tm.Iterator(tm.Model(model_keras=net), digits()))
    found.compute()
    assert found.names == ["Dense", "rows", "Conv2D", "Reshape"]
    assert [len(values) for values in found.variance_layers_activations] == [144, 36, 36, 2]
    assert found.variance_layers[1] == pytest.approx(found.variance_layers[2])
    structure = found.iterator.get_model().get_model_structure()
    assert [layer.number_features for layer in structure.layers] == [SIDE, 3, 36, 2]


class Steady(tm.DataSet):
    """The same digits in every column, which nobody can take back."""

    images = digits().images

    def get_data_shape(self) -> tuple[int, ...]:
        return self.images.shape[1:]

    def get_height(self) -> int:
        return len(self.images)

    def get_width(self) -> int:
        return 3

    def get_matrix(self, rows: Sequence[int], columns: Sequence[int]) -> Any:
        return np.stack([self.images[list(rows)]] * len(columns), axis=1)

    def transpose(self) -> None: ...

    def is_transpose(self) -> bool:
        return False


def test_same_equivariance_asks_for_transformations() -> None:
    iterator = tm.Iterator(tm.Model(model_keras=network()), Steady())
    np.testing.assert_allclose(tm.Variance(iterator).compute()[0], 0, atol=1e-12)
    with pytest.raises(DataError, match="Steady: it cannot take its columns back"):
        tm.SameEquivariance(iterator).compute()


def test_infinite_activations_are_no_number() -> None:
    net = keras.Sequential([keras.Input((SIDE, SIDE, 1)), layers.Rescaling(1e38), layers.Rescaling(10.0)])
    iterator = tm.Iterator(tm.Model(model_keras=net), digits())
    metric = tm.Variance(iterator)
    metric.compute()
    assert np.isnan(metric.variance_layers[1])
    assert np.isnan(metric.total)
    assert "NaN or infinite" in metric.notes[1]

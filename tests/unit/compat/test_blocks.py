"""Model, structure, block and iterator of the transformational measures, against what plain Keras gives. Run once under each KERAS_BACKEND."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import layerscope.compat.transformational_measures as tm
from layerscope._errors import DataError, ShapeError
from tests.conftest import require

keras = require("keras")
layers = keras.layers
pytestmark = [
    pytest.mark.keras,
    pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning"),
    pytest.mark.filterwarnings(
        r"ignore:.build\(\). was called on layer:UserWarning"
    ),  # Keras's own, of models that have none
    pytest.mark.filterwarnings(r"ignore:You are saving your model as an HDF5 file"),
]
X = np.random.default_rng(0).normal(size=(4, 3, 10, 10, 2)).astype("float32")


def sequential() -> Any:
    keras.utils.set_random_seed(0)
    net = keras.Sequential(
        [
            keras.Input((10, 10, 2)),
            layers.Conv2D(5, 3, activation="elu", name="conv"),
            layers.MaxPooling2D(name="pool"),
            layers.Flatten(name="flatten"),
            layers.Dense(3, activation="softmax", name="dense"),
        ]
    )
    net.compile(loss="sparse_categorical_crossentropy", metrics=["accuracy"])
    return net


def by_keras(net: Any, name: str, matrix: Any) -> Any:
    part = keras.Model(net.inputs, net.get_layer(name).output)
    found = part.predict(matrix.reshape(-1, *matrix.shape[2:]), verbose=0)
    return found.reshape(*matrix.shape[:2], *found.shape[1:])


def test_a_block_holds_the_activations_of_every_layer() -> None:
    net = sequential()
    model = tm.Model(model_keras=net)
    block = model.predict(X)
    assert (block.height, block.width, block.model_structure.number_layers) == (4, 3, 4)
    for k, name in enumerate(["conv", "pool", "flatten", "dense"]):
        assert model.get_name_layer(k) == name
        wanted = by_keras(net, name, X)
        for i, j in ((0, 0), (3, 2), (1, 1), (-1, -3)):
            np.testing.assert_allclose(block[i, j, k], wanted[i, j], rtol=1e-4, atol=1e-6)
            for f in (0, 2, -1):
                np.testing.assert_allclose(block[(i, j, k, f)], wanted[i, j, ..., f], rtol=1e-4, atol=1e-6)
    assert not np.allclose(block[0, 0, 3], block[0, 1, 3])


@pytest.mark.parametrize(
    ("index", "error", "message"),
    [
        ((0, 0), ShapeError, "row, column and layer"),
        (0, ShapeError, "row, column and layer"),
        ((4, 0, 0), IndexError, "no row 4: this block has 4"),
        ((0, 3, 0), IndexError, "no column 3: this block has 3"),
        ((0, 0, 4), IndexError, "no layer 4: this block has 4"),
        ((0, 0, 0, 5), IndexError, "no feature 5: conv has 5"),
    ],
)
def test_an_index_that_is_not_there_is_named(index: Any, error: type[Exception], message: str) -> None:
    block = tm.Model(model_keras=sequential()).predict(X)
    with pytest.raises(error, match=message):
        block[index]


def test_the_structure_says_what_layers_and_features_there_are() -> None:
    net = sequential()
    for structure in (tm.ModelStructure(net), tm.Model(model_keras=net).get_model_structure()):
        conv, pool, flatten, dense = structure.layers
        assert (conv.shape, conv.number_features, conv.shape_feature, conv.number_activations) == (
            (8, 8, 5),
            5,
            (8, 8),
            320,
        )
        assert (pool.shape, flatten.shape, dense.shape) == ((4, 4, 5), (80,), (3,))
        assert (dense.number_features, dense.shape_feature) == (3, ())
        assert (structure.number_layers, structure.number_layers_features) == (4, 2)
        assert structure.layers_features == [structure.layers[number] for number in structure.map_layers_features]


def test_channels_first_are_features_too() -> None:
    if keras.backend.backend() == "tensorflow":
        pytest.skip("TensorFlow convolves channels first on a GPU only")
    net = keras.Sequential([keras.Input((2, 10, 10)), layers.Conv2D(5, 3, data_format="channels_first", name="conv")])
    matrix = np.moveaxis(X, -1, 2)
    block = tm.Model(model_keras=net).predict(matrix)
    layer = block.model_structure.layers[0]
    assert (layer.number_features, layer.shape_feature) == (5, (8, 8))
    np.testing.assert_allclose(block[1, 2, 0, 4], by_keras(net, "conv", matrix)[1, 2, 4], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("first", [False, True])
def test_a_map_made_of_units_has_its_features_where_the_model_has_them(first: bool) -> None:
    """Nothing but the convolution behind it says which axis of a reshaped dense layer counts features."""
    if first and keras.backend.backend() == "tensorflow":
        pytest.skip("TensorFlow convolves channels first on a GPU only")
    shape, form = ((2, 6, 6), "channels_first") if first else ((6, 6, 2), "channels_last")
    net = keras.Sequential(
        [keras.Input((5,)), layers.Dense(72), layers.Reshape(shape), layers.Conv2D(3, 3, data_format=form)]
    )
    maps, last = tm.ModelStructure(net).layers[1:]
    assert (maps.number_features, maps.shape_feature) == (2, (6, 6))
    assert (last.number_features, last.shape_feature) == (3, (4, 4))
    if not first:
        one = keras.Sequential([keras.Input((5,)), layers.Dense(72), layers.Reshape((6, 12, 1))])
        assert tm.ModelStructure(one).layers[1].number_features == 1


def test_a_layer_used_twice_is_there_twice_and_a_nested_model_is_one_layer() -> None:
    keras.utils.set_random_seed(0)
    inner = keras.Sequential([keras.Input((10, 10, 2)), layers.Conv2D(2, 3, padding="same")], name="inner")
    shared = layers.Conv2D(2, 3, padding="same", name="shared")
    inputs = keras.Input((10, 10, 2))
    net = keras.Model(inputs, shared(shared(inner(inputs))))
    model = tm.Model(model_keras=net)
    block = model.predict(X)
    assert [model.get_name_layer(k) for k in range(3)] == ["inner", "shared", "shared#1"]
    flat = X.reshape(-1, 10, 10, 2)
    wanted = np.asarray(keras.ops.convert_to_numpy(net(flat))).reshape(4, 3, 10, 10, 2)
    np.testing.assert_allclose(block[2, 1, 2], wanted[2, 1], rtol=1e-4, atol=1e-6)
    assert not np.allclose(block[2, 1, 1], block[2, 1, 2])


class Plain(keras.Model):
    """A model that says nothing of its inputs."""

    def __init__(self) -> None:
        keras.Model.__init__(self)
        self.first, self.last = layers.Dense(4, name="first"), layers.Dense(2, name="last")

    def call(self, x: Any) -> Any:
        return self.last(keras.ops.relu(self.first(x)))


def test_a_subclassed_model_is_known_once_it_ran() -> None:
    net = Plain()
    net(np.zeros((1, 6), "float32"))
    model = tm.Model(model_keras=net)
    with pytest.raises(DataError, match="Call predict once before"):
        model.get_model_structure()
    block = model.predict(np.ones((2, 2, 6), "float32"))
    assert [layer.name for layer in block.model_structure.layers] == ["first", "last"]
    np.testing.assert_allclose(
        block[1, 1, 1], keras.ops.convert_to_numpy(net(np.ones((1, 6), "float32")))[0], rtol=1e-5
    )


def test_predicting_leaves_the_model_as_it_was_and_follows_its_weights() -> None:
    net = sequential()
    model = tm.Model(model_keras=net)
    before = model.predict(X)[0, 0, 3]
    np.testing.assert_array_equal(model.predict(X)[0, 0, 3], before)
    net.get_layer("dense").set_weights([0 * w for w in net.get_layer("dense").get_weights()])
    np.testing.assert_allclose(model.predict(X)[0, 0, 3], 1 / 3, rtol=1e-6)


@pytest.mark.parametrize("ending", ["keras", "h5"])
def test_a_model_is_read_from_its_file(tmp_path: Path, ending: str) -> None:
    net = sequential()
    net.fit(X[0], np.arange(3), verbose=0)
    net.save(tmp_path / f"net.{ending}")
    model = tm.Model(path=str(tmp_path / f"net.{ending}"))
    np.testing.assert_array_equal(model.predict(X)[1, 2, 3], tm.Model(model_keras=net).predict(X)[1, 2, 3])


def test_loss_and_accuracy_are_those_of_keras() -> None:
    net = sequential()
    x, y = X.reshape(-1, 10, 10, 2), np.arange(12) % 3
    found = tm.Model(model_keras=net).evaluate(x, y)
    probabilities = net.predict(x, verbose=0)
    loss = -np.log(probabilities[np.arange(12), y]).mean()
    np.testing.assert_allclose(found, [loss, (probabilities.argmax(1) == y).mean()], rtol=1e-5)


def test_what_cannot_be_evaluated_says_so() -> None:
    net = sequential()
    net.compile(loss="sparse_categorical_crossentropy", metrics=["mae"])
    with pytest.raises(DataError, match="and no accuracy"):
        tm.Model(model_keras=net).evaluate(X[0], np.arange(3))
    with pytest.raises(DataError, match="was not compiled"):
        tm.Model(model_keras=keras.Sequential([keras.Input((2,)), layers.Dense(2)])).evaluate(X[0], np.arange(3))


def test_what_is_no_model_is_refused(tmp_path: Path) -> None:
    two = keras.Input((2,)), keras.Input((2,))
    with pytest.raises(DataError, match="give a model or the path of one"):
        tm.Model()
    with pytest.raises(DataError, match="give a model or the path of one"):
        tm.Model(model_keras=sequential(), path="net.keras")
    with pytest.raises(DataError, match="model_keras=str is no model of Keras"):
        tm.Model(model_keras="net.keras")
    with pytest.raises(DataError, match="has 2 inputs"):
        tm.Model(model_keras=keras.Model(list(two), layers.Add()(list(two))))
    with pytest.raises(FileNotFoundError, match=r"there is no file .*net\.keras"):
        tm.Model(path=tmp_path / "net.keras")


@pytest.mark.parametrize(
    ("shape", "message"), [((3, 10), "two axes before those of an input"), ((0, 3, 10, 10, 2), "holds none")]
)
def test_a_matrix_of_inputs_has_rows_and_columns(shape: tuple[int, ...], message: str) -> None:
    with pytest.raises(DataError, match=message):
        tm.Model(model_keras=sequential()).predict(np.zeros(shape, "float32"))


def test_names_of_layers_end() -> None:
    with pytest.raises(IndexError, match="4 of 4 layers"):
        tm.Model(model_keras=sequential()).get_name_layer(4)


class Numbers(tm.DataSet):
    """Input (i, j) holds i and j, so that every block says where it is from."""

    turned = False

    def get_data_shape(self) -> tuple[int, ...]:
        return (2,)

    def get_height(self) -> int:
        return 3 if self.turned else 7

    def get_width(self) -> int:
        return 7 if self.turned else 3

    def get_matrix(self, rows: Any, columns: Any) -> Any:
        return np.array([[(i, j) for j in columns] for i in rows], "float32")

    def transpose(self) -> None:
        self.turned = not self.turned

    def is_transpose(self) -> bool:
        return self.turned


@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize(("height", "width"), [(3, 2), (1, 1), (10, 10)])
def test_blocks_cover_the_matrix_once(height: int, width: int, turned: bool) -> None:
    net = keras.Sequential([keras.Input((2,)), layers.Rescaling(1.0, name="same")])
    dataset = Numbers()
    if turned:
        dataset.transpose()
    iterator = tm.Iterator(tm.Model(model_keras=net), dataset)
    seen: list[tuple[int, int]] = []
    for tall, along in iterator.get_block(height, width):
        for wide, block in along:
            assert (block.height, block.width) == (tall, wide)
            assert block.is_dataset_transpose() is turned
            for a, i in enumerate(block.get_rows_dataset()):
                for b, j in enumerate(block.get_columns_dataset()):
                    assert block[a, b, 0].tolist() == [i, j]
                    seen.append((i, j))
    assert sorted(seen) == [(i, j) for i in range(dataset.get_height()) for j in range(dataset.get_width())]


def test_a_block_remembers_where_it_is_from() -> None:
    block = tm.Model(model_keras=sequential()).predict(X)
    assert (block.get_rows_dataset(), block.get_columns_dataset(), block.is_dataset_transpose()) == ([], [], False)
    block.set_rows_dataset([4, 5])
    block.set_columns_dataset([1])
    block.set_state_transpose_dataset(True)
    assert (block.get_rows_dataset(), block.get_columns_dataset(), block.is_dataset_transpose()) == ([4, 5], [1], True)

"""What Keras layers and functions are taken for: step, activation and unit axis, names, and where axes go."""

from typing import Any

import numpy as np
import pytest

from layerscope.inventory._operations import Went
from tests.conftest import require

keras = require("keras")
from layerscope.inventory.keras import arguments_of, axes_went, kind_of, loops, named_operations, unit_of  # noqa: E402

pytestmark = pytest.mark.keras
layers = keras.layers


def custom(x: Any) -> Any:
    return x * 2.0


KINDS = [
    (lambda: layers.Dense(3), ("linear", "", -1)),
    (lambda: layers.Dense(3, activation="relu"), ("linear", "relu", -1)),
    (lambda: layers.Dense(3, activation=keras.activations.hard_silu), ("linear", "hardswish", -1)),
    (lambda: layers.Dense(3, activation=layers.ELU()), ("linear", "elu", -1)),
    (lambda: layers.Dense(3, activation=custom), ("", "", None)),
    (lambda: layers.Conv2D(3, 2), ("conv", "", -1)),
    (lambda: layers.Conv1D(3, 2, activation="tanh", data_format="channels_first"), ("conv", "tanh", 1)),
    (lambda: layers.Conv3DTranspose(3, 2), ("conv", "", -1)),
    (lambda: layers.DepthwiseConv2D(2), ("conv", "", -1)),
    (lambda: layers.SeparableConv1D(3, 2, activation="gelu"), ("conv", "gelu", -1)),
    (lambda: layers.MaxPooling2D(data_format="channels_first"), ("max_pool", "", 1)),
    (lambda: layers.GlobalAveragePooling2D(data_format="channels_first"), ("avg_pool", "", -1)),
    (lambda: layers.BatchNormalization(axis=1), ("batch_norm", "", 1)),
    (lambda: layers.LayerNormalization(), ("layer_norm", "", None)),
    (lambda: layers.LSTM(3), ("lstm", "", -1)),
    (lambda: layers.ConvLSTM1D(3, 2, data_format="channels_first"), ("lstm", "", 1)),
    (lambda: layers.Bidirectional(layers.GRU(3)), ("lstm", "", -1)),
    (lambda: layers.TimeDistributed(layers.Dense(3, activation="relu")), ("linear", "relu", -1)),
    (lambda: layers.TimeDistributed(layers.Conv1D(3, 2, data_format="channels_first")), ("conv", "", 2)),
    (lambda: layers.Activation("swish"), ("silu", "", None)),
    (lambda: layers.Activation("linear"), ("alias", "", None)),
    (lambda: layers.Activation(custom), ("", "", None)),
    (lambda: layers.Embedding(3, 2), ("embedding", "", -1)),
    (lambda: layers.MultiHeadAttention(2, 2), ("multi_head_attention_forward", "", -1)),
    (lambda: layers.Lambda(custom), ("", "", None)),
]


@pytest.mark.parametrize("at", range(len(KINDS)))
def test_what_a_layer_does(at: int) -> None:
    make, expected = KINDS[at]
    layer = make()
    kind = kind_of(layer)
    assert (kind.does, kind.activation, kind.unit) == expected
    assert kind.name == type(layer).__name__
    assert f"{type(layer).__module__}.{type(layer).__qualname__}" in kind.bases


def test_a_layer_whose_call_is_the_users_is_looked_into() -> None:
    class Mine(layers.Dense):
        def call(self, inputs: Any, training: Any = None) -> Any:
            return super().call(inputs) * 2.0

    class Same(layers.Dense):
        pass

    assert kind_of(Mine(3)).does == ""
    assert kind_of(Same(3)).does == "linear"


def test_dropout_drops_in_training_only() -> None:
    assert kind_of(layers.Dropout(0.5), training=True).args == (None, None, True)
    assert kind_of(layers.Dropout(0.5)).args == (None, None, False)


def test_loops() -> None:
    assert loops(layers.LSTM(3))
    assert loops(layers.TimeDistributed(layers.Dense(3)))
    assert not loops(layers.Dense(3))


class Named(keras.layers.Layer):
    def __init__(self) -> None:
        super().__init__()
        self.first = layers.Dense(3)
        self.second = layers.Dense(3, name="mine")
        self.third = layers.Dense(3, name="mine")
        self.many = {"a": layers.Dense(3), "b": [layers.Dense(3)]}
        self.again = self.first
        self._private = layers.Dense(3)


def test_names_are_the_users() -> None:
    found = [*named_operations(Named())]
    assert found == ["", "first", "mine", "mine_1", "many.a", "many.b.0", "private"]


def test_names_of_a_graph() -> None:
    i = layers.Input((3,))
    inner = keras.Model(i, layers.ReLU(name="r")(layers.Dense(3, name="fc")(i)), name="inner")
    outer = keras.Sequential([layers.Input((3,)), inner, layers.Dense(2, name="fc")])
    assert [*named_operations(outer)] == ["", "inner", "inner.fc", "inner.r", "fc"]


MOVES = [
    ("transpose", {"axes": (0, 3, 1, 2)}),
    ("transpose", {"axes": None}),
    ("swapaxes", {"axis1": 1, "axis2": -1}),
    ("moveaxis", {"source": [0, 1], "destination": [2, 0]}),
    ("moveaxis", {"source": -1, "destination": 1}),
    ("expand_dims", {"axis": 1}),
    ("stack", {"axis": 2}),
    ("stack", {"axis": -1}),
]


@pytest.mark.parametrize(("name", "arguments"), MOVES)
def test_axes_go_where_numpy_puts_them(name: str, arguments: dict[str, Any]) -> None:
    old = (2, 3, 4, 5)
    array = np.arange(120).reshape(old)
    given = [array, array] if name == "stack" else array
    made = getattr(np, name)(given, **arguments)
    went = axes_went(name, arguments, old, made.shape)
    assert went is not None
    for axis, to in enumerate(went):
        assert to is not None
        assert to.whole
        assert made.shape[to.first] == old[axis]
    assert len({to.first for to in went if to is not None}) == 4


def test_axes_of_other_functions_are_not_claimed() -> None:
    assert axes_went("relu", {}, (2, 3), (2, 3)) is None
    squeezed = axes_went("squeeze", {}, (2, 1, 3), (2, 3))
    assert squeezed is not None
    assert (squeezed[0], squeezed[2]) == (Went(0, 0), Went(1, 1))


def test_units_of_a_convolution() -> None:
    assert unit_of("conv", {"data_format": "channels_first"}, 4) == 1
    assert unit_of("conv", {"data_format": "channels_last"}, 4) == 3
    assert unit_of("relu", {}, 4) is None


def test_arguments_by_name() -> None:
    def function(x: Any, axis: int = 3, *, keepdims: bool = False) -> None: ...

    assert arguments_of(function, (1,), {"keepdims": True}) == {"x": 1, "axis": 3, "keepdims": True}

"""TensorState's interface on Keras against NumPy: LeNet-5 of the tutorial, the same weights on every backend and in both data formats.

The reference is a Keras sub-model that gives the same layers' outputs, packed and counted by NumPy alone. The constants were measured with
it on TensorFlow 2.21; other backends round convolutions differently, hence 1e-3, and a state may differ where a value is within 1e-5 of 0.
"""

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import layerscope.compat.tensorstate as ts
from tests.conftest import require

keras = require("keras")
layers = keras.layers
BACKEND = keras.backend.backend()
pytestmark = [
    pytest.mark.keras,
    pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning"),
]
FORMATS = ["channels_last", *(["channels_first"] if BACKEND != "tensorflow" else [])]
CONVS = ["conv_1", "conv_2", "conv_3"]
ENTROPIES, NETWORK = [6.225686, 14.280616, 9.167561], 0.2012470
IMAGES = np.random.default_rng(1).random((600, 28, 28, 1)).astype("float32")


def lenet(data_format: str) -> Any:
    first = data_format == "channels_first"
    x = inputs = layers.Input((1, 28, 28) if first else (28, 28, 1))
    for number, (units, size) in enumerate([(20, 5), (50, 5), (100, 4)], 1):
        x = layers.Conv2D(units, size, activation="elu", data_format=data_format, name=f"conv_{number}")(x)
        x = layers.BatchNormalization(axis=1 if first else -1, epsilon=1e-5, momentum=0.9)(x)
        x = layers.MaxPooling2D(2, data_format=data_format)(x) if number < 3 else x
    model = keras.Model(inputs, layers.Dense(10, name="pred")(layers.Flatten()(x)))
    rng = np.random.default_rng(0)
    for name in [*CONVS, "pred"]:
        layer = model.get_layer(name)
        kernel, bias = layer.get_weights()
        bound = 1 / np.sqrt(kernel[..., 0].size)
        layer.set_weights([rng.uniform(-bound, bound, weight.shape).astype("float32") for weight in (kernel, bias)])
    return model


def check_states(probe: Any, maps: Any) -> None:
    """Every row in order, every count, and the entropy, for maps whose units lie last."""
    values = maps.reshape(-1, maps.shape[-1])
    fires = ts.decompress_states(np.asarray(probe.raw_states), values.shape[1])
    assert probe.state_count == len(values)
    assert np.abs(values[fires != (values > 0)]).max(initial=0) < 1e-5
    states, counts = np.unique(np.packbits(fires, axis=1), axis=0, return_counts=True)
    assert sorted(probe.counts().tolist()) == sorted(counts.tolist())
    assert np.array_equal(np.unique(np.packbits(probe.states, axis=1), axis=0), states)
    truth = np.unique(np.packbits(values > 0, axis=1), axis=0, return_counts=True)[1] / len(values)
    assert probe.entropy() == pytest.approx(-(truth * np.log2(truth)).sum(), rel=1e-3)
    assert probe.efficiency() == probe.entropy() / values.shape[1]


@functools.cache
def captured(data_format: str) -> tuple[Any, list[Any]]:
    """The built model after a predict, and the maps of its convolutions from a sub-model, units last."""
    model = lenet(data_format)
    x = IMAGES.transpose(0, 3, 1, 2) if data_format == "channels_first" else IMAGES
    before = model.predict(x, batch_size=128, verbose=0)
    built = ts.build_efficiency_model(model, attach_to=["Conv2D"], method="after")
    assert np.array_equal(built.predict(x, batch_size=128, verbose=0), before)
    maps = keras.Model(model.inputs, [model.get_layer(name).output for name in CONVS]).predict(
        x, batch_size=128, verbose=0
    )
    return built, [np.moveaxis(m, 1, -1) if data_format == "channels_first" else m for m in maps]


@pytest.mark.parametrize("data_format", FORMATS)
def test_lenet(data_format: str) -> None:
    built, maps = captured(data_format)
    for probe, each in zip(built.efficiency_layers, maps, strict=True):
        check_states(probe, each)
    assert [p.name for p in built.efficiency_layers] == [f"{name}_post_states" for name in CONVS]
    assert [p.state_count for p in built.efficiency_layers] == [600 * 576, 600 * 64, 600]
    assert [p.entropy() for p in built.efficiency_layers] == pytest.approx(ENTROPIES, rel=1e-3)
    assert ts.network_efficiency(built) == pytest.approx(NETWORK, rel=1e-3)


@pytest.mark.parametrize(
    "fault",
    [
        lambda maps: maps[:-1],  # the last batch is lost
        lambda maps: np.concatenate([maps, maps[:1]]),  # one is counted twice
        lambda maps: maps[::-1],  # in another order
        lambda maps: maps[..., ::-1],  # bits the other way round
        lambda maps: -maps,  # firing below zero
        lambda maps: np.moveaxis(maps, -1, 1).reshape(maps.shape),  # units on another axis
    ],
)
def test_a_fault_is_seen(fault: Callable[[Any], Any]) -> None:
    built, maps = captured("channels_last")
    with pytest.raises(AssertionError):
        check_states(built.efficiency_layers[1], fault(maps[1]))

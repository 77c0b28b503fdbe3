"""A Keras model that gives the activations of all its layers."""

import os
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..._errors import DataError
from ..._site import Activations, Axes, Chunk, Samples
from ...feed import Feed
from ...inventory import Layer
from ...probes import probe_for
from ...tallies import to_numpy
from ._block import Block
from ._structure import ModelStructure


class Model:
    """A Keras model that gives the activations of all its layers, for a matrix of inputs.

    **Arguments:** `model_keras` a model of Keras 3 with one input, or `path` of a file it was saved in.
    Layers count from 0 in the order of `model.layers`, without those that only name an input; a layer that is used twice is there twice.
    **Raises:** `DataError` for both or neither, or a model with several inputs.
    """

    def __init__(self, model_keras: Any = None, path: str | os.PathLike[str] | None = None) -> None:
        from . import keras

        if (model_keras is None) == (path is None):
            raise DataError(
                "Model: give a model or the path of one: Model(model_keras=model), or Model(path='model.keras')."
            )
        self.model_keras = keras.check(keras.load(path) if path is not None else model_keras)
        self._probe = probe_for(self.model_keras)
        self._read: tuple[Layer, ...] | None = None

    def predict(self, tensor_input: Any) -> Block:
        """The activations of every layer for a matrix of inputs, (rows, columns, …): `block[i, j, k]` those of layer k."""
        matrix = to_numpy(tensor_input)
        if matrix.ndim < 3:
            raise DataError(
                f"predict: a matrix of inputs has two axes before those of an input, this one has shape {matrix.shape}. One row of inputs "
                "is x[None]."
            )
        height, width = matrix.shape[:2]
        if not matrix.size:
            raise DataError(f"predict: a matrix of {height} × {width} inputs holds none.")
        flat = matrix.reshape(-1, *matrix.shape[2:])
        layers = self.read(flat)
        with self._probe as probe:
            _, found = probe.run(Feed(flat).peek(len(flat)), layers, _values)
        outputs: list[NDArray[Any]] = []
        for layer in layers:
            values = np.moveaxis(to_numpy(found[layer]["values"].arrays["values"]), layer.axes.sample, 0)
            outputs.append(values[: len(flat)].reshape(height, width, *values.shape[1:]))
        return Block(outputs, self.get_model_structure())

    def get_model_structure(self) -> ModelStructure:
        """Shapes and features of the layers."""
        return ModelStructure(self.model_keras, self.read())

    def get_name_layer(self, k: int) -> str:
        """The name of layer k."""
        layers = self.read()
        if not -len(layers) <= k < len(layers):
            raise IndexError(f"get_name_layer: {k} of {len(layers)} layers, which count from 0 to {len(layers) - 1}.")
        return str(layers[k].site)

    def evaluate(self, x: Any, y: Any) -> list[float]:
        """Loss and accuracy, [loss, accuracy], of inputs and the desired outputs, as the model was compiled."""
        from . import keras

        return keras.evaluate(self.model_keras, x, y)

    def read(self, inputs: Any = None) -> tuple[Layer, ...]:
        """The layers as layerscope knows them; `inputs` where the model does not say itself what it takes."""
        if self._read is None:
            from . import keras

            given = keras.example(self.model_keras) if inputs is None else inputs
            if given is None:
                raise DataError(
                    f"Model: {self.model_keras.name} does not say what its inputs look like, so its layers are not known yet. "
                    "Call predict once before."
                )
            order = {path: number for number, path in enumerate(keras.paths(self.model_keras))}
            with self._probe as probe:
                found = probe.describe(Feed(given).peek(2))
            mine = [
                x for x in found if x.site.path in order and (x.site.port, x.site.part) == ("out", 0) and not x.unfit
            ]
            unit = 1 if keras.channels_first(self.model_keras) else -1
            ruled = [replace(x, axes=Axes(unit % len(x.shape)), note="") if _is_guessed(x) else x for x in mine]
            self._read = tuple(sorted(ruled, key=lambda x: (order[x.site.path], x.site.call)))
            if not self._read:
                raise DataError(f"Model: {self.model_keras.name} has no layer that gives activations.")
        return self._read


def _values(layer: Layer, a: Activations) -> dict[str, Chunk]:
    """The values as they are now; a copy, as an operation in place may change them later."""
    half = "float16" in str(a.values.dtype)
    values = a.xp.asarray(a.values, dtype=a.xp.float32) if half else a.values
    if a.host is not None:
        values = np.array(to_numpy(values))
    return {"values": Chunk.of({"values": values}, a, Samples(np.empty(0, np.int64)))}


def _is_guessed(layer: Layer) -> bool:
    """Whether nothing in the layer tells which axis counts features: Keras then has them last, or all layers of a model have them first."""
    return layer.kind == "Reshape" or "by rank" in layer.note

"""What a model is made of, layer by layer, as far as its activations are concerned."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...inventory import Layer


@dataclass(frozen=True)
class LayerStructure:
    """One layer: `name`, `shape` of its activations for one input, and the axis of that shape that counts features.

    `number_activations` in all; `number_features` feature maps, each of `shape_feature`, which is () where every activation is a
    feature of its own.
    """

    name: str
    shape: tuple[int, ...]
    axis: int

    @classmethod
    def of(cls, layer: Layer) -> "LayerStructure":
        sample = layer.axes.sample % len(layer.shape)
        shape = tuple(size for axis, size in enumerate(layer.shape) if axis != sample)
        return cls(str(layer.site), shape, layer.axes.among(len(layer.shape)))

    @property
    def number_activations(self) -> int:
        return int(np.prod(self.shape, dtype=np.int64))

    @property
    def number_features(self) -> int:
        return self.shape[self.axis]

    @property
    def shape_feature(self) -> tuple[int, ...]:
        return (*self.shape[: self.axis], *self.shape[self.axis + 1 :])

    @property
    def has_features(self) -> bool:
        """Whether its features are maps: an input has activations along more than two axes."""
        return len(self.shape) > 2

    def feature(self, activations: NDArray[Any], number: int) -> NDArray[Any]:
        """One feature map of the activations of one input."""
        return np.take(activations, number, axis=self.axis)


class ModelStructure:
    """The layers of a Keras model, without those that only name an input, in the order of `model.layers`.

    **Arguments:** `model` of Keras, with one input of known shape; `read` its layers, where they are known already.
    **Attributes:** `layers`, `number_layers`; `layers_features`, `number_layers_features` those whose features are maps;
    `map_layers_features[f]` the number in `layers` of the f-th of them.
    """

    def __init__(self, model: Any, read: Sequence[Layer] | None = None) -> None:
        if read is None:
            from ._model import Model

            read = Model(model_keras=model).read()
        self.layers = [LayerStructure.of(layer) for layer in read]
        self.number_layers = len(self.layers)
        self.map_layers_features = [number for number, layer in enumerate(self.layers) if layer.has_features]
        self.layers_features = [self.layers[number] for number in self.map_layers_features]
        self.number_layers_features = len(self.layers_features)

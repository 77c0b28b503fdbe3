"""What only Keras knows: loading a model, the order and names of its layers, its loss and accuracy."""

import os
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from ..._errors import DataError
from ...inventory.keras import named_operations


def load(path: str | os.PathLike[str]) -> Any:
    """The model in a file `.keras` or `.h5`."""
    if not os.path.exists(path):
        raise FileNotFoundError(
            f"Model: there is no file {path}. Give the path of a model saved by Keras, .keras or .h5."
        )
    return keras.models.load_model(path)


def check(model: Any) -> Any:
    """**Raises:** `DataError` for what is no model of Keras, or takes several inputs."""
    if not isinstance(model, keras.Model):
        hint = (
            "; one of tf_keras or Keras 2 is loaded from its file: Model(path=…)"
            if "keras" in type(model).__module__
            else ""
        )
        raise DataError(f"Model: model_keras={type(model).__name__} is no model of Keras {keras.__version__}{hint}.")
    if len(getattr(model, "inputs", None) or ()) > 1:
        raise DataError(
            f"Model: {model.name} has {len(model.inputs)} inputs, and a matrix of inputs holds one each. Use ls.examine for such models."
        )
    return model


def example(model: Any) -> NDArray[np.float32] | None:
    """Two inputs of zeros, where the model says what its inputs look like."""
    inputs = getattr(model, "inputs", None)
    shape: Any = tuple(inputs[0].shape[1:]) if inputs else (None,)
    return None if None in shape else np.zeros((2, *shape), np.float32)


def paths(model: Any) -> list[str]:
    """How layerscope calls the layers of the model, in the order of `model.layers`, without those that only name an input."""
    of = {id(layer): path for path, layer in named_operations(model).items()}
    return [of[id(layer)] for layer in model.layers if not isinstance(layer, keras.layers.InputLayer)]


def channels_first(model: Any) -> bool:
    """Whether a layer of the model has its features in front."""
    return any(getattr(layer, "data_format", None) == "channels_first" for layer in model._flatten_layers())


def evaluate(model: Any, x: Any, y: Any) -> list[float]:
    """Loss and accuracy as the model was compiled to measure them."""
    if not model.compiled:
        raise DataError(
            f"evaluate: {model.name} was not compiled, so it has no loss and no accuracy. Compile it first: "
            "model.compile(loss='sparse_categorical_crossentropy', metrics=['accuracy'])."
        )
    found: dict[str, Any] = model.evaluate(x, y, verbose=0, return_dict=True)
    accuracy = [value for name, value in found.items() if "acc" in name]
    if not accuracy:
        raise DataError(
            f"evaluate: {model.name} was compiled to measure {', '.join(found)}, and no accuracy. Compile it with metrics=['accuracy']."
        )
    return [float(found["loss"]), float(accuracy[0])]

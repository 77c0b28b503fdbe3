"""The nets in Keras 3, on any backend: channels last, Functional with fused activations; the residual net also subclassed."""

from typing import Any

import keras
import numpy as np
from keras import layers, ops

from ._reference import EPSILON
from ._weights import HEADS, LENGTH, TOKENS, WIDTH, Batch, Weights


def lenet(weights: Weights, data_format: str = "channels_last") -> keras.Model:
    """`data_format` "channels_first" takes images (samples, 1, 28, 28); not every backend can run that on every device."""
    axes: dict[str, Any] = {"data_format": data_format}
    images = layers.Input((28, 28, 1) if data_format == "channels_last" else (1, 28, 28), name="images")
    x = layers.Conv2D(6, 5, padding="same", activation="relu", name="conv1", **axes)(images)
    x = layers.MaxPooling2D(2, name="pool1", **axes)(x)
    x = layers.Conv2D(16, 5, activation="relu", name="conv2", **axes)(x)
    x = layers.MaxPooling2D(2, name="pool2", **axes)(x)
    x = layers.Flatten(name="flatten", **axes)(x)
    x = layers.Dense(120, activation="relu", name="fc1")(x)
    x = layers.Dense(84, activation="relu", name="fc2")(x)
    return _loaded(keras.Model(images, layers.Dense(10, name="fc3")(x), name="lenet"), weights)


def residual(weights: Weights) -> keras.Model:
    images = layers.Input((8, 8, 1), name="images")
    x = layers.Conv2D(12, 3, padding="same", use_bias=False, name="stem")(images)
    x = layers.BatchNormalization(epsilon=EPSILON, name="stem_norm")(x)
    x = layers.Activation("relu", name="stem_relu")(x)
    x = _residual_block("block1", x, 12, 1)
    x = _residual_block("block2", x, 20, 2)
    x = layers.GlobalAveragePooling2D(name="pool")(x)
    return _loaded(keras.Model(images, layers.Dense(10, name="head")(x), name="residual"), weights)


def _residual_block(name: str, x: Any, units: int, stride: int) -> Any:
    # `padding="same"` would pad a stride of 2 at the far edges only
    y = layers.ZeroPadding2D(1, name=f"{name}_pad")(x)
    y = layers.Conv2D(units, 3, stride, use_bias=False, name=f"{name}_conv1")(y)
    y = layers.BatchNormalization(epsilon=EPSILON, name=f"{name}_norm1")(y)
    y = layers.Activation("relu", name=f"{name}_relu1")(y)
    y = layers.Conv2D(units, 3, padding="same", use_bias=False, name=f"{name}_conv2")(y)
    y = layers.BatchNormalization(epsilon=EPSILON, name=f"{name}_norm2")(y)
    if x.shape[-1] != units:
        x = layers.Conv2D(units, 1, stride, use_bias=False, name=f"{name}_shortcut")(x)
        x = layers.BatchNormalization(epsilon=EPSILON, name=f"{name}_shortcut_norm")(x)
    return layers.Activation("relu", name=f"{name}_relu2")(layers.Add(name=f"{name}_add")([x, y]))


class ResidualBlock(layers.Layer):
    """The same block as a layer of its own, with functions between the layers."""

    def __init__(self, inputs: int, units: int, stride: int, name: str) -> None:
        super().__init__(name=name)
        self.pad = layers.ZeroPadding2D(1, name="pad")
        self.conv1 = layers.Conv2D(units, 3, stride, use_bias=False, name="conv1")
        self.norm1 = layers.BatchNormalization(epsilon=EPSILON, name="norm1")
        self.conv2 = layers.Conv2D(units, 3, padding="same", use_bias=False, name="conv2")
        self.norm2 = layers.BatchNormalization(epsilon=EPSILON, name="norm2")
        self.changes = inputs != units
        if self.changes:
            self.shortcut = layers.Conv2D(units, 1, stride, use_bias=False, name="shortcut")
            self.shortcut_norm = layers.BatchNormalization(epsilon=EPSILON, name="shortcut_norm")

    def call(self, x: Any) -> Any:
        y = ops.relu(self.norm1(self.conv1(self.pad(x))))
        y = self.norm2(self.conv2(y))
        return ops.relu(y + (self.shortcut_norm(self.shortcut(x)) if self.changes else x))


class Residual(keras.Model):
    def __init__(self) -> None:
        super().__init__(name="residual")
        self.stem = layers.Conv2D(12, 3, padding="same", use_bias=False, name="stem")
        self.stem_norm = layers.BatchNormalization(epsilon=EPSILON, name="stem_norm")
        self.block1 = ResidualBlock(12, 12, 1, name="block1")
        self.block2 = ResidualBlock(12, 20, 2, name="block2")
        self.head = layers.Dense(10, name="head")

    def call(self, images: Any) -> Any:
        x = ops.relu(self.stem_norm(self.stem(images)))
        x = self.block2(self.block1(x))
        return self.head(ops.mean(x, axis=(1, 2)))


def residual_subclassed(weights: Weights) -> keras.Model:
    model = Residual()
    model(np.zeros((1, 8, 8, 1), np.float32))  # a subclassed model has weights once it was called
    return _loaded(model, weights)


class Embed(layers.Layer):
    def __init__(self, name: str) -> None:
        super().__init__(name=name)
        self.tokens = layers.Embedding(TOKENS, WIDTH, name="tokens")
        self.positions = layers.Embedding(LENGTH, WIDTH, name="positions")

    def call(self, ids: Any) -> Any:
        return self.tokens(ids) + self.positions(ops.arange(ids.shape[1]))


def transformer(weights: Weights) -> keras.Model:
    ids = layers.Input((LENGTH,), dtype="int32", name="input_ids")
    mask = layers.Input((LENGTH,), dtype="int32", name="attention_mask")
    x = Embed(name="embed")(ids)
    x = _transformer_block("block1", x, mask)
    x = _transformer_block("block2", x, mask)
    x = layers.LayerNormalization(epsilon=EPSILON, name="norm")(x)
    logits = layers.Dense(5, name="head")(x[:, 0])
    return _loaded(keras.Model({"input_ids": ids, "attention_mask": mask}, logits, name="transformer"), weights)


def _transformer_block(name: str, x: Any, mask: Any) -> Any:
    y = layers.LayerNormalization(epsilon=EPSILON, name=f"{name}_norm1")(x)
    attention = layers.MultiHeadAttention(HEADS, WIDTH // HEADS, name=f"{name}_attention")
    x = layers.Add(name=f"{name}_add1")([x, attention(y, y, attention_mask=mask[:, None, :])])
    y = layers.LayerNormalization(epsilon=EPSILON, name=f"{name}_norm2")(x)
    y = layers.Dense(40, activation="gelu", name=f"{name}_up")(y)
    return layers.Add(name=f"{name}_add2")([x, layers.Dense(WIDTH, name=f"{name}_down")(y)])


def given(batch: Batch, data_format: str = "channels_last") -> Any:
    """A batch as these models take it: images in their layout, tokens by name."""
    if "images" in batch:
        images = batch["images"]
        return images if data_format == "channels_last" else np.ascontiguousarray(np.moveaxis(images, -1, 1))
    return {name: values.astype(np.int32) for name, values in batch.items()}


_KINDS = {
    "gamma": "scale",
    "beta": "offset",
    "moving_mean": "mean",
    "moving_variance": "variance",
    "embeddings": "table",
}


def _loaded(model: keras.Model, weights: Weights) -> keras.Model:
    """The model with these weights, found by the paths of its variables: "block1_attention/query/kernel" is "block1.attention.query.kernel"."""
    ours = {name.replace(".", "_"): value for name, value in weights.items()}
    for variable in model.variables:
        path, _, kind = variable.path.removeprefix(f"{model.name}/").replace("attention_output", "out").rpartition("/")
        value = ours.pop(f"{path}_{_KINDS.get(kind, kind)}".replace("/", "_"))
        variable.assign(value.reshape(variable.shape))  # heads have an axis of their own here
    assert not ours, f"no variables for {', '.join(ours)}"
    return model

"""Keras models of every shape, each with what its default sites must give, found without layerscope: by the model's own graph, or by calling its
layers one by one."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

import layerscope as ls
from tests.conftest import require

keras = require("keras")
layers, ops = keras.layers, keras.ops
BACKEND: str = keras.backend.backend()
RNG = np.random.default_rng(0)
N = 37  # three batches of 16, the last one short


@dataclass
class Case:
    """A model, its inputs, and by site what it gives and which axis holds units; `mask` where rows do not count, `given` its inputs as Keras takes them."""

    model: Any
    inputs: Any
    expected: dict[str, tuple[NDArray[Any], int]]
    mask: NDArray[np.bool_] | None = None
    given: Any = None

    def __post_init__(self) -> None:
        self.given = self.inputs if self.given is None else self.given


def host(tensor: Any) -> NDArray[Any]:
    return np.asarray(keras.ops.convert_to_numpy(ops.cast(tensor, "float32")))


def images(n: int = N, size: int = 8, channels: int = 1, seed: int = 0) -> NDArray[np.float32]:
    return np.random.default_rng(seed).normal(size=(n, size, size, channels)).astype(np.float32)


def vectors(n: int = N, width: int = 12, seed: int = 0) -> NDArray[np.float32]:
    return np.random.default_rng(seed).normal(size=(n, width)).astype(np.float32)


def by_graph(model: Any, x: Any, sites: dict[str, tuple[Any, int]]) -> dict[str, tuple[NDArray[Any], int]]:
    """What tensors of a Functional model hold, by a model of their own."""
    found = keras.Model(model.inputs, [tensor for tensor, _ in sites.values()]).predict(x, verbose=0)
    found = found if isinstance(found, list) else [found]
    return {site: (host(values), axis) for (site, (_, axis)), values in zip(sites.items(), found, strict=True)}


def functional() -> Case:
    i = layers.Input((8, 8, 1))
    a = layers.Conv2D(9, 3, activation="relu", name="conv_1")(i)
    x = layers.MaxPooling2D(2)(layers.BatchNormalization(name="norm")(a))
    b = layers.Conv2D(17, 2, name="conv_2")(x)
    c = layers.Activation("tanh", name="act")(layers.BatchNormalization()(b))
    d = layers.Dense(20, activation="gelu", name="fc")(layers.Flatten()(layers.Dropout(0.5)(c)))
    model = keras.Model(i, layers.Dense(3, activation="softmax", name="pred")(d))
    x = images()
    return Case(model, x, by_graph(model, x, {"conv_1": (a, 3), "act": (c, 3), "fc": (d, 1)}))


def sequential() -> Case:
    """Without an Input: it has a graph once it was called."""
    model = keras.Sequential(
        [
            layers.Dense(19, activation="relu", name="a"),
            layers.Dense(7, name="b"),
            layers.ReLU(name="c"),
            layers.Dense(2),
        ]
    )
    x = vectors()
    model(x[:2])
    a = model.layers[0](x)
    return Case(model, x, {"a": (host(a), 1), "c": (host(ops.relu(model.layers[1](a))), 1)})


class Subclassed(keras.Model):
    """Functions between layers, a residual sum and a slice written with operators, a layer used twice, layers in a list."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = layers.Dense(16)
        self.norm = layers.LayerNormalization()
        self.blocks = [layers.Dense(16, activation="silu"), layers.Dense(16)]
        self.named = layers.Dense(8, name="half")
        self.head = layers.Dense(3)

    def parts(self, x: Any) -> dict[str, Any]:
        first = ops.relu(self.norm(self.stem(x)))
        a = self.blocks[0](first)
        b = self.blocks[1](a)
        second = keras.activations.relu(first + b)
        c = self.blocks[0](second)
        half = self.named(c[:, :8])
        return {"relu()": first, "blocks.0": a, "relu()#1": second, "blocks.0#1": c, "tanh()": ops.tanh(half * 2.0)}

    def call(self, x: Any) -> Any:
        return self.head(self.parts(x)["tanh()"])


def subclassed() -> Case:
    model, x = Subclassed(), vectors()
    model(x[:2])
    return Case(model, x, {site: (host(values), 1) for site, values in model.parts(ops.convert_to_tensor(x)).items()})


def nested() -> Case:
    """A Functional model in a Sequential one in a Functional one, with names that come twice."""
    i = layers.Input((8, 8, 1))
    inner = keras.Model(i, layers.Conv2D(9, 3, activation="relu", name="conv_1")(i), name="backbone")
    middle = keras.Sequential(
        [layers.Input((8, 8, 1)), inner, layers.Conv2D(10, 2, activation="elu", name="conv_1")], name="encoder"
    )
    j = layers.Input((8, 8, 1))
    hidden = layers.Dense(11, activation="relu", name="d1")(layers.GlobalAveragePooling2D()(middle(j)))
    model = keras.Model(j, layers.Dense(3)(hidden))
    x = images()
    first = inner(x)
    second = middle.layers[-1](first)
    third = model.get_layer("d1")(ops.mean(second, axis=(1, 2)))
    return Case(
        model,
        x,
        {"encoder.backbone.conv_1": (host(first), 3), "encoder.conv_1": (host(second), 3), "d1": (host(third), 1)},
    )


def shared() -> Case:
    a, b = layers.Input((8, 8, 1)), layers.Input((8, 8, 1))
    conv, pool = layers.Conv2D(9, 3, activation="relu", name="conv_1"), layers.GlobalAveragePooling2D()
    left, right = conv(a), conv(b)
    model = keras.Model([a, b], layers.Dense(3)(layers.Concatenate()([pool(left), pool(right)])))
    x = [images(), images(seed=1)]
    # calls are numbered as they run, and Keras runs this graph's right branch first
    found = by_graph(model, x, {"conv_1": (right, 3), "conv_1#1": (left, 3)})
    return Case(model, ls.Data(tuple(x), inputs=[0, 1]), found, given=x)


def several() -> Case:
    """Several inputs and outputs, by name."""
    a, b = layers.Input((8, 8, 1), name="image"), layers.Input((5,), name="facts")
    c = layers.Conv2D(9, 3, activation="relu", name="conv_1")(a)
    d = layers.Dense(17, activation="relu", name="d1")(b)
    h = layers.Concatenate()([layers.GlobalAveragePooling2D()(c), d])
    model = keras.Model(
        {"image": a, "facts": b}, {"p": layers.Dense(3)(h), "q": layers.Dense(2, activation="sigmoid")(h)}
    )
    x = {"image": images(), "facts": vectors(width=5)}
    return Case(model, x, by_graph(model, x, {"conv_1": (c, 3), "d1": (d, 1)}))


def channels_first() -> Case:
    kw: Any = {"data_format": "channels_first"}
    i = layers.Input((2, 8, 8))
    a = layers.Conv2D(9, 3, activation="relu", name="conv_1", **kw)(i)
    x = layers.MaxPooling2D(2, **kw)(layers.BatchNormalization(axis=1)(a))
    b = layers.SeparableConv2D(10, 2, activation="relu", name="conv_2", **kw)(x)
    c = layers.Conv2DTranspose(7, 2, name="up", activation="softplus", **kw)(b)
    model = keras.Model(i, layers.Dense(3)(layers.Flatten(**kw)(c)))
    x = np.ascontiguousarray(images(channels=2).transpose(0, 3, 1, 2))
    return Case(model, x, by_graph(model, x, {"conv_1": (a, 1), "conv_2": (b, 1), "up": (c, 1)}))


def tuples() -> Case:
    """Layers that give several tensors."""
    i = layers.Input((6, 8))
    attended, scores = layers.MultiHeadAttention(2, 4, name="attend")(i, i, return_attention_scores=True)
    sequence, _last, _cell = layers.LSTM(10, return_sequences=True, return_state=True, name="lstm")(attended)
    both = layers.Bidirectional(layers.GRU(5), name="both")(sequence)
    model = keras.Model(i, [layers.Dense(3)(both), scores])
    x = np.random.default_rng(1).normal(size=(N, 6, 8)).astype(np.float32)
    return Case(model, x, by_graph(model, x, {"lstm": (sequence, 2), "both": (both, 1)}))


def half() -> Case:
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        i = layers.Input((12,))
        a = layers.Dense(20, activation="relu", name="a")(i)
        b = layers.Dense(9, name="b")(a)
        c = ops.relu(b)
        model = keras.Model(i, layers.Dense(3, dtype="float32")(c))
    finally:
        keras.config.set_dtype_policy(before)
    x = vectors()
    name = c._keras_history.operation.name
    return Case(model, x, by_graph(model, x, {"a": (a, 1), name: (c, 1)}))


def operations() -> Case:
    """Functions of `keras.ops` as nodes of a graph: operations with names of their own."""
    i = layers.Input((8, 8, 1))
    a = ops.relu(layers.Conv2D(9, 3, name="conv_1")(i))
    b = ops.leaky_relu(layers.Conv2D(9, 1, name="conv_2")(ops.transpose(a, (0, 2, 1, 3))) + a)
    c = ops.sigmoid(layers.Dense(5, name="fc")(ops.reshape(b, (-1, 36 * 9))))
    model = keras.Model(i, layers.Dense(2)(c))
    names = [tensor._keras_history.operation.name for tensor in (a, b, c)]
    x = images()
    found = by_graph(model, x, {names[0]: (a, 3), names[1]: (b, 3), names[2]: (c, 1)})
    return Case(model, x, found)


def raw_relu(x: Any) -> Any:
    """The backend's own function, not Keras's."""
    if BACKEND == "tensorflow":
        return require("tensorflow").nn.relu(x)
    if BACKEND == "jax":
        return require("jax").nn.relu(x)
    return require("torch").relu(x)


class Raw(keras.layers.Layer):
    def __init__(self) -> None:
        super().__init__(name="raw")
        self.inner = layers.Dense(13, name="inner")

    def build(self, shape: Any) -> None:
        self.table = self.add_weight(shape=(13, 9), name="table")

    def call(self, x: Any) -> Any:
        return raw_relu(raw_relu(self.inner(x)) @ ops.convert_to_tensor(self.table))


def raw() -> Case:
    i = layers.Input((12,))
    layer = Raw()
    model = keras.Model(i, layers.Dense(3, name="head")(layer(i)))
    x = vectors()
    first = np.maximum(host(layer.inner(x)), 0)
    second = host(layer(x))
    return Case(model, x, {"raw.relu()": (first, 1), "raw.relu()#1": (second, 1)})


def distributed() -> Case:
    i = layers.Input((6, 12))
    a = layers.TimeDistributed(layers.Dense(11, activation="relu"), name="td")(i)
    b = layers.Conv1D(9, 2, activation="relu", name="conv", padding="same")(a)
    model = keras.Model(i, layers.Dense(3)(layers.GlobalMaxPooling1D()(b)))
    x = np.random.default_rng(2).normal(size=(N, 6, 12)).astype(np.float32)
    return Case(model, x, by_graph(model, x, {"td": (a, 2), "conv": (b, 2)}))


def masked() -> Case:
    """Padding that the embedding knows of; a function between layers drops the mask, and padding still counts nowhere."""
    i = layers.Input((7,), dtype="int32")
    e = layers.Embedding(20, 12, mask_zero=True, name="embed")(i)
    a = layers.Dense(11, activation="relu", name="a")(e)
    b = ops.relu(layers.Dense(9, name="b")(a))
    c = layers.Dense(8, activation="relu", name="c")(b)
    d = layers.GRU(10, name="gru")(a)
    model = keras.Model(i, layers.Dense(2)(layers.Concatenate()([d, ops.max(c, axis=1)])))
    x = np.random.default_rng(3).integers(0, 20, (N, 7)).astype(np.int32)
    name = b._keras_history.operation.name
    found = by_graph(model, x, {"a": (a, 2), name: (b, 2), "c": (c, 2), "gru": (d, 1)})
    return Case(model, x, found, mask=x != 0)


def activations() -> Case:
    """Activations that are layers, functions of the user, and objects of Keras."""

    def scaled(x: Any) -> Any:
        return ops.gelu(x) * 2.0

    i = layers.Input((12,))
    a = layers.Dense(11, activation=layers.LeakyReLU(), name="a")(i)
    b = layers.Dense(10, activation=scaled, name="b")(a)
    c = layers.PReLU(name="c")(layers.Dense(9)(b))
    d = layers.Dense(8, activation=keras.activations.softplus, name="d")(c)
    model = keras.Model(i, layers.Dense(3)(d))
    x = vectors()
    found = by_graph(model, x, {"a": (a, 1), "b": (b, 1), "c": (c, 1), "d": (d, 1)})
    found["b.gelu()"] = (
        found["b"][0] / 2,
        1,
    )  # a layer with an activation of the user's is looked into, as any layer of theirs
    return Case(model, x, found)


class Inner(keras.layers.Layer):
    """A part that its author compiled, and called before."""

    def __init__(self) -> None:
        super().__init__(name="inner")
        self.a, self.b = layers.Dense(9, activation="relu", name="a"), layers.Dense(9, activation="relu", name="b")
        self.both: Callable[[Any], Any] = self.plain
        if BACKEND == "tensorflow":
            self.both = require("tensorflow").function(self.plain, autograph=False)

    def build(self, shape: Any) -> None:
        self.a.build(shape)
        self.b.build((None, 9))

    def plain(self, x: Any) -> Any:
        return self.b(self.a(x))

    def call(self, x: Any) -> Any:
        return self.both(x)


def compiled_inside() -> Case:
    i = layers.Input((12,))
    layer = Inner()
    model = keras.Model(i, layers.Dense(3)(layer(i)))
    x = vectors()
    model.predict(x, verbose=0)
    first = layer.a(x)
    return Case(model, x, {"inner.a": (host(first), 1), "inner.b": (host(layer.b(first)), 1)})


def rematerialised() -> Case:
    with keras.RematScope(mode="full"):
        i = layers.Input((12,))
        a = layers.Dense(11, activation="relu", name="a")(i)
        model = keras.Model(i, layers.Dense(3)(a))
    x = vectors()
    return Case(model, x, {"a": (np.maximum(x @ host(model.get_layer("a").kernel.value), 0), 1)})


def one_layer() -> Case:
    """No model: a layer on its own."""
    layer, x = layers.Dense(9, activation="relu", name="alone"), vectors()
    layer(x[:2])
    return Case(layer, x, {"(model)": (host(layer(x)), 1)})


CASES: dict[str, Callable[[], Case]] = {
    make.__name__: make
    for make in (
        functional, sequential, subclassed, nested, shared, several, channels_first, tuples, half, operations, raw, distributed, masked,
        activations, compiled_inside, rematerialised, one_layer,
    )
}  # fmt: skip

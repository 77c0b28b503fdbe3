"""The nets in Flax, channels last: NNX, where a model holds its weights, and Linen, where they are given at every call."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen, nnx

from ._reference import EPSILON
from ._weights import HEADS, LENGTH, TOKENS, WIDTH, Batch, Weights

# --- NNX -------------------------------------------------------------------------------------------------------------------------


class LeNet(nnx.Module):
    def __init__(self, *, rngs: nnx.Rngs) -> None:
        self.conv1 = nnx.Conv(1, 6, (5, 5), padding="SAME", rngs=rngs)
        self.conv2 = nnx.Conv(6, 16, (5, 5), padding="VALID", rngs=rngs)
        self.fc1 = nnx.Linear(400, 120, rngs=rngs)
        self.fc2 = nnx.Linear(120, 84, rngs=rngs)
        self.fc3 = nnx.Linear(84, 10, rngs=rngs)

    def __call__(self, images: jax.Array) -> jax.Array:
        x = nnx.max_pool(nnx.relu(self.conv1(images)), (2, 2), (2, 2))
        x = nnx.max_pool(nnx.relu(self.conv2(x)), (2, 2), (2, 2))
        x = nnx.relu(self.fc1(x.reshape(len(x), -1)))
        return self.fc3(nnx.relu(self.fc2(x)))


class ResidualBlock(nnx.Module):
    def __init__(self, inputs: int, outputs: int, stride: int, *, rngs: nnx.Rngs) -> None:
        # padding="SAME" would pad a stride of 2 at the far edges only
        self.conv1 = nnx.Conv(inputs, outputs, (3, 3), stride, padding=1, use_bias=False, rngs=rngs)
        self.norm1 = nnx.BatchNorm(outputs, epsilon=EPSILON, rngs=rngs)
        self.conv2 = nnx.Conv(outputs, outputs, (3, 3), padding=1, use_bias=False, rngs=rngs)
        self.norm2 = nnx.BatchNorm(outputs, epsilon=EPSILON, rngs=rngs)
        self.changes = inputs != outputs
        if self.changes:
            self.shortcut = nnx.Conv(inputs, outputs, (1, 1), stride, use_bias=False, rngs=rngs)
            self.shortcut_norm = nnx.BatchNorm(outputs, epsilon=EPSILON, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        y = nnx.relu(self.norm1(self.conv1(x)))
        y = self.norm2(self.conv2(y))
        return nnx.relu(y + (self.shortcut_norm(self.shortcut(x)) if self.changes else x))


class Residual(nnx.Module):
    def __init__(self, *, rngs: nnx.Rngs) -> None:
        self.stem = nnx.Conv(1, 12, (3, 3), padding=1, use_bias=False, rngs=rngs)
        self.stem_norm = nnx.BatchNorm(12, epsilon=EPSILON, rngs=rngs)
        self.block1 = ResidualBlock(12, 12, 1, rngs=rngs)
        self.block2 = ResidualBlock(12, 20, 2, rngs=rngs)
        self.head = nnx.Linear(20, 10, rngs=rngs)

    def __call__(self, images: jax.Array) -> jax.Array:
        x = nnx.relu(self.stem_norm(self.stem(images)))
        x = self.block2(self.block1(x))
        return self.head(x.mean(axis=(1, 2)))


class Embed(nnx.Module):
    def __init__(self, *, rngs: nnx.Rngs) -> None:
        self.tokens = nnx.Embed(TOKENS, WIDTH, rngs=rngs)
        self.positions = nnx.Embed(LENGTH, WIDTH, rngs=rngs)

    def __call__(self, ids: jax.Array) -> jax.Array:
        return self.tokens(ids) + self.positions(jnp.arange(ids.shape[1]))


class TransformerBlock(nnx.Module):
    def __init__(self, *, rngs: nnx.Rngs) -> None:
        self.norm1 = nnx.LayerNorm(WIDTH, epsilon=EPSILON, rngs=rngs)
        self.attention = nnx.MultiHeadAttention(HEADS, WIDTH, decode=False, rngs=rngs)
        self.norm2 = nnx.LayerNorm(WIDTH, epsilon=EPSILON, rngs=rngs)
        self.up, self.down = nnx.Linear(WIDTH, 40, rngs=rngs), nnx.Linear(40, WIDTH, rngs=rngs)

    def __call__(self, x: jax.Array, attends: jax.Array) -> jax.Array:
        x = x + self.attention(self.norm1(x), mask=attends)
        return x + self.down(nnx.gelu(self.up(self.norm2(x)), approximate=False))


class Transformer(nnx.Module):
    def __init__(self, *, rngs: nnx.Rngs) -> None:
        self.embed = Embed(rngs=rngs)
        self.block1, self.block2 = TransformerBlock(rngs=rngs), TransformerBlock(rngs=rngs)
        self.norm = nnx.LayerNorm(WIDTH, epsilon=EPSILON, rngs=rngs)
        self.head = nnx.Linear(WIDTH, 5, rngs=rngs)

    def __call__(self, input_ids: jax.Array, attention_mask: jax.Array) -> jax.Array:
        attends = attention_mask[:, None, None, :] > 0  # (samples, heads, queries, keys)
        x = self.block2(self.block1(self.embed(input_ids), attends), attends)
        return self.head(self.norm(x)[:, 0])


def lenet(weights: Weights) -> LeNet:
    return _loaded(LeNet(rngs=nnx.Rngs(0)), weights)


def residual(weights: Weights) -> Residual:
    return _loaded(Residual(rngs=nnx.Rngs(0)), weights)


def transformer(weights: Weights) -> Transformer:
    return _loaded(Transformer(rngs=nnx.Rngs(0)), weights)


# --- Linen -----------------------------------------------------------------------------------------------------------------------


class LinenLeNet(linen.Module):
    @linen.compact
    def __call__(self, images: jax.Array) -> jax.Array:
        x = linen.relu(linen.Conv(6, (5, 5), padding="SAME", name="conv1")(images))
        x = linen.max_pool(x, (2, 2), (2, 2))
        x = linen.relu(linen.Conv(16, (5, 5), padding="VALID", name="conv2")(x))
        x = linen.max_pool(x, (2, 2), (2, 2))
        x = linen.relu(linen.Dense(120, name="fc1")(x.reshape(len(x), -1)))
        x = linen.relu(linen.Dense(84, name="fc2")(x))
        return linen.Dense(10, name="fc3")(x)


class LinenResidualBlock(linen.Module):
    outputs: int
    stride: int

    @linen.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        y = linen.Conv(self.outputs, (3, 3), self.stride, padding=1, use_bias=False, name="conv1")(x)
        y = linen.relu(_linen_norm("norm1")(y))
        y = linen.Conv(self.outputs, (3, 3), padding=1, use_bias=False, name="conv2")(y)
        y = _linen_norm("norm2")(y)
        if x.shape[-1] != self.outputs:
            x = linen.Conv(self.outputs, (1, 1), self.stride, use_bias=False, name="shortcut")(x)
            x = _linen_norm("shortcut_norm")(x)
        return linen.relu(x + y)


class LinenResidual(linen.Module):
    @linen.compact
    def __call__(self, images: jax.Array) -> jax.Array:
        x = linen.Conv(12, (3, 3), padding=1, use_bias=False, name="stem")(images)
        x = linen.relu(_linen_norm("stem_norm")(x))
        x = LinenResidualBlock(12, 1, name="block1")(x)
        x = LinenResidualBlock(20, 2, name="block2")(x)
        return linen.Dense(10, name="head")(x.mean(axis=(1, 2)))


def _linen_norm(name: str) -> linen.BatchNorm:
    return linen.BatchNorm(use_running_average=True, epsilon=EPSILON, name=name)


class LinenEmbed(linen.Module):
    @linen.compact
    def __call__(self, ids: jax.Array) -> jax.Array:
        positions = linen.Embed(LENGTH, WIDTH, name="positions")(jnp.arange(ids.shape[1]))
        return linen.Embed(TOKENS, WIDTH, name="tokens")(ids) + positions


class LinenTransformerBlock(linen.Module):
    @linen.compact
    def __call__(self, x: jax.Array, attends: jax.Array) -> jax.Array:
        y = linen.LayerNorm(epsilon=EPSILON, name="norm1")(x)
        x = x + linen.MultiHeadDotProductAttention(HEADS, name="attention")(y, mask=attends)
        y = linen.Dense(40, name="up")(linen.LayerNorm(epsilon=EPSILON, name="norm2")(x))
        return x + linen.Dense(WIDTH, name="down")(linen.gelu(y, approximate=False))


class LinenTransformer(linen.Module):
    @linen.compact
    def __call__(self, input_ids: jax.Array, attention_mask: jax.Array) -> jax.Array:
        attends = attention_mask[:, None, None, :] > 0
        x = LinenEmbed(name="embed")(input_ids)
        x = LinenTransformerBlock(name="block1")(x, attends)
        x = LinenTransformerBlock(name="block2")(x, attends)
        return linen.Dense(5, name="head")(linen.LayerNorm(epsilon=EPSILON, name="norm")(x)[:, 0])


Variables = dict[str, Any]


def linen_lenet(weights: Weights) -> tuple[LinenLeNet, Variables]:
    """The module and its variables: `module.apply(variables, images)`.  So for all nets in Linen."""
    return LinenLeNet(), _variables(weights)


def linen_residual(weights: Weights) -> tuple[LinenResidual, Variables]:
    return LinenResidual(), _variables(weights)


def linen_transformer(weights: Weights) -> tuple[LinenTransformer, Variables]:
    return LinenTransformer(), _variables(weights)


# --- weights and inputs of both --------------------------------------------------------------------------------------------------


def given(batch: Batch) -> Any:
    """A batch as these models take it: images channels last, tokens by name."""
    return batch["images"] if "images" in batch else dict(batch)


_KINDS = {"offset": "bias", "variance": "var", "table": "embedding"}


def _shaped(path: str, value: Any) -> jax.Array:
    """Inside attention heads have an axis of their own."""
    if path.rpartition(".")[0].endswith("attention") and not path.endswith(".out"):
        value = value.reshape(*value.shape[:-1], HEADS, WIDTH // HEADS)
    elif path.endswith("attention.out") and value.ndim == 2:
        value = value.reshape(HEADS, WIDTH // HEADS, WIDTH)
    return jnp.asarray(value)


def _loaded(model: Any, weights: Weights) -> Any:
    """The model in inference mode with these weights, found by the paths of its variables."""
    for name, value in weights.items():
        path, _, kind = name.rpartition(".")
        layer = model
        for part in path.split("."):
            layer = getattr(layer, part)
        getattr(layer, _KINDS.get(kind, kind))[...] = _shaped(path, value)
    model.eval()
    return model


def _variables(weights: Weights) -> Variables:
    """The same weights as the nested dicts that `apply` takes."""
    variables: Variables = {}
    for name, value in weights.items():
        path, _, kind = name.rpartition(".")
        inner = variables.setdefault("batch_stats" if kind in ("mean", "variance") else "params", {})
        for part in path.split("."):
            inner = inner.setdefault(part, {})
        inner[_KINDS.get(kind, kind)] = _shaped(path, value)
    return variables

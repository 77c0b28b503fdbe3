"""The nets in Equinox: channels first, written for one sample, to be called under `jax.vmap`."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from ._weights import HEADS, LENGTH, TOKENS, WIDTH, Batch, Weights, rows_channels_first


class LeNet(eqx.Module):
    conv1: eqx.nn.Conv2d
    conv2: eqx.nn.Conv2d
    pool: eqx.nn.MaxPool2d
    fc1: eqx.nn.Linear
    fc2: eqx.nn.Linear
    fc3: eqx.nn.Linear

    def __init__(self, key: jax.Array) -> None:
        keys = jax.random.split(key, 5)
        self.conv1 = eqx.nn.Conv2d(1, 6, 5, padding=2, key=keys[0])
        self.conv2 = eqx.nn.Conv2d(6, 16, 5, key=keys[1])
        self.pool = eqx.nn.MaxPool2d(2, 2)
        self.fc1 = eqx.nn.Linear(400, 120, key=keys[2])
        self.fc2 = eqx.nn.Linear(120, 84, key=keys[3])
        self.fc3 = eqx.nn.Linear(84, 10, key=keys[4])

    def __call__(self, image: jax.Array) -> jax.Array:
        x = self.pool(jax.nn.relu(self.conv1(image)))
        x = self.pool(jax.nn.relu(self.conv2(x)))
        x = jax.nn.relu(self.fc1(x.ravel()))
        return self.fc3(jax.nn.relu(self.fc2(x)))


class ResidualBlock(eqx.Module):
    conv1: eqx.nn.Conv2d
    norm1: eqx.nn.BatchNorm
    conv2: eqx.nn.Conv2d
    norm2: eqx.nn.BatchNorm
    shortcut: eqx.nn.Conv2d | None
    shortcut_norm: eqx.nn.BatchNorm | None

    def __init__(self, inputs: int, outputs: int, stride: int, key: jax.Array) -> None:
        keys = jax.random.split(key, 3)
        self.conv1 = eqx.nn.Conv2d(inputs, outputs, 3, stride, padding=1, use_bias=False, key=keys[0])
        self.norm1 = eqx.nn.BatchNorm(outputs, "batch", mode="batch")
        self.conv2 = eqx.nn.Conv2d(outputs, outputs, 3, padding=1, use_bias=False, key=keys[1])
        self.norm2 = eqx.nn.BatchNorm(outputs, "batch", mode="batch")
        changes = inputs != outputs
        self.shortcut = eqx.nn.Conv2d(inputs, outputs, 1, stride, use_bias=False, key=keys[2]) if changes else None
        self.shortcut_norm = eqx.nn.BatchNorm(outputs, "batch", mode="batch") if changes else None

    def __call__(self, x: jax.Array, state: eqx.nn.State) -> tuple[jax.Array, eqx.nn.State]:
        y, state = self.norm1(self.conv1(x), state)
        y, state = self.norm2(self.conv2(jax.nn.relu(y)), state)
        if self.shortcut is not None and self.shortcut_norm is not None:
            x, state = self.shortcut_norm(self.shortcut(x), state)
        return jax.nn.relu(x + y), state


class Residual(eqx.Module):
    stem: eqx.nn.Conv2d
    stem_norm: eqx.nn.BatchNorm
    block1: ResidualBlock
    block2: ResidualBlock
    head: eqx.nn.Linear

    def __init__(self, key: jax.Array) -> None:
        keys = jax.random.split(key, 4)
        self.stem = eqx.nn.Conv2d(1, 12, 3, padding=1, use_bias=False, key=keys[0])
        self.stem_norm = eqx.nn.BatchNorm(12, "batch", mode="batch")
        self.block1 = ResidualBlock(12, 12, 1, keys[1])
        self.block2 = ResidualBlock(12, 20, 2, keys[2])
        self.head = eqx.nn.Linear(20, 10, key=keys[3])

    def __call__(self, image: jax.Array, state: eqx.nn.State) -> tuple[jax.Array, eqx.nn.State]:
        x, state = self.stem_norm(self.stem(image), state)
        x, state = self.block1(jax.nn.relu(x), state)
        x, state = self.block2(x, state)
        return self.head(x.mean(axis=(1, 2))), state


class Inferring(eqx.Module):
    """A model together with its running statistics, which no longer change: an image in, logits out."""

    net: Residual
    state: eqx.nn.State

    def __call__(self, image: jax.Array) -> jax.Array:
        return self.net(image, self.state)[0]


class Embed(eqx.Module):
    tokens: eqx.nn.Embedding
    positions: eqx.nn.Embedding

    def __init__(self, key: jax.Array) -> None:
        keys = jax.random.split(key)
        self.tokens = eqx.nn.Embedding(TOKENS, WIDTH, key=keys[0])
        self.positions = eqx.nn.Embedding(LENGTH, WIDTH, key=keys[1])

    def __call__(self, ids: jax.Array) -> jax.Array:
        return jax.vmap(self.tokens)(ids) + jax.vmap(self.positions)(jnp.arange(len(ids)))


class TransformerBlock(eqx.Module):
    norm1: eqx.nn.LayerNorm
    attention: eqx.nn.MultiheadAttention
    norm2: eqx.nn.LayerNorm
    up: eqx.nn.Linear
    down: eqx.nn.Linear

    def __init__(self, key: jax.Array) -> None:
        keys = jax.random.split(key, 3)
        self.norm1, self.norm2 = eqx.nn.LayerNorm(WIDTH), eqx.nn.LayerNorm(WIDTH)
        self.attention = eqx.nn.MultiheadAttention(
            HEADS,
            WIDTH,
            use_query_bias=True,
            use_key_bias=True,
            use_value_bias=True,
            use_output_bias=True,
            key=keys[0],
        )
        self.up, self.down = eqx.nn.Linear(WIDTH, 40, key=keys[1]), eqx.nn.Linear(40, WIDTH, key=keys[2])

    def __call__(self, x: jax.Array, attends: jax.Array) -> jax.Array:
        y = jax.vmap(self.norm1)(x)
        x = x + self.attention(y, y, y, attends)
        y = jax.nn.gelu(jax.vmap(self.up)(jax.vmap(self.norm2)(x)), approximate=False)
        return x + jax.vmap(self.down)(y)


class Transformer(eqx.Module):
    embed: Embed
    block1: TransformerBlock
    block2: TransformerBlock
    norm: eqx.nn.LayerNorm
    head: eqx.nn.Linear

    def __init__(self, key: jax.Array) -> None:
        keys = jax.random.split(key, 4)
        self.embed = Embed(keys[0])
        self.block1, self.block2 = TransformerBlock(keys[1]), TransformerBlock(keys[2])
        self.norm, self.head = eqx.nn.LayerNorm(WIDTH), eqx.nn.Linear(WIDTH, 5, key=keys[3])

    def __call__(self, input_ids: jax.Array, attention_mask: jax.Array) -> jax.Array:
        attends = jnp.broadcast_to(attention_mask > 0, (LENGTH, LENGTH))  # (queries, keys)
        x = self.block2(self.block1(self.embed(input_ids), attends), attends)
        return self.head(self.norm(x[0]))


def lenet(weights: Weights) -> LeNet:
    mine = {**weights, "fc1.kernel": rows_channels_first(weights["fc1.kernel"], 16)}
    return _loaded(LeNet(jax.random.key(0)), mine)


def residual(weights: Weights) -> Inferring:
    net, state = eqx.nn.make_with_state(Residual)(jax.random.key(0))
    running = {name: value for name, value in weights.items() if name.endswith((".mean", ".variance"))}
    for path in {name.rpartition(".")[0] for name in running}:
        index = _at(net, path).batch_state_index
        state = state.set(index, (jnp.asarray(running[f"{path}.mean"]), jnp.asarray(running[f"{path}.variance"])))
    return Inferring(_loaded(net, {name: value for name, value in weights.items() if name not in running}), state)


def transformer(weights: Weights) -> Transformer:
    parts = {"query": "query_proj", "key": "key_proj", "value": "value_proj", "out": "output_proj"}
    mine: Weights = {}
    for name, value in weights.items():
        path, _, kind = name.rpartition(".")
        owner, _, part = path.rpartition(".")
        mine[f"{owner}.{parts[part]}.{kind}" if owner.endswith("attention") else name] = value
    return _loaded(Transformer(jax.random.key(0)), mine)


def given(batch: Batch) -> Any:
    """A batch as these models take it under `jax.vmap`: images channels first, tokens by name."""
    return np.ascontiguousarray(np.moveaxis(batch["images"], -1, 1)) if "images" in batch else dict(batch)


def _at(model: Any, path: str) -> Any:
    for part in path.split("."):
        model = getattr(model, part)
    return model


_KINDS = {"kernel": "weight", "scale": "weight", "table": "weight", "offset": "bias"}


def _loaded(model: Any, weights: Weights) -> Any:
    """The model in inference mode with these weights; kernels turn from (…, in, out) to (out, in, …)."""
    for name, value in weights.items():
        path, _, kind = name.rpartition(".")
        turned = np.moveaxis(value, (-1, -2), (0, 1)) if kind == "kernel" else value

        def where(tree: Any, path: str = path, kind: str = kind) -> Any:
            return getattr(_at(tree, path), _KINDS.get(kind, kind))

        assert where(model).size == value.size, f"{name}: {value.shape} for {where(model).shape}"
        model = eqx.tree_at(where, model, jnp.asarray(turned.reshape(where(model).shape)))
    return eqx.nn.inference_mode(model)

"""What all frameworks share: the weights of three nets in one layout, and inputs for them.

A weight is named `path.kind`, the same path in every framework.  Kinds and layouts, those of Keras and Flax:

    kernel    (…, inputs, outputs): (in, out) of a dense layer, (height, width, in, out) of a convolution; of queries, keys and values
              the outputs of one head after those of the other
    bias      (outputs,)
    scale, offset, mean, variance    (units,), of a normalisation
    table     (entries, units), of an embedding
"""

from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from ..._errors import DataError

Net = Literal["lenet", "residual", "transformer"]
NETS: tuple[Net, ...] = get_args(Net)

Weights = dict[str, NDArray[np.float32]]
Batch = dict[str, NDArray[Any]]

TOKENS, LENGTH = 30, 12
HEADS, WIDTH = 2, 16


def weights(net: Net, seed: int = 0) -> Weights:
    """The weights of a net as {name: float32 array}, drawn so that every layer's activations are of the order of 1."""
    rng = np.random.default_rng(seed)
    return {name: _drawn(name, shape, rng).astype(np.float32) for name, shape in _SHAPES[net].items()}


def batch(net: Net, samples: int, seed: int = 0) -> Batch:
    """Inputs in the layout of the reference, as {name: array}.

    **Gives:** `images` (samples, height, width, 1) float32, handwritten digits; for the transformer `input_ids` and `attention_mask`
    (samples, 12) int64, where sequences of 3 to 12 tokens are followed by padding.
    **Raises:** `DataError` for more images than there are.
    """
    rng = np.random.default_rng(seed)
    if net == "transformer":
        lengths = rng.integers(3, LENGTH + 1, size=(samples, 1))
        mask = (np.arange(LENGTH) < lengths).astype(np.int64)
        return {"input_ids": rng.integers(1, TOKENS, size=(samples, LENGTH)) * mask, "attention_mask": mask}
    from ... import datasets

    images, _ = datasets.digits(size=28 if net == "lenet" else 8, split="all")
    if samples > len(images):
        raise DataError(
            f"models.batch({net!r}, {samples}): there are {len(images)} digits. Ask for at most so many samples."
        )
    chosen = rng.permutation(len(images))[:samples]
    return {"images": np.ascontiguousarray(np.moveaxis(images[chosen], 1, -1))}


def rows_channels_first(kernel: NDArray[np.float32], channels: int) -> NDArray[np.float32]:
    """A dense kernel after flattening images, for frameworks that flatten (channels, height, width): the same rows in their order."""
    side = round((len(kernel) / channels) ** 0.5)
    rows = np.arange(len(kernel)).reshape(side, side, channels)
    return kernel[rows.transpose(2, 0, 1).ravel()]


def _drawn(name: str, shape: tuple[int, ...], rng: np.random.Generator) -> NDArray[np.float64]:
    kind = name.rpartition(".")[2]
    normal = rng.normal(size=shape)
    if kind == "kernel":
        return normal * np.sqrt(2 / np.prod(shape[:-1]))  # He et al. 2015
    return {"scale": 1 + 0.2 * normal, "variance": np.exp(0.3 * normal), "table": normal}.get(kind, 0.3 * normal)


def _affine(path: str, *shape: int) -> dict[str, tuple[int, ...]]:
    return {f"{path}.kernel": shape, f"{path}.bias": shape[-1:]}


def _batch_norm(path: str, units: int) -> dict[str, tuple[int, ...]]:
    return {f"{path}.{kind}": (units,) for kind in ("scale", "offset", "mean", "variance")}


def _layer_norm(path: str, units: int) -> dict[str, tuple[int, ...]]:
    return {f"{path}.{kind}": (units,) for kind in ("scale", "offset")}


def _residual_block(path: str, inputs: int, outputs: int) -> dict[str, tuple[int, ...]]:
    shapes: dict[str, tuple[int, ...]] = {}
    for conv, norm, shape in (
        ("conv1", "norm1", (3, 3, inputs, outputs)),
        ("conv2", "norm2", (3, 3, outputs, outputs)),
        *([("shortcut", "shortcut_norm", (1, 1, inputs, outputs))] if inputs != outputs else []),
    ):
        shapes |= {f"{path}.{conv}.kernel": shape} | _batch_norm(f"{path}.{norm}", outputs)
    return shapes


def _transformer_block(path: str) -> dict[str, tuple[int, ...]]:
    shapes = _layer_norm(f"{path}.norm1", WIDTH)
    for part in ("query", "key", "value", "out"):
        shapes |= _affine(f"{path}.attention.{part}", WIDTH, WIDTH)
    return (
        shapes
        | _layer_norm(f"{path}.norm2", WIDTH)
        | _affine(f"{path}.up", WIDTH, 40)
        | _affine(f"{path}.down", 40, WIDTH)
    )


_SHAPES: dict[Net, dict[str, tuple[int, ...]]] = {
    "lenet": {
        **_affine("conv1", 5, 5, 1, 6),
        **_affine("conv2", 5, 5, 6, 16),
        **_affine("fc1", 400, 120),
        **_affine("fc2", 120, 84),
        **_affine("fc3", 84, 10),
    },
    "residual": {
        "stem.kernel": (3, 3, 1, 12),
        **_batch_norm("stem_norm", 12),
        **_residual_block("block1", 12, 12),
        **_residual_block("block2", 12, 20),
        **_affine("head", 20, 10),
    },
    "transformer": {
        "embed.tokens.table": (TOKENS, WIDTH),
        "embed.positions.table": (LENGTH, WIDTH),
        **_transformer_block("block1"),
        **_transformer_block("block2"),
        **_layer_norm("norm", WIDTH),
        **_affine("head", WIDTH, 5),
    },
}

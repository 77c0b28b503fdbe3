"""The nets in PyTorch: channels first, modules and `torch.nn.functional`."""

from typing import Any, TypeVar

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from ._weights import HEADS, LENGTH, TOKENS, WIDTH, Batch, Weights, rows_channels_first


class LeNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.relu1, self.pool1 = nn.Conv2d(1, 6, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2)
        self.conv2, self.relu2, self.pool2 = nn.Conv2d(6, 16, 5), nn.ReLU(), nn.MaxPool2d(2)
        self.fc1, self.relu3 = nn.Linear(400, 120), nn.ReLU()
        self.fc2, self.relu4 = nn.Linear(120, 84), nn.ReLU()
        self.fc3 = nn.Linear(84, 10)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        x = self.pool1(self.relu1(self.conv1(images)))
        x = self.pool2(self.relu2(self.conv2(x)))
        x = self.relu3(self.fc1(x.flatten(1)))
        return self.fc3(self.relu4(self.fc2(x)))


class ResidualBlock(nn.Module):
    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(outputs)
        self.changes = inputs != outputs
        if self.changes:
            self.shortcut = nn.Conv2d(inputs, outputs, 1, stride, bias=False)
            self.shortcut_norm = nn.BatchNorm2d(outputs)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = F.relu(self.norm1(self.conv1(x)))
        y = self.norm2(self.conv2(y))
        return F.relu(y + (self.shortcut_norm(self.shortcut(x)) if self.changes else x))


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, 12, 3, padding=1, bias=False)
        self.stem_norm = nn.BatchNorm2d(12)
        self.block1, self.block2 = ResidualBlock(12, 12, 1), ResidualBlock(12, 20, 2)
        self.head = nn.Linear(20, 10)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        x = F.relu(self.stem_norm(self.stem(images)))
        x = self.block2(self.block1(x))
        return self.head(x.mean(dim=(2, 3)))


class Embed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.tokens, self.positions = nn.Embedding(TOKENS, WIDTH), nn.Embedding(LENGTH, WIDTH)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        return self.tokens(ids) + self.positions(torch.arange(ids.shape[1], device=ids.device))


class TransformerBlock(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.attention = nn.MultiheadAttention(WIDTH, HEADS, batch_first=True)
        self.up, self.down = nn.Linear(WIDTH, 40), nn.Linear(40, WIDTH)

    def forward(self, x: torch.Tensor, padding: torch.Tensor) -> torch.Tensor:
        y = self.norm1(x)
        x = x + self.attention(y, y, y, key_padding_mask=padding, need_weights=False)[0]
        return x + self.down(F.gelu(self.up(self.norm2(x))))


class Transformer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = Embed()
        self.block1, self.block2 = TransformerBlock(), TransformerBlock()
        self.norm, self.head = nn.LayerNorm(WIDTH), nn.Linear(WIDTH, 5)

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        padding = attention_mask == 0
        x = self.block2(self.block1(self.embed(input_ids), padding), padding)
        return self.head(self.norm(x)[:, 0])


def lenet(weights: Weights) -> LeNet:
    return _loaded(LeNet(), {**weights, "fc1.kernel": rows_channels_first(weights["fc1.kernel"], 16)})


def residual(weights: Weights) -> Residual:
    return _loaded(Residual(), weights)


def transformer(weights: Weights) -> Transformer:
    mine = dict(weights)
    for block in ("block1", "block2"):  # queries, keys and values come from one matrix, under a name of its own
        for kind, name in (("kernel", "in_proj_weight"), ("bias", "in_proj_bias")):
            parts = [mine.pop(f"{block}.attention.{part}.{kind}") for part in ("query", "key", "value")]
            mine[f"{block}.attention.{name}"] = np.concatenate([part.T for part in parts])
        for kind in ("kernel", "bias"):
            mine[f"{block}.attention.out_proj.{kind}"] = mine.pop(f"{block}.attention.out.{kind}")
    return _loaded(Transformer(), mine)


def given(batch: Batch) -> Any:
    """A batch as these models take it: images channels first, tokens by name."""
    if "images" in batch:
        return torch.from_numpy(np.ascontiguousarray(np.moveaxis(batch["images"], -1, 1)))
    return {name: torch.from_numpy(values) for name, values in batch.items()}


M = TypeVar("M", bound=nn.Module)
_KINDS = {
    "kernel": "weight", "scale": "weight", "table": "weight", "offset": "bias", "mean": "running_mean", "variance": "running_var",
}  # fmt: skip


def _loaded(model: M, weights: Weights) -> M:
    """The model in inference mode with these weights; kernels turn from (…, in, out) to (out, in, …)."""
    state: dict[str, torch.Tensor] = {}
    for name, value in weights.items():
        path, _, kind = name.rpartition(".")
        turned = np.moveaxis(value, (-1, -2), (0, 1)) if kind == "kernel" else value
        state[f"{path}.{_KINDS.get(kind, kind)}"] = torch.from_numpy(np.ascontiguousarray(turned))
    model.load_state_dict(state)
    return model.eval()

"""The networks that the capture benchmark runs: the tutorial LeNet-5, a small residual net, a small transformer."""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.nn import functional as F


class LeNet5(nn.Module):
    """The convolutional network of TensorState's tutorial."""

    def __init__(self) -> None:
        super().__init__()
        self.conv_1, self.norm_1 = nn.Conv2d(1, 20, 5), nn.BatchNorm2d(20)
        self.conv_2, self.norm_2 = nn.Conv2d(20, 50, 5), nn.BatchNorm2d(50)
        self.conv_3, self.norm_3 = nn.Conv2d(50, 100, 4), nn.BatchNorm2d(100)
        self.elu, self.pool, self.pred = nn.ELU(), nn.MaxPool2d(2), nn.Linear(100, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.pool(self.norm_1(self.elu(self.conv_1(x))))
        x = self.pool(self.norm_2(self.elu(self.conv_2(x))))
        return self.pred(self.norm_3(self.elu(self.conv_3(x))).flatten(1))


class Residual(nn.Module):
    """Two convolutions and a way round them."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.first = nn.Sequential(
            nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()
        )
        self.second = nn.Sequential(nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False), nn.BatchNorm2d(outputs))
        self.skip = nn.Identity() if (inputs, stride) == (outputs, 1) else nn.Conv2d(inputs, outputs, 1, stride)
        self.relu = nn.ReLU()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.relu(self.second(self.first(x)) + self.skip(x))


def resnet(width: int = 32) -> nn.Module:
    """17 ReLU layers, for 64 × 64 colour images."""
    blocks = [
        Residual(width * a, width * b, stride)
        for a, b, stride in ((1, 1, 1), (1, 1, 1), (1, 2, 2), (2, 2, 1), (2, 4, 2), (4, 4, 1), (4, 8, 2), (8, 8, 1))
    ]
    head = (nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8 * width, 10))
    return nn.Sequential(nn.Conv2d(3, width, 3, 1, 1), nn.ReLU(), *blocks, *head)


class Block(nn.Module):
    """A pre-norm transformer block with a feed-forward layer of four times its width."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm_1, self.norm_2, self.heads = nn.LayerNorm(width), nn.LayerNorm(width), heads
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.ffn = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        q, k, v = self.qkv(self.norm_1(x)).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        x = x + self.out(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))
        return x + self.ffn(self.norm_2(x))


class Case(NamedTuple):
    """What is run and watched."""

    model: nn.Module
    data: torch.Tensor
    batch: int
    layers: Any


def lenet() -> Case:
    torch.manual_seed(0)
    data = torch.rand(10_000, 1, 28, 28, generator=torch.Generator().manual_seed(1))
    return Case(LeNet5().eval(), data, 200, ["conv_1", "conv_2", "conv_3"])


def residual() -> Case:
    torch.manual_seed(0)
    return Case(resnet().eval(), torch.rand(256, 3, 64, 64, generator=torch.Generator().manual_seed(1)), 32, "ReLU")


def transformer() -> Case:
    torch.manual_seed(0)
    data = torch.randn(128, 128, 256, generator=torch.Generator().manual_seed(1))
    return Case(nn.Sequential(*[Block(256, 4) for _ in range(4)]).eval(), data, 8, "GELU")


CASES: dict[str, Callable[[], Case]] = {"lenet": lenet, "residual": residual, "transformer": transformer}

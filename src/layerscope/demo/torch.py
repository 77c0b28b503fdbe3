"""The tutorial's LeNet-5 in PyTorch, and how it is trained."""

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn


class LeNet5(nn.Module):
    """A convolutional network for 28 × 28 images: 20, 50 and 100 ELU units with batch normalisation after each, then 10 logits.

    **Source:** the architecture of LeCun et al. 1998 as changed by the TensorState tutorial (ELU, batch normalisation, He's initial weights).
    """

    def __init__(self) -> None:
        super().__init__()
        self.conv_1, self.elu_1, self.norm_1 = nn.Conv2d(1, 20, 5), nn.ELU(), nn.BatchNorm2d(20, eps=1e-5, momentum=0.9)
        self.conv_2, self.elu_2, self.norm_2 = (
            nn.Conv2d(20, 50, 5),
            nn.ELU(),
            nn.BatchNorm2d(50, eps=1e-5, momentum=0.9),
        )
        self.conv_3, self.elu_3, self.norm_3 = (
            nn.Conv2d(50, 100, 4),
            nn.ELU(),
            nn.BatchNorm2d(100, eps=1e-5, momentum=0.9),
        )
        self.maxp_1, self.maxp_2 = nn.MaxPool2d(2, stride=2), nn.MaxPool2d(2, stride=2)
        self.flatten, self.pred = nn.Flatten(), nn.Linear(100, 10)
        for layer in (self.conv_1, self.conv_2, self.conv_3, self.pred):
            nn.init.kaiming_normal_(layer.weight)
            assert layer.bias is not None
            nn.init.zeros_(layer.bias)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        x = self.maxp_1(self.norm_1(self.elu_1(self.conv_1(images))))
        x = self.maxp_2(self.norm_2(self.elu_2(self.conv_2(x))))
        x = self.norm_3(self.elu_3(self.conv_3(x)))
        return self.pred(self.flatten(x))


def trained(
    images: NDArray[np.float32],
    labels: NDArray[np.int64],
    *,
    epochs: int,
    seed: int,
    bar: Callable[[Iterable[Any]], Any],
    batch_size: int = 50,
    turning: bool = False,
) -> LeNet5:
    """A LeNet-5 trained on images (N, 1, 28, 28) and labels (N,); `bar` wraps the epochs and shows how far they are.

    With `epochs` 0 it is as it was made. With `turning` every image is turned by any angle, another one each time it comes.

    Equal seeds give equal networks: one thread adds in one order, whatever the machine.  (It is no slower, as the batches are small, and
    on a busy machine many times faster.)  torch's random state and number of threads are put back.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return _trained(images, labels, epochs, seed, bar, batch_size, turning)
    finally:
        torch.set_num_threads(threads)


def _trained(
    images: NDArray[np.float32],
    labels: NDArray[np.int64],
    epochs: int,
    seed: int,
    bar: Callable[[Iterable[Any]], Any],
    batch_size: int,
    turning: bool,
) -> LeNet5:
    x, y = torch.from_numpy(images), torch.from_numpy(labels)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = LeNet5()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9, weight_decay=5e-4, nesterov=True)
        model.train()
        epochs_shown = bar(range(epochs))
        for _ in epochs_shown:
            correct = 0
            for chosen in torch.randperm(len(x)).split(batch_size):
                if len(chosen) < 2:
                    continue  # batch normalisation needs two samples
                optimizer.zero_grad()
                logits = model(turned(x[chosen]) if turning else x[chosen])
                nn.functional.cross_entropy(logits, y[chosen]).backward()
                optimizer.step()
                correct += int((logits.argmax(1) == y[chosen]).sum())
            epochs_shown.set_postfix_str(f"training accuracy {correct / len(x):.1%}")
    return model.eval()


def turned(x: torch.Tensor) -> torch.Tensor:
    """Images (N, 1, rows, columns), each turned by an angle of its own, drawn at random."""
    angle = torch.rand(len(x)) * 2 * torch.pi
    c, s, zero = angle.cos(), angle.sin(), 0 * angle
    matrix = torch.stack([torch.stack([c, -s, zero], -1), torch.stack([s, c, zero], -1)], 1)
    places = nn.functional.affine_grid(matrix, list(x.shape), align_corners=False)
    return nn.functional.grid_sample(x, places, align_corners=False)

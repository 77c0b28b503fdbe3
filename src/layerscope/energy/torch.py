"""Energy layers with PyTorch: a network as an `nn.Module` whose parameters any optimiser takes."""

from typing import Any

import array_api_compat.torch as NAMESPACE
import numpy as np
import torch
from numpy.typing import NDArray

__all__ = ["NAMESPACE", "on_the_host"]


def on_the_host(value: torch.Tensor) -> NDArray[Any]:
    """The values of a tensor, in float64 where they are real."""
    value = value.detach().cpu()
    return np.asarray((value.double() if value.is_floating_point() else value).numpy())

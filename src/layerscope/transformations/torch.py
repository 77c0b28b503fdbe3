"""Transformations where PyTorch tensors lie: one batched resample for all maps, and random draws that leave no trace."""

from collections.abc import Generator
from contextlib import contextmanager

import numpy as np
import torch
import torch.nn.functional as F

from ._resample import Border, Interpolation, Points


def resample(planes: torch.Tensor, points: Points, border: Border, interpolation: Interpolation) -> torch.Tensor:
    """Images (maps, images, height, width), those of map k at the points of map k: the twin of the NumPy definition.

    The images ride as channels, so the weights of a map are found once for all of them.
    """
    height, width = planes.shape[-2:]
    if interpolation == "nearest":
        points = Points(np.rint(points.x), np.rint(points.y))
    whole = points.whole()
    if len(whole) == len(planes):
        return torch.stack([_picked(planes[k], points, k, border) for k in whole])
    wide = planes if planes.dtype in (torch.float32, torch.float64) else planes.float()
    # pixel k lies at (2 k + 1) / size - 1; in float64, as long as it can be
    x = (2 * torch.from_numpy(points.x) + 1) / width - 1
    y = (2 * torch.from_numpy(points.y) + 1) / height - 1
    where = torch.stack([x, y], dim=-1).to(device=wide.device, dtype=wide.dtype)
    padding = "zeros" if border == "zero" else "border"
    out = F.grid_sample(wide, where, mode="bilinear", padding_mode=padding, align_corners=False).to(planes.dtype)
    for k in whole:  # coordinates in float32 would mix 1e-6 of a neighbour into what is exact
        out[k] = _picked(planes[k], points, k, border)
    return out


def _picked(planes: torch.Tensor, points: Points, k: int, border: Border) -> torch.Tensor:
    """Images (images, height, width) at points that are pixels."""
    height, width = planes.shape[-2:]
    x, y = torch.from_numpy(points.x[k]).long(), torch.from_numpy(points.y[k]).long()
    column, row = x.clamp(0, width - 1), y.clamp(0, height - 1)
    out = planes.reshape(len(planes), -1)[:, (row * width + column).to(planes.device)]
    if border == "edge":
        return out
    inside = ((column == x) & (row == y)).to(planes.device)
    return torch.where(inside, out, torch.zeros((), dtype=out.dtype, device=out.device))


@contextmanager
def seeded(seed: int) -> Generator[None]:
    """Random numbers of PyTorch from `seed`, and afterwards as if nothing had happened."""
    state = torch.get_rng_state()
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_available() and torch.cuda.is_initialized() else None
    torch.manual_seed(seed)
    try:
        yield
    finally:
        torch.set_rng_state(state)
        if cuda is not None:
            torch.cuda.set_rng_state_all(cuda)

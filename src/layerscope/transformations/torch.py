"""Transformations where PyTorch tensors lie: one batched resample for all maps, and random draws that leave no trace."""

import functools
from collections.abc import Generator
from contextlib import contextmanager
from typing import NamedTuple

import torch
import torch.nn.functional as F

from ._resample import Border, Interpolation, Points


def resample(planes: torch.Tensor, points: Points, border: Border, interpolation: Interpolation) -> torch.Tensor:
    """Images (maps, images, height, width), those of map k at the points of map k: the twin of the NumPy definition.

    The images ride as channels, so the weights of a map are found once for all of them.
    """
    height, width = planes.shape[-2:]
    real = planes if planes.dtype in (torch.float32, torch.float64) else planes.float()
    made = _made(points, border, interpolation, height, width, real.dtype, str(real.device))
    if len(made.picks) == len(planes):
        out = torch.empty((*planes.shape[:2], *points.x.shape[1:]), dtype=planes.dtype, device=planes.device)
    else:
        padding = "zeros" if border == "zero" else "border"
        out = F.grid_sample(real, made.where, mode="bilinear", padding_mode=padding, align_corners=False)
        out = out.to(planes.dtype)
    flat = planes.reshape(*planes.shape[:2], -1)
    for k, (index, outside) in made.picks.items():
        values = flat[k].index_select(1, index)
        values = values if outside is None else values.masked_fill(outside, 0)
        out[k] = values.reshape(out.shape[1:])
    return out


class _Made(NamedTuple):
    """The points as `grid_sample` takes them, and the maps that only move values: which pixels they take, and which of these are not there."""

    where: torch.Tensor
    picks: dict[int, tuple[torch.Tensor, torch.Tensor | None]]


@functools.lru_cache(maxsize=64)
def _made(
    points: Points,
    border: Border,
    interpolation: Interpolation,
    height: int,
    width: int,
    dtype: torch.dtype,
    device: str,
) -> _Made:
    px, py = torch.from_numpy(points.x), torch.from_numpy(points.y)
    # pixel k lies at (2 k + 1) / size - 1; in float64, as long as it can be
    where = torch.stack([(2 * px + 1) / width - 1, (2 * py + 1) / height - 1], dim=-1)
    picks: dict[int, tuple[torch.Tensor, torch.Tensor | None]] = {}
    # coordinates in float32 would mix 1e-6 of a neighbour into what is exact
    for k in range(len(points.x)) if interpolation == "nearest" else points.whole:
        x, y = px[k].round().long().reshape(-1), py[k].round().long().reshape(-1)
        column, row = x.clamp(0, width - 1), y.clamp(0, height - 1)
        outside = (column != x) | (row != y)
        lost = border == "zero" and bool(outside.any())
        picks[k] = (row * width + column).to(device), outside.to(device) if lost else None
    return _Made(where.to(device=device, dtype=dtype), picks)


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

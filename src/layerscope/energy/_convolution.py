"""Convolution as a synapse, with or without pooling: each unit of one layer aligned with what a kernel sees in another."""

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, Self

from .._errors import ShapeError
from ._abstract import AbstractSynapse, Shapes
from ._alignment import refuse, wants
from ._array import Array, beside, namespace
from ._draw import normal, zeros
from ._tree import Parameter, announce, node
from ._windows import Padding, Windows

Sizes = int | tuple[int, ...]


def sizes(value: Sizes, axes: int) -> tuple[int, ...]:
    """One number an axis."""
    return (value,) * axes if isinstance(value, int) else tuple(value)


@dataclass(frozen=True)
class Pool:
    """Windows whose values are made one: their mean ("avg") or their largest ("max").

    **Beware:** with "max" the energy has kinks, so no step size is safe and no update is exact.
    """

    size: Sizes
    stride: Sizes | None = None
    kind: Literal["avg", "max"] = "avg"

    def __post_init__(self) -> None:
        if self.kind not in ("avg", "max"):
            raise ValueError(f"Pool: kind must be 'avg' or 'max', got {self.kind!r}.")

    def over(self, grid: tuple[int, ...]) -> Windows:
        return Windows(grid, sizes(self.size, len(grid)), sizes(self.stride or self.size, len(grid)))

    def forward(self, windows: Array) -> Array:
        """(batch, windows, places, channels) to (batch, windows, channels)."""
        xp = namespace(windows)
        return xp.mean(windows, axis=2) if self.kind == "avg" else xp.max(windows, axis=2)

    def back(self, windows: Array, pull: Array) -> Array:
        """How `pull` (batch, windows, channels) reaches the places of the windows; a tie shares it."""
        xp = namespace(windows)
        if self.kind == "avg":
            return xp.broadcast_to(pull[:, :, None] / windows.shape[2], windows.shape)
        top = xp.asarray(windows == xp.max(windows, axis=2, keepdims=True), dtype=windows.dtype)
        return pull[:, :, None] * top / xp.sum(top, axis=2, keepdims=True)


@node
@dataclass(frozen=True, repr=False, eq=False)
class ConvSynapse(AbstractSynapse):
    r"""$E = -\langle \mathrm{pool}(K * g^1), g^2\rangle$: layer 2 aligned with a convolution of layer 1, channels last.

    The force on layer 2 is the convolution, the force on layer 1 its transpose.

    **Arguments:** `kernel` trainable, (*window, channels of layer 1, channels of layer 2), for any number of spatial axes; `stride`; `padding`
    "same", "valid" or a number; `pool` a `Pool`, or None.
    **Source:** Hoover et al. 2022.
    """

    kernel: Parameter
    stride: Sizes = 1
    padding: Padding = "same"
    pool: Pool | None = None
    plan: tuple[Windows, Windows | None] | None = None

    def __post_init__(self) -> None:
        if self.kernel.ndim < 3:
            raise ShapeError(
                f"ConvSynapse: the kernel has shape {tuple(self.kernel.shape)}; it must be (*window, channels in, channels out), such as (3, 3, 1, 16)."
            )
        announce()

    @classmethod
    def random(
        cls, rng: Any, window: tuple[int, ...], channels: tuple[int, int], scale: float = 0.02, like: Array | None = None, **settings: Any
    ) -> "ConvSynapse":  # fmt: skip
        """A kernel drawn from a normal distribution with deviation `scale`, for (channels of layer 1, channels of layer 2)."""
        return cls(normal(rng, (*window, *channels), like) * scale, **settings)

    def _plan(self, grid: tuple[int, ...]) -> tuple[Windows, Windows | None]:
        if self.plan is not None and self.plan[0].grid == grid:
            return self.plan
        axes = self.kernel.ndim - 2
        windows = Windows(grid, tuple(self.kernel.shape[:-2]), sizes(self.stride, axes), self.padding)
        return windows, None if self.pool is None else self.pool.over(windows.shape)

    def fit(self, shapes: Shapes) -> Self:
        axes = self.kernel.ndim - 2
        hint = f"The kernel {tuple(self.kernel.shape)} is (*window, channels in, channels out), and layers have their channels last."
        if len(shapes) != 2 or not all(len(shape) == axes + 1 for shape in shapes):
            raise refuse(self, f"two layers with {axes} spatial axes and channels", shapes, hint)
        if (shapes[0][-1], shapes[1][-1]) != tuple(self.kernel.shape[-2:]):
            raise refuse(self, f"{self.kernel.shape[-2]} channels with {self.kernel.shape[-1]}", shapes, hint)
        plan = self._plan(shapes[0][:-1])
        made = (plan[1] or plan[0]).shape
        if made != shapes[1][:-1]:
            raise refuse(
                self, f"a first layer of shape {shapes[0]} with a second of shape {(*made, shapes[1][-1])}", shapes,
                "Give the second layer that shape, or change stride, padding or pool.",
            )  # fmt: skip
        return dataclasses.replace(self, plan=plan)

    def pull(
        self, gs: Sequence[Array], ranks: Sequence[int] | None = None, wanted: Sequence[int] | None = None
    ) -> tuple[Array, dict[int, Array]]:
        xp = namespace(self.kernel, *gs)
        rank = self.kernel.ndim - 1
        lead = 0 if ranks is None else gs[0].ndim - rank
        batch, grid = tuple(gs[0].shape[:lead]), tuple(gs[0].shape[lead:-1])
        windows, pooled = self._plan(grid)
        kernel = beside(self.kernel, gs[0])
        channels_in, channels_out = kernel.shape[-2:]
        K = xp.reshape(kernel, (-1, channels_out))
        first = xp.reshape(gs[0], (math.prod(batch), math.prod(grid), channels_in))
        second = xp.reshape(gs[1], (math.prod(batch), math.prod(gs[1].shape[lead:-1]), channels_out))

        seen = windows.cut(first)
        up = xp.matmul(xp.reshape(seen, (*seen.shape[:2], K.shape[0])), K)
        places = None
        if pooled is not None and self.pool is not None:
            places = pooled.cut(up)
            up = self.pool.forward(places)
        energy = xp.reshape(-xp.sum(xp.sum(up * second, axis=-1), axis=-1), batch)

        wanted = wants(wanted, 2)
        forces: dict[int, Array] = {}
        if 0 in wanted:
            down = second
            if pooled is not None and self.pool is not None:
                down = pooled.join(self.pool.back(places, second))
            spread = xp.reshape(xp.matmul(down, xp.matrix_transpose(K)), seen.shape)
            forces[0] = xp.reshape(windows.join(spread), gs[0].shape)
        if 1 in wanted:
            forces[1] = xp.reshape(up, gs[1].shape)
        return energy, forces

    def coupling(self, shapes: Shapes, radii: Sequence[Any]) -> list[list[Any]]:
        if self.pool is not None and self.pool.kind == "max":
            return [[math.inf, math.inf], [math.inf, math.inf]]
        # ‖A‖² is at most its largest row sum times its largest column sum; the forces of |K| on layers of ones are these sums
        xp = namespace(self.kernel)
        sizes_ = dataclasses.replace(self, kernel=xp.abs(self.kernel))
        ones = [zeros(shape, self.kernel) + 1 for shape in shapes]
        columns, lines = sizes_.forces(*ones)
        norm = xp.sqrt(xp.max(columns) * xp.max(lines))
        return [[0.0, norm], [norm, 0.0]]

    @property
    def orders(self) -> tuple[tuple[tuple[int, float], ...], ...]:
        return (((0, 1.0), (1, 1.0)),)

    @property
    def alternates(self) -> bool:
        return self.pool is None or self.pool.kind == "avg"

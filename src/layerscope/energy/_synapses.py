"""Synapses without a geometry: multilinear ones between any number of layers, and those that hide a layer which moves at once."""

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self, cast

import numpy as np

from ._abstract import AbstractLagrangian, AbstractSynapse, Shapes
from ._alignment import flat, refuse, shaped, times, wants
from ._array import Array, beside, namespace, numbers
from ._draw import normal
from ._tree import Child, Parameter, announce, node


def spectral_norm(matrix: Array) -> Any:
    """The largest singular value; a plain float where the matrix is known."""
    known = numbers(matrix)
    if known is not None:
        return float(np.linalg.norm(known, 2)) if known.size else 0.0
    return namespace(matrix).linalg.matrix_norm(matrix, ord=2)


def frobenius(tensor: Array) -> Any:
    """The root of the sum of squares, at least the norm of the tensor as a multilinear form."""
    known = numbers(tensor)
    if known is not None:
        return float(np.linalg.norm(known.ravel()))
    xp = namespace(tensor)
    return xp.sqrt(xp.sum(tensor * tensor))


def contract(W: Array, gs: Sequence[Array], leave: int) -> Array:
    """Σ W·g₀·g₁… over all axes of W but one: W (n₀, n₁, …), each g (batch, n), the result (batch, n of `leave`)."""
    if W.ndim == 2:
        return gs[1 - leave] @ (W if leave else W.T)
    xp = namespace(W)
    others = [axis for axis in range(W.ndim) if axis != leave]
    batch = gs[others[-1]].shape[0] if others else gs[leave].shape[0]
    if not others:
        return xp.broadcast_to(W, (batch, W.shape[0]))
    last = others.pop()
    ordered = xp.permute_dims(W, (last, leave, *others))
    sizes = ordered.shape[1:]
    made = xp.matmul(gs[last], xp.reshape(ordered, (ordered.shape[0], -1)))
    while others:
        axis = others.pop()
        made = xp.reshape(made, (batch, math.prod(sizes[: len(others) + 1]), sizes[len(others) + 1]))
        made = xp.matmul(made, gs[axis][..., None])[..., 0]
    return xp.reshape(made, (batch, sizes[0]))


def multilinear_coupling(norm: Any, radii: Sequence[Any]) -> list[list[Any]]:
    """The coupling of −W·g₀·g₁…: between two layers the norm of W times how large the others can be."""
    count = len(radii)
    return [
        [0.0 if i == j else times(norm, *(r for k, r in enumerate(radii) if k not in (i, j))) for j in range(count)]
        for i in range(count)
    ]


@node
@dataclass(frozen=True, repr=False, eq=False)
class DenseSynapse(AbstractSynapse):
    r"""$E = -\sum W_{ij\dots}\,g^1_i\,g^2_j\dots$: all units of one layer with all units of the others, for any number of layers.

    **Arguments:** `W` trainable, one axis a layer, as long as the layer has units; or the axes of all layers one after the other.
    **Source:** Krotov & Hopfield 2021; for more than two layers Hoover et al. 2022.
    """

    W: Parameter

    def __post_init__(self) -> None:
        announce()

    @classmethod
    def random(
        cls, rng: Any, *shapes: tuple[int, ...], scale: float = 0.02, like: Array | None = None
    ) -> "DenseSynapse":
        """Weights drawn from a normal distribution with deviation `scale`, for layers of these shapes."""
        return cls(normal(rng, [math.prod(shape) for shape in shapes], like) * scale)

    def fit(self, shapes: Shapes) -> Self:
        sizes = tuple(math.prod(shape) for shape in shapes)
        if tuple(self.W.shape) == sizes:
            return self
        if tuple(self.W.shape) == sum(shapes, ()):
            return dataclasses.replace(self, W=namespace(self.W).reshape(self.W, sizes))
        raise refuse(
            self, f"layers of {' and '.join(map(str, self.W.shape))} units", shapes,
            f"W must have shape {sizes}: one axis a layer, in the order of the connection.",
        )  # fmt: skip

    def pull(
        self, gs: Sequence[Array], ranks: Sequence[int] | None = None, wanted: Sequence[int] | None = None
    ) -> tuple[Array, dict[int, Array]]:
        xp, W = namespace(gs[0]), beside(self.W, gs[0])
        batch, rows = flat(gs, ranks)
        forces = {n: contract(W, rows, n) for n in wants(wanted, len(gs))}
        at, force = next(iter(forces.items())) if forces else (0, contract(W, rows, 0))
        energy = -xp.sum(rows[at] * force, axis=-1)
        return shaped(energy, batch), {n: shaped(force, gs[n].shape) for n, force in forces.items()}

    def coupling(self, shapes: Shapes, radii: Sequence[Any]) -> list[list[Any]]:
        if len(radii) == 1:
            return [[0.0]]
        norm = spectral_norm(self.W) if len(radii) == 2 else frobenius(self.W)
        return multilinear_coupling(norm, radii)

    @property
    def orders(self) -> tuple[tuple[tuple[int, float], ...], ...]:
        return (tuple((n, 1.0) for n in range(self.W.ndim)),)


@node
@dataclass(frozen=True, repr=False, eq=False)
class BiasSynapse(AbstractSynapse):
    r"""$E = -\sum b\,g$: a constant input to one layer.

    **Arguments:** `b` trainable, in the shape of the layer.
    """

    b: Parameter

    def __post_init__(self) -> None:
        announce()

    def fit(self, shapes: Shapes) -> Self:
        if shapes != (tuple(self.b.shape),):
            raise refuse(self, f"one layer of shape {tuple(self.b.shape)}", shapes, "Give b the shape of the layer.")
        return self

    def pull(
        self, gs: Sequence[Array], ranks: Sequence[int] | None = None, wanted: Sequence[int] | None = None
    ) -> tuple[Array, dict[int, Array]]:
        xp, b = namespace(self.b, *gs), beside(self.b, gs[0])
        batch, (g,) = flat(gs, ranks)
        energy = xp.reshape(-xp.sum(g * xp.reshape(b, (1, -1)), axis=-1), batch)
        return energy, {n: xp.broadcast_to(b, gs[n].shape) for n in wants(wanted, 1)}

    def coupling(self, shapes: Shapes, radii: Sequence[Any]) -> list[list[Any]]:
        return [[0.0]]

    @property
    def orders(self) -> tuple[tuple[tuple[int, float], ...], ...]:
        return (((0, 1.0),),)


@node
@dataclass(frozen=True, repr=False, eq=False)
class HiddenSynapse(AbstractSynapse):
    r"""$E = -L_h(\sum_l g^l W_l + b)$: a hidden layer that is always at its minimum for what it sees, and so needs no state.

    With a softmax it is the modern Hopfield network, with a power the dense associative memory of Krotov & Hopfield.
    The energy is concave in all activations together: one exact step never raises it, whatever the weights.

    **Arguments:** `Ws` trainable, one matrix (units of the layer, hidden units) a layer; `lagrangian` of the hidden layer; `b` trainable,
    (hidden units,) or None: what the hidden layer sees besides.
    **Source:** Krotov & Hopfield 2021, arXiv:2008.06996; Ramsauer et al. 2020, arXiv:2008.02217.
    """

    Ws: Parameter
    lagrangian: Child[AbstractLagrangian]
    b: Parameter = None

    def __post_init__(self) -> None:
        if not isinstance(self.Ws, tuple):
            several = isinstance(self.Ws, list)
            object.__setattr__(self, "Ws", tuple(cast("list[Any]", self.Ws)) if several else (self.Ws,))
        announce()

    def fit(self, shapes: Shapes) -> Self:
        sizes, hidden = [math.prod(shape) for shape in shapes], self.Ws[0].shape[-1]
        if [tuple(W.shape) for W in self.Ws] != [(size, hidden) for size in sizes]:
            raise refuse(
                self, f"layers with matrices of shapes {', '.join(str(tuple(W.shape)) for W in self.Ws)}", shapes,
                f"Ws must be {', '.join(str((size, 'hidden')) for size in sizes)}, one matrix a layer, all with as many hidden units.",
            )  # fmt: skip
        if self.b is not None and tuple(self.b.shape) != (hidden,):
            raise refuse(
                self,
                f"{hidden} hidden units with b of shape {tuple(self.b.shape)}",
                shapes,
                "b is one number a hidden unit.",
            )
        return self

    def seen(self, gs: Sequence[Array], ranks: Sequence[int] | None = None) -> Array:
        """The state of the hidden layer, (batch, hidden units)."""
        xp = namespace(*self.Ws, *gs)
        _, rows = flat(gs, ranks)
        parts = [xp.matmul(g, beside(W, g)) for g, W in zip(rows, self.Ws, strict=True)]
        return sum(parts[1:], parts[0]) + (0 if self.b is None else beside(self.b, gs[0]))

    def pull(
        self, gs: Sequence[Array], ranks: Sequence[int] | None = None, wanted: Sequence[int] | None = None
    ) -> tuple[Array, dict[int, Array]]:
        xp, hidden = namespace(*self.Ws, *gs), self.seen(gs, ranks)
        batch, _ = flat(gs, ranks)
        energy = xp.reshape(-self.lagrangian.value(hidden, 1), batch)
        wanted = wants(wanted, len(gs))
        if not wanted:
            return energy, {}
        p = self.lagrangian.activation(hidden)
        return energy, {n: xp.reshape(xp.matmul(p, beside(self.Ws[n], p).T), gs[n].shape) for n in wanted}

    def coupling(self, shapes: Shapes, radii: Sequence[Any]) -> list[list[Any]]:
        return [[0.0] * len(radii) for _ in radii]

    @property
    def orders(self) -> tuple[tuple[tuple[int, float], ...], ...]:
        return tuple(((n, self.lagrangian.growth),) for n in range(len(self.Ws)))


@node
@dataclass(frozen=True, repr=False, eq=False)
class TensorHiddenSynapse(AbstractSynapse):
    r"""$E = -L_h(h)$ with $h_k = \sum W_{kij\dots}\,g^1_i\,g^2_j\dots$: a hidden layer that sees products of activations.

    **Arguments:** `W` trainable, (hidden units, units of layer 1, units of layer 2, …); `lagrangian` of the hidden layer.
    **Source:** Hoover et al. 2022.
    """

    W: Parameter
    lagrangian: Child[AbstractLagrangian]

    def __post_init__(self) -> None:
        announce()

    def fit(self, shapes: Shapes) -> Self:
        sizes = tuple(math.prod(shape) for shape in shapes)
        if tuple(self.W.shape[1:]) != sizes:
            raise refuse(
                self, f"layers of {' and '.join(map(str, self.W.shape[1:]))} units", shapes, f"W must have shape {('hidden', *sizes)}."
            )  # fmt: skip
        return self

    def pull(
        self, gs: Sequence[Array], ranks: Sequence[int] | None = None, wanted: Sequence[int] | None = None
    ) -> tuple[Array, dict[int, Array]]:
        xp, W = namespace(self.W, *gs), beside(self.W, gs[0])
        batch, rows = flat(gs, ranks)
        hidden = contract(W, [rows[0], *rows], 0)
        energy = xp.reshape(-self.lagrangian.value(hidden, 1), batch)
        wanted = wants(wanted, len(gs))
        if not wanted:
            return energy, {}
        seen = [self.lagrangian.activation(hidden), *rows]
        return energy, {n: xp.reshape(contract(W, seen, n + 1), gs[n].shape) for n in wanted}

    def coupling(self, shapes: Shapes, radii: Sequence[Any]) -> list[list[Any]]:
        if len(radii) == 1:
            return [[0.0]]
        # beyond the concave part, the slope of L_h pulls at pairs of layers as a multilinear synapse does
        slope = self.lagrangian.radius((self.W.shape[0],))
        return multilinear_coupling(times(slope, frobenius(self.W)), radii)

    @property
    def orders(self) -> tuple[tuple[tuple[int, float], ...], ...]:
        return (tuple((n, self.lagrangian.growth) for n in range(self.W.ndim - 1)),)

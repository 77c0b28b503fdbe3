"""What a Lagrangian is, which fixes the activation and energy of a layer, and what a synapse is, which aligns activations."""

import abc
from collections.abc import Sequence
from typing import Any, ClassVar, Self

from ._array import Array, checked, total
from ._tree import show


class AbstractLagrangian(abc.ABC):
    """A convex function of a state, and all that follows from it.

    All is written in closed form, with automatic differentiation as the oracle of the tests.  Energies are computed from x without the difference
    of two large numbers that the definition asks for, so they stay finite at |βx| = 1e4 wherever the limit is finite.

    A leaf says four things before any sum: elementwise, or with the axis it reduces kept at length 1.  `value`, `energy` and `dual` then sum
    over the last `rank` axes, which are one state, and keep the batch axes in front; without `rank` every axis is part of the state.
    """

    axis: ClassVar[int] = 0
    """The axis along which units depend on each other, counted from the end; 0 where every unit stands alone."""

    @abc.abstractmethod
    def densities(self, x: Array) -> Array:
        """L before the sum."""

    @abc.abstractmethod
    def activation(self, x: Array) -> Array:
        """g = ∇L(x), in the shape of x."""

    @abc.abstractmethod
    def energies(self, x: Array) -> Array:
        """⟨x, g⟩ − L(x) before the sum."""

    @abc.abstractmethod
    def duals(self, g: Array) -> Array:
        """The energy as a function of the activation, before the sum."""

    @abc.abstractmethod
    def hessian(self, x: Array, v: Array) -> Array:
        """∇²L(x) v, in the shape of x: how the activation changes when the state moves along v."""

    @property
    @abc.abstractmethod
    def curvature(self) -> Any:
        """M, the largest eigenvalue that ∇²L has anywhere; inf where there is no bound."""

    @property
    @abc.abstractmethod
    def growth(self) -> float:
        """The power of x with which L grows: 1 where activations are bounded, inf where L is exponential."""

    @abc.abstractmethod
    def radius(self, shape: tuple[int, ...]) -> Any:
        """The largest norm an activation of this shape can have; inf where there is no bound."""

    def both(self, x: Array) -> tuple[Array, Array]:
        """`activation` and `energies` together, for a Lagrangian in which they share most of their work."""
        return self.activation(x), self.energies(x)

    def value(self, x: Array, rank: int | None = None) -> Array:
        """L(x)."""
        return total(self.densities(checked(x)), rank)

    def energy(self, x: Array, rank: int | None = None) -> Array:
        """E = ⟨x, g⟩ − L(x)."""
        return total(self.energies(checked(x)), rank)

    def dual(self, g: Array, rank: int | None = None) -> Array:
        """E as a function of g, for any g that is an activation."""
        return total(self.duals(checked(g)), rank)

    def entropy(self, x: Array, rank: int | None = None) -> Array | None:
        """S in nats where the energy is −S/β up to a constant (activations are probabilities), else None."""
        return None

    def __call__(self, x: Array) -> Array:
        """L(x), every axis part of the state."""
        return self.value(x)

    def __repr__(self) -> str:
        return show(self)


Shapes = tuple[tuple[int, ...], ...]


class AbstractSynapse(abc.ABC):
    """Aligns the activations of the layers it connects: its energy is minus their alignment.

    Activations come in the order of the connection, each as (*batch, *shape of its layer); `ranks` says how many axes belong to each layer,
    all where it is None.  Energies have the shape of the batch.
    """

    @abc.abstractmethod
    def fit(self, shapes: Shapes) -> Self:
        """The synapse for layers of these shapes.

        **Raises:** `ShapeError` where it does not fit them.
        """

    @abc.abstractmethod
    def pull(
        self, gs: Sequence[Array], ranks: Sequence[int] | None = None, wanted: Sequence[int] | None = None
    ) -> tuple[Array, dict[int, Array]]:
        """The energy, and −∂E/∂g for the connected layers whose numbers are `wanted` (all where None): one pass for both."""

    @abc.abstractmethod
    def coupling(self, shapes: Shapes, radii: Sequence[Any]) -> list[list[Any]]:
        """How strongly the energy can curve upwards: B with vᵀ∇²E v ≤ Σ B[i][j] |v_i||v_j| for activations of norm at most `radii`.

        inf where there is no bound; all 0 for an energy that is concave in all its activations together.
        """

    @property
    @abc.abstractmethod
    def orders(self) -> tuple[tuple[tuple[int, float], ...], ...]:
        """How fast the energy can fall: products of powers, each ((number of a layer, power), …); −|g₀||g₁| is (((0, 1), (1, 1)),)."""

    @property
    def alternates(self) -> bool:
        """Whether the energy is concave in each activation alone, so that the exact update of one layer never raises it."""
        return True

    def energy(self, *gs: Array, ranks: Sequence[int] | None = None) -> Array:
        """E of activations."""
        return self.pull(gs, ranks, ())[0]

    def forces(self, *gs: Array, ranks: Sequence[int] | None = None) -> tuple[Array, ...]:
        """−∂E/∂g for every connected layer."""
        return tuple(self.pull(gs, ranks)[1].values())

    def __repr__(self) -> str:
        return show(self)

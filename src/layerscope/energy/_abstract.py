"""What a Lagrangian is: a convex function of a layer's state that fixes its activation and its energy."""

import abc
from typing import Any, ClassVar

from ._array import Array, checked, total
from ._tree import show


class AbstractLagrangian(abc.ABC):
    """A convex function of a state, and all that follows from it.

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

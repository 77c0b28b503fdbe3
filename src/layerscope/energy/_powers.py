r"""Lagrangians that are powers of the state: linear and rectified units, each on its own.

**Source:** Krotov & Hopfield 2021, arXiv:2008.06996.
"""

import math
from dataclasses import dataclass

from ._abstract import AbstractLagrangian
from ._array import Array, namespace
from ._formulas import rectified
from ._tree import announce, node


@node
@dataclass(frozen=True, repr=False)
class LIdentity(AbstractLagrangian):
    r"""$L = \tfrac12\sum x^2$, $g = x$, $E = \tfrac12\sum g^2$, M = 1: a linear layer."""

    def densities(self, x: Array) -> Array:
        return x * x / 2

    def activation(self, x: Array) -> Array:
        return x

    def energies(self, x: Array) -> Array:
        return x * x / 2

    def duals(self, g: Array) -> Array:
        return g * g / 2

    def hessian(self, x: Array, v: Array) -> Array:
        return v

    @property
    def curvature(self) -> float:
        return 1.0

    @property
    def growth(self) -> float:
        return 2.0

    def radius(self, shape: tuple[int, ...]) -> float:
        return math.inf


@node
@dataclass(frozen=True, repr=False)
class LRelu(AbstractLagrangian):
    r"""$L = \tfrac12\sum r^2$ with $r = \max(x, 0)$, $g = r$, $E = \tfrac12\sum g^2$, M = 1."""

    def densities(self, x: Array) -> Array:
        r = rectified(x)
        return r * r / 2

    def activation(self, x: Array) -> Array:
        return rectified(x)

    def energies(self, x: Array) -> Array:
        return self.densities(x)

    def duals(self, g: Array) -> Array:
        return g * g / 2

    def hessian(self, x: Array, v: Array) -> Array:
        xp = namespace(x)
        return xp.where(x > 0, v, xp.zeros_like(v))

    @property
    def curvature(self) -> float:
        return 1.0

    @property
    def growth(self) -> float:
        return 2.0

    def radius(self, shape: tuple[int, ...]) -> float:
        return math.inf


@node
@dataclass(frozen=True, repr=False)
class LRepu(AbstractLagrangian):
    r"""$L = \sum r^n/n$ with $r = \max(x, 0)$, $g = r^{n-1}$, $E = \frac{n-1}{n}\sum g^{n/(n-1)}$, M = ∞: a rectified polynomial.

    **Arguments:** `n` > 1, the power.
    """

    n: float = 2.0

    def __post_init__(self) -> None:
        if not self.n > 1:
            raise ValueError(f"LRepu: the power n must be above 1, got {self.n!r}. n = 2 is the ReLU.")
        announce()

    def densities(self, x: Array) -> Array:
        return rectified(x) ** self.n / self.n

    def activation(self, x: Array) -> Array:
        return self._power(x, self.n - 1)

    def energies(self, x: Array) -> Array:
        return rectified(x) ** self.n * ((self.n - 1) / self.n)

    def duals(self, g: Array) -> Array:
        return g ** (self.n / (self.n - 1)) * ((self.n - 1) / self.n)

    def hessian(self, x: Array, v: Array) -> Array:
        return (self.n - 1) * self._power(x, self.n - 2) * v

    def _power(self, x: Array, power: float) -> Array:
        """x^power where x > 0, else 0: written so that powers below 1 have finite derivatives at 0."""
        xp = namespace(x)
        return xp.where(x > 0, xp.where(x > 0, x, xp.ones_like(x)) ** power, xp.zeros_like(x))

    @property
    def curvature(self) -> float:
        return 1.0 if self.n == 2 else math.inf

    @property
    def growth(self) -> float:
        return float(self.n)

    def radius(self, shape: tuple[int, ...]) -> float:
        return math.inf

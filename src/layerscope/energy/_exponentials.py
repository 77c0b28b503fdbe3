r"""Lagrangians that grow as an exponential of the state: units whose activation has no ceiling.

**Source:** Demircigil et al. 2017, arXiv:1702.01929; Krotov & Hopfield 2021, arXiv:2008.06996.
"""

import math
from dataclasses import dataclass

from ._abstract import AbstractLagrangian
from ._array import Array, namespace
from ._formulas import check_positive, floored, rectified, xlogx
from ._tree import Parameter, announce, node


@node
@dataclass(frozen=True, repr=False)
class LExp(AbstractLagrangian):
    r"""$L = \sum e^{\beta x}/\beta$, $g = e^{\beta x}$, $E = \sum (g \ln g - g)/\beta$, M = ∞.

    **Arguments:** `beta` β > 0, trainable; `min_beta` the least β that is used, where training pushes it lower.
    """

    beta: Parameter = 1.0
    min_beta: float = 1e-6

    def __post_init__(self) -> None:
        check_positive("beta", self.beta, self)
        announce()

    def densities(self, x: Array) -> Array:
        beta = floored(self.beta, self.min_beta)
        return namespace(x).exp(beta * x) / beta

    def activation(self, x: Array) -> Array:
        return namespace(x).exp(floored(self.beta, self.min_beta) * x)

    def energies(self, x: Array) -> Array:
        beta = floored(self.beta, self.min_beta)
        return namespace(x).exp(beta * x) * (beta * x - 1) / beta

    def duals(self, g: Array) -> Array:
        return (xlogx(g) - g) / floored(self.beta, self.min_beta)

    def hessian(self, x: Array, v: Array) -> Array:
        beta = floored(self.beta, self.min_beta)
        return beta * namespace(x).exp(beta * x) * v

    @property
    def curvature(self) -> float:
        return math.inf

    @property
    def growth(self) -> float:
        return math.inf

    def radius(self, shape: tuple[int, ...]) -> float:
        return math.inf


@node
@dataclass(frozen=True, repr=False)
class LRexp(AbstractLagrangian):
    r"""$L = \sum (e^{\beta r}/\beta - r)$ with $r = \max(x, 0)$, $g = e^{\beta r} - 1$, $E = \sum ((1+g)\ln(1+g) - g - 1)/\beta$, M = ∞.

    **Arguments:** as `LExp`.
    """

    beta: Parameter = 1.0
    min_beta: float = 1e-6

    def __post_init__(self) -> None:
        check_positive("beta", self.beta, self)
        announce()

    def densities(self, x: Array) -> Array:
        beta, r = floored(self.beta, self.min_beta), rectified(x)
        return namespace(x).exp(beta * r) / beta - r

    def activation(self, x: Array) -> Array:
        return namespace(x).expm1(floored(self.beta, self.min_beta) * rectified(x))

    def energies(self, x: Array) -> Array:
        beta, r = floored(self.beta, self.min_beta), rectified(x)
        return namespace(x).exp(beta * r) * (beta * r - 1) / beta

    def duals(self, g: Array) -> Array:
        return ((1 + g) * namespace(g).log1p(g) - g - 1) / floored(self.beta, self.min_beta)

    def hessian(self, x: Array, v: Array) -> Array:
        xp, beta = namespace(x), floored(self.beta, self.min_beta)
        return xp.where(x > 0, beta * xp.exp(beta * rectified(x)) * v, xp.zeros_like(v))

    @property
    def curvature(self) -> float:
        return math.inf

    @property
    def growth(self) -> float:
        return math.inf

    def radius(self, shape: tuple[int, ...]) -> float:
        return math.inf

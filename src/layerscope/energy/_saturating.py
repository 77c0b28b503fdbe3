r"""Lagrangians whose activation saturates: each unit is a coin, and its energy is minus the entropy of the coin over β.

**Source:** Krotov 2021, arXiv:2107.06446.
"""

import math
from dataclasses import dataclass
from typing import Any

from ._abstract import AbstractLagrangian
from ._array import Array, namespace, total
from ._formulas import binary_entropy, check_positive, everywhere, floored, log_sigmoid, xlogx
from ._tree import Parameter, announce, node


@node
@dataclass(frozen=True, repr=False)
class LTanh(AbstractLagrangian):
    r"""$L = \sum \ln\cosh(\beta x)/\beta$, $g = \tanh \beta x$, $E = \sum (\ln 2 - H_b(\frac{1+g}{2}))/\beta$, M = β.

    $H_b$ is the entropy of a coin in nats: the energy is that of spins ±1 with mean $g$, and minus their entropy over β.

    **Arguments:** as `LExp`.
    """

    beta: Parameter = 1.0
    min_beta: float = 1e-6

    def __post_init__(self) -> None:
        check_positive("beta", self.beta, self)
        announce()

    def densities(self, x: Array) -> Array:
        beta = floored(self.beta, self.min_beta)
        z = beta * x
        return (namespace(x).logaddexp(z, -z) - math.log(2)) / beta

    def activation(self, x: Array) -> Array:
        return namespace(x).tanh(floored(self.beta, self.min_beta) * x)

    def energies(self, x: Array) -> Array:
        beta = floored(self.beta, self.min_beta)
        return (math.log(2) - binary_entropy(2 * beta * x)) / beta

    def duals(self, g: Array) -> Array:
        return (math.log(2) + xlogx((1 + g) / 2) + xlogx((1 - g) / 2)) / floored(self.beta, self.min_beta)

    def hessian(self, x: Array, v: Array) -> Array:
        beta = floored(self.beta, self.min_beta)
        z = 2 * beta * x
        return 4 * beta * namespace(x).exp(log_sigmoid(z) + log_sigmoid(-z)) * v

    @property
    def curvature(self) -> Any:
        return floored(self.beta, self.min_beta)

    @property
    def growth(self) -> float:
        return 1.0

    def radius(self, shape: tuple[int, ...]) -> float:
        return everywhere(shape)

    def entropy(self, x: Array, rank: int | None = None) -> Array:
        return total(binary_entropy(2 * floored(self.beta, self.min_beta) * x), rank)


@node
@dataclass(frozen=True, repr=False)
class LSigmoid(AbstractLagrangian):
    r"""$L = c\sum \mathrm{softplus}(\beta x)/\beta$, $g = c\,\sigma(\beta x)$, $E = -c\sum H_b(g/c)/\beta$, M = cβ/4.

    **Arguments:** `beta`, `min_beta` as `LExp`; `scale` c > 0, trainable: the largest activation.
    """

    beta: Parameter = 1.0
    scale: Parameter = 1.0
    min_beta: float = 1e-6

    def __post_init__(self) -> None:
        check_positive("beta", self.beta, self)
        check_positive("scale", self.scale, self)
        announce()

    def densities(self, x: Array) -> Array:
        beta = floored(self.beta, self.min_beta)
        return -self.scale * log_sigmoid(-beta * x) / beta

    def activation(self, x: Array) -> Array:
        return self.scale * namespace(x).exp(log_sigmoid(floored(self.beta, self.min_beta) * x))

    def energies(self, x: Array) -> Array:
        beta = floored(self.beta, self.min_beta)
        return -self.scale * binary_entropy(beta * x) / beta

    def duals(self, g: Array) -> Array:
        share = g / self.scale
        return self.scale * (xlogx(share) + xlogx(1 - share)) / floored(self.beta, self.min_beta)

    def hessian(self, x: Array, v: Array) -> Array:
        beta = floored(self.beta, self.min_beta)
        return self.scale * beta * namespace(x).exp(log_sigmoid(beta * x) + log_sigmoid(-beta * x)) * v

    @property
    def curvature(self) -> Any:
        return self.scale * floored(self.beta, self.min_beta) / 4

    @property
    def growth(self) -> float:
        return 1.0

    def radius(self, shape: tuple[int, ...]) -> Any:
        return self.scale * everywhere(shape)

    def entropy(self, x: Array, rank: int | None = None) -> Array:
        return total(binary_entropy(floored(self.beta, self.min_beta) * x), rank)

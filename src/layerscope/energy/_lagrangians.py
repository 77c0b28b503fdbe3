r"""Lagrangians: each is a convex function of a layer's state that fixes its activation and its energy.

For a state $x$: the activation is $g = \nabla L(x)$, the energy $E = \langle x, g\rangle - L(x)$, which as a function of $g$ is the
Legendre dual $L^*(g)$.  All four are written here in closed form, and automatic differentiation is the oracle of the tests.

Energies are computed from $x$ without the difference of two large numbers that the definition asks for, so they stay finite at
$|\beta x| = 10^4$ wherever the limit is finite.

**Source:** Krotov & Hopfield 2021, arXiv:2008.06996; Krotov 2021, arXiv:2107.06446.
"""

import math
from dataclasses import dataclass
from typing import Any

from ._abstract import AbstractLagrangian
from ._array import Array, namespace, total
from ._formulas import (
    binary_entropy,
    check_axis,
    check_positive,
    everywhere,
    floored,
    largest,
    log_sigmoid,
    log_sum_exp,
    rectified,
    rows,
    xlogx,
)
from ._tree import Parameter, announce, node

# --- units that stand alone -----------------------------------------------------------------------------------------------------------


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


# --- units that compete along an axis -------------------------------------------------------------------------------------------------


@node
@dataclass(frozen=True, repr=False)
class LSoftmax(AbstractLagrangian):
    r"""$L = \ln\sum e^{\beta x}/\beta$ along `axis`, summed over the other axes, $g = \mathrm{softmax}(\beta x)$, $E = -H(g)/\beta$, M = β/2.

    **Arguments:** `beta` (one number), `min_beta` as `LExp`; `axis` < 0 along which the units compete.
    """

    beta: Parameter = 1.0
    axis: int = -1  # pyright: ignore[reportIncompatibleVariableOverride] - a class's constant elsewhere, a choice here
    min_beta: float = 1e-6

    def __post_init__(self) -> None:
        check_positive("beta", self.beta, self)
        check_axis(self.axis, self)
        announce()

    def _logs(self, x: Array) -> Array:
        z = floored(self.beta, self.min_beta) * x
        return z - log_sum_exp(z, self.axis)

    def densities(self, x: Array) -> Array:
        beta = floored(self.beta, self.min_beta)
        return log_sum_exp(beta * x, self.axis) / beta

    def activation(self, x: Array) -> Array:
        return namespace(x).exp(self._logs(x))

    def energies(self, x: Array) -> Array:
        return self.both(x)[1]

    def both(self, x: Array) -> tuple[Array, Array]:
        logs = self._logs(x)
        g = namespace(x).exp(logs)
        return g, namespace(x).sum(g * logs, axis=self.axis, keepdims=True) / floored(self.beta, self.min_beta)

    def duals(self, g: Array) -> Array:
        return xlogx(g) / floored(self.beta, self.min_beta)

    def hessian(self, x: Array, v: Array) -> Array:
        g = self.activation(x)
        return floored(self.beta, self.min_beta) * g * (v - namespace(x).sum(g * v, axis=self.axis, keepdims=True))

    @property
    def curvature(self) -> Any:
        return floored(self.beta, self.min_beta) / 2

    @property
    def growth(self) -> float:
        return 1.0

    def radius(self, shape: tuple[int, ...]) -> float:
        return rows(shape, self.axis)

    def entropy(self, x: Array, rank: int | None = None) -> Array:
        logs = self._logs(x)
        return total(-namespace(x).exp(logs) * logs, rank)


@node
@dataclass(frozen=True, repr=False)
class LGhostmax(AbstractLagrangian):
    r"""$L = \ln(1 + \sum e^{\beta x})/\beta$ along `axis`: a softmax with one more unit, at 0, that is not shown; M = β/2.

    Activations sum to less than 1 and the unseen unit takes the slack $1 - \sum g$, so a layer may answer "none of these".

    **Arguments:** as `LSoftmax`.
    """

    beta: Parameter = 1.0
    axis: int = -1  # pyright: ignore[reportIncompatibleVariableOverride] - a class's constant elsewhere, a choice here
    min_beta: float = 1e-6

    def __post_init__(self) -> None:
        check_positive("beta", self.beta, self)
        check_axis(self.axis, self)
        announce()

    def _logs(self, x: Array) -> tuple[Array, Array]:
        """ln g of the units, and of the slack."""
        xp = namespace(x)
        z = floored(self.beta, self.min_beta) * x
        inner = log_sum_exp(z, self.axis)
        slack = -xp.logaddexp(xp.zeros_like(inner), inner)
        return z + slack, slack

    def densities(self, x: Array) -> Array:
        return -self._logs(x)[1] / floored(self.beta, self.min_beta)

    def activation(self, x: Array) -> Array:
        return namespace(x).exp(self._logs(x)[0])

    def energies(self, x: Array) -> Array:
        return -self._entropies(x) / floored(self.beta, self.min_beta)

    def _entropies(self, x: Array) -> Array:
        xp = namespace(x)
        logs, slack = self._logs(x)
        return -xp.sum(xp.exp(logs) * logs, axis=self.axis, keepdims=True) - xp.exp(slack) * slack

    def duals(self, g: Array) -> Array:
        xp = namespace(g)
        units = xp.sum(xlogx(g), axis=self.axis, keepdims=True)
        return (units + xlogx(1 - xp.sum(g, axis=self.axis, keepdims=True))) / floored(self.beta, self.min_beta)

    def hessian(self, x: Array, v: Array) -> Array:
        g = self.activation(x)
        return floored(self.beta, self.min_beta) * g * (v - namespace(x).sum(g * v, axis=self.axis, keepdims=True))

    @property
    def curvature(self) -> Any:
        return floored(self.beta, self.min_beta) / 2

    @property
    def growth(self) -> float:
        return 1.0

    def radius(self, shape: tuple[int, ...]) -> float:
        return rows(shape, self.axis)

    def entropy(self, x: Array, rank: int | None = None) -> Array:
        return total(self._entropies(x), rank)


@node
@dataclass(frozen=True, repr=False)
class LLayerNorm(AbstractLagrangian):
    r"""$L = D\gamma s + \langle\delta, x\rangle$, $s = \sqrt{\mathrm{var} + \varepsilon}$ along `axis` of length D, $g = \gamma(x-\mu)/s + \delta$, $E = -D\gamma\varepsilon/s$, M = γ/√ε.

    **Arguments:** `gamma` γ > 0, one number, trainable (γ per unit has no Lagrangian); `delta` δ, a number or one per unit, trainable; `axis` < 0;
    `eps` ε > 0.
    **Beware:** the dual recovers ε/s² as the difference of two numbers near 1: far from the mean it is right only to about 1e-11 D in float64.
    """

    gamma: Parameter = 1.0
    delta: Parameter = 0.0
    axis: int = -1  # pyright: ignore[reportIncompatibleVariableOverride] - a class's constant elsewhere, a choice here
    eps: float = 1e-5

    def __post_init__(self) -> None:
        check_positive("gamma", self.gamma, self)
        check_positive("eps", self.eps, self)
        check_axis(self.axis, self)
        announce()

    def _parts(self, x: Array) -> tuple[Array, Array]:
        """(x − μ)/s and s."""
        xp = namespace(x)
        centred = x - xp.mean(x, axis=self.axis, keepdims=True)
        s = xp.sqrt(xp.mean(centred * centred, axis=self.axis, keepdims=True) + self.eps)
        return centred / s, s

    def densities(self, x: Array) -> Array:
        along = namespace(x).sum(self.delta * x, axis=self.axis, keepdims=True)
        return x.shape[self.axis] * self.gamma * self._parts(x)[1] + along

    def activation(self, x: Array) -> Array:
        return self.gamma * self._parts(x)[0] + self.delta

    def energies(self, x: Array) -> Array:
        return -x.shape[self.axis] * self.gamma * self.eps / self._parts(x)[1]

    def duals(self, g: Array) -> Array:
        xp = namespace(g)
        unit = (g - self.delta) / self.gamma
        slack = xp.sqrt(rectified(1 - xp.mean(unit * unit, axis=self.axis, keepdims=True)))  # √ε/s
        return -g.shape[self.axis] * self.gamma * math.sqrt(self.eps) * slack

    def hessian(self, x: Array, v: Array) -> Array:
        xp = namespace(x)
        unit, s = self._parts(x)
        across = v - xp.mean(v, axis=self.axis, keepdims=True)
        return self.gamma / s * (across - unit * xp.mean(unit * v, axis=self.axis, keepdims=True))

    @property
    def curvature(self) -> Any:
        return self.gamma / math.sqrt(self.eps)

    @property
    def growth(self) -> float:
        return 1.0

    def radius(self, shape: tuple[int, ...]) -> Any:
        return self.gamma * everywhere(shape) + largest(self.delta) * everywhere(shape)


@node
@dataclass(frozen=True, repr=False)
class LSphericalNorm(AbstractLagrangian):
    r"""$L = \gamma s + \langle\delta, x\rangle$, $s = \sqrt{\|x\|^2 + \varepsilon}$ along `axis`, $g = \gamma x/s + \delta$, $E = -\gamma\varepsilon/s$, M = γ/√ε.

    **Arguments:** as `LLayerNorm`. **Beware:** as there.
    """

    gamma: Parameter = 1.0
    delta: Parameter = 0.0
    axis: int = -1  # pyright: ignore[reportIncompatibleVariableOverride] - a class's constant elsewhere, a choice here
    eps: float = 1e-5

    def __post_init__(self) -> None:
        check_positive("gamma", self.gamma, self)
        check_positive("eps", self.eps, self)
        check_axis(self.axis, self)
        announce()

    def _length(self, x: Array) -> Array:
        xp = namespace(x)
        return xp.sqrt(xp.sum(x * x, axis=self.axis, keepdims=True) + self.eps)

    def densities(self, x: Array) -> Array:
        along = namespace(x).sum(self.delta * x, axis=self.axis, keepdims=True)
        return self.gamma * self._length(x) + along

    def activation(self, x: Array) -> Array:
        return self.gamma * x / self._length(x) + self.delta

    def energies(self, x: Array) -> Array:
        return -self.gamma * self.eps / self._length(x)

    def duals(self, g: Array) -> Array:
        xp = namespace(g)
        unit = (g - self.delta) / self.gamma
        slack = xp.sqrt(rectified(1 - xp.sum(unit * unit, axis=self.axis, keepdims=True)))  # √ε/s
        return -self.gamma * math.sqrt(self.eps) * slack

    def hessian(self, x: Array, v: Array) -> Array:
        s = self._length(x)
        unit = x / s
        return self.gamma / s * (v - unit * namespace(x).sum(unit * v, axis=self.axis, keepdims=True))

    @property
    def curvature(self) -> Any:
        return self.gamma / math.sqrt(self.eps)

    @property
    def growth(self) -> float:
        return 1.0

    def radius(self, shape: tuple[int, ...]) -> Any:
        return self.gamma * rows(shape, self.axis) + largest(self.delta) * everywhere(shape)

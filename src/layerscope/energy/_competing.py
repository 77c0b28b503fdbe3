r"""Lagrangians in which units compete: what one shows the others cannot.

**Source:** Krotov & Hopfield 2021, arXiv:2008.06996; Ramsauer et al. 2020, arXiv:2008.02217.
"""

from dataclasses import dataclass
from typing import Any

from ._abstract import AbstractLagrangian
from ._array import Array, namespace, total
from ._formulas import check_axis, check_positive, floored, log_softmax, log_sum_exp, rectified, rows, xlogx
from ._tree import Parameter, announce, node


@dataclass(frozen=True, repr=False)
class AbstractCompetition(AbstractLagrangian):
    """Units whose activations are shares of a whole along `axis`: ∇²L v = β g (v − ⟨g, v⟩), and M = β/2.

    **Arguments:** `beta` β > 0 (one number), trainable; `axis` < 0 along which the units compete; `min_beta` the least β that is used, where
    training pushes it lower.
    """

    beta: Parameter = 1.0
    axis: int = -1  # pyright: ignore[reportIncompatibleVariableOverride] - a class's constant elsewhere, a choice here
    min_beta: float = 1e-6

    def __post_init__(self) -> None:
        check_positive("beta", self.beta, self)
        check_axis(self.axis, self)
        announce()

    def energies(self, x: Array) -> Array:
        return self.both(x)[1]

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


@node
@dataclass(frozen=True, repr=False)
class LSoftmax(AbstractCompetition):
    r"""$L = \ln\sum e^{\beta x}/\beta$ along `axis`, summed over the other axes, $g = \mathrm{softmax}(\beta x)$, $E = -H(g)/\beta$, M = β/2.

    **Arguments:** `beta` β > 0 (one number), trainable; `axis` < 0 along which the units compete; `min_beta` as `LExp`.
    """

    def _logs(self, x: Array) -> Array:
        return log_softmax(x, floored(self.beta, self.min_beta), self.axis)

    def densities(self, x: Array) -> Array:
        beta = floored(self.beta, self.min_beta)
        return log_sum_exp(beta * x, self.axis) / beta

    def activation(self, x: Array) -> Array:
        return namespace(x).exp(self._logs(x))

    def both(self, x: Array) -> tuple[Array, Array]:
        xp, beta = namespace(x), floored(self.beta, self.min_beta)
        logs = log_softmax(x, beta, self.axis)
        g = xp.exp(logs)
        return g, xp.sum(g * logs, axis=self.axis, keepdims=True) / beta

    def duals(self, g: Array) -> Array:
        return xlogx(g) / floored(self.beta, self.min_beta)

    def entropy(self, x: Array, rank: int | None = None) -> Array:
        logs = self._logs(x)
        return total(-namespace(x).exp(logs) * logs, rank)


@node
@dataclass(frozen=True, repr=False)
class LGhostmax(AbstractCompetition):
    r"""$L = \ln(1 + \sum e^{\beta x})/\beta$ along `axis`: a softmax with one more unit, at 0, that is not shown; M = β/2.

    Activations sum to less than 1 and the unseen unit takes the slack $1 - \sum g$, so a layer may answer "none of these".

    **Arguments:** as `LSoftmax`.
    """

    def _logs(self, x: Array) -> tuple[Array, Array]:
        """ln g of the units, and of the slack; the largest state is taken off before β multiplies, as in `log_softmax`."""
        xp, beta = namespace(x), floored(self.beta, self.min_beta)
        top = rectified(xp.max(x, axis=self.axis, keepdims=True))
        units, unseen = beta * (x - top), -beta * top
        whole = xp.log(xp.sum(xp.exp(units), axis=self.axis, keepdims=True) + xp.exp(unseen))
        return units - whole, unseen - whole

    def densities(self, x: Array) -> Array:
        return -self._logs(x)[1] / floored(self.beta, self.min_beta)

    def activation(self, x: Array) -> Array:
        return namespace(x).exp(self._logs(x)[0])

    def both(self, x: Array) -> tuple[Array, Array]:
        xp = namespace(x)
        logs, slack = self._logs(x)
        g = xp.exp(logs)
        summed = xp.sum(g * logs, axis=self.axis, keepdims=True) + xp.exp(slack) * slack
        return g, summed / floored(self.beta, self.min_beta)

    def duals(self, g: Array) -> Array:
        xp = namespace(g)
        units = xp.sum(xlogx(g), axis=self.axis, keepdims=True)
        return (units + xlogx(1 - xp.sum(g, axis=self.axis, keepdims=True))) / floored(self.beta, self.min_beta)

    def entropy(self, x: Array, rank: int | None = None) -> Array:
        return total(-self.both(x)[1] * floored(self.beta, self.min_beta), rank)

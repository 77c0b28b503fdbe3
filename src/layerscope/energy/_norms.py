r"""Lagrangians that make the activation a unit vector: what a layer shows is a direction, however long its state.

**Source:** Krotov & Hopfield 2021, arXiv:2008.06996; Hoover et al. 2023, arXiv:2302.07253.
"""

import math
from dataclasses import dataclass
from typing import Any

from ._abstract import AbstractLagrangian
from ._array import Array, namespace
from ._formulas import check_axis, check_positive, everywhere, largest, rectified, rows
from ._tree import Parameter, announce, node


@dataclass(frozen=True, repr=False)
class AbstractNorm(AbstractLagrangian):
    """Units that share one length along `axis`, with M = γ/√ε.

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

    def _along_delta(self, x: Array) -> Array:
        """⟨δ, x⟩ of each row."""
        return namespace(x).sum(self.delta * x, axis=self.axis, keepdims=True)

    @property
    def curvature(self) -> Any:
        return self.gamma / math.sqrt(self.eps)

    @property
    def growth(self) -> float:
        return 1.0


@node
@dataclass(frozen=True, repr=False)
class LLayerNorm(AbstractNorm):
    r"""$L = D\gamma s + \langle\delta, x\rangle$, $s = \sqrt{\mathrm{var} + \varepsilon}$ along `axis` of length D, $g = \gamma(x-\mu)/s + \delta$, $E = -D\gamma\varepsilon/s$, M = γ/√ε.

    **Arguments:** `gamma` γ > 0, one number, trainable (γ per unit has no Lagrangian); `delta` δ, a number or one per unit, trainable; `axis` < 0;
    `eps` ε > 0.
    **Beware:** the dual recovers ε/s² as the difference of two numbers near 1: far from the mean it is right only to about 1e-11 D in float64.
    """

    def _parts(self, x: Array) -> tuple[Array, Array]:
        """(x − μ)/s and s."""
        xp = namespace(x)
        centred = x - xp.mean(x, axis=self.axis, keepdims=True)
        s = xp.sqrt(xp.mean(centred * centred, axis=self.axis, keepdims=True) + self.eps)
        return centred / s, s

    def densities(self, x: Array) -> Array:
        return x.shape[self.axis] * self.gamma * self._parts(x)[1] + self._along_delta(x)

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

    def radius(self, shape: tuple[int, ...]) -> Any:
        return self.gamma * everywhere(shape) + largest(self.delta) * everywhere(shape)


@node
@dataclass(frozen=True, repr=False)
class LSphericalNorm(AbstractNorm):
    r"""$L = \gamma s + \langle\delta, x\rangle$, $s = \sqrt{\|x\|^2 + \varepsilon}$ along `axis`, $g = \gamma x/s + \delta$, $E = -\gamma\varepsilon/s$, M = γ/√ε.

    **Arguments:** as `LLayerNorm`. **Beware:** as there.
    """

    def _length(self, x: Array) -> Array:
        xp = namespace(x)
        return xp.sqrt(xp.sum(x * x, axis=self.axis, keepdims=True) + self.eps)

    def densities(self, x: Array) -> Array:
        return self.gamma * self._length(x) + self._along_delta(x)

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

    def radius(self, shape: tuple[int, ...]) -> Any:
        return self.gamma * rows(shape, self.axis) + largest(self.delta) * everywhere(shape)

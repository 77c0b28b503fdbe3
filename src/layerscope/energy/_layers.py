"""Neuron layers: a Lagrangian on a state of some shape, with a time constant and an optional bias."""

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from .._errors import ShapeError
from ._abstract import AbstractLagrangian
from ._array import Array, beside, checked, total
from ._competing import LSoftmax
from ._draw import normal, zeros
from ._exponentials import LExp, LRexp
from ._norms import LLayerNorm, LSphericalNorm
from ._powers import LIdentity, LRelu, LRepu
from ._saturating import LSigmoid, LTanh
from ._tree import Child, Parameter, announce, node, show, with_leaves


@node
@dataclass(frozen=True, init=False, repr=False, eq=False)
class Layer:
    r"""A population of neurons with a state x of shape `shape`: what it shows is $g = \nabla L(x)$, what it costs is its energy.

    A bias b is the threshold of each neuron: $L_b(x) = L(x - b)$, so $E = \langle x, g\rangle - L(x - b)$ and still $dE/dg = x$.
    States may carry batch axes in front; energies keep them.  In JAX a layer is a pytree of its parameters.

    **Arguments:** `lagrangian` a Lagrangian, or with `init_lagrangian` what makes one of `kwargs`; `shape` of one state; `tau` > 0 the time
    constant, which acts in dynamics only; `use_bias` a bias that `init` draws, or `bias` itself; `name`.
    **Raises:** `ValueError`, `TypeError` for arguments that make no layer; `ShapeError` for a state or bias of another shape.
    **Source:** Krotov 2021, arXiv:2107.06446; Hoover et al. 2022.

    >>> Layer(LExp(beta=5.0), (32, 32, 3))
    Layer(lagrangian=LExp(beta=5.0, min_beta=1e-06), shape=(32, 32, 3), tau=1.0, bias=None, name='layer')
    """

    lagrangian: Child[AbstractLagrangian]
    shape: tuple[int, ...]
    tau: float
    use_bias: bool
    bias: Parameter
    name: str

    def __init__(
        self,
        lagrangian: Any,
        shape: tuple[int, ...],
        tau: float = 1.0,
        use_bias: bool = False,
        init_lagrangian: bool = False,
        name: str | None = None,
        *,
        bias: Any = None,
        **kwargs: Any,
    ) -> None:
        name = name or "layer"
        if init_lagrangian:
            lagrangian = lagrangian(**kwargs)
        elif kwargs:
            raise TypeError(
                f"{name}: got {', '.join(kwargs)} for a Lagrangian that is made already. Give it to the Lagrangian, "
                "LExp(beta=5.0), or let the layer make it: Layer(LExp, shape, init_lagrangian=True, beta=5.0)."
            )
        if not isinstance(lagrangian, AbstractLagrangian):
            raise TypeError(
                f"{name}: the lagrangian is {lagrangian!r}, which is no Lagrangian. Wrong: Layer(LExp, (5,)). Right: Layer(LExp(), (5,)), "
                "or Layer(LExp, (5,), init_lagrangian=True)."
            )
        fixed = _checked_shape(name, shape)
        if -lagrangian.axis > len(fixed):
            raise ShapeError(
                f"{name}: {lagrangian!r} acts along axis {lagrangian.axis}, which a state of shape {fixed} does not have. "
                "Give the layer another axis, or the Lagrangian another `axis`."
            )
        if not (math.isfinite(tau) and tau > 0):
            raise ValueError(
                f"{name}: tau is the time constant of dynamics, a finite number above 0; got {tau!r}. A layer that moves at once is a "
                "hidden synapse: HiddenSynapse integrates it out."
            )
        if bias is not None and tuple(np.shape(bias)) != fixed:
            raise ShapeError(
                f"{name}: the bias has shape {tuple(np.shape(bias))}, the layer {fixed}. Give one number a neuron."
            )
        values = {
            "lagrangian": lagrangian, "shape": fixed, "tau": float(tau), "use_bias": bool(use_bias) or bias is not None, "bias": bias, "name": name,
        }  # fmt: skip
        for field, value in values.items():
            object.__setattr__(self, field, value)
        announce()

    def __repr__(self) -> str:
        return show(self, hide=("use_bias",) if not self.use_bias or self.bias is not None else ())

    def _above_threshold(self, x: Array) -> Array:
        rank = len(self.shape)
        if tuple(x.shape[x.ndim - rank :] if x.ndim >= rank else x.shape) != self.shape:
            raise ShapeError(
                f"{self.name}: a state has shape {self.shape}, with batch axes in front of it; got {tuple(x.shape)}. "
                "Move batch axes to the front, or give the layer that shape."
            )
        checked(x, self.name)
        if not self.use_bias:
            return x
        if self.bias is None:
            raise ValueError(
                f"{self.name}: use_bias=True, but no bias was drawn yet. Call layer = layer.init(key, x), or give bias=."
            )
        return x - beside(self.bias, x)

    def energy(self, x: Array) -> Array:
        """⟨x, g⟩ − L(x − b), one number for every state of the batch."""
        self._above_threshold(x)
        return self.both(x)[1]

    def both(self, x: Array) -> tuple[Array, Array]:
        """Activation and energy of a state that was checked before."""
        if self.bias is None:
            g, energies = self.lagrangian.both(x)
            return g, total(energies, len(self.shape))
        b = beside(self.bias, x)
        g, energies = self.lagrangian.both(x - b)
        return g, total(energies, len(self.shape)) + total(b * g, len(self.shape))

    def __call__(self, x: Array) -> Array:
        """The energy."""
        return self.energy(x)

    def activation(self, x: Array) -> Array:
        """g = ∇L(x − b), in the shape of x."""
        return self.lagrangian.activation(self._above_threshold(x))

    def g(self, x: Array) -> Array:
        """The activation."""
        return self.activation(x)

    def hessian(self, x: Array, v: Array) -> Array:
        """∇²L(x − b) v: how activations change when the state moves along v."""
        return self.lagrangian.hessian(self._above_threshold(x), v)

    def entropy(self, x: Array) -> Array | None:
        """S in nats of every state, where activations are probabilities; else None."""
        return self.lagrangian.entropy(self._above_threshold(x), len(self.shape))

    def init_state(self, bs: int | None = None, rng: Any = None, like: Array | None = None) -> Array:
        """A state to start from: zeros, or standard normal numbers drawn with `rng`.

        **Arguments:** `bs` the batch size, None for one state without a batch axis; `rng` a JAX key, torch generator, NumPy generator or integer;
        `like` an array whose framework, type and device the state shall have (NumPy otherwise, or the key's framework).
        """
        shape = self.shape if bs is None else (bs, *self.shape)
        if like is None and self.bias is not None:
            like = self.bias
        return zeros(shape, like) if rng is None else normal(rng, shape, like)

    def init(self, key: Any, x: Array | None = None) -> "Layer":
        """The same layer with its bias drawn, normal with deviation 0.02; without `use_bias` the layer itself.  `x` an example state."""
        if not self.use_bias or self.bias is not None:
            return self
        drawn = normal(key, self.shape, x) * 0.02
        made = with_leaves(self, {})
        object.__setattr__(made, "bias", drawn)
        return made


def _checked_shape(name: str, shape: Any) -> tuple[int, ...]:
    sizes = (shape,) if isinstance(shape, int) else tuple(shape)
    if not all(isinstance(size, int | np.integer) and size > 0 for size in sizes):
        raise ShapeError(
            f"{name}: a shape is a tuple of whole numbers above 0, got {shape!r}. A layer of 5 neurons: (5,)."
        )
    return tuple(int(size) for size in sizes)


@functools.cache
def MakeLayer(lagrangian_factory: Callable[..., AbstractLagrangian], name: str | None = None) -> type[Any]:
    """A class of layers with one kind of Lagrangian, whose arguments its constructor takes.

    `ExpLayer = MakeLayer(LExp, "exp_layer")`; then `ExpLayer((5,), tau=2.0, beta=3.0)`. It is a real class: it has a docstring, `isinstance`
    works with it and with `Layer`, and its layers can be pickled if `lagrangian_factory` can. Equal arguments give the same class.
    """
    made_of = str(getattr(lagrangian_factory, "__name__", lagrangian_factory))
    default = name or made_of

    def init(
        self: Layer,
        shape: tuple[int, ...],
        tau: float = 1.0,
        use_bias: bool = False,
        init_lagrangian: bool = True,
        name: str | None = None,
        *,
        bias: Any = None,
        **kwargs: Any,
    ) -> None:
        Layer.__init__(
            self, lagrangian_factory, shape, tau, use_bias, init_lagrangian, name or default, bias=bias, **kwargs
        )

    def reduce(self: Layer) -> tuple[Any, ...]:
        return _blank, (lagrangian_factory, name), dict(self.__dict__)

    # A class per Lagrangian is what the published interface promises; it adds no behaviour to Layer, only a constructor.
    title = "".join(part.capitalize() for part in name.split("_")) if name else made_of.removeprefix("L") + "Layer"
    summary = f"A layer with the Lagrangian {made_of}, made of the further keyword arguments.\n\n"
    cls = type(
        title,
        (Layer,),
        {
            "__init__": init,
            "__reduce__": reduce,
            "__doc__": summary + (getattr(lagrangian_factory, "__doc__", None) or ""),
            "__module__": __name__,
        },
    )
    return node(cls)


def _blank(lagrangian_factory: Callable[..., AbstractLagrangian], name: str | None) -> Layer:
    """A layer without contents, for `pickle` to fill."""
    return object.__new__(MakeLayer(lagrangian_factory, name))


IdentityLayer = MakeLayer(LIdentity, "identity_layer")
RepuLayer = MakeLayer(LRepu, "repu_layer")
ReluLayer = MakeLayer(LRelu, "relu_layer")
ExpLayer = MakeLayer(LExp, "exp_layer")
RexpLayer = MakeLayer(LRexp, "rexp_layer")
TanhLayer = MakeLayer(LTanh, "tanh_layer")
SigmoidLayer = MakeLayer(LSigmoid, "sigmoid_layer")
SoftmaxLayer = MakeLayer(LSoftmax, "softmax_layer")
LayerNormLayer = MakeLayer(LLayerNorm, "layer_norm_layer")
SphericalNormLayer = MakeLayer(LSphericalNorm, "spherical_norm_layer")

"""Which activation functions come from a Lagrangian: the monotone ones, because a convex function has a rising slope."""

from .._errors import SiteError, nearest
from ._abstract import AbstractLagrangian
from ._competing import LSoftmax
from ._exponentials import LExp
from ._powers import LIdentity, LRelu
from ._saturating import LSigmoid, LTanh

MADE: dict[str, AbstractLagrangian] = {
    "identity": LIdentity(),
    "linear": LIdentity(),
    "relu": LRelu(),
    "exp": LExp(),
    "tanh": LTanh(),
    "sigmoid": LSigmoid(),
    "softmax": LSoftmax(),
}
FALLS: dict[str, str] = {
    "gelu": "falls from 0 at -∞ to -0.170 at x = -0.752, and rises after",
    "silu": "falls from 0 at -∞ to -0.278 at x = -1.278, and rises after",
    "swish": "falls from 0 at -∞ to -0.278 at x = -1.278, and rises after",
    "mish": "falls from 0 at -∞ to -0.309 at x = -1.192, and rises after",
    "hardswish": "falls from 0 at x = -3 to -0.375 at x = -1.5, and rises after",
    "sin": "rises and falls without end",
}
LATER = ("softplus", "elu", "selu", "celu", "leaky_relu", "hardtanh", "relu6", "hardsigmoid", "softsign", "logsigmoid")


def lagrangian_of(activation: str) -> AbstractLagrangian:
    """The Lagrangian whose gradient is an activation function of that name, such as "relu".

    **Raises:** `SiteError` for a function that is not monotone, which no convex Lagrangian has as its gradient; for a monotone one that has no closed
    forms here; and for a name that is not known.
    """
    name = activation.lower().replace("-", "_")
    if name in MADE:
        return MADE[name]
    if name in FALLS:
        raise SiteError(
            f"lagrangian_of: {activation!r} {FALLS[name]}. The gradient of a convex Lagrangian never falls, so a layer with this activation has no "
            "energy that its dynamics descend. Take a monotone one: " + ", ".join(MADE) + "."
        )
    if name in LATER:
        raise SiteError(
            f"lagrangian_of: {activation!r} is monotone and has a Lagrangian, but its closed forms are not written here. Derive from "
            "AbstractLagrangian, or take one of " + ", ".join(MADE) + "."
        )
    raise SiteError(
        f"lagrangian_of: no activation is called {activation!r}; known are {', '.join(MADE)}.{nearest(name, list(MADE))}"
    )

"""What the functions of a framework do to units: who fires above which value, who only passes values on, where axes go.

Functions are known by name, never by class of layer, so a stranger's activation module is recognised by the `gelu` it calls.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from ._layer import Role

BY_SIGN = frozenset(
    "relu relu6 elu selu celu gelu silu mish leaky_relu prelu rrelu tanh tanhshrink softsign hardtanh hardswish softshrink hardshrink "
    "glu".split()
)
"""Nonlinearities whose output is > 0 where their pre-activation is."""
SIGN_OF_WEIGHTS = frozenset("sin erf atan arctan sign heaviside".split())
"""The same, where they follow a weight layer; elsewhere they are positions, angles or features."""
BY_ZERO = frozenset("sigmoid expit special_expit hardsigmoid logsigmoid log_sigmoid softplus".split())
"""Nonlinearities whose units fire above the value they give for 0: 0.5, ln 2, … as the framework rounds it."""
AT_ZERO = {name: 0.5 for name in ("sigmoid", "expit", "special_expit", "hardsigmoid")} | {
    "softplus": math.log(2.0),
    "logsigmoid": -math.log(2.0),
    "log_sigmoid": -math.log(2.0),
}
"""That value, before rounding."""
CLAMPS = {"clamp": "min", "clip": "min", "clamp_min": "min", "threshold": "value"}
"""A ReLU where their lower value, an argument of this name or the second one (the third of `threshold`), is 0."""

SOFTMAX = frozenset("softmax log_softmax softmin gumbel_softmax".split())
RECURRENT = frozenset("lstm gru rnn_tanh rnn_relu lstm_cell gru_cell rnn_tanh_cell rnn_relu_cell".split())
WEIGHTS = frozenset("linear bilinear multi_head_attention_forward".split())
PRODUCTS = frozenset("matmul __matmul__ __rmatmul__ mm bmm addmm baddbmm einsum tensordot".split())
LAST = WEIGHTS | RECURRENT | PRODUCTS - {"einsum", "tensordot"} | {"embedding", "embedding_bag"}
"""Functions that give their units on the last axis."""
NORMS = frozenset(
    "batch_norm layer_norm group_norm instance_norm rms_norm local_response_norm normalize native_layer_norm".split()
)
CUTS = frozenset("view reshape flatten unflatten view_as reshape_as".split())
"""Functions that cut the shape anew, in the same order."""
SAME = CUTS | frozenset(
    "squeeze unsqueeze permute transpose movedim moveaxis swapaxes swapdims t T mT H mH adjoint "
    "contiguous clone detach data to float half bfloat16 double type type_as cpu cuda requires_grad alias".split()
)
"""Functions whose result has the same values, in another form."""
PARTS = frozenset(
    "__getitem__ chunk split tensor_split unbind narrow select index_select expand expand_as repeat repeat_interleave roll flip "
    "masked_fill gather take_along_dim pad".split()
)
"""Functions that choose or repeat values."""
WRITES = frozenset(
    "__setitem__ index_add index_copy index_put scatter scatter_add scatter_reduce masked_scatter copy".split()
)
"""Functions that write into their first argument."""
SUMS = frozenset(
    "add sub __add__ __radd__ __iadd__ __sub__ __rsub__ __isub__ cat concat concatenate stack hstack mean sum".split()
)
SCALES = frozenset("mul div multiply divide __mul__ __rmul__ __imul__ __truediv__ __itruediv__ __neg__ neg".split())
MONOTONE = frozenset("sigmoid expit log exp".split())
"""What may come after logits besides the above: a model's output, still."""
REDUCTIONS = frozenset("mean sum amax amin max min std var prod logsumexp norm argmax argmin median".split())


def plain(name: str) -> str:
    """A function's name without the underscores of its in-place or internal form."""
    return name if name.startswith("__") else name.strip("_")


def role_of(name: str, args: tuple[Any, ...], kwargs: Mapping[str, Any], weighted: bool) -> Role:
    """What a function does; `weighted` says that its input comes from a weight layer."""
    if name in BY_SIGN or name in BY_ZERO or (name in SIGN_OF_WEIGHTS and weighted):
        return Role.NONLINEARITY
    if name in CLAMPS:
        lower = kwargs.get(
            CLAMPS[name], args[1 + ("threshold" in name)] if len(args) > 1 + ("threshold" in name) else None
        )
        return Role.NONLINEARITY if isinstance(lower, int | float) and lower == 0 else Role.OTHER
    for role, names in (
        (Role.SOFTMAX, SOFTMAX),
        (Role.RECURRENT, RECURRENT),
        (Role.NORM, NORMS),
        (Role.WEIGHT, WEIGHTS),
    ):
        if name in names:
            return role
    if name in SAME or name in PARTS or "pixel_shuffle" in name or "channel_shuffle" in name:
        return Role.RESHAPE
    if name.startswith("conv"):
        return Role.WEIGHT
    if name.startswith("embedding"):
        return Role.LOOKUP
    if "pool" in name or name in ("interpolate", "upsample"):
        return Role.POOL
    return Role.DROPOUT if "dropout" in name else Role.OTHER


def threshold_of(name: str, role: Role, at_zero: Callable[[], float] | None = None) -> float | None:
    """Above which value units fire after a nonlinearity; `at_zero` gives what a framework's own function gives for 0."""
    if role is Role.SOFTMAX:
        return None
    if name not in BY_ZERO:
        return 0.0
    return AT_ZERO[name] if at_zero is None else at_zero()


def weighs(name: str) -> bool:
    """Whether a function, given a parameter, multiplies by it as a weight layer does."""
    return name in WEIGHTS or name in PRODUCTS or name.startswith("conv")


def waits(name: str, role: Role, alone: bool) -> bool:
    """Whether weight layers before a function still meet the nonlinearity after it; `alone` when it has one input."""
    return role in (Role.NORM, Role.RESHAPE, Role.DROPOUT, Role.POOL) or name in SUMS or (alone and name in SCALES)


def keeps_logits(name: str, role: Role, one_head: bool) -> bool:
    """Whether logits are still the model's answer after a function; `one_head` when all its inputs come from one layer."""
    passed_on = role in (Role.RESHAPE, Role.DROPOUT, Role.POOL, Role.SOFTMAX) or name in MONOTONE
    return passed_on or (one_head and (name in SUMS or name in SCALES))


def counts(name: str) -> bool:
    """Whether calls of a function are numbered: it can be a site."""
    return name in BY_SIGN or name in BY_ZERO or name in SIGN_OF_WEIGHTS or name in CLAMPS or name in SOFTMAX


def drops(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> bool:
    """Whether a dropout function, called so, drops anything."""
    return bool(kwargs.get("training", kwargs.get("train", args[2] if len(args) > 2 else True)))


@dataclass(frozen=True)
class Went:
    """Where an axis went: to the new axes `first` … `last`, `alone` when no other axis went there too."""

    first: int
    last: int
    alone: bool = True

    @property
    def whole(self) -> bool:
        return self.alone and self.first == self.last


def regrouped(old: tuple[int, ...], new: tuple[int, ...]) -> list[Went | None]:
    """Where each axis goes when a shape is cut anew in the same order.

    Axes are taken in groups of equal product: (2, 3, 4, 5) → (2, 12, 5) has the groups 2|2, 3·4|12, 5|5.

    >>> [(to.first, to.alone) for to in regrouped((2, 3, 4, 5), (2, 12, 5))]
    [(0, True), (1, False), (1, False), (2, True)]
    """
    went: list[Went | None] = [None] * len(old)
    i = j = 0
    while i < len(old) and j < len(new):
        a, b, left, right = i + 1, j + 1, old[i], new[j]
        while left != right:
            if left < right and a < len(old):
                left, a = left * old[a], a + 1
            elif right < left and b < len(new):
                right, b = right * new[b], b + 1
            else:
                return went
        olds = [k for k in range(i, a) if old[k] != 1] or [i]
        news = [k for k in range(j, b) if new[k] != 1] or [j]
        if len(olds) == 1 or len(news) == 1:
            for k in olds:
                went[k] = Went(news[0], news[-1], alone=len(olds) == 1)
        i, j = a, b
    return went


def reduced(rank: int, rest: int, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> list[Went | None]:
    """Where the axes go when some are summed away and `rest` stay; nowhere when that is not said."""
    dims: Any = kwargs.get("dim", kwargs.get("axis", args[1] if len(args) > 1 else None))
    each: list[Any] = [*dims] if isinstance(dims, tuple | list) else [dims]  # pyright: ignore[reportUnknownArgumentType]
    gone = {d % rank for d in each if isinstance(d, int)}
    left = [axis for axis in range(rank) if axis not in gone]
    if len(left) != rest:
        return [None] * rank
    return [None if axis in gone else Went(left.index(axis), left.index(axis)) for axis in range(rank)]

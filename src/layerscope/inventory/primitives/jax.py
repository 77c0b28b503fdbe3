"""What the equations of a jaxpr do to units: their names in `_operations`, and where axes go.

JAX writes most nonlinearities as a `jit` of their name (`jit[name=silu]`), ReLU inside a `custom_jvp_call`; some it writes out as arithmetic,
which only the traceback of its equations tells from a user's own (`gelu`, `softmax`).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from jax.extend import core

from .._operations import Went
from ..program.jax import RULED, taps_in

FUNCTIONS: dict[str, str] = {
    name: name
    for name in (
        "relu relu6 elu selu celu gelu silu mish leaky_relu log_sigmoid softplus sigmoid glu softmax log_softmax".split()
    )
} | {
    "hard_tanh": "hardtanh",
    "hard_sigmoid": "hardsigmoid",
    "hard_silu": "hardswish",
    "hard_swish": "hardswish",
    "soft_sign": "softsign",
    "swish": "silu",
    "standardize": "normalize",
}
"""Functions of `jax.nn` by the name that PyTorch gives them."""
NN = "jax/_src/nn/functions.py"
"""Where `jax.nn` is written; a path inside JAX, of which there is no public mark."""

NAMES: dict[str, str] = {
    "logistic": "sigmoid",
    "convert_element_type": "to",
    "reduce_precision": "to",
    "stop_gradient": "detach",
    "copy": "clone",
    "copy_p": "clone",
    "sharding_constraint": "alias",
    "optimization_barrier": "alias",
    "concatenate": "cat",
    "rev": "flip",
    "slice": "__getitem__",
    "dynamic_slice": "__getitem__",
    "dynamic_update_slice": "__setitem__",
    "reduce_sum": "sum",
    "reduce_max": "amax",
    "reduce_min": "amin",
    "reduce_prod": "prod",
    "reduce_window_max": "max_pool",
    "reduce_window_min": "max_pool",
    "reduce_window_sum": "avg_pool",
    "reduce_window": "max_pool",
    "select_n": "where",
    "add_any": "add",
    "ragged_dot": "matmul",
}

Axes = Sequence[Went | None]


@dataclass(frozen=True)
class Said:
    """An equation in the names of `_operations`.

    **Fields:** `name`; `source` the input whose axes `went` follows, None where equal ranks keep theirs; `unit` axis of the output that
    holds units, where the equation says so; `args` of the function where they matter.
    """

    name: str
    source: int = 0
    went: Axes | None = None
    unit: int | None = None
    args: tuple[Any, ...] = ()


def function_of(equation: Any) -> str | None:
    """The nonlinearity that an equation with a body is, by its name in `_operations`; None where one has to look inside."""
    if equation.primitive.name in RULED:
        body = equation.params[RULED[equation.primitive.name]].jaxpr
        if len(body.eqns) != 1 or [*body.eqns[0].outvars] != [*body.outvars]:
            return None
        return function_of(body.eqns[0])
    if equation.primitive.name not in ("jit", "pjit") or next(taps_in(equation), None) is not None:
        return None
    return FUNCTIONS.get(equation.params["name"])


@dataclass(frozen=True)
class WrittenOut:
    """An equation of a function that JAX writes out as arithmetic: `name` of the function, who called it (`outer`), and where in it the
    equation is (`inner`), both as frames of `traceback`."""

    name: str
    outer: tuple[Any, ...]
    inner: tuple[Any, ...]
    traceback: Any

    def goes_on(self, first: "WrittenOut", last: "WrittenOut") -> bool:
        """Whether it belongs to the same call as the equation before it (`last`), where `first` began.

        Equations that came from a cache share one traceback; others have their own, and where the first one comes again there is a new call.
        """
        if self.traceback is last.traceback:
            return True
        return (self.name, self.outer) == (first.name, first.outer) and self.inner != first.inner


def written_out(equation: Any) -> WrittenOut | None:
    """The call of a function of `jax.nn` that this equation is a part of.

    Tracebacks are no public part of JAX; a test says when they stop telling this.
    """
    traceback = equation.source_info.traceback
    if traceback is None:
        return None
    frames = [*zip(*traceback.raw_frames(), strict=True)]  # innermost first: code, and the instruction in it
    at = max(
        (k for k, (code, _) in enumerate(frames) if code.co_filename.replace("\\", "/").endswith(NN)), default=None
    )
    if at is None or frames[at][0].co_name not in FUNCTIONS:
        return None
    return WrittenOut(FUNCTIONS[frames[at][0].co_name], tuple(frames[at + 1 :]), tuple(frames[: at + 1]), traceback)


def read(equation: Any, varies: Sequence[bool], numbers: Sequence[Any]) -> Said:
    """What an equation does; `varies` says which inputs depend on the model's, `numbers` the values of literals, None elsewhere."""
    name: str = equation.primitive.name
    params = equation.params
    ranks = [len(variable.aval.shape) for variable in equation.invars]
    rank = len(equation.outvars[0].aval.shape) if equation.outvars else 0
    if name == "dot_general":
        return _product(params["dimension_numbers"], varies, ranks, rank)
    if name == "conv_general_dilated":
        return _convolution(params["dimension_numbers"], ranks[0])
    if name == "gather":
        return _gather(params["dimension_numbers"], varies, ranks, rank)
    if name == "broadcast_in_dim":
        return Said("expand", went=[Went(to, to) for to in params["broadcast_dimensions"]])
    if name == "transpose":
        order = [*params["permutation"]]
        return Said("permute", went=[Went(order.index(axis), order.index(axis)) for axis in range(len(order))])
    if name == "squeeze":
        return Said("squeeze", went=_without(ranks[0], params["dimensions"]))
    if name.startswith(("reduce_", "arg")) and "axes" in params and rank < ranks[0]:
        return Said(NAMES.get(name, name), went=_without(ranks[0], params["axes"]))
    if name == "max" and any(number == 0 for number in numbers if number is not None):
        return Said("clamp_min", args=(None, 0.0))
    if name == "clamp":
        return Said("clip", source=1, args=(None, numbers[0]))
    return Said(NAMES.get(name, name))


def _without(rank: int, gone: Sequence[int]) -> Axes:
    left = [axis for axis in range(rank) if axis not in {each % rank for each in gone}]
    return [Went(left.index(axis), left.index(axis)) if axis in left else None for axis in range(rank)]


def _product(numbers: Any, varies: Sequence[bool], ranks: Sequence[int], rank: int) -> Said:
    """A product: axes of batches come first, then the free ones of the left factor, then those of the right one."""
    contracting, batches = numbers
    free = [
        [axis for axis in range(ranks[side]) if axis not in contracting[side] and axis not in batches[side]]
        for side in (0, 1)
    ]
    source = 0 if varies[0] and (not varies[1] or ranks[0] == rank or ranks[1] != rank) else 1
    weights = 1 - source
    start = [len(batches[0]), len(batches[0]) + len(free[0])]
    went: list[Went | None] = [None] * ranks[source]
    for to, axis in enumerate(batches[source]):
        went[axis] = Went(to, to)
    for k, axis in enumerate(free[source]):
        went[axis] = Went(start[source] + k, start[source] + k)
    if varies[0] and varies[1]:
        return Said("matmul", source, went, rank - 1 if rank else None)
    unit = start[weights] + len(free[weights]) - 1 if free[weights] else None
    return Said("matmul", source, went, unit)


def _convolution(numbers: Any, rank: int) -> Said:
    into, out = numbers.lhs_spec, numbers.out_spec
    went: list[Went | None] = [None] * rank
    for k in range(rank):
        if k != 1:  # of a specification the first is samples, the second channels
            went[into[k]] = Went(out[k], out[k])
    return Said("conv", 0, went, out[1])


def _gather(numbers: Any, varies: Sequence[bool], ranks: Sequence[int], rank: int) -> Said:
    """A look-up in a table, or a choice of entries."""
    offsets = [*numbers.offset_dims]
    batches = [axis for axis in range(rank) if axis not in offsets]
    operand_batches = [*getattr(numbers, "operand_batching_dims", ())]
    index_batches = [*getattr(numbers, "start_indices_batching_dims", ())]
    if not varies[0]:
        went = [Went(to, to) for to in batches[: ranks[1] - 1]]
        return Said("embedding", 1, [*went, None], offsets[-1] if offsets else None)
    kept = [axis for axis in range(ranks[0]) if axis not in (*numbers.collapsed_slice_dims, *operand_batches)]
    moved: list[Went | None] = [None] * ranks[0]
    for axis, to in zip(kept, offsets, strict=True):
        moved[axis] = Went(to, to)
    for axis, index in zip(operand_batches, index_batches, strict=True):
        moved[axis] = Went(batches[index], batches[index])
    return Said("__getitem__", 0, moved)


def is_literal(atom: Any) -> bool:
    return isinstance(atom, core.Literal)

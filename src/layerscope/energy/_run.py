"""Many steps: a fixed number as one loop with a record of each, or as many as each sample needs."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from ._array import Array, common_framework, namespace, numbers
from ._descent import AbstractDescent, States, where_samples
from ._tree import Parameter, node, show

if TYPE_CHECKING:
    from ._ham import HAM, Look

Read = Callable[[States, States], Any]
"""What is kept of every step: any tree of arrays made of states and activations by layer."""


@node
@dataclass(frozen=True, repr=False, eq=False)
class Run:
    """A descent of a fixed number of steps.

    **Gives:** `states` at the end, by layer; `energies` (steps + 1, *batch), from the start to the end; with `record="parts"` also
    `layer_energies`, `synapse_energies` and, where activations are probabilities, `entropies` in nats, each (steps + 1, *batch) by name;
    `read` what was read at every step, stacked along a first axis of steps + 1.
    """

    states: Parameter
    energies: Parameter = None
    layer_energies: Parameter = None
    synapse_energies: Parameter = None
    entropies: Parameter = None
    read: Parameter = None

    def __repr__(self) -> str:
        return show(self)


@node
@dataclass(frozen=True, repr=False, eq=False)
class Settled:
    """A descent in which every sample stopped by itself.

    **Gives:** `states`; `energy`, `steps`, `residual` (the largest |∂E/∂g| of a unit that may move) and `converged`, each (*batch).
    """

    states: Parameter
    energy: Parameter
    steps: Parameter
    residual: Parameter
    converged: Parameter

    def __repr__(self) -> str:
        return show(self)


def record_of(ham: "HAM", xs: States, look: "Look", record: str, read: Read | None) -> dict[str, Any]:
    """What one step leaves behind."""
    kept: dict[str, Any] = {}
    if record != "nothing":
        kept["energies"] = look.energy
    if record == "parts":
        kept["layer_energies"], kept["synapse_energies"] = look.layer_energies, look.synapse_energies
        entropies = {name: ham.layers[name].entropy(x) for name, x in xs.items()}
        kept["entropies"] = {name: entropy for name, entropy in entropies.items() if entropy is not None}
    if read is not None:
        kept["read"] = read(xs, look.gs)
    return kept


def residual(look: "Look", held: Mapping[str, Array]) -> Array:
    """The largest |∂E/∂g| among units that may move, (*batch)."""
    worst: Any = None
    for name, slope in look.slope.items():
        xp = namespace(slope)
        size = xp.abs(slope)
        if name in held:
            size = xp.where(held[name], xp.zeros_like(size), size)
        batch = look.energy.shape
        size = xp.max(xp.reshape(size, (*batch, math.prod(size.shape[len(batch) :]))), axis=-1)
        worst = size if worst is None else xp.maximum(worst, size)
    return worst


def read_states(xs: States, gs: States) -> States:
    """Reads the states themselves."""
    return xs


def read_activations(xs: States, gs: States) -> States:
    """Reads the activations."""
    return gs


READS: dict[str, Read] = {"x": read_states, "g": read_activations}


def stacked(records: list[Any]) -> Any:
    """A list of equal trees as one tree with a first axis of their number."""
    first = records[0]
    if isinstance(first, dict):
        names = cast("dict[str, Any]", first)
        return {name: stacked([record[name] for record in records]) for name in names}
    if isinstance(first, tuple):
        return tuple(stacked([record[at] for record in records]) for at in range(len(cast("tuple[Any, ...]", first))))
    return namespace(first).stack(records, axis=0)


def descend(
    ham: "HAM",
    xs: States,
    held: Mapping[str, Array],
    descent: AbstractDescent,
    steps: int,
    record: str,
    read: Read | None,
) -> tuple[States, dict[str, Any]]:
    """`steps` steps: in one compiled loop for JAX, in a Python loop for the others (which `torch.compile` unrolls)."""
    if common_framework(*xs.values()) == "jax":
        from .jax import descend as descend_jax

        # what a rule prepares (Safe: singular values) is prepared outside the compiled loop
        compiled: Any = descend_jax
        return compiled(ham, xs, held, descent, descent.start(ham, xs), steps=steps, record=record, read=read)
    memory = descent.start(ham, xs)
    records: list[Any] = []
    for _ in range(steps):
        look = ham.look(xs)
        records.append(record_of(ham, xs, look, record, read))
        xs, memory = descent.step(ham, xs, look, held, memory)
    if record != "nothing" or read is not None:
        records.append(record_of(ham, xs, ham.look(xs), record, read))
        return xs, stacked(records)
    return xs, {}


def settle(
    ham: "HAM", xs: States, held: Mapping[str, Array], descent: AbstractDescent, tolerance: float, most: int
) -> Settled:
    """Steps until |∂E/∂g| of every unit that may move is at most `tolerance`; a sample that got there moves no more."""
    if common_framework(*xs.values()) == "jax":
        from .jax import settle as settle_jax

        compiled: Any = settle_jax
        return compiled(ham, xs, held, descent, descent.start(ham, xs), tolerance, most)
    memory, look = descent.start(ham, xs), ham.look(xs)
    left = residual(look, held)
    xp = namespace(left)
    steps = xp.zeros_like(left, dtype=xp.int64)
    for _ in range(most):
        moves = left > tolerance
        if not numbers(moves).any():  # pyright: ignore[reportOptionalMemberAccess] - nothing is traced here
            break
        new, memory = descent.step(ham, xs, look, held, memory)
        xs = where_samples(moves, new, xs)
        steps = steps + xp.asarray(moves, dtype=xp.int64)
        look = ham.look(xs)
        left = residual(look, held)
    return Settled(xs, look.energy, steps, left, left <= tolerance)

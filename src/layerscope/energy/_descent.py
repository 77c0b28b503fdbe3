r"""How states move: one step down the energy, many steps as one compiled loop, or as many as each sample needs.

States follow $\tau\,\dot x = -\partial E/\partial g$, so $dE/dt = -\sum \tau\,\dot x^\top \nabla^2 L\,\dot x \le 0$ for convex Lagrangians.
A step of size dt on $\partial E/\partial g$ is mirror descent of the energy over activations, and the exact update is its limit of dt = τ.
"""

import abc
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from ._array import PLAIN, Array, common_framework, namespace, numbers
from ._draw import zeros
from ._formulas import check_positive
from ._tree import Parameter, announce, node, show

if TYPE_CHECKING:
    from ._ham import HAM, Look

States = dict[str, Array]
Read = Callable[[States, States], Any]
"""What is kept of every step: any tree of arrays made of states and activations by layer."""


def hold(held: Mapping[str, Array], old: States, new: States) -> States:
    """`new`, but clamped units keep the bits they had; every state keeps its type."""
    made: States = {}
    for name, x in old.items():
        moved = new[name] if new[name].dtype == x.dtype else namespace(x).asarray(new[name], dtype=x.dtype)
        made[name] = namespace(x).where(held[name], x, moved) if name in held else moved
    return made


class AbstractDescent(abc.ABC):
    """A rule for one step."""

    @abc.abstractmethod
    def start(self, ham: "HAM", xs: States) -> Any:
        """What the rule remembers from step to step; asked once, before the first."""

    @abc.abstractmethod
    def step(self, ham: "HAM", xs: States, look: "Look", held: Mapping[str, Array], memory: Any) -> tuple[States, Any]:
        """The states one step later, and the memory; `look` is the network at `xs`."""

    def __repr__(self) -> str:
        return show(self)


def shifted(ham: "HAM", xs: States, look: "Look", dt: Any) -> States:
    """x − dt/τ · ∂E/∂g, with one dt for all or one a sample."""
    made: States = {}
    for name, x in xs.items():
        step = dt / ham.layers[name].tau
        if not isinstance(step, PLAIN) and step.ndim:
            step = namespace(x).reshape(step, (*step.shape, *([1] * (x.ndim - step.ndim))))
        made[name] = x - step * look.slope[name]
    return made


@node
@dataclass(frozen=True, repr=False)
class Euler(AbstractDescent):
    """x ← x − dt/τ · ∂E/∂g.

    **Arguments:** `dt` > 0. Above `ham.safe_step()` the energy may rise.
    """

    dt: Parameter = 0.1

    def __post_init__(self) -> None:
        check_positive("dt", self.dt, self)
        announce()

    def start(self, ham: "HAM", xs: States) -> Any:
        return ()

    def step(self, ham: "HAM", xs: States, look: "Look", held: Mapping[str, Array], memory: Any) -> tuple[States, Any]:
        return hold(held, xs, shifted(ham, xs, look, self.dt)), memory


@node
@dataclass(frozen=True, repr=False)
class Safe(AbstractDescent):
    """Euler with the largest dt of which a proof says that it never raises the energy.

    The bound needs singular values of the weights, once a run; for many short runs ask `ham.safe_step()` once and take `Euler`.

    **Raises:** `ValueError` when a run begins on a network that has no such bound; `ham.check()` says why.
    """

    def start(self, ham: "HAM", xs: States) -> Any:
        dt = ham.safe_step()
        if (known := numbers(dt)) is not None and known == 0:
            raise ValueError(
                "Safe: no step size is safe for this network, because some Lagrangian or synapse has no bound on its curvature; "
                "ham.check() names it. Use Exact(), Backtracking(), or Euler(dt) with a dt you tried."
            )
        return dt

    def step(self, ham: "HAM", xs: States, look: "Look", held: Mapping[str, Array], memory: Any) -> tuple[States, Any]:
        return hold(held, xs, shifted(ham, xs, look, memory)), memory


@node
@dataclass(frozen=True, repr=False)
class Backtracking(AbstractDescent):
    """Euler that refuses to rise: where a step would raise a sample's energy, that sample stays, and its dt shrinks for the next try.

    A rise that rounding alone explains (8 ulp) does not count.  Works for every energy, convex Lagrangians or not, and clamps of any kind; costs one more energy a step.

    **Arguments:** `dt` the first and largest step; `shrink` < 1 after a refusal; `grow` > 1 after a step that was taken.
    """

    dt: Parameter = 1.0
    shrink: float = 0.5
    grow: float = 1.5

    def __post_init__(self) -> None:
        check_positive("dt", self.dt, self)
        if not 0 < self.shrink < 1 < self.grow:
            raise ValueError(
                f"Backtracking: shrink must lie between 0 and 1, grow above 1; got {self.shrink!r} and {self.grow!r}."
            )
        announce()

    def start(self, ham: "HAM", xs: States) -> Any:
        (name, x), *_ = xs.items()
        return zeros(x.shape[: x.ndim - len(ham.layers[name].shape)], x) + self.dt

    def step(self, ham: "HAM", xs: States, look: "Look", held: Mapping[str, Array], memory: Any) -> tuple[States, Any]:
        tried = hold(held, xs, shifted(ham, xs, look, memory))
        xp = namespace(look.energy)
        # a rise within rounding is none: near the minimum it would stop a sample for good
        slack = 8 * float(xp.finfo(look.energy.dtype).eps) * (1 + xp.abs(look.energy))
        falls = ham.look(tried, forces=False).energy <= look.energy + slack
        dt = xp.where(falls, xp.minimum(memory * self.grow, xp.zeros_like(memory) + self.dt), memory * self.shrink)
        return where_samples(falls, tried, xs), dt


@node
@dataclass(frozen=True, repr=False)
class Exact(AbstractDescent):
    r"""One layer after the other is put where its energy is least, the others held: $x_l \leftarrow -\partial E_{syn}/\partial g_l$.

    Needs no step size, and never raises the energy where every synapse is concave in each activation alone (`AbstractSynapse.alternates`).

    **Arguments:** `order` names of the layers to update, one sweep; by default from the last to the first, so that inputs, which come first, are
    seen before they move. τ does not act.
    **Source:** the concave-convex procedure (Yuille & Rangarajan 2003); one update of a softmax memory is attention (Ramsauer et al. 2020).
    """

    order: tuple[str, ...] | None = None

    def start(self, ham: "HAM", xs: States) -> Any:
        for name in self.order or ():
            ham.layer(name)
        return ()

    def step(self, ham: "HAM", xs: States, look: "Look", held: Mapping[str, Array], memory: Any) -> tuple[States, Any]:
        xs, gs = dict(xs), dict(look.gs)
        for at, name in enumerate(self.order or tuple(reversed(ham.layers))):
            x = xs[name]
            force = x - look.slope[name] if at == 0 else ham.force(name, gs)
            xs[name] = hold(held, {name: x}, {name: force})[name]
            gs[name] = ham.layers[name].activation(xs[name])
        return xs, memory


def rule(descent: AbstractDescent | float) -> AbstractDescent:
    """A number is the dt of Euler."""
    return descent if isinstance(descent, AbstractDescent) else Euler(descent)


def where_samples(chosen: Array, new: States, old: States) -> States:
    """`new` where a sample is chosen, else `old`, to the bit."""
    made: States = {}
    for name, x in old.items():
        xp = namespace(x)
        made[name] = xp.where(xp.reshape(chosen, (*chosen.shape, *([1] * (x.ndim - chosen.ndim)))), new[name], x)
    return made


# --- many steps -----------------------------------------------------------------------------------------------------------------------


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

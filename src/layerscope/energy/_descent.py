r"""How states move: rules for one step down the energy.

States follow $\tau\,\dot x = -\partial E/\partial g$, so $dE/dt = -\sum \tau\,\dot x^\top \nabla^2 L\,\dot x \le 0$ for convex Lagrangians.
A step of size dt on $\partial E/\partial g$ is mirror descent of the energy over activations, and the exact update is its limit of dt = τ.
"""

import abc
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ._array import PLAIN, Array, namespace, numbers
from ._draw import zeros
from ._formulas import check_positive
from ._tree import Parameter, announce, node, show

if TYPE_CHECKING:
    from ._ham import HAM, Look

States = dict[str, Array]


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

"""Hierarchical associative memories: named layers and synapses with one energy, checked when they are put together."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

from .._errors import SiteError
from ._abstract import AbstractSynapse
from ._array import Array, framework, namespace
from ._check import Certificate, certify, safe_step
from ._connections import Connection, connection_of, fitted, named, no_layer
from ._descent import AbstractDescent, States, rule
from ._draw import streams
from ._entry import entered, held
from ._layers import Layer
from ._ledger import Ledger
from ._retrieval import Retrieval
from ._run import READS, Read, Run, Settled, descend, settle
from ._saved import load, save
from ._tree import Child, announce, leaves, node, replaced, show


class Look(NamedTuple):
    """A network at one set of states: activations, energies by part, and the slope ∂E/∂g that each layer feels."""

    gs: States
    layer_energies: States
    synapse_energies: States
    slope: States

    @property
    def energy(self) -> Array:
        parts = [*self.layer_energies.values(), *self.synapse_energies.values()]
        return sum(parts[1:], parts[0])


@node
@dataclass(frozen=True, repr=False, eq=False)
class HAM:
    r"""A network with an energy: $E = \sum_l E_l(x_l) + \sum_s E_s(g)$ over layers and synapses.

    States are a dict of arrays by layer, each (*batch, *shape of the layer), with the same batch axes, or none, in every layer. Energies have
    the shape of the batch. In JAX a network is a pytree of its parameters; `energy.torch.Module` makes it an `nn.Module`.

    **Arguments:** `layers` and `synapses` by name (or sequences, which are named for you); `connections` a list of
    (names or numbers of layers, name or number of a synapse), and for an asymmetric one third the layers that feel it.
    **Raises:** `SiteError` for a name that is not there, `ShapeError` for a synapse that does not fit its layers.
    **Source:** Krotov 2021, arXiv:2107.06446; Hoover et al. 2022.
    """

    layers: Child[dict[str, Layer]]
    synapses: Child[dict[str, AbstractSynapse]]
    connections: tuple[Connection, ...]
    ranks: tuple[tuple[int, ...], ...]
    """How many axes each layer of each connection has."""

    def __init__(
        self,
        layers: Mapping[str, Layer] | Sequence[Layer],
        synapses: Mapping[str, AbstractSynapse] | Sequence[AbstractSynapse],
        connections: Sequence[Any],
    ) -> None:
        neurons = named(layers, Layer, "layer")
        aligned = named(synapses, AbstractSynapse, "synapse")
        made = tuple(connection_of(c, tuple(neurons), tuple(aligned)) for c in connections)
        for connection in made:
            name = connection.synapse
            aligned[name] = fitted(name, aligned[name], connection, neurons)
        idle = set(aligned) - {c.synapse for c in made}
        if idle:
            raise SiteError(f"HAM: no connection uses {', '.join(sorted(idle))}. Connect it, or leave it out.")
        ranks = tuple(tuple(len(neurons[name].shape) for name in c.layers) for c in made)
        for key, value in {"layers": neurons, "synapses": aligned, "connections": made, "ranks": ranks}.items():
            object.__setattr__(self, key, value)
        announce()

    def __repr__(self) -> str:
        return show(self, hide=("ranks",))

    # --- energies ---------------------------------------------------------------------------------------------------------------------

    def activations(self, xs: Mapping[str, Array]) -> States:
        """g of every layer."""
        ham, xs = self.enter(xs)
        return {name: layer.activation(xs[name]) for name, layer in ham.layers.items()}

    def layer_energies(self, xs: Mapping[str, Array]) -> States:
        """E of every layer, (*batch) each."""
        ham, xs = self.enter(xs)
        return {name: layer.energy(xs[name]) for name, layer in ham.layers.items()}

    def synapse_energies(self, gs: Mapping[str, Array]) -> States:
        """E of every synapse at given activations, (*batch) each; a synapse that is connected twice counts twice."""
        ham, gs = self.enter(gs)
        return ham._pulls(gs, forces=False)[0]

    def energies(self, xs: Mapping[str, Array]) -> dict[str, States]:
        """The energy by parts: {"layers": by name, "synapses": by name}."""
        look = self._seen(xs, forces=False)
        return {"layers": look.layer_energies, "synapses": look.synapse_energies}

    def energy(self, xs: Mapping[str, Array]) -> Array:
        """The whole energy, (*batch)."""
        return self._seen(xs, forces=False).energy

    def dEdg(self, xs: Mapping[str, Array]) -> States:
        """∂E/∂g = x + ∇_g E_syn of every layer: minus the direction in which its state moves (for an asymmetric connection, what it feels)."""
        return self._seen(xs).slope

    def dEdx(self, xs: Mapping[str, Array]) -> States:
        """∂E/∂x = ∇²L · ∂E/∂g of every layer."""
        ham, xs = self.enter(xs)
        slope = ham.look(xs).slope
        return {name: layer.hessian(xs[name], slope[name]) for name, layer in ham.layers.items()}

    def look(self, xs: States, forces: bool = True) -> Look:
        """All of this at once, for states that `enter` has seen."""
        gs: States = {}
        energies: States = {}
        for name, layer in self.layers.items():
            gs[name], energies[name] = layer.both(xs[name])
        pulled, felt = self._pulls(gs, forces)
        slope = {name: x - felt[name] if name in felt else x for name, x in xs.items()} if forces else {}
        return Look(gs, energies, pulled, slope)

    def force(self, name: str, gs: States) -> Array:
        """−∂E_syn/∂g of one layer: the state that the exact update gives it."""
        return self._pulls(gs, True, name)[1].get(name, namespace(gs[name]).zeros_like(gs[name]))

    def _seen(self, xs: Mapping[str, Array], forces: bool = True) -> Look:
        ham, xs = self.enter(xs)
        return ham.look(xs, forces)

    def _pulls(self, gs: States, forces: bool, only: str | None = None) -> tuple[States, States]:
        """Energies by synapse, and the sum of forces on every layer that feels any (or on one of them)."""
        energies: States = {}
        felt: States = {}
        for c, ranks in zip(self.connections, self.ranks, strict=True):
            at = [n for n in c.felt if forces and only in (None, c.layers[n])]
            if only is not None and not at:
                continue
            energy, pulled = self.synapses[c.synapse].pull([gs[name] for name in c.layers], ranks, at)
            energies[c.synapse] = energies[c.synapse] + energy if c.synapse in energies else energy
            for n, force in pulled.items():
                name = c.layers[n]
                felt[name] = felt[name] + force if name in felt else force
        return energies, felt

    # --- states -----------------------------------------------------------------------------------------------------------------------

    def init_states(self, bs: int | None = None, rng: Any = None, like: Array | None = None) -> States:
        """A state for every layer: zeros, or standard normal numbers.

        **Arguments:** `bs` the batch size, or None; `rng` a JAX key, torch generator, NumPy generator or integer; `like` an array whose framework,
        type and device the states shall have, by default those of the parameters.
        """
        if like is None:
            arrays = [leaf for leaf in leaves(self).values() if framework(leaf)]
            like = next((leaf for leaf in arrays if framework(leaf) != "numpy"), arrays[0] if arrays else None)
        sources = [None] * len(self.layers) if rng is None else streams(rng, len(self.layers))
        return {
            name: layer.init_state(bs, r, like) for (name, layer), r in zip(self.layers.items(), sources, strict=True)
        }

    def layer(self, name: str) -> Layer:
        """The layer of a name.

        **Raises:** `SiteError`.
        """
        if name not in self.layers:
            raise no_layer(str(name), tuple(self.layers))
        return self.layers[name]

    def enter(self, xs: Mapping[str, Array]) -> tuple["HAM", States]:
        """The network and states as they can meet: one framework, every layer there, fitting shapes and batch axes.

        **Raises:** `SiteError`, `ShapeError`, `DtypeError`.
        """
        return entered(self, xs)

    def held(self, clamp: Any, xs: States) -> States:
        """A clamp as boolean arrays, True where a unit keeps its state.

        **Arguments:** `clamp` None, the name of a layer or several, or a dict of masks by layer: True for the whole layer, or an array of the
        layer's shape, or of the state's.
        **Raises:** `SiteError`, `ShapeError`, `DtypeError`.
        """
        return held(self, clamp, xs)

    # --- dynamics ---------------------------------------------------------------------------------------------------------------------

    def step(self, xs: Mapping[str, Array], descent: AbstractDescent | float = 0.1, clamp: Any = None) -> States:
        """The states one step later.

        **Arguments:** `descent` a rule (`Euler`, `Safe`, `Backtracking`, `Exact`), or a number, the dt of Euler; `clamp` as `held` takes it.
        """
        ham, xs = self.enter(xs)
        how = rule(descent)
        return how.step(ham, xs, ham.look(xs), ham.held(clamp, xs), how.start(ham, xs))[0]

    def safe_step(self) -> Any:
        """The largest dt of which a proof says that Euler never raises the energy; 0.0 where there is none, and `check` says why.

        For two layers and one bilinear synapse it is 1 / (1 + ‖W‖₂ √(M₁ M₂)).
        """
        return safe_step(self)[0]

    def check(
        self,
        xs: Mapping[str, Array] | None = None,
        clamp: Any = None,
        steps: int = 60,
        samples: int = 16,
        seed: int = 0,
    ) -> Certificate:
        """What is proved and what is measured about the descent of this network: see `Certificate`.

        **Arguments:** `xs` states to measure at, by default `samples` drawn ones of deviation 2; `clamp` as `held` takes it; `steps` of the
        measured descent.
        """
        return certify(self, xs, clamp, steps, samples, seed)

    def ledger(
        self,
        xs: Mapping[str, Array],
        steps: int,
        descent: AbstractDescent | float = 0.1,
        clamp: Any = None,
        target: Mapping[str, Array] | None = None,
    ) -> Ledger:
        """A descent as a balance of free energy: interaction, entropy and energy, by layer and step; see `Ledger`.

        **Arguments:** `descent`, `clamp` as `step`; `target` by layer, what its activations should become: one pattern, or one a state.
        """
        ham, xs = self.enter(xs)
        return Ledger.of(ham, ham.run(xs, steps, descent, clamp, "parts", "g"), target, ham.held(clamp, xs))

    def retrieval(
        self,
        clamp: Any = None,
        steps: int = 10,
        read: Literal["x", "g"] = "g",
        descent: AbstractDescent | float = 0.1,
        input: str | None = None,
    ) -> Retrieval:
        """This network's descent as something that takes a batch, like a model: see `Retrieval`."""
        return Retrieval(self, input or next(iter(self.layers)), clamp, _count(steps), read, rule(descent))

    def run(
        self,
        xs: Mapping[str, Array],
        steps: int,
        descent: AbstractDescent | float = 0.1,
        clamp: Any = None,
        record: Literal["energy", "parts", "nothing"] = "energy",
        read: Literal["x", "g"] | Read | None = None,
    ) -> Run:
        """A descent of `steps` steps, differentiable through; in JAX one compiled loop, compiled anew only for other shapes or settings.

        **Arguments:** `descent`, `clamp` as `step`; `record` the energy of every step, also its parts, or nothing; `read` what else to keep of every
        step: "x" states, "g" activations, or a function (states, activations) → tree of arrays, which in JAX should be the same object each time.
        """
        ham, xs = self.enter(xs)
        if record not in ("energy", "parts", "nothing"):
            raise ValueError(f"run: record must be 'energy', 'parts' or 'nothing', got {record!r}.")
        if isinstance(read, str) and read not in READS:
            raise ValueError(f"run: read must be 'x' (states), 'g' (activations) or a function of both, got {read!r}.")
        keep = READS[read] if isinstance(read, str) else read
        states, kept = descend(ham, xs, ham.held(clamp, xs), rule(descent), _count(steps), record, keep)
        return Run(states, **kept)

    def until(
        self,
        xs: Mapping[str, Array],
        tolerance: float = 1e-4,
        most: int = 1000,
        descent: AbstractDescent | float = 0.1,
        clamp: Any = None,
    ) -> Settled:
        """A descent in which a sample stops as soon as |∂E/∂g| ≤ `tolerance` for each of its units that may move, at the latest after `most` steps.

        **Beware:** in JAX a loop of unknown length has no reverse derivative; take `run` to differentiate.
        """
        ham, xs = self.enter(xs)
        return settle(ham, xs, ham.held(clamp, xs), rule(descent), tolerance, _count(most))

    # --- parameters -------------------------------------------------------------------------------------------------------------------

    def parameters(self) -> dict[str, Array]:
        """Every trainable number and array by its dotted path."""
        return leaves(self)

    def with_parameters(self, new: Mapping[str, Array]) -> "HAM":
        """The same network with other values at some paths.

        **Raises:** `SiteError` for an unknown path, `ShapeError` for another shape.
        """
        return replaced(self, new)

    def save(self, path: str | Path) -> None:
        """Writes the parameters as a `.npz` of plain arrays, nothing pickled."""
        save(self, path)

    def load(self, path: str | Path) -> "HAM":
        """This network with the parameters of a file, each in the framework and type it has here.

        **Raises:** `DataError` where the file has other parameters, `ShapeError` for other shapes.
        """
        return load(self, path)


def _count(steps: int) -> int:
    if steps < 0 or int(steps) != steps:
        raise ValueError(f"steps must be a whole number ≥ 0, got {steps!r}.")
    return int(steps)

"""Hierarchical associative memories: named layers and synapses with one energy, checked when they are put together."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple, cast

import numpy as np

from .._errors import DataError, DtypeError, ShapeError, SiteError, nearest
from ._abstract import AbstractSynapse
from ._array import Array, beside, checked, common_framework, framework, namespace, numbers
from ._check import Certificate, certify, safe_step
from ._descent import READS, AbstractDescent, Read, Run, Settled, States, descend, rule, settle
from ._draw import streams
from ._layers import Layer
from ._ledger import Ledger
from ._retrieval import Retrieval
from ._tree import Child, announce, leaves, node, replaced, show, with_leaves


@dataclass(frozen=True)
class Connection:
    """One synapse at work: the layers it connects, in its own order, and which of them feel its force.

    A connection that not all its layers feel is asymmetric: the others shape its force and are not shaped by it, as in a feed-forward network.
    It is allowed, but then no energy has to fall.
    """

    layers: tuple[str, ...]
    synapse: str
    feels: tuple[str, ...]
    felt: tuple[int, ...] = field(init=False, repr=False)
    """The places in `layers` that feel it."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "felt", tuple(n for n, name in enumerate(self.layers) if name in self.feels))

    @property
    def symmetric(self) -> bool:
        return set(self.feels) == set(self.layers)


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
        named = _named(layers, Layer, "layer")
        aligned = _named(synapses, AbstractSynapse, "synapse")
        made = tuple(_connection(c, tuple(named), tuple(aligned)) for c in connections)
        for connection in made:
            name = connection.synapse
            aligned[name] = _fitted(name, aligned[name], connection, named)
        idle = set(aligned) - {c.synapse for c in made}
        if idle:
            raise SiteError(f"HAM: no connection uses {', '.join(sorted(idle))}. Connect it, or leave it out.")
        ranks = tuple(tuple(len(named[name].shape) for name in c.layers) for c in made)
        for key, value in {"layers": named, "synapses": aligned, "connections": made, "ranks": ranks}.items():
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
            raise _no_layer(str(name), tuple(self.layers))
        return self.layers[name]

    def enter(self, xs: Mapping[str, Array]) -> tuple["HAM", States]:
        """The network and states as they can meet: one framework, every layer there, fitting shapes and batch axes.

        **Raises:** `SiteError`, `ShapeError`, `DtypeError`.
        """
        if not isinstance(xs, Mapping):  # pyright: ignore[reportUnnecessaryIsInstance] - people pass lists
            raise SiteError(
                f"HAM: states are a dict by layer, {{{', '.join(map(repr, self.layers))}}}; got a {type(xs).__name__}."
            )
        for name in xs:
            self.layer(name)
        missing = [name for name in self.layers if name not in xs]
        if missing:
            raise SiteError(
                f"HAM: no state for {', '.join(missing)}. Start from ham.init_states(bs) and set the layers you know."
            )
        batches: dict[str, tuple[int, ...]] = {}
        for name, layer in self.layers.items():
            x, rank = checked(xs[name], name), len(layer.shape)
            lead = x.ndim - rank
            if lead < 0 or tuple(x.shape[lead:]) != layer.shape:
                raise ShapeError(
                    f"HAM: a state of {name!r} has shape {layer.shape}, with batch axes in front of it; got {tuple(x.shape)}."
                )
            batches[name] = tuple(x.shape[:lead])
        if len(set(batches.values())) > 1:
            axes = ", ".join(f"{name} has {batch or 'none'}" for name, batch in batches.items())
            raise ShapeError(
                f"HAM: layers disagree about the batch axes: {axes}. "
                "Give every layer the same batch axes, as ham.init_states(bs) does."
            )
        parameters = leaves(self)
        kind = common_framework(*xs.values(), *parameters.values())
        if kind == "numpy":
            return self, {name: xs[name] for name in self.layers}
        example = next(x for x in (*xs.values(), *parameters.values()) if framework(x) == kind)
        foreign = {
            path: beside(p, example) for path, p in parameters.items() if kind == "torch" and framework(p) == "numpy"
        }
        ham = with_leaves(self, foreign) if foreign else self
        states = {name: beside(xs[name], example) for name in self.layers}
        if kind == "torch":
            _check_one_type(states, {path: foreign.get(path, p) for path, p in parameters.items()})
        return ham, states

    def held(self, clamp: Any, xs: States) -> States:
        """A clamp as boolean arrays, True where a unit keeps its state.

        **Arguments:** `clamp` None, the name of a layer or several, or a dict of masks by layer: True for the whole layer, or an array of the
        layer's shape, or of the state's.
        **Raises:** `SiteError`, `ShapeError`, `DtypeError`.
        """
        if clamp is None:
            return {}
        asked: dict[str, Any]
        if isinstance(clamp, Mapping):
            asked = dict(cast("Mapping[str, Any]", clamp))
        else:
            asked = dict.fromkeys([clamp] if isinstance(clamp, str) else cast("Sequence[str]", clamp), True)
        made: States = {}
        for name, mask in asked.items():
            shape = self.layer(name).shape
            xp = namespace(xs[name])
            if isinstance(mask, bool):
                mask = np.full(shape, mask)
            if isinstance(mask, str):
                raise SiteError(
                    f"clamp: the mask of {name!r} is the name {mask!r}, which only a retrieval takes from its batch. Give the mask itself."
                )
            if not any(kind in str(mask.dtype) for kind in ("bool", "int")):
                raise DtypeError(
                    f"clamp: the mask of {name!r} holds {mask.dtype}; it must hold True where a unit keeps its state, for example mask > 0.5."
                )
            if framework(mask) == "numpy":
                mask = beside(mask.astype(bool), xs[name])
            if tuple(mask.shape) not in (shape, tuple(xs[name].shape)):
                raise ShapeError(
                    f"clamp: the mask of {name!r} has shape {tuple(mask.shape)}; it must be {shape}, or {tuple(xs[name].shape)} with one a sample."
                )
            made[name] = xp.asarray(mask, dtype=xp.bool)
        return made

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
        arrays = {name: np.asarray(numbers(value)) for name, value in leaves(self).items()}
        with Path(path).open("wb") as file:
            np.savez(file, **cast("dict[str, Any]", arrays))

    def load(self, path: str | Path) -> "HAM":
        """This network with the parameters of a file, each in the framework and type it has here.

        **Raises:** `DataError` where the file has other parameters, `ShapeError` for other shapes.
        """
        mine = leaves(self)
        with np.load(path, allow_pickle=False) as file:
            found = {name: file[name] for name in file.files}
        if set(found) != set(mine):
            raise DataError(
                f"load: {Path(path).name} has parameters {sorted(found)}, this network {sorted(mine)}. Build the same network first."
            )
        return replaced(self, {name: _as_before(found[name], mine[name]) for name in mine})


def _check_one_type(states: States, parameters: Mapping[str, Any]) -> None:
    """PyTorch multiplies only arrays of one type.

    **Raises:** `DtypeError` with the names, where it would fail in the middle.
    """
    types = {f"the state of {name}": str(x.dtype) for name, x in states.items()}
    types |= {path: str(p.dtype) for path, p in parameters.items() if framework(p) and p.ndim}
    if len(set(types.values())) > 1:
        raise DtypeError(
            f"HAM: PyTorch does not mix types, and {', '.join(f'{name} is {t}' for name, t in types.items())}. "
            "Give states and parameters one type, for example x.float(), or Module(ham, dtype=torch.float64)."
        )


def _as_before(value: Any, before: Any) -> Any:
    if not framework(before):
        return float(value)
    return value.astype(before.dtype) if framework(before) == "numpy" else beside(value, before)


def _count(steps: int) -> int:
    if steps < 0 or int(steps) != steps:
        raise ValueError(f"steps must be a whole number ≥ 0, got {steps!r}.")
    return int(steps)


def _no_layer(name: str, layers: tuple[str, ...]) -> SiteError:
    return SiteError(f"HAM: no layer is called {name!r}; layers are: {', '.join(layers)}.{nearest(name, list(layers))}")


def _named(parts: Any, kind: type, word: str) -> dict[str, Any]:
    if not isinstance(parts, Mapping):
        items = list(cast("Sequence[Any]", parts))
        titles = [part.name if isinstance(part, Layer) else f"{word}_{at}" for at, part in enumerate(items)]
        titles = [f"{t}_{at}" if titles.count(t) > 1 else t for at, t in enumerate(titles)]
        parts = dict(zip(titles, items, strict=True))
    made = {str(name): part for name, part in cast("Mapping[str, Any]", parts).items()}
    for name, part in made.items():
        if not isinstance(part, kind):
            raise TypeError(f"HAM: {word} {name!r} is a {type(part).__name__}; it must be a {kind.__name__}.")
        if isinstance(part, Layer) and part.use_bias and part.bias is None:
            raise ValueError(f"HAM: layer {name!r} has use_bias=True and no bias yet. Draw it first: layer.init(key).")
    if not made and word == "layer":
        raise ValueError("HAM: there is no layer. A network needs at least one.")
    return made


def _connection(given: Any, layers: tuple[str, ...], synapses: tuple[str, ...]) -> Connection:
    if isinstance(given, Connection):
        given = (given.layers, given.synapse, given.feels)
    hint = "A connection is (layers, synapse), such as (('v', 'h'), 'W'), or (layers, synapse, layers that feel it)."
    if not isinstance(given, Sequence) or isinstance(given, str) or len(cast("Sequence[Any]", given)) not in (2, 3):
        raise ValueError(f"HAM: cannot read the connection {given!r}. {hint}")
    parts = list(cast("Sequence[Any]", given))
    between = parts[0] if not isinstance(parts[0], str | int) else (parts[0],)
    among = tuple(_pick(name, layers, "layer") for name in cast("Sequence[Any]", between))
    synapse = _pick(parts[1], synapses, "synapse")
    feels = among
    if len(parts) == 3:
        asked = (parts[2],) if isinstance(parts[2], str | int) else cast("Sequence[Any]", parts[2])
        feels = tuple(_pick(name, layers, "layer") for name in asked)
        strangers = [name for name in feels if name not in among]
        if strangers or not feels:
            raise ValueError(
                f"HAM: {strangers or 'nobody'} cannot feel the synapse {synapse!r} between {', '.join(among)}. {hint}"
            )
    return Connection(among, synapse, feels)


def _pick(given: Any, names: tuple[str, ...], word: str) -> str:
    if isinstance(given, int) and not isinstance(given, bool):
        if 0 <= given < len(names):
            return names[given]
        raise SiteError(f"HAM: there is no {word} number {given}; there are {len(names)}, from 0: {', '.join(names)}.")
    if given in names:
        return cast("str", given)
    raise SiteError(
        f"HAM: no {word} is called {given!r}; {word}s are: {', '.join(names)}.{nearest(str(given), list(names))}"
    )


def _fitted(
    name: str, synapse: AbstractSynapse, connection: Connection, layers: Mapping[str, Layer]
) -> AbstractSynapse:
    try:
        return synapse.fit(tuple(layers[layer].shape for layer in connection.layers))
    except ShapeError as error:
        raise ShapeError(f"HAM: the synapse {name!r} does not fit {', '.join(connection.layers)}. {error}") from None

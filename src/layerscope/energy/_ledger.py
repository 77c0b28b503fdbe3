r"""The free-energy ledger: where the energy of a descent sits, step by step.

With softmax, sigmoid or tanh layers the energy of a layer is $-S/\beta$ up to a constant, so $E = \text{interaction} - \sum S/\beta + \dots$
is a variational free energy.  S is the entropy that *one* state assigns to its units; how different the states of a data set are is another
number.  The ledger shows both, and never one for the other.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray

from .._errors import DataError, ShapeError, SiteError
from ._array import numbers
from ._descent import States
from ._run import Run
from ._saturating import LSigmoid

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from ._ham import HAM
    from ._layers import Layer

Curve = NDArray[np.float64]


@dataclass(frozen=True)
class Ledger:
    """The balance of a descent, averaged over the batch; every array has an entry per step, the start included.

    **Gives:** `energy` = `interaction` + the sum of `layers`; `interaction` the energy of all synapses; `layers` the energy of each layer;
    `entropies` S in nats of one state, mean over the batch, for layers whose activations are probabilities; `betas` their β, so that −S/β
    can be held against the layer's energy (they differ by a constant for tanh); `observed` the entropy in nats of the binarised states over the
    batch, for every layer: the winner where units compete, else which units are above the middle of their range. At most ln(batch).
    Where a target was given: `overlaps` (steps + 1, batch), the cosine of what units that may move show with the target, NaN for a state of zeros;
    and `baseline` (batch,), that of a rival, such as the nearest neighbour.
    """

    energy: Curve
    interaction: Curve
    layers: dict[str, Curve]
    entropies: dict[str, Curve]
    betas: dict[str, float]
    observed: dict[str, Curve]
    batch: int
    overlaps: NDArray[np.float64] | None = None
    baseline: NDArray[np.float64] | None = None

    @classmethod
    def of(cls, ham: "HAM", run: Run, target: Mapping[str, Any] | None = None, held: States | None = None) -> "Ledger":
        """The ledger of a run that recorded its parts and read its activations.

        **Raises:** `DataError` for no state; `SiteError`, `ShapeError` for a target that no activation can be held against.
        """
        if not math.prod(run.energies.shape[1:]):
            raise DataError("ledger: the batch has no state, and nothing has a mean. Give at least one.")
        mean = {
            part: {name: _mean(curve) for name, curve in getattr(run, part).items()}
            for part in ("layer_energies", "synapse_energies", "entropies")
        }
        interaction = sum(mean["synapse_energies"].values(), np.zeros(len(run.energies)))
        betas = {name: _number(cast("Any", ham.layers[name].lagrangian).beta) for name in mean["entropies"]}
        activations = {name: _host(run.read[name]) for name in ham.layers}
        batch = math.prod(run.energies.shape[1:])
        observed = {
            name: np.array([observed_entropy(ham.layers[name], g) for g in activations[name]]) for name in ham.layers
        }
        met = None if target is None else _overlaps(ham, activations, target, held or {}, batch)
        return cls(
            _mean(run.energies), interaction, mean["layer_energies"], mean["entropies"], betas, observed, batch, met
        )

    def plot(self) -> "Figure":
        """The balance against the steps, and below it the overlaps with their rival, where a target was given.

        **Gives:** a `matplotlib.figure.Figure`, not tied to pyplot; `figure.savefig("energy.pdf")` writes it.
        """
        from ..report._energy import plot

        return plot(self)

    def __str__(self) -> str:
        columns = {"energy": self.energy, "interaction": self.interaction}
        columns |= {f"E({name})": curve for name, curve in self.layers.items()}
        columns |= {f"S({name})": curve for name, curve in self.entropies.items()}
        columns |= {f"observed({name})": curve for name, curve in self.observed.items()}
        widths = [max(len(title), 11) for title in columns]
        lines = ["step  " + "  ".join(title.rjust(w) for title, w in zip(columns, widths, strict=True))]
        for step in range(len(self.energy)):
            cells = (f"{curve[step]:.5g}".rjust(w) for curve, w in zip(columns.values(), widths, strict=True))
            lines.append(f"{step:4d}  " + "  ".join(cells))
        return "\n".join(
            [*lines, f"S and observed in nats; observed over {self.batch} states, at most {math.log(self.batch):.4g}."]
        )


def _host(values: Any) -> NDArray[Any]:
    known = numbers(values)
    assert known is not None  # a ledger is made of a run that is over
    return known


def _mean(curve: Any) -> Curve:
    known = _host(curve)
    return known.reshape(len(known), -1).mean(axis=1)


def _number(value: Any) -> float:
    return float(_host(value).mean())


def _overlaps(
    ham: "HAM", activations: States, target: Mapping[str, Any], held: States, batch: int
) -> NDArray[np.float64]:
    """Cosines (steps + 1, batch) of activations with a target by layer, over the units that may move."""
    dot, own, theirs = 0.0, 0.0, 0.0
    for name, wanted in target.items():
        shape, wanted = ham.layer(name).shape, _host(wanted)
        lead = wanted.ndim - len(shape)
        if wanted.shape[max(lead, 0) :] != shape or math.prod(wanted.shape[: max(lead, 0)]) not in (1, batch):
            raise ShapeError(
                f"ledger: the target of {name!r} has shape {wanted.shape}; it must be {shape}, or one a state with the batch axes in front."
            )
        g = activations[name].reshape(len(activations[name]), batch, -1)
        t = np.broadcast_to(wanted.reshape(-1, g.shape[2]), g.shape[1:])
        moves = (
            np.broadcast_to(~_host(held[name]).reshape(-1, g.shape[2]), t.shape) if name in held else np.ones_like(t)
        )
        dot, own, theirs = dot + (g * t * moves).sum(2), own + (g * g * moves).sum(2), theirs + (t * t * moves).sum(1)
    if not target:
        raise SiteError(
            f"ledger: the target names no layer. Give a pattern by layer: {{{next(iter(ham.layers))!r}: …}}."
        )
    return cosine(np.asarray(dot), np.asarray(own), np.asarray(theirs))


def cosine(dot: Curve, left: Curve, right: Curve) -> Curve:
    """⟨a, b⟩ / √(|a|² |b|²), NaN where one of them is zero and has no direction."""
    length = np.sqrt(left * right)
    return np.divide(dot, length, out=np.full(np.broadcast_shapes(dot.shape, length.shape), np.nan), where=length > 0)


def binarised(layer: "Layer", g: NDArray[Any]) -> NDArray[Any]:
    """Activations (*batch, *shape) as rows of integers (states, …): the winner where units compete, else 1 above the middle of their range."""
    lagrangian = layer.lagrangian
    rows = g.reshape(-1, *layer.shape)
    if lagrangian.axis and lagrangian.growth == 1 and lagrangian.entropy(rows[:1]) is not None:
        return np.argmax(rows, axis=lagrangian.axis).reshape(len(rows), -1)
    middle = _number(lagrangian.scale) / 2 if isinstance(lagrangian, LSigmoid) else 0.0
    return (rows > middle).reshape(len(rows), -1).astype(np.int64)


def observed_entropy(layer: "Layer", g: NDArray[Any]) -> float:
    """The entropy in nats of the binarised states that a batch shows."""
    _, counts = np.unique(binarised(layer, g), axis=0, return_counts=True)
    p = counts / counts.sum()
    return float(-(p * np.log(p)).sum()) + 0.0

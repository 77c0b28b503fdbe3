r"""A memory of patterns that completes what it is shown: a softmax (modern Hopfield) network that says what it did.

The energy of a state v is $E = -\frac{1}{\beta}\ln\sum_k e^{-\frac{\beta}{2}\lVert v - \xi_k\rVert^2}$ in normalised units: a layer of pixels and a hidden
softmax layer that sees $v\cdot\xi_k - \tfrac12\lVert\xi_k\rVert^2$.  With distances instead of plain products a pattern is not preferred for its length, which is where
memories built by hand go wrong.
"""

import math
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from .._errors import DataError, ShapeError
from ._array import Array, beside, common_framework, framework, namespace, numbers
from ._competing import LSoftmax
from ._descent import AbstractDescent, Exact
from ._ham import HAM
from ._layers import IdentityLayer, SoftmaxLayer
from ._ledger import Ledger, cosine
from ._synapses import BiasSynapse, DenseSynapse, HiddenSynapse

KEPT = 0.9
"""How much weight a stored pattern shall keep when it is shown itself."""
SHARE = 0.95
"""Of how many of the patterns β = "auto" asks that."""
SAMPLE = 200
"""Patterns that β = "auto" shows to the memory."""
SWEEPS = 30
"""Exact updates after which β = "auto" looks where a pattern ended."""


@dataclass(frozen=True, eq=False)
class Recall:
    """What a memory made of queries; arrays in the framework of the patterns, a row a query, states in the units of the patterns.

    **Gives:** `states` (queries, *shape); `energy` at the end, in normalised units; `steps` exact updates until nothing moved, `converged`;
    `nearest` the number of the stored pattern nearest to the state, and how near: `overlap`, the cosine of the two around the mean pattern, and `margin`,
    how much farther the second nearest is, in the units of the patterns (inf with one pattern); `weights` (queries, patterns) of the
    stored patterns in the state; `regime` "single" where one pattern has at least 0.9 of the weight, "global" where even half of all patterns have
    less, else "metastable", a mean of a few; `baseline` (queries, *shape) and `baseline_nearest`, what plain nearest neighbour on the known part gives.
    """

    states: Array
    energy: Array
    steps: Array
    converged: Array
    nearest: Array
    overlap: Array
    margin: Array
    weights: Array
    regime: tuple[str, ...]
    baseline: Array
    baseline_nearest: Array
    normalised: str

    def __repr__(self) -> str:
        kinds = ", ".join(
            f"{self.regime.count(kind)} {kind}" for kind in ("single", "metastable", "global") if kind in self.regime
        )
        same = int((_host(self.nearest) == _host(self.baseline_nearest)).sum())
        return (
            f"{len(self.regime)} queries: {kinds}; {int(_host(self.converged).sum())} converged in at most {int(_host(self.steps).max(initial=0))} steps; "
            f"{same} at the pattern that nearest neighbour finds. {self.normalised}"
        )


@dataclass(frozen=True, eq=False)
class Memory:
    """Stored patterns, made by `memory`.

    **Gives:** `ham` the network, of a layer "v" in normalised units; `beta`; `centre` and `scale`, with which v = (pattern − centre) / scale; `shape` of a
    pattern; `normalised` all of this in a sentence.
    """

    ham: HAM
    patterns: Array
    beta: Any
    centre: Array
    scale: Any
    shape: tuple[int, ...]
    normalised: str

    def __repr__(self) -> str:
        return f"memory of {len(self.patterns)} patterns of shape {self.shape}. {self.normalised}"

    def retrieve(self, queries: Array, clamp: Any = None, tolerance: float = 1e-6, most: int = 100) -> Recall:
        """What the memory makes of queries (queries, *shape), or of one query (*shape).

        **Arguments:** `clamp` what is known: a boolean array of the shape of a pattern or of the queries, True where the query holds; known parts keep their
        bits, and what is not known starts at the mean of the patterns weighted by how well their known part fits, whatever the query holds there.
        None: everything may move, from the query. `tolerance` of |∂E/∂v| in normalised units; `most` exact updates.
        **Raises:** `ShapeError` for queries of another shape, `DataError` for known values that are NaN or infinite.
        """
        xp, like = namespace(self.patterns), self.patterns
        asked, known, v, far = self._asked("retrieve", queries, clamp)
        stored, softmax = self._stored, LSoftmax(self.beta)
        start, held = v, None
        if clamp is not None:
            start = xp.where(known, v, softmax.activation(-far / 2) @ stored)
            held = {"v": known}
        settled = self.ham.until({"v": start}, tolerance, most, Exact(), held)
        end = settled.states["v"]
        hidden = cast("HiddenSynapse", self.ham.synapses["patterns"]).seen([end], [1])
        weights = softmax.activation(hidden)
        distance = xp.sum(end * end, axis=1)[:, None] - 2 * hidden  # ‖v − ξ‖²
        near = xp.argmin(distance, axis=1)
        base = xp.argmin(far, axis=1)
        states = (
            xp.where(known, asked, end * self.scale + self.centre)
            if clamp is not None
            else end * self.scale + self.centre
        )
        rows = _host(distance)
        ordered = np.sqrt(np.maximum(np.sort(rows, axis=1)[:, :2], 0)) * float(_host(self.scale))
        gap = ordered[:, 1] - ordered[:, 0] if rows.shape[1] > 1 else np.full(len(rows), np.inf)
        closest = xp.take(stored, near, axis=0)
        overlap = xp.sum(end * closest, axis=1) / xp.sqrt(xp.sum(end * end, axis=1) * xp.sum(closest * closest, axis=1))
        shape = (len(_host(near)), *self.shape)
        return Recall(
            xp.reshape(states, shape), settled.energy, settled.steps, settled.converged, near, overlap,
            beside(gap, like), weights, tuple(_regime(row) for row in _host(weights)),
            xp.reshape(xp.take(self.patterns, base, axis=0), shape), base, self.normalised,
        )  # fmt: skip

    @property
    def _stored(self) -> Any:
        """The patterns in normalised units, (patterns, pixels)."""
        return cast("HiddenSynapse", self.ham.synapses["patterns"]).Ws[0].T

    @property
    def network(self) -> HAM:
        """The same memory with its hidden layer in sight: "v", and "memory" with a neuron for every pattern."""
        synapse = cast("HiddenSynapse", self.ham.synapses["patterns"])
        return HAM(
            {"v": self.ham.layers["v"], "memory": SoftmaxLayer((len(self.patterns),), beta=self.beta)},
            {"patterns": DenseSynapse(synapse.Ws[0]), "lengths": BiasSynapse(synapse.b)},
            [(("v", "memory"), "patterns"), (("memory",), "lengths")],
        )

    def ledger(
        self, queries: Array, clamp: Any = None, truth: Array | None = None, steps: int = 30, descent: AbstractDescent | float = 0.2
    ) -> Ledger:  # fmt: skip
        """A retrieval step by step, as a balance of free energy: what pixels and the neurons of the patterns pay and get; see `Ledger`.

        What is not known starts at the mean pattern, the neurons of the patterns with what the known part tells them.

        **Arguments:** `queries`, `clamp` as `retrieve`; `truth` (queries, *shape) what should be found, in the units of the patterns: then the ledger has
        overlaps, cosines around the mean pattern over what is not known, with nearest neighbour as the baseline; `steps`; `descent`, of which
        `Exact(("v", "memory"))` goes where `retrieve` goes.
        """
        _, known, v, far = self._asked("ledger", queries, clamp)
        start, held = {"v": v, "memory": -far / 2}, None if clamp is None else {"v": known}
        if truth is None:
            return self.network.ledger(start, steps, descent, held)
        wanted, _, right, _ = self._asked("ledger", truth, None)
        if len(wanted) not in (1, len(v)):
            raise ShapeError(f"ledger: {len(v)} queries, but the truth of {len(wanted)}.")
        book = self.network.ledger(start, steps, descent, held, {"v": right})
        rival, target = _host(self._stored)[np.argmin(_host(far), axis=1)], _host(right)
        free = ~_host(known) if clamp is not None else np.ones_like(_host(known))
        parts = [(a * b * free).sum(axis=1) for a, b in ((rival, target), (rival, rival), (target, target))]
        return replace(book, baseline=cosine(*parts))

    def _asked(self, what: str, queries: Array, clamp: Any) -> tuple[Array, Array, Array, Array]:
        """Queries as rows, what of them is known, the same in normalised units with 0 where not, and squared distances from the patterns on it."""
        xp, like, stored = namespace(self.patterns), self.patterns, self._stored
        asked = beside(queries, like)
        if tuple(asked.shape[-len(self.shape) :]) != self.shape or asked.ndim > len(self.shape) + 1:
            raise ShapeError(
                f"{what}: patterns have shape {self.shape}, queries must be (queries, *{self.shape}); got {tuple(asked.shape)}."
            )
        asked = xp.reshape(xp.astype(asked, like.dtype), (-1, math.prod(self.shape)))
        known = _known(clamp, asked, self.shape)
        if not np.isfinite(_host(asked)[_host(known)]).all():
            raise DataError(
                f"{what}: some known values of the queries are NaN or infinite. Leave them out with `clamp`."
            )
        v = xp.where(known, (asked - self.centre) / self.scale, xp.zeros_like(asked))
        # squared distances on what is known: a matrix product each for v², vξ and ξ²
        mask = xp.astype(known, like.dtype)
        far = xp.sum(v * v, axis=1)[:, None] - 2 * (v @ stored.T) + mask @ (stored * stored).T
        return asked, known, v, far


def memory(patterns: Array, beta: float | str = "auto") -> Memory:
    """Stores patterns (patterns, *shape) as they are, to be retrieved.

    **Arguments:** `beta` how sharply the memory tells patterns apart, in normalised units; "auto" is the smallest β at which 95 % of the patterns,
    shown themselves, keep 0.9 of the weight in one update and end nearest to themselves. Smaller β mixes similar patterns, which may complete an unseen one better.
    **Gives:** a `Memory`. Patterns are centred at their mean and divided by the root mean square of their distance from it, all by the same number;
    states come back in the units of the patterns.
    **Raises:** `DataError` for patterns that are not finite, or that are all the same.
    """
    xp = namespace(patterns)
    if not framework(patterns) or patterns.ndim < 2 or len(patterns) == 0:
        raise DataError("memory: give patterns as one array (patterns, *shape), such as images (1000, 8, 8).")
    shape = tuple(patterns.shape[1:])
    rows: Any = xp.reshape(patterns, (len(patterns), math.prod(shape)))
    if "float" not in str(rows.dtype):
        rows = xp.astype(rows, xp.float64 if framework(rows) == "numpy" else xp.float32)
    if not np.isfinite(_host(rows)).all():
        raise DataError("memory: some patterns are NaN or infinite. Leave them out.")
    centre = xp.mean(rows, axis=0)
    apart = rows - centre
    scale = float(_host(xp.sqrt(xp.mean(xp.sum(apart * apart, axis=1)))))
    if not scale > 0:
        if len(rows) > 1:
            raise DataError(f"memory: all {len(rows)} patterns are the same. There is nothing to tell apart.")
        scale = 1.0
    unit = apart / scale
    sharp, how = (_sharpness(_host(unit)), "chosen") if beta == "auto" else (beta, "given")
    if isinstance(sharp, str):
        raise ValueError(f'memory: beta must be a number above 0 or "auto", got {beta!r}.')
    ham = HAM(
        {"v": IdentityLayer((unit.shape[1],))},
        {"patterns": HiddenSynapse(unit.T, LSoftmax(sharp), -xp.sum(unit * unit, axis=1) / 2)},
        [(("v",), "patterns")],
    )
    said = (
        f"Patterns were centred at their mean and divided by {scale:.4g}, the root mean square of their distance from it; beta = {float(sharp):.4g} ({how}) "
        "is meant in these units, and states are given back in yours."
    )
    return Memory(ham, rows, sharp, centre, scale, shape, said)


def _sharpness(unit: NDArray[Any]) -> float:
    """The least β, to 5 %, at which `SHARE` of the patterns keep `KEPT` of the weight when shown themselves, and end nearest to themselves.

    The first follows from distances alone and gives the start of the search for the second, which needs descents. Equal patterns count as one.
    """
    distinct = np.unique(unit, axis=0)
    if len(distinct) == 1:
        return 1.0
    chosen = np.random.default_rng(0).permutation(len(distinct))[:SAMPLE]
    some, half = distinct[chosen], (distinct**2).sum(1) / 2
    far = np.maximum((some**2).sum(1)[:, None] - 2 * (some @ distinct.T - half), 0)

    def keeps(beta: float) -> bool:
        weight = 1 / np.exp(-beta / 2 * far).sum(1)  # its own distance is 0
        return float((weight >= KEPT).mean()) >= SHARE

    def finds(beta: float) -> bool:
        softmax, v = LSoftmax(beta), some
        for _ in range(SWEEPS):
            v = softmax.activation(v @ distinct.T - half) @ distinct
        return float((np.argmax(v @ distinct.T - half, axis=1) == chosen).mean()) >= SHARE

    low, high = 0.0, 1.0
    while not keeps(high):
        low, high = high, 2 * high
        if high > 1e12:
            raise DataError(
                "memory: more than 5 % of the patterns differ from another one by no more than rounding. Keep one of each, or give beta."
            )
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (low, middle) if keeps(middle) else (middle, high)
    while not finds(high):
        high *= 1.05
    return float(high)


def _regime(weights: NDArray[Any]) -> str:
    ordered = np.sort(weights)[::-1]
    needed = 1 + int((np.cumsum(ordered) < 0.9 * ordered.sum()).sum())  # patterns that make up 0.9
    if needed == 1:
        return "single"
    return "global" if needed > len(weights) / 2 else "metastable"


def _known(clamp: Any, asked: Array, shape: tuple[int, ...]) -> Array:
    xp = namespace(asked)
    if clamp is None:
        return xp.ones_like(asked, dtype=xp.bool)
    mask = (
        beside(np.asarray(clamp), asked)
        if framework(clamp) != "torch" and common_framework(asked) == "torch"
        else clamp
    )
    mask = xp.astype(xp.asarray(mask), xp.bool)
    if tuple(mask.shape) not in (shape, (asked.shape[0], *shape)):
        raise ShapeError(
            f"retrieve: clamp has shape {tuple(mask.shape)}; it must be {shape}, or {(asked.shape[0], *shape)} with one a query."
        )
    return xp.broadcast_to(xp.reshape(mask, (-1, asked.shape[1])), asked.shape)


def _host(value: Any) -> NDArray[Any]:
    known = numbers(value)
    if known is None:
        raise DataError(
            "memory: patterns and queries must be real arrays; a compiler is tracing them. Call it outside of jit."
        )
    return known

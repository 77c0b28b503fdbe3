"""Attention as a synapse: the energy whose force on the queries is what a transformer computes."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

from ._abstract import AbstractLagrangian, AbstractSynapse, Shapes
from ._alignment import refuse, times, wants
from ._array import Array, beside, namespace, total
from ._competing import AbstractCompetition, LSoftmax
from ._draw import normal
from ._present import Present
from ._synapses import spectral_norm
from ._tree import Child, Parameter, announce, node

SOFTMAX = LSoftmax()


def tokens(g: Array, rank: int) -> Array:
    """An activation as (batch, tokens, features): its last axis holds the features, all others of the layer are tokens."""
    batch = math.prod(g.shape[: g.ndim - rank])
    return namespace(g).reshape(g, (batch, math.prod(g.shape[g.ndim - rank : -1]), g.shape[-1]))


def projected(g: Array, W: Array) -> Array:
    """(batch, tokens, features) with W (heads, features, z) to (batch, heads, tokens, z)."""
    return namespace(g).matmul(g[:, None], W)


def heads_coupling(Wq: Array, Wk: Array, shapes: Shapes, lagrangian: AbstractLagrangian) -> Any:
    """How strongly queries and keys pull at each other: Σ_h ‖P_h‖ ‖Wq_h‖ ‖Wk_h‖, where P_h are the activations of the scores."""
    radius = lagrangian.radius((math.prod(shapes[0][:-1]), math.prod(shapes[-1][:-1])))
    norms = [times(spectral_norm(Wq[h]), spectral_norm(Wk[h])) for h in range(Wq.shape[0])]
    return times(radius, sum(norms[1:], norms[0]))


@dataclass(frozen=True)
class Scores:
    """One look of queries at keys: Q, K (batch, heads, tokens, z), the scores Q Kᵀ (batch, heads, queries, keys), and which queries are there."""

    Q: Array
    K: Array
    scores: Array

    query_mask: Present | None = None

    @classmethod
    def of(
        cls, gq: Array, gk: Array, Wq: Array, Wk: Array, query_mask: Present | None, key_mask: Present | None
    ) -> "Scores":
        Q, K = projected(gq, Wq), projected(gk, Wk)
        xp = namespace(Q)
        scores = xp.matmul(Q, xp.matrix_transpose(K))
        return cls(Q, K, scores if key_mask is None else key_mask.among(scores), query_mask)

    def energy(self, lagrangian: AbstractLagrangian) -> Array:
        """−L of every row of scores, summed over heads and the queries that are there: (batch,)."""
        rows = lagrangian.densities(self.scores)
        return -total(rows if self.query_mask is None else self.query_mask.only(rows), 3)

    def weights(self, lagrangian: AbstractLagrangian) -> Array:
        """P, the activations of the scores: how much each query looks at each key, 0 for queries that are not there."""
        P = lagrangian.activation(self.scores)
        return P if self.query_mask is None else self.query_mask.only(P)

    def on_queries(self, P: Array, Wq: Array) -> Array:
        """−∂E/∂g of the queries' layer, with P the activations of the scores."""
        xp = namespace(P)
        return xp.sum(xp.matmul(xp.matmul(P, self.K), xp.matrix_transpose(Wq)), axis=1)

    def on_keys(self, P: Array, Wk: Array) -> Array:
        """−∂E/∂g of the keys' layer."""
        xp = namespace(P)
        return xp.sum(xp.matmul(xp.matmul(xp.matrix_transpose(P), self.Q), xp.matrix_transpose(Wk)), axis=1)


def check_heads(synapse: AbstractSynapse, Wq: Any, Wk: Any, shapes: Shapes, features: tuple[int, ...]) -> None:
    """**Raises:** `ShapeError` where projections do not fit each other or the layers."""
    if not (Wq.ndim == Wk.ndim == 3 and Wq.shape[0] == Wk.shape[0] and Wq.shape[2] == Wk.shape[2]):
        raise refuse(
            synapse, f"layers by Wq {tuple(Wq.shape)} and Wk {tuple(Wk.shape)}", shapes,
            "Both must be (heads, features, z) with the same heads and z.",
        )  # fmt: skip
    if (Wq.shape[1], Wk.shape[1]) != features:
        raise refuse(
            synapse, f"queries of {Wq.shape[1]} and keys of {Wk.shape[1]} features", shapes,
            "The last axis of a layer holds its features; Wq and Wk are (heads, features, z).",
        )  # fmt: skip


@node
@dataclass(frozen=True, repr=False, eq=False)
class AttentionSynapse(AbstractSynapse):
    r"""$E = -\frac1\beta\sum_{h,q}\ln\sum_k e^{\beta Q_{hq}\cdot K_{hk}}$ between a layer of queries and a layer of keys.

    Layers have shape (…, features); all axes in front are tokens.  One exact update of the queries is attention:
    softmax(β Q Kᵀ) K, projected back.

    **Arguments:** `Wq`, `Wk` trainable, (heads, features, z); `lagrangian` of the scores, which must act along axis −1 (a softmax); `query_mask`,
    `key_mask` which tokens are there, True or False, (tokens,) or (samples, tokens): padding is left out exactly.
    **Source:** Ramsauer et al. 2020, arXiv:2008.02217; Hoover et al. 2023, arXiv:2302.07253.
    """

    Wq: Parameter
    Wk: Parameter
    lagrangian: Child[AbstractLagrangian] = SOFTMAX
    query_mask: Any = None
    key_mask: Any = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "query_mask", Present.of(self.query_mask))
        object.__setattr__(self, "key_mask", Present.of(self.key_mask))
        if self.key_mask is not None and not isinstance(self.lagrangian, AbstractCompetition):
            raise TypeError(
                f"attention: keys can only be left out where they compete, and {self.lagrangian!r} does not make them. Take LSoftmax or LGhostmax."
            )
        announce()

    @classmethod
    def random(
        cls, rng: Any, queries: tuple[int, ...], keys: tuple[int, ...], heads: int = 1, z: int = 64, scale: float = 0.02,
        lagrangian: AbstractLagrangian | None = None, like: Array | None = None,
    ) -> "AttentionSynapse":  # fmt: skip
        """Projections drawn from a normal distribution with deviation `scale`, for layers of these shapes."""
        Wq, Wk = _projections(rng, heads, queries[-1], keys[-1], z, scale, like)
        return cls(Wq, Wk, lagrangian or SOFTMAX)

    def fit(self, shapes: Shapes) -> Self:
        if len(shapes) != 2 or not all(shapes):
            raise refuse(self, "two layers, queries and keys", shapes, "For one layer take SelfAttentionSynapse.")
        check_heads(self, self.Wq, self.Wk, shapes, (shapes[0][-1], shapes[1][-1]))
        for mask, shape in zip((self.query_mask, self.key_mask), shapes, strict=True):
            if mask is not None and mask.tokens.shape[-1] != math.prod(shape[:-1]):
                raise refuse(
                    self, f"a layer of {mask.tokens.shape[-1]} tokens by its mask", shapes, "A mask says for every token whether it is there."
                )  # fmt: skip
        return self

    def pull(
        self, gs: Sequence[Array], ranks: Sequence[int] | None = None, wanted: Sequence[int] | None = None
    ) -> tuple[Array, dict[int, Array]]:
        xp = namespace(self.Wq, self.Wk, *gs)
        Wq, Wk = beside(self.Wq, gs[0]), beside(self.Wk, gs[0])
        ranks = [g.ndim for g in gs] if ranks is None else ranks
        look = Scores.of(tokens(gs[0], ranks[0]), tokens(gs[1], ranks[1]), Wq, Wk, self.query_mask, self.key_mask)
        energy = xp.reshape(look.energy(self.lagrangian), gs[0].shape[: gs[0].ndim - ranks[0]])
        wanted = wants(wanted, 2)
        if not wanted:
            return energy, {}
        P = look.weights(self.lagrangian)
        made = {n: look.on_keys(P, Wk) if n else look.on_queries(P, Wq) for n in wanted}
        return energy, {n: xp.reshape(force, gs[n].shape) for n, force in made.items()}

    def coupling(self, shapes: Shapes, radii: Sequence[Any]) -> list[list[Any]]:
        between = heads_coupling(self.Wq, self.Wk, shapes, self.lagrangian)
        return [[0.0, between], [between, 0.0]]

    @property
    def orders(self) -> tuple[tuple[tuple[int, float], ...], ...]:
        return (((0, self.lagrangian.growth), (1, self.lagrangian.growth)),)


@node
@dataclass(frozen=True, repr=False, eq=False)
class SelfAttentionSynapse(AbstractSynapse):
    r"""`AttentionSynapse` of a layer with itself: every token is a query and a key.

    **Arguments:** as there; `mask` the tokens that are there. **Beware:** the exact update of the layer may raise this energy, which is not concave in one layer alone; take
    small steps.
    """

    Wq: Parameter
    Wk: Parameter
    lagrangian: Child[AbstractLagrangian] = SOFTMAX
    mask: Any = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "mask", Present.of(self.mask))
        announce()

    @classmethod
    def random(
        cls, rng: Any, shape: tuple[int, ...], heads: int = 1, z: int = 64, scale: float = 0.02,
        lagrangian: AbstractLagrangian | None = None, like: Array | None = None,
    ) -> "SelfAttentionSynapse":  # fmt: skip
        """Projections drawn from a normal distribution with deviation `scale`, for a layer of this shape."""
        Wq, Wk = _projections(rng, heads, shape[-1], shape[-1], z, scale, like)
        return cls(Wq, Wk, lagrangian or SOFTMAX)

    def fit(self, shapes: Shapes) -> Self:
        if len(shapes) != 1 or not all(shapes):
            raise refuse(self, "one layer", shapes, "For queries and keys in two layers take AttentionSynapse.")
        check_heads(self, self.Wq, self.Wk, shapes, (shapes[0][-1], shapes[0][-1]))
        self._both.fit((shapes[0], shapes[0]))
        return self

    @property
    def _both(self) -> AttentionSynapse:
        """The same with the layer as its own keys."""
        return AttentionSynapse(self.Wq, self.Wk, self.lagrangian, self.mask, self.mask)

    def pull(
        self, gs: Sequence[Array], ranks: Sequence[int] | None = None, wanted: Sequence[int] | None = None
    ) -> tuple[Array, dict[int, Array]]:
        energy, forces = self._both.pull(
            (gs[0], gs[0]), None if ranks is None else (ranks[0], ranks[0]), None if wanted is None or wanted else ()
        )
        return energy, {n: forces[0] + forces[1] for n in wants(wanted, 1)}

    def coupling(self, shapes: Shapes, radii: Sequence[Any]) -> list[list[Any]]:
        return [[2 * heads_coupling(self.Wq, self.Wk, shapes, self.lagrangian)]]

    @property
    def orders(self) -> tuple[tuple[tuple[int, float], ...], ...]:
        return (((0, self.lagrangian.growth), (0, self.lagrangian.growth)),)

    @property
    def alternates(self) -> bool:
        return False


def _projections(
    rng: Any, heads: int, queries: int, keys: int, z: int, scale: float, like: Array | None
) -> tuple[Array, Array]:
    both = normal(rng, (heads, queries + keys, z), like) * scale
    return both[:, :queries], both[:, queries:]

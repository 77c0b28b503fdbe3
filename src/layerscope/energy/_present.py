"""Which tokens of a sample are there: padding is left out of an energy exactly, as if the sequence were shorter."""

from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from .._errors import DataError, DtypeError, ShapeError
from ._array import Array, beside, namespace, numbers


@dataclass(frozen=True, eq=False)
class Present:
    """Tokens that are there, by value: (tokens,) for all samples alike, or (samples, tokens).

    It is part of the structure of a network and no parameter, so JAX compiles a loop anew for another mask.

    **Raises:** `DtypeError` for what is not True or False, `ShapeError` for other axes, `DataError` for a sample without a token.
    """

    tokens: NDArray[np.bool_]

    @classmethod
    def of(cls, mask: Any) -> "Present | None":
        """The tokens that a mask says; None where there is no mask."""
        if mask is None or isinstance(mask, Present):
            return mask
        known = numbers(np.asarray(cast("Any", mask)) if isinstance(mask, list | tuple) else mask)
        if known is None or known.dtype != np.bool_:
            seen = "a traced array" if known is None else str(known.dtype)
            raise DtypeError(
                f"attention: a mask is a known array of True (there) and False (padding), got {seen}. Write mask=lengths > position."
            )
        if known.ndim not in (1, 2):
            raise ShapeError(f"attention: a mask is (tokens,) or (samples, tokens), got {known.shape}.")
        if not known.any(axis=-1).all():
            raise DataError("attention: a sample has no token at all. Leave it out.")
        return cls(known.copy())

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Present) and np.array_equal(self.tokens, other.tokens)

    def __hash__(self) -> int:
        return hash((self.tokens.shape, self.tokens.tobytes()))

    def __repr__(self) -> str:
        return f"{int(self.tokens.sum())} of {self.tokens.size} tokens"

    @property
    def samples(self) -> int:
        """How many samples it tells apart; 1 where it is the same for all."""
        return len(self.tokens) if self.tokens.ndim == 2 else 1

    def beside(self, scores: Array, axis: int) -> Array:
        """The mask to hold against scores (batch, heads, queries, keys), with the tokens along `axis`, which is −1 or −2.

        **Raises:** `ShapeError` where it is of another number of samples.
        """
        if self.samples not in (1, scores.shape[0]):
            raise ShapeError(f"attention: the mask is of {self.samples} samples, the states of {scores.shape[0]}.")
        mask = self.tokens.reshape(self.samples, 1, *((1, -1) if axis == -1 else (-1, 1)))
        return beside(mask, scores)

    def among(self, scores: Array) -> Array:
        """Scores with so low ones for keys that are not there that they weigh exactly 0; finite, so that derivatives are."""
        xp = namespace(scores)
        floor = -(float(xp.finfo(scores.dtype).max) ** 0.5)
        return xp.where(self.beside(scores, -1), scores, xp.full_like(scores, floor))

    def only(self, values: Array) -> Array:
        """Values (batch, heads, queries, …) with 0 for queries that are not there."""
        xp = namespace(values)
        return xp.where(self.beside(values, -2), values, xp.zeros_like(values))

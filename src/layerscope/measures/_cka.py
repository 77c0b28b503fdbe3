"""How alike a layer's answers to transformed samples are to its answers to the samples, whatever units carry them."""

import math
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from .._errors import EmptyTally
from .._reading import NAN, Jackknife, Reading
from ..tallies import Covariances, GridCovariances
from ..tallies._covariances import WIDEST
from ._abstract import AbstractMeasure
from ._intervals import clipped, interval
from ._spread import check_choice, check_seen

Floats = NDArray[np.float64]
FEWEST = 50
"""Samples below which no interval is given: with fewer, its coverage was never checked."""


@dataclass(frozen=True)
class CKA(AbstractMeasure[Covariances]):
    r"""Whether a layer tells transformed samples apart as it tells the samples apart: centred kernel alignment of f(x) and f(t_j x).

    With the centred answers X and Y of N samples, $\mathrm{CKA} = \mathrm{HSIC}(X, Y) / \sqrt{\mathrm{HSIC}(X, X)\, \mathrm{HSIC}(Y, Y)}$: 1 where
    the answers agree up to a rotation and one scale, whichever units carry them. Maps are averaged over their positions first.

    **Arguments:** `against` the number of the transformation that is f(x), 0 being the first, which leaves inputs as they are in the ready
    sets; `level` "layer" the mean over the other transformations, or "transformation": one number each; `debiased` takes the unbiased HSIC of
    linear kernels, which reads 0 on average for answers of no relation; else the plain $\lVert Y^T X \rVert_F^2$ form, which is biased upward
    where samples are few against the width, and the note says what no relation would read; `widest` units up to which a layer is measured.
    **Reads:** `GridCovariances`. **Gives:** a number within [0, 1] (debiased within [-1, 1]) with a 95 % interval from leaving out samples.
    **Raises:** `EmptyTally` for fewer than four samples or two transformations, or a layer that is too wide.
    **Beware:** means of maps forget where things are, so a convolution reads close to 1 under rotations and shifts.
    **Source:** Kornblith et al. 2019, arXiv:1905.00414; the unbiased HSIC of Song et al. 2012, JMLR 13:1393.
    """

    against: int = 0
    level: Literal["layer", "transformation"] = "layer"
    debiased: bool = True
    widest: int = WIDEST
    name: ClassVar[str] = "cka"

    def __post_init__(self) -> None:
        check_choice("CKA", "level", self.level, Literal["layer", "transformation"])

    @property
    def tally(self) -> GridCovariances:
        return GridCovariances(self.against, self.widest)

    def compute(self, value: Covariances) -> Reading:
        T, n = value.transformations, value.samples
        check_seen(value.site, n, T, value.skipped)
        if n < 4:
            raise EmptyTally(
                f"{value.site}: {n} samples were seen. An unbiased alignment of samples needs four or more."
            )
        whole = alignments(Sums.of(value), n, self.against, self.debiased)
        number: Any = float(self._mean(whole)) if self.level == "layer" else whole
        jackknife = self._jackknife(value) if self.level == "layer" and math.isfinite(number) else None
        least = -1.0 if self.debiased else 0.0
        low, high = (NAN, NAN) if jackknife is None else clipped(*interval(number, jackknife), 1.0, least)
        form = "debiased linear" if self.debiased else "linear"
        return Reading(
            number,
            low=low,
            high=high,
            observations=n * T,
            samples=n,
            measured_in=f"{form} CKA with transformation {self.against}, of {T} transformations, {n} samples, {value.width} units",
            note="; ".join(self._notes(value, whole)),
            jackknife=jackknife,
        )

    def _mean(self, each: Floats) -> Floats:
        """Over the transformations but the one that is compared with, (…, T) to (…)."""
        return np.delete(each, self.against, axis=-1).mean(axis=-1)

    def _notes(self, value: Covariances, whole: Floats) -> list[str]:
        notes: list[str] = []
        if not self.debiased:
            chance = by_chance(value, self.against)
            notes.append(f"answers of no relation would read {float(self._mean(chance)):.2g} on average")
        if not np.isfinite(value.squares).all():
            notes.append("NaN or infinite values")
        elif np.isnan(whole).any():
            notes.append("its answers do not move from sample to sample, or too little to tell")
        return notes

    def _jackknife(self, value: Covariances) -> Jackknife | None:
        """The number without each of the kept samples."""
        if value.samples < FEWEST:
            return None
        without = Sums.without(value, self.against)
        values = self._mean(alignments(without, value.samples - 1, self.against, self.debiased))
        return Jackknife(value.keys.view(np.int64), values, value.samples) if np.isfinite(values).all() else None


@dataclass(frozen=True)
class Sums:
    """What alignments are made of, (…, T) each: Σ|x|² of every transformation, and of its answers with themselves (`own`) and with those of
    the one compared with (`cross`) the squared Frobenius norm of Σ x yᵀ and Σ |x|² |y|².
    """

    squares: Floats
    own: tuple[Floats, Floats]
    cross: tuple[Floats, Floats]

    @classmethod
    def of(cls, value: Covariances) -> "Sums":
        own, cross = (((p.second**2).sum(axis=(1, 2)), p.fourth) for p in (value.own, value.cross))
        return cls(value.squares, own, cross)

    @classmethod
    def without(cls, value: Covariances, against: int) -> "Sums":
        r"""The same without each of the kept samples, (kept, T), exactly.

        Leaving out the centred (x, y) moves the means by $-\varepsilon x$, $-\varepsilon y$, $\varepsilon = 1 / (N - 1)$, and what was summed
        about the old means is shifted: $\sum x y^T$ loses $(1 + \varepsilon) x y^T$.
        """
        n = value.samples
        y = value.rows - value.mean
        x, e = np.broadcast_to(y[:, against : against + 1], y.shape), 1 / (n - 1)
        squares = value.squares
        b = (y * y).sum(axis=2)
        a = np.broadcast_to(b[:, against : against + 1], b.shape)

        def pair(p: Any, x: Floats, a: Floats, of_x: Floats) -> tuple[Floats, Floats]:
            turned = np.matmul(x.swapaxes(0, 1), p.second).swapaxes(0, 1)
            along = (turned * y).sum(axis=2)
            norm = (p.second**2).sum(axis=(1, 2)) - 2 * (1 + e) * along + (1 + e) ** 2 * a * b
            tilt = (y * p.left).sum(axis=2) + (x * p.right).sum(axis=2)
            fourth = p.fourth + 2 * e * tilt + e**2 * (b * of_x + a * squares + 4 * along) + n * e**4 * a * b
            return norm, fourth - (1 + e) ** 4 * a * b

        origin = np.broadcast_to(squares[against], squares.shape)
        return cls(squares - (1 + e) * b, pair(value.own, y, b, squares), pair(value.cross, x, a, origin))


def alignments(sums: Sums, n: int, against: int, debiased: bool) -> Floats:
    """CKA of every transformation with the one compared with, (…, T); NaN where answers do not move."""
    squares = sums.squares
    origin: Floats = squares[..., against : against + 1]
    (own, own4), (cross, cross4) = sums.own, sums.cross
    if debiased:
        own, cross = unbiased(own, own4, squares * squares, n), unbiased(cross, cross4, origin * squares, n)
    size = own[..., against : against + 1] * own
    # rounding of what is 0 in exact numbers: a layer that does not move, or moves as one sample only
    moved = np.isfinite(size) & (own > 1e-12 * squares * squares / n) & (origin > 0)
    moved &= moved[..., against : against + 1]
    out: Floats = np.full(cross.shape, np.nan)
    return np.divide(cross, np.sqrt(np.where(moved, size, 1.0)), out=out, where=moved)


def unbiased(norm: Floats, fourth: Floats, product: Floats, n: int) -> Floats:
    r"""N (N − 3) times the unbiased HSIC of two linear kernels, from centred answers.

    The kernels' diagonals are left out; since the estimator does not change when all answers are shifted, sums about the means serve:
    $\lVert \sum x y^T \rVert_F^2 - \frac{N}{N - 2} \sum |x|^2 |y|^2 + \frac{\sum |x|^2 \sum |y|^2}{(N - 1)(N - 2)}$.
    """
    return norm - n / (n - 2) * fourth + product / ((n - 1) * (n - 2))


def by_chance(value: Covariances, against: int) -> Floats:
    """The mean of plain CKA over all ways to assign the transformed answers to other samples, (T,), in closed form.

    E tr(K P L Pᵀ) = tr K tr L / (N − 1) over permutations P, for centred kernels K and L.
    """
    norms: Floats = (value.own.second**2).sum(axis=(1, 2))
    sizes: Floats = np.sqrt(norms[against] * norms)
    product = value.squares[against] * value.squares / (value.samples - 1)
    out: Floats = np.full(sizes.shape, np.nan)
    return np.divide(product, sizes, out=out, where=sizes > 0)

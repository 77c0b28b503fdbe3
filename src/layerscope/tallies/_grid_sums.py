"""What is added up over a grid of samples × transformations, and how two such sums become one."""

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from .._errors import DataError

Flavour = Literal["std", "variance"]

RELATIVE = 2e-6


def check_flavour(flavour: str) -> None:
    """**Raises:** `DataError` for what is no flavour."""
    if flavour not in get_args(Flavour):
        raise DataError(f"flavour={flavour!r}: choose 'std' (mean deviations) or 'variance' (mean variances).")


@dataclass
class GridSums:
    """Sums over samples × transformations (T) × values (D) of one stratum, all float64.

    `rows_var`, `rows_std` (D,): Σ over samples of variance and deviation over transformations; `mean` (T, D), `m2` (T, D): per
    transformation mean and squared deviations over samples; (1, D) where only the sum of `m2` is kept.
    """

    samples: int
    mean: NDArray[np.float64]
    m2: NDArray[np.float64]
    rows_var: NDArray[np.float64]
    rows_std: NDArray[np.float64]

    @classmethod
    def zeros(cls, T: int, D: int, each: bool) -> "GridSums":
        return cls(0, np.zeros((T, D)), np.zeros((T if each else 1, D)), np.zeros(D), np.zeros(D))

    @property
    def arrays(self) -> tuple[NDArray[np.float64], ...]:
        return self.mean, self.m2, self.rows_var, self.rows_std

    def copy(self) -> "GridSums":
        return GridSums(self.samples, *(array.copy() for array in self.arrays))

    def joined(self, other: "GridSums") -> "GridSums":
        """Both together, by the rule of Chan, Golub & LeVeque (1979)."""
        if not self.samples or not other.samples:
            return (other if other.samples else self).copy()
        total = self.samples + other.samples
        with np.errstate(invalid="ignore"):  # infinite means are not joined to anything finite
            delta = other.mean - self.mean
            between = delta * delta * (self.samples * other.samples / total)
            return GridSums(
                total,
                self.mean + delta * (other.samples / total),
                self.m2 + other.m2 + (between if len(self.m2) == len(delta) else between.sum(axis=0, keepdims=True)),
                self.rows_var + other.rows_var,
                self.rows_std + other.rows_std,
            )

    def same(self, other: "GridSums", noise: float = 0.0) -> bool:
        """Whether both say the same, where every value may differ by `noise` of the largest mean."""
        pairs = list(zip(self.arrays, other.arrays, strict=True))
        if self.samples != other.samples or any(a.shape != b.shape for a, b in pairs):
            return False
        size, n = np.abs(self.mean), max(self.samples, 1)
        moved = noise * float(size.max(initial=0.0))
        close = [np.abs(self.mean - other.mean) <= RELATIVE * (size + np.sqrt(self.m2 / n)) + moved]
        for mine, theirs in pairs[1:]:
            whole = np.abs(mine) + np.abs(theirs)
            close.append(np.abs(mine - theirs) <= RELATIVE * whole + 4 * moved * (np.sqrt(n * whole) + n * moved + n))
        return all(bool(np.all(each)) for each in close)

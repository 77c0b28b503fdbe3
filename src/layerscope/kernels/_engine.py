"""Which kernels run, decided at the first call: importing this loads neither Numba nor a framework."""

import functools
from types import ModuleType
from typing import Any

from numpy.typing import NDArray

from .reference import Counts, Sums, Words


@functools.cache
def engine() -> ModuleType:
    """The module whose kernels run: `cpu`, or `reference` where there is no Numba for the platform."""
    try:
        import numba as _  # noqa: F401
    except ImportError:
        from . import reference

        return reference
    from . import cpu

    return cpu


def pack(x: NDArray[Any], unit_axis: int, threshold: float = 0.0, dtype: str | None = None) -> tuple[Words, bool]:
    """Which units fire, as packed states (observations, words), and whether all values are finite.

    **Arguments:** `x` real values of any type and strides, units along `unit_axis`; a unit fires when strictly above `threshold`, which is
    first rounded to the type of `x` (integers are compared exactly); `dtype="bfloat16"` when `x` is the int16 view of such a tensor.
    **Gives:** little-endian uint64 words, unit k in bit k % 64 of word k // 64, padding bits 0; all other axes in raster order.
    **Raises:** `DtypeError` for values without an order, `ShapeError` for an axis that is not there.
    """
    return engine().pack(x, unit_axis, threshold, dtype)


def nonfinite(x: NDArray[Any], dtype: str | None = None) -> tuple[int, int]:
    """How many values are NaN, and how many are infinite."""
    return engine().nonfinite(x, dtype)


def unit_counts(words: Words, n: Counts, units: int) -> Counts:
    """How often each unit fired: over states s, the sum of n_s · bit_k(s), int64 (units,).

    **Raises:** `ShapeError` when there is not one count a state, or not room for so many units.
    """
    return engine().unit_counts(words, n, units)


def grid_into(
    x: NDArray[Any], transformations: int, seen: int, mean: Sums, m2: Sums, rows_var: Sums, rows_std: Sums
) -> None:
    """Add complete rows of samples × transformations to their float64 sums, in place: see `reference.grid_into`.

    2e-6 relative of float64 over everything, also at mean = 1e5 deviations.
    """
    engine().grid_into(x, transformations, seen, mean, m2, rows_var, rows_std)


def groups_into(
    x: NDArray[Any],
    transformations: int,
    picked: Counts,
    group: Counts,
    count: Counts,
    mean: Sums,
    m2: Sums,
    rows_var: Sums,
    rows_std: Sums,
) -> None:
    """The same sums for a few values, group by group of samples, in place: see `reference.groups_into`."""
    engine().groups_into(x, transformations, picked, group, count, mean, m2, rows_var, rows_std)

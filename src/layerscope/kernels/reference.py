"""What the kernels mean, in NumPy: packing firing states, and counting different ones.

A *packed state* is a row of little-endian uint64 words: unit k is bit k % 64 of word k // 64, padding bits are 0.  These functions are
the definition.  The kernels in `cpu.py` have the same names and arguments and give the same bits; where Numba is missing these run.
"""

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .._errors import DtypeError, ShapeError

Words = NDArray[np.uint64]
Counts = NDArray[np.int64]

WORD = 64
UNBORN = np.iinfo(np.int64).max  # the identity of min: the first sample of a state that no sample has shown


class Records(NamedTuple):
    """Different states and four integers for each, ascending by the state read as one unsigned little-endian integer.

    **Fields:** `states` (states, words); `n` rows in that state; `i` samples it occurs in; `Q` sum over samples of (rows of the sample in
    that state) squared; `first` the smallest sample id.  All add up (`first`: minimum) over disjoint samples.
    """

    states: Words
    n: Counts
    i: Counts
    Q: Counts
    first: Counts

    @classmethod
    def empty(cls, words: int) -> "Records":
        """No state at all: the identity of `merge`."""
        nothing = np.empty(0, np.int64)
        return cls(np.empty((0, words), np.uint64), nothing, nothing, nothing, nothing)

    def some(self, which: NDArray[Any]) -> "Records":
        """Those of them that a mask or a list of numbers names."""
        return Records(self.states[which], self.n[which], self.i[which], self.Q[which], self.first[which])


def bfloat16_bits(value: float) -> int:
    """The bits of |value| rounded to the nearest bfloat16, ties to even.

    >>> hex(bfloat16_bits(1.0)), hex(bfloat16_bits(-0.1))
    ('0x3f80', '0x3dcd')
    """
    with np.errstate(over="ignore"):
        single = np.float32(abs(value))
    bits = int(single.view(np.uint32))
    if bits & 0xFFFF == 0x8000 and abs(value) != float(single):  # float32 rounded onto the tie: what it lost decides
        return (bits >> 16) + (abs(value) > float(single))
    return (bits + 0x7FFF + (bits >> 16 & 1)) >> 16


def whole_threshold(threshold: float) -> int:
    """The integer t with `x > t` exactly when `x > threshold`, for every 64-bit integer x."""
    if math.isfinite(threshold):
        return math.floor(threshold)
    return -(2**65) if threshold < 0 else 2**65


def readable(x: NDArray[Any], dtype: str | None = None) -> NDArray[Any]:
    """`x` in a type that NumPy orders: bfloat16 as float32 (exact), bool as uint8, native byte order.

    **Raises:** `DtypeError` for complex numbers, objects, strings and times, and when `dtype` does not describe `x`.
    """
    if x.dtype.name == "bfloat16" or (dtype == "bfloat16" and x.dtype.name in ("int16", "uint16")):
        return (x.view(np.uint16).astype(np.uint32) << 16).view(np.float32)
    if dtype is not None and dtype != x.dtype.name:
        raise DtypeError(
            f"firing states: asked to read the values as {dtype!r}, the array holds {x.dtype}. "
            "Leave dtype out, or pass the int16 view of a bfloat16 tensor with dtype='bfloat16'."
        )
    if x.dtype.kind not in "biuf":
        hint = "of its real part or of its absolute value" if x.dtype.kind == "c" else "of a numeric array"
        raise DtypeError(
            f"firing states: asked which of the values of type {x.dtype} are above a threshold; they have no order. Ask {hint}."
        )
    if x.dtype.kind == "b":
        return x.view(np.uint8)
    return x if x.dtype.isnative else x.astype(x.dtype.newbyteorder("="))


def fires(x: NDArray[Any], threshold: float = 0.0, dtype: str | None = None) -> NDArray[np.bool_]:
    """Which values are strictly above `threshold`, compared in the type of `x` (`threshold` rounded to it; for integers, exactly).

    0.0, -0.0, NaN and -inf do not fire at threshold 0; +inf and denormals do.
    """
    values = readable(x, dtype)
    if values.dtype.kind != "f":
        return values > whole_threshold(threshold)
    if values.dtype != x.dtype and values.dtype == np.float32 and x.dtype.itemsize == 2:  # bfloat16, widened
        magnitude = np.uint32(bfloat16_bits(threshold) << 16).view(np.float32)
        return values > (-magnitude if threshold < 0 else magnitude)
    with np.errstate(over="ignore"):
        return values > values.dtype.type(threshold)


def unit_axis_of(shape: tuple[int, ...], unit_axis: int) -> int:
    """`unit_axis` counted from the front, or a `ShapeError`."""
    rank = len(shape)
    if not -rank <= unit_axis < rank:
        raise ShapeError(
            f"firing states: asked for units along axis {unit_axis}, the values have shape {shape}. "
            + (f"Give an axis between {-rank} and {rank - 1}." if rank else "Give an array with an axis of units.")
        )
    return unit_axis % rank


def pack(x: NDArray[Any], unit_axis: int, threshold: float = 0.0, dtype: str | None = None) -> tuple[Words, bool]:
    """Which units fire, as packed states, and whether all values are finite.

    **Arguments:** `x` real values of any strides, units along `unit_axis`; a unit fires when strictly above `threshold`;
    `dtype="bfloat16"` when `x` is the int16 view of such a tensor.
    **Gives:** words (observations, ceil(units / 64)), all axes but the unit axis in raster order.
    **Raises:** `DtypeError` for values without an order, `ShapeError` for an axis that is not there.

    >>> words, finite = pack(np.array([[-1.0, 2.0, 3.0, 4.0, 5.0]]), 1)
    >>> int(words[0, 0]), finite
    (30, True)
    """
    axis = unit_axis_of(x.shape, unit_axis)
    units = x.shape[axis]
    observations = math.prod(x.shape[:axis] + x.shape[axis + 1 :])
    rows = np.moveaxis(fires(x, threshold, dtype), axis, -1).reshape(observations, units)
    packed = np.zeros((observations, -(-units // WORD) * 8), np.uint8)
    packed[:, : -(-units // 8)] = np.packbits(rows, axis=1, bitorder="little")
    return packed.view("<u8").astype(np.uint64, copy=False), not any(nonfinite(x, dtype))


def nonfinite(x: NDArray[Any], dtype: str | None = None) -> tuple[int, int]:
    """How many values are NaN, and how many are infinite.

    >>> nonfinite(np.array([1.0, np.nan, np.inf, -np.inf]))
    (1, 2)
    """
    values = readable(x, dtype)
    if values.dtype.kind != "f":
        return 0, 0
    return int(np.count_nonzero(np.isnan(values))), int(np.count_nonzero(np.isinf(values)))


def unit_counts(words: Words, n: Counts, units: int) -> Counts:
    """How often each unit fired, from a table of states: over states s, the sum of n_s · bit_k(s).

    **Arguments:** `words` (states, words), `n` (states,), `units`.  **Gives:** int64 (units,).

    >>> unit_counts(np.array([[0b11], [0b10]], np.uint64), np.array([5, 2]), 3)
    array([5, 7, 0])
    """
    if not 0 <= units <= words.shape[1] * WORD or len(n) != len(words):
        raise ShapeError(
            f"unit counts: asked for {units} units of {len(words)} states seen {len(n)} times each in turn, the states have room for "
            f"{words.shape[1] * WORD} units. Give one count a state and no more units than fit."
        )
    total = np.zeros(units, np.int64)
    for begin in range(0, len(words), 4096):  # unpacked, a state takes 64 times its size
        block = np.ascontiguousarray(words[begin : begin + 4096], "<u8").view(np.uint8)
        total += n[begin : begin + 4096] @ np.unpackbits(block, axis=1, bitorder="little")[:, :units].astype(np.int64)
    return total


Sums = NDArray[np.float64]


def grid_into(
    x: NDArray[Any], transformations: int, seen: int, mean: Sums, m2: Sums, rows_var: Sums, rows_std: Sums
) -> None:
    """Add a block of complete rows to the sums of a grid of samples × transformations (T), value by value (D).

    **Arguments:** `x` (samples · T, D) floats, sample-major; `seen` samples that went before; all else float64 and changed in place:
    `mean` (T, D) per transformation over samples; `m2` (T, D) squared deviations about it, or (1, D) their sum over transformations;
    `rows_var`, `rows_std` (D,) sums over samples of the variance and deviation over transformations (ddof = 1; 0 for T = 1).

    A row is there whole, so its variance is two-pass; columns outlast the block and are joined by the rule of Chan, Golub & LeVeque (1979).
    """
    T, D = transformations, x.shape[1]
    block = x.reshape(-1, T, D).astype(np.float64)
    rows = block.var(axis=1, ddof=1) if T > 1 else np.zeros((len(block), D))
    rows_var += rows.sum(axis=0)
    rows_std += np.sqrt(rows).sum(axis=0)
    here = block.mean(axis=0)
    delta, total = here - mean, seen + len(block)
    squares = ((block - here) ** 2).sum(axis=0) + delta * delta * (seen * len(block) / total)
    m2 += squares if len(m2) == T else squares.sum(axis=0, keepdims=True)
    mean += delta * (len(block) / total)


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
    """The same sums for a few values, group by group of samples, and for nested choices of transformations.

    **Arguments:** `picked` (K,) numbers of the values; `group` (samples,) of every sample, below G; `count` (G,) samples of each group so
    far; `mean`, `m2` (G, T, K); `rows_var`, `rows_std` (G, S, K), where s takes every 2^s-th transformation from the first.  Changed in place.
    """
    few = x.reshape(-1, transformations, x.shape[1])[:, :, picked].astype(np.float64)
    for g in np.unique(group).tolist():
        block, nothing = few[group == g], np.zeros(len(picked))
        flat = block.reshape(-1, len(picked))
        grid_into(flat, transformations, int(count[g]), mean[g], m2[g], nothing, nothing)
        for s in range(rows_var.shape[1]):
            rows = block[:, :: 2**s]
            if rows.shape[1] > 1:
                var = rows.var(axis=1, ddof=1)
                rows_var[g, s] += var.sum(axis=0)
                rows_std[g, s] += np.sqrt(var).sum(axis=0)
        count[g] += len(block)


def order_of(states: Words) -> NDArray[np.intp]:
    """The order ascending by state, read as one unsigned little-endian integer (last word most significant)."""
    if not states.shape[1]:
        return np.arange(len(states))
    order = np.argsort(states[:, -1])
    top = states[order, -1]
    if (
        states.shape[1] == 1 or (top[1:] != top[:-1]).all()
    ):  # the top words decide already: ten times faster for 512 units
        return order
    return np.lexsort(states.T)


def count(rows: Words, offsets: Counts, ids: Counts) -> Records:
    """Different states among `rows`, and their four integers.

    **Arguments:** `rows` (observations, words); sample g, named `ids[g]`, is `rows[offsets[g]:offsets[g + 1]]`.

    >>> count(np.array([[7], [7], [1], [7]], np.uint64), np.array([0, 3, 4]), np.array([10, 4]))[1:]
    (array([1, 3]), array([1, 2]), array([1, 5]), array([10,  4]))
    """
    sample = np.repeat(np.arange(len(ids)), np.diff(offsets))
    order = np.lexsort((sample, *rows.T))
    state, sample = rows[order], sample[order]
    new_state = _starts(state)
    new_pair = new_state | np.r_[True, sample[1:] != sample[:-1]][: len(sample)]
    begin = np.flatnonzero(new_pair)  # of each (state, sample)
    times = np.diff(np.r_[begin, len(state)])  # rows of the sample in that state
    each = Records(state[begin], times, np.ones_like(times), times * times, ids[sample[begin]])
    return _sum_equal(each)


def merge(a: Records, b: Records) -> Records:
    """The records of two disjoint sets of samples together: n, i and Q add, first is the smaller.

    **Raises:** `ShapeError` when the states differ in width.
    """
    if a.states.shape[1] != b.states.shape[1]:
        raise ShapeError(
            f"merge: left counts states of {a.states.shape[1]} words, right of {b.states.shape[1]}. "
            "Records merge only when they come from the same site and unit axis."
        )
    states = np.concatenate([a.states, b.states])
    order = order_of(states)
    columns = (np.concatenate(pair)[order] for pair in zip(a[1:], b[1:], strict=True))
    return _sum_equal(Records(states[order], *columns))


def _starts(states: Words) -> NDArray[np.bool_]:
    """True where a sorted row differs from the one before."""
    differs = np.ones(len(states), np.bool_)
    differs[1:] = (states[1:] != states[:-1]).any(axis=1)
    return differs


def _sum_equal(sorted_: Records) -> Records:
    """Neighbours of equal state become one record."""
    if not len(sorted_.n):
        return sorted_
    begin = np.flatnonzero(_starts(sorted_.states))
    n, i, Q = (np.add.reduceat(column, begin) for column in (sorted_.n, sorted_.i, sorted_.Q))
    return Records(sorted_.states[begin], n, i, Q, np.minimum.reduceat(sorted_.first, begin))

"""The kernels: packing firing states at the speed of reading, and counting different ones in a hash table.

Every jitted function, intrinsic and constant of the library's kernels stands in this one file: Numba's cache watches only the file of
the function it compiled, so after an edit of a callee elsewhere it would return old numbers in silence.  `pack`, `nonfinite` and
`unit_counts` are twins of those in `reference.py`; `table.py` drives the rest.

Kernels take addresses, not arrays: a read-only array or another memory layout is another type to Numba, and would compile again; and
array arguments of inner functions cost reference counting, which took three quarters of the time of counting.

**Packing.**  Two layouts, told apart by strides, never by rank.  *Rows*, units side by side: one vector compare covers 64 units, and its
mask is the word.  *Planes*, positions side by side (channels first): the units of a tile of positions are ORed one by one into 16-bit
lanes, which the compiler vectorises and the first cache holds.  Half floats are read as int16, where 0 < x is `0 < bits <= bits(+inf)`:
NaN, -0.0 and negatives fall outside by themselves.

**Counting.**  An index of (32 hash bits | number of the state) by open addressing, at most half full, over dense entries in order of
first sight: a state is compared and updated in the same cache lines.  The slot is the top of the 32 hash bits, so the index grows in one
sweep, without looking at a state.  Rows go in blocks: hash all, fetch their slots and entries if the table has outgrown the second cache,
find their numbers, then update.  Counting a sample in a small table of its own first would spare the big one, but loses: in noise, new or
not is a coin toss for half of a sample's rows (LeNet: 6 ns a row for the small table alone, 3.6 for everything as it is).
"""

import functools
import math
from collections.abc import Callable
from typing import Any

import numba
import numba.extending
import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import overload
from numpy.typing import NDArray

from . import reference
from .reference import Counts, Words

nb: Any = numba  # whose types say nothing of carray, nor that an intrinsic is called without its first parameter
intrinsic: Any = numba.extending.intrinsic

WORD = 64  # units a word
TILE = 4096  # positions a tile of uint16: 8 KB
AHEAD = 8192  # bytes between what is read and what is asked for: with it, memory is read at 95 % of its speed instead of 65 %
FEW = 12  # positions: a run of fewer is slower than turning the array round
SHORT = 512  # runs of fewer positions are checked for NaN a sample at a time
GROUP = 2048  # rows packed before they are counted
BLOCK = 64  # rows whose hashes are made, and whose slots are fetched, before the first is looked up
NEAR = 1 << 16  # index slots that need no prefetch
FLUSH = 32  # values summed in float32 before the sum goes on in float64: 120 sparse ones were 4e-6 off
STRIP = 128 << 10  # bytes of the working sums of a strip of a grid; measured best between 64 and 256 KB
FLOATS = (np.dtype(np.float32), np.dtype(np.float64))
LANES, MANY = 16, 4  # values and samples of a tile, whose sums stay in registers
U = np.uint64
UNBORN = U(reference.UNBORN)
LOW, HIGH, ONE, HALF = U(0xFFFFFFFF), U(0xFFFFFFFF00000000), U(1), U(32)
HOW: dict[str, Any] = {"nogil": True, "error_model": "numpy"}
A, B, C = U(0xA0761D6478BD642F), U(0xE7037ED1A0B428DB), U(0x8EBC6AF09C88C6E3)


def _jit(function: Callable[..., Any]) -> Any:
    """Compile once and keep the result; where there is no place to keep it (read-only installs), compile in every process."""
    try:
        return nb.njit(cache=True, **HOW)(function)
    except RuntimeError as error:
        if "no locator available" not in str(error):
            raise
        return nb.njit(**HOW)(function)


# A part of the kernels: LLVM must copy it to where it is called, so that a constant argument makes a special version of it.
_part = nb.njit(forceinline=True, **HOW)


# -- what the machine can do and Numba cannot say ------------------------------------------------------------------------------


@intrinsic
def _pointer(typingctx, address, like):
    """The address as a pointer to values of the type of `like`."""

    def codegen(context, builder, sig, args):
        return builder.inttoptr(args[0], context.get_value_type(sig.return_type))

    return types.CPointer(like)(types.intp, like), codegen


@intrinsic
def _at(typingctx, pointer, offset):
    """The pointer, so many values further."""

    def codegen(context, builder, sig, args):
        return builder.gep(args[0], [args[1]])

    return pointer(pointer, types.intp), codegen


@intrinsic
def _fold(typingctx, a, b):
    """High half xor low half of the 128-bit product: one multiplication that mixes every bit into the top ones."""

    def codegen(context, builder, sig, args):
        wide, word = ir.IntType(128), ir.IntType(64)
        product = builder.mul(builder.zext(args[0], wide), builder.zext(args[1], wide))
        return builder.xor(builder.trunc(product, word), builder.trunc(builder.lshr(product, wide(64)), word))

    return types.uint64(types.uint64, types.uint64), codegen


@intrinsic
def _prefetch(typingctx, pointer, index):
    """Ask for the cache line of pointer[index]; never faults."""

    def codegen(context, builder, sig, args):
        _ask_for(builder, builder.gep(args[0], [args[1]]))
        return context.get_dummy_value()

    return types.void(pointer, types.intp), codegen


def _ask_for(builder, pointer):
    """Ask for the cache line of a pointer; never faults."""
    i32 = ir.IntType(32)
    here = builder.bitcast(pointer, ir.IntType(8).as_pointer())
    signature = ir.FunctionType(ir.VoidType(), [here.type, i32, i32, i32])
    fetch = cgutils.get_or_insert_function(builder.module, signature, "llvm.prefetch.p0")
    builder.call(fetch, [here, i32(0), i32(3), i32(1)])


def _load(context, builder, array_type, array, offset, count):
    """`count` neighbouring elements as one vector, and a function that repeats a scalar over its lanes."""
    data = context.make_array(array_type)(context, builder, array).data
    vector = ir.VectorType(context.get_data_type(array_type.dtype), count)
    loaded = builder.load(builder.bitcast(builder.gep(data, [offset]), vector.as_pointer()))
    loaded.align = array_type.dtype.bitwidth // 8

    def splat(value):
        one = builder.insert_element(ir.Constant(vector, ir.Undefined), value, ir.IntType(32)(0))
        return builder.shuffle_vector(one, one, ir.Constant(ir.VectorType(ir.IntType(32), count), None))

    return loaded, splat


def _mask(builder, test, count):
    mask = builder.bitcast(test, ir.IntType(count))
    return mask if count == 64 else builder.zext(mask, ir.IntType(64))


def _lanes(count):
    """An intrinsic: which of `count` neighbours lie in (low, high] (floats: above low), as bits.

    LLVM makes vpcmp + kmov of it (AVX-512), movmskps / vpmovmskb (AVX2), and + addv (NEON)."""

    @intrinsic
    def word(typingctx, flat, offset, low, high):
        def codegen(context, builder, sig, args):
            x, splat = _load(context, builder, sig.args[0], args[0], args[1], count)
            kind = sig.args[0].dtype
            if isinstance(kind, types.Float):
                return _mask(builder, builder.fcmp_ordered(">", x, splat(args[2])), count)
            compare = builder.icmp_signed if kind.signed else builder.icmp_unsigned
            return _mask(
                builder, builder.and_(compare(">", x, splat(args[2])), compare("<=", x, splat(args[3]))), count
            )

        return types.uint64(flat, types.intp, flat.dtype, flat.dtype), codegen

    return word


_word64, _word32, _word16 = _lanes(64), _lanes(32), _lanes(16)


@intrinsic
def _wild64(typingctx, flat, offset, high):
    """Which of 64 neighbours are NaN or infinite.  x - x is 0 or NaN; in half floats by their bits; integers never are."""

    def codegen(context, builder, sig, args):
        kind = sig.args[0].dtype
        if isinstance(kind, types.Float):
            x, _ = _load(context, builder, sig.args[0], args[0], args[1], 64)
            zero = builder.fsub(x, x)
            return _mask(builder, builder.fcmp_unordered("uno", zero, zero), 64)
        if kind != types.int16:
            return ir.IntType(64)(0)
        x, splat = _load(context, builder, sig.args[0], args[0], args[1], 64)
        magnitude = builder.and_(x, splat(ir.IntType(16)(0x7FFF)))
        return _mask(builder, builder.icmp_signed(">=", magnitude, splat(args[2])), 64)

    return types.uint64(flat, types.intp, flat.dtype), codegen


def _fires(v, low, high) -> Any:
    """One value against the interval."""


def _is_wild(v, high) -> Any:
    """One value: NaN or infinite."""


def _judged(high) -> Any:
    """Whether values of this type can be NaN or infinite: floats, and the int16 view of half floats (high is then bits(+inf))."""


@overload(_fires)
def _(v, low, high):
    return (lambda v, low, high: v > low) if isinstance(v, types.Float) else (lambda v, low, high: low < v <= high)


@overload(_is_wild)
def _(v, high):
    if isinstance(v, types.Float):
        return lambda v, high: not (v - v == 0)
    return (lambda v, high: (v & 0x7FFF) >= high) if v == types.int16 else (lambda v, high: False)


@overload(_judged)
def _(high):
    if isinstance(high, types.Float):
        return lambda high: True
    return (lambda high: high < 0x7FFF) if high == types.int16 else (lambda high: False)


def _size_of(low) -> Any:
    """Bytes of a value of this type."""


@overload(_size_of)
def _(low):
    size = low.bitwidth // 8
    return lambda low: size


# -- packing -------------------------------------------------------------------------------------------------------------------


@_part
def _ask(ahead, at, itemsize):
    """Ask for the cache lines of 64 values."""
    for k in range(0, WORD, WORD // itemsize):
        _prefetch(ahead, at + k)


@_part
def _all_finite(flat, ahead, begin, end, high):
    """No NaN and no infinity in flat[begin:end]; reads up to 63 values beyond where there are any."""
    wild, at = U(0), begin
    if not _judged(high):
        return True
    while at < end and at + WORD <= flat.size:
        _ask(ahead, at, flat.itemsize)
        wild |= _wild64(flat, at, high)
        at += WORD
    clean = wild == U(0)
    while at < end:
        clean &= not _is_wild(flat[at], high)
        at += 1
    return clean


@_jit
def _pack_rows(address, rows, units, low, high, out):
    """Units side by side: observation i is flat[i * units:(i + 1) * units].  True if all values are finite."""
    flat, ahead = nb.carray(_pointer(address, low), (rows * units,)), _pointer(address + AHEAD, low)
    full, tail = units // WORD, units % WORD
    keep, at = (ONE << U(tail)) - ONE, 0
    wild, clean, judged = U(0), True, _judged(high)
    roomy = flat.size - WORD  # up to here a row's tail may be read beyond its end, and masked
    for i in range(rows):
        for k in range(full):
            _ask(ahead, at, flat.itemsize)
            out[i, k] = _word64(flat, at, low, high)
            wild |= _wild64(flat, at, high)
            at += WORD
        if tail:
            if at > roomy:
                fires = U(0)
                for j in range(tail):
                    fires |= U(_fires(flat[at + j], low, high)) << U(j)
                    clean &= not _is_wild(flat[at + j], high)
            else:
                if tail <= 16:
                    fires = _word16(flat, at, low, high)
                elif tail <= 32:
                    fires = _word32(flat, at, low, high)
                else:
                    fires = _word64(flat, at, low, high)
                wild |= _wild64(flat, at, high)
            out[i, full] = fires & keep
            at += tail
    return not judged or (clean and wild == U(0))


@_jit
def _pack_planes(address, samples, units, positions, low, high, out):
    """Positions side by side: unit j of sample i is a run of `positions` values.  True if all are finite."""
    flat, ahead = nb.carray(_pointer(address, low), (samples * units * positions,)), _pointer(address + AHEAD, low)
    tile, none, clean = np.empty(TILE, np.uint16), np.uint16(0), True
    short = positions < SHORT
    for i in range(samples):
        if short:
            clean &= _all_finite(flat, ahead, i * units * positions, (i + 1) * units * positions, high)
        for q0 in range(0, positions, TILE):
            width = min(TILE, positions - q0)
            whole = -(-width // 64) * 64  # short runs: blocks of exactly 64 leave the compiler no scalar rest
            rows = out[i * positions + q0 : i * positions + q0 + width]
            for j0 in range(0, units, 16):
                tile[:whole] = none
                for j in range(j0, min(units, j0 + 16)):
                    at, bit = (i * units + j) * positions + q0, np.uint16(1 << (j - j0))
                    if not short:
                        clean &= _all_finite(flat, ahead, at, at + width, high)
                    if short and at + whole <= flat.size:
                        for b in range(0, whole, 64):
                            plane, part = flat[at + b : at + b + 64], tile[b : b + 64]
                            for q in range(64):
                                part[q] |= bit if _fires(plane[q], low, high) else none
                    else:
                        plane = flat[at : at + width]
                        for q in range(width):
                            tile[q] |= bit if _fires(plane[q], low, high) else none
                k, shift = j0 // WORD, U(j0 % WORD)
                if shift == U(0):
                    for q in range(width):
                        rows[q, k] = U(tile[q])
                else:
                    for q in range(width):
                        rows[q, k] |= U(tile[q]) << shift
    return clean


@_jit
def _count_nonfinite(address, size, high):
    """(NaN, infinite) among `size` values; `high` names the type, and is bits(+inf) for half floats."""
    flat = nb.carray(_pointer(address, high), (size,))
    nan, inf = 0, 0
    for v in flat:
        wild, infinite = _is_wild(v, high), _is_infinite(v, high)
        nan += wild and not infinite
        inf += infinite
    return nan, inf


def _is_infinite(v, high) -> Any:
    """One value: +inf or -inf."""


@overload(_is_infinite)
def _(v, high):
    if isinstance(v, types.Float):
        return lambda v, high: abs(v) == np.inf
    return (lambda v, high: (v & 0x7FFF) == high) if v == types.int16 else (lambda v, high: False)


@_jit
def _sum_bits(words, n, out):
    """out[64 j + b] += n[s] for every state s whose word j has bit b."""
    for s in range(words.shape[0]):
        for j in range(words.shape[1]):
            word, part = words[s, j], out[j * WORD : (j + 1) * WORD]
            for b in range(WORD):
                part[b] += n[s] * np.int64((word >> U(b)) & ONE)


def pack(x: NDArray[Any], unit_axis: int, threshold: float = 0.0, dtype: str | None = None) -> tuple[Words, bool]:
    """Which units fire, as packed states, and whether all values are finite: see `reference.pack`."""
    bounds = _bounds(x.dtype, threshold, dtype)
    if bounds is None:
        return reference.pack(x, unit_axis, threshold, dtype)
    geometry = _geometry(x.shape, x.strides, x.itemsize, unit_axis)
    if geometry is None or not x.flags.aligned:
        if math.prod(x.shape[unit_axis:][1:]) < FEW:
            x, unit_axis = np.moveaxis(x, unit_axis, -1), -1
        return pack(x.copy(), unit_axis, threshold, dtype)
    outer, units, inner, observations, words = geometry
    out = np.empty((observations, words), np.uint64)
    if inner:
        return out, _pack_planes(x.ctypes.data, outer, units, inner, *bounds, out)
    return out, _pack_rows(x.ctypes.data, outer, units, *bounds, out)


def walk_of(
    x: NDArray[Any], unit_axis: int, threshold: float, dtype: str | None, samples: int
) -> tuple[int, int, tuple[Any, Any], int, int, int] | None:
    """How `observe` walks samples along the first axis: (units, inner, bounds, versions and rows a sample, samples a group).

    None where `x` must be copied, or only the reference will do."""
    bounds = _bounds(x.dtype, threshold, dtype)
    geometry = _geometry(x.shape, x.strides, x.itemsize, unit_axis)
    if bounds is None or geometry is None or not x.flags.aligned or not x.size:
        return None
    outer, units, inner, observations, _ = geometry
    if unit_axis % x.ndim == 0 or observations % len(x) or (inner and outer != len(x)):
        return None
    m = observations // samples
    return units, inner, bounds, len(x) // samples, m, max(1, GROUP // m)


def nonfinite(x: NDArray[Any], dtype: str | None = None) -> tuple[int, int]:
    """How many values are NaN, and how many are infinite: see `reference.nonfinite`."""
    bounds = _bounds(x.dtype, 0.0, dtype)
    if bounds is None or (x.dtype.kind in "biu" and dtype != "bfloat16"):
        return reference.nonfinite(x, dtype)
    if not (x.flags.forc and x.flags.aligned):
        x = x.copy()
    return _count_nonfinite(x.ctypes.data, x.size, bounds[1])


def unit_counts(words: Words, n: Counts, units: int) -> Counts:
    """How often each unit fired, from a table of states: see `reference.unit_counts`."""
    if len(n) != len(words) or not 0 <= units <= words.shape[1] * WORD:
        return reference.unit_counts(words, n, units)  # which says what is wrong
    total = np.zeros(words.shape[1] * WORD, np.int64)
    _sum_bits(_owned(words, np.uint64), _owned(n, np.int64), total)
    return total[:units].copy()


def _owned(array: NDArray[Any], dtype: Any) -> NDArray[Any]:
    """The array contiguous and writeable: the only kind the kernels that take arrays are compiled for."""
    return np.require(array, dtype, ["C", "W"])


@functools.lru_cache(maxsize=256)
def _bounds(dtype: np.dtype[Any], threshold: float, name: str | None) -> tuple[Any, Any] | None:
    """(low, high]: between them a value fires, and their type is how it is read.  None where only the reference will do."""
    half = dtype.name == "bfloat16" or (name == "bfloat16" and dtype.name in ("int16", "uint16"))
    if not dtype.isnative or (name is not None and name != dtype.name and not half):
        return None
    if half:
        return None if threshold < 0 else (np.int16(min(reference.bfloat16_bits(threshold), 0x7FFF)), np.int16(0x7F80))
    if dtype == np.float16:
        with np.errstate(over="ignore"):
            return None if threshold < 0 else (np.float16(abs(threshold)).view(np.int16), np.int16(0x7C00))
    if dtype in (np.float32, np.float64):
        with np.errstate(over="ignore"):
            return dtype.type(threshold), dtype.type(np.inf)
    if dtype.kind not in "biu":
        return None
    dtype = np.dtype(np.uint8) if dtype.kind == "b" else dtype
    low, limits = reference.whole_threshold(threshold), np.iinfo(dtype)
    return (dtype.type(low), dtype.type(limits.max)) if limits.min <= low <= limits.max else None


@functools.lru_cache(maxsize=4096)
def _geometry(
    shape: tuple[int, ...], strides: tuple[int, ...], itemsize: int, unit_axis: int
) -> tuple[int, int, int, int, int] | None:
    """How to walk such an array: (outer, units, inner, observations, words).  None: not without a copy.

    `inner` 0: units side by side, `outer` rows of them.  Else: `outer` blocks, in each of them `units` runs of `inner` positions.
    """
    axis = reference.unit_axis_of(shape, unit_axis)
    units, others = shape[axis], [k for k in range(len(shape)) if k != axis]
    observations, words = math.prod(shape[k] for k in others), -(-units // WORD)
    if observations == 0 or units == 0:
        return observations, units, 0, observations, words
    # Observations in raster order: of the other axes, the first may lie outside the units in memory and the rest inside.  A single
    # unit may lie anywhere: as one long run it is fastest.
    for cut in range(1 if units == 1 else len(others) + 1):
        outer, inner = (math.prod(shape[k] for k in part) for part in (others[:cut], others[cut:]))
        rows = inner == 1 and units > 1
        if (rows or inner >= FEW or units == 1) and _contiguous(
            shape, strides, itemsize, [*others[:cut], axis, *others[cut:]]
        ):
            return observations if rows else outer, units, 0 if rows else inner, observations, words
    return None


def _contiguous(shape: tuple[int, ...], strides: tuple[int, ...], itemsize: int, order: Any) -> bool:
    """Whether memory holds the axes in this order, the last one fastest.  Axes of length 1 may have any stride."""
    step = itemsize
    for axis in reversed(order):
        if shape[axis] != 1 and strides[axis] != step:
            return False
        step *= shape[axis]
    return True


# -- counting ------------------------------------------------------------------------------------------------------------------
#
# An entry is `width` words: w of state, then n, i, Q, first, and a mark: epoch << 32 | rows of the running sample in this state.  The
# epoch numbers samples through the life of the table, so a mark of another sample counts as 0 and nothing is ever cleared.


@_part
def hash_of(state, w, seed):
    """The hash of w words, in its upper 32 bits.

    Both factors of every product hold the seed: a word equal to a constant cannot wipe out its neighbour under every seed."""
    if w == 1:
        return _fold(state[0] ^ seed, A) & HIGH
    if w == 2:
        return _fold(_fold(state[0] ^ seed, A) ^ state[1], B ^ seed) & HIGH
    j, left, right = 0, seed, seed ^ B
    while j + 3 < w:
        left = _fold(state[j] ^ A ^ right, state[j + 1] ^ left)
        right = _fold(state[j + 2] ^ C ^ seed, state[j + 3] ^ right)
        j += 4
    while j < w:
        left = _fold(state[j] ^ left, C ^ right)
        j += 1
    return _fold(left ^ B, right ^ seed) & HIGH


@_part
def shift_of(slots):
    """How far right to move a hash so that its top bits number one of `slots` (a power of two)."""
    shift = U(64)
    while slots > 1:
        slots >>= 1
        shift -= ONE
    return shift


@_part
def _same(a, b, w):
    """Whether w words are equal."""
    j = 0
    while j < w and a[j] == b[j]:
        j += 1
    return j == w


@_part
def _fetch(tag, count, index, shift, entries, width):
    """Bring the slots of `count` hashes, then the entries they name, into the cache."""
    for k in range(count):
        _prefetch(index, np.int64(tag[k] >> shift))
    for k in range(count):
        e = index[np.int64(tag[k] >> shift)]
        if e != U(0) and e & HIGH == tag[k]:
            here = (np.int64(e & LOW) - 1) * width
            _prefetch(entries, here)
            _prefetch(entries, here + width - 1)


@_part
def _number(state, stride, count, w, tag, index, slots, shift, entries, width, used, seed):
    """Replaces tag[:count] by the numbers of `count` states, `stride` words apart; new ones get the next numbers and an empty entry.

    Returns (states done, states in the table, longest probe); stops early when half of the slots are taken."""
    mask, room, longest = slots - 1, slots // 2, 0
    for k in range(count):
        tag[k] = hash_of(_at(state, k * stride), w, seed)
    if slots > NEAR:
        _fetch(tag, count, index, shift, entries, width)
    for k in range(count):
        mine, h, steps = _at(state, k * stride), tag[k], 0
        s = np.int64(h >> shift)
        while True:
            e = index[s]
            if e & HIGH == h and e != U(0) and _same(mine, _at(entries, (np.int64(e & LOW) - 1) * width), w):
                tag[k] = (e & LOW) - ONE
                break
            if e == U(0):
                if used == room:
                    return k, used, longest
                entry = _at(entries, used * width)
                for j in range(w):
                    entry[j] = mine[j]
                for j in range(w, w + 5):
                    entry[j] = U(0)
                entry[w + 3] = UNBORN
                tag[k] = U(used)
                used += 1
                index[s] = h | U(used)
                break
            s, steps = (s + 1) & mask, steps + 1
            longest = max(longest, steps)
    return count, used, longest


@_part
def _warm(words, count):
    """Reads memory from end to end.  A forward pass drives the table out of the caches; one sweep over a small table costs a tenth of
    meeting every line anew.  The result must be used, or the compiler drops the loop."""
    seen = U(0)
    for k in range(count):
        seen |= words[k]
    return seen


@_jit
def _count(rows_at, w, offsets_at, ids_at, samples, row, sample, epoch, index_at, slots, entries_at, width, used, seed):
    """Count the rows from number `row` on, which is in `sample` or later.

    Returns (the next row, its sample, states, longest probe); stops early when half of the slots are taken."""
    rows, index, entries = _pointer(rows_at, ONE), _pointer(index_at, ONE), _pointer(entries_at, ONE)
    offsets, ids = _pointer(offsets_at, np.int64(0)), _pointer(ids_at, np.int64(0))
    n, shift, longest = offsets[samples], shift_of(slots), 0
    numbers = np.empty(BLOCK, np.uint64)
    tag = _pointer(numbers.ctypes.data, ONE)
    while row < n:
        count, here = min(BLOCK, n - row), _at(rows, row * w)
        if w == 1:  # a version of its own, with no loop over words
            done, used, steps = _number(here, 1, count, 1, tag, index, slots, shift, entries, width, used, seed)
        elif w == 2:  # such as one word and a stratum
            done, used, steps = _number(here, 2, count, 2, tag, index, slots, shift, entries, width, used, seed)
        else:
            done, used, steps = _number(here, w, count, w, tag, index, slots, shift, entries, width, used, seed)
        longest = max(longest, steps)
        k = 0
        while k < done:
            while row + k >= offsets[sample + 1]:
                sample += 1
            stop, stamp, name = min(done, offsets[sample + 1] - row), U(epoch + sample) << HALF, ids[sample]
            while k < stop:
                entry = _at(entries, np.int64(numbers[k]) * width + w)
                # Without a branch: whether the sample has been here is a coin toss in noise.  c^2 - (c - 1)^2 = 2 c - 1.
                again = U(entry[4] & HIGH == stamp)
                c = (entry[4] & LOW) * again + ONE
                entry[0] += ONE
                entry[1] += ONE - again
                entry[2] += c + c - ONE
                entry[3] = U(min(np.int64(entry[3]), name))
                entry[4] = stamp | c
                k += 1
        row += done
        if done < count:
            break
    return row, sample, used, longest


@_part
def _warm_table(index_at, slots, entries_at, width, used, rows):
    """Fetch the table, where that is cheaper than `rows` misses.  Gives something that must be returned, or nothing is read."""
    if slots <= min(NEAR, 4 * rows):
        return _warm(_pointer(index_at, ONE), slots) | _warm(_pointer(entries_at, ONE), used * width)
    return U(0)


@_jit
def count_into(
    rows_at, w, offsets_at, ids_at, samples, row, sample, epoch, index_at, slots, entries_at, width, used, seed
):
    """Count packed rows of whole samples from number `row` on: see `_count`.  Last of its results: nothing of use."""
    n, seen = _pointer(offsets_at, np.int64(0))[samples], U(0)
    if row == 0:
        seen = _warm_table(index_at, slots, entries_at, width, used, n)
    row, sample, used, longest = _count(
        rows_at, w, offsets_at, ids_at, samples, row, sample, epoch, index_at, slots, entries_at, width, used, seed
    )
    return row, sample, used, longest, seen


@_jit
def observe(
    address, units, inner, low, high, versions, scratch, group, m, first, row, wanted, kept, w, offsets, ids, strata, epoch, index,
    entries, used, seed
):  # fmt: skip
    """Pack activations and count their states, `group` samples of `m` rows at a time, so that packed rows never leave the cache.

    A sample is `versions` neighbours along the first axis.  Where there are `strata`, one a version, the last of the w words of a row is its
    stratum: packing leaves room for it.
    Begins with the group at sample `first`, of which `row` rows are counted already.  Rows of the `wanted` samples are copied to `kept`.
    Arrays here, as asking eight of them for their address takes longer in Python than counting a small batch.
    Returns (the group, the row in it, states, longest probe, whether all values are finite, nothing of use); stops early like `_count`."""
    samples, slots, width = ids.size, index.size, entries.shape[1]
    scratch_at, index_at, entries_at = scratch.ctypes.data, index.ctypes.data, entries.ctypes.data
    offsets_at, ids_at = offsets.ctypes.data, ids.ctypes.data
    step, clean, longest, k, seen = m * units * _size_of(low), True, 0, 0, U(0)
    if first == 0 and row == 0:
        seen = _warm_table(index_at, slots, entries_at, width, used, samples * m)
    while first < samples:
        size = min(group, samples - first)
        out = scratch[: size * m * w].reshape(size * m, w)
        if inner:
            clean &= _pack_planes(address + first * step, size * versions, units, inner, low, high, out)
        else:
            clean &= _pack_rows(address + first * step, size * m, units, low, high, out)
        if strata.size:
            each = m // versions
            for v in range(size * versions):
                stratum = U(strata[first * versions + v])
                for r in range(v * each, (v + 1) * each):
                    out[r, w - 1] = stratum
        while k < wanted.size and wanted[k] < first + size:
            if wanted[k] >= first:
                kept[k * m : (k + 1) * m] = out[(wanted[k] - first) * m : (wanted[k] - first + 1) * m]
            k += 1
        row, _, used, steps = _count(
            scratch_at, w, offsets_at, ids_at + 8 * first, size, row, row // m, epoch + first,
            index_at, slots, entries_at, width, used, seed,
        )  # fmt: skip
        longest = max(longest, steps)
        if row < size * m:
            break
        first, row = first + size, 0
    return first, row, used, longest, clean, seen


@_jit
def merge_into(source_at, source_width, start, stop, w, index_at, slots, entries_at, width, used, seed):
    """Add the entries start..stop of another table.  Returns (the next one, states, longest probe); stops early like `count_into`."""
    source, index, entries = _pointer(source_at, ONE), _pointer(index_at, ONE), _pointer(entries_at, ONE)
    shift, longest = shift_of(slots), 0
    numbers = np.empty(BLOCK, np.uint64)
    tag = _pointer(numbers.ctypes.data, ONE)
    while start < stop:
        count, here = min(BLOCK, stop - start), _at(source, start * source_width)
        done, used, steps = _number(here, source_width, count, w, tag, index, slots, shift, entries, width, used, seed)
        longest = max(longest, steps)
        for k in range(done):
            entry, other = _at(entries, np.int64(numbers[k]) * width + w), _at(here, k * source_width + w)
            for j in range(3):
                entry[j] += other[j]
            entry[3] = U(min(np.int64(entry[3]), np.int64(other[3])))
        start += done
        if done < count:
            break
    return start, used, longest


@_jit
def regrow(old_at, old_slots, index_at, slots):
    """Move an index to an empty larger one.  Both are in the order of the hash, so this is one sweep over each."""
    old, index = _pointer(old_at, ONE), _pointer(index_at, ONE)
    shift, mask = shift_of(slots), slots - 1
    for k in range(old_slots):
        e = old[k]
        if e != U(0):
            s = np.int64(e >> shift)
            while index[s] != U(0):
                s = (s + 1) & mask
            index[s] = e


@_jit
def reindex(entries_at, stride, used, w, index_at, slots, seed):
    """Enter all states into an empty index under another seed."""
    entries, index = _pointer(entries_at, ONE), _pointer(index_at, ONE)
    shift, mask = shift_of(slots), slots - 1
    for i in range(used):
        h = hash_of(_at(entries, i * stride), w, seed)
        s = np.int64(h >> shift)
        while index[s] != U(0):
            s = (s + 1) & mask
        index[s] = h | U(i + 1)


@_jit
def ascend(offsets_at, samples):
    """Whether no offset is smaller than the one before."""
    offsets, least = _pointer(offsets_at, np.int64(0)), 0
    for g in range(samples):
        least = min(least, offsets[g + 1] - offsets[g])
    return least == 0


# -- variances over a grid of samples and transformations --------------------------------------------------------------------------
#
# A block is cut into strips of values so narrow that a strip's working sums stay in the second cache; every strip is read once, in tiles
# of 16 values by 4 samples whose sums stay in registers.  Rows are two-pass about their first value (exact where mean >> deviation); columns
# are taken about the running mean, rounded to the type of the values, and joined by Chan's rule in float64.  While fewer rows went before
# than the block holds, the running mean may be an outlier (of sparse data, 3.5e-6), so the block's own mean is taken.  In the loops of
# Numba, more than four arrays, or `a[lo + d]`, would stop vectorisation.

FASTER: dict[str, Any] = {**HOW, "fastmath": {"contract"}}  # fused multiply and add: rounds once less


def _jit_sums(function: Callable[..., Any]) -> Any:
    """`_jit`, with multiply and add fused."""
    try:
        return nb.njit(cache=True, **FASTER)(function)
    except RuntimeError as error:
        if "no locator available" not in str(error):
            raise
        return nb.njit(**FASTER)(function)


def _tile(lanes: int, many: int) -> Any:
    """An intrinsic: the rows of `many` samples at `lanes` neighbouring values, added to the working sums of the columns and of the rows.

    Row k of sample i is at x + (i T + k) D.  `c1`, `c2` (T, step) are sums about `pivot` (T, step); variances and deviations of the rows
    are added to `var` and `std` in float64.  Squares are summed in the type of the values for at most FLUSH transformations at a time.
    What lies `ahead` values further is asked for meanwhile, the next samples or strip: they are a stride away that the processor does not
    guess, and reading LeNet's activations after a forward took twice as long without."""

    @intrinsic
    def add_rows(typingctx, x, D, T, ahead, pivot, c1, c2, step, over_T, over_T1, var, std):
        def codegen(context, builder, sig, args):
            x, D, T, ahead, pivot, c1, c2, step, over_T, over_T1, var, std = args
            size, index = sig.args[8].bitwidth // 8, D.type
            few, wide = ir.VectorType(context.get_value_type(sig.args[8]), lanes), ir.VectorType(ir.DoubleType(), lanes)

            def load(pointer, at=None, of=few, align=size):
                pointer = pointer if at is None else builder.gep(pointer, [at])
                loaded = builder.load(builder.bitcast(pointer, of.as_pointer()))
                loaded.align = align
                return loaded

            def store(value, pointer, at=None, align=size):
                pointer = pointer if at is None else builder.gep(pointer, [at])
                builder.store(value, builder.bitcast(pointer, value.type.as_pointer())).align = align

            def call(name, *values):
                kind = ir.FunctionType(few, [few] * len(values))
                named = f"llvm.{name}.v{lanes}f{8 * size}"
                return builder.call(cgutils.get_or_insert_function(builder.module, kind, named), values)

            def splat(value):
                first = builder.insert_element(ir.Constant(few, ir.Undefined), value, ir.IntType(32)(0))
                return builder.shuffle_vector(first, first, ir.Constant(ir.VectorType(ir.IntType(32), lanes), None))

            def cleared(place, kind):
                builder.store(ir.Constant(kind, None), place)
                return place

            def variable(kind):
                return cleared(cgutils.alloca_once(builder, kind), kind)

            def add(place, value):
                builder.store(builder.fadd(builder.load(place), value), place)

            widened = (lambda v: builder.fpext(v, wide)) if size == 4 else (lambda v: v)
            narrowed = (lambda v: builder.fptrunc(v, few)) if size == 4 else (lambda v: v)
            sample = builder.mul(T, D)
            rows = [x]
            while len(rows) < many:
                rows.append(builder.gep(rows[-1], [sample]))

            firsts, totals = [load(row) for row in rows], [variable(few) for _ in rows]
            with cgutils.for_range(builder, T, start=index(1)) as loop:
                at = builder.mul(loop.index, D)
                for row, first, total in zip(rows, firsts, totals, strict=True):
                    add(total, builder.fsub(load(row, at), first))
                    _ask_for(builder, builder.gep(row, [builder.add(at, ahead)]))
            means = [builder.fmul(builder.load(total), splat(over_T)) for total in totals]

            sums, parts = [variable(wide) for _ in rows], [variable(few) for _ in rows]
            flushes = builder.sdiv(builder.add(T, index(FLUSH - 1)), index(FLUSH))
            with cgutils.for_range(builder, flushes) as outer:
                begin = builder.mul(outer.index, index(FLUSH))
                end = builder.add(begin, index(FLUSH))
                end = builder.select(builder.icmp_signed("<", end, T), end, T)
                for part in parts:
                    cleared(part, few)
                with cgutils.for_range(builder, end, start=begin) as loop:
                    at, column = builder.mul(loop.index, D), builder.mul(loop.index, step)
                    about, a, b = load(pivot, column), load(c1, column), load(c2, column)
                    for row, first, mean, part in zip(rows, firsts, means, parts, strict=True):
                        value = load(row, at)
                        e = builder.fsub(builder.fsub(value, first), mean)
                        builder.store(call("fma", e, e, builder.load(part)), part)
                        e = builder.fsub(value, about)
                        a, b = builder.fadd(a, e), call("fma", e, e, b)
                    store(a, c1, column)
                    store(b, c2, column)
                for total, part in zip(sums, parts, strict=True):
                    add(total, widened(builder.load(part)))

            variances, deviations = load(var, of=wide, align=8), load(std, of=wide, align=8)
            for total in sums:
                variance = builder.fmul(narrowed(builder.load(total)), splat(over_T1))
                variances = builder.fadd(variances, widened(variance))
                deviations = builder.fadd(deviations, widened(call("sqrt", variance)))
            store(variances, var, align=8)
            store(deviations, std, align=8)
            return context.get_dummy_value()

        given = x, types.intp, types.intp, types.intp, pivot, c1, c2, types.intp, over_T, over_T1, var, std
        return types.void(*given), codegen

    return add_rows


_tile_of_many, _tile_of_one, _tile_of_rest = _tile(LANES, MANY), _tile(LANES, 1), _tile(1, 1)


@_jit_sums
def _grid_into(address, like, r, T, D, seen, mean, m2, rows_var, rows_std):
    """See `reference.grid_into`; `like` is of the type of the values at `address`."""
    x = nb.carray(_pointer(address, like), (r * T, D))
    kind, itemsize = x.dtype.type, x.itemsize
    strip = max(WORD, (STRIP // (itemsize * 3 * T)) // WORD * WORD)
    room = np.empty(3 * T * strip * itemsize + 64, np.uint8)
    first = (room.ctypes.data + 63) // 64 * 64  # values of a tile share a cache line
    second, third = first + T * strip * itemsize, first + 2 * T * strip * itemsize
    pivot = nb.carray(_pointer(first, like), (T, strip))
    c1, c2 = nb.carray(_pointer(second, like), (T, strip)), nb.carray(_pointer(third, like), (T, strip))
    over_T, over_T1, zero = kind(1 / T), kind(1 / max(1, T - 1)), kind(0)
    over_r, keep, cross, each = 1 / r, r / (seen + r), seen * r / (seen + r), 1 if m2.shape[0] == T else 0
    px, pp = _pointer(address, like), _pointer(first, like)
    pa, pb = _pointer(second, like), _pointer(third, like)
    pv, ps = _pointer(rows_var.ctypes.data, 0.0), _pointer(rows_std.ctypes.data, 0.0)
    for lo in range(0, D, strip):
        w = min(strip, D - lo)
        for t in range(T):
            p, m, a, b = pivot[t], mean[t, lo : lo + w], c1[t], c2[t]
            for d in range(w):
                p[d] = m[d]
            for d in range(w):
                a[d] = zero
                b[d] = zero
        if seen < r:
            for t in range(T):
                p, base = pivot[t], x[t, lo : lo + w]
                for d in range(w):
                    p[d] = zero
                for i in range(1, r):
                    row = x[i * T + t, lo : lo + w]
                    for d in range(w):
                        p[d] += row[d] - base[d]
                for d in range(w):
                    p[d] = base[d] + p[d] / kind(r)
        i, tiled = 0, w // LANES * LANES
        while i < r:
            n, at = MANY if r - i >= MANY else 1, i * T * D + lo
            ahead = n * T * D if i + n < r else strip - i * T * D
            if n == MANY:
                for d in range(0, tiled, LANES):
                    _tile_of_many(
                        _at(px, at + d), D, T, ahead, _at(pp, d), _at(pa, d), _at(pb, d), strip, over_T, over_T1,
                        _at(pv, lo + d), _at(ps, lo + d),
                    )  # fmt: skip
            else:
                for d in range(0, tiled, LANES):
                    _tile_of_one(
                        _at(px, at + d), D, T, ahead, _at(pp, d), _at(pa, d), _at(pb, d), strip, over_T, over_T1,
                        _at(pv, lo + d), _at(ps, lo + d),
                    )  # fmt: skip
            for k in range(n):
                for d in range(tiled, w):
                    _tile_of_rest(
                        _at(px, at + k * T * D + d), D, T, ahead, _at(pp, d), _at(pa, d), _at(pb, d), strip, over_T, over_T1,
                        _at(pv, lo + d), _at(ps, lo + d),
                    )  # fmt: skip
            i += n
        for t in range(T):
            m, q, p, a, b = mean[t, lo : lo + w], m2[t * each, lo : lo + w], pivot[t], c1[t], c2[t]
            for d in range(w):
                shift = a[d] * over_r  # the block's mean, less the pivot
                delta = (np.float64(p[d]) - m[d]) + shift
                q[d] += b[d] - np.float64(a[d]) * shift + delta * delta * cross
            for d in range(w):
                m[d] += ((np.float64(p[d]) - m[d]) + a[d] * over_r) * keep


@_jit_sums
def _groups_into(address, like, r, T, D, picked, group, count, mean, m2, rows_var, rows_std):
    """See `reference.groups_into`: running means (Welford 1962), as a group gets a sample at a time.

    Rows are summed about their first value, which float64 bears: of float32 the differences are exact, and squares lose a factor of T."""
    K, S = picked.size, rows_var.shape[1]
    few, work = np.empty(T * K), np.empty(2 * S * K)
    x, here, double = _pointer(address, like), _pointer(picked.ctypes.data, np.int64(0)), 8 * K
    row_at, sums_at = few.ctypes.data, work.ctypes.data  # pointers: slices of arrays this small cost more than the sums
    squares_at, mean_at, m2_at = sums_at + S * double, mean.ctypes.data, m2.ctypes.data
    var_at, std_at = rows_var.ctypes.data, rows_std.ctypes.data
    base = _pointer(row_at, 0.0)
    for i in range(r):
        g = group[i]
        count[g] += 1
        share = 1 / count[g]
        m, q = _pointer(mean_at + g * T * double, 0.0), _pointer(m2_at + g * T * double, 0.0)
        for t in range(T):
            row, out = _at(x, (i * T + t) * D), _pointer(row_at + t * double, 0.0)
            for k in range(K):
                out[k] = row[here[k]]
        for k in range(T * K):
            v = base[k]
            e = v - m[k]
            m[k] += e * share
            q[k] += e * (v - m[k])
        work[:] = 0
        for t in range(1, T):
            s = 0  # the last choice that t is in
            while s < S - 1 and t & (1 << s) == 0:
                s += 1
            row = _pointer(row_at + t * double, 0.0)
            one, two = _pointer(sums_at + s * double, 0.0), _pointer(squares_at + s * double, 0.0)
            for k in range(K):
                e = row[k] - base[k]
                one[k] += e
                two[k] += e * e
        for s in range(S - 1, -1, -1):
            n, here_at = (T + (1 << s) - 1) >> s, (g * S + s) * double
            one, two = _pointer(sums_at + s * double, 0.0), _pointer(squares_at + s * double, 0.0)
            var, std = _pointer(var_at + here_at, 0.0), _pointer(std_at + here_at, 0.0)
            over_n, over_n1 = 1 / n, 1 / max(1, n - 1)
            for k in range(K):
                v = (two[k] - one[k] * one[k] * over_n) * over_n1
                v = v if v > 0 or v != v else 0.0
                var[k] += v
                std[k] += math.sqrt(v)
            if s:
                below, beneath = _pointer(sums_at + (s - 1) * double, 0.0), _pointer(squares_at + (s - 1) * double, 0.0)
                for k in range(K):
                    below[k] += one[k]
                    beneath[k] += two[k]


def grid_into(
    x: NDArray[Any], transformations: int, seen: int, mean: Any, m2: Any, rows_var: Any, rows_std: Any
) -> None:
    """Add a block of complete rows to the sums of a grid: see `reference.grid_into`."""
    if x.dtype not in FLOATS:
        x = x.astype(np.float32)
    if not (x.flags.c_contiguous and x.flags.aligned):
        x = x.copy()
    T, D, like, address = transformations, x.shape[1], x.dtype.type(0), x.ctypes.data
    for at in range(0, len(x) // T, FLUSH):
        r = min(FLUSH, len(x) // T - at)
        _grid_into(address + at * T * D * x.itemsize, like, r, T, D, seen + at, mean, m2, rows_var, rows_std)


def groups_into(
    x: NDArray[Any],
    transformations: int,
    picked: Counts,
    group: Counts,
    count: Counts,
    mean: Any,
    m2: Any,
    rows_var: Any,
    rows_std: Any,
) -> None:
    """The same sums for a few values, group by group of samples: see `reference.groups_into`."""
    if x.dtype not in FLOATS:
        x = x.astype(np.float32)
    if not (x.flags.c_contiguous and x.flags.aligned):
        x = x.copy()
    r, T, D = len(x) // transformations, transformations, x.shape[1]
    _groups_into(x.ctypes.data, x.dtype.type(0), r, T, D, picked, group, count, mean, m2, rows_var, rows_std)

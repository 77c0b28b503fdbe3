"""Laws of packed states: pack then unpack, one layout as good as another, and counting that no split or order can change."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from layerscope import kernels
from layerscope.kernels import Records, Table, reference

EXAMPLES = settings(max_examples=60, deadline=None)  # a first call compiles
WIDTHS = st.one_of(st.integers(1, 140), st.sampled_from([512, 1023, 4097, 32_768, 70_000]))


def check_pack_then_unpack(pack, x, axis, threshold):
    """The bits of the words are the comparison, in raster order, and the padding is zero."""
    words, _ = pack(x, axis, threshold)
    units = x.shape[axis]
    fired = np.moveaxis(x > x.dtype.type(threshold), axis, -1).reshape(-1, units)
    unpacked = np.unpackbits(words.view(np.uint8), axis=1, bitorder="little")
    assert words.dtype == np.uint64
    assert words.shape == (len(fired), -(-units // 64))
    np.testing.assert_array_equal(unpacked[:, :units], fired)
    assert not unpacked[:, units:].any()
    bytes_ = np.packbits(fired, axis=1, bitorder="little")
    np.testing.assert_array_equal(words.view(np.uint8)[:, : -(-units // 8)], bytes_)


@st.composite
def activations(draw):
    """Values of any layout, type and stride, few of them where they are wide; and the axis of the units."""
    units = draw(WIDTHS)
    rest = (
        draw(st.lists(st.integers(0 if units < 200 else 1, 9), max_size=3))
        if units < 5000
        else [draw(st.integers(1, 3))]
    )
    axis = draw(st.integers(0, len(rest)))
    shape = (*rest[:axis], units, *rest[axis:])
    steps = [draw(st.sampled_from([1, 1, 1, 2, -1])) for _ in shape]
    order = draw(st.permutations(range(len(shape))))  # in memory
    seed = draw(st.integers(0, 2**32 - 1))
    kind = draw(st.sampled_from(["f2", "f4", "f8", "i1", "i2", "i8", "u4", "?"]))
    base = np.random.default_rng(seed).normal(0, 2, [abs(steps[k]) * shape[k] for k in order])
    x = np.abs(base).astype(kind) if kind[0] == "u" else base.astype(kind)
    if kind[0] == "f" and x.size:
        x.flat[:: draw(st.integers(3, 50))] = draw(st.sampled_from([np.nan, np.inf, -np.inf, 0.0, -0.0]))
    x = x.transpose(np.argsort(order))[tuple(slice(None, None, step) for step in steps)]
    x.flags.writeable = draw(st.booleans())
    assert x.shape == shape
    return x, draw(st.sampled_from([axis, axis - len(shape)]))


@given(activations(), st.sampled_from([0.0, 1.0, 0.5]))
@EXAMPLES
def test_pack_then_unpack(activation, threshold):
    x, axis = activation
    threshold = float(int(threshold)) if x.dtype.kind != "f" else threshold
    check_pack_then_unpack(kernels.pack, x, axis, threshold)
    check_pack_then_unpack(reference.pack, x, axis, threshold)


def wrong_at_zero(x, axis, threshold):
    return reference.pack(x >= threshold, axis)


def wrong_bit_order(x, axis, threshold):
    words, finite = reference.pack(x, axis, threshold)
    return np.packbits(np.unpackbits(words.view(np.uint8), axis=1, bitorder="little"), axis=1).view(np.uint64), finite


def wrong_for_strides(x, axis, threshold):  # reads memory as if it were contiguous
    return reference.pack(
        np.lib.stride_tricks.as_strided(x, x.shape, np.empty(x.shape, x.dtype).strides), axis, threshold
    )


def wrong_padding(x, axis, threshold):
    words, finite = reference.pack(x, axis, threshold)
    return words | np.uint64(1 << 63), finite


@pytest.mark.parametrize("wrong", [wrong_at_zero, wrong_bit_order, wrong_for_strides, wrong_padding])
def test_wrong_packings_are_rejected(wrong):
    x = np.random.default_rng(0).standard_normal((6, 40), dtype=np.float32)
    x[0, 0] = 0.0
    with pytest.raises(AssertionError):
        check_pack_then_unpack(wrong, x[:, ::2], 1, 0.0)


def check_counts(make, rows, offsets, ids, cuts):
    """A table made of any pieces, merged in any order, holds the records of the whole."""
    pieces = []
    for begin, end in itertools.pairwise([0, *sorted(cuts), len(ids)]):
        where = slice(offsets[begin], offsets[end])
        pieces.append((rows[where], offsets[begin : end + 1] - offsets[begin], ids[begin:end]))
    expected = reference.count(rows, offsets, ids)
    for name, left, right in zip(Records._fields, make(pieces), expected, strict=True):
        np.testing.assert_array_equal(left, right, err_msg=name)
    assert expected.n.sum() == len(rows)


@st.composite
def samples(draw):
    """Rows from few to all different, in ragged samples, and where to cut the stream."""
    words, count, different = (
        draw(st.integers(1, 5)),
        draw(st.integers(0, 60)),
        draw(st.sampled_from([1, 3, 40, 2**64 - 1])),
    )
    sizes = np.array(draw(st.lists(st.integers(0, 90), min_size=count, max_size=count)), np.int64)
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    offsets = np.r_[0, np.cumsum(sizes)]
    rows = rng.integers(0, different, (offsets[-1], words), np.uint64, endpoint=True) << np.uint64(
        draw(st.sampled_from([0, 40]))
    )
    ids = rng.integers(-(2**63), 2**63 - 1, count, np.int64)
    return (
        rows,
        offsets,
        ids,
        draw(st.lists(st.integers(0, count), max_size=4)),
        draw(st.randoms(use_true_random=False)),
    )


@given(samples())
@EXAMPLES
def test_any_split_into_adds_and_any_order_of_merges(sample):
    rows, offsets, ids, cuts, random = sample

    def streamed(pieces):
        table = Table(rows.shape[1])
        for piece in pieces:
            table.add(*piece)
        assert table.rows == len(rows)
        return table.records()

    def merged(pieces):
        tables = []
        for piece in pieces:
            tables.append(Table(rows.shape[1]))
            tables[-1].add(*piece)
        while len(tables) > 1:
            random.shuffle(tables)
            right = tables.pop()
            before = right.records()
            tables[-1].merge(right)
            for kept, old in zip(right.records(), before, strict=True):
                np.testing.assert_array_equal(kept, old)
        assert tables[0].rows == len(rows)
        return Table.of(tables[0].records()).copy().records()

    def by_reference(pieces):
        total = Records.empty(rows.shape[1])
        for piece in random.sample(pieces, len(pieces)):
            total = reference.merge(reference.count(*piece), total)
        return total

    for make in (streamed, merged, by_reference):
        check_counts(make, rows, offsets, ids, cuts)


def counts_batches(pieces):  # the original's later fault: counts are "batches seen in"
    return sum_up(
        [reference.count(rows, np.array([0, len(rows)]), ids[:1])._replace() for rows, _, ids in pieces], keep_n=False
    )


def forgets_the_last(pieces):
    return sum_up([reference.count(*piece) for piece in pieces[:-1]])


def last_sample_instead_of_first(pieces):
    whole = sum_up([reference.count(*piece) for piece in pieces])
    return whole._replace(first=whole.first + 1)


def sum_up(records, keep_n=True):
    total = Records.empty(1)
    for one in records:
        total = reference.merge(total, one if keep_n else one._replace(n=np.ones_like(one.n)))
    return total


@pytest.mark.parametrize("wrong", [counts_batches, forgets_the_last, last_sample_instead_of_first])
def test_wrong_tables_are_rejected(wrong):
    rows = np.random.default_rng(0).integers(0, 5, (60, 1)).astype(np.uint64)
    with pytest.raises(AssertionError):
        check_counts(wrong, rows, np.arange(0, 61, 3), np.arange(20), [7, 12])


@given(st.permutations(range(70)), st.integers(0, 2**32 - 1))
@settings(max_examples=20, deadline=None)
def test_permuting_units_leaves_the_counts(order, seed):
    x = np.random.default_rng(seed).standard_normal((300, 70))[
        :, [0, 1, 2] * 20 + list(range(10))
    ]  # states of few bits repeat
    tables = []
    for values in (x, x[:, order]):
        table = Table(2)
        table.add(kernels.pack(values, 1)[0], np.arange(0, 301, 3), np.arange(100))
        tables.append(table.records())
    for column in range(1, 5):
        np.testing.assert_array_equal(np.sort(tables[0][column]), np.sort(tables[1][column]))

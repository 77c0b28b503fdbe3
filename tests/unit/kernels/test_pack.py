"""Packing: what fires, in which bit, for every type, layout and width; and the faults that the incumbents have."""

import numpy as np
import pytest

from layerscope import kernels
from layerscope._errors import DtypeError, ShapeError
from layerscope.kernels import reference

REAL = ["?", "i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", "f2", "f4", "f8"]
RNG = np.random.default_rng(0)


def bits(words, units):
    """Unpacked with nothing but shifts: bool (rows, units)."""
    return np.stack([(words[:, k // 64] >> np.uint64(k % 64)) & np.uint64(1) == 1 for k in range(units)], axis=1)


def bfloat16(values):
    """The int16 view of float32 values that bfloat16 holds exactly or that may be truncated to it."""
    return (np.ascontiguousarray(values, np.float32).view(np.uint32) >> 16).astype(np.uint16).view(np.int16)


def test_five_units_all_but_the_first_firing_are_thirty():
    words, finite = kernels.pack(np.array([[-1.0, 1.0, 1.0, 1.0, 1.0]], np.float32), 1)
    assert words.tolist() == [[0b00011110]]
    assert words.view(np.uint8)[:, :1].tolist() == [[30]]
    assert finite


@pytest.mark.parametrize("kind", ["f2", "f4", "f8", "bfloat16"])
def test_what_fires(kind):
    values = np.array([0.0, -0.0, np.nan, -np.inf, np.inf, 1e-4, -1e-4, 1.0], np.float32)
    expected = [False, False, False, False, True, True, False, True]
    x, dtype = (bfloat16(values), kind) if kind == "bfloat16" else (values.astype(kind), None)
    for row in (x[None], x[None, :, None], np.tile(x, (20, 9))):
        words, finite = kernels.pack(row, 1, dtype=dtype)
        assert bits(words, row.shape[1])[-1].tolist() == expected * (row.shape[1] // 8)
        assert not finite
    assert kernels.nonfinite(np.tile(x, (20, 9)), dtype) == (180, 360)


@pytest.mark.parametrize("kind", ["f2", "f4", "f8", "bfloat16"])
def test_denormals_fire(kind):
    if kind == "bfloat16":
        x, dtype = np.array([[1, -32767]], np.int16), kind  # the smallest, and its negative
    else:
        x, dtype = np.array([[1, -1]], kind) * np.finfo(kind).smallest_subnormal, None
    assert bits(kernels.pack(x, 1, dtype=dtype)[0], 2).tolist() == [[True, False]]


@pytest.mark.parametrize("kind", REAL)
@pytest.mark.parametrize(
    "threshold", [0.0, 1.0, -1.0, 0.7, -0.3, 200.0, -200.0, 1e300, -1e300, np.inf, -np.inf, np.nan]
)
def test_thresholds_are_compared_exactly(kind, threshold):
    info = np.iinfo(kind) if kind[0] in "iu" else None
    values = (
        [False, True]
        if kind == "?"
        else [info.min, info.max, 0, 1, 2]
        if info
        else [-1e4, 1e4, -1, 0, 1, -0.5, 0.75, np.inf, -np.inf, np.nan]
    )
    x = np.array([values], kind)
    if kind[0] == "f":
        with np.errstate(over="ignore"):
            expected = [bool(v > x.dtype.type(threshold)) for v in x[0]]
    else:
        expected = [int(v) > threshold for v in x[0]]
    assert bits(kernels.pack(x, 1, threshold)[0], x.shape[1])[0].tolist() == expected


@pytest.mark.parametrize("threshold", [0.0, 0.1, 1.0, 1.001953125, 1.001953126, -0.1, -1.0, -3e38, 1e-40])
def test_bfloat16_thresholds_are_rounded_to_the_nearest(threshold):
    torch = pytest.importorskip("torch")
    x = torch.cat(
        [torch.linspace(-2, 2, 4001), torch.tensor([float("nan"), float("inf"), -float("inf"), -3.3e38])]
    ).bfloat16()[None]
    expected = x > torch.tensor(threshold, dtype=torch.float64).bfloat16()
    words, _ = kernels.pack(x.view(torch.int16).numpy(), 1, threshold, "bfloat16")
    np.testing.assert_array_equal(bits(words, x.shape[1]), expected.numpy())


def test_a_double_is_rounded_to_bfloat16_once():
    just_above_a_tie = 1 + 2.0**-8 + 2.0**-40  # to float32 first, it would be the tie, and the tie would go down
    assert reference.bfloat16_bits(just_above_a_tie) == 0x3F81
    assert reference.bfloat16_bits(1 + 2.0**-8) == 0x3F80
    assert reference.bfloat16_bits(1 + 3 * 2.0**-8 - 2.0**-40) == 0x3F81
    assert reference.bfloat16_bits(np.inf) == 0x7F80


def test_bfloat16_arrays_of_numpy_need_no_name():
    ml_dtypes = pytest.importorskip("ml_dtypes")
    x = np.linspace(-1, 1, 40, dtype=np.float32).reshape(4, 10).astype(ml_dtypes.bfloat16)
    np.testing.assert_array_equal(kernels.pack(x, 1)[0], kernels.pack(x.astype(np.float32), 1)[0])
    assert kernels.nonfinite(x) == (0, 0)


# The incumbents: wrong bits for strided columns, batches dropped above a size, a crash from 32,768 units.


@pytest.mark.parametrize("view", [np.s_[:, ::2], np.s_[::2], np.s_[:, ::-1], np.s_[::-1], np.s_[::3, 5:33:3]])
@pytest.mark.parametrize("kind", ["f4", "f2", "?"])
def test_strided_columns_and_rows(view, kind):
    x = (np.random.default_rng(0).standard_normal((50, 140)) * 3).astype(kind)[view]
    np.testing.assert_array_equal(bits(kernels.pack(x, 1)[0], x.shape[1]), x > 0)


@pytest.mark.parametrize("units", [32_767, 32_768, 32_769, 70_000])
def test_wide_rows(units):
    x = np.random.default_rng(units).standard_normal((3, units), dtype=np.float32)
    np.testing.assert_array_equal(
        np.unpackbits(kernels.pack(x, 1)[0].view(np.uint8), axis=1, count=units, bitorder="little"), x > 0
    )


def test_no_batch_is_too_big():
    x = np.zeros((84, 64, 112, 112), np.int8)  # the batch that the original drops without a word
    x[:, 1] = 1
    words, _ = kernels.pack(x, 1)
    assert words.shape == (84 * 112 * 112, 1)
    assert (words == 2).all()


def test_more_values_than_an_int32_can_number():
    x = np.zeros((70_000, 2**15), np.bool_)  # 2.3e9 values; untouched pages take no memory
    x[-1, -1] = x[0, 1] = True
    words, _ = kernels.pack(x, 1)
    assert words[-1, -1] == 2**63
    assert words[0, 0] == 2
    assert np.count_nonzero(words) == 2
    words, _ = kernels.pack(x.T, 0)
    assert words[-1, -1] == 2**63
    assert np.count_nonzero(words) == 2
    planes, _ = kernels.pack(x.T, 1)
    assert planes[-1, -1] == np.uint64(1) << np.uint64(69_999 % 64)
    assert np.count_nonzero(planes) == 2


# Layouts.


def test_observations_come_in_raster_order_for_every_layout():
    first = np.random.default_rng(1).standard_normal((3, 20, 5, 7), dtype=np.float32)
    expected = np.moveaxis(first > 0, 1, -1).reshape(-1, 20)
    last = np.ascontiguousarray(np.moveaxis(first, 1, -1))
    fortran = np.asfortranarray(first)
    middle = np.ascontiguousarray(first.transpose(0, 2, 1, 3)).transpose(
        0, 2, 1, 3
    )  # in memory: samples, rows, units, columns
    outside = np.ascontiguousarray(np.moveaxis(first, 1, 0)).transpose(1, 0, 2, 3)
    for x, axis in (
        (first, 1),
        (first, -3),
        (last, -1),
        (last, 3),
        (np.moveaxis(last, -1, 1), 1),
        (fortran, 1),
        (middle, 1),
        (outside, 1),
    ):
        np.testing.assert_array_equal(bits(kernels.pack(x, axis)[0], 20), expected)


@pytest.mark.parametrize("kind", ["f2", "f4", "f8"])
def test_values_at_odd_addresses(kind):
    x = RNG.standard_normal((30, 70)).astype(kind)
    odd = np.frombuffer(b"." + x.tobytes(), np.uint8)[1:].view(kind).reshape(30, 70)
    assert not odd.flags.aligned
    for axis, both in ((1, (odd, x)), (0, (odd, x)), (1, (odd.T, x.T))):
        left, right = (kernels.pack(values, axis)[0] for values in both)
        np.testing.assert_array_equal(left, right)
    assert kernels.nonfinite(odd) == (0, 0)


def test_only_what_must_be_copied_is():
    from layerscope.kernels.cpu import _geometry

    x = np.zeros((4, 6, 5, 7), np.float32)  # 35 positions; a few are not worth their tiles
    in_place = [
        x,
        np.moveaxis(np.zeros((4, 5, 7, 6), np.float32), -1, 1),
        x[:3],
        x[:, :, :1, :1].copy(),
        x[0][None],
        x[:1, 2:4],
    ]
    for y in in_place:
        assert _geometry(y.shape, y.strides, 4, 1) is not None
    for y in (x[::2], x[:, ::2], x[..., ::-1], x[:, :4], x.transpose(3, 1, 0, 2), np.zeros((4, 6, 5, 2), np.float32)):
        assert _geometry(y.shape, y.strides, 4, 1) is None


def test_read_only_arrays_and_views_do_not_compile_again():
    from layerscope.kernels import cpu

    x = np.random.default_rng(2).standard_normal((6, 20), dtype=np.float32)
    kernels.pack(x, 1)
    before = len(cpu._pack_rows.signatures)
    frozen = x.copy()
    frozen.flags.writeable = False
    np.testing.assert_array_equal(kernels.pack(frozen, 1)[0], kernels.pack(x, 1)[0])
    kernels.pack(frozen[::2], 1)
    kernels.pack(frozen.reshape(3, 2, 20), 2)
    assert len(cpu._pack_rows.signatures) == before


@pytest.mark.parametrize(
    ("shape", "axis", "expected"),
    [((0, 5), 1, (0, 1)), ((3, 5, 0), 1, (0, 1)), ((3, 0), 1, (3, 0)), ((4, 0, 2), 1, (8, 0)), ((5,), 0, (1, 1))],
)
@pytest.mark.parametrize("kind", ["f2", "f4", "i2"])
def test_empty_and_flat_arrays(shape, axis, expected, kind):
    words, finite = kernels.pack(np.ones(shape, kind), axis)
    assert words.shape == expected
    assert finite


def test_foreign_byte_order_and_long_doubles():
    x = np.random.default_rng(3).standard_normal((9, 20))
    np.testing.assert_array_equal(kernels.pack(x.astype(">f8"), 1)[0], kernels.pack(x, 1)[0])
    np.testing.assert_array_equal(kernels.pack(x.astype(np.longdouble), 1)[0], kernels.pack(x, 1)[0])


@pytest.mark.parametrize("where", [0, 63, 64, 700, -1])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize(
    ("shape", "axis"), [((37, 20), 1), ((40, 64), 1), ((2, 20, 600), 1), ((5, 20, 49), 1), ((900, 1), 1)]
)
def test_no_nan_hides(where, bad, shape, axis):
    for kind in ("f2", "f4", "f8"):
        x = np.ones(shape, kind)
        assert kernels.pack(x, axis)[1]
        x.flat[where] = bad
        assert not kernels.pack(x, axis)[1]
        assert kernels.nonfinite(x) == ((1, 0) if np.isnan(bad) else (0, 1))


def test_integers_are_finite_also_at_their_ends():
    x = np.full((3, 70), np.iinfo(np.int16).max, np.int16)
    assert kernels.pack(x, 1)[1]
    assert kernels.nonfinite(x) == (0, 0)
    assert kernels.nonfinite(x, "bfloat16") == (210, 0)  # the same bits are NaN there


def test_unit_counts():
    rng = np.random.default_rng(4)
    fired, n = rng.random((500, 130)) < 0.3, rng.integers(1, 2**40, 500)
    words, _ = kernels.pack(fired, 1)
    words.flags.writeable = False
    np.testing.assert_array_equal(kernels.unit_counts(words, n, 130), n @ fired)
    np.testing.assert_array_equal(reference.unit_counts(words, n, 130), n @ fired)
    assert kernels.unit_counts(words[:0], n[:0], 130).tolist() == [0] * 130


# Messages.


@pytest.mark.parametrize("kind", ["c8", "O", "U3", "M8[s]"])
def test_values_without_an_order(kind):
    with pytest.raises(DtypeError, match="have no order"):
        kernels.pack(np.zeros((2, 3), kind), 1)


def test_a_name_that_does_not_describe_the_array():
    with pytest.raises(DtypeError, match="asked to read the values as 'bfloat16', the array holds float32"):
        kernels.pack(np.zeros((2, 3), np.float32), 1, dtype="bfloat16")


def test_an_axis_that_is_not_there():
    with pytest.raises(ShapeError, match=r"axis 2, the values have shape \(2, 3\). Give an axis between -2 and 1"):
        kernels.pack(np.zeros((2, 3)), 2)
    with pytest.raises(ShapeError, match="Give an array with an axis of units"):
        kernels.pack(np.zeros(()), 0)


def test_more_units_than_fit():
    with pytest.raises(ShapeError, match="asked for 65 units"):
        kernels.unit_counts(np.zeros((2, 1), np.uint64), np.ones(2, np.int64), 65)

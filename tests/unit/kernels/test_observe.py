"""Packing and counting in one go is packing, then counting: to the bit, over layouts, types, growth and repeats."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from layerscope._errors import ShapeError
from layerscope.kernels import Table, pack, reference

LAYOUTS = {
    "channels first": lambda rng, n: (rng.normal(size=(n, 20, 24, 24)), 1),
    "few positions": lambda rng, n: (rng.normal(size=(n, 70, 7, 7)), 1),
    "two positions": lambda rng, n: (rng.normal(size=(n, 33, 2)), 1),
    "one position": lambda rng, n: (rng.normal(size=(n, 100, 1, 1)), 1),
    "rows": lambda rng, n: (rng.normal(size=(n, 130)), -1),
    "tokens": lambda rng, n: (rng.normal(size=(n, 28, 64)), -1),
    "channels last in memory": lambda rng, n: (np.moveaxis(rng.normal(size=(n, 9, 9, 12)), -1, 1), 1),
    "strided": lambda rng, n: (rng.normal(size=(2 * n, 40, 30))[::2], 2),
    "large maps": lambda rng, n: (rng.normal(size=(n, 3, 100, 101)), 1),
    "one unit": lambda rng, n: (rng.normal(size=(n, 1, 5, 5)), 1),
}


def observed(
    x: np.ndarray, axis: int, ids: np.ndarray, wanted: np.ndarray, cuts: int, dtype: str | None = None
) -> tuple:
    words = -(-x.shape[axis] // 64)
    table, kept, finite = Table(words), [], True
    for part in np.array_split(np.arange(len(x)), cuts):
        here = np.flatnonzero(np.isin(part, wanted))
        fine, rows = table.observe(x[part[0] : part[-1] + 1], axis, 0.25, dtype, ids[part], here)
        kept.append(rows)
        finite &= fine
    return table, np.concatenate(kept), finite


def check_observe(
    table: Table, kept: np.ndarray, x: np.ndarray, axis: int, ids: np.ndarray, wanted: np.ndarray
) -> None:
    words, _ = reference.pack(x, axis, 0.25)
    m = len(words) // len(x)
    records = reference.count(words, np.arange(len(x) + 1) * m, ids)
    for mine, theirs in zip(table.records(), records, strict=True):
        np.testing.assert_array_equal(mine, theirs)
    assert table.rows == len(words)
    np.testing.assert_array_equal(
        kept, words.reshape(len(x), m, words.shape[1])[wanted].reshape(len(wanted) * m, words.shape[1])
    )


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("kind", ["float32", "float16", "float64", "int8"])
def test_layouts_and_types(layout: str, kind: str) -> None:
    rng = np.random.default_rng(1)
    x, axis = LAYOUTS[layout](rng, 23)
    x = (x * 2).round().astype(kind) if kind == "int8" else x.astype(kind)
    ids = rng.permutation(23).astype(np.int64) - 4
    wanted = np.array([0, 1, 7, 22])
    table, kept, finite = observed(x, axis, ids, wanted, 3)
    assert finite
    check_observe(table, kept, x, axis, ids, wanted)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("versions", [1, 3])
def test_the_stratum_is_one_more_word(layout: str, versions: int) -> None:
    """Any stratum, negative ones too; with several versions of a sample each has its own, and the sample is still one."""
    rng = np.random.default_rng(5)
    x, axis = LAYOUTS[layout](rng, 8 * versions)
    x, ids = x.astype(np.float32), rng.permutation(8).astype(np.int64)
    strata = rng.integers(-2, 3, len(x))
    strata.flags.writeable = False
    table, kept = Table(-(-x.shape[axis] // 64) + 1), []
    for part in np.array_split(np.arange(8), 3):
        here = slice(part[0] * versions, (part[-1] + 1) * versions)
        kept.append(table.observe(x[here], axis, 0.25, None, ids[part], np.arange(len(part)), strata[here])[1])
    words, _ = reference.pack(x, axis, 0.25)
    keyed = np.c_[words, np.repeat(strata, len(words) // len(x)).view(np.uint64)]
    m = len(words) // 8
    for mine, theirs in zip(table.records(), reference.count(keyed, np.arange(9) * m, ids), strict=True):
        np.testing.assert_array_equal(mine, theirs)
    np.testing.assert_array_equal(np.concatenate(kept), keyed)
    with pytest.raises(ShapeError, match="strata for"):
        table.observe(x, axis, 0.25, None, ids, ids[:0], strata[1:])


@given(st.data())
@settings(max_examples=40)
def test_any_cut_and_any_growth(data: st.DataObject) -> None:
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    n, units = data.draw(st.integers(1, 40)), data.draw(st.sampled_from([1, 5, 20, 64, 65, 200]))
    side = data.draw(st.integers(1, 15))
    x = rng.normal(size=(n, units, side, side)).astype(np.float32)
    x = np.repeat(x[: max(1, n // 2)], 2, axis=0)[:n] if data.draw(st.booleans()) else x
    ids = rng.integers(-50, 50, len(x))
    wanted = np.flatnonzero(rng.random(len(x)) < 0.3)
    table, kept, _ = observed(x, 1, ids, wanted, data.draw(st.integers(1, len(x))))
    check_observe(table, kept, x, 1, ids, wanted)


def test_many_states_grow_the_table_within_one_call() -> None:
    x = np.random.default_rng(0).normal(size=(60, 64, 30, 30)).astype(np.float32)
    ids = np.arange(60)
    table, kept, _ = observed(x, 1, ids, np.array([3, 59]), 1)
    assert len(table) > 50_000
    check_observe(table, kept, x, 1, ids, np.array([3, 59]))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("layout", ["channels first", "rows", "few positions"])
def test_nonfinite_values_are_seen(layout: str, bad: float) -> None:
    x, axis = LAYOUTS[layout](np.random.default_rng(2), 11)
    x = x.astype(np.float32)
    assert observed(x, axis, np.arange(11), np.array([], np.int64), 2)[2]
    x[(10, *(0,) * (x.ndim - 1))] = bad
    assert not observed(x, axis, np.arange(11), np.array([], np.int64), 2)[2]


def test_bfloat16_as_int16() -> None:
    x = np.random.default_rng(3).normal(size=(9, 17, 6, 6)).astype(np.float32)
    half = (x.view(np.uint32) >> 16).astype(np.uint16)
    exact = (half.astype(np.uint32) << 16).view(np.float32)
    table, kept, _ = observed(half.view(np.int16), 1, np.arange(9), np.array([2]), 2, "bfloat16")
    check_observe(table, kept, exact, 1, np.arange(9), np.array([2]))


def test_the_comparison_can_fail() -> None:
    x, axis = LAYOUTS["rows"](np.random.default_rng(4), 9)
    table, kept, _ = observed(x, axis, np.arange(9), np.array([1]), 2)
    table.add(pack(x[:1], axis)[0], np.array([0, 1]), np.array([1]))
    with pytest.raises(AssertionError):
        check_observe(table, kept, x, axis, np.arange(9), np.array([1]))
    table, kept, _ = observed(x, axis, np.arange(9), np.array([1]), 2)
    with pytest.raises(AssertionError):
        check_observe(table, kept[::-1] ^ np.uint64(1), x, axis, np.arange(9), np.array([1]))

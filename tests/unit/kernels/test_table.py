"""The state table: four integers a state, whatever the order of adds and merges, and states made to be slow."""

import pickle
from typing import Any

import numpy as np
import pytest

from layerscope._errors import DtypeError, MemoryLimitError, ShapeError
from layerscope.kernels import Records, Table, reference, table

RNG = np.random.default_rng(0)


def assert_same(found: Records, expected: Records):
    for name, left, right in zip(Records._fields, found, expected, strict=True):
        np.testing.assert_array_equal(left, right, err_msg=name)
        assert left.dtype == right.dtype, name


def ones(rows):
    """Every row a sample of its own: (rows, offsets, ids)."""
    return rows, np.arange(len(rows) + 1), np.arange(len(rows))


def counted(rows, offsets, ids):
    made = Table(rows.shape[1])
    made.add(rows, offsets, ids)
    return made


def inside(made: Table) -> table._Hashed:
    assert isinstance(made._store, table._Hashed)
    return made._store


def test_four_integers_by_hand():
    made = Table(1)
    made.add(np.array([[7], [7], [1], [7]], np.uint64), np.array([0, 3, 3, 4]), np.array([30, -5, 10]))
    made.add(np.array([[1]], np.uint64), np.array([0, 1]), np.array([-(2**62)]))
    found = made.records()
    assert found.states.tolist() == [[1], [7]]
    assert found.n.tolist() == [2, 3]
    assert found.i.tolist() == [2, 2]
    assert found.Q.tolist() == [2, 5]  # 7: twice in sample 30, once in sample 10
    assert found.first.tolist() == [-(2**62), 10]
    assert (made.rows, len(made)) == (5, 2)


def test_states_are_sorted_as_little_endian_integers():
    rows = np.array([[2**63, 0], [0, 1], [5, 1], [0, 2**63], [1, 0]], np.uint64)
    as_integers = [int(low) + (int(high) << 64) for low, high in counted(*ones(rows)).records().states]
    assert as_integers == sorted(as_integers)


@pytest.mark.parametrize("words", [1, 2, 3, 4, 8, 33])
@pytest.mark.parametrize("per_sample", [1, 7, 64])
def test_the_table_is_the_reference_also_after_it_grew(words, per_sample):
    pool = RNG.integers(0, 2**64, (20_000, words), dtype=np.uint64)
    rows = pool[RNG.integers(0, len(pool), 64 * 700)]
    offsets = np.arange(0, len(rows) + 1, per_sample)
    ids = RNG.permutation(len(offsets) - 1)
    made = counted(rows, offsets, ids)
    assert_same(made.records(), reference.count(rows, offsets, ids))
    states, counts = np.unique(rows[:, ::-1], axis=0, return_counts=True)  # by others: sorts by its first column first
    np.testing.assert_array_equal(made.records().states, states[:, ::-1])
    np.testing.assert_array_equal(made.records().n, counts)


def test_one_sample_larger_than_everything():
    rows = RNG.integers(0, 1000, (200_000, 1)).astype(np.uint64)
    assert_same(
        counted(rows, np.array([0, len(rows)]), np.array([3])).records(),
        reference.count(rows, np.array([0, len(rows)]), np.array([3])),
    )


UP = np.arange(50_000, dtype=np.uint64)
ADVERSARIES = {
    "equal low bits": (UP << np.uint64(40))[:, None],
    "equal high bits": UP[:, None],
    "equal low words": np.stack([0 * UP, UP << np.uint64(44)], 1),
    "equal high words": np.stack([UP, 0 * UP, 0 * UP], 1),
    "collide under Fibonacci hashing": (UP * np.uint64(pow(0x9E3779B97F4A7C15, -1, 2**64)))[:, None],
    "first words equal to the constant of the hash": np.stack([0 * UP + np.uint64(0xA0761D6478BD642F), UP], 1),
    "and to the constant with the seed": np.stack(
        [0 * UP + np.uint64(0xA0761D6478BD642F ^ table.SEED), UP, 0 * UP, UP], 1
    ),
    "first words equal to the seed": np.stack([0 * UP + np.uint64(table.SEED), UP], 1),
    "few states in many strata": np.stack([UP % np.uint64(4), UP], 1),
    "one bit each": np.packbits(np.eye(4096, dtype=bool), axis=1, bitorder="little").view(np.uint64),
}


@pytest.mark.parametrize("name", ADVERSARIES)
def test_states_made_to_be_slow(name):
    rows = ADVERSARIES[name]
    made = counted(*ones(np.concatenate([rows, rows[::-1]])))
    assert len(made) == len(rows)
    assert (made.records().n == 2).all()
    assert inside(made).patience == table.PATIENCE  # not one long probe


def test_long_probes_change_the_seed_and_nothing_else(monkeypatch):
    monkeypatch.setattr(table, "PATIENCE", 2)
    rows = RNG.integers(0, 2**64, (5_000, 2), dtype=np.uint64)
    made = Table(2)
    for begin in range(0, len(rows), 100):
        made.add(*ones(rows[begin : begin + 100])[:2], np.arange(begin, begin + 100))
    assert int(inside(made).seed) != table.SEED
    assert_same(made.records(), reference.count(*ones(rows)))


def test_marks_of_other_samples_never_count():
    rows = RNG.integers(0, 3, (600, 1)).astype(np.uint64)
    made = Table(1)
    inside(made).epoch = 2**32 - 30  # the numbers of samples run out on the way, and start again
    for begin in range(0, 600, 60):
        made.add(rows[begin : begin + 60], np.arange(0, 61, 6), np.arange(begin // 6, begin // 6 + 10))
    assert inside(made).epoch < 2**10
    assert_same(made.records(), reference.count(rows, np.arange(0, 601, 6), np.arange(100)))


def test_more_states_than_can_be_numbered(monkeypatch):
    monkeypatch.setattr(table, "MOST_SLOTS", table.SLOTS)
    with pytest.raises(MemoryLimitError, match="more than 2,048 different states"):
        counted(*ones(UP[:3000, None]))


def test_merge_and_copy_leave_the_other_alone():
    rows = RNG.integers(0, 500, (4_000, 1)).astype(np.uint64)
    left, right = (
        counted(rows[:1000], *(np.arange(1001), np.arange(1000))),
        counted(rows[1000:], np.arange(3001), np.arange(1000, 4000)),
    )
    before, twin = right.records(), right.copy()
    left.merge(right)
    assert_same(left.records(), reference.count(*ones(rows)))
    assert left.rows == 4_000
    twin.merge(left)
    assert_same(right.records(), before)
    assert_same(Table.of(before).records(), before)
    assert Table.of(before).rows == 3_000


def test_a_table_merged_with_itself_doubles():
    made = counted(*ones(np.array([[1], [2], [2]], np.uint64)))
    made.merge(made)
    assert made.records().n.tolist() == [2, 4]
    assert made.rows == 6


def test_merging_a_table_that_is_full_already_does_not_grow_it():
    rows = RNG.integers(0, 2**64, (30_000, 1), dtype=np.uint64)
    left, right = counted(*ones(rows)), counted(*ones(rows))
    before = left.nbytes
    left.merge(right)
    assert left.nbytes == before


@pytest.mark.parametrize("words", [0, 1, 9])
def test_nothing_to_count(words):
    made = Table(words)
    made.add(np.empty((0, words), np.uint64), np.array([0, 0, 0]), np.array([1, 2]))
    made.add(np.empty((0, words), np.uint64), np.array([0]), np.array([], np.int64))
    made.merge(Table(words))
    assert (len(made), made.rows) == (0, 0)
    assert_same(made.records(), Records.empty(words))
    assert_same(Table.of(Records.empty(words)).records(), Records.empty(words))


def test_read_only_strided_and_narrow_arguments():
    rows = RNG.integers(0, 9, (200, 4)).astype(np.uint64)[::2, ::2]
    rows.flags.writeable = False
    offsets, ids = np.array([0, 30, 100], np.int32), np.array([2, 1], np.int16)
    assert_same(
        counted(rows, offsets, ids).records(), reference.count(rows, offsets.astype(np.int64), ids.astype(np.int64))
    )


def test_memory_follows_the_states_and_not_the_rows():
    few = counted(*ones(np.zeros((300_000, 1), np.uint64)))
    assert few.nbytes < 100_000
    many = counted(*ones(np.arange(300_000, dtype=np.uint64)[:, None]))
    assert many.nbytes < 300_000 * 128


def test_a_table_survives_pickling():
    made = counted(*ones(np.array([[1], [2], [2]], np.uint64)))
    assert_same(pickle.loads(pickle.dumps(made)).records(), made.records())


# Messages; nothing is counted after one.


def test_a_width_that_does_not_fit():
    made = Table(2)
    with pytest.raises(ShapeError, match=r"counts states of 2 words, the rows have shape \(3, 1\). .*table of its own"):
        made.add(np.zeros((3, 1), np.uint64), np.array([0, 3]), np.array([0]))
    with pytest.raises(ShapeError, match="left counts states of 2 words, right of 1"):
        made.merge(Table(1))
    with pytest.raises(ShapeError, match="left counts states of 2 words, right of 1"):
        reference.merge(Records.empty(2), Records.empty(1))
    with pytest.raises(ShapeError, match="asked for states of -1 words"):
        Table(-1)
    assert (made.rows, len(made)) == (0, 0)


@pytest.mark.parametrize("offsets", [[0, 2], [1, 3], [0, 2, 3], [0, 5, 3], [0, -1, 3], [0, 4], [], [0]])
def test_offsets_that_do_not_cover_the_rows(offsets):
    made = Table(1)
    with pytest.raises(
        ShapeError, match=r"asked to count 3 rows of \d samples, the \d offsets do not cover them. Give"
    ):
        made.add(
            np.zeros((3, 1), np.uint64),
            np.array(offsets, np.int64),
            np.arange(2 if len(offsets) == 3 and offsets[1] != 2 else 1),
        )
    assert (made.rows, len(made)) == (0, 0)


def test_rows_that_are_not_words():
    rows: Any = np.zeros((3, 1), np.uint8)
    with pytest.raises(DtypeError, match="rows of type uint8, states are uint64 words"):
        Table(1).add(rows, np.array([0, 3]), np.array([0]))

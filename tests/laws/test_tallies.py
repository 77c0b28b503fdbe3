"""Every tally obeys the law of merging, and the check that says so rejects tallies that do not."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from layerscope._errors import DataError, ShapeError, ThresholdError
from layerscope._site import Activations, Chunk, Samples, Site
from layerscope._states import Per
from layerscope.kernels import reference
from layerscope.measures import repeats_in
from layerscope.tallies import AbstractTally, GridMoments, KeptSamples, Moments, PackedRows, StateTable
from layerscope.tallies._grid import ALL
from layerscope.testing import check_tally, random_chunks

TALLIES = [
    StateTable(),
    StateTable(per="sample"),
    StateTable(per="channel"),
    StateTable(strata="label"),
    StateTable(strata="epoch"),
    StateTable(strata="transformation"),
    StateTable(per="sample", strata="label"),
    StateTable(threshold=0.5),
    Moments(),
    PackedRows(),
]


@pytest.mark.parametrize("tally", TALLIES, ids=repr)
@pytest.mark.parametrize("seed", range(5))
def test_tallies_obey_the_law(tally: AbstractTally[Any], seed: int) -> None:
    check_tally(tally, seed)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("T", [1, 4])
def test_the_grid_obeys_the_law(seed: int, T: int) -> None:
    by_transformation = (StateTable(per, "transformation") for per in ("position", "sample", "channel"))
    for tally in (
        *by_transformation,
        GridMoments(),
        GridMoments("variance"),
        GridMoments(pool="mean"),
        GridMoments(strata="label"),
    ):
        check_tally(tally, seed, chunks=random_chunks(tally, seed, T=T))


# --- canaries: each breaks one law, and the check must see it -------------------------------------------------------------------------


@dataclass
class Mean:
    total: float = 0.0
    count: int = 0


@dataclass(frozen=True)
class MeanTally(AbstractTally[Mean]):
    """A right tally of the mean of everything, from which each canary is made by one wrong line."""

    wrong: str = ""

    def read(self, activations: Activations) -> dict[str, Any]:
        return {"values": np.asarray(activations.values, np.float64)}

    def init(self, site: Site) -> Mean:
        return Mean(total=1.0) if self.wrong == "init is not the identity" else Mean()

    def add(self, value: Mean, chunk: Chunk) -> Mean:
        x = chunk.arrays["values"]
        if self.wrong == "remembers only the last batch":
            return Mean(float(x.sum()), x.size)
        if self.wrong == "mean of batch means":
            return Mean(value.total + float(x.mean()), value.count + 1) if value.count else Mean(float(x.sum()), x.size)
        return Mean(value.total + float(x.sum()), value.count + x.size)

    def observe(self, value: Mean, activations: Activations, samples: Samples) -> Mean:
        if self.wrong == "observes something else":
            return self.add(value, Chunk({"values": np.ones(3)}, samples))
        return self.add(value, Chunk.of(self.read(activations), activations, samples))

    def merge(self, left: Mean, right: Mean) -> Mean:
        if self.wrong == "keeps the left":
            return left if left.count else right
        if self.wrong == "not commutative":
            return Mean(left.total + right.total * (1 if not left.count else 1.001), left.count + right.count)
        if self.wrong == "not associative":
            both = left.count and right.count
            return Mean(left.total + right.total + (left.total * right.total if both else 0), left.count + right.count)
        merged = Mean(left.total + right.total, left.count + right.count)
        if self.wrong == "harms its right value":
            right.total = 0.0
        return merged

    def same(self, left: Mean, right: Mean) -> bool:
        if self.wrong == "same is always true":
            return True
        return left.count == right.count and abs(left.total - right.total) <= 1e-9 * (1 + abs(left.total))

    def to_arrays(self, value: Mean) -> Mapping[str, Any]:
        return {"mean": np.array([value.total, value.count])}

    def from_arrays(self, site: Site, arrays: Mapping[str, Any]) -> Mean:
        total, count = arrays["mean"]
        return Mean(float(total), 0 if self.wrong == "forgets in files" else int(count))


def test_the_check_accepts_a_right_tally() -> None:
    check_tally(MeanTally())


@pytest.mark.parametrize(
    "wrong",
    [
        "init is not the identity",
        "remembers only the last batch",
        "mean of batch means",
        "keeps the left",
        "not commutative",
        "not associative",
        "harms its right value",
        "same is always true",
        "forgets in files",
        "observes something else",
    ],
)
def test_the_check_rejects(wrong: str) -> None:
    with pytest.raises(AssertionError):
        check_tally(MeanTally(wrong))


class NotFrozen(MeanTally.__mro__[1]):  # type: ignore[misc]  # a recipe that is no dataclass at all
    read, init, add, merge, observe = MeanTally.read, MeanTally.init, MeanTally.add, MeanTally.merge, MeanTally.observe
    same, to_arrays, from_arrays = MeanTally.same, MeanTally.to_arrays, MeanTally.from_arrays
    wrong = ""


def test_the_check_rejects_a_recipe_that_is_no_dataclass() -> None:
    with pytest.raises(AssertionError, match="dataclass"):
        check_tally(NotFrozen())


# --- the state table against the definition ------------------------------------------------------------------------------------------


@given(
    seed=st.integers(0, 2**32 - 1),
    units=st.integers(1, 130),
    sizes=st.lists(st.integers(0, 9), min_size=1, max_size=6),
    positions=st.sampled_from([(), (1,), (3,), (2, 3)]),
    masked=st.booleans(),
)
@settings(max_examples=80)
def test_the_streamed_table_is_the_definition(
    seed: int, units: int, sizes: list[int], positions: tuple[int, ...], masked: bool
) -> None:
    """Any cutting into batches, with masks, gives the columns of one NumPy count over everything."""
    rng = np.random.default_rng(seed)
    tally, value = StateTable(), StateTable().init(Site("x"))
    rows, lengths, every_id = [], [], []
    start = 0
    for size in sizes:
        x = rng.choice([-1.0, 0.0, 1.0], (size, units, *positions), p=[0.1, 0.6, 0.3]).astype(np.float32)
        ids = np.arange(start, start + size, dtype=np.int64) * 3 - 7
        mask = rng.random((size, *positions)) < 0.6 if masked and positions else None
        start += size
        chunk = Chunk(tally.read(Activations.of(x, unit=1)), Samples(ids, mask=mask), positions, units)
        value = tally.add(value, chunk)
        moved = np.moveaxis(x, 1, -1).reshape(size, int(np.prod(positions)), units) > 0
        for g in range(size):
            kept = moved[g] if mask is None else moved[g][mask[g].reshape(-1)]
            rows.append(kept)
            lengths.append(len(kept))
            every_id.append(ids[g])
    bits = np.concatenate(rows) if rows else np.zeros((0, units), bool)
    words, _ = reference.pack(bits, 1)
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    wanted = reference.count(words, offsets, np.array(every_id, np.int64))
    for mine, theirs in zip(value.records(), wanted, strict=True):
        np.testing.assert_array_equal(mine, theirs)
    assert value.samples == np.count_nonzero(lengths)
    assert value.square_rows == int(np.square(lengths).sum())
    assert value.observations == len(bits)


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("tally", [StateTable(), StateTable(per="channel"), StateTable(threshold=0.5)], ids=repr)
def test_observing_counts_nonfinite_values_and_masks_like_reading(tally: StateTable, masked: bool) -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(6, 5, 4)).astype(np.float32)
    x[0, 0, 0], x[1, 1, 1], x[2, 2, 2] = np.nan, np.inf, -np.inf
    mask = rng.random((6, 4)) < 0.7 if masked and tally.per == "position" else None
    a, samples = Activations.of(x, unit=1), Samples(np.arange(6), mask=mask)
    one = tally.observe(tally.init(Site("x")), a, samples)
    two = tally.add(tally.init(Site("x")), Chunk.of(tally.read(a), a, samples))
    assert tally.same(one, two)
    assert (one.nan, one.inf) == (1, 2)
    assert one.masked == (0 if mask is None else int((~mask).sum()))


def test_strata_add_up_to_the_whole() -> None:
    chunks = random_chunks(StateTable(), 3)
    plain, by_label = StateTable().init(Site("x")), StateTable(strata="label").init(Site("x"))
    for chunk in chunks:
        plain, by_label = StateTable().add(plain, chunk), StateTable(strata="label").add(by_label, chunk)
    for mine, theirs in zip(by_label.records(), plain.records(), strict=True):
        np.testing.assert_array_equal(mine, theirs)
    labels = [chunk.samples.labels for chunk in chunks if chunk.samples.labels is not None]
    assert len(labels) == len(chunks)
    different = np.unique(np.concatenate(labels))
    assert sum(int(by_label.records(int(label)).n.sum()) for label in different) == plain.observations
    assert int(by_label.records(99).n.sum()) == 0


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("T", [1, 3])
def test_states_under_one_transformation_are_those_of_its_rows(T: int, masked: bool) -> None:
    """Each stratum says to the bit what a plain table of the samples under that transformation says; so do the kept samples."""
    rng = np.random.default_rng(T)
    tally, plain = StateTable(strata="transformation"), StateTable()
    x = rng.choice([-1.0, 1.0], (130, T, 5, 4), p=[0.7, 0.3]).astype(np.float32)
    mask = rng.random((130, T, 4)) < 0.6 if masked else None
    ids = rng.permutation(130).astype(np.int64)
    value, alone = tally.init(Site("x")), [plain.init(Site("x")) for _ in range(T)]
    for part in np.array_split(np.arange(130), 4):
        cut = None if mask is None else mask[part]
        a = Activations.of(x[part].reshape(-1, 5, 4), unit=1)
        value = tally.observe(value, a, Samples(ids[part], mask=cut, transformations=T))
        for t in range(T):
            mine = Samples(ids[part], mask=None if cut is None else cut[:, t])
            alone[t] = plain.observe(alone[t], Activations.of(x[part, t], unit=1), mine)
    for t in range(T):
        alone[t].masked = 0 if T > 1 else value.masked
        assert plain.same(value.within(t), alone[t])
    assert value.observations == sum(each.observations for each in alone)
    if T > 1:
        assert not plain.same(value.within(0), alone[1])
        with pytest.raises(DataError, match="the same samples stand in all 3 strata"):
            value.records()
        assert "have the id of another" in repeats_in(value.within(0, 1))
        with pytest.raises(DataError, match=r"asked for the strata \(7,\); seen are 0, 1, 2"):
            value.within(7)


@pytest.mark.parametrize("per", ["sample", "channel"])
def test_wider_states_under_one_transformation(per: Per) -> None:
    x = np.random.default_rng(0).normal(size=(9, 2, 3, 2)).astype(np.float32)
    a = Activations.of(x.reshape(-1, 3, 2), unit=1)
    tally, plain = StateTable(per, "transformation"), StateTable(per)
    value = tally.observe(tally.init(Site("x")), a, Samples(np.arange(9), transformations=2))
    alone = plain.observe(plain.init(Site("x")), Activations.of(x[:, 1], unit=1), Samples(np.arange(9)))
    assert plain.same(value.within(1), alone)


def test_a_window_of_epochs_is_the_table_of_their_rows() -> None:
    """Each epoch alone is what a table of its own would be; several together count a sample once an epoch, and say so."""
    rng = np.random.default_rng(2)
    tally, plain = StateTable(strata="epoch"), StateTable()
    value, alone, window = tally.init(Site("x")), [], plain.init(Site("x"))
    ids = np.arange(200)
    for epoch in range(4):
        x = (rng.normal(size=(200, 6, 3)) + epoch / 2).astype(np.float32)
        a = Activations.of(x, unit=1)
        value = tally.observe(value, a, Samples(ids, epoch=epoch))
        alone.append(plain.observe(plain.init(Site("x")), a, Samples(ids)))
        if epoch in (1, 2):
            window = plain.observe(window, a, Samples(ids))
    for epoch in range(4):
        for mine, theirs in zip(value.records(epoch), alone[epoch].records(), strict=True):
            np.testing.assert_array_equal(mine, theirs)
        part = value.within(epoch).kept.sifted()
        assert len(part.ids) >= 100  # enough for an interval in every epoch, however many there are
        assert {*part.ids.tolist()} <= {*alone[epoch].kept.sifted().ids.tolist()}
    both = value.within(1, 2)
    for mine, theirs in zip(both.records(), window.records(), strict=True):
        np.testing.assert_array_equal(mine, theirs)
    assert (both.samples, both.square_rows) == (window.samples, window.square_rows)
    assert repeats_in(both)
    assert not repeats_in(value.within(1))


def test_strata_that_are_not_known_are_refused() -> None:
    with pytest.raises(DataError, match="counted apart by 'label', 'shuffled label', 'epoch'"):
        StateTable(strata="class")  # type: ignore[arg-type]
    with pytest.raises(DataError, match="the data has no label"):
        StateTable(strata="label").observe(
            StateTable(strata="label").init(Site("x")), Activations.of(np.ones((2, 3))), Samples(np.arange(2))
        )


@given(st.data())
@settings(max_examples=60)
def test_kept_samples_do_not_depend_on_cuts_or_order(data: st.DataObject) -> None:
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    count, m = data.draw(st.integers(1, 400)), data.draw(st.integers(1, 200))
    ids = rng.permutation(count).astype(np.int64)
    rows = rng.integers(0, 2**63, (count, m, 1)).astype(np.uint64)

    def keep(order: np.ndarray, cuts: int) -> KeptSamples:
        kept = KeptSamples()
        for part in np.array_split(order, cuts):
            offsets = np.arange(len(part) + 1, dtype=np.int64) * m
            kept.offer(rows[part].reshape(-1, 1), offsets, Samples(ids[part]))
        return kept

    whole = keep(np.arange(count), 1)
    assert keep(rng.permutation(count), data.draw(st.integers(1, 12))).same(whole)
    half = count // 2
    left, right = keep(np.arange(half), 3), keep(np.arange(half, count), 2)
    right.merge(left)
    assert right.same(whole)
    kept = whole.sifted()
    order = np.argsort(Samples(ids).keys)
    wanted = next((k for k in range(1, count + 1) if k >= 100 and k * m >= 8192), count)
    np.testing.assert_array_equal(kept.ids, ids[order[:wanted]])
    np.testing.assert_array_equal(kept.rows, rows[order[:wanted]].reshape(-1, 1))


# --- moments against float64, where the naive formula fails ---------------------------------------------------------------------------


@pytest.mark.parametrize("offset", [0.0, 1e3, 1e5])
@pytest.mark.parametrize("batch", [1, 7, 64])
def test_moments_hold_at_large_offsets(offset: float, batch: int) -> None:
    x = (np.random.default_rng(0).normal(size=(256, 5, 3)) + offset).astype(np.float32)
    tally, value = Moments(), Moments().init(Site("x"))
    for part in np.split(x, range(batch, len(x), batch)):
        value = tally.add(
            value, Chunk(tally.read(Activations.of(part, unit=1)), Samples(np.arange(len(part))), (3,), 5)
        )
    exact = np.moveaxis(x.astype(np.float64), 1, -1).reshape(-1, 5)
    np.testing.assert_allclose(value.mean, exact.mean(0), rtol=2e-6)
    np.testing.assert_allclose(value.m2 / value.count, exact.var(0), rtol=2e-5 if offset > 1e4 else 2e-6)
    if offset > 1e4:  # the canary: a sum of squares in float32 loses everything here
        flat = exact.astype(np.float32)
        naive = (flat**2).mean(0) - flat.mean(0) ** 2
        assert np.abs(naive / exact.var(0) - 1).max() > 0.5


@given(seed=st.integers(0, 10**6), T=st.integers(1, 6), r=st.integers(1, 9))
@settings(max_examples=40)
def test_the_grid_is_the_full_tensor(seed: int, T: int, r: int) -> None:
    rng = np.random.default_rng(seed)
    samples, D = 11, 4
    x = rng.normal(size=(samples, T, D)) + 100
    tally, value = GridMoments(), GridMoments().init(Site("x"))
    for at in range(0, samples, r):
        part = x[at : at + r].reshape(-1, D)
        ids = np.arange(at, min(at + r, samples), dtype=np.int64)
        value = tally.add(value, Chunk(tally.read(Activations.of(part)), Samples(ids, transformations=T), (), D))
    sums = value.by[ALL]
    np.testing.assert_allclose(sums.m2, x.var(0) * samples, rtol=1e-9)
    if T > 1:
        np.testing.assert_allclose(sums.rows_var / samples, x.var(1, ddof=1).mean(0), rtol=1e-9)
        np.testing.assert_allclose(sums.rows_std / samples, x.std(1, ddof=1).mean(0), rtol=1e-9)


def test_moments_of_a_long_batch_keep_their_digits() -> None:
    """float32 sums down the rows were wrong by 1e-3 at two million rows, and stop counting at 16,777,216."""
    x = np.random.default_rng(0).normal(3, 1, (2_000_000, 3)).astype(np.float32)
    read = Moments().read(Activations.of(x))
    value = Moments().add(Moments().init(Site("x")), Chunk(read, Samples(np.arange(len(x))), (), 3))
    np.testing.assert_allclose(value.m2 / value.count, x.astype(np.float64).var(0), rtol=2e-6)
    assert value.count.tolist() == [2_000_000] * 3


def test_one_table_counts_by_one_rule() -> None:
    x = Activations.of(np.ones((4, 3), np.float32))
    other = Activations.of(np.ones((4, 3), np.float32), threshold=1.0)
    value = StateTable().observe(StateTable().init(Site("x")), x, Samples(np.arange(4)))
    with pytest.raises(ThresholdError, match="two rules are not counted in one table"):
        StateTable().observe(value, other, Samples(np.arange(4, 8)))


def test_units_and_samples_are_different_axes() -> None:
    a, samples = Activations.of(np.ones((4, 3), np.float32), unit=0), Samples(np.arange(4))
    with pytest.raises(ShapeError, match="cannot hold both samples and units"):
        StateTable().observe(StateTable().init(Site("x")), a, samples)


def test_rows_on_disk_merge_into_memory(tmp_path: Path) -> None:
    tallies = [PackedRows(str(tmp_path / name)) for name in "ab"]
    x = np.random.default_rng(0).normal(size=(5, 9)).astype(np.float32)
    left, right = (t.observe(t.init(Site("x")), Activations.of(x), Samples(np.arange(5))) for t in tallies)
    merged = tallies[0].merge(tallies[0].merge(tallies[0].init(Site("x")), left), right)
    np.testing.assert_array_equal(merged.all(), np.concatenate([left.all(), right.all()]))

"""The sketch of states: the table up to k states, beyond it within four of its stated errors, whatever the order and the shards."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import layerscope as ls
from benchmarks.sketch import PROMISED, STREAMS, Stream, counted, errors_of, factor, power_law
from layerscope._errors import DataError, FileFormatError, MergeError, SiteError
from layerscope._site import Chunk, Samples, Site
from layerscope.kernels import Records
from layerscope.measures import (
    DeadUnits,
    Efficiency,
    Entropy,
    EqualUnits,
    FiringRate,
    Information,
    entropy,
    rarefaction,
    trust_in,
)
from layerscope.tallies import SketchCounts, StateCounts, StateSketch, StateTable, sketched
from layerscope.tallies import _sketch as module
from layerscope.testing import check_tally
from tests.conftest import require

SITE, K = Site("layer"), 1024
SMALL = StateSketch(K)


def chunks(batches: int, seed: int = 0, states: int = 50_000, words: int = 1) -> list[Chunk]:
    """Batches of 20 samples × 64 rows with a few common states and many rare ones."""
    rng = np.random.default_rng(seed)
    found = []
    for b in range(batches):
        rows = (states ** rng.random((20 * 64, 1))).astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        rows = np.concatenate([rows, *[rows ^ np.uint64(j) for j in range(1, words)]], axis=1)
        found.append(
            Chunk({"states": rows}, Samples(np.arange(20 * b, 20 * b + 20)), (64,), 64 * words - 3 * (words > 1))
        )
    return found


def of(tally: Any, some: list[Chunk]) -> Any:
    value = tally.init(SITE)
    for each in some:
        value = tally.add(value, each)
    return value


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("tally", [SMALL, StateSketch(K, "channel"), StateSketch(K, threshold=0.5)], ids=repr)
def test_it_obeys_the_law_of_tallies(tally: StateSketch, seed: int) -> None:
    check_tally(tally, seed)


def test_up_to_k_states_it_is_the_table_to_the_bit() -> None:
    some = chunks(6, states=1000)
    sketch, table = of(SMALL, some), of(StateTable(), some)
    answer = SMALL.answer(sketch)
    assert isinstance(answer, StateCounts)
    assert StateTable().same(answer, table)
    for estimator in ("plug-in", "c2", "grassberger"):
        mine, its = (Entropy(estimator=estimator).compute(value) for value in (answer, table))
        assert (float(mine), mine.note, mine.verdict) == (float(its), its.note, its.verdict)
    assert sum(map(float, (mine.low, mine.high))) == sum(map(float, (its.low, its.high))) or math.isnan(mine.low)


def check_columns(sketch: SketchCounts, table: Any) -> None:
    """Every state that is there has the columns of the whole table, and the others are a share of about `below` of all keys."""
    thinned, records = sketch.thinned(), table.records()
    at = {state.tobytes(): row for row, state in enumerate(records.states)}
    rows = [at[state.tobytes()] for state in thinned.records.states]
    for mine, its in zip(thinned.records[1:], records[1:], strict=True):
        np.testing.assert_array_equal(mine, its[rows])
    assert thinned.rows == table.observations
    rest = len(records.n) - np.count_nonzero(thinned.held)
    there = np.count_nonzero(~thinned.held)
    assert there == pytest.approx(rest * thinned.share, abs=4 * math.sqrt(rest * thinned.share))


@pytest.mark.parametrize("words", [1, 3])
def test_states_that_stay_have_the_columns_of_the_table(words: int) -> None:
    some = chunks(40, words=words)
    sketch, table = of(SMALL, some), of(StateTable(), some)
    assert sketch.past is not None
    assert len(table.table) > 4 * K
    check_columns(sketch, table)
    assert sketch.past.held.sum() <= 3 * K // 4
    assert len(sketch.thinned().records.n) <= 1.25 * K
    assert sketch.nbytes < table.nbytes
    sketch.past.records.n[5] += 1  # the canary
    sketch.memo = {}
    with pytest.raises(AssertionError):
        check_columns(sketch, table)


def test_firing_rates_stay_exact() -> None:
    some = chunks(40, words=2)
    sketch: Any = of(SMALL, some)
    table = of(StateTable(), some)
    np.testing.assert_array_equal(FiringRate().compute(sketch).value, FiringRate().compute(table).value)
    assert DeadUnits().compute(sketch).items == DeadUnits().compute(table).items
    half: Any = SMALL.merge(of(SMALL, some[:25]), of(SMALL, some[25:]))
    np.testing.assert_array_equal(FiringRate().compute(half).value, FiringRate().compute(table).value)


def test_merging_commutes_and_leaves_the_right_one_unharmed() -> None:
    a, b, c = chunks(40)[:20], chunks(40)[20:], chunks(3)
    one, two = SMALL.merge(of(SMALL, a), of(SMALL, b)), SMALL.merge(of(SMALL, b), of(SMALL, a))
    assert SMALL.same(one, two)
    right = of(SMALL, b)
    SMALL.merge(of(SMALL, c), right)
    assert SMALL.same(right, of(SMALL, b))
    assert SMALL.same(SMALL.merge(of(SMALL, a), SMALL.init(SITE)), of(SMALL, a))
    assert SMALL.same(SMALL.merge(SMALL.init(SITE), of(SMALL, a)), of(SMALL, a))
    assert not SMALL.same(one, of(SMALL, a))
    check_columns_of_sample(one, of(StateTable(), [*a, *b]))


def check_columns_of_sample(sketch: SketchCounts, table: Any) -> None:
    """The sampled states of merged sketches, whatever each side held, have the columns of the whole table."""
    thinned, records = sketch.thinned(), table.records()
    at = {state.tobytes(): row for row, state in enumerate(records.states)}
    rows = [at[state.tobytes()] for state in thinned.records.states[~thinned.held]]
    assert len(rows) > K // 4
    for mine, its in zip(thinned.records[1:], records[1:], strict=True):
        np.testing.assert_array_equal(mine[~thinned.held], its[rows])


def test_sketches_of_two_sizes_do_not_merge() -> None:
    with pytest.raises(MergeError, match="left is a sketch of 1,024 states, right of 2,048"):
        SMALL.merge(of(SMALL, chunks(2)), of(StateSketch(2048), chunks(2)))


def test_files_give_it_back() -> None:
    value = of(SMALL, chunks(30, words=2))
    arrays = dict(SMALL.to_arrays(value))
    again = SMALL.from_arrays(SITE, arrays)
    assert SMALL.same(value, again)
    assert float(Entropy().compute(again)) == float(Entropy().compute(value))
    for damaged in (
        {**arrays, "past_held": arrays["past_held"][1:]},
        {k: v for k, v in arrays.items() if k != "past_Q"},
    ):
        with pytest.raises(FileFormatError, match=r"damaged|not there"):
            SMALL.from_arrays(SITE, damaged)


# --- the promise ----------------------------------------------------------------------------------------------------------------------


def check_promise(errors: NDArray[np.float64]) -> None:
    """Every error (streams, numbers) within four stated ones, which are not idle: the typical error is no tenth of its stated one."""
    ratio = np.abs(errors[..., 0]) / errors[..., 1]
    assert np.nanmax(ratio) <= PROMISED, f"an error of {np.nanmax(ratio):.1f} of its standard errors"
    assert np.sqrt(np.nanmean(ratio[:, 0] ** 2)) > 0.1, "the stated error is idle"


def shown(stream: Stream, seeds: int, shards: int = 1) -> list[tuple[SketchCounts, Any]]:
    return [counted(stream, seed, StateSketch(), shards) for seed in range(seeds)]


@pytest.mark.parametrize("shards", [1, 4])
@pytest.mark.parametrize("stream", [s for s in STREAMS if s.name != "all different"], ids=lambda s: s.name)
def test_errors_are_within_four_of_the_stated_ones(stream: Stream, shards: int) -> None:
    few = replace(stream, batches=20)
    check_promise(np.array([errors_of(*pair) for pair in shown(few, 2, shards)]))


def test_all_different_states_are_seen_to_be() -> None:
    sketch, whole = counted(replace(STREAMS[-1], batches=6), 0, StateSketch())
    reading = Entropy(estimator="c2").compute(sketch)
    assert reading.verdict == "saturated"
    assert float(Entropy().compute(sketch)) == pytest.approx(math.log2(whole.observations), abs=1e-3)


def late(rng: np.random.Generator, rows: int) -> NDArray[np.uint64]:
    """A quarter of the rows in one state, which a sorted stream gives every class anew, and the others in 2^19."""
    return np.where(
        rng.random(rows) < 0.25, np.uint64(1), rng.integers(0, 2**19, rows).astype(np.uint64) * np.uint64(2)
    )


def test_broken_sketches_break_the_promise(monkeypatch: pytest.MonkeyPatch) -> None:
    """Canaries: the commonest states taken for all, sampled states that stand for themselves alone, nothing held that comes late."""
    for sketch, whole in shown(Stream("64 units of 3 factors", factor(64), 12), 1):
        right = errors_of(sketch, whole)
        check_promise(np.array([right]))
        records, thinned = whole.records(), sketch.thinned().records
        common = np.argsort(-records.n)[:65_536]
        for wrong in (Records(*(column[common] for column in records)), thinned):
            off = entropy(wrong.n) - trust_in(whole).plug_in
            with pytest.raises(AssertionError, match="of its standard errors"):
                check_promise(np.array([[(off, right[0][1]), *right[1:]]]))
    stream = Stream("common states that come late", late, 12, 12)
    check_promise(np.array([errors_of(*counted(stream, seed, StateSketch())) for seed in range(3)]))
    held = module.Thinned._held_by_both
    monkeypatch.setattr(
        module.Thinned, "_held_by_both", lambda a, b, order, begin, n, many: held(a, b, order, begin, n, math.inf)
    )
    with pytest.raises(AssertionError, match="of its standard errors"):
        check_promise(np.array([errors_of(*counted(stream, seed, StateSketch())) for seed in range(3)]))


# --- what it says, and what it refuses ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def large() -> Any:
    return counted(Stream("power law", power_law(1.1, 10**6), 12), 0, StateSketch(4096))[0]


def test_readings_say_that_they_come_from_a_sketch(large: Any) -> None:
    asked: list[tuple[float, Any]] = [
        (1, "plug-in"),
        (1, "c2"),
        (2, "c2"),
        (0, "plug-in"),
        (1, "chao-shen"),
        (math.inf, "plug-in"),
    ]
    for order, estimator in asked:
        reading = Entropy(order, estimator=estimator).compute(large)
        assert "from a sketch of 4,096 states, which adds about ± " in reading.note
        assert "(promised from 65,536 states on)" in reading.note
        assert math.isnan(reading.low)
        assert reading.verdict != "measured"
        assert reading.coverage > 0
    promised = counted(Stream("power law", power_law(1.1, 10**6), 12), 0, StateSketch())[0]
    assert "from a sketch of 65,536 states, which adds at most ± " in Efficiency(estimator="c2").compute(promised).note
    assert 0 < float(Efficiency(against="rates", estimator="c2").compute(large)) <= 1
    assert 0 < rarefaction(large, large.samples // 2) < float(Entropy().compute(large))


def test_what_needs_every_state_is_refused_in_words(large: Any) -> None:
    for ask in (lambda: trust_in(large).verdict, lambda: EqualUnits().compute(large)):
        with pytest.raises(SiteError, match="holds only the frequent ones and a sample"):
            ask()
    with pytest.raises(DataError, match="a measure counts states by label"):
        sketched(Information().tally, 65_536)
    wrong: Any = (100, 1e5, True, -1)
    for k in wrong:
        with pytest.raises(DataError, match="at least 1,024"):
            StateSketch(k)
    assert sketched(StateTable("sample"), None) == StateTable("sample")
    assert sketched(StateTable("sample"), 2048) == StateSketch(2048, "sample")
    assert StateSketch().covers(StateTable())
    assert not StateSketch().covers(StateTable("sample"))


@pytest.mark.torch
def test_examine_with_a_sketch(tmp_path: Path) -> None:
    """One layer has more states than fit and says so, another has not and reads as without; through files and shards."""
    torch = require("torch")
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(12, 24), torch.nn.ReLU(), torch.nn.Linear(24, 5), torch.nn.ReLU())
    data = np.random.default_rng(0).normal(size=(6000, 12)).astype(np.float32)
    whole, sketch = ls.examine(model, data), ls.examine(model, data, sketch=K)
    assert str(sketch["3"].entropy(estimator="c2")) == str(whole["3"].entropy(estimator="c2"))
    assert str(sketch["3"].trust()) == str(whole["3"].trust())
    assert len(whole["1"].counts()) > 2 * K
    reading, true = sketch["1"].entropy(), float(whole["1"].entropy())
    assert "from a sketch of 1,024 states" in reading.note
    assert float(reading) == pytest.approx(true, abs=0.3)
    assert float(reading) != true
    assert sketch["1"].state_count == 6000
    assert sketch["1"].always_on_units().items == whole["1"].always_on_units().items
    np.testing.assert_array_equal(sketch["1"].firing_rates().value, whole["1"].firing_rates().value)
    for refused in (sketch["1"].counts, sketch["1"].state_ids, sketch["1"].trust, lambda: sketch["1"].states.top(3)):
        with pytest.raises(SiteError, match="holds only the frequent ones and a sample"):
            str(refused())
    assert "examine without sketch=" in repr(sketch["1"].trust())
    assert repr(whole["3"].trust()) == f"<Trust {whole['3'].trust().verdict}: {whole['3'].trust()}>"
    line = sketch.table.query("layer == '1' and measure == 'equal units'").iloc[0]
    assert math.isnan(float(line["value"]))
    assert "examine without sketch=" in str(line["note"])
    again = ls.load(sketch.save(tmp_path / "sketch.lscope"))
    assert float(again["1"].entropy(estimator="c2")) == float(sketch["1"].entropy(estimator="c2"))
    parts = [ls.examine(model, data, sketch=K, shard=(k, 2), batch_size=500) for k in range(2)]
    merged = parts[0].merge(parts[1])
    assert float(merged["1"].entropy()) == pytest.approx(true, abs=0.3)
    assert str(merged["3"].entropy()) == str(whole["3"].entropy())
    assert "from a sketch of" in sketch.to_html()

"""The bench of intervals: it runs, its promises hold on a few sets, and it rejects intervals that are too narrow."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmarks import bias
from benchmarks._populations import entropy_of, independent, packed, uniform
from benchmarks.honest import FIELDS, Outcome, faults, judged, table

SETS = 30


@pytest.fixture(scope="module")
def outcomes() -> list[Outcome]:
    return [judged(setting, SETS, 0) for setting in (uniform(8, 400), independent("wide", 64, 300))]


def test_promises_hold_on_a_few_sets(outcomes: list[Outcome]) -> None:
    assert faults(outcomes) == []
    assert {*outcomes[0].verdicts} <= {"measured", "corrected"}
    assert {*outcomes[1].verdicts} == {"saturated"}
    assert "| wide | 300 | 54.47 |" in table(outcomes)


def test_an_interval_around_the_plain_count_is_rejected(outcomes: list[Outcome]) -> None:
    """The canary: the same widths around the plain counts."""
    rows = outcomes[0].rows.copy()
    low, high, plain = (FIELDS.index(name) for name in ("low", "high", "plain"))
    half = (rows[:, high] - rows[:, low]) / 2
    rows[:, low], rows[:, high] = rows[:, plain] - half, rows[:, plain] + half
    assert (
        "uniform, 2^8 states, 400 samples: measured / corrected holds in"
        in faults([replace(outcomes[0], rows=rows)])[0]
    )


def test_few_intervals_that_mostly_miss_are_counted_among_all_sets(outcomes: list[Outcome]) -> None:
    rows = np.repeat(outcomes[0].rows, 20, axis=0)
    rows[:240, FIELDS.index("high")] = rows[:240, FIELDS.index("low")]
    few = replace(outcomes[0], rows=rows, verdicts=["measured"] * 240 + ["extrapolated"] * 360)
    assert "40.0 % of all sets get an interval that misses" in faults([few])[0]
    fewer = replace(few, verdicts=["measured"] * 20 + ["extrapolated"] * 580)
    assert not [fault for fault in faults([fewer]) if "misses" in fault]


def test_a_bracket_that_is_too_narrow_is_rejected(outcomes: list[Outcome]) -> None:
    rows = outcomes[1].rows.copy()
    rows[:, FIELDS.index("high")] -= 40
    assert "saturated" in faults([replace(outcomes[1], rows=rows)])[0]


def test_an_interval_that_always_holds_where_positions_depend_is_rejected(outcomes: list[Outcome]) -> None:
    wide = replace(outcomes[0], setting=replace(outcomes[0].setting, dependent=True), rows=outcomes[0].rows.copy())
    wide.rows[:, FIELDS.index("low")] = 0
    wide.rows[:, FIELDS.index("high")] = 99
    many = replace(wide, rows=np.repeat(wide.rows, 20, axis=0), verdicts=wide.verdicts * 20)
    assert faults([many])


def test_truths_are_what_drawing_shows() -> None:
    """The laws whose entropy is a formula, against the plain count of very many draws from a narrow one."""
    for setting in (independent("a", 6, 1), independent("b", 6, 1, background=0.7), independent("c", 12, 1, copies=2)):
        words, _ = setting.draw(np.random.default_rng(0), 400_000)
        assert entropy_of(words.reshape(-1, 1)) == pytest.approx(setting.truth, abs=0.01)
    assert packed(np.array([[True, False, True]])).tolist() == [[5]]


def test_bias_curves_and_their_picture(tmp_path: Path) -> None:
    """Nowhere further off than the plain count, and the check for it rejects an estimator that is."""
    found = bias.curves(6, (50, 100))
    assert bias.worse_than_plain(found) == []
    bias.draw(found, tmp_path / "curves.svg", (50, 100))
    assert (tmp_path / "curves.svg").stat().st_size > 10_000
    assert "| smooth fields, 12 units, 64 positions, 9.11 bits | coverage | 0.8" in bias.table(found, (50, 100))
    found[0].means[3] -= 1
    assert "jackknife is off by -1." in bias.worse_than_plain(found)[0]

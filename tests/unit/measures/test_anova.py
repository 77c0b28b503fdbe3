"""Analysis of variance: SciPy's one-way F, and the full decomposition in float64."""

from typing import Any

import numpy as np
import pytest
from scipy import stats

from layerscope._errors import DataError, EmptyTally
from layerscope.measures import Anova
from layerscope.testing import check_measure, random_chunks
from tests.unit.measures.grids import activations, stream

T = 5
DESIGNS: list[Any] = ["repeated", "one-way"]


def decomposed(x: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """SS of transformations, of the interaction, and within transformations, (…) each."""
    exact = x.astype(np.float64)
    grand, rows, columns = exact.mean((0, 1)), exact.mean(1), exact.mean(0)
    apart = exact - rows[:, None] - columns[None] + grand
    return len(x) * ((columns - grand) ** 2).sum(0), (apart**2).sum((0, 1)), ((exact - columns) ** 2).sum((0, 1))


def wanted(x: np.ndarray, design: str, statistic: str) -> np.ndarray:
    n = len(x)
    between, interaction, within = decomposed(x)
    rest, freedom = (interaction, (n - 1) * (T - 1)) if design == "repeated" else (within, T * (n - 1))
    return between / (between + rest) if statistic == "effect" else between / (T - 1) / (rest / freedom)


@pytest.mark.parametrize("design", DESIGNS)
@pytest.mark.parametrize("statistic", ["effect", "F"])
@pytest.mark.parametrize("offset", [0, 1000])
def test_every_number_is_that_of_the_full_tensor(design: Any, statistic: Any, offset: float) -> None:
    x = (activations(30, T, 4, 3, 2) + np.float32(offset)).astype(np.float32)
    each, want = (Anova(design, statistic, "element"), wanted(x, design, statistic))
    np.testing.assert_allclose(each.compute(stream(each.tally, x)).value, want.reshape(-1), rtol=2e-5)
    layer = Anova(design, statistic)
    middle = np.mean if statistic == "effect" else np.median
    assert float(layer.compute(stream(layer.tally, x))) == pytest.approx(middle(want), rel=2e-5)
    if statistic == "effect":
        maps = Anova(design, statistic, "map")
        np.testing.assert_allclose(maps.compute(stream(maps.tally, x)).value, want.mean((1, 2)), rtol=2e-5)


def test_one_way_is_scipys() -> None:
    x, measure = activations(30, T, 8), Anova("one-way", "F", "element")
    found = measure.compute(stream(measure.tally, x))
    np.testing.assert_allclose(found.value, stats.f_oneway(*x.astype(np.float64).swapaxes(0, 1)).statistic, rtol=1e-5)
    assert found.measured_in == "F(4, 145) of 5 transformations, 30 samples"
    with pytest.raises(AssertionError):
        np.testing.assert_allclose(found.value, wanted(x, "repeated", "F"), rtol=1e-5)


def test_by_class_is_the_mean_of_classes() -> None:
    x, labels, measure = activations(30, T, 8), np.arange(30) % 3, Anova(by_class=True)
    found = measure.compute(stream(measure.tally, x, labels=labels))
    assert float(found) == pytest.approx(
        np.mean([wanted(x[labels == c], "repeated", "effect") for c in range(3)]), rel=1e-5
    )


def test_a_shift_all_samples_share_explains_everything_and_one_of_each_nothing() -> None:
    rng, measure = np.random.default_rng(0), Anova()
    shared = (rng.normal(size=(200, 1, 6)) + np.arange(T)[:, None]).astype(np.float32)
    own = rng.normal(size=(200, T, 6)).astype(np.float32)
    assert float(measure.compute(stream(measure.tally, shared))) == pytest.approx(1, abs=1e-6)
    assert float(measure.compute(stream(measure.tally, own))) == pytest.approx(0, abs=0.03)
    F = Anova(statistic="F")
    assert float(F.compute(stream(F.tally, own))) == pytest.approx(1, abs=0.7)
    still = measure.compute(stream(measure.tally, np.zeros((9, T, 3), np.float32)))
    assert np.isnan(float(still))
    assert "3 of 3 values never moved" in still.note


@pytest.mark.parametrize("design", DESIGNS)
def test_the_note_says_what_chance_would_read(design: Any) -> None:
    rng, measure = np.random.default_rng(0), Anova(design)
    found = measure.compute(stream(measure.tally, rng.normal(size=(20, T, 3000)).astype(np.float32)))
    said = float(found.note.split("would read ")[1].split(" ")[0])
    assert said == pytest.approx(float(found), rel=0.05)


def test_intervals_cover_what_many_samples_give() -> None:
    pattern = np.random.default_rng(0).normal(size=(T, 40))
    rng, measure = np.random.default_rng(3), Anova()

    def effect(n: int) -> Any:
        own = rng.gamma(2, 1, (n, 1, 1)) * rng.normal(size=(n, T, 40))
        x = rng.normal(size=(n, 1, 40)) + own + 2 * pattern
        return measure.compute(stream(measure.tally, x.astype(np.float32)))

    truth, found = float(effect(20_000)), [effect(100) for _ in range(100)]
    held = sum(r.low <= truth <= r.high for r in found)
    assert held >= 88, held  # binomial: 88 or fewer of 100 at 95 % has a chance of 0.3 %
    assert np.median([r.high - r.low for r in found]) < 3 * 3.92 * np.std([float(r) for r in found])


@pytest.mark.parametrize("design", DESIGNS)
def test_anova_obeys_the_law(design: Any) -> None:
    measure = Anova(design)
    check_measure(measure, chunks=random_chunks(measure.tally, 1, T=4))


def test_bad_settings_say_what_to_do() -> None:
    with pytest.raises(DataError, match="Anova: design is one of 'repeated', 'one-way'; got 'two-way'"):
        Anova("two-way")  # type: ignore[arg-type]
    with pytest.raises(DataError, match="F has no mean over a map"):
        Anova(statistic="F", level="map")
    with pytest.raises(EmptyTally, match="under one transformation only"):
        Anova().compute(stream(Anova().tally, activations(5, 1, 3)))

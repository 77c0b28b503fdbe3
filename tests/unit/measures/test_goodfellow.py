"""Local / global firing against the full tensor in float64: every rule and level, what is undefined, and intervals."""

from typing import Any

import numpy as np
import pytest

from layerscope import measures as ms
from layerscope._errors import DataError, EmptyTally
from layerscope._site import Activations, Samples
from layerscope.tallies import Firing
from layerscope.testing import check_measure, random_chunks
from tests.unit.measures.grids import SITE, activations, stream

T = 5


def reading(measure: ms.Goodfellow, x: np.ndarray, moved: np.ndarray, cuts: int = 3) -> Any:
    return measure.compute(tallied(measure, x, moved, cuts))


def tallied(measure: ms.Goodfellow, x: np.ndarray, moved: np.ndarray, cuts: int = 3) -> Firing:
    tally = measure.tally
    recipe = tally.first(len(x))
    first = recipe.init(SITE)
    for part in np.array_split(np.arange(len(x)), cuts):
        first = recipe.observe(first, Activations.of(x[part], unit=1), Samples(part.astype(np.int64)))
    return stream(tally, moved, cuts=cuts, value=tally.prepared(tally.init(SITE), first))


def oracle(measure: ms.Goodfellow, x: np.ndarray, moved: np.ndarray) -> np.ndarray:
    """The ratio of every value from the full tensors in float64; NaN where nothing fires."""
    x, moved = x.astype(np.float64), moved.astype(np.float64)
    if measure.rule == "gaussian":
        limit = x.mean(0) + measure.tally.z * x.std(0, ddof=1)
    else:
        ordered, k = np.sort(x, axis=0)[::-1], int(np.ceil(measure.alpha * len(x) - 1e-9))
        limit = (ordered[k - 1] + ordered[k]) / 2
    local, everywhere = (moved > limit).mean((0, 1)), (x > limit).mean(0)
    return np.where(everywhere > 0, local / np.where(everywhere > 0, everywhere, 1), np.nan)


def data(n: int, *shape: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Samples untransformed, and under T transformations of which the first leaves them as they are."""
    moved = activations(n, T, *shape, seed=seed)
    return np.ascontiguousarray(moved[:, 0]), moved


@pytest.mark.parametrize("rule", ["gaussian", "quantile"])
@pytest.mark.parametrize("alpha", [0.05, 0.2])
@pytest.mark.parametrize("shape", [(4, 3, 2), (9,)])
def test_every_number_is_that_of_the_full_tensor(rule: Any, alpha: float, shape: Any) -> None:
    x, moved = data(90, *shape)
    wanted = oracle(ms.Goodfellow(rule, alpha), x, moved)
    for level in ("layer", "map", "element"):
        found = reading(ms.Goodfellow(rule, alpha, level), x, moved)
        number = {
            "layer": np.nanmean(wanted),
            "map": np.nanmean(wanted.reshape(len(wanted), -1), axis=1),
            "element": wanted.reshape(-1),
        }[level]
        np.testing.assert_allclose(found.value, number, rtol=1e-12)
        assert (found.samples, found.observations) == (90, 90 * T)
        assert f"{T} transformations of 90 samples / firing over 90 untransformed" in found.measured_in
        assert f"{100 * alpha:g} %" in found.measured_in
        assert "pass over the untransformed data" in found.note
    with pytest.raises(AssertionError):
        np.testing.assert_allclose(found.value, oracle(ms.Goodfellow(rule, 0.1), x, moved).reshape(-1), rtol=1e-12)


def test_by_hand() -> None:
    """Ten samples, two of which exceed the third largest; under the transformations it is one in four."""
    x = np.arange(10, dtype=np.float32)[:, None]
    moved = np.stack([x, x - 1, x - 2, x - 100], axis=1)
    found = reading(ms.Goodfellow("quantile", 0.2), x, moved)
    assert float(found) == pytest.approx(((2 + 1 + 0 + 0) / 40) / (2 / 10))
    assert "exceeded by 20 %" in found.measured_in
    gauss = reading(ms.Goodfellow("gaussian", 0.2), x, moved)  # above 4.5 + 0.8416 · 3.0277 = 7.048
    assert float(gauss) == pytest.approx(((2 + 1 + 0 + 0) / 40) / (2 / 10))
    assert "mean + 0.842 sd, a normal distribution's 20 %" in gauss.measured_in


def test_an_invariant_layer_fires_as_often_as_without() -> None:
    x, _ = data(200, 8)
    still = np.repeat(x[:, None], T, axis=1)
    for rule in ("gaussian", "quantile"):
        assert float(reading(ms.Goodfellow(rule, 0.1), x, still)) == pytest.approx(1, rel=1e-12)
        assert float(reading(ms.Goodfellow(rule, 0.1), x, still - 1e3)) == 0


def test_values_that_never_fire_are_left_out_and_counted() -> None:
    x, moved = data(80, 6)
    x[:, 0], x[:, 1] = 0, np.nan
    x[3, 2] = np.inf
    found = reading(ms.Goodfellow(alpha=0.1), x, moved)
    assert float(found) == pytest.approx(np.nanmean(oracle(ms.Goodfellow(alpha=0.1), x[:, 3:], moved[:, :, 3:])))
    assert "1 of 6 values are never above their threshold in the untransformed data" in found.note
    assert "2 of 6 held NaN or infinite values there" in found.note
    moved[0, 1, 4] = np.nan
    assert "1 activations under transformations were NaN" in reading(ms.Goodfellow(alpha=0.1), x, moved).note
    silent = reading(ms.Goodfellow(), np.zeros((80, 6), np.float32), moved)
    assert np.isnan(float(silent))
    assert np.isnan(silent.low)
    assert "6 of 6 values are never above" in silent.note


def test_the_ratio_of_the_means_stands_beside() -> None:
    x, moved = data(80, 6)
    value = tallied(ms.Goodfellow(alpha=0.1), x, moved)
    local, everywhere = value.fired.sum() / (80 * T), value.plain.sum() / 80
    assert f"ratio of means {local / everywhere:.3g}" in ms.Goodfellow(alpha=0.1).compute(value).note


@pytest.mark.parametrize("rule", ["gaussian", "quantile"])
def test_it_obeys_the_laws(rule: Any) -> None:
    measure = ms.Goodfellow(rule, 0.1)
    chunks = random_chunks(measure.tally, T=T)
    check_measure(measure, chunks=chunks)
    check_measure(ms.Goodfellow(rule, 0.1, "element"), chunks=chunks)


@pytest.mark.parametrize(("rule", "alpha"), [("gaussian", 0.05), ("quantile", 0.05), ("quantile", 0.2)])
def test_intervals_cover_what_many_samples_give(rule: Any, alpha: float) -> None:
    """At least 88 of 100 intervals of 95 % hold the number of very many samples; hardly any is needlessly wide."""
    rng = np.random.default_rng(5)
    D, draws, n = 60, 100, 400
    pattern, mix = rng.random(D), rng.normal(size=(5, D))

    def draw(samples: int) -> tuple[np.ndarray, np.ndarray]:
        x = (rng.normal(size=(samples, 5)) @ mix + 0.5 * rng.normal(size=(samples, D))).astype(np.float32)
        moved = x[:, None] * (1 - 0.1 * np.arange(T)[:, None]) + pattern * rng.normal(size=(samples, T, D))
        return x, moved.astype(np.float32)

    measure = ms.Goodfellow(rule, alpha)
    truth = float(reading(measure, *draw(40_000), cuts=20))
    found = [reading(measure, *draw(n)) for _ in range(draws)]
    held = sum(r.low <= truth <= r.high for r in found)
    assert held >= 88, held
    actual = np.std([float(r) for r in found])
    widths = np.median([r.high - r.low for r in found])
    assert 0.6 * 3.92 * actual < widths < 3 * 3.92 * actual
    bias = np.mean([float(r) for r in found]) / truth - 1
    assert 0 < bias < 1 / (alpha * n)  # what the docstring says of it
    assert found[0].jackknife is not None
    assert found[0].jackknife.sizes.sum() == n


def test_no_interval_of_few_samples_or_of_arrays() -> None:
    assert np.isnan(reading(ms.Goodfellow("quantile", 0.2), *data(4, 9)).low)
    assert np.isnan(reading(ms.Goodfellow(level="map"), *data(60, 9)).low)


def test_few_samples_above_a_threshold_are_said() -> None:
    assert "thresholds rest on 0.9 samples above them" in reading(ms.Goodfellow(), *data(90, 9)).note
    assert "rest on" not in reading(ms.Goodfellow(alpha=0.1), *data(90, 9)).note


def test_too_little_is_said() -> None:
    measure = ms.Goodfellow()
    with pytest.raises(EmptyTally, match="no activation was observed yet"):
        measure.compute(measure.tally.init(SITE))
    with pytest.raises(EmptyTally, match="only one sample was seen"):
        reading(measure, *data(1, 3), cuts=1)
    x, moved = data(9, 3)
    with pytest.raises(EmptyTally, match="under one transformation only"):
        reading(measure, x, moved[:, :1])


@pytest.mark.parametrize(
    ("message", "make"),
    [
        ("rule='normal': choose", lambda: ms.Goodfellow("normal")),  # type: ignore[arg-type]
        ("alpha=1: give the share", lambda: ms.Goodfellow(alpha=1)),
        ("Goodfellow: level is one of 'layer', 'map', 'element'; got 'unit'", lambda: ms.Goodfellow(level="unit")),  # type: ignore[arg-type]
    ],
)
def test_bad_settings_say_what_to_do(message: str, make: Any) -> None:
    with pytest.raises(DataError, match=message):
        make()

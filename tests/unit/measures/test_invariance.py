"""Variances over transformations and samples: every level and flavour against the full tensor in float64, and the published rules."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from layerscope import measures as ms
from layerscope import transformations as ts
from layerscope._errors import DataError, EmptyTally
from layerscope.tallies import GridMoments
from layerscope.testing import check_measure, random_chunks
from layerscope.transformations import Alignment
from tests.unit.measures.grids import SITE, activations, spreads, stream

EXACT = 2e-6
T = 5
PLAIN = [ms.TransformationVariance, ms.SampleVariance, ms.NormalizedVariance]
MAPS = [ms.FeaturesVariance, ms.NormalizedFeaturesVariance]
ALIGNED = [ms.SameEquivariance, ms.NormalizedSameEquivariance]


def reading(measure: Any, x: np.ndarray, **how: Any) -> Any:
    return measure.compute(stream(measure.tally, x, **how))


def oracle(measure: Any, x: np.ndarray, labels: Any = None) -> np.ndarray:
    """The same from the full tensor, channels first, nothing dead."""
    if measure.by_class:
        plain = replace(measure, by_class=False)
        return np.mean([oracle(plain, x[labels == c]) for c in np.unique(labels)], axis=0)
    if measure.pool is not None and x.ndim > 3:
        x = getattr(np, measure.pool)(x.astype(np.float64), axis=tuple(range(3, x.ndim)))
    t, s = spreads(x, measure.flavour, measure.ddof)
    if measure.maps:
        t, s = (v.reshape(len(v), -1).mean(1) for v in (t, s))
    cells = s if isinstance(measure, ms.SampleVariance) else t / s if isinstance(measure, ms.AbstractRatio) else t
    if measure.level == "element":
        return cells.reshape(-1)
    if measure.level == "map":
        return cells.reshape(len(cells), -1).mean(1)
    if isinstance(measure, ms.AbstractRatio) and measure.aggregate == "ratio of means":
        return np.asarray(t.mean() / s.mean())
    return np.asarray(cells.mean())


def check_oracle(measure: Any, x: np.ndarray, labels: Any = None) -> None:
    found = reading(measure, x, labels=labels)
    np.testing.assert_allclose(found.value, oracle(measure, x, labels), rtol=EXACT)
    assert found.samples == len(x)
    assert found.observations == len(x) * x.shape[1]
    assert f"{x.shape[1]} transformations" in found.measured_in or f"{x.shape[1]} of them" in found.measured_in
    if isinstance(measure, ms.AbstractRatio | ms.SampleVariance | ms.TransformationVariance):
        assert f"{len(x)} samples" in found.measured_in


LEVELS = [
    (kind, level)
    for kind in (*PLAIN, *MAPS)
    for level in ("layer", "map", "element")
    if level != "element" or not kind.maps
]


@pytest.mark.parametrize(("kind", "level"), LEVELS)
@pytest.mark.parametrize("flavour", ["std", "variance"])
@pytest.mark.parametrize("shape", [(4, 3, 2), (9,)])
@pytest.mark.parametrize("by_class", [False, True])
def test_every_number_is_that_of_the_full_tensor(
    kind: Any, flavour: Any, level: Any, shape: Any, by_class: bool
) -> None:
    check_oracle(kind(flavour, level, by_class), activations(40, T, *shape), np.arange(40) % 3)


@pytest.mark.parametrize("measure", [
    ms.NormalizedVariance(aggregate="ratio of means"),
    ms.NormalizedVariance("variance", aggregate="ratio of means"),
    ms.NormalizedVariance(ddof=0),
    ms.TransformationVariance("variance", ddof=0),
    ms.NormalizedVariance(pool="mean"),
    ms.NormalizedVariance(pool="max", level="map"),
    ms.TransformationVariance(pool="sum"),
], ids=repr)  # fmt: skip
def test_every_setting_is_that_of_the_full_tensor(measure: Any) -> None:
    check_oracle(measure, activations(40, T, 4, 3, 2))


def test_the_check_rejects_other_numbers() -> None:
    x = activations(40, T, 4, 3, 2)
    wrong = [
        (ms.NormalizedVariance("variance"), ms.NormalizedVariance()),
        (ms.SampleVariance(), ms.TransformationVariance()),
        (ms.NormalizedVariance(aggregate="ratio of means"), ms.NormalizedVariance()),
        (ms.NormalizedVariance(ddof=0), ms.NormalizedVariance()),
    ]
    for measure, other in wrong:
        with pytest.raises(AssertionError):
            np.testing.assert_allclose(reading(measure, x).value, oracle(other, x), rtol=EXACT)
    with pytest.raises(AssertionError):  # the grid the other way round
        np.testing.assert_allclose(
            reading(ms.NormalizedVariance(), x).value, oracle(ms.NormalizedVariance(), x.swapaxes(0, 1)), rtol=EXACT
        )


@pytest.mark.parametrize("offset", [1e3, 1e5])
def test_a_mean_far_above_the_deviations_loses_nothing(offset: float) -> None:
    x = (activations(60, T, 7).astype(np.float64) + offset).astype(np.float32)
    for kind in PLAIN:
        for flavour in ("std", "variance"):
            check_oracle(kind(flavour), x)


@given(st.integers(0, 99), st.integers(1, 12), st.randoms())
@settings(max_examples=25)
def test_blocks_order_and_shards_change_nothing(seed: int, cuts: int, rnd: Any) -> None:
    measure, x = ms.NormalizedVariance(), activations(30, T, 6, seed=seed)
    whole = reading(measure, x)
    order = list(range(30))
    rnd.shuffle(order)
    ids = np.arange(30)
    parts = [np.array(order[k::3]) for k in range(3)]
    value = measure.tally.init(SITE)
    for part in parts:
        value = measure.tally.merge(value, stream(measure.tally, x[part], cuts=cuts, ids=ids[part]))
    found = measure.compute(value)
    assert float(found) == pytest.approx(float(whole), rel=EXACT)
    assert found.low == pytest.approx(whole.low, rel=1e-5)


@pytest.mark.parametrize("kind", [*PLAIN, *MAPS], ids=lambda k: k.__name__)
def test_a_second_call_gives_the_same(kind: Any) -> None:
    """The original left its data set transposed and gave the reciprocal."""
    measure, x = kind(), activations(20, T, 4, 3, 2)
    value = stream(measure.tally, x)
    one, two = measure.compute(value), measure.compute(value)
    assert (one.value, one.low, one.high, one.note) == (two.value, two.low, two.high, two.note)


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("measure", [k(f) for k in (*PLAIN, *MAPS) for f in ("std", "variance")], ids=repr)
def test_measures_obey_the_law(measure: Any, seed: int) -> None:
    check_measure(measure, seed, chunks=random_chunks(measure.tally, seed, T=4))


# --- what cannot be divided (the rules of both libraries: tests/golden/test_library_rules.py) -----------------------------------------


def test_what_cannot_be_divided_follows_the_policy_and_is_counted() -> None:
    """Left out; or as in tmeasures, 0 / 0 for 1 and x / 0 for infinite."""
    x = activations(30, T, 6)
    x[:, :, 0] = 0  # dead
    x[:, :, 1] = 7  # constant
    x[:, :, 2] = np.arange(T)  # moved by the transformation only
    x[:, :, 3] = x[:, :1, 3]  # invariant
    value = stream(GridMoments(), x)
    t, s = spreads(x, "std")
    rule = ms.NormalizedVariance(undefined="inf", level="element").compute(value)
    np.testing.assert_allclose(rule.value, [1, 1, np.inf, 0, t[4] / s[4], t[5] / s[5]], rtol=EXACT, atol=1e-9)
    one = ms.NormalizedVariance(undefined="one").compute(value)
    assert float(one) == pytest.approx(np.mean([1, 1, 0, t[4] / s[4], t[5] / s[5]]), rel=EXACT)
    ours = ms.NormalizedVariance().compute(value)
    assert float(ours) == pytest.approx(np.mean([0, t[4] / s[4], t[5] / s[5]]), rel=EXACT)
    assert "1 dead, 1 constant, 1 moved by the transformation only of 6" in ours.note
    assert f"ratio of means {t.mean() / s.mean():.3g}" in ours.note
    assert float(ms.NormalizedVariance(undefined="inf").compute(value)) == np.inf
    assert np.isnan(np.asarray(ms.NormalizedVariance(level="element").compute(value))[:3]).all()


def test_rounding_is_no_movement() -> None:
    """A constant unit that a forward computes to 7 digits has no ratio, and no unit may drown the others."""
    x = activations(50, T, 8)
    x[:, :, 0] = 1 + 1e-7 * np.random.default_rng(0).normal(size=x.shape[:2])
    found = reading(ms.NormalizedVariance(), x)
    assert "1 constant of 8" in found.note
    assert float(found) == pytest.approx(oracle(ms.NormalizedVariance(), x[:, :, 1:]).item(), rel=EXACT)
    assert "constant" not in reading(ms.NormalizedVariance(floor=0), x).note


def test_nothing_that_is_no_number_spreads() -> None:
    x = activations(20, T, 5)
    x[3, 2, 1] = np.nan
    found = reading(ms.NormalizedVariance(), x)
    assert "1 of 5 values held NaN or infinite activations" in found.note
    assert float(found) == pytest.approx(oracle(ms.NormalizedVariance(), np.delete(x, 1, axis=2)).item(), rel=EXACT)


@pytest.mark.parametrize(
    "kind", [ms.TransformationVariance, ms.SampleVariance, ms.FeaturesVariance, ms.NormalizedFeaturesVariance]
)
def test_what_is_left_out_as_no_number_is_counted(kind: Any) -> None:
    x = activations(20, T, 5)
    assert "NaN" not in reading(kind(), x).note
    x[3, 2, 1] = np.nan
    assert "1 of 5 values held NaN or infinite activations" in reading(kind(), x).note


def test_a_class_without_a_number_is_none_of_those_averaged() -> None:
    x, labels = activations(21, T, 5), np.arange(21) % 3
    x[0] = np.nan
    found = reading(ms.TransformationVariance(by_class=True), x, labels=labels)
    assert (
        "5 of 15 values held NaN or infinite activations; mean over 2 classes, 1 without a number left out"
        in found.note
    )
    others = labels != 0
    assert float(found) == float(reading(ms.TransformationVariance(by_class=True), x[others], labels=labels[others]))
    assert "5 of 15 values never moved or are no numbers" in reading(ms.Anova(by_class=True), x, labels=labels).note


def test_a_dead_layer_says_so() -> None:
    found = reading(ms.NormalizedVariance(), np.zeros((10, T, 3), np.float32))
    assert np.isnan(float(found))
    assert "3 dead of 3" in found.note


def test_an_invariant_layer_is_zero_and_noise_is_one() -> None:
    x = activations(400, T, 50)
    same = np.broadcast_to(x[:, :1], x.shape).copy()
    assert float(reading(ms.NormalizedVariance(), same)) == 0
    noise = np.random.default_rng(0).normal(size=(400, 16, 50)).astype(np.float32)
    assert float(reading(ms.NormalizedVariance("variance"), noise)) == pytest.approx(1, abs=0.02)


def test_the_variance_is_half_the_mean_squared_distance() -> None:
    x = activations(20, T, 7).astype(np.float64)
    pairs = [((x[:, j] - x[:, k]) ** 2).mean() for j in range(T) for k in range(j)]
    assert float(reading(ms.TransformationVariance("variance"), x)) == pytest.approx(np.mean(pairs) / 2, rel=EXACT)


# --- same-equivariance --------------------------------------------------------------------------------------------------------------


def moved(grid: ts.Transformations, images: np.ndarray) -> np.ndarray:
    """Images (samples, C, H, W) under every transformation, (samples, T, C, H, W)."""
    return np.asarray(grid(images)).reshape(len(images), len(grid), *images.shape[1:])


@pytest.mark.parametrize("kind", ALIGNED)
def test_aligned_numbers_are_those_of_what_was_taken_back(kind: Any) -> None:
    grid, x = ts.rotations(T), activations(25, T, 3, 8, 8)
    to = Alignment(grid, 8, 8)
    back = np.asarray(to.align(x.reshape(-1, 3, 8, 8), 1)).reshape(x.shape)
    good = to.supported((1, 3, 8, 8), 1)
    t, s = spreads(back, "std")
    wanted = (t[good] / s[good]).mean() if kind is ms.NormalizedSameEquivariance else t[good].mean()
    found = reading(kind(), x, grid=to)
    assert float(found) == pytest.approx(wanted, rel=EXACT)
    assert f"{(~good).sum()} of {good.size} values lie outside the map" in found.note


def test_a_layer_that_turns_with_its_input_is_equivariant() -> None:
    images = np.random.default_rng(0).random((20, 3, 12, 12)).astype(np.float32)
    for grid in (ts.quarter_turns(), ts.Transformations(tuple(ts.Roll(i, 2 * i) for i in range(4)))):
        found = reading(ms.NormalizedSameEquivariance(), moved(grid, images), grid=Alignment(grid, 12, 12))
        assert float(found) == 0
        assert float(reading(ms.NormalizedVariance(), moved(grid, images))) > 0.5


def test_the_interpolation_floor_is_not_zero() -> None:
    """An identity network under bilinear rotations scores what resampling alone does: smooth images little, noise much."""
    grid = ts.rotations(12)
    noise = np.random.default_rng(0).random((20, 1, 24, 24)).astype(np.float32)
    smooth = np.random.default_rng(0).normal(size=(20, 1, 24, 24))
    frequency = np.hypot(*np.meshgrid(np.fft.fftfreq(24), np.fft.fftfreq(24)))
    smooth = np.fft.ifft2(np.fft.fft2(smooth) * np.exp(-((frequency / 0.06) ** 2))).real.astype(np.float32)
    to = Alignment(grid, 24, 24)
    floors = [float(reading(ms.NormalizedSameEquivariance(), moved(grid, x), grid=to)) for x in (noise, smooth)]
    assert 0.25 < floors[0] < 0.6
    assert 0 < floors[1] < 0.1


def test_without_space_it_is_skipped_and_listed() -> None:
    value = stream(ms.SameEquivariance().tally, activations(10, T, 7), grid=Alignment(ts.rotations(T), 8, 8))
    with pytest.raises(EmptyTally, match="not measured: the layer has no space"):
        ms.SameEquivariance().compute(value)


# --- intervals ----------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "measure",
    [
        ms.NormalizedVariance(),
        ms.NormalizedVariance("variance", aggregate="ratio of means"),
        ms.TransformationVariance(),
    ],
    ids=repr,
)
def test_intervals_cover_what_many_samples_give(measure: Any) -> None:
    """At least 90 of 100 intervals of 95 % hold the number of very many samples; hardly any is needlessly wide."""
    rng = np.random.default_rng(5)
    D, draws, n = 60, 100, 80
    pattern, mix = rng.random(D), rng.normal(size=(5, D))

    def draw(samples: int) -> np.ndarray:
        x = rng.normal(size=(samples, 1, 5)) @ mix  # units of a layer depend on each other
        return np.maximum(
            x + pattern * rng.gamma(2, 1, size=(samples, 1, 1)) * rng.normal(size=(samples, T, D)), 0
        ).astype(np.float32)

    truth = float(reading(measure, draw(40_000), cuts=40))
    found = [reading(measure, draw(n)) for _ in range(draws)]
    held = sum(r.low <= truth <= r.high for r in found)
    assert held >= 88, held  # binomial: 88 or fewer of 100 at 95 % has a chance of 0.3 %
    actual = np.std([float(r) for r in found])
    assert np.median([r.high - r.low for r in found]) < 3 * 3.92 * actual
    assert np.median([r.high - r.low for r in found]) > 0.6 * 3.92 * actual


def test_no_interval_of_few_samples_or_of_arrays() -> None:
    assert np.isnan(reading(ms.NormalizedVariance(), activations(3, T, 9)).low)
    assert np.isnan(reading(ms.NormalizedVariance(level="map"), activations(30, T, 9)).low)


def test_no_interval_where_a_few_quiet_values_carry_the_mean() -> None:
    """Values that hardly move from sample to sample have huge ratios; those kept by group have none of them and cannot speak for the mean."""
    rng = np.random.default_rng(3)
    x = (rng.normal(size=(160, 1, 400)) + rng.normal(size=(160, T, 400))).astype(np.float32)
    kept = stream(ms.NormalizedVariance().tally, x).groups.picked
    quiet = [k for k in range(400) if k not in kept][:8]
    x[:, :, quiet] = 5 * rng.normal(size=(1, T, 8)) + 0.02 * rng.normal(size=(160, 1, 8))
    carried = reading(ms.NormalizedVariance(), x)
    assert float(carried) > 2
    assert np.isnan(carried.low)
    assert carried.jackknife is None
    assert "do not stand for the layer" in carried.note
    level = reading(ms.NormalizedVariance(aggregate="ratio of means"), np.delete(x, quiet, axis=2))
    assert level.low < float(level) < level.high
    assert "stand for" not in level.note


# --- bad input ----------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [*PLAIN, *MAPS], ids=lambda k: k.__name__)
def test_too_little_is_said(kind: Any) -> None:
    with pytest.raises(EmptyTally, match="no activation was observed yet"):
        kind().compute(kind().tally.init(SITE))
    with pytest.raises(EmptyTally, match="only one sample was seen"):
        reading(kind(), activations(1, T, 3))
    with pytest.raises(EmptyTally, match="under one transformation only"):
        reading(kind(), activations(9, 1, 3))
    with pytest.raises(EmptyTally, match="no class has two samples"):
        reading(kind(by_class=True), activations(4, T, 3), labels=np.arange(4))
    alone = reading(kind(by_class=True), activations(5, T, 3), labels=np.array([0, 0, 1, 1, 2]))
    assert "mean over 2 classes, 1 with a single sample left out" in alone.note


@pytest.mark.parametrize(
    ("message", "make"),
    [
        ("flavour='sd': choose 'std'", lambda: ms.NormalizedVariance("sd")),  # type: ignore[arg-type]
        ("NormalizedVariance: level is one of 'layer', 'map', 'element'; got 'unit'", lambda: ms.NormalizedVariance(level="unit")),  # type: ignore[arg-type]
        ("aggregate is one of 'mean of ratios', 'ratio of means'", lambda: ms.NormalizedVariance(aggregate="mean")),  # type: ignore[arg-type]
        ("undefined is one of 'nan', 'one', 'inf'", lambda: ms.NormalizedVariance(undefined="zero")),  # type: ignore[arg-type]
        ("floor is a share of a cell's size", lambda: ms.NormalizedVariance(floor=1)),
        ("ddof is 0 or 1, got 2", lambda: ms.TransformationVariance(ddof=2)),
        ("it has one number a feature map", lambda: ms.FeaturesVariance(level="element")),
    ],
)  # fmt: skip
def test_bad_settings_say_what_to_do(message: str, make: Any) -> None:
    with pytest.raises(DataError, match=message):
        make()

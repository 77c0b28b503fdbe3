"""Centred kernel alignment: kernels written out in float64, and what is known in closed form."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from layerscope import measures as ms
from layerscope._errors import DataError, EmptyTally, FileFormatError, MergeError, ShapeError
from layerscope._site import Activations, Axes, Chunk, Samples
from layerscope.measures import CKA
from layerscope.measures._cka import Sums, alignments
from layerscope.tallies import GridCovariances
from layerscope.testing import check_measure, check_tally, random_chunks
from tests.unit.measures.grids import SITE, activations, stream

T = 5
EXACT = 2e-6


def reading(measure: Any, x: np.ndarray, **how: Any) -> Any:
    return measure.compute(stream(measure.tally, x, **how))


def kernel(x: np.ndarray) -> np.ndarray:
    exact = x.astype(np.float64)
    return exact @ exact.T


def plain(x: np.ndarray, y: np.ndarray) -> float:
    """Kornblith et al. 2019: HSIC of centred kernels."""
    centre = np.eye(len(x)) - 1 / len(x)
    K, L = (centre @ kernel(z - z.mean(0)) @ centre for z in (x.astype(np.float64), y.astype(np.float64)))
    return (K * L).sum() / np.sqrt((K * K).sum() * (L * L).sum())


def song(x: np.ndarray, y: np.ndarray) -> float:
    """Song et al. 2012, equation 5: the unbiased HSIC, with kernels whose diagonals are 0."""
    n = len(x)
    K, L = (kernel(z) for z in (x, y))
    np.fill_diagonal(K, 0)
    np.fill_diagonal(L, 0)
    one = np.ones(n)
    sums = np.trace(K @ L) + (one @ K @ one) * (one @ L @ one) / ((n - 1) * (n - 2)) - 2 / (n - 2) * (one @ K @ L @ one)
    return sums / (n * (n - 3))


def unbiased(x: np.ndarray, y: np.ndarray) -> float:
    return song(x, y) / np.sqrt(song(x, x) * song(y, y))


def oracle(measure: CKA, x: np.ndarray) -> np.ndarray:
    maps = x.astype(np.float64).reshape(*x.shape[:3], -1).mean(3)
    origin = maps[:, measure.against]
    centred = [
        m - maps.mean((0, 1)) for m in (origin, *maps.swapaxes(0, 1))
    ]  # kernels of uncentred answers lose digits
    return np.array([(unbiased if measure.debiased else plain)(centred[0], y) for y in centred[1:]])


@pytest.mark.parametrize("debiased", [True, False])
@pytest.mark.parametrize("shape", [(6,), (4, 3, 2)])
@pytest.mark.parametrize("offset", [0, 1000])
@pytest.mark.parametrize("against", [0, 2])
def test_every_number_is_that_of_the_kernels(debiased: bool, shape: Any, offset: float, against: int) -> None:
    x = activations(30, T, *shape)
    x = (x / x.std() + offset).astype(np.float32)
    measure = CKA(against, "transformation", debiased)
    wanted = oracle(measure, x)
    np.testing.assert_allclose(reading(measure, x, cuts=4).value, wanted, rtol=EXACT)
    layer = reading(replace(measure, level="layer"), x)
    assert float(layer) == pytest.approx(np.delete(wanted, against).mean(), rel=EXACT)
    assert layer.measured_in.endswith(
        f"CKA with transformation {against}, of 5 transformations, 30 samples, {x.shape[2]} units"
    )
    with pytest.raises(AssertionError):
        np.testing.assert_allclose(reading(replace(measure, debiased=not debiased), x).value, wanted, rtol=1e-3)


def of_two(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Answers to samples and to their transformed versions as a grid of T = 2."""
    return np.stack([x, y], axis=1).astype(np.float32)


def test_a_rotation_and_a_scale_of_the_answers_change_nothing() -> None:
    rng = np.random.default_rng(0)
    x, (turn, _) = rng.normal(size=(40, 12)), np.linalg.qr(rng.normal(size=(12, 12)))
    for debiased in (True, False):
        measure = CKA(debiased=debiased)
        assert float(reading(measure, of_two(x, 3 * x @ turn + 7))) == pytest.approx(1, abs=EXACT)
        assert float(reading(measure, of_two(x, x @ np.diag(np.arange(12.0))))) < 0.95


def test_answers_of_no_relation_read_zero_or_what_is_said() -> None:
    """With 40 samples of 64 units the plain form reads 0.6 of nothing, and its note says so."""
    rng = np.random.default_rng(0)
    draws = [of_two(rng.normal(size=(40, 64)), rng.normal(size=(40, 64))) for _ in range(60)]
    fair = [float(reading(CKA(), x)) for x in draws]
    assert np.mean(fair) == pytest.approx(0, abs=4 * np.std(fair) / np.sqrt(60))
    biased = [reading(CKA(debiased=False), x) for x in draws]
    assert np.mean([float(r) for r in biased]) > 0.5
    said = float(biased[0].note.split("would read ")[1].split(" ")[0])
    assert said == pytest.approx(np.mean([float(r) for r in biased]), rel=0.05)


def test_what_chance_would_read_is_the_mean_over_permutations() -> None:
    rng = np.random.default_rng(1)
    x, y = rng.normal(size=(30, 6)), rng.normal(size=(30, 6)) ** 3
    note = reading(CKA(debiased=False), of_two(x, y)).note
    shuffled = [plain(x, y[rng.permutation(30)]) for _ in range(2000)]
    assert float(note.split("would read ")[1].split(" ")[0]) == pytest.approx(np.mean(shuffled), rel=0.02)


@pytest.mark.parametrize("debiased", [True, False])
def test_leaving_out_a_sample_is_exact(debiased: bool) -> None:
    x, measure = activations(25, T, 6), CKA(debiased=debiased)
    value = stream(measure.tally, x)
    found = alignments(Sums.without(value, 0), 24, 0, debiased)
    order = np.argsort(Samples(np.arange(25)).keys)
    for k in (0, 7, 24):
        wanted = oracle(replace(measure, level="transformation"), np.delete(x, order[k], axis=0))
        np.testing.assert_allclose(found[k], wanted, rtol=1e-9)


@pytest.mark.parametrize("n", [60, 300, 700])
def test_intervals_cover_what_many_samples_give(n: int) -> None:
    rng, mix = np.random.default_rng(3), np.random.default_rng(0).normal(size=(8, 20))

    def draw(samples: int) -> np.ndarray:
        kind = rng.normal(size=(samples, 1, 8)) + 0.7 * rng.gamma(2, 0.5, (samples, 1, 1)) * rng.normal(
            size=(samples, 3, 8)
        )
        return np.maximum(kind @ mix, 0).astype(np.float32)

    truth = float(reading(CKA(), draw(40_000)))
    found = [reading(CKA(), draw(n)) for _ in range(100)]
    held = sum(r.low <= truth <= r.high for r in found)
    assert held >= 88, held  # binomial: 88 or fewer of 100 at 95 % has a chance of 0.3 %
    assert np.median([r.high - r.low for r in found]) < 1.6 * 3.92 * np.std([float(r) for r in found])


def test_differences_are_paired() -> None:
    x = activations(80, T, 8)
    a, b = reading(CKA(), x), reading(CKA(), x + 0.1 * x[..., ::-1])
    apart = ms.difference(a, b)
    assert apart.high - apart.low < 0.7 * (a.high - a.low)


def test_it_obeys_the_laws() -> None:
    for seed in range(3):
        check_tally(GridCovariances(), seed, chunks=random_chunks(GridCovariances(), seed, T=4))
        check_measure(CKA(), seed, chunks=random_chunks(GridCovariances(), seed, T=4))
        check_measure(CKA(2, debiased=False), seed, chunks=random_chunks(GridCovariances(2), seed, T=4))


def test_order_and_shards_change_nothing() -> None:
    measure, x = CKA(), activations(300, T, 6)
    whole, rng = reading(measure, x, cuts=1), np.random.default_rng(0)
    order = rng.permutation(300)
    value = measure.tally.init(SITE)
    for part in np.array_split(order, 4):
        value = measure.tally.merge(value, stream(measure.tally, x[part], cuts=3, ids=part))
    found = measure.compute(value)
    assert float(found) == pytest.approx(float(whole), rel=1e-12)
    assert found.low == pytest.approx(whole.low, rel=1e-9)


def test_masked_positions_take_no_part() -> None:
    x, mask = activations(30, T, 4, 6), np.arange(6) < 4
    x[..., 4:] = 1e6
    flat = x.reshape(-1, 4, 6)
    every = np.broadcast_to(mask, (len(flat), 6))
    a = Activations(flat, Axes(1), np, mask=every, host=flat)
    samples = Samples(np.arange(30), mask=np.broadcast_to(mask, (30, T, 6)), transformations=T)
    tally = GridCovariances()
    found = CKA().compute(tally.observe(tally.init(SITE), a, samples))
    assert float(found) == pytest.approx(float(reading(CKA(), x[..., :4])), rel=EXACT)


def test_a_layer_that_does_not_move_has_no_number() -> None:
    x = activations(30, T, 6)
    x[:, 2] = 1
    found = reading(CKA(level="transformation"), x)
    assert np.isnan(found.value).tolist() == [False, False, True, False, False]
    assert "do not move" in found.note
    x[3, 1, 2] = np.inf
    assert "NaN or infinite values" in reading(CKA(), x).note


def test_its_memory_is_known_beforehand() -> None:
    tally, shape = GridCovariances(), (3, 6, 2)
    value = stream(tally, activations(600, T, *shape), unit=2)
    assert tally.nbytes(value) == tally.expected_nbytes(shape, 1, T)
    wide = GridCovariances(widest=5)
    assert wide.nbytes(stream(wide, activations(9, T, 6))) == wide.expected_nbytes((6,), 0, T) == 0


def test_bad_input_says_what_to_do() -> None:
    x = activations(8, T, 6)
    with pytest.raises(DataError, match="transformations are numbered 0 to 4"):
        reading(CKA(against=5), x)
    with pytest.raises(DataError, match="CKA: level is one of"):
        CKA(level="map")  # type: ignore[arg-type]
    with pytest.raises(EmptyTally, match="3 samples were seen"):
        reading(CKA(), x[:3])
    wide = r"not measured: its 6 units are more than 5, and the products of every two under 5 transformations take 0 MiB; CKA\(widest=6\)"
    with pytest.raises(EmptyTally, match=wide):
        reading(CKA(widest=5), x)
    tally = GridCovariances()
    read = tally.read(Activations.of(x[0]))
    with pytest.raises(ShapeError, match="8 samples × 5 transformations need 40 rows, 5 arrived"):
        tally.add(tally.init(SITE), Chunk(read, Samples(np.arange(8), transformations=T), (), 6))
    value = stream(tally, x)
    with pytest.raises(ShapeError, match="5 transformations of 6 units so far, 5 of 7"):
        stream(tally, activations(8, T, 7), value=value)
    with pytest.raises(MergeError, match="5 transformations of 6 units at 'layer', then 3 of 6"):
        tally.merge(value, stream(tally, activations(8, 3, 6)))
    arrays = dict(tally.to_arrays(value))
    with pytest.raises(FileFormatError, match="do not fit each other"):
        tally.from_arrays(SITE, {**arrays, "keys": arrays["keys"][1:]})
    with pytest.raises(FileFormatError, match="covariances need arrays"):
        tally.from_arrays(SITE, {"mean": arrays["mean"]})

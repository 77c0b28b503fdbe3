"""Distances between transformed versions of a sample: every pair from the full tensor in float64."""

from typing import Any

import numpy as np
import pytest

from layerscope import transformations as ts
from layerscope._errors import DataError, EmptyTally, FileFormatError, MergeError, ShapeError
from layerscope._site import Activations, Chunk, Samples
from layerscope.measures import Distance, TransformationVariance
from layerscope.tallies import GridDistances
from layerscope.testing import check_measure, check_tally, random_chunks
from layerscope.transformations import Alignment
from tests.unit.measures.grids import SITE, activations, stream

T = 5
KINDS: list[Any] = ["squared", "distance", "cosine"]


def matrix(x: np.ndarray, kind: str) -> np.ndarray:
    """(T, T), the mean over samples."""
    v = x.astype(np.float64).reshape(len(x), x.shape[1], -1)
    if kind == "cosine":
        unit = v / np.linalg.norm(v, axis=2, keepdims=True)
        return (unit @ unit.swapaxes(1, 2)).mean(0)
    apart = np.linalg.norm(v[:, :, None] - v[:, None], axis=3) / np.sqrt(v.shape[2])
    return (apart**2 if kind == "squared" else apart).mean(0)


def reading(measure: Any, x: np.ndarray, **how: Any) -> Any:
    return measure.compute(stream(measure.tally, x, **how))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("offset", [0, 1000])
def test_every_number_is_that_of_the_full_tensor(kind: Any, offset: float) -> None:
    x = (activations(30, T, 4, 3, 2) + np.float32(offset)).astype(np.float32)
    want = matrix(x, kind)
    pairs = want[np.triu_indices(T, 1)].mean()
    assert float(reading(Distance(kind), x)) == pytest.approx(pairs, rel=1e-6)
    np.testing.assert_allclose(
        reading(Distance(kind, against=2, level="transformation"), x).value, want[2], rtol=1e-6, atol=1e-12
    )
    assert float(reading(Distance(kind, against=2), x)) == pytest.approx(np.delete(want[2], 2).mean(), rel=1e-6)
    each = (want.sum(1) - np.diag(want)) / (T - 1)
    np.testing.assert_allclose(reading(Distance(kind, level="transformation"), x).value, each, rtol=1e-6)
    if offset:
        return
    with pytest.raises(AssertionError):
        np.testing.assert_allclose(
            reading(Distance(kind, against=1, level="transformation"), x).value, want[2], rtol=1e-6, atol=1e-12
        )


def test_the_squared_distance_is_twice_the_variance() -> None:
    x = activations(30, T, 4, 3)
    variance = float(reading(TransformationVariance("variance"), x))
    assert float(reading(Distance("squared"), x)) == pytest.approx(2 * variance, rel=2e-6)


def test_zeros_have_their_cosine() -> None:
    x = activations(8, T, 6)
    x[:, 0], x[:, 1] = 0, 0
    found = reading(Distance("cosine", against=0, level="transformation"), x).value
    assert found[1] == 1
    assert np.isnan(found[2:]).all()


def test_taken_back_first() -> None:
    images = np.random.default_rng(0).random((12, 3, 8, 8)).astype(np.float32)
    grid = ts.quarter_turns()
    x = np.asarray(grid(images)).reshape(12, 4, 3, 8, 8)
    assert float(reading(Distance(aligned=True), x, grid=Alignment(grid, 8, 8))) == 0
    assert float(reading(Distance(), x)) > 0.1
    turns = ts.rotations(6)
    x, to = np.asarray(turns(images)).reshape(12, 6, 3, 8, 8), Alignment(turns, 8, 8)
    back = np.asarray(to.align(x.reshape(-1, 3, 8, 8), 1)).reshape(x.shape)[:, :, to.supported((1, 3, 8, 8), 1)]
    assert float(reading(Distance(aligned=True), x, grid=to)) == pytest.approx(
        matrix(back, "distance")[np.triu_indices(6, 1)].mean(), rel=1e-6
    )
    with pytest.raises(EmptyTally, match="no space"):
        reading(Distance(aligned=True), activations(9, 6, 7), grid=to)
    with pytest.raises(DataError, match="nothing was transformed"):
        reading(Distance(aligned=True), x)


@pytest.mark.parametrize("kind", KINDS)
def test_distances_obey_the_laws(kind: Any) -> None:
    for seed in range(3):
        check_tally(GridDistances(), seed, chunks=random_chunks(GridDistances(), seed, T=4))
    check_measure(Distance(kind), chunks=random_chunks(GridDistances(), 1, T=4))


def test_intervals_cover_what_many_samples_give() -> None:
    rng, pattern = np.random.default_rng(3), np.random.default_rng(0).random(20)

    def draw(n: int) -> np.ndarray:
        return (
            rng.normal(size=(n, 1, 20)) + pattern * rng.gamma(2, 1, (n, 1, 1)) * rng.normal(size=(n, T, 20))
        ).astype(np.float32)

    truth = float(reading(Distance(), draw(20_000)))
    found = [reading(Distance(), draw(80)) for _ in range(100)]
    assert sum(r.low <= truth <= r.high for r in found) >= 88
    assert np.median([r.high - r.low for r in found]) < 1.6 * 3.92 * np.std([float(r) for r in found])


def test_bad_input_says_what_to_do() -> None:
    x = activations(8, T, 6)
    with pytest.raises(DataError, match="transformations are numbered 0 to 4"):
        reading(Distance(against=5), x)
    with pytest.raises(DataError, match="Distance: metric is one of"):
        Distance("l1")  # type: ignore[arg-type]
    read = GridDistances().read(Activations.of(x[0]))
    with pytest.raises(ShapeError, match="8 samples × 5 transformations need 40 rows, 5 arrived"):
        GridDistances().add(GridDistances().init(SITE), Chunk(read, Samples(np.arange(8), transformations=T), (), 6))
    value = stream(GridDistances(), x)
    with pytest.raises(ShapeError, match="5 transformations of 6 values so far, 5 of 7"):
        stream(GridDistances(), activations(8, T, 7), value=value)
    with pytest.raises(MergeError, match="distances under 5 transformations"):
        GridDistances().merge(value, stream(GridDistances(), activations(8, 3, 6)))
    arrays = dict(GridDistances().to_arrays(value))
    with pytest.raises(FileFormatError, match="do not fit each other"):
        GridDistances().from_arrays(SITE, {**arrays, "count": arrays["count"][1:]})
    with pytest.raises(FileFormatError, match="distances need sums"):
        GridDistances().from_arrays(SITE, {"count": arrays["count"]})


def test_no_number_says_why() -> None:
    x = activations(20, 3, 5)
    assert not reading(Distance(), x).note
    x[3, 2, 1] = np.nan
    found = reading(Distance(), x)
    assert np.isnan(found.value)
    assert found.note == "NaN or infinite values"

"""A memory of patterns: it finds what it stored, says how, and completes real digits better than their nearest neighbour."""

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from layerscope import energy
from layerscope._errors import DataError, ShapeError
from tests.conftest import require
from tests.unit.energy.autodiff import ALL, FRAMEWORKS, array, double, host


@pytest.fixture(scope="module")
def digits() -> tuple[NDArray[Any], NDArray[Any]]:
    """1000 digits to store and 200 others, pixels within ±1."""
    require("sklearn")
    from sklearn.datasets import load_digits

    images = load_digits().images / 8 - 1  # type: ignore[attr-defined]
    order = np.random.default_rng(0).permutation(len(images))
    return images[order[:1000]], images[order[1000:1200]]


TOP = np.arange(64).reshape(8, 8) < 32


def test_what_was_stored_is_found(digits: Any) -> None:
    stored, _ = digits
    memory = energy.memory(stored)
    found = memory.retrieve(stored)
    assert (found.nearest == np.arange(1000)).mean() >= 0.95
    assert (found.baseline_nearest == np.arange(1000)).all()
    assert found.regime.count("single") > 900
    assert found.states.shape == stored.shape
    assert (found.overlap > 0.9).mean() > 0.95
    assert "centred at their mean and divided by" in repr(memory)
    assert "beta = " in found.normalised
    assert "(chosen)" in found.normalised


def test_unseen_digits_are_completed_better_than_by_nearest_neighbour(digits: Any) -> None:
    stored, unseen = digits
    hidden = np.where(TOP, unseen, np.nan)  # what is not known need not even be a number
    found = energy.memory(stored).retrieve(hidden, clamp=TOP)
    error, neighbour = (((made - unseen)[:, ~TOP] ** 2).mean() for made in (found.states, found.baseline))
    assert error < 0.2 < 0.22 < neighbour < 0.24
    np.testing.assert_array_equal(found.states[:, TOP], unseen[:, TOP])
    distances = ((stored[None] - unseen[:20, None])[:, :, TOP] ** 2).sum(-1)
    np.testing.assert_array_equal(found.baseline_nearest[:20], distances.argmin(1))


def test_each_number_by_hand() -> None:
    """Three patterns on a line, one query: weights, distances and energy from the definitions."""
    patterns, query, beta = np.array([[0.0, 0], [2.0, 0], [10.0, 0]]), np.array([0.5, 0.0]), 3.0
    memory = energy.memory(patterns, beta)
    centre = patterns.mean(0)
    scale = np.sqrt(((patterns - centre) ** 2).sum(1).mean())
    np.testing.assert_allclose(memory.centre, centre)
    assert memory.scale == pytest.approx(scale)
    one = memory.retrieve(query, most=1)
    far = ((query - patterns) ** 2).sum(1) / scale**2
    weights = np.exp(-beta / 2 * far) / np.exp(-beta / 2 * far).sum()
    np.testing.assert_allclose(one.states[0], weights @ patterns, rtol=1e-12)
    state = one.states[0]
    distances = np.linalg.norm(state - patterns, axis=1)
    assert one.nearest[0] == distances.argmin()
    assert one.margin[0] == pytest.approx(np.sort(distances)[1] - distances.min(), rel=1e-9)
    expected = -np.log(np.exp(-beta / 2 * (distances / scale) ** 2).sum()) / beta
    assert one.energy[0] == pytest.approx(expected, rel=1e-12)
    near = patterns[one.nearest[0]] - centre
    cosine = (state - centre) @ near / np.linalg.norm(state - centre) / np.linalg.norm(near)
    assert one.overlap[0] == pytest.approx(cosine, rel=1e-9)
    assert one.steps[0] == 1
    assert not one.converged[0]


@pytest.mark.parametrize(("beta", "regime"), [(1e4, "single"), (1e-3, "global"), (60.0, "metastable")])
def test_regimes(beta: float, regime: str) -> None:
    rng = np.random.default_rng(0)
    patterns = rng.standard_normal((50, 30))
    patterns[:4] = patterns[0] + 0.2 * rng.standard_normal((4, 30))  # four that β = 60 mixes and 1e4 tells apart
    found = energy.memory(patterns, beta).retrieve(patterns[0])
    assert found.regime == (regime,)
    assert found.converged.all()


def test_beta_auto_is_the_least_that_keeps_patterns_apart() -> None:
    patterns = np.random.default_rng(0).standard_normal((100, 20))
    memory = energy.memory(patterns)

    def kept(beta: float) -> float:
        unit = (patterns - patterns.mean(0)) / memory.scale
        weights = np.exp(-beta / 2 * ((unit[:, None] - unit) ** 2).sum(-1))
        return float((np.diag(weights) / weights.sum(1) >= 0.9).mean())

    assert kept(memory.beta) >= 0.95
    found = [
        (energy.memory(patterns, b).retrieve(patterns, most=30).nearest == np.arange(100)).mean()
        for b in (memory.beta, memory.beta / 1.06)
    ]
    assert found[0] >= 0.95
    assert found[1] < 0.95 or kept(memory.beta / 1.06) < 0.95


def test_patterns_that_rounding_cannot_tell_apart() -> None:
    patterns = np.repeat(np.random.default_rng(0).standard_normal((10, 20)), 2, axis=0)
    patterns[1::2] *= 1 + 1e-15
    with pytest.raises(
        DataError, match=r"differ from another one by no more than rounding. Keep one of each, or give beta"
    ):
        energy.memory(patterns)


def test_equal_patterns_do_not_break_auto() -> None:
    patterns = np.repeat(np.random.default_rng(0).standard_normal((10, 20)), 2, axis=0)
    memory = energy.memory(patterns)
    assert np.isfinite(memory.beta)
    assert memory.beta == pytest.approx(energy.memory(patterns[::2]).beta, rel=1e-6)


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_the_same_in_every_framework(framework: str) -> None:
    rng = np.random.default_rng(0)
    patterns, queries, mask = rng.standard_normal((30, 4, 3)), rng.standard_normal((5, 4, 3)), rng.random((4, 3)) < 0.5
    for clamp in (None, mask):
        reference = energy.memory(patterns).retrieve(queries, clamp)
        with double(framework):
            found = energy.memory(array(framework, patterns)).retrieve(array(framework, queries), clamp)
            assert type(found.states) is type(array(framework, 1.0))
            for name in ("states", "energy", "steps", "nearest", "overlap", "margin", "weights", "baseline"):
                np.testing.assert_allclose(host(getattr(found, name)), getattr(reference, name), rtol=1e-8, atol=1e-10)
            assert found.regime == reference.regime
            assert found.normalised == reference.normalised


@pytest.mark.parametrize("framework", ALL)
def test_the_network_of_a_memory_is_the_memory(framework: str) -> None:
    """With the hidden layer in sight, exact sweeps go where `retrieve` goes, and end at its energy."""
    rng = np.random.default_rng(0)
    patterns, queries = rng.standard_normal((30, 12)), rng.standard_normal((5, 12))
    with double(framework):
        memory = energy.memory(array(framework, patterns))
        found = memory.retrieve(array(framework, queries))
        v = (array(framework, queries) - memory.centre) / memory.scale
        start = {"v": v, "memory": 0 * array(framework, np.ones((5, 30)))}
        run = memory.network.run(start, 60, energy.Exact())
        np.testing.assert_allclose(host(run.states["v"] * memory.scale + memory.centre), host(found.states), atol=1e-5)
        np.testing.assert_allclose(host(run.energies[-1]), host(found.energy), rtol=1e-8)
        np.testing.assert_allclose(
            host(memory.network.activations(run.states)["memory"]), host(found.weights), atol=1e-5
        )


@pytest.mark.parametrize("framework", ALL)
def test_the_ledger_of_a_retrieval(framework: str) -> None:
    """Exact sweeps from what is known end where `retrieve` ends; overlaps and the neighbour's are cosines over what was not known."""
    rng = np.random.default_rng(0)
    patterns, truth = rng.standard_normal((30, 4, 3)), rng.standard_normal((5, 4, 3))
    mask = rng.random((5, 4, 3)) < 0.5
    asked, sweep = np.where(mask, truth, np.nan), energy.Exact(("v", "memory"))
    with double(framework):
        memory = energy.memory(array(framework, patterns))
        found = memory.retrieve(array(framework, asked), mask)
        book = memory.ledger(array(framework, asked), mask, array(framework, truth), 100, sweep)
        centre = host(memory.centre).reshape(4, 3)
        ends, baseline = host(found.states), host(found.baseline)
    assert book.overlaps is not None
    assert book.baseline is not None
    assert (np.diff(book.energy) <= 1e-12).all()
    for one in range(5):
        free = ~mask[one]
        right = (truth[one] - centre)[free]
        for made, shown in ((ends[one], book.overlaps[-1, one]), (baseline[one], book.baseline[one])):
            a = (made - centre)[free]
            assert shown == pytest.approx(a @ right / np.linalg.norm(a) / np.linalg.norm(right), abs=1e-5)
    assert energy.memory(patterns).ledger(asked[0], mask[0]).overlaps is None


def test_integers_are_images_too() -> None:
    patterns = np.random.default_rng(0).integers(0, 255, (20, 4, 4), np.uint8)
    found = energy.memory(patterns).retrieve(patterns[:3])
    assert found.states.dtype == np.float64
    np.testing.assert_array_equal(found.nearest, [0, 1, 2])


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: energy.memory(np.zeros(5)), DataError, r"give patterns as one array \(patterns, \*shape\)"),
        (lambda: energy.memory(np.zeros((5, 3))), DataError, "all 5 patterns are the same"),
        (lambda: energy.memory(np.full((5, 3), np.nan)), DataError, "some patterns are NaN or infinite"),
        (lambda: energy.memory(np.eye(3), beta="big"), ValueError, 'beta must be a number above 0 or "auto", got \'big\''),
        (lambda: energy.memory(np.eye(3), beta=-1.0), ValueError, "beta must be above 0"),
        (lambda: energy.memory(np.eye(3)).retrieve(np.eye(4)), ShapeError, r"patterns have shape \(3,\), queries must be .*got \(4, 4\)"),
        (lambda: energy.memory(np.eye(3)).retrieve(np.full(3, np.nan)), DataError, "some known values of the queries are NaN"),
        (lambda: energy.memory(np.eye(3)).ledger(np.eye(4)), ShapeError, r"ledger: patterns have shape \(3,\)"),
        (lambda: energy.memory(np.eye(3)).ledger(np.eye(3), truth=np.eye(3)[:2]), ShapeError, r"ledger: 3 queries, but the truth of 2"),
        (lambda: energy.memory(np.eye(3)).retrieve(np.eye(3), np.ones(4, bool)), ShapeError, r"clamp has shape \(4,\); it must be \(3,\), or \(3, 3\)"),
    ],
)  # fmt: skip
def test_what_a_memory_refuses(call: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()

"""Thresholds of the untransformed data and how often they are exceeded, against NumPy on everything at once."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from layerscope._errors import DataError, FileFormatError, MergeError, ShapeError
from layerscope._site import Activations, Axes, Chunk, Samples, Site
from layerscope.tallies import Firing, GridFiring, Tail, Tails, fewest
from layerscope.tallies._firing import rounded_down
from layerscope.tallies._grid_groups import GROUPS, groups_of
from layerscope.testing import check_tally
from tests.conftest import require

SITE, T = Site("layer"), 5
RULES = [GridFiring("gaussian", 0.05), GridFiring("quantile", 0.05), GridFiring("gaussian", 0.3), GridFiring("quantile", 0.01)]  # fmt: skip


def plain(samples: int, *shape: int, seed: int = 0, kind: Any = np.float32) -> np.ndarray:
    """Untransformed activations: normal, skewed, rare and dead ones."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(samples, *shape)) * rng.gamma(1.0, size=shape) + rng.normal(size=shape)
    x = np.where(rng.random(shape) < 0.4, np.maximum(x, 0), x)
    return np.where(rng.random(shape) < 0.1, 0, x).astype(kind)


def turned(x: np.ndarray, seed: int = 1) -> np.ndarray:
    """(samples, T, …): the untransformed ones, and moved."""
    rng = np.random.default_rng(seed)
    return (x[:, None] + 0.5 * rng.normal(size=(len(x), T, *x.shape[1:])) * (np.arange(T) > 0).reshape(1, T, *(1,) * (x.ndim - 1))).astype(x.dtype)  # fmt: skip


def cut(samples: int, cuts: int, order: Any = None) -> list[np.ndarray]:
    return [part for part in np.array_split(np.arange(samples) if order is None else order, cuts) if len(part)]


def stream(tally: Any, x: np.ndarray, versions: int, parts: Any, value: Any = None) -> Any:
    value = tally.init(SITE) if value is None else value
    for part in parts:
        rows = x[part].reshape(-1, *x.shape[1 + (versions > 1) :])
        value = tally.observe(
            value, Activations.of(rows, unit=1), Samples(part.astype(np.int64), transformations=versions)
        )
    return value


def prepared(tally: GridFiring, x: np.ndarray, cuts: int = 3, order: Any = None) -> Firing:
    first = tally.first(len(x))
    return tally.prepared(tally.init(SITE), stream(first, x, 1, cut(len(x), cuts, order)))


def thresholds(tally: GridFiring, x: np.ndarray) -> np.ndarray:
    """By NumPy on everything in float64."""
    exact = x.reshape(len(x), -1).astype(np.float64)
    if tally.rule == "gaussian":
        return exact.mean(0) + tally.z * exact.std(0, ddof=1)
    ordered, k = np.sort(exact, axis=0)[::-1], int(np.ceil(tally.alpha * len(x) - 1e-9))
    return (ordered[k - 1] + ordered[k]) / 2


def check_firing(tally: GridFiring, value: Firing, x: np.ndarray, moved: np.ndarray | None) -> None:
    assert value.threshold is not None
    exact, limit = x.reshape(len(x), -1).astype(np.float64), thresholds(tally, x)
    np.testing.assert_allclose(value.threshold, limit, rtol=1e-12, atol=1e-12)
    group = groups_of(Samples(np.arange(len(x))))
    for g in range(GROUPS):
        np.testing.assert_array_equal(value.plain[g], (exact[group == g] > value.threshold).sum(0))
        if moved is not None:
            flat = moved.reshape(len(x), T, -1).astype(np.float64)
            np.testing.assert_array_equal(value.fired[g], (flat[group == g] > value.threshold).sum((0, 1)))
    np.testing.assert_array_equal(value.plain_count, np.bincount(group, minlength=GROUPS))
    assert value.samples == (0 if moved is None else len(x))


@pytest.mark.parametrize("tally", RULES, ids=repr)
@pytest.mark.parametrize("shape", [(7,), (4, 3, 2)])
@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_counts_are_those_of_everything_at_once(tally: GridFiring, shape: Any, kind: Any) -> None:
    x = plain(83, *shape, kind=kind)
    moved = turned(x)
    value = prepared(tally, x)
    check_firing(tally, value, x, None)
    value = stream(tally, moved, T, cut(83, 4), value)
    check_firing(tally, value, x, moved)
    with pytest.raises(AssertionError):
        check_firing(tally, value, x, turned(x, seed=2))
    with pytest.raises(AssertionError):
        check_firing(tally, value, plain(83, *shape, seed=5, kind=kind), moved)


@pytest.mark.parametrize("n", [2, 3, 17, 100, 400])
@pytest.mark.parametrize("alpha", [0.01, 0.05, 0.2, 0.45])
def test_what_is_kept_is_enough_for_any_data(n: int, alpha: float) -> None:
    """Cantelli: at most 1 / (1 + z²) of any data lie z deviations above their mean; two-point data reach it."""
    tally = GridFiring("gaussian", alpha)
    high = n / (1 + tally.z**2)
    for count in {max(1, int(high)), max(1, int(high)) + 1}:
        x = np.zeros((n, 3), np.float32)
        x[:count, 0], x[:count, 1], x[:, 2] = 1, 1e6, np.arange(n)
        value = prepared(tally, x)
        assert value.threshold is not None
        np.testing.assert_array_equal(value.plain.sum(0), (x.astype(np.float64) > value.threshold).sum(0))
        assert value.plain.sum(0).max() <= tally.first(n).keep


@given(st.integers(0, 999), st.integers(1, 9), st.randoms())
@settings(max_examples=20)
def test_neither_cuts_nor_order_matter(seed: int, cuts: int, rnd: Any) -> None:
    x = np.round(plain(40, 6, seed=seed), 1)  # many equal values
    order = np.array(rnd.sample(range(40), 40))
    for tally in RULES[:2]:
        one, two = prepared(tally, x), prepared(tally, x, cuts, order)
        assert one.threshold is not None
        assert two.threshold is not None
        np.testing.assert_allclose(two.threshold, one.threshold, rtol=1e-12)
        if tally.rule == "quantile":
            np.testing.assert_array_equal(two.plain, one.plain)


def chunks_of(tally: Any, x: np.ndarray, versions: int) -> list[Chunk]:
    found: list[Chunk] = []
    for part in cut(len(x), 4):
        a = Activations.of(x[part].reshape(-1, *x.shape[1 + (versions > 1) :]), unit=1)
        found.append(Chunk.of(tally.read(a), a, Samples(part.astype(np.int64), transformations=versions)))
    return found


@pytest.mark.parametrize("keep", [1, 5, 1000])
def test_tails_obey_the_laws(keep: int) -> None:
    check_tally(Tail(keep), chunks=chunks_of(Tail(keep), plain(40, 5, 3), 1))
    check_tally(Tail(keep))


@pytest.mark.parametrize("tally", RULES, ids=repr)
def test_firing_obeys_the_laws(tally: GridFiring) -> None:
    check_tally(tally)
    x = plain(40, 5, 3)
    first = stream(tally.first(40), x, 1, cut(40, 3))
    check_tally(tally, chunks=chunks_of(tally, turned(x), T), first=first)


def test_the_laws_reject_a_tally_that_forgets_its_thresholds() -> None:
    class Forgets:
        """Merges counts above whatever thresholds."""

        def __getattr__(self, name: str) -> Any:
            return getattr(RULES[0], name)

        def merge(self, left: Firing, right: Firing) -> Firing:
            right = Firing(
                **{**vars(right), "threshold": left.threshold, "plain": left.plain, "plain_count": left.plain_count}
            )
            return RULES[0].merge(left, right)

    with pytest.raises(AssertionError, match="law of identity"):
        check_tally(Forgets())  # type: ignore[arg-type]


def test_values_of_other_data_do_not_merge() -> None:
    tally, x = RULES[0], plain(40, 6)
    one, two = prepared(tally, x), prepared(tally, plain(40, 6, seed=3))
    with pytest.raises(
        MergeError, match=r"thresholds at 'layer' on the left are of 40 untransformed samples.*shard=\(i, n\)"
    ):
        tally.merge(one, two)
    nudged = prepared(tally, x)
    assert nudged.threshold is not None
    nudged.threshold[0] = np.nextafter(nudged.threshold[0], np.inf)
    with pytest.raises(MergeError):
        tally.merge(one, nudged)
    wide = stream(tally, np.repeat(turned(x), 2, axis=1)[:, : T + 1], T + 1, cut(40, 2), prepared(tally, x))
    with pytest.raises(MergeError, match="5 transformations at 'layer', then 6"):
        tally.merge(stream(tally, turned(x), T, cut(40, 2), prepared(tally, x)), wide)
    assert not tally.same(one, two)
    assert tally.same(tally.merge(tally.init(SITE), one), one)


def test_without_the_untransformed_data_nothing_is_counted() -> None:
    tally = RULES[0]
    with pytest.raises(DataError, match=r"needs the untransformed data first, which only ls\.examine"):
        stream(tally, turned(plain(9, 4)), T, cut(9, 1))
    shrunk = stream(tally.first(10), plain(200, 4), 1, cut(200, 2))
    with pytest.raises(DataError, match="more samples than it had said: 200"):
        tally.prepared(tally.init(SITE), shrunk)


def test_values_that_are_no_numbers_have_no_threshold() -> None:
    for tally in RULES[:2]:
        x = plain(60, 4)
        x[3, 0], x[7, 1], x[8, 2], x[9, 2] = np.nan, np.inf, np.inf, -np.inf
        value = prepared(tally, x)
        assert value.threshold is not None
        assert np.isnan(value.threshold[:3]).all()
        assert np.isfinite(value.threshold[3])
        assert value.plain[:, :3].sum() == 0
        moved = turned(plain(60, 4))
        moved[5, 2, 3] = np.nan
        value = stream(tally, moved, T, cut(60, 3), value)
        assert value.nan == 1
        assert value.fired[:, 3].sum() == (moved[:, :, 3] > value.threshold[3]).sum()


def test_shapes_rows_and_masks_must_fit() -> None:
    tally, x = RULES[0], plain(12, 4, 3)
    with pytest.raises(
        ShapeError, match=r"thresholds are of values \(4, 3\) under 5 transformations; this batch has \(4, 2\)"
    ):
        stream(tally, turned(x[..., :2]), T, cut(12, 1), prepared(tally, x))
    with pytest.raises(ShapeError, match=r"values of shape \(4, 3\) so far, now \(4, 2\)"):
        stream(Tail(3), x[..., :2], 1, cut(12, 1), stream(Tail(3), x, 1, cut(12, 1)))
    short = Activations.of(turned(x).reshape(-1, 4, 3)[:-1], unit=1)
    with pytest.raises(ShapeError, match="12 samples × 5 versions need 60 rows; 59"):
        tally.observe(prepared(tally, x), short, Samples(np.arange(12), transformations=T))
    mask = np.ones((12, 3), np.bool_)
    mask[0, 2] = False
    with pytest.raises(ShapeError, match=r"some positions are masked.*Measure a layer after pooling"):
        Tail(3).observe(Tail(3).init(SITE), Activations.of(x, unit=1), Samples(np.arange(12), mask=mask))


def test_files_that_do_not_fit_are_refused() -> None:
    tally, x = RULES[0], plain(12, 4)
    made: list[tuple[Any, Any]] = [(tally, prepared(tally, x)), (Tail(3), stream(Tail(3), x, 1, cut(12, 1)))]
    for recipe, value in made:
        arrays = dict(recipe.to_arrays(value))
        with pytest.raises(FileFormatError, match="not there or not whole"):
            recipe.from_arrays(SITE, {name: a for name, a in arrays.items() if name not in ("threshold", "mean")})
        name = "plain" if recipe is tally else "top"
        with pytest.raises(FileFormatError, match="do not fit each other"):
            recipe.from_arrays(SITE, {**arrays, name: arrays[name][:-1]})


@pytest.mark.parametrize(
    ("message", "make"),
    [
        ("rule='normal': choose 'gaussian' or 'quantile'", lambda: GridFiring("normal")),  # type: ignore[arg-type]
        ("alpha=0: give the share of the data", lambda: GridFiring(alpha=0)),
        ("alpha=0.5: give the share of the data", lambda: GridFiring("quantile", 0.5)),
        ("keep=0: give how many", lambda: Tail(0)),
    ],
)
def test_bad_settings_say_what_to_do(message: str, make: Any) -> None:
    with pytest.raises(DataError, match=message):
        make()


@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_a_rounded_threshold_parts_the_same_values(kind: Any) -> None:
    x = np.random.default_rng(0).normal(size=4000).astype(kind)
    limits = np.concatenate(
        [x.astype(np.float64), np.nextafter(x.astype(np.float64), np.inf), [0.1, 1e300, -1e300, np.inf, np.nan]]
    )
    for limit, rounded in zip(limits[-3000:], rounded_down(limits[-3000:], np.dtype(kind)), strict=True):
        np.testing.assert_array_equal(x.astype(np.float64) > limit, x > rounded)


def test_memory_is_known_before() -> None:
    tally, x = RULES[0], plain(30, 4, 3)
    value = stream(tally, turned(x), T, cut(30, 1), prepared(tally, x))
    assert tally.nbytes(value) == tally.expected_nbytes((4, 3), 0, T)
    tails = stream(tally.first(30), x, 1, cut(30, 2))
    assert (
        sum(a.nbytes for a in tails.arrays)
        <= tally.first(30).nbytes(tails)
        == tally.first(30).expected_nbytes((4, 3), 0, 1)
    )


def test_two_rules_are_two_tallies() -> None:
    assert fewest([*RULES, GridFiring("gaussian", 0.05)]) == RULES


@pytest.mark.torch
def test_what_a_device_gives_counts_alike() -> None:
    torch = require("torch")
    import array_api_compat.torch as xp

    tally, x = RULES[0], plain(12, 4, 4)
    moved = turned(x).reshape(-1, 4, 4)
    samples = Samples(np.arange(12), transformations=T)
    start = lambda: prepared(tally, x)  # noqa: E731
    host = tally.observe(start(), Activations.of(moved, unit=1), samples)
    padded = torch.cat([torch.from_numpy(moved), torch.full((7, 4, 4), 99.0)])
    a = Activations(padded, Axes(1), xp)
    device = tally.add(start(), Chunk.of(tally.read(a), a, samples))
    assert tally.same(host, device)
    half = Activations(torch.from_numpy(moved).to(torch.bfloat16), Axes(1), xp)
    rounded = tally.add(start(), Chunk.of(tally.read(half), half, samples))
    wanted = tally.observe(start(), Activations.of(half.values.float().numpy(), unit=1), samples)
    assert tally.same(rounded, wanted)
    assert isinstance(stream(tally.first(3), x, 1, cut(12, 1)), Tails)

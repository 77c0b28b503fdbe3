"""Grid sums: the kernel is its twin and the full tensor in float64, also where the textbook formula loses every digit."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from layerscope.kernels import reference
from tests.conftest import require

RELATIVE = 2e-6  # the promise; 5e-7 is the worst seen
Into = Callable[..., None]


def data(kind: str, samples: int, T: int, D: int, seed: int = 0) -> np.ndarray:
    """(samples, T, D) float32: the hard sets of the specification."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(samples, 1, D)) + 0.3 * rng.normal(size=(1, T, D)) + 0.5 * rng.normal(size=(samples, T, D))
    match kind:
        case "mean = 1000 sd":
            x = x + 1000
        case "mean = 1e5 sd":
            x = 0.1 * x + 1e4
        case "sparse":
            x = np.where(rng.random(x.shape) < 0.05, np.abs(x), 0)
        case "fires at t = 0 only":
            x[:, 1:] = 0
        case "heavy tails":
            x = x**5
        case "sorted":
            x = np.sort(x, axis=0)
        case "outlier first":
            x[0] = 50 * x[0]
        case "many scales":
            x = x * 10.0 ** rng.integers(-6, 6, D)
    return x.astype(np.float32)


KINDS = [
    "plain", "mean = 1000 sd", "mean = 1e5 sd", "sparse", "fires at t = 0 only", "heavy tails", "sorted", "outlier first", "many scales",
]  # fmt: skip


def sums_of(into: Into, x: np.ndarray, rows: int, each: bool = True) -> tuple[np.ndarray, ...]:
    samples, T, D = x.shape
    state = np.zeros((T, D)), np.zeros((T if each else 1, D)), np.zeros(D), np.zeros(D)
    for at in range(0, samples, rows):
        block = x[at : at + rows]
        into(block.reshape(-1, D), T, at, *state)
    return state


def check_sums(into: Into, x: np.ndarray, rows: int, each: bool = True) -> None:
    exact = x.astype(np.float64)
    T = x.shape[1]
    mean, m2, rows_var, rows_std = sums_of(into, x, rows, each)
    spread = exact.std(0)
    assert (np.abs(mean - exact.mean(0)) <= RELATIVE * (spread + 1e-6 * np.abs(exact).max())).all()
    want = ((exact - exact.mean(0)) ** 2).sum(0)
    np.testing.assert_allclose(m2, want if each else want.sum(0, keepdims=True), rtol=RELATIVE, atol=1e-25)
    if T > 1:
        np.testing.assert_allclose(rows_var, exact.var(1, ddof=1).sum(0), rtol=RELATIVE, atol=1e-25)
        np.testing.assert_allclose(rows_std, exact.std(1, ddof=1).sum(0), rtol=RELATIVE, atol=1e-18)


@pytest.fixture(scope="module", params=["reference", "cpu"])
def into(request: pytest.FixtureRequest) -> Any:
    if request.param == "reference":
        return reference.grid_into
    require("numba")
    from layerscope.kernels import cpu

    return cpu.grid_into


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("rows", [1, 3, 25, 120])
@pytest.mark.parametrize("each", [True, False])
def test_the_sums_are_those_of_the_full_tensor(into: Into, kind: str, rows: int, each: bool) -> None:
    check_sums(into, data(kind, 120, 6, 70), rows, each)


@given(st.integers(1, 9), st.integers(1, 7), st.integers(1, 200), st.integers(1, 12), st.integers(0, 99))
@settings(max_examples=50)
def test_any_shape(samples: int, T: int, D: int, rows: int, seed: int) -> None:
    require("numba")
    from layerscope.kernels import cpu

    check_sums(cpu.grid_into, data("plain", samples, T, D, seed), rows)


def test_many_transformations(into: Into) -> None:
    check_sums(into, data("sparse", 7, 500, 40), 3)
    check_sums(into, data("mean = 1000 sd", 500, 33, 11), 500)


def test_wide_layers_and_float64(into: Into) -> None:
    check_sums(into, data("sparse", 5, 3, 20_000), 2)
    x = data("plain", 20, 3, 9).astype(np.float64) + 1e9
    mean, m2, *_ = sums_of(into, x, 7)
    np.testing.assert_allclose(m2, 20 * x.var(0), rtol=1e-6)
    np.testing.assert_allclose(mean, x.mean(0), rtol=1e-15)


def test_read_only_and_strided_blocks(into: Into) -> None:
    x = data("plain", 8, 3, 10)
    frozen = x.copy()
    frozen.flags.writeable = False
    wide = np.zeros((24, 20), np.float32)
    wide[:, ::2] = x.reshape(24, 10)
    for block in (frozen.reshape(24, 10), wide[:, ::2], x.reshape(24, 10).astype(np.float16)):
        state = np.zeros((3, 10)), np.zeros((3, 10)), np.zeros(10), np.zeros(10)
        into(block, 3, 0, *state)
        rtol = 1e-2 if block.dtype == np.float16 else RELATIVE
        np.testing.assert_allclose(state[1], 8 * x.astype(np.float64).var(0), rtol=rtol)


# --- canaries -------------------------------------------------------------------------------------------------------------------------


def _squares(x: np.ndarray, T: int, seen: int, mean: Any, m2: Any, rows_var: Any, rows_std: Any) -> None:
    """The textbook formula in float32: a sum of squares about zero."""
    block = x.reshape(-1, T, x.shape[1])
    n, r = seen + len(block), len(block)
    old = (m2 + seen * mean * mean).astype(np.float32)
    mean += (block.mean(0) - mean) * (r / n)
    m2[:] = old + (block**2).sum(0) - np.float32(n) * (mean**2).astype(np.float32)
    reference.grid_into(x, T, 0, np.zeros_like(mean), np.zeros_like(m2), rows_var, rows_std)


def _averaged(x: np.ndarray, T: int, seen: int, mean: Any, m2: Any, rows_var: Any, rows_std: Any) -> None:
    """Deviations about each block's own mean, never joined."""
    reference.grid_into(x, T, 0, np.zeros_like(mean), m2, rows_var, rows_std)
    mean += (x.reshape(-1, T, x.shape[1]).astype(np.float64).mean(0) - mean) * (len(x) / T / (seen + len(x) / T))


def _swapped(x: np.ndarray, T: int, seen: int, mean: Any, m2: Any, rows_var: Any, rows_std: Any) -> None:
    """Rows taken for transformation-major."""
    turned = x.reshape(T, -1, x.shape[1]).swapaxes(0, 1).reshape(x.shape)
    reference.grid_into(turned, T, seen, mean, m2, rows_var, rows_std)


@pytest.mark.parametrize("wrong", [_squares, _averaged, _swapped])
def test_the_check_rejects(wrong: Into) -> None:
    with pytest.raises(AssertionError):
        check_sums(wrong, data("mean = 1000 sd", 120, 6, 20), 25)


# --- groups ---------------------------------------------------------------------------------------------------------------------------


def check_groups(into: Into, x: np.ndarray, picked: np.ndarray) -> None:
    """Group by group, and for every 2^s-th transformation, the sums are those of these values alone."""
    samples, T, D = x.shape
    G, S, K = 4, 3, len(picked)
    group = np.random.default_rng(1).integers(0, G, samples)
    count = np.zeros(G, np.int64)
    mean, m2 = np.zeros((G, T, K)), np.zeros((G, T, K))
    rows_var, rows_std = np.zeros((G, S, K)), np.zeros((G, S, K))
    for at in range(0, samples, 7):
        into(x[at : at + 7].reshape(-1, D), T, picked, group[at : at + 7], count, mean, m2, rows_var, rows_std)
    for g in range(G):
        mine = x[group == g][:, :, picked].astype(np.float64)
        assert count[g] == len(mine)
        np.testing.assert_allclose(mean[g], mine.mean(0), rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(m2[g], len(mine) * mine.var(0), rtol=1e-9, atol=1e-12)
        for s in range(S):
            rows = mine[:, :: 2**s]
            np.testing.assert_allclose(rows_var[g, s], rows.var(1, ddof=1).sum(0), rtol=1e-9, atol=1e-12)
            np.testing.assert_allclose(rows_std[g, s], rows.std(1, ddof=1).sum(0), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("T", [6, 8])
@pytest.mark.parametrize("kind", ["plain", "mean = 1e5 sd", "sparse"])
def test_groups_are_grids_of_their_own(kind: str, T: int) -> None:
    require("numba")
    from layerscope.kernels import cpu

    for into in (reference.groups_into, cpu.groups_into):
        check_groups(into, data(kind, 40, T, 50), np.array([0, 7, 8, 49]))


def test_the_check_of_groups_rejects() -> None:
    def halves(x: Any, T: int, picked: Any, group: Any, count: Any, mean: Any, m2: Any, var: Any, std: Any) -> None:
        """Takes the first T / 2^s transformations for every 2^s-th."""
        whole = var[:, 0].copy()
        reference.groups_into(x, T, picked, group, count, mean, m2, var, std)
        first = x.reshape(-1, T, x.shape[1])[:, : T // 2].reshape(-1, x.shape[1])
        nothing = np.zeros_like(count), np.zeros_like(mean[:, : T // 2]), np.zeros_like(m2[:, : T // 2])
        part, sd = np.zeros_like(var[:, :1]), np.zeros_like(std[:, :1])
        reference.groups_into(first, T // 2, picked, group, *nothing, part, sd)
        var[:, 1:2] += part - (var[:, :1] - whole[:, None])

    with pytest.raises(AssertionError):
        check_groups(halves, data("plain", 40, 8, 50), np.array([0, 7, 8, 49]))


def test_one_transformation_moves_nothing() -> None:
    require("numba")
    from layerscope.kernels import cpu

    for into in (reference.groups_into, cpu.groups_into):
        state = np.zeros((4, 1, 2)), np.zeros((4, 1, 2)), np.zeros((4, 1, 2)), np.zeros((4, 1, 2))
        count = np.zeros(4, np.int64)
        into(data("plain", 9, 1, 5).reshape(-1, 5), 1, np.array([0, 4]), np.arange(9) % 4, count, *state)
        assert not state[2].any()
        assert not state[3].any()
        assert count.tolist() == [3, 2, 2, 2]

"""The grid tally holds what a float64 tensor of everything holds, however the samples came; on a device it says the same."""

from typing import Any

import numpy as np
import pytest

from layerscope import transformations as ts
from layerscope._errors import DataError, FileFormatError, MergeError, ShapeError
from layerscope._site import Activations, Axes, Chunk, Samples, Site
from layerscope.tallies import Grid, GridDistances, GridMoments, StateTable, fewest
from layerscope.tallies._grid import ALL
from layerscope.tallies._grid_groups import GROUPS, groups_of
from layerscope.testing import check_tally
from layerscope.transformations import Alignment
from tests.conftest import require

SITE = Site("x")
T = 6


def values(samples: int, *shape: int, seed: int = 0) -> np.ndarray:
    """Activations (samples, T, …) float32."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(samples, 1, *shape)) + 0.5 * rng.normal(size=(samples, T, *shape)) + 3
    return np.maximum(x, 2.5).astype(np.float32)


def grid_of(
    tally: GridMoments,
    x: np.ndarray,
    cuts: int = 3,
    unit: int = 1,
    grid: Any = None,
    labels: Any = None,
    mask: Any = None,
) -> Grid:
    """`x` (samples, T, …) streamed in batches of whole rows."""
    value = tally.init(SITE)
    for part in np.array_split(np.arange(len(x)), cuts):
        flat = x[part].reshape(-1, *x.shape[2:])
        a = Activations(
            flat,
            Axes(unit),
            np,
            host=flat,
            grid=grid,
            mask=None if mask is None else mask[part].reshape(len(flat), *mask.shape[2:]),
        )
        samples = Samples(
            part.astype(np.int64), None if labels is None else labels[part], None if mask is None else mask[part], T
        )
        value = tally.observe(value, a, samples)
    return value


def check_grid(value: Grid, x: np.ndarray, each: bool = True, stratum: int = ALL) -> None:
    """The sums are those of the full tensor."""
    exact = x.astype(np.float64).reshape(len(x), T, -1)
    sums = value.by[stratum]
    squares = len(x) * exact.var(0)
    np.testing.assert_allclose(sums.mean, exact.mean(0), rtol=1e-6)
    np.testing.assert_allclose(sums.m2, squares if each else squares.sum(0, keepdims=True), rtol=2e-6, atol=1e-12)
    np.testing.assert_allclose(sums.rows_var, exact.var(1, ddof=1).sum(0), rtol=2e-6, atol=1e-12)
    np.testing.assert_allclose(sums.rows_std, exact.std(1, ddof=1).sum(0), rtol=2e-6, atol=1e-12)
    assert sums.samples == len(x)


@pytest.mark.parametrize("cuts", [1, 4, 20])
@pytest.mark.parametrize("flavour", ["std", "variance"])
def test_streamed_is_whole(cuts: int, flavour: Any) -> None:
    x = values(20, 3, 5, 4)
    value = grid_of(GridMoments(flavour), x, cuts)
    check_grid(value, x, flavour == "std")
    assert (value.shape, value.unit, value.transformations) == ((3, 5, 4), 0, T)
    last = grid_of(GridMoments(flavour), np.moveaxis(x, 2, -1), cuts, unit=-1)
    assert (last.shape, last.unit) == ((5, 4, 3), 2)


def test_the_check_rejects_another_tensor() -> None:
    with pytest.raises(AssertionError):
        check_grid(grid_of(GridMoments(), values(20, 3)), values(20, 3, seed=1))


def test_order_and_shards_do_not_matter() -> None:
    x, tally = values(30, 4, 3, 3), GridMoments()
    whole = grid_of(tally, x)
    order = np.random.default_rng(2).permutation(30)
    value = tally.init(SITE)
    for part in np.array_split(order, 7):
        shard = tally.init(SITE)
        for i in part:
            a = Activations.of(x[i], unit=1)
            shard = tally.observe(shard, a, Samples(np.array([i]), transformations=T))
        value = tally.merge(value, shard)
    assert tally.same(value, whole)
    assert not tally.same(value, grid_of(tally, x[1:]))


def test_groups_are_the_samples_by_their_ids() -> None:
    x = values(40, 5, 3)
    value = grid_of(GridMoments(), x)
    assert value.groups is not None
    group, picked = groups_of(Samples(np.arange(40))), value.groups.picked
    for g, sums in zip(np.unique(group), value.groups, strict=True):
        mine = x[group == g].reshape(-1, T, 15)[:, :, picked].astype(np.float64)
        np.testing.assert_allclose(sums.m2, len(mine) * mine.var(0), rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(sums.rows_std, mine.std(1, ddof=1).sum(0), rtol=1e-9, atol=1e-12)
    assert 1 < len(np.unique(group)) <= GROUPS


def test_every_class_is_a_grid_of_its_own() -> None:
    x, labels = values(30, 3, 4), np.arange(30) % 3 - 1
    value = grid_of(GridMoments(strata="label"), x, labels=labels)
    for label in (-1, 0, 1):
        check_grid(value, x[labels == label], stratum=label)
    with pytest.raises(DataError, match="a measure by class needs labels"):
        grid_of(GridMoments(strata="label"), x)


@pytest.mark.parametrize("how", ["mean", "max", "sum"])
@pytest.mark.parametrize("masked", [False, True])
def test_pooled_maps(how: Any, masked: bool) -> None:
    x = values(12, 3, 5, 2)
    mask = np.random.default_rng(0).random((12, T, 5, 2)) < 0.7 if masked else None
    if mask is not None:
        mask[..., 0, 0] = True
    value = grid_of(GridMoments(pool=how), x, mask=mask)
    shown = np.ones_like(x, np.bool_) if mask is None else np.broadcast_to(mask[:, :, None], x.shape)
    hidden = np.ma.array(x.astype(np.float64), mask=~shown)
    check_grid(value, np.asarray(getattr(hidden, how)(axis=(3, 4))))
    assert value.shape == (3,)


def test_masked_positions_are_not_compared() -> None:
    mask = np.ones((12, T, 5), np.bool_)
    check_grid(grid_of(GridMoments(), values(12, 3, 5), mask=mask), values(12, 3, 5))
    mask[3, 2, 1] = False
    with pytest.raises(ShapeError, match="some positions are masked"):
        grid_of(GridMoments(), values(12, 3, 5), mask=mask)


@pytest.mark.parametrize(
    "grid",
    [ts.rotations(T), ts.published(5, T), ts.quarter_turns() + ts.rotations(2)],
    ids=["turns", "shifts", "exact"],
)
def test_aligned_grids_are_grids_of_what_was_taken_back(grid: Any) -> None:
    x, to = values(10, 3, 8, 8), Alignment(grid, 16, 16)
    value = grid_of(GridMoments(aligned=True), x, grid=to)
    back = np.asarray(to.align(x.reshape(-1, 3, 8, 8), 1)).reshape(x.shape)
    check_grid(value, back)
    good = to.supported((1, 3, 8, 8), 1)
    if good.all():
        assert value.inside is None
    else:
        np.testing.assert_array_equal(value.inside, good.reshape(-1))
        assert value.groups is not None
        assert good.reshape(-1)[value.groups.picked].all()
    last = grid_of(GridMoments(aligned=True), np.moveaxis(x, 2, -1), grid=to, unit=-1)
    np.testing.assert_allclose(
        last.by[ALL].m2.reshape(T, 8, 8, 3),
        np.moveaxis(value.by[ALL].m2.reshape(T, 3, 8, 8), 1, -1),
        rtol=1e-5,
        atol=1e-9,
    )


def test_a_layer_without_space_is_skipped_and_says_so() -> None:
    value = grid_of(GridMoments(aligned=True), values(10, 7), grid=Alignment(ts.rotations(T), 16, 16))
    assert not value.by
    assert "no space" in value.skipped
    again = GridMoments(aligned=True).from_arrays(SITE, GridMoments(aligned=True).to_arrays(value))
    assert again.skipped == value.skipped


@pytest.mark.parametrize("kind", ["float64", "float16", "int8", "bfloat16"])
@pytest.mark.torch
def test_other_types(kind: str) -> None:
    torch = require("torch")
    x = values(10, 3, 4)
    tensor = torch.from_numpy(x).to(getattr(torch, kind))
    tally, value = GridMoments(), GridMoments().init(SITE)
    import array_api_compat.torch as xp

    flat = tensor.reshape(-1, 3, 4)
    host = flat.view(torch.int16).numpy() if kind == "bfloat16" else flat.numpy()
    a = Activations(flat, Axes(1), xp, host=host, dtype="bfloat16" if kind == "bfloat16" else None)
    value = tally.observe(value, a, Samples(np.arange(10), transformations=T))
    check_grid(value, tensor.double().numpy())


@pytest.mark.torch
@pytest.mark.parametrize("kind", ["torch", "jax"])
@pytest.mark.parametrize("tally", [GridMoments(), GridMoments("variance"), GridMoments(pool="mean")], ids=repr)
def test_a_device_says_the_same(kind: str, tally: GridMoments) -> None:
    """What cannot be seen by the host is summed where it lies; padded rows count nowhere."""
    if kind == "jax":
        xp: Any = require("jax").numpy
    else:
        require("torch")
        import array_api_compat.torch as xp
    x, to = values(20, 3, 4, 2), Alignment(ts.rotations(T))
    wanted, value = grid_of(tally, x), tally.init(SITE)
    for at in range(0, 20, 8):
        part = x[at : at + 8]
        padded = np.concatenate([part, np.full((8 - len(part), *x.shape[1:]), 99, np.float32)]).reshape(-1, 3, 4, 2)
        a = Activations(xp.asarray(padded), Axes(1), xp, real=xp.asarray(np.arange(8 * T) < len(part) * T), grid=to)
        ids = np.arange(at, at + len(part))
        value = tally.add(value, Chunk.of(tally.read(a), a, Samples(ids, transformations=T)))
    if tally.pool is None:
        assert tally.same(value, wanted)
    for mine, theirs in zip(value.by[ALL].arrays, wanted.by[ALL].arrays, strict=True):  # means of maps differ by 1e-7
        np.testing.assert_allclose(mine, theirs, rtol=2e-6 if tally.pool is None else 1e-5)


SETS = {
    "turns": ts.rotations(T),
    "shifts": ts.translations(pixels=range(T), directions="x", border="edge"),
    "nearest": ts.rotations(T, interpolation="nearest"),
    "moves": ts.quarter_turns() + ts.Transformations((ts.Flip(), ts.Roll(2, 4))),
    "a chain": ts.Transformations((ts.Identity(), ts.Brightness(1), *(ts.rotate(30 * k).then(ts.Flip()) for k in range(1, 5)))),
    "your own": ts.Transformations(tuple(ts.Custom(lambda x: x, on_layer=lambda v, axes, k=k: v * (1 + k)) for k in range(T))),
}  # fmt: skip


def program_of(framework: str, tally: Any, to: Any, unit: int) -> Any:
    """`read` inside a compiled program, as on a device: (values, real) to its arrays."""
    if framework == "jax":
        jax = require("jax")
        return jax.jit(lambda x, real: tally.read(Activations(x, Axes(unit), jax.numpy, real=real, grid=to)))
    tf = require("tensorflow")
    xp = tf.experimental.numpy
    program = tf.function(lambda x, real: tally.read(Activations(x, Axes(unit), xp, real=real, grid=to)))
    return lambda x, real: program(tf.constant(x), tf.constant(real))


@pytest.mark.parametrize("unit", [1, -1])
@pytest.mark.parametrize("transformations", SETS)
@pytest.mark.parametrize("framework", ["jax", "tensorflow"])
@pytest.mark.parametrize("tally", [GridMoments(aligned=True), GridDistances(aligned=True)], ids=repr)
def test_programs_take_back_what_the_host_does(framework: str, transformations: str, unit: int, tally: Any) -> None:
    """Alignment is traced like everything else: with the last batch padded, the sums are those of the host."""
    to, x = Alignment(SETS[transformations], 16, 16), values(11, 3, 8, 8)
    x = x if unit == 1 else np.moveaxis(x, 2, -1)
    read, value = program_of(framework, tally, to, unit), tally.init(SITE)
    for at in (0, 8):
        part = x[at : at + 8]
        padded = np.concatenate([part, np.repeat(part[-1:], 8 - len(part), 0)]).reshape(-1, *x.shape[2:])
        arrays = read(padded, np.arange(len(padded)) < len(part) * T)
        samples = Samples(np.arange(at, at + len(part)), transformations=T)
        value = tally.add(value, Chunk.of(arrays, Activations.of(padded, unit), samples))
    check_same(tally, value, grid_of(tally, x, unit=unit, grid=to))
    with pytest.raises(AssertionError):
        check_same(tally, value, grid_of(tally, x[:, ::-1], unit=unit, grid=to))


def check_same(tally: Any, mine: Any, theirs: Any) -> None:
    """What was resampled differs by rounding; in everything else the values are the same."""
    mine, theirs = tally.to_arrays(mine), tally.to_arrays(theirs)
    assert mine.keys() == theirs.keys()
    for name, array in mine.items():
        largest = float(np.max(np.abs(theirs[name]), initial=0.0))
        np.testing.assert_allclose(array, theirs[name], rtol=1e-4, atol=2e-6 * largest, err_msg=name)


def test_programs_skip_layers_without_space_and_leave_classes_to_the_host() -> None:
    jax, x, labels = require("jax"), values(12, 7), np.arange(12) % 3
    to, flat = Alignment(ts.rotations(T), 16, 16), values(12, 7).reshape(-1, 7)
    real = np.ones(len(flat), bool)
    assert program_of("jax", GridMoments(aligned=True), to, 1)(flat, real) == {}
    off = Alignment(ts.published(2, T), 16, 16)  # no place of a map stays inside
    few = program_of("jax", GridMoments(aligned=True), off, 1)(values(12, 2, 4, 4).reshape(-1, 2, 4, 4), real)["few"]
    assert few.shape == (len(flat), 0)
    tally = GridMoments(strata="label")
    arrays = program_of("jax", tally, to, 1)(jax.numpy.asarray(flat), real)
    chunk = Chunk.of(arrays, Activations.of(flat, 1), Samples(np.arange(12), labels, transformations=T))
    assert tally.same(tally.add(tally.init(SITE), chunk), grid_of(tally, x, labels=labels))


def test_incomplete_rows_and_other_forms_are_refused() -> None:
    tally, x = GridMoments(), values(4, 3)
    chunk = Chunk(tally.read(Activations.of(x[0])), Samples(np.arange(4), transformations=T), (), 3)
    with pytest.raises(ShapeError, match="4 samples × 6 transformations need 24 rows, 6 arrived"):
        tally.add(tally.init(SITE), chunk)
    value = grid_of(tally, x)
    with pytest.raises(ShapeError, match=r"6 transformations of values \(3,\) so far, 6 of \(5,\) in this batch"):
        tally.observe(value, Activations.of(values(1, 5)[0]), Samples(np.arange(1), transformations=T))
    with pytest.raises(MergeError, match="Only grids of the same transformations"):
        tally.merge(value, grid_of(tally, values(4, 5)))
    with pytest.raises(DataError, match="nothing was transformed"):
        grid_of(GridMoments(aligned=True), x)
    with pytest.raises(DataError, match="flavour='sd': choose"):
        GridMoments("sd")  # type: ignore[arg-type]
    with pytest.raises(DataError, match="pool='min': choose"):
        GridMoments(pool="min")  # type: ignore[arg-type]


def test_damaged_files_are_refused() -> None:
    tally, value = GridMoments(), grid_of(GridMoments(), values(9, 3, 4))
    good = dict(tally.to_arrays(value))
    assert tally.same(tally.from_arrays(SITE, good), value)
    for name in good:
        with pytest.raises(FileFormatError):
            tally.from_arrays(
                SITE,
                {k: v for k, v in good.items() if k != name and not (name == "picked" and k == "picked")}
                if name not in ("picked",)
                else {**good, "picked": good["picked"][1:]},
            )
    with pytest.raises(FileFormatError, match="do not fit each other"):
        tally.from_arrays(SITE, {**good, "mean": good["mean"][:, :, 1:]})
    with pytest.raises(FileFormatError, match="do not fit each other"):
        GridMoments("variance").from_arrays(SITE, good)


def test_nothing_and_infinite_values() -> None:
    tally = GridMoments()
    value = tally.observe(
        tally.init(SITE),
        Activations.of(np.zeros((0, 3), np.float32)),
        Samples(np.empty(0, np.int64), transformations=T),
    )
    assert value.samples == 0
    x = values(6, 3)
    x[2, 1, 0], x[3, 3, 1] = np.nan, np.inf
    sums = grid_of(tally, x).by[ALL]
    assert not np.isfinite(sums.rows_var[:2]).any()
    assert np.isfinite(sums.rows_var[2])
    check_tally(tally, chunks=None)


def test_what_covers_what() -> None:
    assert GridMoments().covers(GridMoments("variance"))
    assert not GridMoments("variance").covers(GridMoments())
    assert not GridMoments().covers(GridMoments("variance", aligned=True))
    assert fewest([GridMoments("variance"), GridMoments(), StateTable()]) == [GridMoments(), StateTable()]


@pytest.mark.parametrize("flavour", ["std", "variance"])
@pytest.mark.parametrize("pool", [None, "mean"])
@pytest.mark.parametrize("strata", [None, "label"])
def test_memory_is_known_before_the_first_batch(flavour: Any, pool: Any, strata: Any) -> None:
    tally = GridMoments(flavour, pool, strata=strata)
    for shape, unit in (((3, 5, 4), 0), ((2,), 0), ((5, 4, 3), 2)):
        value = grid_of(tally, values(9, *shape), unit=unit + 1, labels=np.arange(9) % 3)
        expected = tally.expected_nbytes(shape, unit, T, 3 if strata else 1)
        assert expected == tally.nbytes(value)
        assert expected != tally.expected_nbytes(shape, unit, T + 1, 3 if strata else 1)
    distances = GridDistances()
    value = distances.observe(
        distances.init(SITE), Activations.of(values(1, 3)[0]), Samples(np.arange(1), transformations=T)
    )
    assert distances.nbytes(value) == distances.expected_nbytes((3,), 0, T)

"""Transformations do what their names say: against SciPy and NumPy, in NumPy and PyTorch, there and back."""

import math
from dataclasses import FrozenInstanceError, replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from layerscope import transformations as ts
from layerscope._errors import DataError
from layerscope.transformations import Frame
from tests.conftest import require

IMAGES = Frame(2, 3)
EXACT = [
    ts.Identity(),
    ts.Flip("horizontal"),
    ts.Flip("vertical"),
    *(ts.QuarterTurns(k) for k in range(4)),
    ts.Roll(3, -2),
    ts.Permute((2, 0, 1), axis=1),
    ts.rotate(90),
    ts.rotate(180),
    ts.rotate(-90),
    ts.rotate(720),
    ts.Noise(0.5, seed=3),
    ts.Brightness(0.25),
    ts.Contrast(1.5),
    ts.Flip("vertical").then(ts.Roll(1, 1)).then(ts.rotate(90)),
]
AFFINE = [
    ts.rotate(30),
    ts.rotate(-101.5, border="edge"),
    ts.translate(pixels=(2, 0)),
    ts.translate(pixels=(0.5, -1.25), border="edge"),
    ts.translate(fraction=(0.25, -0.1)),
    ts.scale(0.7),
    ts.scale((1.3, 0.8)),
    ts.shear(20),
    ts.shear(0, -35),
    ts.rotate(20).then(ts.translate(pixels=(1, 2))).then(ts.scale(1.2)),
    ts.translate(fraction=(0.2, 0.1)).then(ts.rotate(45)),
]


def images(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).random(shape or (3, 3, 12, 12)).astype(np.float32)


def smooth(size: int = 48) -> np.ndarray:
    """Images that a resample hardly changes, and that vanish at the border."""
    y, x = np.mgrid[:size, :size] / (size - 1) * 2 - 1
    blobs = [np.exp(-8 * ((x - a) ** 2 + (y - b) ** 2)) for a, b in ((0.2, 0.1), (-0.3, 0.2), (0.0, -0.3))]
    return np.stack(blobs)[:, None].astype(np.float64)


def check_linear(t: ts.Affine, x: np.ndarray, mine: Any) -> None:
    """The resample is SciPy's, given the map that goes back."""
    height, width = x.shape[-2:]
    swap = np.array([[0, 1], [1, 0]])  # SciPy counts (row, column)
    back = swap @ np.linalg.inv(np.array(t.linear)) @ swap
    shift = swap @ (np.array(t.pixels) + np.array(t.fraction) @ [width, height])
    centre = (np.array([height, width]) - 1) / 2
    offset = centre - back @ (centre + shift)
    mode = "nearest" if t.border == "edge" else "grid-constant"
    for image, got in zip(x.reshape(-1, height, width), np.asarray(mine).reshape(-1, height, width), strict=True):
        want = ndimage.affine_transform(image.astype(np.float64), back, offset, order=1, mode=mode)  # pyright: ignore[reportArgumentType]
        np.testing.assert_allclose(got, want, atol=3e-6)


@pytest.mark.parametrize("t", AFFINE, ids=lambda t: t.name)
@pytest.mark.parametrize("shape", [(2, 3, 12, 12), (2, 1, 9, 14)])
def test_affine_maps_are_those_of_scipy(t: ts.Affine, shape: tuple[int, ...]) -> None:
    x = images(*shape)
    check_linear(t, x, t.apply(x, IMAGES))


def test_the_check_rejects_a_rotation_the_other_way_and_one_in_radians() -> None:
    x, t = images(), ts.rotate(30)
    for wrong in (ts.rotate(-30), ts.rotate(math.radians(30)), ts.rotate(30 * 180 / math.pi)):
        with pytest.raises(AssertionError):
            check_linear(t, x, wrong.apply(x, IMAGES))


@pytest.mark.torch
@pytest.mark.parametrize("interpolation", ["linear", "nearest"])
@pytest.mark.parametrize("t", [*AFFINE, *EXACT], ids=lambda t: t.name)
def test_torch_is_numpy(t: Any, interpolation: Any) -> None:
    torch = require("torch")
    if isinstance(t, ts.Affine):
        t = replace(t, interpolation=interpolation)
    x = images(2, 3, 12, 12)
    mine = t.apply(torch.from_numpy(x), IMAGES)
    assert isinstance(mine, torch.Tensor)
    np.testing.assert_allclose(mine.numpy(), t.apply(x, IMAGES), atol=0 if t in EXACT[:11] else 2e-5)


def test_degrees_are_degrees_and_quarter_turns_exact() -> None:
    x = images()
    for k in range(-3, 6):
        np.testing.assert_array_equal(ts.rotate(90 * k).apply(x, IMAGES), np.rot90(x, k, axes=(2, 3)))
        np.testing.assert_array_equal(ts.QuarterTurns(k).apply(x, IMAGES), np.rot90(x, k, axes=(2, 3)))
    np.testing.assert_array_equal(ts.translate(pixels=(2, 0)).apply(x, IMAGES)[..., 2:], x[..., :-2])
    np.testing.assert_array_equal(ts.translate(fraction=(0, 0.25)).apply(x, IMAGES)[..., 3:, :], x[..., :-3, :])
    np.testing.assert_array_equal(ts.Roll(2, 1).apply(x, IMAGES), np.roll(x, (1, 2), (2, 3)))


@pytest.mark.parametrize("t", EXACT, ids=lambda t: t.name)
def test_there_and_back_is_where_we_were(t: Any) -> None:
    x = images()
    back = t.inverse().apply(t.apply(x, IMAGES), IMAGES)
    np.testing.assert_allclose(back, x, atol=0 if t in EXACT[:11] else 1e-6)


angles, zooms = st.floats(-360, 360), st.floats(0.6, 1.6)
shifts = st.tuples(st.floats(-0.1, 0.1), st.floats(-0.1, 0.1))


@given(angles, zooms, shifts, st.floats(-30, 30), st.tuples(st.floats(-4, 4), st.floats(-4, 4)), st.randoms())
@settings(max_examples=60)
def test_every_combination_and_its_inverse_are_the_identity(
    a: float, z: float, f: Any, s: float, p: Any, rnd: Any
) -> None:
    parts = [ts.rotate(a), ts.scale(z), ts.translate(fraction=f), ts.shear(s), ts.translate(pixels=p)]
    rnd.shuffle(parts)
    t = parts[0].then(parts[1]).then(parts[2]).then(parts[3]).then(parts[4])
    for both in (t.then(t.inverse()), t.inverse().then(t)):
        assert isinstance(both, ts.Affine)
        np.testing.assert_allclose(both.linear, np.eye(2), atol=1e-9)
        np.testing.assert_allclose(both.pixels, 0, atol=1e-8)
        np.testing.assert_allclose(both.fraction, 0, atol=1e-8)


exact_parts = st.one_of(
    st.builds(ts.Flip, st.sampled_from(["horizontal", "vertical"])),
    st.builds(ts.QuarterTurns, st.integers(-5, 5)),
    st.builds(ts.Roll, st.integers(-20, 20), st.integers(-20, 20)),
    st.permutations(range(3)).map(lambda order: ts.Permute(tuple(order), axis=1)),
    st.sampled_from([-270, -90, 0, 90, 180, 450]).map(ts.rotate),
    st.just(ts.Custom(lambda x: -x, back=lambda x: -x)),
    st.just(ts.Identity()),
)
light_parts = st.one_of(
    st.builds(ts.Brightness, st.floats(-2, 2)),
    st.builds(ts.Contrast, st.floats(0.3, 3)),
    st.builds(ts.Noise, st.floats(0, 2), st.integers(0, 9)),
)


def check_back(parts: list[Any], atol: float) -> None:
    """The chain, then its inverse, and the inverse, then the chain, leave the images as they were."""
    x, t = images(2, 3, 8, 8).astype(np.float64), parts[0]
    for part in parts[1:]:
        t = t.then(part)
    for one, two in ((t, t.inverse()), (t.inverse(), t), (t.inverse().inverse(), t.inverse())):
        np.testing.assert_allclose(two.apply(one.apply(x, IMAGES), IMAGES), x, rtol=0, atol=atol)


@given(st.lists(exact_parts, min_size=1, max_size=6))
@settings(max_examples=80)
def test_every_chain_of_moves_and_its_inverse_are_the_identity(parts: list[Any]) -> None:
    check_back(parts, atol=0)


@given(st.lists(st.one_of(exact_parts, light_parts), min_size=1, max_size=6))
@settings(max_examples=60)
def test_every_chain_with_light_and_its_inverse_are_the_identity(parts: list[Any]) -> None:
    check_back(parts, atol=1e-9)


def test_the_check_of_inverses_rejects() -> None:
    with pytest.raises(AssertionError):
        check_back([ts.Flip(), ts.Custom(lambda x: x + 1, back=lambda x: x), ts.Roll(1, 0)], atol=1e-9)
    with pytest.raises(AssertionError):  # a resample loses what lies between the pixels
        check_back([ts.rotate(30)], atol=1e-9)


def test_a_second_call_that_differs_is_refused_for_texts_and_nests_too() -> None:
    calls: list[int] = []

    def shuffled(texts: list[str]) -> list[str]:
        calls.append(1)
        return [f"{text} {len(calls)}" for text in texts]

    def noisy(pair: Any) -> Any:
        calls.append(1)
        return {"x": pair["x"] + len(calls), "mask": pair["mask"]}

    nest = {"x": np.zeros((2, 3)), "mask": np.ones((2, 3), bool)}
    for function, inputs in ((shuffled, ["a", "b"]), (noisy, nest)):
        grid = ts.Transformations((ts.Identity(), ts.Custom(function)))
        with pytest.raises(DataError, match="a second call gives something else"):
            grid.check(inputs)
    for function, inputs in (
        (lambda texts: [t.upper() for t in texts], ["a", "b"]),
        (lambda pair: {**pair, "x": pair["x"] * np.nan}, nest),
    ):
        ts.Transformations((ts.Identity(), ts.Custom(function))).check(inputs)


def test_composition_is_one_after_the_other() -> None:
    x = smooth()
    t, u = ts.rotate(25), ts.translate(pixels=(3, -2))
    together, apart = t.then(u).apply(x, IMAGES), u.apply(t.apply(x, IMAGES), IMAGES)
    assert np.abs(together - apart).max() < 0.03 < np.abs(u.then(t).apply(x, IMAGES) - apart).max()


def test_a_pooled_map_is_taken_back_by_as_much_less() -> None:
    """What pools and what is undone at half the size agree with undoing first, for smooth images."""
    x = smooth(64)

    def pooled(v: np.ndarray) -> np.ndarray:
        return v.reshape(3, 1, 32, 2, 32, 2).mean((3, 5))

    for t in (ts.rotate(40), ts.translate(pixels=(6, -4)), ts.translate(fraction=(0.1, 0.05)), ts.scale(0.8)):
        frame = Frame(2, 3, 64, 64)
        back = t.undo(pooled(t.apply(x, IMAGES)), frame)
        assert back is not None
        assert np.abs(back - pooled(x)).max() < 0.05  # two resamples, and what the border took
        naive = t.undo(pooled(t.apply(x, IMAGES)), Frame(2, 3, 32, 32))  # as if the map were the image
        assert naive is not None
        if t.pixels != (0.0, 0.0):
            assert np.abs(naive - pooled(x)).max() > 0.1
    rectangle: Any = ts.rotate(90).undo(np.zeros((1, 1, 8, 4)), Frame(2, 3, 16, 8))
    assert rectangle.shape == (1, 1, 8, 4)


def test_exact_ones_act_only_where_they_are_exact() -> None:
    values = images(2, 3, 6, 6)
    assert ts.Roll(1, 0).undo(values, Frame(2, 3, 12, 12)) is None  # half a pixel
    np.testing.assert_array_equal(ts.Roll(2, 0).undo(values, Frame(2, 3, 12, 12)), np.roll(values, -1, 3))
    assert ts.QuarterTurns(1).undo(images(2, 3, 6, 5), Frame(2, 3, 12, 10)) is None
    assert ts.rotate(10).undo(images(2, 7), Frame(None, None)) is None
    tokens = images(2, 3, 5)
    permute = ts.Permute((1, 2, 0), axis=1)
    np.testing.assert_array_equal(
        permute.undo(permute.apply(tokens, Frame(None, None)), Frame(None, None, axes=(1,))), tokens
    )
    assert permute.undo(images(2, 4, 5), Frame(None, None, axes=(1,))) is None


def test_supported_pixels_see_only_the_image() -> None:
    ones = np.ones((1, 1, 16, 16))
    for t in (
        ts.rotate(30),
        ts.translate(pixels=(3, 0)),
        ts.scale(1.5),
        ts.rotate(30).then(ts.Flip()).then(ts.rotate(5)),
    ):
        good = t.supported((16, 16), Frame(2, 3, 16, 16))
        back: Any = t.undo(ones, Frame(2, 3, 16, 16))
        np.testing.assert_allclose(back[0, 0][good], 1, atol=1e-6)
        assert 0 < good.sum() < good.size
    assert ts.Roll(3, 3).supported((16, 16), Frame(2, 3, 16, 16)).all()
    everywhere = ts.rotations(24).supported((28, 28), Frame(2, 3, 28, 28))
    y, x = np.mgrid[:28, :28] - 13.5
    np.testing.assert_array_equal(everywhere & (np.hypot(x, y) > 13.6), False)  # the inscribed disc
    assert everywhere[np.hypot(x, y) < 13.4].all()


def test_whole_numbers_stay_whole_numbers() -> None:
    x = (images(2, 1, 8, 8) * 255).astype(np.uint8)
    y = ts.rotate(30).apply(x, IMAGES)
    assert y.dtype == np.uint8
    np.testing.assert_array_equal(y, np.rint(ts.rotate(30).apply(x.astype(np.float32), IMAGES)))
    assert ts.Brightness(300).apply(x, IMAGES).min() == 255
    assert ts.Flip().apply(x, IMAGES).dtype == np.uint8


# --- sets -----------------------------------------------------------------------------------------------------------------------------


def check_set(grid: ts.Transformations, x: Any) -> None:
    """Every sample comes T times in a row, each time under one of the transformations."""
    rows = grid(x)
    assert len(rows) == len(x) * len(grid)
    frame = grid.frame_of(x)
    for j, item in enumerate(grid):
        np.testing.assert_allclose(np.asarray(rows[j :: len(grid)]), np.asarray(item.apply(x, frame)), atol=2e-5)


SETS = [
    ts.rotations(6),
    ts.translations(pixels=(0, 2), directions="both"),
    ts.scales((0.5, 1, 2)),
    ts.quarter_turns(),
    ts.rotations(3) * ts.translations(fractions=(0, 0.2), directions="x"),
    ts.rotations(2) + ts.quarter_turns(),
    ts.rotations(2, border="edge") * ts.rotations(2),
    *(ts.published(g, 4) for g in range(7)),
]


@pytest.mark.torch
@pytest.mark.parametrize("grid", SETS, ids=repr)
def test_sets_show_every_sample_under_every_transformation(grid: ts.Transformations) -> None:
    x = images(5, 3, 8, 8)
    check_set(grid, x)
    check_set(grid, np.moveaxis(x, 1, -1))
    check_set(grid, x[:, 0])
    check_set(grid, require("torch").from_numpy(x))
    np.testing.assert_allclose(grid(np.moveaxis(x, 1, -1)), np.moveaxis(grid(x), 1, -1), atol=1e-6)


def test_the_check_of_sets_rejects_transformation_major_rows() -> None:
    class Turned:
        """Rows in the other order."""

        def __init__(self, grid: ts.Transformations) -> None:
            self.grid = grid

        def __call__(self, x: Any) -> Any:
            return np.concatenate([item.apply(x, self.grid.frame_of(x)) for item in self.grid])

        def __getattr__(self, name: str) -> Any:
            return getattr(self.grid, name)

        def __len__(self) -> int:
            return len(self.grid)

        def __iter__(self) -> Any:
            return iter(self.grid)

    with pytest.raises(AssertionError):
        check_set(Turned(ts.rotations(4)), images(5, 3, 8, 8))  # type: ignore[arg-type]


@pytest.mark.torch
@pytest.mark.parametrize("kind", ["numpy", "torch"])
def test_aligning_is_undoing_column_by_column(kind: str) -> None:
    x = images(3, 4, 10, 10)
    values: Any = require("torch").from_numpy(x).repeat_interleave(6, 0) if kind == "torch" else np.repeat(x, 6, axis=0)
    frame = Frame(2, 3, 20, 20)
    for grid in (
        ts.rotations(6),
        ts.published(5, 6),
        ts.translations(pixels=(0, 2, 4), directions="x") * ts.scales((1, 1.5)),
    ):
        aligned = np.asarray(grid.align(values, frame))
        for j, item in enumerate(grid):
            undone: Any = item.undo(x, frame)
            np.testing.assert_allclose(aligned[j::6], undone, atol=2e-5)
    assert ts.rotations(6).align(np.zeros((12, 5), np.float32), Frame(None, None)) is None


def test_published_groups_have_their_documented_meaning() -> None:
    width, n = 28, 8
    for group in range(7):
        for i, item in enumerate(ts.published(group, n)):
            if group == 0:
                assert item == ts.Identity()
                continue
            assert isinstance(item, ts.Affine)
            turned, right, down = group in (1, 5, 6), group in (2, 4, 5), group in (3, 4, 6)
            np.testing.assert_allclose(item.linear, ts.rotate(45 * i).linear if turned else np.eye(2), atol=1e-12)
            shift = np.array(item.fraction) @ [width, width] + item.pixels
            np.testing.assert_allclose(shift, [right * i * width / n, down * i * width / n], atol=1e-12)


def test_draws_are_frozen_and_leave_random_numbers_alone() -> None:
    import random

    def jitter(x: np.ndarray) -> np.ndarray:
        return x * np.random.uniform(0.5, 1.5) + random.random()  # noqa: NPY002

    grid, x = ts.sampled(jitter, 4, seed=7), images(3, 1, 6, 6)
    before = str(np.random.get_state()), random.getstate()  # noqa: NPY002
    one, two = grid(x), grid(x[1:])
    assert (str(np.random.get_state()), random.getstate()) == before  # noqa: NPY002
    np.testing.assert_array_equal(one[4:], two)
    assert len({float(v) for v in one.reshape(3, 4, -1)[0, :, 0]}) == 4
    assert not np.array_equal(one, ts.sampled(jitter, 4, seed=8)(x))
    grid.check(x)


@pytest.mark.torch
def test_draws_of_torch() -> None:
    torch = require("torch")
    grid = ts.sampled(lambda x: x + torch.rand(()), 3)
    x, state = torch.zeros(2, 1, 4, 4), torch.get_rng_state()
    np.testing.assert_array_equal(grid(x), grid(x))
    assert torch.equal(torch.get_rng_state(), state)
    assert len(set(grid(x)[:3, 0, 0, 0].tolist())) == 3


def test_nests_and_texts_come_sample_major() -> None:
    grid = ts.Transformations((ts.Identity(), ts.Custom(lambda texts: [t.upper() for t in texts], title="upper case")))
    assert grid(["a", "b"]) == ["a", "A", "b", "B"]
    pair = ts.Transformations((ts.Custom(lambda p: p), ts.Custom(lambda p: (p[0] + 1, p[1]))))
    both: Any = pair((np.zeros((2, 3)), np.arange(2)))
    left, right = both
    np.testing.assert_array_equal(left[:, 0], [0, 1, 0, 1])
    np.testing.assert_array_equal(right, [0, 0, 1, 1])
    named = ts.Transformations((ts.Custom(lambda d: d), ts.Custom(lambda d: {"x": -d["x"]})))
    named_rows: Any = named({"x": np.ones((1, 2))})
    np.testing.assert_array_equal(named_rows["x"], [[1, 1], [-1, -1]])


@pytest.mark.torch
@pytest.mark.parametrize("kind", ["numpy", "torch"])
@pytest.mark.parametrize("first", [True, False])
def test_functions_that_work_in_place_reach_no_other_column(kind: str, first: bool) -> None:
    def negated(x: Any) -> Any:
        array = x["x"] if isinstance(x, dict) else x  # pyright: ignore[reportUnknownVariableType]
        array *= -1
        return x  # pyright: ignore[reportUnknownVariableType]

    given = np.arange(1.0, 33.0).reshape(2, 1, 4, 4)
    x: Any = require("torch").from_numpy(given.copy()) if kind == "torch" else given.copy()
    custom = ts.Custom(negated, back=negated, on_layer=lambda values, axes: negated(values))
    grid = ts.Transformations((custom, ts.Identity()) if first else (ts.Identity(), custom))
    signs = np.array([-1, 1] if first else [1, -1]).reshape(1, 2, 1, 1, 1)
    wanted = (given[:, None] * signs).reshape(4, 1, 4, 4)
    grid.check(x)
    rows: Any = grid(x)
    np.testing.assert_array_equal(np.asarray(rows), wanted)
    named: Any = grid({"x": x})
    np.testing.assert_array_equal(np.asarray(named["x"]), wanted)
    back: Any = grid.alignment(x).align(rows, 1)
    np.testing.assert_array_equal(np.asarray(back), np.repeat(given, 2, axis=0))
    np.testing.assert_array_equal(np.asarray(rows), wanted)  # what a layer gave
    np.testing.assert_array_equal(np.asarray(x), given)


def test_recipes_are_values() -> None:
    assert ts.rotations(16) == ts.rotations(16) != ts.rotations(15)
    assert hash(ts.rotations(16)) == hash(ts.rotations(16))
    there = ts.rotate(30).then(ts.rotate(-30))
    assert isinstance(there, ts.Affine)
    assert there.linear[0][0] == pytest.approx(1)
    assert ts.rotations(16).identity == 0
    assert ts.Transformations((ts.Flip(), ts.Identity())).identity == 1
    assert ts.Transformations((ts.Flip(), ts.rotate(3))).identity is None
    with pytest.raises(FrozenInstanceError):
        ts.rotate(3).border = "edge"  # type: ignore[misc]


# --- bad input ------------------------------------------------------------------------------------------------------------------------


def _random(x: np.ndarray) -> np.ndarray:
    return x + np.random.default_rng().normal()


def _per_sample(x: np.ndarray) -> np.ndarray:
    return x * np.linspace(1, 2, len(x)).reshape(-1, *(1,) * (x.ndim - 1))


BAD_SETS = {
    "only 'rotate 0°'. A variance over transformations needs two or more": ts.rotations(1),
    "a second call gives something else. Freeze the draws": (ts.Custom(_random), ts.Identity()),
    "draw 0 of _random .* a second call gives something else": (ts.sampled(_random, 2)),
    "a sample comes out differently when it is alone": (ts.Custom(_per_sample), ts.Identity()),
    r"inputs of shape \(4, 1, 8, 8\) became \(4, 1, 7, 8\)": (ts.Custom(lambda x: x[:, :, 1:]), ts.Identity()),
    r"inputs of shape \(4, 1, 8, 8\) became list": (ts.Custom(lambda x: x.tolist()), ts.Identity()),
    "makes NaN or infinite values of finite inputs": (ts.Custom(lambda x: np.log(x - 2)), ts.Identity()),
    "its inverse is none": (ts.Custom(lambda x: np.roll(x, 2, 3), back=lambda x: np.roll(x, 2, 3)), ts.Identity()),
}


@pytest.mark.parametrize("message", BAD_SETS)
@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")
def test_bad_sets_are_refused(message: str) -> None:
    grid = BAD_SETS[message]
    grid = grid if isinstance(grid, ts.Transformations) else ts.Transformations(grid)
    with pytest.raises(DataError, match=message):
        grid.check(images(4, 1, 8, 8))


def test_good_sets_pass() -> None:
    for grid in SETS:
        grid.check(images(4, 1, 8, 8))
    ts.Transformations((ts.Custom(lambda x: np.roll(x, 2, 3), back=lambda x: np.roll(x, -2, 3)), ts.Identity())).check(
        images(4, 1, 8, 8)
    )


@pytest.mark.parametrize(
    ("message", "make"),
    [
        ("rotate: degrees must be a finite number, got nan", lambda: ts.rotate(float("nan"))),
        ("rotate: degrees must be a finite number, got '30'", lambda: ts.rotate("30")),  # type: ignore[arg-type]
        ("scale: a factor is above 0, got 0", lambda: ts.scale(0)),
        ("shear: angles lie between -90° and 90°", lambda: ts.shear(90)),
        ("translate: give one of pixels", lambda: ts.translate()),
        ("translate: give one of pixels", lambda: ts.translate(pixels=(1, 2), fraction=(0, 0))),
        ("maps the image onto a line", lambda: ts.Affine(((1, 1), (1, 1)))),
        ("Affine: border is one of", lambda: ts.rotate(3, border="mirror")),  # type: ignore[arg-type]
        ("Flip: direction is 'horizontal' or 'vertical'", lambda: ts.Flip("both")),  # type: ignore[arg-type]
        ("Roll: x is a whole number of pixels", lambda: ts.Roll(1.5)),  # type: ignore[arg-type]
        ("Permute: the order must hold 0 … 1 once each", lambda: ts.Permute((0, 0))),
        ("Contrast: a factor is above 0", lambda: ts.Contrast(0)),
        ("Noise: a deviation is 0 or more", lambda: ts.Noise(-1)),
        ("Custom: function=3 cannot be called", lambda: ts.Custom(3)),  # type: ignore[arg-type]
        ("no inverse was given", lambda: ts.Custom(np.negative).inverse()),
        ("a random transformation has no inverse", lambda: ts.sampled(_random, 2)[0].inverse()),
        ("sampled: 3 cannot be called", lambda: ts.sampled(3, 2)),  # type: ignore[arg-type]
        ("rotations: n is a number of transformations, 1 or more, got 0", lambda: ts.rotations(0)),
        ("published: groups are 0 to 6, got 7", lambda: ts.published(7, 3)),
        ("translations: give one of pixels", lambda: ts.translations()),
        ("transformations: there is none", lambda: ts.Transformations(())),
        ("transformations: 3 is none", lambda: ts.Transformations((3,))),  # type: ignore[arg-type]
        ("channels is 'first' or 'last', got 'middle'", lambda: ts.rotations(3, channels="middle")),  # type: ignore[arg-type]
        ("Chain: no transformation", lambda: ts.Chain(())),
        ("which axis of images of shape", lambda: ts.rotations(3)(np.zeros((2, 3, 9, 3)))),
        ("which axis of images of shape", lambda: ts.rotations(3)(np.zeros((2, 9, 9, 9)))),
        ("have no rows and columns to move", lambda: ts.rotations(3)(np.zeros((2, 9)))),
        ("change their shape", lambda: ts.quarter_turns()(np.zeros((2, 3, 9, 8)))),
        ("3 entries are reordered", lambda: ts.Permute((0, 2, 1)).apply(np.zeros((2, 9)), Frame(None, None))),
        ("list became set", lambda: ts.Transformations((ts.Custom(set), ts.Identity()))(["a", "b"])),
    ],
)  # fmt: skip
def test_bad_arguments_say_what_to_do(message: str, make: Any) -> None:
    with pytest.raises(DataError, match=message):
        make()


def test_channels_settle_what_the_shape_leaves_open() -> None:
    x = images(2, 3, 9, 3)
    np.testing.assert_allclose(
        ts.rotations(3, channels="first")(x)[1], ts.rotate(120).apply(x, Frame(2, 3))[0], atol=1e-6
    )
    np.testing.assert_allclose(
        ts.rotations(3, channels="last")(x)[1], ts.rotate(120).apply(x, Frame(1, 2))[0], atol=1e-6
    )

"""Sites are written and read back; axis roles and masks say which row is whose."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from layerscope._errors import ShapeError, SiteError
from layerscope._site import Activations, Axes, Chunk, Samples, Site, mask_fits

paths = st.from_regex(r"[a-z_][a-z0-9_]*(\.[a-z0-9_]+){0,3}(\(\))?", fullmatch=True)


@given(paths, st.integers(0, 99), st.sampled_from(["out", "in"]), st.integers(0, 9), st.none() | st.integers(0, 50))
def test_a_site_reads_back_as_itself(path: str, call: int, port: str, part: int, step: int | None) -> None:
    site = Site(path, call, port, part, step)
    assert Site.parse(str(site)) == site


def test_the_model_itself_has_a_name() -> None:
    assert str(Site("")) == "(model)"
    assert Site.parse("(model):in") == Site("", port="in")


def test_a_port_is_in_or_out() -> None:
    with pytest.raises(SiteError, match="'in' or 'out'"):
        Site("a", port="left")


def test_positions_are_what_is_neither_sample_nor_unit() -> None:
    assert Axes(1).positions((8, 20, 24, 23)) == (24, 23)
    assert Axes(-1).positions((8, 28, 384)) == (28,)
    assert Axes(2, sample=1).positions((5, 8, 6)) == (5,)
    with pytest.raises(ShapeError, match="one and the same"):
        Axes(-1).positions((8,))


@pytest.mark.parametrize(
    ("mask", "positions", "fits"),
    [
        ((28,), (28,), True),
        ((28,), (28, 4), True),
        ((28,), (12, 28, 28), False),
        ((28,), (), True),
        ((28,), (29,), False),
    ],
)
def test_a_mask_speaks_of_the_leading_positions(mask: tuple[int, ...], positions: tuple[int, ...], fits: bool) -> None:
    assert mask_fits(mask, positions) is fits


def test_a_mask_spreads_over_further_positions() -> None:
    mask = np.array([[True, False, True]])
    chunk = Chunk({}, Samples(np.array([0]), mask=mask), positions=(3, 2), units=5)
    rows = chunk.rows_mask(6, Site("x"))
    assert rows is not None
    assert rows.tolist() == [[True, True, False, False, True, True]]
    with pytest.raises(ShapeError, match="mask has positions"):
        Chunk({}, Samples(np.array([0]), mask=mask), positions=(4,), units=5).rows_mask(4, Site("x"))
    with pytest.raises(ShapeError, match="span all positions"):
        chunk.rows_mask(None, Site("x"))
    assert Chunk({}, Samples(np.array([0]), mask=mask), positions=(), units=5).rows_mask(1, Site("x")) is None


def test_keys_depend_on_the_id_alone() -> None:
    ids = np.array([5, -3, 2**62, 0])
    assert np.array_equal(Samples(ids).keys[::-1], Samples(ids[::-1].copy()).keys)
    assert len(np.unique(Samples(np.arange(100_000)).keys)) == 100_000
    assert abs(float((Samples(np.arange(100_000)).keys < 2**63).mean()) - 0.5) < 0.01


def test_activations_of_an_array() -> None:
    a = Activations.of(np.zeros((3, 4)), unit=1)
    assert a.axes == Axes(1)
    assert a.host is a.values

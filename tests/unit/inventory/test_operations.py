"""Where axes go when shapes are cut anew or summed, against arrays whose axes are marked."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from layerscope.inventory._operations import Went, reduced, regrouped


@st.composite
def cuts(draw: st.DrawFn) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """A shape, and the same cut anew: some axes merged, some split."""
    old = draw(st.lists(st.integers(1, 4), min_size=1, max_size=5))
    factors = [
        f
        for size in old
        for f in draw(st.sampled_from([[size], [1, size], [size, 1], [2, 2] if size == 4 else [size]]))
    ]
    borders = sorted(draw(st.sets(st.integers(1, len(factors) - 1), max_size=4))) if len(factors) > 1 else []
    new = [math.prod(factors[a:b]) for a, b in zip([0, *borders], [*borders, len(factors)], strict=True)]
    return tuple(old), tuple(new)


@given(cuts())
def test_an_axis_said_to_be_whole_holds_the_same_entries(shapes: tuple[tuple[int, ...], tuple[int, ...]]) -> None:
    old, new = shapes
    for axis, to in enumerate(regrouped(old, new)):
        if to is not None and to.whole:
            marked = np.broadcast_to(np.arange(old[axis]).reshape(-1, *(1,) * (len(old) - axis - 1)), old).reshape(new)
            wanted = np.broadcast_to(np.arange(new[to.first]).reshape(-1, *(1,) * (len(new) - to.first - 1)), new)
            np.testing.assert_array_equal(marked, wanted)


@pytest.mark.parametrize(
    ("old", "new", "unit", "to"),
    [
        ((2, 3, 4, 5), (2, 3, 20), 1, Went(1, 1)),
        ((2, 3, 4, 5), (2, 60), 1, Went(1, 1, alone=False)),
        ((2, 7, 8), (14, 8), 0, Went(0, 0, alone=False)),
        ((2, 7, 8), (2, 7, 2, 4), 2, Went(2, 3)),
        ((14, 8), (2, 7, 8), 0, Went(0, 1)),
        ((2, 3, 1, 1), (2, 3), 1, Went(1, 1)),
        ((2, 1, 4, 4), (2, 1, 16), 1, Went(1, 1)),
        ((2, 3), (2, 1, 3), 1, Went(2, 2)),
        ((2, 6, 4), (3, 4, 4), 1, None),
    ],
)
def test_where_an_axis_goes(old: tuple[int, ...], new: tuple[int, ...], unit: int, to: Went | None) -> None:
    assert regrouped(old, new)[unit] == to


def test_sums_say_which_axes_they_take() -> None:
    assert reduced(4, 2, (None, (2, 3)), {}) == [Went(0, 0), Went(1, 1), None, None]
    assert reduced(3, 2, (None,), {"dim": -1}) == [Went(0, 0), Went(1, 1), None]
    assert reduced(3, 0, (None,), {}) == [None] * 3

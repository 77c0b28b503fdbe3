"""The picture of a descent: its curves are those of the ledger, its parts sum up to the whole, and every name has room."""

from typing import Any

import matplotlib
import numpy as np
import pytest
from numpy.typing import NDArray

from layerscope import energy
from layerscope.energy import Ledger
from layerscope.report._energy import draw_energy, parts, plot
from layerscope.report._look import NARROW, ON_PAPER, WIDE, Look, drawing

RNG = np.random.default_rng(0)
PATTERNS = RNG.standard_normal((30, 16))
KNOWN = np.arange(16) < 8


@pytest.fixture(scope="module")
def ledger() -> Ledger:
    truth = PATTERNS[:10] + 0.3 * RNG.standard_normal((10, 16))
    return energy.memory(PATTERNS).ledger(np.where(KNOWN, truth, np.nan), KNOWN, truth, 12)


def curves(ax: Any) -> list[NDArray[np.float64]]:
    return [np.asarray(line.get_ydata()) for line in ax.lines]


def check_parts(shown: list[tuple[str, NDArray[np.float64]]]) -> None:
    """The first curve is the sum of the others."""
    np.testing.assert_allclose(shown[0][1], sum(curve for _, curve in shown[1:]), rtol=1e-9, atol=1e-12)


def test_what_is_drawn_is_the_balance(ledger: Ledger) -> None:
    above, below = plot(ledger).axes
    assert [name for name, _ in parts(ledger)] == ["E", "interaction", "E of v", "−S/β of memory"]
    for drawn, (_, curve) in zip(curves(above), parts(ledger), strict=True):
        np.testing.assert_array_equal(drawn, curve)
    check_parts(parts(ledger))
    np.testing.assert_allclose(parts(ledger)[3][1], -ledger.entropies["memory"] / ledger.betas["memory"], rtol=1e-9)
    assert ledger.overlaps is not None
    assert ledger.baseline is not None
    assert np.isnan(ledger.overlaps[0]).all(), "what is not known starts at zero, which has no direction"
    middle, baseline = curves(below)
    np.testing.assert_array_equal(middle, np.median(ledger.overlaps[1:], axis=1))
    assert list(baseline) == [np.median(ledger.baseline)] * 2


def test_parts_that_leave_something_out_do_not_pass(ledger: Ledger) -> None:
    with pytest.raises(AssertionError):
        check_parts(parts(ledger)[:-1])


def test_a_layer_whose_energy_has_a_constant_is_called_an_energy() -> None:
    """For tanh E = (n ln 2 − S)/β: the sum would not hold with −S/β in its place."""
    ham = energy.HAM({"t": energy.TanhLayer((4,))}, {}, [])
    book = ham.ledger({"t": RNG.standard_normal((3, 4))}, 2)
    assert [name for name, _ in parts(book)] == ["E", "interaction", "E of t"]
    check_parts(parts(book))


def test_without_a_target_there_is_one_panel() -> None:
    ham = energy.HAM({"t": energy.SoftmaxLayer((4,))}, {}, [])
    assert len(ham.ledger({"t": RNG.standard_normal((3, 4))}, 0).plot().axes) == 1
    one = ham.ledger({"t": RNG.standard_normal(4)}, 3).plot()
    assert "energy of one state" in [text.get_text() for text in one.texts]


@pytest.mark.parametrize("width", [WIDE, NARROW])
def test_no_name_leaves_the_picture_or_covers_another(ledger: Ledger, width: float) -> None:
    with drawing():
        figure = draw_energy(ledger, Look(ON_PAPER, width))
        figure.draw_without_rendering()
        boxes = [text.get_window_extent() for text in figure.texts]
    assert len(boxes) >= 8
    for at, box in enumerate(boxes):
        assert box.x1 <= figure.bbox.x1
        assert not any(box.overlaps(other) for other in boxes[:at])


def test_matplotlib_is_left_as_it_was(ledger: Ledger) -> None:
    before = matplotlib.rcParams.copy()
    ledger.plot()
    assert matplotlib.rcParams == before

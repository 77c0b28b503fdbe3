"""The measures of two inputs under three transformations, small enough to be computed by hand. Run once under each KERAS_BACKEND."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

import layerscope.compat.transformational_measures as tm
from tests.conftest import require

keras = require("keras")
pytestmark = [
    pytest.mark.keras,
    pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning"),
]


class Six(tm.DataSet):
    """1 2 3 / 2 4 6"""

    inputs = np.array([[1, 2, 3], [2, 4, 6]], np.float32)[..., None]

    def get_data_shape(self) -> tuple[int, ...]:
        return (1,)

    def get_height(self) -> int:
        return 2

    def get_width(self) -> int:
        return 3

    def get_matrix(self, rows: Sequence[int], columns: Sequence[int]) -> Any:
        return self.inputs[np.ix_(rows, columns)]

    def transpose(self) -> None:
        raise AssertionError("nobody has to transpose it")

    def is_transpose(self) -> bool:
        return False


@pytest.fixture(scope="module")
def iterator() -> tm.Iterator:
    """Two layers: x and 2 x beside a unit that is always 5; then their sum."""
    first, second = keras.layers.Dense(3, name="first"), keras.layers.Dense(1, name="second")
    net = keras.Sequential([keras.Input((1,)), first, second])
    first.set_weights([np.array([[1, 2, 0]], "float32"), np.array([0, 0, 5], "float32")])
    second.set_weights([np.ones((3, 1), "float32"), np.zeros(1, "float32")])
    return tm.Iterator(tm.Model(model_keras=net), Six())


def test_variance(iterator: tm.Iterator) -> None:
    """Rows 1 2 3 and 2 4 6 have the variances 1 and 4, in the mean 5/2: of x 5/2, of 2 x 10, of 5 nothing; of 3 x + 5 it is 45/2."""
    (first, second), by_activation = found = tm.Variance(iterator).compute()
    np.testing.assert_allclose(by_activation[0], [5 / 2, 10, 0], atol=1e-12)
    np.testing.assert_allclose(by_activation[1], [45 / 2])
    assert (first, second) == pytest.approx((25 / 6, 45 / 2))
    assert found.total == pytest.approx((25 / 6 + 45 / 2) / 2)
    assert found.of_input == pytest.approx(5 / 2)


def test_normalized_variance(iterator: tm.Iterator) -> None:
    """Columns 1 2, 2 4 and 3 6 have the variances 1/2, 2 and 9/2, in the mean 7/3: the ratio is 15/14 everywhere but where nothing moves."""
    found = tm.NormalizedVariance(iterator).compute()
    np.testing.assert_allclose(found[1][0], [15 / 14, 15 / 14, np.nan])
    np.testing.assert_allclose([*found[0], found.total, found.of_input], 15 / 14)
    assert found.notes == ("1 constant of 3", "")

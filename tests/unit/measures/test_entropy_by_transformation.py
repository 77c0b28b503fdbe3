"""Entropy under each transformation: as if its inputs alone had been measured."""

from typing import Any

import numpy as np
import pytest

from layerscope._errors import EmptyTally, ThresholdError
from layerscope.measures import Entropy, EntropyByTransformation
from layerscope.testing import check_measure, random_chunks
from tests.unit.measures.grids import SITE, stream

T = 4


def firing(samples: int = 300, units: int = 8, seed: int = 0) -> np.ndarray:
    """(samples, T, units, positions): under the last transformation units hardly differ from each other."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(samples, T, units, 6))
    x[:, 3] = x[:, 3, :1] + 0.3 * x[:, 3]
    return x.astype(np.float32)


def reading(measure: Any, x: np.ndarray, **how: Any) -> Any:
    return measure.compute(stream(measure.tally, x, **how))


def alone(measure: Entropy, x: np.ndarray) -> Any:
    """The entropy of one transformation's inputs, measured by themselves."""
    return measure.compute(stream(measure.tally, x[:, None]))


@pytest.mark.parametrize("estimator", ["c2", "plug-in"])
@pytest.mark.parametrize("order", [1, 2])
def test_every_number_is_that_of_its_inputs_alone(estimator: Any, order: float) -> None:
    x = firing()
    found = reading(EntropyByTransformation(order, estimator=estimator), x)
    wanted = [float(alone(Entropy(order, estimator=estimator), x[:, t])) for t in range(T)]
    np.testing.assert_allclose(found.value, wanted, rtol=1e-12)
    assert found.measured_in == "bits under each of 4 transformations, 300 samples"
    assert (found.samples, found.observations) == (300, 300 * T * 6)
    with pytest.raises(AssertionError):
        np.testing.assert_allclose(found.value, wanted[::-1], rtol=1e-12)


def test_the_note_says_which_use_fewer_states() -> None:
    found = reading(EntropyByTransformation(), firing())
    assert f"mean {found.value.mean():.4g}, from {found.value[3]:.4g} under transformation 3 to" in found.note
    assert "4 measured; of 3 others 1 use fewer states than transformation 0, 0 more" in found.note
    assert found.verdict == "measured"


def test_too_few_samples_are_said() -> None:
    found = reading(EntropyByTransformation(), firing(5, 40))
    assert found.verdict == "saturated"
    assert "4 saturated" in found.note
    assert found.undersampled


def test_a_transformation_without_a_number_is_nan() -> None:
    x = firing()
    x[:, 2] = 1
    found = reading(EntropyByTransformation(), x)
    assert np.isnan(found.value).tolist() == [False, False, True, False]
    assert "1 no number" in found.note
    with pytest.raises(ThresholdError, match="cannot tell on from off"):
        reading(EntropyByTransformation(), np.ones_like(x))
    with pytest.raises(EmptyTally):
        EntropyByTransformation().compute(EntropyByTransformation().tally.init(SITE))


def test_it_obeys_the_law() -> None:
    measure = EntropyByTransformation()
    check_measure(measure, chunks=random_chunks(measure.tally, 1, T=T))


def test_values_that_are_no_numbers_are_counted() -> None:
    x = firing(50)
    assert "NaN" not in reading(EntropyByTransformation(), x).note
    x[3, 1, 2] = np.nan
    assert "6 NaN and 0 infinite values; NaN and -inf count as not firing" in reading(EntropyByTransformation(), x).note

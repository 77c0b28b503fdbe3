"""One site of results: methods with the arguments of their measures, and tables by transformation and by class."""

import inspect
from typing import Any

import numpy as np
import pytest

from layerscope import measures as ms
from layerscope._errors import DataError, SiteError
from layerscope._site import Axes
from layerscope._view import View
from layerscope.inventory import Layer, Role
from layerscope.tallies import AbstractTally
from tests.unit.measures.grids import SITE, activations, spreads, stream

T, LABELS = 3, np.arange(60) % 3
NAMES = ("as they are", "turned", "shifted")
X = activations(60, T, 6, 4)


def view(*measures: Any) -> View:
    tallies: dict[AbstractTally[Any], Any] = {
        measure.tally: stream(measure.tally, X, labels=LABELS) for measure in measures
    }
    layer = Layer(SITE, "ReLU", Role.OTHER, (len(X), *X.shape[2:]), "float32", Axes(1))
    return View(layer, tallies, NAMES)


GRID = view(ms.NormalizedVariance())


def test_methods_are_their_measures() -> None:
    wanted = {
        GRID.normalized_variance(): ms.NormalizedVariance(),
        GRID.normalized_variance("variance", aggregate="ratio of means"): ms.NormalizedVariance("variance", aggregate="ratio of means"),
        GRID.transformation_variance("variance"): ms.TransformationVariance("variance"),
        GRID.sample_variance(level="map"): ms.SampleVariance(level="map"),
        GRID.anova("one-way"): ms.Anova("one-way"),
        view(ms.Distance()).distance("cosine", against=1): ms.Distance("cosine", against=1),
        view(ms.CKA()).cka(debiased=False): ms.CKA(debiased=False),
    }  # fmt: skip
    for found, measure in wanted.items():
        other = measure.compute(stream(measure.tally, X))
        np.testing.assert_allclose(found.value, other.value, rtol=1e-12)
        assert (found.measured_in, found.note) == (other.measured_in, other.note)


def test_methods_have_the_words_and_arguments_of_their_measures() -> None:
    every = [name for name, _ in inspect.getmembers(View, inspect.isfunction) if not name.startswith("_")]
    asking = [name for name in every if "asks" in getattr(View, name).__qualname__]
    assert len(asking) >= 18
    for name in asking:
        assert inspect.getdoc(getattr(View, name)), name
    assert list(inspect.signature(View.cka).parameters) == ["self", "against", "level", "debiased", "widest"]
    assert inspect.getdoc(View.cka) == inspect.getdoc(ms.CKA)


def test_what_was_not_recorded_says_what_to_ask_for() -> None:
    with pytest.raises(SiteError, match=r"GridCovariances.* was not recorded; recorded are GridMoments.*measures="):
        GRID.cka()
    with pytest.raises(SiteError, match=r"measures=\[ls\.measures\.CKA\(against=2\)\], transformations=…\)\.$"):
        GRID.cka(against=2)
    with pytest.raises(SiteError, match=r"measures=\[ls\.measures\.Entropy\(\)\]\)\.$"):
        GRID.entropy()
    with pytest.raises(SiteError, match=r"measures=\[ls\.measures\.Information\(\)\]\), with labels in the data\.$"):
        GRID.information()
    with pytest.raises(SiteError, match=r"strata='label'\) was not recorded"):
        GRID.by_class()
    with pytest.raises(SiteError, match="GridMoments"):
        view().by_transformation()


@pytest.mark.parametrize("no_measure", [ms.CKA, "cka"], ids=str)
def test_what_is_no_measure_is_refused_in_words(no_measure: Any) -> None:
    with pytest.raises(DataError, match=r"is no measure\. Give an object of one, with the parentheses"):
        GRID.reading(no_measure)


def test_a_row_per_transformation() -> None:
    table = view(ms.NormalizedVariance(), ms.Distance(), ms.CKA(), ms.EntropyByTransformation()).by_transformation()
    assert list(table.index) == [*NAMES]
    assert list(table.columns) == ["sample_variance", "distance", "cosine", "cka", "entropy"]
    exact = X.astype(np.float64)
    np.testing.assert_allclose(table["sample_variance"], exact.std(0, ddof=1).mean((1, 2)), rtol=2e-6)
    apart = np.sqrt(((exact - exact[:, :1]) ** 2).sum((2, 3)) / 24).mean(0)
    np.testing.assert_allclose(table["distance"], apart, rtol=2e-6)
    assert table["cka"].to_numpy()[0] == pytest.approx(1)
    assert table["entropy"].min() > 0
    assert list(GRID.by_transformation().columns) == ["sample_variance"]


def test_a_row_per_class() -> None:
    table = view(ms.NormalizedVariance(by_class=True)).by_class()
    assert list(table.index) == [0, 1, 2]
    assert list(table.columns) == ["samples", "normalized_variance", "transformation_variance", "sample_variance"]
    for label in range(3):
        t, s = spreads(X[LABELS == label], "std")
        row = table.to_numpy()[label]
        assert int(row[0]) == 20
        np.testing.assert_allclose(row[1:], [(t / s).mean(), t.mean(), s.mean()], rtol=2e-6)
    mean = view(ms.NormalizedVariance(by_class=True)).normalized_variance(by_class=True)
    assert table["normalized_variance"].mean() == pytest.approx(float(mean))

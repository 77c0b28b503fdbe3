"""Every measure says where it comes from, and results cite what they used."""

import inspect

import pytest

from layerscope import measures as ms
from layerscope.measures._counts import SHANNON
from layerscope.measures._sources import ESTIMATORS, SOURCES

KINDS = [
    kind
    for _, kind in inspect.getmembers(ms, inspect.isclass)
    if issubclass(kind, ms.AbstractMeasure | ms.AbstractSummary) and not kind.__name__.startswith("Abstract")
]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_every_measure_has_a_line(kind: type[ms.AbstractMeasure[object]]) -> None:
    assert kind.name in SOURCES


def test_every_estimator_but_the_plain_count_has_a_line() -> None:
    assert {*SHANNON, "c1", "c2"} - {"plug-in"} == {*ESTIMATORS}


def test_each_source_stands_once_and_only_those_that_were_used() -> None:
    grid = ms.sources_of([ms.NormalizedVariance(), ms.TransformationVariance(), ms.CKA()])
    assert len(grid) == len({*grid}) == 5
    assert not any("Good, I. J." in line or "Rényi" in line for line in grid)
    states = ms.sources_of([ms.Entropy(), ms.Entropy(estimator="c2"), ms.FiringRate()])
    assert [line.split(",")[0] for line in states] == ["Rényi", "Schaub", "Good", "Chao"]

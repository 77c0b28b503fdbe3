"""What the states tell about the labels, on the page: drawn, said, doubted and tabulated as measured."""

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from layerscope import Results
from layerscope.report import page
from layerscope.report import plot as drawn
from layerscope.report._facts import Facts
from layerscope.report._label_facts import labels_of
from layerscope.report._words import distrust, plain_words
from tests.unit.report.labelled import CLASSES, labelled, telling
from tests.unit.report.made import narrow, usual, wide
from tests.unit.report.reader import Page


def words(results: Results) -> str:
    return "\n".join(map(str, plain_words(Facts(results))))


def doubts(results: Results) -> str:
    return "\n".join(map(str, distrust(Facts(results))))


def test_a_layer_that_is_the_label_tells_all_of_it_and_chance_nothing() -> None:
    all_of_it, half, nothing = labels_of(labelled({"a": telling(1.0), "b": telling(0.7), "c": telling(0.0)})).sites
    assert all_of_it.there_is == pytest.approx(2.0)
    assert float(all_of_it.information) == pytest.approx(2.0, abs=0.01)
    assert 0.3 < float(half.information) < 1.5
    assert float(nothing.information) == pytest.approx(0.0, abs=0.05)


def test_the_mean_by_chance_is_that_of_labels_drawn_at_random() -> None:
    values = narrow(samples=80, units=5, positions=1)
    (site,) = labels_of(labelled({"a": values})).sites
    rng, found = np.random.default_rng(0), []
    states = (values[:, 0] > 0) @ (1 << np.arange(5))

    def entropy(some: NDArray[Any]) -> float:
        p = np.unique(some, return_counts=True)[1] / len(some)
        return float(-(p * np.log2(p)).sum())

    for _ in range(300):
        label = rng.permutation(np.arange(80) % CLASSES)
        found.append(entropy(states) - np.mean([entropy(states[label == c]) for c in range(CLASSES)]))
    assert site.by_chance == pytest.approx(np.mean(found), abs=0.02), "300 permutations scatter by less"
    assert site.plain == pytest.approx(entropy(states) - np.mean([entropy(states[c::CLASSES]) for c in range(CLASSES)]))


def test_states_that_were_not_counted_by_label_have_no_picture() -> None:
    assert labels_of(usual()).sites == ()
    assert "labels" not in Page(page(usual())).ids


def test_the_picture_has_dots_ticks_and_crosses() -> None:
    results = labelled({"a": telling(1.0), "b": telling(0.6), "w": wide(samples=100)})
    sites = labels_of(results).sites
    figure: Any = drawn(results, "labels")
    lines = figure.axes[0].lines
    dots = [float(x) for line in lines if line.get_marker() == "o" for x in line.get_xdata()]
    ticks = [float(x) for line in lines if line.get_marker() == "|" for x in line.get_xdata()]
    assert sorted(dots) == pytest.approx(sorted(float(site.information) for site in sites[:2]))
    assert ticks == pytest.approx([site.by_chance for site in sites])
    assert [len(line.get_xdata()) for line in lines if line.get_marker() == "x"] == [1]


def test_the_words_tell_the_best_layer_and_the_doubts_the_undefined_one() -> None:
    results = labelled({"a": telling(1.0), "b": telling(0.5), "w": wide(samples=100)})
    said = words(results)
    assert "Of the layers where it can be told, a's state gives away most of the class: 2 [" in said
    assert "would appear with any labels." in said
    assert "b's gives away least of these, " in said
    assert "undefined where nearly every sample shows states of its own: w (2 bits)" in doubts(results)
    assert "label" not in doubts(usual())


def test_references_stand_beside() -> None:
    results = labelled({"a": telling(1.0)})
    results.references["shuffled labels"] = labelled({"a": telling(0.0)})
    results.references["untrained"] = labelled({"a": telling(0.4)})
    said = words(results)
    assert " with shuffled labels and " in said
    assert " in the untrained network)" in said
    figure: Any = drawn(results, "labels")
    assert {"X", "^"} <= {line.get_marker() for line in figure.axes[0].lines}


def test_the_table_of_classes_is_on_the_page() -> None:
    read = Page(page(labelled({"a": telling(1.0), "b": telling(0.5)})))
    for fact in ("The classes, layer by layer", "information", "its plain count,by chance", "0 100 0 · 1"):
        assert fact in read.text, fact
    assert "labels" in read.ids

"""Data that leave little to say, through `ls.examine` with labels and references: every number is defined, or says why it is not."""

import math
from typing import Any

import numpy as np
import pytest

import layerscope as ls
from layerscope import measures as ms
from layerscope._errors import DataError, EmptyTally
from layerscope._shuffled import SHUFFLED
from tests.conftest import require

torch = require("torch")
nn = torch.nn
pytestmark = pytest.mark.torch


NOTE = "unit axis by rank, override with axes="
"""Said of this layer, whatever was measured."""


class Units(nn.Module):
    """Hands on what it is given: (samples, units) or (samples, positions, units); what fires is ours to choose."""

    def __init__(self) -> None:
        super().__init__()
        self.relu, self.last = nn.ReLU(), nn.Linear(1, 2)

    def forward(self, x: Any) -> Any:
        shown = self.relu(x)
        return self.last(shown.reshape(len(x), -1).mean(1, keepdim=True))


def examined(bits: np.ndarray, labels: Any, **how: Any) -> ls.Results:
    """Every default measure, and more, of units that fire so."""
    x = np.where(bits, 1.0, -1.0).astype(np.float32)
    against = (ms.Efficiency(against="rates", estimator="c2"), ms.Efficiency(order=2, against=1))
    more = (ms.ClassEntropy(), ms.TotalCorrelation(), ms.Saturation(), *against)
    torch.manual_seed(0)
    from layerscope._choices import default_measures

    mask = how.pop("mask", None)
    data = ls.Data((x, labels), mask=mask, ids=how.pop("ids", None))
    results = ls.examine(
        Units(), data, layers="relu", measures=[*default_measures(labels=True), *more], references=[SHUFFLED], **how
    )
    check_told(results)
    return results


def check_told(results: ls.Results) -> None:
    """No number without its observations; where there is none, the note says why; no interval without a verdict that allows one."""
    for row in results.table.to_dict("records"):
        if math.isnan(row["value"]):
            assert row["note"] not in ("", NOTE), row
        else:
            assert row["observations"] > 0, row
        if row["verdict"] in ("measured", "corrected") and not math.isnan(row["low"]):
            assert row["low"] <= row["value"] <= row["high"], row
    view = results["relu"]
    for made in (results.beside(), results.ranking(), view.classes(), repr(view), view.states.top(3)):
        assert made is not None
    assert "<html" in results.to_html()


def random_bits(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).random(shape) < 0.5


def value(results: ls.Results, measure: Any, reference: str = "") -> ls.Reading:
    return (results.references[reference] if reference else results)["relu"].reading(measure)


C2 = ms.Entropy(estimator="c2")


def test_the_check_can_fail() -> None:
    results = examined(random_bits(60, 4), np.arange(60) % 3)

    class Silent(ms.Entropy):
        def compute(self, value: Any) -> ls.Reading:
            return ls.Reading(math.nan)

    results.measures = (*results.measures, Silent())
    with pytest.raises(AssertionError):
        check_told(results)


def test_one_row_per_sample() -> None:
    results = examined(random_bits(400, 4), np.arange(400) % 3)
    assert value(results, C2).observations == value(results, C2).samples == 400
    assert value(results, C2).verdict == "measured"
    assert value(results, C2).low < 4 <= value(results, C2).high + 0.02


def test_one_sample() -> None:
    results = examined(random_bits(1, 50, 4), np.array([7]))
    assert value(results, C2).samples == 1
    assert math.isnan(value(results, C2).low) or value(results, C2).verdict not in ("measured", "corrected")
    assert float(value(results, ms.Information())) == 0.0
    assert value(results, ms.Information()).note == "one class only"
    assert results["relu"].classes()["samples"].tolist() == [1]


def test_all_states_different() -> None:
    results = examined(random_bits(200, 64), np.arange(200) % 4)
    assert value(results, C2).verdict == "saturated"
    assert value(results, C2).coverage == 0
    assert math.isnan(float(value(results, ms.Information())))
    assert "says little of the labels" in value(results, ms.Information()).note
    assert float(value(results, ms.Entropy())) == pytest.approx(math.log2(200))
    assert value(results, ms.ClassEntropy()).bound == "≥"


def test_one_state() -> None:
    bits = np.zeros((100, 6, 5), bool)
    bits[..., 2] = True
    results = examined(bits, np.arange(100) % 4)
    assert value(results, C2).verdict == "constant"
    assert (float(value(results, C2)), float(value(results, ms.ClassEntropy()))) == (0.0, 0.0)
    assert float(value(results, ms.Information())) == 0.0
    assert float(value(results, ms.Information(), SHUFFLED)) == 0.0
    assert float(value(results, ms.RedundantUnits())) == 5
    assert [group.kind for group in value(results, ms.RedundantUnits()).items] == ["dead", "always on"]


def test_ragged_masked_samples() -> None:
    """Masked rows change nothing but the note that counts them; a sample without any row is no sample."""
    bits, rng = random_bits(150, 8, 4), np.random.default_rng(1)
    mask = np.arange(8) < rng.integers(1, 9, 150)[:, None]
    mask[11] = False
    labels = np.arange(150) % 3
    results = examined(bits, labels, mask=mask)
    told = value(results, C2)
    assert (told.observations, told.samples) == (mask.sum(), 149)
    assert f"{(~mask).sum()} masked rows left out" in told.note
    changed = np.where(mask[..., None], bits, random_bits(150, 8, 4, seed=9))
    assert examined(changed, labels, mask=mask).table.equals(results.table)
    patterns = (bits[mask] << np.arange(4)).sum(-1)
    assert float(value(results, ms.Entropy())) == pytest.approx(ms.entropy(np.bincount(patterns)))
    classes = results["relu"].classes()
    assert classes["observations"].tolist() == [mask[labels == c].sum() for c in range(3)]
    with pytest.raises(EmptyTally, match="the mask leaves out all 1,200 rows"):
        examined(bits, labels, mask=np.zeros_like(mask))["relu"].entropy()


def test_labels_with_one_class() -> None:
    results = examined(random_bits(90, 5, 4), np.full(90, 3))
    for reference in ("", SHUFFLED):
        assert float(value(results, ms.Information(), reference)) == 0.0
        assert value(results, ms.Information(), reference).note == "one class only"
    assert float(value(results, ms.ClassEntropy())) == float(value(results, C2))


def test_a_class_of_one_sample() -> None:
    labels = np.r_[np.arange(299) % 3, 9]
    results = examined(random_bits(300, 6, 3), labels)
    assert value(results, ms.Information()).verdict == "measured"
    assert value(results, ms.Information()).low == 0 or abs(float(value(results, ms.Information()))) < 0.02
    for each in (results, results.references[SHUFFLED]):
        assert each["relu"].classes()["samples"].tolist() == [100, 100, 99, 1]


def test_as_many_classes_as_samples() -> None:
    """Labels that are names: nothing can be said of a class, and it is said."""
    results = examined(random_bits(300, 1, 12), np.arange(300))
    assert math.isnan(float(value(results, ms.Information())))
    assert results["relu"].classes()["samples"].max() == 1


def test_labels_of_any_size_and_sign() -> None:
    labels = np.array([-(2**62), 5, 2**62])[np.arange(120) % 3]
    results = examined(random_bits(120, 6, 4), labels)
    assert results["relu"].classes().index.tolist() == [-(2**62), 5, 2**62]
    same = examined(random_bits(120, 6, 4), np.arange(120) % 3)
    assert float(value(results, ms.Information())) == float(value(same, ms.Information()))


def test_ids_that_repeat() -> None:
    """The numbers of these data stand; what is claimed about the data behind them does not, and a note says why."""
    bits, labels = random_bits(200, 6, 4), np.arange(200) // 2 % 3
    once = examined(bits, labels)
    twice = examined(bits, labels, ids=np.arange(200) // 2)
    assert value(once, C2).verdict == "measured"
    assert float(value(twice, ms.Entropy())) == float(value(once, ms.Entropy()))
    for measure in (C2, ms.Information()):
        assert value(twice, measure).verdict not in ("measured", "corrected")
        assert "have the id of another" in value(twice, measure).note
    taken = twice.references[SHUFFLED]["relu"].classes()["samples"]
    assert taken.tolist() == np.bincount(labels).tolist()


@pytest.mark.parametrize("labels", [np.arange(59), np.zeros((60, 3))])
def test_labels_that_are_none(labels: np.ndarray) -> None:
    with pytest.raises(DataError):
        examined(random_bits(60, 4), labels)

"""What states say about labels, against its definition on a population, against shuffling, and for every odd labelling."""

import math

import numpy as np
import pytest

from layerscope._errors import DataError, EmptyTally
from layerscope._results import Results
from layerscope._site import Axes, Site
from layerscope._task import Task
from layerscope.inventory import Layer, Layers, Role
from layerscope.measures import ClassEntropy, Entropy, Information, classes_of, difference, entropy, trust_in
from layerscope.measures._classes import alone_by_chance, columns_of
from layerscope.measures._information import informed_without_each
from layerscope.tallies import Moments, StateCounts, StateTable, fewest
from layerscope.testing import check_measure
from tests.unit.measures.states import bits_of, table_of, table_of_bits


def labelled(
    samples: int, classes: int = 4, units: int = 7, positions: int = 6, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Patterns whose units fire more or less by class, and by sample."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, samples)
    level = rng.normal(size=(classes, 1, units))[labels] + 0.5 * rng.normal(size=(samples, 1, units))
    return ((level + rng.normal(size=(samples, positions, units)) > 0) << np.arange(units)).sum(-1), labels


def information_of(patterns: np.ndarray, labels: np.ndarray) -> float:
    """The plain count: H(S) − Σ π_c H(S | c)."""

    def h(x: np.ndarray) -> float:
        return entropy(np.unique(x, return_counts=True)[1])

    return h(patterns) - sum(float((labels == c).mean()) * h(patterns[labels == c]) for c in np.unique(labels))


def test_information_is_nearly_unbiased_and_the_plain_count_is_not() -> None:
    patterns, labels = labelled(6000)
    truth, rng, found = information_of(patterns, labels), np.random.default_rng(0), []
    for _ in range(40):
        chosen = rng.integers(0, 6000, 250)
        value = table_of(patterns[chosen], 7, labels=labels[chosen])
        found.append((float(Information().compute(value)), information_of(patterns[chosen], labels[chosen])))
    ours, plain = np.mean(found, axis=0) - truth
    assert plain > 0.1, "the canary: the plain count is far too high here"
    assert abs(ours) < plain / 6


def information_by_c1(value: StateCounts) -> float:
    parts = [(c := columns_of(value, label), float(c.sums.N) / value.observations) for label in value.labels]
    return trust_in(value).columns.c1 - sum(share * c.c1 for c, share in parts)


@pytest.mark.parametrize("masked", [False, True])
def test_leaving_out_one_sample_is_measuring_without_it(masked: bool) -> None:
    patterns, labels = labelled(40)
    labels[3] = 9  # a class of one sample, which is gone with it
    rng = np.random.default_rng(0)
    mask = rng.random(patterns.shape) < 0.8 if masked else None
    ids = rng.permutation(1000)[:40].astype(np.int64)
    value = table_of(patterns, 7, labels=labels, mask=mask, ids=ids)
    found = dict(zip(value.kept.sifted().ids.tolist(), informed_without_each(value), strict=True))
    assert found.keys() == {*ids.tolist()}
    for k in range(40):
        rest = np.arange(40) != k
        less = table_of(
            patterns[rest], 7, labels=labels[rest], mask=None if mask is None else mask[rest], ids=ids[rest]
        )
        assert found[int(ids[k])] == pytest.approx(information_by_c1(less), abs=1e-12)


def test_the_interval_is_given_where_it_holds_and_nowhere_else() -> None:
    """`benchmarks/information.py` counts how often it holds; here one data set, and what keeps it from being printed."""
    patterns, labels = labelled(6000)
    truth, chosen = information_of(patterns, labels), np.random.default_rng(4).integers(0, 6000, 1500)
    patterns, labels = patterns[chosen], labels[chosen]
    reading = Information().compute(table_of(patterns, 7, labels=labels))
    assert reading.verdict in ("measured", "corrected")
    assert reading.low < truth < reading.high < reading.low + 0.5
    assert f"[{reading.low:.4g}, {reading.high:.4g}]" in str(reading)
    assert reading.jackknife is not None
    few = Information().compute(table_of(patterns[:49], 7, labels=labels[:49]))
    twice = Information().compute(table_of(patterns[:600], 7, labels=labels[:600], ids=np.arange(600) // 2))
    for other in (few, twice):
        assert math.isnan(other.low)
        assert other.verdict == "extrapolated"
        assert other.jackknife is None


def test_layers_are_compared_on_the_same_samples() -> None:
    patterns, labels = labelled(1500)
    coarse = table_of(patterns & 7, 3, labels=labels)
    more = difference(Information().compute(table_of(patterns, 7, labels=labels)), Information().compute(coarse))
    assert 0 < more.low < float(more) < more.high


def test_random_labels_tell_nothing() -> None:
    patterns, labels = labelled(400)
    rng = np.random.default_rng(0)
    found = [Information().compute(table_of(patterns, 7, labels=rng.permutation(labels))) for _ in range(20)]
    assert abs(np.mean([float(r) for r in found])) < 0.05
    shares = [float(r.note.split("of which ")[1].split(" %")[0].strip("> ")) for r in found]
    assert np.mean(shares) > 90, "the warning beside the plain count says it"


def test_the_mean_of_shuffled_labels_needs_no_shuffling() -> None:
    patterns, labels = labelled(300)
    value = table_of(patterns, 7, labels=labels)
    note = Information().compute(value).note
    rng = np.random.default_rng(1)
    shuffled = np.mean([information_of(patterns, rng.permutation(labels)) for _ in range(60)])
    share = 100 * shuffled / information_of(patterns, labels)
    assert note.startswith(f"plain count {information_of(patterns, labels):.3g}, of which ")
    assert float(note.split("of which ")[1].split(" %")[0]) == pytest.approx(share, abs=1.5)


def test_states_that_are_all_new_say_nothing() -> None:
    """The plain count is H(class) then, for any labels: undefined, and it says so."""
    bits = np.random.default_rng(0).random((400, 1, 64)) < 0.5
    labels = np.arange(400) % 8
    reading = Information().compute(table_of_bits(bits, labels=labels))
    assert math.isnan(float(reading))
    assert reading.note.startswith("nearly every sample shows states of its own, so the plain count, 3 bits")
    assert str(reading).startswith("undefined of 3 bits of class (undersampled")
    within = ClassEntropy().compute(table_of_bits(bits, labels=labels))
    assert within.bound == "≥"
    assert within.undersampled


def test_one_class() -> None:
    patterns, labels = labelled(300, classes=1)
    value = table_of(patterns, 7, labels=labels)
    reading = Information().compute(value)
    assert (float(reading), reading.note) == (0.0, "one class only")
    assert float(ClassEntropy().compute(value)) == trust_in(value).c2


def test_a_class_of_one_sample() -> None:
    patterns, labels = labelled(300)
    labels = np.where(np.arange(300) == 7, 99, labels)
    value = table_of(patterns, 7, labels=labels)
    assert float(Information().compute(value)) > 0
    line = classes_of(value)[-1]
    assert (line.label, line.samples, line.coverage) == (99, 1, 0.0)
    assert line.c2 == pytest.approx(line.plug_in)
    assert line.at_equal_samples == pytest.approx(line.plug_in)


def test_nothing_and_no_labels() -> None:
    with pytest.raises(EmptyTally):
        Information().compute(StateTable(strata="label").init(Site("layer")))
    with pytest.raises(DataError, match="not counted by label"):
        Information().compute(table_of(labelled(20)[0], 7))


def test_a_table_by_label_says_the_same_of_all_states_together() -> None:
    patterns, labels = labelled(200)
    with_labels, without = table_of(patterns, 7, labels=labels), table_of(patterns, 7)
    for estimator in ("plug-in", "c2"):
        a, b = (Entropy(estimator=estimator).compute(value) for value in (with_labels, without))
        assert (float(a), a.low, a.high, a.verdict) == (float(b), b.low, b.high, b.verdict)


def test_classes_are_what_their_samples_are() -> None:
    patterns, labels = labelled(240)
    labels = labels - 2  # negative labels are labels too
    value = table_of(patterns, 7, labels=labels)
    assert value.labels == [-2, -1, 0, 1]
    seen_by = {s: {int(c) for c in labels[(patterns == s).any(axis=1)]} for s in np.unique(patterns)}
    often = {s for s in seen_by if (patterns == s).any(axis=1).sum() >= 2}
    for line in classes_of(value):
        mine = patterns[labels == line.label]
        alone = table_of(mine, 7)
        assert (line.samples, line.observations, line.states) == (len(mine), mine.size, len(np.unique(mine)))
        assert (line.c2, line.plug_in) == (trust_in(alone).c2, trust_in(alone).plug_in)
        assert line.coverage == trust_in(alone).coverage
        assert line.unique == sum(seen_by[s] == {line.label} and s in often for s in seen_by)
        assert line.at_equal_samples <= line.plug_in + 0.03
    smallest = min(classes_of(value), key=lambda line: line.samples)
    assert smallest.at_equal_samples == pytest.approx(smallest.plug_in, abs=1e-9)


def test_states_of_one_class_by_chance() -> None:
    patterns, labels = labelled(120, classes=3)
    rng = np.random.default_rng(0)
    draws = []
    for _ in range(40):
        value = table_of(patterns, 7, labels=rng.permutation(labels))
        draws.append(sum(line.unique for line in classes_of(value)))
    assert alone_by_chance(table_of(patterns, 7, labels=labels)) == pytest.approx(np.mean(draws), rel=0.1)


def test_samples_of_ragged_classes_are_counted() -> None:
    patterns, labels = labelled(100)
    mask = np.arange(6) < np.random.default_rng(0).integers(0, 7, 100)[:, None]
    value = table_of(patterns, 7, labels=labels, mask=mask)
    some = mask.any(axis=1)
    sizes = mask.sum(axis=1)
    for label in range(4):
        here = labels == label
        assert value.by_stratum[label] == ((here & some).sum(), (sizes[here] ** 2).sum())


def test_a_table_by_label_is_not_counted_twice() -> None:
    plain, by_label, by_sample = StateTable(), StateTable(strata="label"), StateTable("sample")
    assert fewest([plain, by_label, plain, by_sample, Moments()]) == [by_label, by_sample, Moments()]
    assert fewest([plain, by_sample]) == [plain, by_sample]


def test_examined_with_labels() -> None:
    """Through the door: one table feeds entropy and information, and the view finds it."""
    patterns, labels = labelled(120)
    results = results_by_label(table_of(patterns, 7, labels=labels))
    view = results["layer"]
    assert float(view.entropy()) == float(Entropy().compute(table_of(patterns, 7)))
    assert float(view.information()) == float(Information().compute(view.value(StateTable(strata="label"))))
    assert float(view.class_entropy()) < float(view.entropy(estimator="c2"))
    assert view.classes()["samples"].sum() == 120
    assert set(view.classes().columns) >= {"efficiency", "efficiency_at_equal_samples", "unique"}
    assert len(view.states.mixed(5)) == 5
    assert "c2" in str(results.table["setting"].tolist())


def results_by_label(value: StateCounts) -> Results:
    layer = Layer(value.site, kind="ReLU", role=Role.NONLINEARITY, dtype="float32", shape=(2, 6, 7), axes=Axes(-1))
    measures = (Entropy(), Entropy(estimator="c2"), Information())
    return Results(
        Layers([layer]), {value.site: {StateTable(strata="label"): value}}, measures, {}, Task(0.0, 0, "", "none")
    )


@pytest.mark.parametrize("measure", [Information(), ClassEntropy()], ids=repr)
@pytest.mark.parametrize("seed", range(3))
def test_laws(measure: Information | ClassEntropy, seed: int) -> None:
    check_measure(measure, seed)


def test_files_keep_the_samples_of_each_class() -> None:
    patterns, labels = labelled(60)
    value, tally = table_of(patterns, 7, labels=labels), StateTable(strata="label")
    arrays = dict(tally.to_arrays(value))
    again = tally.from_arrays(value.site, arrays)
    assert Information().compute(again).value == Information().compute(value).value
    del arrays["strata"]
    old: StateCounts = tally.from_arrays(value.site, arrays)
    with pytest.raises(DataError, match="not counted by label"):
        Information().compute(old)
    assert bits_of(patterns, 7).shape == (60, 6, 7)

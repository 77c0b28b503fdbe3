"""A measure of all layers together: by hand, and the interval that leaves out the same samples at every layer."""

from typing import Any

import numpy as np
import pytest

from layerscope import measures as ms
from layerscope._errors import DataError, EmptyTally
from layerscope._reading import Reading
from layerscope._site import Site
from layerscope.measures._intervals import group_error
from tests.unit.measures.grids import activations, spreads, stream

T = 5
RATIO = "standard deviation over 5 transformations / standard deviation over 40 samples"


def readings(measure: Any, layers: list[np.ndarray], **how: Any) -> dict[Site, Reading]:
    return {Site(f"l{k}"): measure.compute(stream(measure.tally, x, **how)) for k, x in enumerate(layers)}


def three(n: int = 40, seed: int = 0) -> list[np.ndarray]:
    """Three layers that see the same samples, of different widths and sizes."""
    rng = np.random.default_rng(seed)
    cause = rng.normal(size=(n, 1, 6)) + 0.5 * rng.gamma(2, 1, (n, 1, 1)) * rng.normal(size=(n, T, 6))
    widths = [(8, 1), (20, 100), (3, 0.1)]
    mixes = [np.random.default_rng(k).normal(size=(6, w)) * size for k, (w, size) in enumerate(widths)]
    return [(cause @ mix).astype(np.float32) for mix in mixes]


def test_every_layer_has_one_vote_or_the_loudest_decides() -> None:
    layers, of = three(), ms.NormalizedVariance()
    t, s = zip(*(spreads(x, "std") for x in layers), strict=True)
    each = [(a / b).mean() for a, b in zip(t, s, strict=True)]
    mean = ms.Total(of).compute(readings(of, layers))
    assert float(mean) == pytest.approx(np.mean(each), rel=2e-6)
    assert mean.measured_in == f"{RATIO}, mean of 3 layers"
    assert mean.items == ("l0", "l1", "l2")
    ratio = ms.Total(of, "ratio of totals").compute(readings(of, layers))
    wanted = sum(a.mean() for a in t) / sum(b.mean() for b in s)
    assert float(ratio) == pytest.approx(wanted, rel=2e-6)
    assert abs(float(ratio) - t[1].mean() / s[1].mean()) < 0.01 < abs(float(ratio) - float(mean))


def test_a_quotient_names_its_parts() -> None:
    x = activations(40, T, 4, 3)
    t, s = spreads(x, "std")
    found = readings(ms.NormalizedVariance(), [x])[Site("l0")]
    assert [float(part) for part in found.parts] == pytest.approx([t.mean(), s.mean()], rel=2e-6)
    assert all(part.low < float(part) < part.high for part in found.parts)
    assert readings(ms.TransformationVariance(), [x])[Site("l0")].parts == ()


def test_one_number_a_transformation_keeps_them() -> None:
    of = ms.Distance("cosine", against=0, level="transformation")
    given = readings(of, three())
    total = ms.Total(of).compute(given)
    np.testing.assert_allclose(total.value, np.mean([np.asarray(r.value) for r in given.values()], axis=0), rtol=1e-12)
    assert np.isnan(total.low)


@pytest.mark.parametrize("aggregate", ["mean of layers", "ratio of totals"])
def test_intervals_cover_what_many_samples_give(aggregate: Any) -> None:
    """Layers share their samples: an interval that took them for independent would be too narrow."""
    of = ms.NormalizedVariance("variance")

    def total(n: int, seed: int) -> Reading:
        return ms.Total(of, aggregate).compute(readings(of, three(n, seed)))

    truth = float(total(20_000, 1))
    found = [total(80, 10 + seed) for seed in range(100)]
    held = sum(r.low <= truth <= r.high for r in found)
    assert held >= 88, held  # binomial: 88 or fewer of 100 at 95 % has a chance of 0.3 %
    actual = np.std([float(r) for r in found])
    assert np.median([r.high - r.low for r in found]) < 2 * 3.92 * actual
    alone = readings(of, three(80, 3)).values()
    as_if_independent = np.sqrt(sum(((r.high - r.low) / 3) ** 2 for r in alone))
    assert as_if_independent < 0.8 * np.median([r.high - r.low for r in found])


def test_the_error_of_groups_is_that_of_a_mean() -> None:
    """Groups of different sizes: the jackknife of a weighted mean is unbiased for its standard error."""
    rng, sizes = np.random.default_rng(0), np.array([3, 9, 5, 7, 4, 6, 5, 9])
    found = []
    for _ in range(4000):
        groups = [rng.normal(size=m) for m in sizes]
        every = np.concatenate(groups)
        rest = np.array([(every.sum() - g.sum()) / (len(every) - len(g)) for g in groups])
        found.append(group_error(every.mean(), rest, sizes) ** 2)
    assert np.mean(found) == pytest.approx(1 / sizes.sum(), rel=0.05)


def test_differences_are_paired() -> None:
    """What two layers of the same samples have in common cancels."""
    of, layers = ms.NormalizedVariance("variance"), three(80)
    a, b = readings(of, [layers[0], layers[0] + layers[2][..., :1]]).values()
    apart = ms.difference(a, b)
    assert apart.low <= float(apart) <= apart.high
    assert apart.high - apart.low < 0.5 * (a.high - a.low)
    nothing = ms.difference(a, a)
    assert (nothing.low, float(nothing), nothing.high) == (0, 0, 0)
    other = of.compute(stream(of.tally, layers[0], ids=np.arange(1000, 1080)))
    with pytest.raises(ValueError, match="saw 80 samples, right 80, or other ones"):
        ms.difference(a, other)


def test_layers_without_a_number_are_named() -> None:
    of = ms.NormalizedVariance()
    layers = [*three(), np.zeros((40, T, 4), np.float32)]
    total = ms.Total(of).compute(readings(of, layers))
    assert float(total) == pytest.approx(float(ms.Total(of).compute(readings(of, layers[:3]))))
    assert "l0, l1, l2; left out: l3 (" in total.note
    assert "4 dead of 4" in total.note
    none = ms.Total(of).compute(readings(of, layers[3:]))
    assert np.isnan(float(none))
    assert "no layer has a number; left out: l0" in none.note


def test_bad_input_says_what_to_do() -> None:
    with pytest.raises(EmptyTally, match="Total: there is no layer"):
        ms.Total(ms.NormalizedVariance()).compute({})
    with pytest.raises(DataError, match="one number a unit, and layers have other units"):
        ms.Total(ms.NormalizedVariance(level="element"))
    with pytest.raises(DataError, match="aggregate is one of 'mean of layers', 'ratio of totals'; got 'sum'"):
        ms.Total(ms.NormalizedVariance(), "sum")  # type: ignore[arg-type]
    of = ms.TransformationVariance()
    with pytest.raises(DataError, match="is no quotient of two means"):
        ms.Total(of, "ratio of totals").compute(readings(of, three()))
    rates = ms.FiringRate()
    for units in (3, 4):
        with pytest.raises(DataError, match="gives numbers of units, and those of two layers are no pairs"):
            ms.Total(rates).compute({Site("a"): Reading(np.ones(3)), Site("b"): Reading(np.ones(units))})

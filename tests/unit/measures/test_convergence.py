"""What a smaller experiment would have said is what the full tensor says of its part."""

from typing import Any

import numpy as np
import pytest

from layerscope._site import Samples
from layerscope.measures import Convergence, NormalizedVariance, SampleVariance, TransformationVariance, convergence
from layerscope.measures._convergence import Reckoned
from layerscope.tallies import Grid, GridMoments
from layerscope.tallies._grid_groups import GROUPS, groups_of, picked_of, strides_of

from .grids import SITE, activations, spreads, stream

MEASURES = [NormalizedVariance(), NormalizedVariance("variance"), NormalizedVariance(aggregate="ratio of means"), TransformationVariance(), SampleVariance()]  # fmt: skip


def said(measure: Any, x: np.ndarray) -> float:
    """The number of a layer, from the full tensor in float64."""
    t, s = spreads(x, measure.flavour)
    match measure:
        case TransformationVariance():
            return float(t.mean())
        case SampleVariance():
            return float(s.mean())
        case _:
            return float(t.mean() / s.mean() if measure.aggregate == "ratio of means" else (t / s).mean())


def check_lines(lines: Convergence, measure: Any, x: np.ndarray) -> None:
    """Every line is that of the samples and transformations it names, as far as values were picked."""
    few = x.reshape(*x.shape[:2], -1)[:, :, picked_of(x[0, 0].size, None)]
    group = groups_of(Samples(np.arange(len(x))))
    there = np.unique(group)
    assert len(lines.over_samples) == len(there)
    for k, line in enumerate(lines.over_samples):
        part = few[np.isin(group, there[: k + 1])]
        assert (line.samples, line.transformations) == part.shape[:2]
        if len(part) > 1:
            assert line.ratio == pytest.approx(said(measure, part), rel=2e-6)
    steps = strides_of(x.shape[1])[::-1]
    assert len(lines.over_transformations) == len(steps)
    for step, line in zip(steps, lines.over_transformations, strict=True):
        assert line.ratio == pytest.approx(said(measure, few[:, ::step]), rel=2e-6)
        assert (line.samples, line.transformations) == few[:, ::step].shape[:2]
    assert lines.over_samples[-1] == lines.over_transformations[-1]


@pytest.mark.parametrize("measure", MEASURES, ids=repr)
@pytest.mark.parametrize("T", [2, 6, 8])
def test_the_lines_are_those_of_the_full_tensor(measure: Any, T: int) -> None:
    x = activations(60, T, 4, 3, 5)
    check_lines(convergence(measure, stream(measure.tally, x)), measure, x)


def test_the_check_rejects_other_transformations() -> None:
    x = activations(60, 8, 4, 3)
    lines = convergence(NormalizedVariance(), stream(GridMoments(), x[:, ::-1]))
    with pytest.raises(AssertionError):
        check_lines(lines, NormalizedVariance(), x)


def test_it_does_not_depend_on_order_or_shards() -> None:
    x, tally = activations(48, 4, 6), GridMoments()
    whole = stream(tally, x)
    order = np.random.default_rng(0).permutation(48)
    halves = [stream(tally, x[part], ids=part) for part in (order[:20], order[20:])]
    merged = tally.merge(*halves)
    for mine, theirs in zip(convergence(NormalizedVariance(), merged), convergence(NormalizedVariance(), whole), strict=True):  # fmt: skip
        np.testing.assert_allclose(np.array(mine), np.array(theirs), rtol=2e-6)


def test_intervals_narrow_and_cover() -> None:
    """At a third of the samples as at all of them, the truth lies inside about as often as 95 % says."""
    everything, measure = activations(16_000, 4, 8), NormalizedVariance()
    truth, runs = said(measure, everything), [
        convergence(measure, stream(measure.tally, part, cuts=1)) for part in np.split(everything, 100)
    ]  # fmt: skip
    low, high = (
        np.array([[getattr(line, end) for line in run.over_samples] for run in runs]) for end in ("low", "high")
    )
    assert np.isnan(low[:, :4]).all()
    covered = ((low <= truth) & (truth <= high)).mean(axis=0)
    assert (covered[[5, 10, 15]] > 0.85).all(), covered
    widths = (high - low).mean(axis=0)
    assert widths[5] > 1.3 * widths[-1]


def test_nothing_where_nothing_is_kept() -> None:
    empty = Convergence((), ())
    assert convergence(NormalizedVariance(), Grid(SITE)) == empty
    x = activations(12, 4, 3)
    by_class = NormalizedVariance(by_class=True)
    assert convergence(by_class, stream(by_class.tally, x, labels=np.arange(12) % 2)) == empty
    one = convergence(NormalizedVariance(), stream(GridMoments(), x[:1], cuts=1))
    assert len(one.over_samples) == 1
    assert np.isnan(one.over_samples[0].ratio)
    assert isinstance(one.over_samples[0], Reckoned)


def test_groups_are_few() -> None:
    value = stream(GridMoments(), activations(400, 4, 3))
    assert len(convergence(NormalizedVariance(), value).over_samples) == GROUPS

"""Every setting of every measure of transformed samples, against the full tensor in float64; what makes no sense is refused in words."""

from collections.abc import Iterator
from dataclasses import replace
from itertools import product
from typing import Any

import numpy as np
import pytest

from layerscope import measures as ms
from layerscope import transformations as ts
from layerscope._errors import DataError
from layerscope.measures import AbstractGridMeasure, AbstractMeasure, AbstractRatio
from layerscope.testing import check_recipe
from layerscope.transformations import Alignment
from tests.unit.measures.grids import SITE, activations, stream
from tests.unit.measures.test_cka import oracle as alignment

T, N = 4, 42
LABELS = np.arange(N) % 3
TURNS = Alignment(ts.quarter_turns(), 4, 4)
EXACT = 2e-6
BOTH: Any = (False, True)
SPREADS: list[Any] = [ms.TransformationVariance, ms.SampleVariance, ms.FeaturesVariance, ms.SameEquivariance]
RATIOS: list[Any] = [ms.NormalizedVariance, ms.NormalizedFeaturesVariance, ms.NormalizedSameEquivariance]
FLAVOURS: Any = ("std", "variance")
POOLS: Any = (None, "mean", "max", "sum")
LEVELS: Any = ("layer", "map", "element")


def settings() -> Iterator[tuple[Any, dict[str, Any]]]:
    """Every kind with every setting it could be asked for, sensible or not."""
    shared = [
        {"flavour": f, "level": level, "by_class": c, "pool": p, "ddof": d}
        for f, level, c, p, d in product(FLAVOURS, LEVELS, BOTH, POOLS, (0, 1))
    ]
    yield from ((kind, each) for kind in SPREADS for each in shared)
    for aggregate in ("mean of ratios", "ratio of means"):
        yield from ((kind, {**each, "aggregate": aggregate}) for kind in RATIOS for each in shared)
    for design, statistic, level, by_class in product(("repeated", "one-way"), ("effect", "F"), LEVELS, BOTH):
        yield ms.Anova, {"design": design, "statistic": statistic, "level": level, "by_class": by_class}
    for metric, against, level, aligned in product(
        ("squared", "distance", "cosine"), (None, 0, 2), ("layer", "transformation"), BOTH
    ):
        yield ms.Distance, {"metric": metric, "against": against, "level": level, "aligned": aligned}
    for against, level, debiased in product((0, 3), ("layer", "transformation"), BOTH):
        yield ms.CKA, {"against": against, "level": level, "debiased": debiased}
    yield from ((ms.SampleVarianceByTransformation, {"flavour": f, "ddof": d}) for f, d in product(FLAVOURS, (0, 1)))


def senseless(kind: Any, how: dict[str, Any]) -> bool:
    return (
        (getattr(kind, "maps", False) and how["level"] == "element")
        or (getattr(kind, "aligned", False) is True and how.get("pool") is not None)
        or (kind is ms.Anova and how["statistic"] == "F" and how["level"] == "map")
    )


EVERY = list(settings())
KINDS: list[Any] = list(dict.fromkeys(kind for kind, _ in EVERY))


def every(kind: Any) -> list[Any]:
    """All measures of a kind that make sense."""
    return [kind(**how) for each, how in EVERY if each is kind and not senseless(kind, how)]


def test_there_are_many() -> None:
    assert [len(every(kind)) for kind in KINDS] == [96, 96, 64, 24, 192, 128, 48, 20, 36, 8, 4]


def tensor(offset: float, seed: int = 0) -> np.ndarray:
    """(N, T, 3, 4, 4) with deviations of about 1 around `offset`."""
    x = activations(N, T, 3, 4, 4, seed=seed).astype(np.float64)
    return (x / x.std() + offset).astype(np.float32)


# --- what they must read ------------------------------------------------------------------------------------------------------------


def oracle(measure: AbstractMeasure[Any], x: np.ndarray, labels: np.ndarray) -> np.ndarray:
    x = x.astype(np.float64)
    if getattr(measure, "by_class", False):
        alone = replace(measure, by_class=False)  # type: ignore[call-arg]
        each = [oracle(replace(alone, level="element"), x[labels == c], labels) if isinstance(measure, ms.Anova)
                else oracle(alone, x[labels == c], labels) for c in range(3)]  # fmt: skip
        mean = np.mean(each, axis=0)
        return leveled(measure, mean) if isinstance(measure, ms.Anova) else mean
    if getattr(measure, "aligned", False):  # column j was turned j times: turn it back
        x = np.stack([np.rot90(x[:, j], -j, (2, 3)) for j in range(T)], axis=1)
    match measure:
        case AbstractGridMeasure():
            return spread(measure, x)
        case ms.Anova():
            return leveled(measure, decomposed(measure, x))
        case ms.Distance():
            return distances(measure, x)
        case ms.CKA():
            each = alignment(measure, x)
            return each if measure.level == "transformation" else np.delete(each, measure.against).mean()
        case ms.SampleVarianceByTransformation():
            return deviation(measure, x, 0).mean((1, 2, 3))
    raise AssertionError(measure)


def deviation(measure: Any, x: np.ndarray, axis: int) -> np.ndarray:
    return (np.std if measure.flavour == "std" else np.var)(x, axis=axis, ddof=measure.ddof)


def spread(measure: Any, x: np.ndarray) -> np.ndarray:
    if measure.pool is not None:
        x = getattr(np, measure.pool)(x, axis=(3, 4))
    t, s = deviation(measure, x, 1).mean(0), deviation(measure, x, 0).mean(0)
    if measure.maps:
        t, s = (v.reshape(3, -1).mean(1) for v in (t, s))
    ratio = isinstance(measure, AbstractRatio)
    cells = t / s if ratio else s if isinstance(measure, ms.SampleVariance) else t
    if ratio and measure.level == "layer" and measure.aggregate == "ratio of means":
        return t.mean() / s.mean()
    return {"layer": cells.mean(), "map": cells.reshape(3, -1).mean(1), "element": cells.reshape(-1)}[measure.level]


def decomposed(measure: Any, x: np.ndarray) -> np.ndarray:
    grand, rows, columns = x.mean((0, 1)), x.mean(1), x.mean(0)
    between, n = len(x) * ((columns - grand) ** 2).sum(0), len(x)
    if measure.design == "repeated":
        rest, freedom = ((x - rows[:, None] - columns + grand) ** 2).sum((0, 1)), (n - 1) * (T - 1)
    else:
        rest, freedom = ((x - columns) ** 2).sum((0, 1)), T * (n - 1)
    return between / (between + rest) if measure.statistic == "effect" else between / (T - 1) / (rest / freedom)


def leveled(measure: Any, cells: np.ndarray) -> np.ndarray:
    middle = np.mean if measure.statistic == "effect" else np.median
    return {"layer": middle(cells), "map": cells.reshape(3, -1).mean(1), "element": cells.reshape(-1)}[measure.level]


def distances(measure: Any, x: np.ndarray) -> np.ndarray:
    v = x.reshape(N, T, -1)
    if measure.metric == "cosine":
        unit = v / np.linalg.norm(v, axis=2, keepdims=True)
        matrix = (unit @ unit.swapaxes(1, 2)).mean(0)
    else:
        apart = np.linalg.norm(v[:, :, None] - v[:, None], axis=3) / np.sqrt(v.shape[2])
        matrix = (apart**2 if measure.metric == "squared" else apart).mean(0)
    each = (matrix.sum(1) - np.diag(matrix)) / (T - 1) if measure.against is None else matrix[measure.against]
    if measure.level == "transformation":
        return each
    return each.mean() if measure.against is None else np.delete(each, measure.against).mean()


# --- the tests ----------------------------------------------------------------------------------------------------------------------


def reading(measure: Any, x: np.ndarray, **how: Any) -> Any:
    labels = how.pop("labels", LABELS)
    return measure.compute(stream(measure.tally, x, labels=labels, grid=TURNS, **how))


def check_close(measure: Any, found: Any, wanted: Any) -> None:
    """Within 2e-6; SS of an interaction is the difference of two sums, each so exact: F is then off by 2e-6 (1 + SS_t / SS_ts)."""
    error = EXACT * np.abs(wanted)
    if isinstance(measure, ms.Anova):
        apart = wanted / (N / 3 - 1) if measure.statistic == "F" else 0.0
        error *= 4 * (1 + apart)
    assert np.all(np.abs(np.asarray(found) - wanted) <= error + 1e-12), f"{measure!r}: {found}, not {wanted}"


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("offset", [0.0, 1000.0])
def test_every_number_is_that_of_the_full_tensor(kind: Any, offset: float) -> None:
    x = tensor(offset)
    for measure in every(kind):
        found = reading(measure, x)
        check_close(measure, found.value, oracle(measure, x, LABELS))
        assert (found.samples, found.observations) == (N, N * T), measure
        assert f"{T} transformations" in found.measured_in or f"{T} of them" in found.measured_in, measure
        assert f"{N} samples" in found.measured_in, measure
        check_recipe(measure)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_blocks_order_shards_and_merges_change_nothing(kind: Any) -> None:
    x, order = tensor(3.0), np.random.default_rng(0).permutation(N)
    for measure in every(kind):
        whole, value = reading(measure, x, cuts=1), measure.tally.init(SITE)
        for shard in np.array_split(order, 3)[::-1]:
            part = stream(measure.tally, x[shard], cuts=5, ids=shard, labels=LABELS[shard], grid=TURNS)
            value = measure.tally.merge(part, value)
        for found in (measure.compute(value), measure.compute(value)):
            check_close(measure, found.value, whole.value)
            limits = [found.low, found.high], [whole.low, whole.high]
            np.testing.assert_allclose(*limits, rtol=1e-4, err_msg=repr(measure))
            assert found.note == whole.note, measure


def test_the_comparison_rejects_other_settings() -> None:
    """No two settings of a kind read alike, but for those that mean the same."""
    x = tensor(0.0)
    wrong = [
        (ms.NormalizedVariance(), ms.NormalizedVariance("variance")),
        (ms.NormalizedVariance(), ms.NormalizedVariance(aggregate="ratio of means")),
        (ms.NormalizedVariance(), ms.NormalizedVariance(by_class=True)),
        (ms.NormalizedVariance(), ms.NormalizedVariance(pool="mean")),
        (ms.NormalizedVariance(), ms.NormalizedSameEquivariance()),
        (ms.TransformationVariance(), ms.TransformationVariance(ddof=0)),
        (ms.TransformationVariance(), ms.SampleVariance()),
        (ms.NormalizedVariance(), ms.NormalizedFeaturesVariance()),
        (ms.Anova(), ms.Anova("one-way")),
        (ms.Distance(), ms.Distance(aligned=True)),
        (ms.CKA(), ms.CKA(debiased=False)),
    ]
    for measure, other in wrong:
        with pytest.raises(AssertionError, match=type(measure).__name__):
            check_close(measure, reading(measure, x).value, oracle(other, x, LABELS))


def test_what_makes_no_sense_is_refused_in_words() -> None:
    for kind, how in EVERY:
        if senseless(kind, how):
            with pytest.raises(DataError, match=rf"^{kind.__name__}: .*\. (Choose|Leave)"):
                kind(**how)


@pytest.mark.parametrize("measure", [kind(by_class=True) for kind in (*SPREADS, *RATIOS)], ids=repr)
def test_classes_by_themselves(measure: Any) -> None:
    x = tensor(0.0)
    order = np.argsort(-LABELS, kind="stable")  # the last class comes first
    value = stream(measure.tally, x[order], labels=LABELS[order], ids=order, grid=TURNS, cuts=6)
    found = measure.classes(value)
    alone = replace(measure, by_class=False)
    assert list(found) == [0, 1, 2]
    for label, each in found.items():
        np.testing.assert_allclose(each.value, oracle(alone, x[LABELS == label], LABELS), rtol=EXACT)
        assert each.samples == N // 3

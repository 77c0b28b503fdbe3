"""One net, five frameworks: movement ratios under the same rotations are the same numbers.

The reference is NumPy in float64 on the same transformed digits.  Keras runs on the backend of this process.
"""

import functools
import os
from typing import Any

import numpy as np
import pytest

import layerscope as ls
from layerscope import measures as ms
from layerscope import transformations as ts
from layerscope.testing import models
from tests.conftest import require
from tests.parity.nets import CASES, Framework
from tests.unit.measures.test_cka import unbiased

require("sklearn")  # the digits

SAMPLES, T = 20, 6
MEASURES = (
    ms.NormalizedVariance(),
    ms.TransformationVariance(),
    ms.NormalizedSameEquivariance(),
    ms.Distance(),
    ms.CKA(),
)
NETS = [case for case in CASES if "transformer" not in str(case.id)]


@functools.cache
def by_numpy(net: Any) -> dict[str, dict[str, float]]:
    """Ratio, spread and alignment of every place, of the full tensor in float64; channels last."""
    turned = ts.rotations(T, channels="last")(models.batch(net, SAMPLES)["images"])
    found: dict[str, dict[str, float]] = {}
    for place, values in models.reference(net, models.weights(net), {"images": turned}).items():
        grid = np.asarray(values, np.float64).reshape(SAMPLES, T, -1)
        t, s = grid.std(1, ddof=1).mean(0), grid.std(0, ddof=1).mean(0)
        some = s > 1e-6 * np.sqrt(np.mean(grid**2))  # the floor of the measure
        maps = np.asarray(values, np.float64).reshape(SAMPLES, T, -1, np.shape(values)[-1]).mean(2)
        alike = np.mean([unbiased(maps[:, 0], maps[:, j]) for j in range(1, T)])
        found[place] = {"ratio": float((t[some] / s[some]).mean()), "spread": float(t.mean()), "cka": float(alike)}
    return found


def check_sites(results: ls.Results, wanted: dict[str, dict[str, float]]) -> None:
    """Every site that is read stands for a place of the reference: both of its numbers are found there."""
    for name in [name for name in results if name != "(model):in"]:
        spread = float(results[name].reading(ms.TransformationVariance()))
        near = [place for place, numbers in wanted.items() if abs(numbers["spread"] / spread - 1) < 1e-4]
        assert near, f"no place of the reference moves as far as {name}: {spread}; {wanted}"
        ratio = float(results[name].reading(ms.NormalizedVariance()))
        assert any(abs(wanted[place]["ratio"] / ratio - 1) < 1e-4 for place in near), f"{name}: {ratio}; {wanted}"
        cka = float(results[name].cka())
        assert any(wanted[place]["cka"] == pytest.approx(cka, abs=1e-3) for place in near), f"{name}: {cka}; {wanted}"


@pytest.mark.parametrize(("framework", "net"), NETS)
def test_every_framework_moves_alike(framework: Framework, net: Any) -> None:
    batch = models.batch(net, SAMPLES)
    model, more = framework.asked(framework.build(net, models.weights(net)))
    given = framework.given(batch)
    first = given.shape[1] in (1, 3)
    grid = ts.rotations(T, channels="first" if first else "last")
    results = ls.examine(model, given, transformations=grid, measures=MEASURES, batch_size=4 * T, **more)
    assert len(results) > 2
    check_sites(results, by_numpy(net))
    with pytest.raises(AssertionError):
        check_sites(
            results, {place: {k: v * 1.01 for k, v in numbers.items()} for place, numbers in by_numpy(net).items()}
        )
    for measure in MEASURES:
        assert np.isfinite(float(results["(model):in"].reading(measure)))


def in_programs(framework: Framework, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on an accelerator: what is measured is summed, and taken back, inside the compiled program."""
    if framework.name.startswith("keras"):
        from layerscope.probes.keras import engine

        monkeypatch.setattr(type(engine()), "on_host", lambda self: False)
    else:
        from layerscope.probes.jax import JaxProbe

        monkeypatch.setattr(JaxProbe, "_platform", lambda self: "a device")


def numbers_of(results: ls.Results, asked: Any) -> dict[tuple[str, int], float]:
    """Every measure at every site."""
    return {
        (name, k): float(results.readings(measure)[results[name].site])
        for name in results
        for k, measure in enumerate(asked)
    }


def check_numbers(mine: dict[tuple[str, int], float], theirs: dict[tuple[str, int], float]) -> None:
    """The same numbers at the same sites, or none at both; both resample in float32."""
    assert mine.keys() == theirs.keys()
    for key, number in mine.items():
        assert number == pytest.approx(theirs[key], rel=1e-4, abs=1e-6, nan_ok=True), key


@pytest.mark.parametrize(("framework", "net"), [case for case in NETS if str(case.id).endswith("lenet") and "torch" not in str(case.id)])  # fmt: skip
def test_programs_on_a_device_say_what_the_host_says(
    framework: Framework, net: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    if framework.name.startswith("keras") and os.environ.get("KERAS_BACKEND") == "torch":
        pytest.skip("eager: each tensor is read where it lies")
    model, more = framework.asked(framework.build(net, models.weights(net)))
    given = framework.given(models.batch(net, SAMPLES))
    channels = "first" if given.shape[1] in (1, 3) else "last"
    turns = ts.rotations(3, channels=channels)
    grid = turns + ts.Transformations((ts.Flip(), ts.translate(pixels=(1, 2)), ts.rotate(20).then(ts.Flip())))
    asked = (*MEASURES, ms.NormalizedVariance(by_class=True))

    def run() -> ls.Results:
        data = (given, np.arange(SAMPLES) % 3)
        return ls.examine(model, data, transformations=grid, measures=asked, batch_size=8 * T, **more)

    on_host = numbers_of(run(), asked)
    in_programs(framework, monkeypatch)
    inside = numbers_of(run(), asked)
    check_numbers(inside, on_host)
    assert sum(map(np.isfinite, inside.values())) > len(inside) / 2
    with pytest.raises(AssertionError):
        check_numbers(inside, {key: 1.001 * number for key, number in on_host.items()})

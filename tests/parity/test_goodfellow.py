"""One net, five frameworks: Goodfellow's invariance is the same number, counted on the host and, where programs are compiled, beside them.

The reference is NumPy in float64 on the same digits.  Keras runs on the backend of this process.
"""

import functools
from typing import Any

import numpy as np
import pytest

import layerscope as ls
from layerscope import measures as ms
from layerscope import transformations as ts
from layerscope.testing import models
from tests.conftest import require
from tests.parity.nets import CASES, Framework

require("sklearn")  # the digits

SAMPLES, T = 30, 5
MEASURES = (ms.Goodfellow("gaussian", 0.1), ms.Goodfellow("quantile", 0.1))
NETS = [case for case in CASES if "transformer" not in str(case.id)]


@functools.cache
def by_numpy(net: Any, measure: ms.Goodfellow) -> dict[str, float]:
    """The mean ratio of every place, of the full tensor in float64; elements in any order."""
    images = models.batch(net, SAMPLES)["images"]
    turned = ts.rotations(T, channels="last")(images)
    plain, moved = (models.reference(net, models.weights(net), {"images": x}) for x in (images, turned))
    found: dict[str, float] = {}
    for place in plain:
        a, b = (np.asarray(each[place], np.float64).reshape(len(each[place]), -1) for each in (plain, moved))
        ordered, k = np.sort(a, axis=0)[::-1], int(np.ceil(measure.alpha * SAMPLES - 1e-9))
        gauss = a.mean(0) + measure.tally.z * a.std(0, ddof=1)
        limit = gauss if measure.rule == "gaussian" else (ordered[k - 1] + ordered[k]) / 2
        local, everywhere = (b > limit).mean(0), (a > limit).mean(0)
        some = everywhere > 0
        found[place] = float((local[some] / everywhere[some]).mean()) if some.any() else np.nan
    return found


def check_sites(results: ls.Results, wanted: dict[ms.Goodfellow, dict[str, float]]) -> None:
    """Every site that is read stands for a place of the reference."""
    for name in [name for name in results if name != "(model):in"]:
        numbers = [float(results[name].reading(measure)) for measure in MEASURES]
        near = [
            place
            for place in wanted[MEASURES[0]]
            if all(abs(wanted[m][place] / number - 1) < 1e-3 for m, number in zip(MEASURES, numbers, strict=True))
        ]
        assert near, f"no place of the reference fires as {name}: {numbers}; {wanted}"


@pytest.mark.parametrize("on_host", [True, False], ids=["host", "program"])
@pytest.mark.parametrize(("framework", "net"), NETS)
def test_every_framework_fires_alike(
    framework: Framework, net: Any, on_host: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = framework.given(models.batch(net, SAMPLES))
    model, more = framework.asked(framework.build(net, models.weights(net)))
    if not on_host:
        read_inside(framework, monkeypatch)
    grid = ts.rotations(T, channels="first" if given.shape[1] in (1, 3) else "last")
    results = ls.examine(model, given, transformations=grid, measures=MEASURES, batch_size=4 * T, **more)
    assert len(results) > 2
    wanted = {measure: by_numpy(net, measure) for measure in MEASURES}
    check_sites(results, wanted)
    assert results.manifest["forwards"] == SAMPLES * T + SAMPLES
    with pytest.raises(AssertionError):
        check_sites(results, {m: {place: 1.01 * x for place, x in each.items()} for m, each in wanted.items()})


def read_inside(framework: Framework, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is done on an accelerator: the program reads, and not the host."""
    if framework.mark == "jax":
        from layerscope.probes import jax as probes

        monkeypatch.setattr(probes.JaxProbe, "_platform", lambda self: "gpu")
    elif framework.mark == "keras":
        from layerscope.probes.keras import engine

        monkeypatch.setattr(type(engine()), "on_host", lambda self: False)
    else:
        from layerscope.probes import torch as probes

        original = probes.activations

        def elsewhere(*arguments: Any, **more: Any) -> Any:
            from dataclasses import replace

            return replace(original(*arguments, **more), host=None)

        monkeypatch.setattr(probes, "activations", elsewhere)

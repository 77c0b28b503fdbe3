"""Layers that take turns under `memory_limit` have the same numbers to the bit in every framework, read on the host and in the program.

Programs of compiled frameworks round otherwise when they give other outputs: they are the same in every turn.  Keras runs on the backend
of this process.
"""

import re
from typing import Any

import numpy as np
import pytest

import layerscope as ls
from layerscope import measures as ms
from layerscope import transformations as ts
from layerscope._errors import MemoryLimitError
from layerscope.testing import models
from tests.conftest import require
from tests.parity.nets import CASES, Framework
from tests.parity.test_goodfellow import read_inside

require("sklearn")  # the digits

SAMPLES, T = 12, 4
LENETS = [case for case in CASES if str(case.id).endswith("lenet")]
MEASURES = (ms.NormalizedVariance(), ms.Goodfellow("quantile", 0.2), ms.Distance())


def arrays_of(results: ls.Results) -> dict[str, np.ndarray]:
    """Every array of every tally, by site and name."""
    return {
        f"{site} {tally!r} {name}": array
        for site, values in results.values_by_site.items()
        for tally, value in values.items()
        for name, array in tally.to_arrays(value).items()
    }


def check_equal(one: ls.Results, two: ls.Results) -> None:
    mine, theirs = arrays_of(one), arrays_of(two)
    assert mine.keys() == theirs.keys()
    for name, array in mine.items():
        assert np.array_equal(array, theirs[name], equal_nan=array.dtype.kind == "f"), name


@pytest.mark.parametrize("on_host", [True, False], ids=["host", "program"])
@pytest.mark.parametrize(("framework", "net"), LENETS)
def test_turns_change_no_bit(framework: Framework, net: Any, on_host: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    given = framework.given(models.batch(net, SAMPLES))
    model, more = framework.asked(framework.build(net, models.weights(net)))
    if not on_host:
        read_inside(framework, monkeypatch)
    grid = ts.rotations(T, channels="first" if given.shape[1] in (1, 3) else "last")
    how: dict[str, Any] = {"transformations": grid, "measures": MEASURES, "batch_size": 4 * T, **more}
    whole = ls.examine(model, given, **how)
    with pytest.raises(MemoryLimitError) as caught:
        ls.examine(model, given, memory_limit="1 MB", **how)
    enough = re.search("memory_limit='(.*)' would do", str(caught.value))
    assert enough is not None
    tight = ls.examine(model, given, memory_limit=enough[1], **how)
    assert len(tight.manifest["passes"]) > len(whole.manifest["passes"]) == 2
    check_equal(tight, whole)
    with pytest.raises(AssertionError):
        check_equal(tight, ls.examine(model, given + 1e-3, **how))

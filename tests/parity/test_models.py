"""The three nets are the same nets in every framework: with equal weights they give what NumPy gives, to rounding.

Without this, equal states in `test_frameworks.py` would prove nothing.  Keras runs on the backend of this process.
"""

from typing import Any

import numpy as np
import pytest

from layerscope._errors import DataError
from layerscope.testing import models
from tests.conftest import require
from tests.parity.nets import CASES, Framework

require("sklearn")  # the digits

SAMPLES = 20


def check_output(framework: Framework, net: Any, model: Any, weights: Any, batch: Any) -> None:
    """The logits are those of the float64 reference, up to the rounding of float32 sums: activations are of the order of 1."""
    expected = models.reference(net, weights, batch)["logits"]
    given = framework.call(model, framework.given(batch))
    np.testing.assert_allclose(given, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize(("framework", "net"), CASES)
def test_every_framework_gives_what_numpy_gives(framework: Framework, net: Any) -> None:
    weights, batch = models.weights(net), models.batch(net, SAMPLES)
    check_output(framework, net, framework.build(net, weights), weights, batch)


@pytest.mark.parametrize(("framework", "net"), [case for case in CASES if "lenet" in str(case.id)])
def test_one_changed_weight_is_rejected(framework: Framework, net: Any) -> None:
    weights, batch = models.weights(net), models.batch(net, SAMPLES)
    other = weights["conv2.kernel"].copy()
    other[0, 1, 2, 3] += 0.01
    model = framework.build(net, {**weights, "conv2.kernel": other})
    with pytest.raises(AssertionError, match="Not equal to tolerance"):
        check_output(framework, net, model, weights, batch)


@pytest.mark.parametrize("net", models.NETS)
def test_no_weight_is_without_effect(net: Any) -> None:
    """Every array of weights moves the logits by more than the tolerance above: one forgotten or transposed would be seen there."""
    weights, batch = models.weights(net), models.batch(net, SAMPLES)
    before = models.reference(net, weights, batch)["logits"]
    for name, value in weights.items():
        changed = value.copy()
        changed.ravel()[::2] += 0.1
        moved = np.abs(models.reference(net, {**weights, name: changed}, batch)["logits"] - before).max()
        forgotten = name.endswith("key.bias")  # adds the same to all scores of a query: softmax does not see it
        assert (moved > 1e-3) != forgotten, f"{name} moves the logits by {moved}"


def test_batches_and_weights_are_repeatable_and_seeded() -> None:
    for net in models.NETS:
        for make in (models.weights, lambda net, seed=0: models.batch(net, 3, seed)):
            first, again, other = make(net), make(net), make(net, 1)
            assert all(np.array_equal(first[name], again[name]) for name in first)
            assert any(not np.array_equal(first[name], other[name]) for name in first)


def test_the_reference_is_the_textbook() -> None:
    """Loops, written from the definitions, for one entry of each kind of layer."""
    weights, batch = models.weights("lenet"), models.batch("lenet", 2)
    image, kernel = batch["images"][1, :, :, 0].astype(float), weights["conv1.kernel"].astype(float)
    padded = np.zeros((32, 32))
    padded[2:30, 2:30] = image
    at = sum(padded[9 + i, 14 + j] * kernel[i, j, 0, 3] for i in range(5) for j in range(5))
    found = models.reference("lenet", weights, batch)["relu1"][1, 9, 14, 3]
    assert found == pytest.approx(max(0.0, at + float(weights["conv1.bias"][3])), abs=1e-12)

    weights, batch = models.weights("transformer"), models.batch("transformer", 2)
    places = models.reference("transformer", weights, batch)
    query, key, value = (places[f"block1.{part}"][0] for part in ("query", "key", "value"))
    tokens = int(batch["attention_mask"][0].sum())
    scores = np.array([query[1, 0] @ key[k, 0] / 8**0.5 for k in range(tokens)])
    heads = [scores, np.array([query[1, 1] @ key[k, 1] / 8**0.5 for k in range(tokens)])]
    mixed = [np.exp(s) / np.exp(s).sum() @ value[:tokens, h] for h, s in enumerate(heads)]
    expected = np.concatenate(mixed) @ weights["block1.attention.out.kernel"] + weights["block1.attention.out.bias"]
    np.testing.assert_allclose(places["block1.attention"][0, 1], expected, atol=1e-12)


def test_more_digits_than_there_are_is_an_error() -> None:
    with pytest.raises(DataError, match=r"models\.batch\('residual', 2000\): there are 1797 digits"):
        models.batch("residual", 2000)

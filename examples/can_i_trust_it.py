"""Can an efficiency be trusted?  One trained network, measured on more and more digits: only one layer's number is about the layer."""

from tqdm import tqdm

import layerscope as ls
from layerscope.demo.torch import trained

images, labels = ls.datasets.digits(split="train")
model = trained(images, labels, epochs=3, seed=0, bar=lambda epochs: tqdm(epochs, disable=True)).eval()

every = ls.datasets.digits(split="all")
for samples in (100, 400, 1797):
    results = ls.examine(model, every, samples=samples, references=["untrained"])
    print(f"\n{samples:,} images")
    for name, view in results.items():
        plain, before = (float(r[name].efficiency()) for r in (results, results.references["untrained"]))
        print(f"{name}: plain efficiency {plain:.3f}, untrained {before:.3f}; {view.trust().verdict}: {view.trust()}")
    print(f"ranking by efficiency: {results.ranking()}")

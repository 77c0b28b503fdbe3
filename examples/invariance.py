"""What do the layers of one network make of a rotation?  Every measure side by side, and how far the answer depends on the choice of one."""

import torch
from torch import nn

import layerscope as ls
import layerscope.measures as ms

torch.set_num_threads(1)
torch.manual_seed(0)


def digits(split: str) -> tuple[torch.Tensor, torch.Tensor]:
    images, labels = ls.datasets.digits(size=16, split=split)
    return nn.functional.pad(torch.from_numpy(images), (3, 3, 3, 3)), torch.from_numpy(labels)


model = nn.Sequential(
    nn.Conv2d(1, 12, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(12, 24, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
    nn.Flatten(), nn.Linear(600, 64), nn.ReLU(), nn.Linear(64, 10),
)  # fmt: skip
optimizer, (images, labels) = torch.optim.Adam(model.parameters(), lr=3e-3), digits("train")
for _ in range(8):
    for rows in torch.randperm(len(images)).split(64):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(images[rows]), labels[rows]).backward()
        optimizer.step()

# everything that is read below is remembered in one pass
turns, apart = ls.transformations.rotations(16), ms.EntropyByTransformation()
pooled, by_class = ms.NormalizedVariance(pool="mean"), ms.NormalizedVariance(by_class=True)
ask = [ms.NormalizedVariance(), pooled, by_class, ms.SameEquivariance(), ms.Anova(), ms.Distance(), ms.CKA(), apart]
results = ls.examine(model, digits("test"), transformations=turns, layers=[nn.ReLU, "9"], measures=ask, samples=300)

layer = results["4"]
print("one layer,", layer.normalized_variance())
choices = {
    "variances instead of deviations": layer.normalized_variance("variance"),
    "their ratio of means": layer.normalized_variance("variance", aggregate="ratio of means"),
    "0 / 0 taken for 1": layer.normalized_variance(undefined="one"),
    "maps averaged over their positions": layer.reading(pooled),
    "within classes": layer.reading(by_class),
}
for choice, reading in choices.items():
    print(f"  {choice:36}{float(reading):.2f}")

print("\nlayer       ratio  anova cosine    cka same-equivariance")
for name in results:
    view = results[name]
    some = view.normalized_variance(), view.anova(), view.distance("cosine", against=0), view.cka()
    space = f"{float(view.normalized_same_equivariance()):7.2f}" if len(view.layer.shape) == 4 else ""
    print(f"{name:10}" + "".join(f"{float(number):7.2f}" for number in some) + space)
print("total, every layer one vote:", results.total())
print("total, ratio of totals:     ", results.total(aggregate="ratio of totals"))
print("\nbits of states under each rotation")
for name in ("1", "4", "8"):
    print(f"  {name}: {results[name].reading(apart).note}")
print("\nthe last layer under the first rotations\n", results["9"].by_transformation().round(2).head(5))
print("\nthe last layer by class\n", results["9"].by_class().round(2).head(4))

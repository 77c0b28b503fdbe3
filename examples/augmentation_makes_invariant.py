"""Does training on turned digits make a network ignore rotation, and where?

The movement ratio of a layer: how far its values move when a digit is turned, next to how far they move from digit to digit (flavour
std, mean of the ratios of its values, those that never move left out and counted). 0 is invariant. One pass measures all three networks.
`python examples/augmentation_makes_invariant.py pictures` also writes a picture and the report into that folder.
"""

import sys

import torch
from torch import nn
from torch.nn import functional as F

import layerscope as ls
from layerscope.report import plot

torch.set_num_threads(1)


def digits(split):
    x, y = ls.datasets.digits(16, split=split)
    return F.pad(torch.tensor(x), (3, 3, 3, 3)), torch.tensor(y)  # a margin, so that turning cuts nothing off


def turned(x, angle):
    rows = [angle.cos(), -angle.sin(), 0 * angle, angle.sin(), angle.cos(), 0 * angle]
    grid = F.affine_grid(torch.stack(rows, -1).view(-1, 2, 3), list(x.shape), align_corners=False)
    return F.grid_sample(x, grid, align_corners=False)


def network(epochs, turns):
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1), nn.ELU(), nn.Conv2d(16, 16, 3, padding=1), nn.ELU(), nn.MaxPool2d(2),
        nn.Conv2d(16, 32, 3, padding=1), nn.ELU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(800, 64), nn.ELU(), nn.Linear(64, 10),
    )  # fmt: skip
    (x, y), optimizer = digits("train"), torch.optim.Adam(net.parameters(), 2e-3)
    for batch in (batch for _ in range(epochs) for batch in torch.randperm(len(x)).split(64)):
        given = turned(x[batch], 2 * torch.pi * torch.rand(len(batch))) if turns else x[batch]
        optimizer.zero_grad()
        F.cross_entropy(net(given), y[batch]).backward()
        optimizer.step()
    return net


ratio, others = ls.measures.NormalizedVariance(), {"untrained": network(0, False), "plain": network(30, False)}
turns, data = ls.transformations.rotations(24), digits("test")
results = ls.examine(network(30, True), data, transformations=turns, layers="all", measures=[ratio], references=others)
networks = {**{name: results.references[name] for name in others}, "augmented": results}

print(f"{'layer':>10} {'':10}" + "".join(f"{name:>11}" for name in networks))
for name in results:
    numbers = "".join(f"{float(each[name].reading(ratio)):11.2f}" for each in networks.values())
    print(f"{name:>10} {results[name].layer.kind:10}" + numbers)
print(f"{'upright, accuracy':21}" + "".join(f"{float(r.task.by_transformation[0]):11.2f}" for r in networks.values()))
print(f"{'turned, accuracy':21}" + "".join(f"{float(r.accuracy):11.2f}" for r in networks.values()))
for folder in sys.argv[1:]:
    plot(networks, "movement").savefig(f"{folder}/movement.png", dpi=150)
    results.to_html(f"{folder}/movement.html", title="Digits, trained on turned digits")

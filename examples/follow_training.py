"""What happens to the states of a network while it learns?  The same unseen digits after every epoch, and windows of epochs."""

import torch
from torch import nn

import layerscope as ls
from layerscope.measures import DeadUnits, Entropy, Information

torch.manual_seed(0)
x, y = map(torch.from_numpy, ls.datasets.digits(size=8, split="train"))
unseen = ls.datasets.digits(size=8, split="test")
model = nn.Sequential(nn.Conv2d(1, 12, 3), nn.ReLU(), nn.Flatten(), nn.Linear(432, 12), nn.ReLU(), nn.Linear(12, 10))
optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)

epochs = ls.Epochs()
epochs.add(ls.examine(model, unseen))  # before it has learned anything
for _ in range(5):
    for rows in torch.randperm(len(x)).split(64):
        loss = nn.functional.cross_entropy(model(x[rows]), y[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    epochs.add(ls.examine(model, unseen))

for measure in (Entropy(estimator="c2"), Information(), DeadUnits()):
    print(f"\n{measure.name}, of the same {len(unseen[0])} digits after every epoch")
    table = epochs.readings(measure).pivot(index="epoch", columns="layer", values="value")
    print(table.round(2).to_string())

last = epochs.window(4, 5)  # the states of the last two epochs together
for site in last:
    one, both = (len(results[site].counts()) for results in (epochs[5], last))
    print(f"{site}: {one:,} different states in the last epoch, {both:,} in the last two")

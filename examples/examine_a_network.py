"""What do the layers of my network do, and which of these numbers can I trust?  Real digits, a minute at most."""

import torch
from torch import nn

import layerscope as ls

torch.manual_seed(0)
train_x, train_y = map(torch.from_numpy, ls.datasets.digits(size=8, split="train"))
test = ls.datasets.digits(size=8, split="test")

model = nn.Sequential(
    nn.Conv2d(1, 12, 3, padding=1),
    nn.ReLU(),
    nn.MaxPool2d(2),
    nn.Flatten(),
    nn.Linear(192, 64),
    nn.ReLU(),
    nn.Linear(64, 10),
)
optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
for _ in range(12):
    for rows in torch.randperm(len(train_x)).split(64):
        loss = nn.functional.cross_entropy(model(train_x[rows]), train_y[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

print(ls.layers(model, test), end="\n\n")
results = ls.examine(model, test, references=["untrained"])
print("accuracy          ", results.accuracy)
for name in results:
    print(f"{name:3} entropy       ", results[name].entropy())
    print(f"{name:3} untrained     ", results.references["untrained"][name].entropy())
    print(f"{name:3} dead units    ", results[name].dead_units())
print("network efficiency", results.network_efficiency())

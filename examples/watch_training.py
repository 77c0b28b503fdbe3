"""How do the states of a layer change while a network learns?  Your own training loop, watched."""

import torch
from torch import nn

import layerscope as ls

torch.manual_seed(0)
x, y = map(torch.from_numpy, ls.datasets.digits(size=8, split="train"))
model = nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.ReLU(), nn.Linear(16, 10))
optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)

with ls.watch(model, "ReLU") as watched:
    for epoch in range(5):
        watched.reset()  # every epoch on its own
        for rows in torch.randperm(len(x)).split(64):
            loss = nn.functional.cross_entropy(model(x[rows]), y[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        view = watched["2"]
        print(f"epoch {epoch}: entropy {view.entropy()}, dead {view.dead_units()}, loss {loss.item():.3f}")

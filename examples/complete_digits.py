"""Can a memory complete digits it never saw?  The lower half is covered; a dense associative memory beside three plain rivals.

`python examples/complete_digits.py pictures` also draws digits before and after, and the energy of their descent, into that folder.
"""

import sys
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from sklearn.linear_model import Ridge

import layerscope as ls
from layerscope import energy


def error(found: np.ndarray, true: np.ndarray) -> float:
    """The mean squared error of the covered pixels."""
    return float(((found - true)[:, ~known] ** 2).mean())


images = ls.datasets.digits(size=8, split="train")[0], ls.datasets.digits(size=8, split="test")[0]
train, test = (x.reshape(-1, 64).astype(float) * 2 - 1 for x in images)  # pixels from -1 to 1
known = np.arange(64) < 32  # the upper half

# how sharp the memory should be is tried on digits put aside from those it may store
stored, aside = train[::2], train[1::4]
tried = {}
for beta in (4.0, 8.0, 16.0, 32.0, 64.0):
    tried[beta] = error(energy.memory(stored, beta).retrieve(aside, clamp=known).states, aside)
beta = min(tried, key=tried.__getitem__)
print("covered digits put aside, error by beta:", {b: round(e, 3) for b, e in tried.items()})

memory = energy.memory(train, beta)
found = memory.retrieve(np.where(known, test, 0.0), clamp=known)
linear = Ridge(1.0).fit(train[:, known], train[:, ~known]).predict(test[:, known])
made = {
    "dense associative memory": found.states,
    "nearest neighbour": found.baseline,
    "linear regression": np.concatenate([test[:, known], linear], axis=1),
    "mean of all digits": np.broadcast_to(train.mean(axis=0), test.shape),
}
print(f"\n{found}\n\nmean squared error of the covered half, {len(test)} unseen digits, pixels from -1 to 1")
for name, states in made.items():
    print(f"  {name:25} {error(states, test):.3f}")

if len(sys.argv) > 1:
    folder = Path(sys.argv[1])
    rows = {"shown": np.where(known, test, np.nan), **made, "true": test}
    figure, axes = plt.subplots(len(rows), 12, figsize=(7.6, 4.4), gridspec_kw={"wspace": 0.12, "hspace": 0.12})
    for line, (name, states) in zip(axes, rows.items(), strict=True):
        label = f"{name}  {error(states, test):.3f}" if name in made else name
        line[0].set_ylabel(label, rotation=0, ha="right", va="center", labelpad=8)
        for ax, one in zip(line, range(3, len(test), 42), strict=False):
            ax.imshow(states[one].reshape(8, 8), "gray_r", vmin=-1, vmax=1)
            ax.set(xticks=[], yticks=[], facecolor="#cfe3f1")
    figure.savefig(folder / "completed-digits.png", dpi=150, bbox_inches="tight")
    memory.ledger(test, known, test).plot().savefig(folder / "completed-digits-energy.png", dpi=150)

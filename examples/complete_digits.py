"""Can a memory complete digits it never saw?  The lower half is covered; a dense associative memory beside three plain rivals."""

import numpy as np
from sklearn.linear_model import Ridge

import layerscope as ls
from layerscope import energy

SHADES = " .:-=+*#%@"


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
rivals = {
    "dense associative memory": found.states,
    "nearest neighbour": found.baseline,
    "linear regression": np.concatenate([test[:, known], linear], axis=1),
    "mean of all digits": np.broadcast_to(train.mean(axis=0), test.shape),
}
print(f"\n{found}\n\nmean squared error of the covered half, {len(test)} unseen digits, pixels from -1 to 1")
for name, states in rivals.items():
    print(f"  {name:25} {error(states, test):.3f}")

print("\nshown, completed, true")
for one in (3, 60, 200):
    shown = np.where(known, test[one], -1.0)
    pictures = [np.clip(x.reshape(8, 8) * 4.5 + 4.5, 0, 9).astype(int) for x in (shown, found.states[one], test[one])]
    for lines in zip(*pictures, strict=True):
        print("   ".join("".join(SHADES[k] * 2 for k in line) for line in lines))
    print()

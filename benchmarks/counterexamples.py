"""`python -m benchmarks.counterexamples`: where efficiency and aIQ mislead, on real digits; the numbers and pictures of
`docs/what-efficiency-does-not-tell-you.md`.

Small networks, trained here on one thread from fixed seeds.  Another processor rounds differently, which moves an accuracy by one image
or two and an entropy by a hundredth of a bit.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from tqdm import tqdm

import layerscope as ls
from layerscope.demo.torch import trained as trained_lenet

DOCS = Path(__file__).resolve().parents[1] / "docs"
WIDTHS = (2, 3, 4, 6, 8, 16, 32, 64, 128)
SEED = 4
TRAININGS = tuple(
    {"decay": decay, "dropout": dropout, "epochs": epochs, "seed": seed}
    for decay, dropout, epochs, seed in product((0.0, 3e-3, 3e-2), (0.0, 0.5), (2, 15, 40), (0, 1))
)
"""36 ways to train 32 units to tell ten digits apart."""
TASKS = tuple(
    {"classes": classes, "dropout": dropout, "epochs": 15, "seed": seed}
    for classes, dropout, seed in product((2, 3, 4, 6, 8, 10), (0.0, 0.5), (0, 1, 2))
)
"""36 networks of 32 units that tell two to ten digits apart."""


def digits(split: Any, classes: int = 10) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    images, labels = ls.datasets.digits(size=8, split=split)
    some = labels < classes
    return images.reshape(len(images), 64)[some], labels[some]


def network(
    units: int, seed: int, *, epochs: int = 40, decay: float = 0.0, dropout: float = 0.0, classes: int = 10
) -> nn.Sequential:
    """One layer of ReLU units between 64 pixels and 10 logits, trained on the first so many digits of the train split."""
    x, y = (torch.from_numpy(a) for a in digits("train", classes))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            model = nn.Sequential(nn.Linear(64, units), nn.ReLU(), nn.Dropout(dropout), nn.Linear(units, 10))
            optimizer = torch.optim.AdamW(model.parameters(), lr=0.01, weight_decay=decay / 0.01)
            for _ in range(epochs):
                for chosen in torch.randperm(len(x)).split(64):
                    optimizer.zero_grad()
                    nn.functional.cross_entropy(model(x[chosen]), y[chosen]).backward()
                    optimizer.step()
    finally:
        torch.set_num_threads(threads)
    return model.eval()


def accuracy_on(model: nn.Module, classes: int = 10) -> float:
    """On digits it has not seen."""
    x, y = digits("test", classes)
    with torch.no_grad():
        return float((model(torch.from_numpy(x)).argmax(1).numpy() == y).mean())


# --- a broken network scores above a working one --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Scored:
    units: int
    accuracy: float
    efficiency: float
    aiq: float


def scores(widths: tuple[int, ...] = WIDTHS) -> list[Scored]:
    """Accuracy on unseen digits, efficiency on all 1,797, and the quotient of both, weight 2."""
    found: list[Scored] = []
    for units in widths:
        model = network(units, SEED)
        efficiency = float(ls.examine(model, digits("all"))["1"].efficiency())
        accuracy = accuracy_on(model)
        found.append(Scored(units, accuracy, efficiency, ls.measures.aiq(efficiency, accuracy, 2)))
    return found


# --- trained and untrained read the same ----------------------------------------------------------------------------------------------


def trained_and_untrained(units: int = 128) -> tuple[float, float, str]:
    """Plain efficiency of a trained layer and of its untrained twin, and what the honest number says of the first."""
    results = ls.examine(network(units, SEED), digits("all"), references=["untrained"])
    twin = results.references["untrained"]
    return float(results["1"].efficiency()), float(twin["1"].efficiency()), str(results["1"].trust())


# --- the choice of sites --------------------------------------------------------------------------------------------------------------

SITES = {
    "after each nonlinearity (the default)": None,
    "the convolutions themselves": ["Conv2d"],
    "after batch normalisation": ["BatchNorm2d"],
    "all of these, and the pooled maps": ["Conv2d", "ELU", "BatchNorm2d", "MaxPool2d"],
}


def by_sites(epochs: int = 3) -> dict[str, float]:
    """Network efficiency of one LeNet-5 on 1,797 digits, by which of its layers are taken."""
    images, labels = ls.datasets.digits(split="train")
    model = trained_lenet(images, labels, epochs=epochs, seed=0, bar=lambda over: tqdm(over, disable=True)).eval()
    every = ls.datasets.digits(split="all")
    return {
        name: float(ls.examine(model, every, layers=layers).network_efficiency(allow_undersampled=True))
        for name, layers in SITES.items()
    }


# --- units really needed --------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Needed:
    """A layer of 32 units: how many of them its accuracy needs, and what two numbers of the layer say."""

    accuracy: float
    units: int
    efficiency: float
    dimension: float


def units_needed(model: nn.Sequential, classes: int = 10, loss: float = 0.01) -> int:
    """The fewest units with which the accuracy on the training digits stays within `loss`: others are replaced by their means, one by
    one, each time the one whose absence leaves the smallest cross-entropy."""
    x, y = digits("train", classes)
    last: Any = model[3]
    with torch.no_grad():
        hidden = model[1](model[0](torch.from_numpy(x))).numpy().astype(np.float64)
    weights, bias = (a.detach().numpy().astype(np.float64) for a in (last.weight, last.bias))
    mean = hidden.mean(0)
    logits, left = hidden @ weights.T + bias, list(range(len(mean)))
    whole = float((logits.argmax(1) == y).mean())

    def without(k: int, logits: NDArray[np.float64]) -> NDArray[np.float64]:
        return logits + np.outer(mean[k] - hidden[:, k], weights[:, k])

    def entropy(logits: NDArray[np.float64]) -> float:
        shifted = logits - logits.max(1, keepdims=True)
        return float((np.log(np.exp(shifted).sum(1)) - shifted[np.arange(len(y)), y]).mean())

    needed = len(left)
    while left:
        worst = min(left, key=lambda k: entropy(without(k, logits)))
        logits, left = without(worst, logits), [k for k in left if k != worst]
        if (logits.argmax(1) == y).mean() >= whole - loss:
            needed = len(left)
    return needed


def effective_dimension(model: nn.Sequential) -> float:
    """(Σλ)² / Σλ² of the eigenvalues of the covariance of the units: the directions that carry the variance."""
    with torch.no_grad():
        hidden = model[1](model[0](torch.from_numpy(digits("all")[0]))).numpy().astype(np.float64)
    spread = np.linalg.eigvalsh(np.cov(hidden.T))
    return float(spread.sum() ** 2 / (spread**2).sum())


def needs(ways: Sequence[Mapping[str, Any]]) -> list[Needed]:
    found: list[Needed] = []
    for way in ways:
        model, classes = network(32, **way), way.get("classes", 10)
        reading = ls.examine(model, digits("all"))["1"].efficiency()
        found.append(
            Needed(
                accuracy_on(model, classes), units_needed(model, classes), float(reading), effective_dimension(model)
            )
        )
    return found


def goes_along(needed: Sequence[Needed]) -> tuple[float, float]:
    """Rank correlation of the units needed with the efficiency, and with the effective dimension."""
    want = [n.units for n in needed]
    return spearman([n.efficiency for n in needed], want), spearman([n.dimension for n in needed], want)


def spearman(a: Sequence[float], b: Sequence[float]) -> float:
    """Rank correlation; equal values share their mean rank."""
    ranks: list[NDArray[np.float64]] = []
    for values in (a, b):
        _, where, count = np.unique(values, return_inverse=True, return_counts=True)
        ranks.append((np.cumsum(count) - (count - 1) / 2)[where])
    return float(np.corrcoef(np.array(ranks))[0, 1])


# --- page -----------------------------------------------------------------------------------------------------------------------------


COLOURS = {"one task, 36 trainings": "#b5362c", "tasks of 2 to 10 digits": "#3b7dbf"}


def draw(scored: Sequence[Scored], families: Mapping[str, Sequence[Needed]], path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    style: Any = {"font.size": 9, "axes.spines.top": False, "axes.spines.right": False, "svg.hashsalt": "layerscope"}
    with plt.rc_context(style):
        figure, (left, middle, right) = plt.subplots(1, 3, figsize=(10.4, 3.5), layout="constrained")
        units = [s.units for s in scored]
        for values, colour, label in (([s.accuracy for s in scored], "#3b7dbf", "accuracy"),
                                      ([s.aiq for s in scored], "#b5362c", "aIQ"),
                                      ([s.efficiency for s in scored], "#8a8a8a", "efficiency")):  # fmt: skip
            left.plot(units, values, "o-", color=colour, markersize=3.5, linewidth=1.6)
            left.annotate(
                label, (units[-1], values[-1]), xytext=(6, 0), textcoords="offset points", color=colour, va="center"
            )
        left.set_xscale("log", base=2)
        left.set_xticks([2, 8, 32, 128], ["2", "8", "32", "128"])
        left.minorticks_off()
        left.set(xlabel="hidden units", ylim=(0, 1.03), xlim=(1.7, 480))
        left.set_title("aIQ falls where accuracy rises", loc="left", fontsize=9)
        for k, (panel, name) in enumerate(((middle, "state efficiency"), (right, "effective dimension"))):
            for family, needed in families.items():
                values = [n.dimension if k else n.efficiency for n in needed]
                label = f"{family}: {goes_along(needed)[k]:+.2f}"
                panel.scatter(
                    values,
                    [n.units for n in needed],
                    s=18,
                    color=COLOURS[family],
                    alpha=0.75,
                    linewidths=0,
                    label=label,
                )
            panel.set(xlabel=name, ylim=(0, 32))
            panel.set_title("units needed, and rank correlation", loc="left", fontsize=9)
            panel.legend(loc="upper left", frameon=False, handletextpad=0.1, borderaxespad=0.1)
        middle.set_ylabel("units needed, of 32")
        figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None, dpi=110)
        plt.close(figure)


def main() -> None:
    print("units  accuracy  efficiency  aIQ")
    scored = scores()
    for s in scored:
        print(f"{s.units:5d}  {s.accuracy:8.3f}  {s.efficiency:10.3f}  {s.aiq:.3f}")
    before, after, honest = trained_and_untrained()
    print(f"\n128 units: trained {before:.3f}, untrained {after:.3f}; {honest}\n", flush=True)
    for name, value in by_sites().items():
        print(f"{value:.3f}  network efficiency of a LeNet-5, {name}", flush=True)
    families = dict(zip(COLOURS, map(needs, (TRAININGS, TASKS)), strict=True))
    for name, needed in families.items():
        want, right = [n.units for n in needed], [n.accuracy for n in needed]
        efficiency, dimension = goes_along(needed)
        print(f"\n{name}: {min(want)} to {max(want)} of 32 units needed, accuracy {min(right):.3f} to {max(right):.3f}")
        print(
            f"rank correlation with the units needed: efficiency {efficiency:+.2f}, effective dimension {dimension:+.2f}"
        )
    draw(scored, families, DOCS / "what-efficiency-does-not-tell-you.svg")


if __name__ == "__main__":
    main()

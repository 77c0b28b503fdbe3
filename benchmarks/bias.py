"""How far off each estimator is, on average, with few and with many samples: the curves of `docs/honest-bench.md`."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from benchmarks._counted import counted
from benchmarks._populations import Setting, digits, fields, independent, resampled
from layerscope.measures import entropy, trust_in

Textbook = Literal["plug-in", "miller-madow", "grassberger", "jackknife", "chao-wang-jost"]
NAMES: tuple[Textbook, ...] = ("plug-in", "miller-madow", "grassberger", "jackknife", "chao-wang-jost")
SAMPLES = (25, 50, 100, 200, 400, 800, 1600, 3200)


@dataclass(frozen=True, eq=False)
class Curves:
    """Mean estimates of one law: a row per estimator (those of `NAMES`, then c1 and c2), a column per number of samples."""

    name: str
    truth: float
    means: NDArray[np.float64]
    coverage: NDArray[np.float64]

    @property
    def bias(self) -> NDArray[np.float64]:
        return self.means - self.truth


def laws(samples: int) -> list[Setting]:
    return [
        resampled("smooth fields, 12 units, 64 positions", fields(12), 12, samples),
        resampled("digits through 32 filters, 64 positions", digits(32), 32, samples),
        resampled("smooth fields, 16 units, one position", np.ascontiguousarray(fields(16)[:, 27:28]), 16, samples),
        independent("20 independent units, one position", 20, samples),
    ]


def curves(sets: int, samples: Sequence[int] = SAMPLES, seed: int = 0) -> list[Curves]:
    found: list[Curves] = []
    for law, named in enumerate(laws(1)):
        means, covered = np.zeros((len(NAMES) + 2, len(samples))), np.zeros(len(samples))
        for j, count in enumerate(samples):
            setting, rng = laws(count)[law], np.random.default_rng((seed, law, j))
            for _ in range(sets):
                value = counted(setting, rng)
                trust = trust_in(value)
                n = value.records().n
                row = [*(entropy(n, estimator=name) for name in NAMES), trust.columns.c1, trust.c2]
                means[:, j] += np.array(row) / sets
                covered[j] += trust.coverage / sets
        found.append(Curves(named.name, named.truth, means, covered))
    return found


def worse_than_plain(found: Sequence[Curves]) -> list[str]:
    """Where an estimator that should not be is further off than the plain count, by more than a hundredth of a bit."""
    return [
        f"{each.name}: {name} is off by {each.bias[k, j]:+.3f} bits, the plain count by {each.bias[0, j]:+.3f}"
        for each in found
        for k, name in enumerate((*NAMES, "c1", "c2"))
        for j in range(each.bias.shape[1])
        if abs(each.bias[k, j]) > abs(each.bias[0, j]) + 0.01
    ]


def draw(found: Sequence[Curves], path: Path, samples: Sequence[int] = SAMPLES) -> None:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    shown = {"plug-in": ("#9a9a9a", "plain count"), "miller-madow": ("#c9a227", "Miller-Madow"), "grassberger": ("#7aa35a", "Grassberger"),
             "chao-wang-jost": ("#3b7dbf", "Chao-Wang-Jost, row by row"), "c2": ("#b5362c", "c2")}  # fmt: skip
    style: Any = {"font.size": 9, "axes.spines.top": False, "axes.spines.right": False, "svg.hashsalt": "layerscope"}
    with plt.rc_context(style):
        figure, panels = plt.subplots(2, 2, figsize=(8.6, 5.6), sharex=True, layout="constrained")
        for panel, each in zip(panels.flat, found, strict=True):
            panel.axhline(0, color="#444444", linewidth=0.8)
            for k, name in enumerate((*NAMES, "c1", "c2")):
                if name in shown:
                    colour, label = shown[name]
                    panel.plot(samples, each.bias[k], color=colour, label=label, linewidth=2.2 if name == "c2" else 1.4)
            panel.set_xscale("log")
            panel.set_xticks([25, 100, 400, 1600], ["25", "100", "400", "1,600"])
            panel.minorticks_off()
            panel.set_title(f"{each.name}: {each.truth:.2f} bits", loc="left", fontsize=9)
            panel.set_ylim(min(each.bias.min() * 1.08, -0.1), max(0.35, each.bias.max() * 1.2))
        for panel in panels[:, 0]:
            panel.set_ylabel("mean error in bits")
        for panel in panels[1]:
            panel.set_xlabel("samples")
        handles, labels = panels[0, 0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=5, frameon=False)
        figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None, dpi=110)
        plt.close(figure)


def table(found: Sequence[Curves], samples: Sequence[int] = SAMPLES) -> str:
    lines = ["| law | estimator | " + " | ".join(f"{m:,}" for m in samples) + " |", "|---|---|" + "---|" * len(samples)]
    for each in found:
        lines.append(
            f"| {each.name}, {each.truth:.2f} bits | coverage | " + " | ".join(f"{c:.2f}" for c in each.coverage) + " |"
        )
        for name, row in zip((*NAMES, "c1", "c2"), each.bias, strict=True):
            lines.append(f"| | {name} | " + " | ".join(f"{b:+.2f}" for b in row) + " |")
    return "\n".join(lines)

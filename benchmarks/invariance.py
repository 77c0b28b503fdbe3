"""What measuring invariance costs: `python -m benchmarks.invariance lenet|residual [rounds]`.

The baseline is the forward passes of the same transformed images, made beforehand, in the same batches.  Each round runs bare, measured,
measured, bare on one thread, CPU time; transforms and the sums of the measures are also timed apart, inside one measured run.
"""

import sys
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn

import layerscope as ls
from benchmarks._timing import cpu_seconds, paired
from benchmarks.networks import resnet
from layerscope import measures as ms
from layerscope._walk import Walk
from layerscope.feed import Feed
from layerscope.measures import AbstractMeasure


class Case(NamedTuple):
    """A network, its samples, the transformations, and the rows of a forward."""

    title: str
    model: nn.Module
    data: torch.Tensor
    transformations: ls.transformations.Transformations
    batch: int


def lenet() -> Case:
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(1, 6, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(6, 16, 5), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(),
        nn.Linear(400, 120), nn.ReLU(), nn.Linear(120, 84), nn.ReLU(), nn.Linear(84, 10),
    )  # fmt: skip
    turns = ls.transformations.rotations(16)
    return Case("LeNet, 28 × 28, 200 × 16", model.eval(), torch.rand(200, 1, 28, 28), turns, 400)


def residual() -> Case:
    torch.manual_seed(0)
    turns = ls.transformations.rotations(8)
    return Case("residual net, 64 px, 32 × 8", resnet().eval(), torch.rand(32, 3, 64, 64), turns, 64)


STD: tuple[AbstractMeasure[Any], ...] = (ms.NormalizedVariance(), ms.TransformationVariance(), ms.SampleVariance())
VARIANCE: tuple[AbstractMeasure[Any], ...] = tuple(kind("variance") for kind in (ms.NormalizedVariance, ms.TransformationVariance, ms.SampleVariance))  # fmt: skip


class Run:
    """A case, bare or measured."""

    def __init__(self, case: Case) -> None:
        self.case, self.ready = case, case.transformations(case.data).split(case.batch)

    def bare(self) -> None:
        with torch.no_grad():
            for rows in self.ready:
                self.case.model(rows)

    def measured(self, measures: Sequence[AbstractMeasure[Any]], layers: Any) -> ls.Results:
        case = self.case
        return ls.examine(
            case.model,
            case.data,
            transformations=case.transformations,
            batch_size=case.batch,
            measures=measures,
            layers=layers,
        )

    def inside(self, owner: type, name: str, run: Callable[[], Any]) -> float:
        """CPU seconds in a method during one run."""
        original, total = getattr(owner, name), 0.0

        def timed(*arguments: Any) -> Any:
            nonlocal total
            begin = time.thread_time()
            try:
                return original(*arguments)
            finally:
                total += time.thread_time() - begin

        setattr(owner, name, timed)
        try:
            run()
        finally:
            setattr(owner, name, original)
        return total

    def error(self, layers: Any) -> float:
        """The largest relative error of the spreads of a value, against float64 on everything at once."""
        results, kept = self.measured(STD, layers), dict[str, list[np.ndarray]]()
        T = len(self.case.transformations)
        names = [name for name in results if name != "(model):in"]
        for rows in self.ready:
            for name, values in ls.activations(self.case.model, rows, layers=names).items():
                kept.setdefault(name, []).append(values)
        worst = 0.0
        for name in names:
            grid = np.concatenate(kept.pop(name)).reshape(len(self.case.data), T, -1).astype(np.float64)
            for measure, axis in (
                (ms.TransformationVariance(level="element"), 1),
                (ms.SampleVariance(level="element"), 0),
            ):
                want = grid.std(axis, ddof=1).mean(0)
                got = np.asarray(results[name].reading(measure))
                worst = max(worst, float(np.max(np.abs(got - want) / np.maximum(want, 1e-12))))
        return worst


def main(name: str, rounds: int) -> None:
    torch.set_num_threads(1)
    case = {"lenet": lenet, "residual": residual}[name]()
    run = Run(case)
    print(f"{case.title}, {case.batch} rows a forward: bare forwards {1e3 * cpu_seconds(run.bare):.0f} ms\n")
    print("| layers | measures | all in / bare (quartiles) | sums / bare | transforms / bare |\n|---|---|---|---|---|")
    for where, layers in (("nonlinearities", None), ("all", "all")):
        for what, measures in (("std", STD), ("variance", VARIANCE)):

            def measured(measures: Any = measures, layers: Any = layers) -> ls.Results:
                return run.measured(measures, layers)

            ratio = paired(measured, run.bare, pairs=rounds)
            sums = np.median([run.inside(Walk, "_read", measured) for _ in range(rounds)]) / ratio.right
            moved = np.median([run.inside(Feed, "_transformed", measured) for _ in range(rounds)]) / ratio.right
            sites = len(measured()) - 1
            print(f"| {where}, {sites} | {what} | {ratio} | {sums:.2f} | {moved:.2f} |", flush=True)
    print(f"\nLargest relative error of a value's spread against float64: {run.error('all'):.1e}")


if __name__ == "__main__":
    words = sys.argv[1:]
    main(words[0], int(words[1]) if len(words) > 1 else 9)

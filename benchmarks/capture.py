"""What watching a forward pass costs: `python -m benchmarks.capture lenet|residual|transformer [threads] [rounds]`.

Each round runs bare, watched, watched, bare; the ratio of the sums is one sample, median and quartiles are printed.  CPU time for one
thread, wall time for two (set OMP_WAIT_POLICY=passive: spinning threads on shared cores time nothing).  Beside it the CPU time spent inside
our hooks over the bare forward, which repeats better, and the peak memory above the bare run with the kernels loaded.
"""

import gc
import resource
import statistics
import sys
import time
from itertools import pairwise

import torch

import layerscope as ls
from benchmarks._timing import cpu_seconds
from benchmarks.networks import CASES, Case
from layerscope.probes.hooks import torch as probe


class Capture:
    """A case, run bare or watched; `inside` collects the seconds in our hooks when asked to."""

    def __init__(self, case: Case) -> None:
        self.case, self.inside = case, 0.0

    def bare(self) -> None:
        with torch.no_grad():
            for x in self.case.data.split(self.case.batch):
                self.case.model(x)

    def watched(self) -> "ls._watch.Watched":
        with ls.watch(self.case.model, self.case.layers) as seen:
            self.bare()
        return seen

    def examined(self) -> ls.Results:
        return ls.examine(self.case.model, self.case.data, layers=self.case.layers, batch_size=self.case.batch)

    def labelled(self) -> ls.Results:
        """By label, as data with labels are by default.  Labels that say nothing of the states make the table largest."""
        data = (self.case.data, torch.arange(len(self.case.data)) % 10)
        return ls.examine(self.case.model, data, layers=self.case.layers, batch_size=self.case.batch)

    def told(self) -> None:
        """By label, and every number of the default table: estimators, intervals, verdicts, brackets, information, groups of units."""
        _ = self.labelled().table

    def with_shuffled(self) -> ls.Results:
        data = (self.case.data, torch.arange(len(self.case.data)) % 10)
        how = {"layers": self.case.layers, "batch_size": self.case.batch, "references": ["shuffled labels"]}
        return ls.examine(self.case.model, data, **how)

    def seconds_inside(self) -> float:
        """CPU seconds in our hooks during one watched run."""
        original, total = probe.Hook.__call__, 0.0

        def timed(hook: probe.Hook, *arguments: object) -> None:
            nonlocal total
            begin = time.thread_time()
            original(hook, *arguments)  # type: ignore[arg-type]
            total += time.thread_time() - begin

        probe.Hook.__call__ = timed  # type: ignore[method-assign]
        try:
            self.watched()
        finally:
            probe.Hook.__call__ = original  # type: ignore[method-assign]
        return total


def main(name: str, threads: int, rounds: int) -> None:
    torch.set_num_threads(threads)
    run = Capture(CASES[name]())
    clock = time.process_time if threads == 1 else time.perf_counter
    for _ in range(2):
        run.bare()
        run.watched()
        run.told()
        run.with_shuffled()
    captures = {"watch": run.watched, "examine": run.examined, "examine by label": run.labelled}
    captures |= {"examine by label and all numbers": run.told, "examine with shuffled labels": run.with_shuffled}
    for label, capture in captures.items():
        ratios, bares, insides = [], [], []
        for _ in range(rounds):
            marks = [clock()]
            for function in (run.bare, capture, capture, run.bare):
                function()
                marks.append(clock())
            steps = [b - a for a, b in pairwise(marks)]
            ratios.append((steps[1] + steps[2]) / (steps[0] + steps[3]))
            bares.append((steps[0] + steps[3]) / 2)
            if label == "watch":
                insides.append(run.seconds_inside())
        low, median, high = statistics.quantiles(ratios, n=4)
        hooks = (
            f", inside the hooks {statistics.median(insides) / statistics.median(bares):.3f} of it" if insides else ""
        )
        kind = "CPU" if threads == 1 else "wall"
        print(
            f"{name}, {threads} thread(s), {kind}: bare {statistics.median(bares) * 1e3:.0f} ms; {label} / bare "
            f"{median:.3f} ({low:.3f} to {high:.3f}), {rounds} rounds{hooks}",
            flush=True,
        )
    if threads == 1:
        view = run.watched()
        first = next(iter(view))

        def efficiency() -> None:
            view[first].table.memo.clear()  # as if it had not been asked before
            view[first].efficiency()

        print(
            f"{name}: efficiency of {first} afterwards ({view[first].state_count:,} observations) {cpu_seconds(efficiency) * 1e3:.2f} ms"
        )


def memory(name: str) -> None:
    """Peak memory of a watched run above that of the bare run, the kernels loaded."""
    torch.set_num_threads(1)
    run = Capture(CASES[name]())
    small = Capture(Case(run.case.model, run.case.data[: run.case.batch], run.case.batch, run.case.layers))
    small.watched()
    small.examined()
    run.bare()
    gc.collect()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    seen = run.watched()
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(f"{name}: peak memory above the bare run {(after - before) / 1024:.1f} MB ({len(seen)} sites)")


if __name__ == "__main__":
    words = [*sys.argv[1:], *["lenet", "1", "15"][len(sys.argv) - 1 :]]
    if words[1] == "memory":
        memory(words[0])
    else:
        main(words[0], int(words[1]), int(words[2]))

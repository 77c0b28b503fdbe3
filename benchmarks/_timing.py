"""Timing on a machine that other work shares: CPU time, one thread, interleaved repeats, ratios of pairs."""

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any, NamedTuple

Clock = Callable[[], float]


class Ratio(NamedTuple):
    """Time of `left` over time of `right`, from ABBA rounds.

    **Fields:** median of the rounds' ratios with their quartiles; `left`, `right`: median seconds a call.
    """

    median: float
    low: float
    high: float
    left: float
    right: float

    def __str__(self) -> str:
        return f"{self.median:.2f} ({self.low:.2f} to {self.high:.2f})"


def interleaved(*functions: Callable[[], Any], repeats: int = 9, clock: Clock = time.process_time) -> list[float]:
    """Seconds a call, the median of `repeats` rounds in which every function runs once (often enough to last 20 ms)."""
    inner = [_calls(function, clock) for function in functions]
    rounds = [[_seconds(f, k, clock) for f, k in zip(functions, inner, strict=True)] for _ in range(repeats)]
    return [statistics.median(column) for column in zip(*rounds, strict=True)]


def cpu_seconds(function: Callable[[], Any], repeats: int = 9) -> float:
    """CPU seconds a call: the median of `repeats`."""
    return interleaved(function, repeats=repeats)[0]


def paired(
    left: Callable[[], Any], right: Callable[[], Any], pairs: int = 15, clock: Clock = time.process_time
) -> Ratio:
    """How many times longer `left` takes than `right`, from rounds of left, right, right, left.

    CPU time by default, fair beside other work; `clock=time.perf_counter` where several threads work.
    """
    k, m = _calls(left, clock), _calls(right, clock)
    lefts, rights = [], []
    for _ in range(pairs):
        first = _seconds(left, k, clock)
        rights.append((_seconds(right, m, clock) + _seconds(right, m, clock)) / 2)
        lefts.append((first + _seconds(left, k, clock)) / 2)
    low, median, high = statistics.quantiles([a / b for a, b in zip(lefts, rights, strict=True)], n=4)
    return Ratio(median, low, high, statistics.median(lefts), statistics.median(rights))


def first_call(setup: str, call: str, cached: bool) -> float:
    """Wall seconds of `call` in a new process after `setup`, with an empty cache of compiled kernels or one that knows the call."""
    code = f"import time\n{setup}\nbegin = time.perf_counter()\n{call}\nprint(time.perf_counter() - begin)"
    with tempfile.TemporaryDirectory() as folder:

        def run() -> float:
            environment = {**os.environ, "NUMBA_CACHE_DIR": folder}
            done = subprocess.run(
                [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
            )
            return float(done.stdout.split()[-1])

        if cached:
            run()
        return run()


def _seconds(function: Callable[[], Any], calls: int, clock: Clock) -> float:
    begin = clock()
    for _ in range(calls):
        function()
    return (clock() - begin) / calls


def _calls(function: Callable[[], Any], clock: Clock) -> int:
    """How many calls last 20 ms; the first ones, which compile and fault pages in, are not measured."""
    function()
    return max(1, round(0.02 / max(_seconds(function, 1, clock), 1e-7)))

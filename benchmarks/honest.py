"""`make bench-honest [SETS=200]`: how often intervals and brackets hold, over many data sets drawn from laws whose entropy is known.

Fails where an interval that is printed covers less than it promises, or a bracket less than 90 %.
"""

import math
import sys
import time
from collections import Counter
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from benchmarks._populations import Setting, settings
from layerscope._reading import CORRECTED, EXTRAPOLATED, LOWER_BOUND, MEASURED, SATURATED
from layerscope._site import Chunk, Samples, Site
from layerscope.measures import Entropy, Trust, trust_in
from layerscope.measures._intervals import error_of, without_each
from layerscope.measures._special import student
from layerscope.tallies import StateCounts, StateTable

SETS = 200
PRINTED = (MEASURED, CORRECTED)


@dataclass(frozen=True, eq=False)
class Outcome:
    """What many data sets of one setting gave: a row of numbers each, and the verdicts."""

    setting: Setting
    rows: NDArray[np.float64]
    verdicts: list[str]

    def column(self, name: str) -> NDArray[np.float64]:
        return self.rows[:, FIELDS.index(name)]

    def share(self, which: tuple[str, ...]) -> float:
        return sum(v in which for v in self.verdicts) / len(self.verdicts)

    def held(self, which: tuple[str, ...]) -> float:
        """The share of those data sets with such a verdict whose two limits hold the truth; NaN where there are none."""
        chosen = np.array([v in which for v in self.verdicts])
        low, high = self.column("low")[chosen], self.column("high")[chosen]
        truth = self.setting.truth
        return float(((low <= truth) & (truth <= high)).mean()) if chosen.any() else math.nan

    @property
    def wrong(self) -> float:
        """The share of *all* data sets for which an interval is printed that misses: what a reader meets."""
        return self.share(PRINTED) * (1 - self.held(PRINTED)) if self.share(PRINTED) else 0.0

    def plain_held(self) -> float:
        """The same of the plain count ± its own, correct, standard error: what the library never prints."""
        reach = self.column("plain reach")
        return float((np.abs(self.column("plain") - self.setting.truth) <= reach).mean())

    def bias(self, name: str) -> float:
        return float(self.column(name).mean()) - self.setting.truth


FIELDS = ("C", "a", "plain", "c1", "c2", "low", "high", "plain reach", "width")


def counted(setting: Setting, rng: np.random.Generator) -> StateCounts:
    """One data set, through the tally that measures networks."""
    words, sizes = setting.draw(rng, setting.samples)
    samples, m, width = words.shape
    mask = None if sizes is None else np.arange(m) < sizes[:, None]
    tally = StateTable()
    chunk = Chunk({"states": words.reshape(-1, width)}, Samples(np.arange(samples), mask=mask), (m,), setting.units)
    return tally.add(tally.init(Site("layer")), chunk)


def judged(setting: Setting, sets: int, seed: int) -> Outcome:
    rng = np.random.default_rng(seed)
    rows: list[list[float]] = []
    verdicts: list[str] = []
    for _ in range(sets):
        value = counted(setting, rng)
        trust = trust_in(value)
        low, high = trust.limits
        plain = error_of(without_each(value, trust.columns)[1], value.samples)
        reach = student(len(value.kept.sifted().ids) - 1) * plain
        rows.append(
            [
                trust.coverage,
                min(trust.recurrence, 99.0),
                trust.plug_in,
                trust.columns.c1,
                trust.c2,
                low,
                high,
                reach,
                high - low,
            ]
        )
        verdicts.append(trust.verdict)
        check_printing(trust, value)
    return Outcome(setting, np.array(rows), verdicts)


def check_printing(trust: Trust, value: StateCounts) -> None:
    """No interval around the plain count, and none that claims 95 % without the verdict for it."""
    plain, corrected = Entropy().compute(value), Entropy(estimator="c2").compute(value)
    if not (math.isnan(plain.low) and math.isnan(plain.high)):
        raise SystemExit(f"an interval around the plain count: {plain}")
    if trust.verdict not in PRINTED and f"[{corrected.low:.4g}" in str(corrected):
        raise SystemExit(f"an interval under the verdict {trust.verdict}: {corrected}")


def table(outcomes: list[Outcome]) -> str:
    head = (
        "setting",
        "samples",
        "truth",
        "C",
        "a",
        "verdicts",
        "plain",
        "c1",
        "c2",
        "plain ± se covers",
        "interval covers",
        "printed and wrong",
        "bracket holds",
    )
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for o in outcomes:
        counts = Counter(o.verdicts).most_common()
        verdicts = ", ".join(v if n == len(o.verdicts) else f"{v} {100 * n / len(o.verdicts):.0f} %" for v, n in counts)
        cells = [
            o.setting.name, f"{o.setting.samples:,}", f"{o.setting.truth:.2f}", f"{o.column('C').mean():.2f}", f"{o.column('a').mean():.2f}",
            verdicts, *(f"{o.bias(name):+.2f}" for name in ("plain", "c1", "c2")), percent(o.plain_held()), percent(o.held(PRINTED)), percent(o.wrong),
            percent(o.held((EXTRAPOLATED, LOWER_BOUND, SATURATED))),
        ]  # fmt: skip
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def percent(share: float) -> str:
    return "–" if math.isnan(share) else f"{100 * share:.1f} %"


def faults(outcomes: list[Outcome]) -> list[str]:
    """Where a promise is broken by more than chance (two standard errors of the share itself)."""
    found: list[str] = []
    for o in outcomes:
        for which, least in ((PRINTED, 0.92), ((LOWER_BOUND, SATURATED, EXTRAPOLATED), 0.9)):
            number = sum(v in which for v in o.verdicts)
            slack = 2 * math.sqrt(0.05 * 0.95 / max(1, number))
            most = 0.98 if o.setting.dependent and which == PRINTED else 1.0
            if number >= 20 and not least - slack <= o.held(which) <= most + slack:
                found.append(
                    f"{o.setting.name}, {o.setting.samples:,} samples: {' / '.join(which)} holds in {percent(o.held(which))}"
                )
    return found


def main(sets: int = SETS, only: str = "") -> int:
    began = time.perf_counter()
    outcomes: list[Outcome] = []
    for seed, setting in enumerate(settings()):
        if only in setting.name:
            outcomes.append(judged(setting, sets, seed))
            print(
                f"{len(outcomes):3d}  {time.perf_counter() - began:5.0f} s  {setting.name}", file=sys.stderr, flush=True
            )
    print(f"{sets} data sets each; bias in bits; C, a: mean coverage and recurrence.\n\n{table(outcomes)}\n")
    dependent = [o for o in outcomes if o.setting.dependent]
    chosen = [o for o in dependent if sum(v in PRINTED for v in o.verdicts) >= sets / 2]
    print(
        f"Dependent positions, interval printed in at least half of the sets: it covers {', '.join(percent(o.held(PRINTED)) for o in chosen)};"
    )
    print(f"the plain count ± its standard error covers {', '.join(percent(o.plain_held()) for o in chosen)}.")
    broken = faults(outcomes)
    print("\n".join(["", "Broken promises:", *broken] if broken else ["", "Every promise holds."]))
    return bool(broken)


if __name__ == "__main__":
    raise SystemExit(main(int(sys.argv[1]) if len(sys.argv) > 1 else SETS, *sys.argv[2:3]))

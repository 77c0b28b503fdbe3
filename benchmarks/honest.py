"""`make bench-honest [SETS=200]`: how often intervals and brackets hold, over many data sets drawn from laws whose entropy is known.

Writes `docs/honest-bench.md` and its picture.  Fails where an interval that is printed covers less than it promises, a bracket holds in
less than 90 %, or an estimator is further off than the plain count.
"""

import math
import sys
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks import bias
from benchmarks.__main__ import machine
from benchmarks._counted import counted
from benchmarks._populations import Setting, settings
from layerscope._reading import CORRECTED, EXTRAPOLATED, LOWER_BOUND, MEASURED, SATURATED
from layerscope.measures import Entropy, Trust, trust_in
from layerscope.measures._intervals import error_of, without_each
from layerscope.measures._special import student
from layerscope.tallies import StateCounts

SETS = 200
DOCS = Path(__file__).resolve().parents[1] / "docs"
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


MOST_WRONG = 0.08
"""The share of all data sets of a setting for which an interval may be printed that misses."""


def faults(outcomes: list[Outcome]) -> list[str]:
    """Where a promise is broken by more than chance (two standard errors of the share itself).

    Intervals are held to 92 … 98 % where they are the rule.  Where few data sets of a setting get one, these are the ones that by chance
    look better covered than they are, so there, and everywhere, it is counted how often one is printed that misses, of all data sets.
    """
    found: list[str] = []
    for o in outcomes:
        sets = len(o.verdicts)
        for which, least, enough in (
            (PRINTED, 0.92, max(20, sets / 2)),
            ((LOWER_BOUND, SATURATED, EXTRAPOLATED), 0.9, 20),
        ):
            number = sum(v in which for v in o.verdicts)
            slack = 2 * math.sqrt(0.05 * 0.95 / max(1, number))
            most = 0.98 if o.setting.dependent and which == PRINTED else 1.0
            if number >= enough and not least - slack <= o.held(which) <= most + slack:
                found.append(
                    f"{o.setting.name}, {o.setting.samples:,} samples: {' / '.join(which)} holds in {percent(o.held(which))}"
                )
        if o.wrong > MOST_WRONG + 2 * math.sqrt(MOST_WRONG * (1 - MOST_WRONG) / sets):
            found.append(
                f"{o.setting.name}, {o.setting.samples:,} samples: {percent(o.wrong)} of all sets get an interval that misses"
            )
    return found


PAGE = """# How often the honest numbers hold

Written by `make bench-honest SETS={sets}`: {sets:,} data sets from each of {laws} laws whose entropy is known exactly, seeds fixed ({machine}; {seconds:.0f} s). Nothing here is typed by hand. What the words
mean: [Can I trust this number?](can-i-trust-this-number.md).

## Intervals and brackets
*Field*: thresholded smooth random fields, 8 × 8 positions that resemble each other; *digits*: handwritten digits through random filters; *one row*: a single position per sample. Bias in bits; C, a: mean
coverage and recurrence. *Plain ± se*: what an interval around the plain count would cover, with its correct standard error; layerscope never prints one. *Interval covers*: of the data sets for which an
interval is printed, the share in which it holds the truth. *Printed and wrong*: of all data sets, those with a printed interval that misses. *Bracket holds*: where a bracket is printed instead.

{table}

{summary}

## Mean error of the estimators
{curve_sets} data sets for each point. With positions that resemble each other (upper row) the row-wise estimators correct too little; c2 goes by samples. Where the coverage is low (20 independent units), nothing
comes near: there layerscope prints bounds.

![Mean error of five estimators against the number of samples, for four laws](honest-bench.svg)

{curves}
"""


def summary_of(outcomes: list[Outcome], sets: int) -> str:
    chosen = [o for o in outcomes if o.setting.dependent and sum(v in PRINTED for v in o.verdicts) >= sets / 2]
    held, plain = (
        [100 * share for share in shares]
        for shares in ([o.held(PRINTED) for o in chosen], [o.plain_held() for o in chosen])
    )
    broken = faults(outcomes)
    lines = [
        f"Where positions depend on each other and an interval is printed in at least half of the sets ({len(chosen)} settings), it covers "
        f"{min(held):.1f} to {max(held):.1f} %; the plain count ± its standard error {min(plain):.1f} to {max(plain):.1f} %. Of all data sets of "
        f"any setting, at most {100 * max(o.wrong for o in outcomes):.1f} % get an interval that misses. A verdict is drawn from the same data "
        "as the number: where a setting is called corrected now and then (field, 16 units), it is so in the sets that by chance look better "
        "covered than they are, and in these the interval holds less often."
    ]
    return "\n".join([*lines, "", "Broken promises:", *broken] if broken else [*lines, "", "Every promise holds."])


def main(sets: int = SETS, only: str = "") -> int:
    """All settings, and the page about them; or those whose name holds `only`, printed."""
    began = time.perf_counter()
    outcomes: list[Outcome] = []
    for seed, setting in enumerate(settings()):
        if only in setting.name:
            outcomes.append(judged(setting, sets, seed))
            print(
                f"{len(outcomes):3d}  {time.perf_counter() - began:5.0f} s  {setting.name}", file=sys.stderr, flush=True
            )
    print(f"{sets} data sets each; bias in bits; C, a: mean coverage and recurrence.\n\n{table(outcomes)}\n")
    if only:
        print("\n".join(faults(outcomes)) or "Every promise holds.")
        return bool(faults(outcomes))
    summary, some = summary_of(outcomes, sets), max(10, sets // 5)
    found = bias.curves(some)
    print(f"{summary}\n\nMean error in bits, {some} data sets each:\n\n{bias.table(found)}")
    bias.draw(found, DOCS / "honest-bench.svg")
    text = PAGE.format(
        sets=sets, laws=len(outcomes), machine=machine(), seconds=time.perf_counter() - began, table=table(outcomes), summary=summary,
        curve_sets=some, curves=bias.table(found),
    )  # fmt: skip
    (DOCS / "honest-bench.md").write_text(text, encoding="utf-8")
    worse = bias.worse_than_plain(found)
    print("\n".join(worse))
    return bool(faults(outcomes) or worse)


if __name__ == "__main__":
    raise SystemExit(main(int(sys.argv[1]) if len(sys.argv) > 1 else SETS, *sys.argv[2:3]))

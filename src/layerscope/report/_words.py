"""What was found, in plain sentences: each with its number and the picture that shows it; and what to distrust."""

import math
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from .._reading import CONSTANT, EXTRAPOLATED
from ..measures import difference, needed_words, ranking, repeats_in
from ._facts import FLAT, Facts, SiteFacts, digits
from ._names import listed, plain, rough, shorten

# Private characters inside a sentence: around names, and where a long name may break.  They are taken out of the names themselves.
_OPEN, _CLOSE, _BREAK = "\ue000", "\ue001", "\ue002"
_PRIVATE = str.maketrans("", "", _OPEN + _CLOSE + _BREAK)
_SUPERSCRIPT = str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹")
SOME = 4
"""Sentences about single layers, at most; the table has them all."""
MOVED = 0.05
"""Bits below which an entropy counts as not moved by training."""


@dataclass(frozen=True)
class Sentence:
    """One finding; `picture` is "states", "samples", "units", "table", "made" or empty.  `str()` is plain text."""

    text: str
    picture: str = ""

    def __str__(self) -> str:
        return self.text.translate(_PRIVATE)

    def html(self) -> Any:
        """Escaped, with names set apart."""
        from markupsafe import Markup, escape

        text = re.sub(r"(?<=\d) %", "\u00a0%", re.sub("([≥+]) (?=\\d)", "\\1\u00a0", self.text))
        return Markup(str(escape(text)).replace(_OPEN, "<b>").replace(_CLOSE, "</b>").replace(_BREAK, "<wbr>"))


def name(site: SiteFacts | str) -> str:
    text = shorten(site if isinstance(site, str) else site.name, 48)
    text = text if any(letter.isalpha() for letter in text) else f"layer {text}"
    return _OPEN + re.sub(r"(?<=[./])(?=\w{3})", _BREAK, text.translate(_PRIVATE)) + _CLOSE


def names(sites: Sequence[SiteFacts], most: int = 4) -> str:
    return listed([name(site) for site in sites], most)


# --- the answer ------------------------------------------------------------------------------------------------------------------


def answer(facts: Facts) -> Sentence:
    """The first thing a reader sees: how many layers these data can measure at all."""
    total, good, thin = len(facts.sites), facts.measured, facts.undersampled
    samples = f"{facts.samples:,} sample{'s' if facts.samples != 1 else ''}"
    if not total:
        return Sentence("No layer was read, so nothing was measured.", "made")
    blank = total - len(good) - len(thin)
    if len(good) == total:
        which = "The only layer" if total == 1 else f"All {total} layers"
        return Sentence(
            f"{which} that {'was' if total == 1 else 'were'} read can be measured with {samples}.", "states"
        )
    lost = f" {blank} gave no number at all." if blank else ""
    if not good:
        some = "The layer is" if total == 1 else f"None of the {total} layers can be measured: they are" if thin else ""
        if not thin:
            return Sentence(f"None of the {total} layers gave a number.", "distrust")
        return Sentence(
            f"{some} too wide for {samples}. Every plain count here is only a lower bound: do not compare layers by it.{lost}",
            "states",
        )
    head = f"{len(good)} of {total} layers can be measured with {samples}" + (
        f": {names(good, 3)}." if len(good) <= 4 else "."
    )
    if thin:
        one = len(thin) == 1
        which = names(thin) if len(thin) <= SOME else f"The other {len(thin)}"
        head += (
            f" {which} {'is' if one else 'are'} too wide for so few: what is said of "
            f"{'it are bounds' if one else 'them are bounds'}, not a measurement."
        )
    return Sentence(head + lost, "states")


# --- in plain words --------------------------------------------------------------------------------------------------------------


def plain_words(facts: Facts) -> list[Sentence]:
    """What the numbers say, layers that are undersampled never ranked."""
    makers: list[Callable[[Facts], list[Sentence]]] = [
        _measured,
        _ranking,
        _not_measured,
        _training,
        _constant_units,
        _copies,
    ]
    said = [sentence for make in makers for sentence in make(facts)]
    return said or [Sentence("Nothing can be said about these layers: see what to distrust.")]


def _measured(facts: Facts) -> list[Sentence]:
    best = sorted(facts.measured, key=lambda site: -site.states)
    rest = len(best) - SOME
    said = [_of_layer(site) for site in facts.sites if site in best[:SOME]]
    if rest > 0:
        said.append(Sentence(f"{rest} more layer{'s' if rest > 1 else ''} could be measured: see the table.", "table"))
    return said


def _of_layer(site: SiteFacts) -> Sentence:
    if site.verdict == CONSTANT:
        return Sentence(
            f"{name(site)} is constant: one pattern in all {site.entropy.observations:,} observations, 0 bits.",
            "states",
        )
    share = site.states / 2.0**site.units if site.units < 1000 else 0.0
    how = "few" if share < 0.1 else "some" if share < 0.5 else "most" if share < 1 else "all"
    moved = ""
    if not math.isnan(site.growth):
        half = site.entropy.samples // 2
        moved = f"; going from {half:,} to {site.entropy.samples:,} samples moved its plain count by {max(0.0, site.growth):.2f} bits"
    low = float(site.corrected) - float(site.entropy)
    plain_count = f"; a plain count reads {digits(float(site.entropy))}" if low > site.trust.tolerance else ""
    allowed = f", {rough(site.trust.c2 / site.independent)} of what its firing rates allow" if site.independent else ""
    return Sentence(
        f"{name(site)} uses {how} of its patterns: {site.states:,} of {possible(site.units)}, "
        f"{site.lead} of {site.units:,} bits{allowed}{plain_count}{moved}.",
        "samples" if moved else "states",
    )


def possible(units: int) -> str:
    """How many patterns so many units can make.

    >>> possible(20), possible(50)
    ('1,048,576', '2⁵⁰')
    """
    return f"{2**units:,}" if units <= 24 else f"2{str(units).translate(_SUPERSCRIPT)}"


def _ranking(facts: Facts) -> list[Sentence]:
    known = {site.name: site for site in facts.counted if not math.isnan(float(site.entropy)) and site.states > 1}
    order = ranking({key: site.efficiency for key, site in known.items()}).ranked
    if len(order) < 2:
        return []
    most, least = known[order[0]], known[order[-1]]
    return [
        Sentence(
            f"Of the {len(order)} layers that can be compared, {name(most)} uses the largest share of its room "
            f"({_share(most)}), {name(least)} the smallest ({_share(least)}).",
            "states",
        )
    ]


def _share(site: SiteFacts) -> str:
    """The efficiency in words; between its bounds where that is all that is known."""
    reading = site.efficiency
    if reading.bracketed:
        return f"{rough(reading.low)} to {rough(reading.high)}"
    return rough(float(reading))


def _not_measured(facts: Facts) -> list[Sentence]:
    thin = facts.undersampled
    if not thin:
        return []
    if len(thin) > SOME:
        new = [1 - site.entropy.coverage for site in thin]
        return [
            Sentence(
                f"{len(thin)} of {len(facts.sites)} layers were not measured: between {rough(min(new))} and {rough(max(new))} of further "
                "observations would be new states. The table has the bounds of their entropies. Do not compare layers whose bounds overlap.",
                "states",
            )
        ]
    said = [_thin_one(site) for site in thin]
    tail = [Sentence("Do not compare layers whose bounds overlap.", "states")] if len(thin) > 1 else []
    return [*said, *tail]


def _thin_one(site: SiteFacts) -> Sentence:
    what = "is an extrapolation" if site.verdict == EXTRAPOLATED else "was not measured"
    needed = needed_words(site.trust)
    more = f" Coverage of 90 % would take {needed}." if needed != "enough samples" else ""
    return Sentence(
        f"{name(site)} {what}: {rough(1 - site.entropy.coverage)} of further observations would be new states; its entropy is {site.lead} "
        f"of {site.units:,} bits, and the plain count, {digits(float(site.entropy))}, says mostly how many samples there were.{more}",
        "samples",
    )


def _training(facts: Facts) -> list[Sentence]:
    known = [
        (site, before, difference(site.corrected, before))
        for site in facts.measured
        if (before := facts.untrained.get(site.layer.site)) is not None
        and not math.isnan(float(before))
        and not before.undersampled
    ]
    if not known:
        return []
    moved = [(s, b, d) for s, b, d in known if abs(float(d)) >= MOVED and not d.low <= 0 <= d.high]
    if not moved:
        return [Sentence(f"Training moved no entropy that could be measured by {MOVED} bits or more.", "states")]
    moved.sort(key=lambda line: -abs(float(line[2])))
    said = [f"{name(site)} from {float(b):.3g} to {float(site.corrected):.3g} bits" for site, b, _ in moved[:3]]
    lead = "Training moved" if len(moved) <= 3 else f"Training moved {len(moved)} entropies, most of all"
    return [Sentence(f"{lead} {listed(said)}.", "states")]


def _constant_units(facts: Facts) -> list[Sentence]:
    sites = facts.counted
    if not sites:
        return []
    total = sum(site.units for site in sites)
    kinds = {
        "never fired": [(s, s.dead) for s in sites if s.dead],
        "always fired": [(s, s.always_on) for s in sites if s.always_on],
    }
    if not any(kinds.values()):
        return [
            Sentence(
                f"No unit is dead or always on: all {total:,} fired at times on these data, and at times did not.",
                "units",
            )
        ]
    said: list[Sentence] = []
    for what, where in kinds.items():
        count = sum(n for _, n in where)
        if not count:
            said.append(Sentence(f"No unit {what}.", "units"))
            continue
        where.sort(key=lambda pair: -pair[1])
        sites_said = listed([f"{name(site)} ({n:,})" for site, n in where], 3)
        said.append(Sentence(f"{count:,} of {total:,} units {what} on these data: {sites_said}.", "units"))
    return said


def _copies(facts: Facts) -> list[Sentence]:
    where = sorted(((site, site.copies) for site in facts.counted if site.copies), key=lambda pair: -pair[1])
    if not where:
        return []
    count = sum(n for _, n in where)
    return [
        Sentence(
            f"{count:,} unit{'s' if count > 1 else ''} only repeat{'' if count > 1 else 's'} another one of the same layer: "
            f"{listed([f'{name(site)} ({n:,})' for site, n in where], 3)}.",
            "table",
        )
    ]


# --- what to distrust ------------------------------------------------------------------------------------------------------------


def distrust(facts: Facts) -> list[Sentence]:
    """What a reader could be misled by.  Never empty: intervals have their limits, and so has their absence."""
    makers: list[Callable[[Facts], list[Sentence]]] = [
        _repeated, _thin, _problems, _not_finite, _moving, _dependent, _masked, _left_out, _guessed, _no_accuracy,
    ]  # fmt: skip
    said = [sentence for make in makers for sentence in make(facts)]
    return [*said, _limits(facts)]


def _limits(facts: Facts) -> Sentence:
    if any(site.corrected.jackknife is not None for site in facts.sites):
        return Sentence(
            "Intervals (95 %) say what other samples of the same kind would give, not what another training run would."
        )
    return Sentence(
        "No layer has an interval. Another set of samples, and another training run, would give other numbers."
    )


def _repeated(facts: Facts) -> list[Sentence]:
    for site in facts.counted:
        if why := repeats_in(site.trust.value):
            return [Sentence(f"The same samples may have come twice. At {name(site)}, {why}.", "table")]
    return []


def _thin(facts: Facts) -> list[Sentence]:
    thin = facts.undersampled
    if not thin:
        return []
    if len(thin) <= 6:
        which = listed([f"{name(site)} ({site.verdict}, coverage {rough(site.entropy.coverage)})" for site in thin], 6)
    else:
        worst = sorted(thin, key=lambda site: site.entropy.coverage)
        which = listed([f"{name(site)} ({rough(site.entropy.coverage)})" for site in worst], 3)
        which = f"{len(thin)} layers; least covered {which}"
    return [
        Sentence(
            f"Undersampled: {which}. {'The plain count tells' if len(thin) == 1 else 'Their plain counts tell'} how many samples there were, and "
            "hardly anything about the layer.",
            "states",
        )
    ]


def _problems(facts: Facts) -> list[Sentence]:
    lost = [site for site in facts.sites if site.problem]
    said = [Sentence(f"No number for {name(site)}: {plain(_without_name(site))}", "table") for site in lost[:SOME]]
    if len(lost) > SOME:
        said.append(Sentence(f"No number for {len(lost) - SOME} more sites: the notes in the table say why.", "table"))
    return said


def _without_name(site: SiteFacts) -> str:
    return site.problem.removeprefix(f"{site.name}: ")


def _not_finite(facts: Facts) -> list[Sentence]:
    bad = [
        (s, s.counts.nan, s.counts.inf)
        for s in facts.counted
        if s.counts is not None and (s.counts.nan or s.counts.inf)
    ]
    if not bad:
        return []
    said = listed([f"{name(site)} ({nan:,} NaN, {inf:,} infinite)" for site, nan, inf in bad])
    return [Sentence(f"Values that are not finite: {said}. NaN and -inf were counted as not firing.", "table")]


def _moving(facts: Facts) -> list[Sentence]:
    still = [site for site in facts.measured if site.growth >= FLAT]
    if not still:
        return []
    said = listed([f"{name(site)} (+{site.growth:.2g} bits)" for site in still])
    return [
        Sentence(
            f"Plain counts that still rise with the last doubling of the samples: {said}. The corrected entropy allows for it.",
            "samples",
        )
    ]


def _dependent(facts: Facts) -> list[Sentence]:
    several = [site for site in facts.counted if site.entropy.observations > site.entropy.samples]
    if not several:
        return []
    most = max(several, key=lambda site: site.entropy.observations)
    more = (
        f" The same holds for {len(several) - 1} more layer{'s' if len(several) > 2 else ''}."
        if len(several) > 1
        else ""
    )
    return [
        Sentence(
            f"Positions of one sample depend on each other: {name(most)} rests on {most.entropy.samples:,} samples, not on "
            f"{most.entropy.observations:,} independent observations.{more}",
            "table",
        )
    ]


def _masked(facts: Facts) -> list[Sentence]:
    rows = max((site.counts.masked for site in facts.counted if site.counts is not None), default=0)
    return [Sentence(f"Masked positions are left out: up to {rows:,} rows a layer (padding).", "table")] if rows else []


def _left_out(facts: Facts) -> list[Sentence]:
    layers = facts.results.layers
    out = len(layers) - len(layers.read)
    if not out:
        return []
    reasons = Counter(reason_kind(layer.left_out) for layer in layers if layer.left_out)
    (reason, count), *others = reasons.most_common()
    most = "all" if not others else f"{count}"
    return [Sentence(f"{out} of {len(layers)} sites were not read ({most}: {plain(reason)}).", "made")]


def reason_kind(reason: str) -> str:
    """A reason without the names in it, so that equal reasons can be counted.

    >>> reason_kind("same values as block.relu")
    'same values as another site'
    """
    if reason.startswith("same values as "):
        return "same values as another site"
    return "positions do not match the mask" if "do not match the mask" in reason else reason


def _guessed(facts: Facts) -> list[Sentence]:
    noted = [site for site in facts.sites if site.layer.note]
    said = [Sentence(f"{name(site)}: {plain(site.layer.note)}.", "table") for site in noted[:2]]
    return (
        said
        if len(noted) <= 2
        else [*said, Sentence(f"{len(noted) - 2} more layers have a note in the table.", "table")]
    )


def _no_accuracy(facts: Facts) -> list[Sentence]:
    if facts.results.accuracy is not None:
        return []
    return [Sentence(f"How well the model does its task is not known: {plain(facts.results.task.note)}.")]

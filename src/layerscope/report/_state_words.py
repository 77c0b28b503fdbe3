"""What the states of the layers say, in plain sentences; layers that are undersampled are never ranked."""

import math
from collections.abc import Callable

from .._reading import CONSTANT, EXTRAPOLATED
from ..measures import difference, needed_words, ranking
from ._names import listed, rough
from ._sentence import SOME, Sentence, name, names
from ._state_facts import SiteStates, States, digits

_SUPERSCRIPT = str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹")
MOVED = 0.05
"""Bits below which an entropy counts as not moved by training."""


def state_answer(states: States) -> Sentence:
    """How many layers these data can measure at all; of one site or more."""
    total, good, thin = len(states.sites), states.measured, states.undersampled
    samples = f"{states.samples:,} sample{'s' if states.samples != 1 else ''}"
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


def state_words(states: States) -> list[Sentence]:
    """What the numbers say, layer by layer and of all units."""
    makers: list[Callable[[States], list[Sentence]]] = [
        _measured, _ranking, _not_measured, _training, _constant_units, _copies,
    ]  # fmt: skip
    return [sentence for make in makers for sentence in make(states)]


def _measured(states: States) -> list[Sentence]:
    best = sorted(states.measured, key=lambda site: -site.states)
    rest = len(best) - SOME
    said = [_of_layer(site) for site in states.sites if site in best[:SOME]]
    if rest > 0:
        said.append(Sentence(f"{rest} more layer{'s' if rest > 1 else ''} could be measured: see the table.", "table"))
    return said


def _of_layer(site: SiteStates) -> Sentence:
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


def _ranking(states: States) -> list[Sentence]:
    known = {site.name: site for site in states.counted if not math.isnan(float(site.entropy)) and site.states > 1}
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


def _share(site: SiteStates) -> str:
    """The efficiency in words; between its bounds where that is all that is known."""
    reading = site.efficiency
    if reading.bracketed:
        return f"{rough(reading.low)} to {rough(reading.high)}"
    return rough(float(reading))


def _not_measured(states: States) -> list[Sentence]:
    thin = states.undersampled
    if not thin:
        return []
    if len(thin) > SOME:
        new = [1 - site.entropy.coverage for site in thin]
        return [
            Sentence(
                f"{len(thin)} of {len(states.sites)} layers were not measured: between {rough(min(new))} and {rough(max(new))} of further "
                "observations would be new states. The table has the bounds of their entropies. Do not compare layers whose bounds overlap.",
                "states",
            )
        ]
    said = [_thin_one(site) for site in thin]
    tail = [Sentence("Do not compare layers whose bounds overlap.", "states")] if len(thin) > 1 else []
    return [*said, *tail]


def _thin_one(site: SiteStates) -> Sentence:
    what = "is an extrapolation" if site.verdict == EXTRAPOLATED else "was not measured"
    needed = needed_words(site.trust)
    more = f" Coverage of 90 % would take {needed}." if needed != "enough samples" else ""
    return Sentence(
        f"{name(site)} {what}: {rough(1 - site.entropy.coverage)} of further observations would be new states; its entropy is {site.lead} "
        f"of {site.units:,} bits, and the plain count, {digits(float(site.entropy))}, says mostly how many samples there were.{more}",
        "samples",
    )


def _training(states: States) -> list[Sentence]:
    known = [
        (site, before, difference(site.corrected, before))
        for site in states.measured
        if (before := states.untrained.get(site.layer.site)) is not None
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


def _constant_units(states: States) -> list[Sentence]:
    sites = states.counted
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


def _copies(states: States) -> list[Sentence]:
    where = sorted(((site, site.copies) for site in states.counted if site.copies), key=lambda pair: -pair[1])
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

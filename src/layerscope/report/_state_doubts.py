"""What could mislead a reader of the numbers on states."""

from collections.abc import Callable

from ..measures import repeats_in
from ._names import listed, plain, rough
from ._sentence import SOME, Sentence, name
from ._state_facts import FLAT, SiteStates, States


def state_doubts(states: States) -> list[Sentence]:
    """What is undersampled, dependent, masked, not finite or missing."""
    makers: list[Callable[[States], list[Sentence]]] = [
        _repeated, _thin, _problems, _not_finite, _moving, _dependent, _masked,
    ]  # fmt: skip
    return [sentence for make in makers for sentence in make(states)]


def _repeated(states: States) -> list[Sentence]:
    for site in states.counted:
        if why := repeats_in(site.trust.value):
            return [Sentence(f"The same samples may have come twice. At {name(site)}, {why}.", "table")]
    return []


def _thin(states: States) -> list[Sentence]:
    thin = states.undersampled
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


def _problems(states: States) -> list[Sentence]:
    lost = [site for site in states.sites if site.problem]
    said = [Sentence(f"No number for {name(site)}: {plain(_without_name(site))}", "table") for site in lost[:SOME]]
    if len(lost) > SOME:
        said.append(Sentence(f"No number for {len(lost) - SOME} more sites: the notes in the table say why.", "table"))
    return said


def _without_name(site: SiteStates) -> str:
    return site.problem.removeprefix(f"{site.name}: ")


def _not_finite(states: States) -> list[Sentence]:
    bad = [
        (s, s.counts.nan, s.counts.inf)
        for s in states.counted
        if s.counts is not None and (s.counts.nan or s.counts.inf)
    ]
    if not bad:
        return []
    said = listed([f"{name(site)} ({nan:,} NaN, {inf:,} infinite)" for site, nan, inf in bad])
    return [Sentence(f"Values that are not finite: {said}. NaN and -inf were counted as not firing.", "table")]


def _moving(states: States) -> list[Sentence]:
    still = [site for site in states.measured if site.growth >= FLAT]
    if not still:
        return []
    said = listed([f"{name(site)} (+{site.growth:.2g} bits)" for site in still])
    return [
        Sentence(
            f"Plain counts that still rise with the last doubling of the samples: {said}. The corrected entropy allows for it.",
            "samples",
        )
    ]


def _dependent(states: States) -> list[Sentence]:
    several = [site for site in states.counted if site.entropy.observations > site.entropy.samples]
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


def _masked(states: States) -> list[Sentence]:
    rows = max((site.counts.masked for site in states.counted if site.counts is not None), default=0)
    return [Sentence(f"Masked positions are left out: up to {rows:,} rows a layer (padding).", "table")] if rows else []

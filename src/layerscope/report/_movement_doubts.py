"""What could mislead a reader of movement ratios."""

import math
from collections import Counter
from collections.abc import Callable

from ._convergence import halved, lines_of, sign
from ._movement_facts import Movement, SiteMovement, ratio_digits, said
from ._names import listed, plain, rough
from ._sentence import SOME, Sentence, name, names

FEW_SAMPLES, FEW_TRANSFORMATIONS = 100, 8
"""Below so many, a spread is uncertain by more than 7 %, and another set of transformations is another question."""


UNSETTLED = 0.1
"""A relative change of a ratio, when samples or transformations are halved, that is worth a word."""


def movement_doubts(movement: Movement) -> list[Sentence]:
    """What is few, undefined, told apart by the choice of mean, or below the floor; nothing where nothing moved."""
    makers: list[Callable[[Movement], list[Sentence]]] = [
        _few,
        _unsettled,
        _apart,
        _undefined,
        _dead_maps,
        _missing,
        _floor,
        _choice,
    ]
    return [sentence for make in makers for sentence in make(movement)] if movement.sites else []


def _few(movement: Movement) -> list[Sentence]:
    told: list[Sentence] = []
    n, count = movement.samples, movement.count
    if 1 < n < FEW_SAMPLES:
        scatter = rough(1 / math.sqrt(2 * (n - 1)))
        told.append(Sentence(f"Few samples: a spread over {n} of them is uncertain by about {scatter}.", "movement"))
    if 0 < count < FEW_TRANSFORMATIONS:
        told.append(
            Sentence(
                f"Few transformations: {count} stand for all there could be, and others would give other numbers.",
                "movement",
            )
        )
    return told


def _unsettled(movement: Movement) -> list[Sentence]:
    """What half of the samples, or of the transformations, would have said otherwise."""
    told: list[Sentence] = []
    lines = lines_of(movement)
    for what, which in (("samples", 0), ("transformations", 1)):
        found = [(site, halved(curve[which], what)) for site, curve in lines]
        found = [(site, change) for site, change in found if abs(change) > UNSETTLED]
        if found:
            site, change = max(found, key=lambda pair: abs(pair[1]))
            more = (
                f", and {len(found) - 1} more of {len(lines)} that were tried by more than {rough(UNSETTLED)}"
                if len(found) > 1
                else ""
            )
            told.append(
                Sentence(
                    f"Half of the {what} would have changed the ratio of {name(site)} by {sign(change)}{more}: twice as many may change it again.",
                    "convergence",
                )
            )
    return told


def _apart(movement: Movement) -> list[Sentence]:
    """Where the two ways of taking a mean disagree."""
    told: list[Sentence] = []
    plain_ones = [(s, float(s.ratio), s.other) for s in movement.sites if s.apart]
    taken_back = [(s, float(s.back), s.back_other) for s in movement.sites if s.back is not None and s.back_apart]
    for apart, when in ((plain_ones, ""), (taken_back, ", transformations taken back,")):
        if not apart:
            continue
        apart.sort(key=lambda one: -abs(math.log(one[1] / one[2])))
        shown = listed(
            [f"{name(site)} {ratio_digits(mine)} and {ratio_digits(other)}" for site, mine, other in apart], 3
        )
        told.append(
            Sentence(
                f"The {movement.measure.aggregate} and the {movement.other}{when} tell different stories: {shown}. Values that hardly move from "
                "sample to sample carry the mean of ratios, and its interval need not know of them.",
                "table" if not when else "movement",
            )
        )
    return told


def _undefined(movement: Movement) -> list[Sentence]:
    lost = [site for site in movement.sites if site.undefined]
    if not lost:
        return []
    worst = sorted(lost, key=lambda site: -site.undefined / site.cells)
    shown = [f"{name(s)} {s.undefined:,} of {s.cells:,} ({listed([*s.lost])})" for s in worst]
    policy = "left out" if movement.measure.undefined == "nan" else f"taken for {movement.measure.undefined}"
    return [
        Sentence(
            f"Values that do not move from sample to sample have no ratio and are {policy}: {listed(shown, 3)}.",
            "table",
        )
    ]


def _dead_maps(movement: Movement) -> list[Sentence]:
    dead = [(site, int(math.fsum(~(site.maps == site.maps)))) for site in movement.layers if site.known]
    dead = [(site, count) for site, count in dead if count]
    if not dead:
        return []
    total = sum(count for _, count in dead)
    dead.sort(key=lambda pair: -pair[1])
    shown = listed([f"{name(site)} ({count:,})" for site, count in dead], 3)
    return [
        Sentence(f"{total:,} feature map{'s have' if total > 1 else ' has'} no ratio at any place: {shown}.", "maps")
    ]


def _missing(movement: Movement) -> list[Sentence]:
    told: list[Sentence] = []
    blank: dict[str, list[SiteMovement]] = {}
    for site in movement.sites:
        if not site.known:
            blank.setdefault(plain(site.problem), []).append(site)
    for why, sites in [*blank.items()][:SOME]:
        told.append(Sentence(f"No ratio for {names(sites)}: {why.rstrip('.')}.", "table"))
    reasons = Counter(
        plain(s.back.note).rstrip(".") for s in movement.sites if s.back is not None and float(s.back) != float(s.back)
    )
    for why, count in reasons.most_common(2):
        layers = "1 layer" if count == 1 else f"{count} layers"
        told.append(Sentence(f"Same-equivariance skips {layers}: {why}.", "table"))
    return told


def _floor(movement: Movement) -> list[Sentence]:
    """Resampling moves values by itself: what the input shows, no layer can be told from."""
    floor = movement.input.back if movement.input is not None else None
    if floor is None or math.isnan(float(floor)):
        return []
    below = [s for s in movement.known if s.back is not None and s.back.low <= floor.high]
    which = f" {names(below)} cannot be told from it." if below else ""
    return [
        Sentence(
            f"Same-equivariance has a floor: resampling alone moves the input {said(floor)} times as far as between samples.{which}",
            "movement",
        )
    ]


def _choice(movement: Movement) -> list[Sentence]:
    """One layer can read .29, .27, .10 or .07 depending on these."""
    m = movement.measure
    spread = "standard deviations" if m.flavour == "std" else "variances"
    pooled = f", maps first reduced by their {m.pool}" if m.pool else ""
    within = ", within every class" if m.by_class else ""
    return [
        Sentence(
            f"Ratios compare mean {spread}{within}{pooled}; a layer's is the {m.aggregate} over its values. Another choice gives other numbers: "
            "compare only what was made alike.",
            "made",
        )
    ]

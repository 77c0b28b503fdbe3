"""The tables of the page: a row per site on its states, one on its movement, and a row per class."""

import math
from dataclasses import dataclass

import numpy as np

from .._reading import Reading
from ._label_facts import Labels
from ._label_facts import said as said_bits
from ._movement_facts import Movement, SiteMovement, ends_of, ranked, ratio_digits, said
from ._names import plain, rough, shorten
from ._state_facts import SiteStates, States, digits


@dataclass(frozen=True)
class StateRow:
    """One line of the table of states, ready to be printed."""

    name: str
    short: str
    kind: str
    units: str
    observations: str
    samples: str
    states: str
    coverage: str
    verdict: str
    plain: str
    entropy: str
    untrained: str
    efficiency: str
    rates: tuple[str, str, str]
    dead: str
    always_on: str
    copies: str
    redundant: str
    information: str
    by_chance: str
    note: str
    undersampled: bool


def state_row(states: States, labels: Labels, site: SiteStates) -> StateRow:
    known = not math.isnan(float(site.entropy))
    rates: tuple[str, str, str] = ("–", "–", "–")
    if site.rates.size:
        low, middle, high = np.quantile(site.rates, [0.05, 0.5, 0.95])
        rates = (f"{100 * low:.3g}", f"{100 * middle:.3g}", f"{100 * high:.3g}")
    counted = site.counts is not None
    told = next((each for each in labels.sites if each.layer.site == site.layer.site), None)

    def count(number: int) -> str:
        return f"{number:,}" if counted else "–"

    notes = [] if site.problem else [site.entropy.note]
    return StateRow(
        name=plain(site.name),
        short=shorten(site.name, 34),
        kind=plain(site.layer.kind),
        units=f"{site.units:,}",
        observations=count(site.counts.observations if site.counts else 0),
        samples=count(site.counts.samples if site.counts else 0),
        states=count(site.states),
        coverage=rough(site.entropy.coverage) if known else "–",
        verdict=site.verdict if known else "–",
        plain=f"{site.entropy.bound} {float(site.entropy):.4g}".strip() if known else "–",
        entropy=site.lead if known else "–",
        untrained=_bits(states.untrained.get(site.layer.site)),
        efficiency=_efficiency(site.efficiency) if known else "–",
        rates=rates,
        dead=count(site.dead),
        always_on=count(site.always_on),
        copies=count(site.copies),
        redundant=count(site.redundant),
        information=said_bits(told.information) if told else "–",
        by_chance=f"{told.plain:.3g}, {told.by_chance:.3g}" if told else "–",
        note=plain("; ".join(n for n in (site.problem, site.layer.note, *notes) if n)).replace("(no name)", ""),
        undersampled=site.undersampled,
    )


def _bits(reading: Reading | None) -> str:
    """The corrected entropy of a reference, or what it lies between."""
    if reading is None or math.isnan(float(reading)):
        return "–"
    if reading.bracketed:
        return f"{digits(reading.low)} to {digits(reading.high)}"
    return f"{'≈ ' if reading.undersampled else ''}{digits(float(reading))}"


def _efficiency(reading: Reading) -> str:
    """A share of the room, or what it lies between."""
    return f"{reading.low:.3f} to {reading.high:.3f}" if reading.bracketed else f"{float(reading):.3f}"


@dataclass(frozen=True)
class MovementRow:
    """One line of the table of movement, ready to be printed."""

    name: str
    short: str
    kind: str
    maps: str
    values: str
    ratio: str
    other: str
    over_t: str
    over_samples: str
    back: str
    least: str
    most: str
    lost: str
    references: tuple[str, ...]
    note: str
    thin: bool


def movement_row(movement: Movement, site: SiteMovement) -> MovementRow:
    known = site.maps[np.isfinite(site.maps)]
    readings = [found.get(site.layer.site, Reading(math.nan)) for found in movement.references.values()]
    ends = [f"{k}: {ratio_digits(float(site.maps[k]))}" for k in ends_of(site)] if known.size else ["–", "–"]
    note = "" if site.known else site.problem
    return MovementRow(
        name=plain(site.name),
        short=shorten(site.name, 34),
        kind=plain(site.layer.kind),
        maps=f"{site.units:,}",
        values=f"{site.cells:,}" if site.cells else "–",
        ratio=site.lead if site.known else "–",
        other=_number(site.other),
        over_t=f"{site.over_t:.3g}" if math.isfinite(site.over_t) else "–",
        over_samples=f"{site.over_samples:.3g}" if math.isfinite(site.over_samples) else "–",
        back="–" if site.back is None or math.isnan(float(site.back)) else said(site.back),
        least=ends[0],
        most=ends[1],
        lost=", ".join(f"{count:,} {why}" for why, count in site.lost.items()) or "0",
        references=tuple("–" if math.isnan(float(r)) else said(r) for r in readings),
        note=plain("; ".join(n for n in (note, "" if site.is_input else site.layer.note) if n)).replace(
            "(no name)", ""
        ),
        thin=not site.known,
    )


def _number(ratio: float) -> str:
    return "–" if math.isnan(ratio) else ratio_digits(ratio)


MAPS = 8
"""Feature maps at either end that are listed."""


def extremes(movement: Movement) -> tuple[list[tuple[str, str, str]], list[tuple[str, str, str]]]:
    """The most and the least invariant feature maps of all layers: site, number, ratio."""
    found = ranked(movement.layers)
    if len(found) < 2:
        return [], []
    lines = [(shorten(site.name, 34), str(k), ratio_digits(ratio)) for ratio, site, k in found]
    most = min(MAPS, len(lines) // 2)
    return lines[:most], lines[: -most - 1 : -1]


LAYERS, CLASSES = 8, 40
"""So many layers, the last ones, and so many classes stand in the table of classes."""


@dataclass(frozen=True)
class ClassTable:
    """A row per class: its samples, and for some layers its entropy at equal samples with the states that only it shows."""

    layers: list[str]
    rows: list[tuple[str, str, list[str]]]
    more: int


def class_table(labels: Labels) -> ClassTable:
    sites = labels.sites[-LAYERS:]
    lines = [{line.label: line for line in site.classes} for site in sites]
    rows: list[tuple[str, str, list[str]]] = []
    for label in labels.labels[:CLASSES]:
        found = [line.get(label) for line in lines]
        samples = max((line.samples for line in found if line is not None), default=0)
        cells = ["–" if line is None else f"{digits(line.at_equal_samples)} · {line.unique:,}" for line in found]
        rows.append((str(label), f"{samples:,}", cells))
    return ClassTable([shorten(site.name, 20) for site in sites], rows, max(0, len(labels.labels) - CLASSES))

"""The same facts for a terminal: the answer, a table, plain words, and what to distrust."""

import math
import textwrap
from collections.abc import Sequence

import numpy as np

from .._reading import percent
from .._results import Results
from ._facts import Facts
from ._movement_facts import SiteMovement, ends_of, ratio_digits
from ._names import plain, rough, shorten
from ._state_facts import SiteStates
from ._words import answer, distrust, plain_words

_HEAD = (
    "site", "type", "units", "observed", "states", "coverage", "plain", "entropy", "verdict", "fires 5/50/95 %", "dead", "on", "copies",
)  # fmt: skip
_MOVES = ("site", "type", "maps", "ratio", "most invariant", "least invariant", "undefined")
_TEXT = 2
"""Columns on the left that hold words."""


def text(results: Results, width: int = 100) -> str:
    """What was measured, to be read in a terminal.

    **Arguments:** `width` columns for the sentences; the table takes what it needs.
    **Gives:** the answer, a table with a row per site, the findings and what to distrust, without colours.
    """
    facts = Facts(results)
    parts = [_head(results, facts), _filled(str(answer(facts)), width, "")]
    if facts.movement.sites:
        parts.append(table(_MOVES, [_moves(site) for site in facts.movement.sites]))
    if facts.states.sites:
        parts.append(table(_HEAD, [_cells(site) for site in facts.states.sites]))
    parts.append("\n".join(["In plain words", *(_filled(str(said), width, "  - ") for said in plain_words(facts))]))
    parts.append("\n".join(["What to distrust", *(_filled(str(said), width, "  - ") for said in distrust(facts))]))
    return "\n\n".join(parts)


def _head(results: Results, facts: Facts) -> str:
    model, accuracy = plain(str(results.manifest.get("model", "a model"))), results.accuracy
    times = f" × {facts.movement.count} transformations" if results.task.columns else ""
    if accuracy is None:
        return f"{model}: {facts.samples:,} samples; accuracy unknown, {plain(results.task.note)}"
    if results.task.kind != "accuracy":
        return f"{model}: {facts.samples:,} samples{times}; {plain(results.task.kind)} {float(accuracy):.4g}"
    return f"{model}: {percent(float(accuracy))} of {accuracy.samples:,} samples{times} right"


def table(head: Sequence[str], cells: Sequence[Sequence[str]]) -> str:
    """A row per site, columns aligned."""
    rows = [head, *cells]
    widths = [max(len(row[k]) for row in rows) for k in range(len(head))]
    lines = [_line(row, widths) for row in rows]
    return "\n".join([lines[0], "-" * len(lines[0]), *lines[1:]])


def _line(row: Sequence[str], widths: Sequence[int]) -> str:
    cells = [cell.ljust(w) if k < _TEXT else cell.rjust(w) for k, (cell, w) in enumerate(zip(row, widths, strict=True))]
    return "  ".join(cells).rstrip()


def _moves(site: SiteMovement) -> tuple[str, ...]:
    head = (shorten(site.name, 30), shorten(plain(site.layer.kind), 16), f"{site.units:,}")
    known = site.maps[np.isfinite(site.maps)]
    ends = (
        [f"{number}: {ratio_digits(float(site.maps[number]))}" for number in ends_of(site)]
        if known.size
        else ["-", "-"]
    )
    lost = f"{site.undefined:,} of {site.cells:,}" if site.cells else "-"
    return (*head, site.lead if site.known else "-", *ends, lost)


def _cells(site: SiteStates) -> tuple[str, ...]:
    known = not math.isnan(float(site.entropy))
    head = (shorten(site.name, 30), shorten(plain(site.layer.kind), 16), f"{site.units:,}")
    if site.counts is None:
        return (*head, *("-" for _ in _HEAD[len(head) :]))
    rates = " / ".join(f"{100 * rate:.0f}" for rate in np.quantile(site.rates, [0.05, 0.5, 0.95]))
    entropy = (
        (f"{site.entropy.bound} {float(site.entropy):.2f}".strip(), site.lead, site.verdict)
        if known
        else ("-", "-", "-")
    )
    coverage = rough(site.entropy.coverage) if known else "-"
    single = (f"{site.dead:,}", f"{site.always_on:,}", f"{site.copies:,}")
    return (
        *head,
        f"{site.counts.observations:,}",
        f"{site.states:,}",
        coverage,
        *entropy,
        rates,
        *single,
    )


def _filled(said: str, width: int, lead: str) -> str:
    return textwrap.fill(said, width, initial_indent=lead, subsequent_indent=" " * len(lead), break_on_hyphens=False)

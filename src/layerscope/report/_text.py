"""The same facts for a terminal: the answer, a table, plain words, and what to distrust."""

import math
import textwrap
from collections.abc import Sequence

import numpy as np

from .._reading import percent
from .._results import Results
from ._facts import Facts, SiteFacts, facts_of
from ._names import plain, rough, shorten
from ._words import answer, distrust, plain_words

_HEAD = (
    "site",
    "type",
    "units",
    "observed",
    "states",
    "coverage",
    "plain",
    "entropy",
    "verdict",
    "fires 5/50/95 %",
    "dead",
    "on",
    "copies",
)
_TEXT = 2
"""Columns on the left that hold words."""


def text(results: Results, width: int = 100) -> str:
    """What was measured, to be read in a terminal.

    **Arguments:** `width` columns for the sentences; the table takes what it needs.
    **Gives:** the answer, a table with a row per site, the findings and what to distrust, without colours.
    """
    facts = facts_of(results)
    parts = [_head(results, facts), _filled(str(answer(facts)), width, "")]
    if facts.sites:
        parts.append(table(facts))
    parts.append("\n".join(["In plain words", *(_filled(str(said), width, "  - ") for said in plain_words(facts))]))
    parts.append("\n".join(["What to distrust", *(_filled(str(said), width, "  - ") for said in distrust(facts))]))
    return "\n\n".join(parts)


def _head(results: Results, facts: Facts) -> str:
    model, accuracy = plain(str(results.manifest.get("model", "a model"))), results.accuracy
    if accuracy is None:
        return f"{model}: {facts.samples:,} samples; accuracy unknown, {plain(results.task.note)}"
    if results.task.kind != "accuracy":
        return f"{model}: {facts.samples:,} samples; {plain(results.task.kind)} {float(accuracy):.4g}"
    return f"{model}: {percent(float(accuracy))} of {accuracy.samples:,} samples right"


def table(facts: Facts) -> str:
    """A row per site, columns aligned."""
    rows = [_HEAD, *(_cells(site) for site in facts.sites)]
    widths = [max(len(row[k]) for row in rows) for k in range(len(_HEAD))]
    lines = [_line(row, widths) for row in rows]
    return "\n".join([lines[0], "-" * len(lines[0]), *lines[1:]])


def _line(row: Sequence[str], widths: Sequence[int]) -> str:
    cells = [cell.ljust(w) if k < _TEXT else cell.rjust(w) for k, (cell, w) in enumerate(zip(row, widths, strict=True))]
    return "  ".join(cells).rstrip()


def _cells(site: SiteFacts) -> tuple[str, ...]:
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

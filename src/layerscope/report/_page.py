"""The report: one page with everything in it, readable without a network, a model or a framework."""

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any
from urllib.parse import quote

import numpy as np

from .._errors import LayerscopeError
from .._reading import Reading, percent
from .._results import Results, reading_or_why
from ..inventory import Layers
from ..measures import AlwaysOnUnits, DeadUnits, Efficiency, Entropy, EqualUnits, FiringRate
from ._facts import Facts, SiteFacts, facts_of
from ._look import IN_PAGE, NARROW, WIDE, Look, drawing, to_svg
from ._names import plain, rough, shorten
from ._plot import PICTURES
from ._words import answer, distrust, plain_words, reason_kind

MANY = 90
"""Sites beyond which a page carries no second, narrow drawing of each picture: it then scrolls on a phone, and stays small."""


@dataclass(frozen=True)
class Picture:
    """One picture of the page, drawn for a wide and (unless there are very many sites) for a narrow screen."""

    key: str
    number: int
    title: str
    caption: str
    wide: Any
    narrow: Any


CAPTIONS = {
    "states": (
        "What each layer's firing states carry",
        "A bar is a layer's room, one bit per unit; its dark part is what the units would carry if they fired independently of each other. "
        "The dot is the entropy, corrected for the states not seen, in its 95 % interval. A plain count cannot pass the orange tick, log₂ of "
        "the observations: a hollow dot near it tells how many samples there were; the entropy lies between the ends of its line.",
    ),
    "samples": (
        "Were there enough samples?",
        "The plain count that fewer of the same samples would have shown. A flat line can be believed; a line that still rises is low by what "
        "the bar at its end corrects; a line along its dotted ceiling is only a lower bound.",
    ),
    "units": (
        "Every unit at once",
        "Each row is a layer, its units sorted by how often they fire. Units that never fire are the dark edge on the left, units that "
        "always fire the bright edge on the right: both carry no information on these data.",
    ),
}


def page(results: Results, title: str | None = None) -> str:
    """The report as one self-contained HTML page: answer, what to distrust, pictures, table, how it was made.

    **Arguments:** `title` the headline; None takes the manifest's title, else the model's name.
    **Gives:** HTML text. It fetches nothing and runs no script; light, dark and print follow the reader's settings. No input of the
    model is in it. Every name that comes from a user is escaped.
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined

    facts = facts_of(results)
    environment = Environment(
        loader=PackageLoader("layerscope.report", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    pictures = _pictures(facts)
    return environment.get_template("page.html.jinja").render(
        title=plain(
            title or str(results.manifest.get("title") or f"{results.manifest.get('model', 'A model')}, layer by layer")
        ),
        data=plain(str(results.manifest["data_name"])) if results.manifest.get("data_name") else "",
        answer=answer(facts),
        words=plain_words(facts),
        distrust=distrust(facts),
        numbers={picture.key: picture.number for picture in pictures},
        pictures=pictures,
        figures=_header(facts),
        rows=(rows := [_row(site) for site in facts.sites]),
        any_note=any(row.note for row in rows),
        network=_network(results),
        more=_more(results),
        csv=_csv(results),
        made=_made(facts),
        left_out=_left_out(facts),
        command=_command(results),
        cite=results.cite().splitlines(),
        version=results.manifest.get("layerscope", ""),
    )


def _pictures(facts: Facts) -> list[Picture]:
    from markupsafe import Markup

    if not facts.sites:
        return []
    names = [site.name for site in facts.sites]
    drawn: list[Picture] = []
    for number, (key, draw) in enumerate(PICTURES.items(), 1):
        title, caption = CAPTIONS[key]
        svg: dict[str, Any] = {}
        for size, width in (("w", WIDE), ("n", NARROW)):
            if size == "n" and len(facts.sites) > MANY:
                continue
            with drawing():
                figure = draw(facts, Look(IN_PAGE, width))
                svg[size] = Markup(to_svg(figure, f"{key[0]}{number}{size}", f"{title}. {caption}", names))
        drawn.append(Picture(key, number, title, caption, svg["w"], svg.get("n")))
    return drawn


def _number(manifest: Mapping[str, Any], key: str, form: str = ",") -> str:
    """A number of the manifest in words; empty where there is none, or something else (the file may be anyone's)."""
    value = manifest.get(key)
    return format(value, form) if isinstance(value, int | float) and not isinstance(value, bool) else ""


def _header(facts: Facts) -> list[tuple[str, str, str]]:
    """The figures at the top: what, value, remark."""
    results, manifest = facts.results, facts.results.manifest
    found: list[tuple[str, str, str]] = []
    accuracy = results.accuracy
    if accuracy is not None:
        what = "accuracy" if results.task.kind == "accuracy" else plain(results.task.kind)
        value = percent(float(accuracy)) if what == "accuracy" else f"{float(accuracy):.4g}"
        found.append((what, value, f"on {accuracy.samples:,} samples"))
    else:
        found.append(("accuracy", "unknown", plain(results.task.note)))
    read, total = len(results.layers.read), len(results.layers)
    found.append(
        ("measurable layers", f"{len(facts.measured)} of {len(facts.sites)}", f"{read} of {total} sites were read")
    )
    found.append(("samples", f"{facts.samples:,}", "one pass over the data"))
    parameters = _number(manifest, "parameters")
    found.append(
        ("model", plain(str(manifest.get("model", "unknown"))), f"{parameters} parameters" if parameters else "")
    )
    how = [str(manifest[key]) for key in ("dtype", "device") if manifest.get(key)]
    how += [f"{manifest['mode']} mode"] if manifest.get("mode") in ("evaluation", "training") else []
    how += [f"{seconds} s"] if (seconds := _number(manifest, "seconds", ".1f")) else []
    framework = f"{manifest.get('framework', 'unknown')} {manifest.get('framework_version', '')}".strip()
    found.append(("run with", framework, ", ".join(how)))
    return found


@dataclass(frozen=True)
class Row:
    """One line of the table, ready to be printed."""

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
    efficiency: str
    rates: tuple[str, str, str]
    dead: str
    always_on: str
    copies: str
    note: str
    undersampled: bool


def _row(site: SiteFacts) -> Row:
    known = not math.isnan(float(site.entropy))
    rates: tuple[str, str, str] = ("–", "–", "–")
    if site.rates.size:
        low, middle, high = np.quantile(site.rates, [0.05, 0.5, 0.95])
        rates = (f"{100 * low:.3g}", f"{100 * middle:.3g}", f"{100 * high:.3g}")
    counted = site.counts is not None

    def count(number: int) -> str:
        return f"{number:,}" if counted else "–"

    notes = [] if site.problem else [site.entropy.note]
    return Row(
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
        efficiency=_efficiency(site.efficiency) if known else "–",
        rates=rates,
        dead=count(site.dead),
        always_on=count(site.always_on),
        copies=count(site.copies),
        note=plain("; ".join(n for n in (site.problem, site.layer.note, *notes) if n)).replace("(no name)", ""),
        undersampled=site.undersampled,
    )


def _efficiency(reading: Reading) -> str:
    """A share of the room, or what it lies between."""
    return f"{reading.low:.3f} to {reading.high:.3f}" if reading.bracketed else f"{float(reading):.3f}"


def _network(results: Results) -> list[tuple[str, str]]:
    """Numbers of the whole network, always with the sites they are taken over."""
    found: list[tuple[str, str]] = []
    if not len(results) or any(layer.site not in results.values_by_site for layer in results.layers.read):
        return found
    corrected = partial(results.network_efficiency, estimator="c2")
    for what, compute in (
        ("Network efficiency", corrected), ("The same as published, by plain counts,", results.network_efficiency), ("aIQ", results.aIQ),
    ):  # fmt: skip
        try:
            found.append((what, _said(compute())))
        except LayerscopeError:
            continue  # aIQ without an accuracy: the header says that there is none
    return found


def _said(reading: Reading) -> str:
    value = "no number" if math.isnan(float(reading)) else f"{reading.bound} {float(reading):.3f}".strip()
    value += f" [{reading.low:.3f}, {reading.high:.3f}]" if reading.jackknife is not None else ""
    return f"{value}: {reading.measured_in}; {plain(reading.note)}"


_SHOWN = {
    Entropy(),
    Efficiency(),
    Entropy(estimator="c2"),
    Efficiency(estimator="c2"),
    DeadUnits(),
    AlwaysOnUnits(),
    EqualUnits(),
    FiringRate(0.05),
    FiringRate(0.5),
    FiringRate(0.95),
}


def _more(results: Results) -> list[tuple[str, str, str]]:
    """Readings that were asked for and have no column of their own: site, measure, reading."""
    extra = [measure for measure in results.measures if measure not in _SHOWN]
    rows: list[tuple[str, str, str]] = []
    for layer in results.layers.read if extra else ():
        if layer.site not in results.values_by_site:
            continue
        for measure in extra:
            what = f"{measure.name} {measure.setting}".strip()
            rows.append((plain(str(layer.site)), what, plain(str(reading_or_why(results[layer.site], measure)))))
    return rows


def _csv(results: Results) -> str:
    """The tidy table as the rest of a data: link; sites that were never reached have no line."""
    reached = Layers(x for x in results.layers if x.left_out or x.site in results.values_by_site)
    table = Results(reached, results.values_by_site, results.measures, {}, results.task, results.references).table
    return quote(table.to_csv(index=False, float_format="%.6g"), safe=" ,.;:|()[]{}=/_-?!*@$")


def _made(facts: Facts) -> list[tuple[str, str]]:
    """How the numbers were made, as far as the manifest tells."""
    m = facts.results.manifest
    lines: list[tuple[str, str]] = [
        ("Model", f"{plain(str(m.get('model', 'unknown')))}{', compiled' if m.get('compiled') else ''}"),
        ("Framework", f"{m.get('framework', 'unknown')} {m.get('framework_version', '')}"),
        (
            "Numbers",
            f"{m.get('dtype', 'unknown')}{', autocast ' + str(m['amp']) if m.get('amp') else ''} on {m.get('device', 'unknown')}",
        ),
        ("Mode", str(m.get("mode", "unknown"))),
        ("Data", "; ".join(plain(str(note)) for note in (m.get("data_name"), *_notes(m)) if note) or "unknown"),
        ("Samples", f"{facts.samples:,}" + (f" in batches of {size}" if (size := _number(m, "batch_size")) else "")),
    ]
    if m.get("shard"):
        lines.append(("Shard", " of ".join(map(str, m["shard"])) + ", counted from 0"))
    if _number(m, "merged"):
        lines.append(("Merged", f"{_number(m, 'merged')} results"))
    if _number(m, "seconds"):
        lines.append(("Time", f"{_number(m, 'seconds', '.1f')} seconds"))
    if facts.results.references:
        lines.append(("References", ", ".join(plain(name) for name in facts.results.references)))
    rules = Counter(f"{s.counts.threshold:.4g}" for s in facts.counted if s.counts is not None)
    if rules:
        lines.append(
            ("A unit fires above", "; ".join(f"{rule} ({count} sites)" for rule, count in rules.most_common()))
        )
    lines.append(("layerscope", str(m.get("layerscope", "unknown version"))))
    return lines


def _notes(manifest: Mapping[str, Any]) -> list[Any]:
    notes = manifest.get("data", [])
    return [*notes] if isinstance(notes, list) else [notes]


def _left_out(facts: Facts) -> list[tuple[str, list[str]]]:
    """Sites that were not read, by reason."""
    found: dict[str, list[str]] = {}
    for layer in facts.results.layers:
        if layer.left_out:
            found.setdefault(plain(reason_kind(layer.left_out)), []).append(
                f"{plain(str(layer.site))} ({plain(layer.kind)})"
            )
    return sorted(found.items(), key=lambda pair: -len(pair[1]))


def _command(results: Results) -> str:
    """What repeats it: the manifest's own words, or the call as far as the manifest tells."""
    m = results.manifest
    if m.get("command"):
        return str(m["command"])
    arguments = ["model", "data", *(f"{name}={value}" for name, value in m.get("asked", {}).items())]
    return f"layerscope.examine({', '.join(arguments)})"

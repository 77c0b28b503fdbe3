"""How the numbers were made, as far as the manifest tells: the figures at the top of the page, and its end."""

from collections import Counter
from collections.abc import Mapping
from typing import Any

from .._reading import percent
from .._results import Results
from ._facts import Facts
from ._movement_facts import names_in, ratio_digits
from ._names import plain, shorten
from ._words import reason_kind


def _number(manifest: Mapping[str, Any], key: str, form: str = ",") -> str:
    """A number of the manifest in words; empty where there is none, or something else (the file may be anyone's)."""
    value = manifest.get(key)
    return format(value, form) if isinstance(value, int | float) and not isinstance(value, bool) else ""


def header(facts: Facts) -> list[tuple[str, str, str]]:
    """The figures at the top: what, value, remark."""
    results, manifest = facts.results, facts.results.manifest
    found: list[tuple[str, str, str]] = []
    accuracy = results.accuracy
    if accuracy is not None:
        what = "accuracy" if results.task.kind == "accuracy" else plain(results.task.kind)
        value = percent(float(accuracy)) if what == "accuracy" else f"{float(accuracy):.4g}"
        times = f" × {facts.movement.count} transformations" if results.task.columns else ""
        found.append((what, value, f"on {accuracy.samples:,} samples{times}"))
    else:
        found.append(("accuracy", "unknown", plain(results.task.note)))
    read, total = len(results.layers.read), len(results.layers)
    if (last := facts.movement.last) is not None:
        found.append(
            ("movement ratio", ratio_digits(float(last.ratio)), f"of the last layer, {shorten(last.name, 24)}")
        )
    states = facts.states
    if states.sites:
        of = f"{len(states.measured)} of {len(states.sites)}"
        found.append(("measurable layers", of, f"{read} of {total} sites were read"))
    elif not facts.movement.sites:
        found.append(("sites", f"{read:,}", f"of {total} were read"))
    if facts.movement.count:
        names = facts.movement.transformations
        found.append(("transformations", f"{facts.movement.count}", shorten(f"{names[0]} … {names[-1]}", 40)))
    passes = f"{facts.movement.rows:,} forwards" if facts.movement.rows else "one pass over the data"
    found.append(("samples", f"{facts.samples:,}", passes))
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


def made(facts: Facts) -> list[tuple[str, str]]:
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
    if facts.movement.count:
        lines.append(("Transformations", ", ".join(facts.movement.transformations)))
    rules = Counter(f"{s.counts.threshold:.4g}" for s in facts.states.counted if s.counts is not None)
    if rules:
        lines.append(
            ("A unit fires above", "; ".join(f"{rule} ({count} sites)" for rule, count in rules.most_common()))
        )
    lines.append(("layerscope", str(m.get("layerscope", "unknown version"))))
    return lines


def _notes(manifest: Mapping[str, Any]) -> list[Any]:
    notes = manifest.get("data", [])
    return [*notes] if isinstance(notes, list) else [notes]


def left_out(facts: Facts) -> list[tuple[str, list[str]]]:
    """Sites that were not read, by reason."""
    found: dict[str, list[str]] = {}
    for layer in facts.results.layers:
        if layer.left_out:
            found.setdefault(plain(reason_kind(layer.left_out)), []).append(
                f"{plain(str(layer.site))} ({plain(layer.kind)})"
            )
    return sorted(found.items(), key=lambda pair: -len(pair[1]))


def command(results: Results) -> str:
    """What repeats it: the manifest's own words, or the call as far as the manifest tells."""
    m = results.manifest
    if m.get("command"):
        return str(m["command"])
    names = names_in(m)
    asked = m.get("asked", {})
    arguments = ["model", "data", *(f"{name}={_argument(name, str(value), names)}" for name, value in asked.items())]
    return f"layerscope.examine({', '.join(arguments)})"


def _argument(name: str, value: str, names: list[str]) -> str:
    """An argument as it was given; transformations, whose recipes fill a page, by their names."""
    if name == "transformations" and names:
        return f"<{len(names)}: {', '.join(shorten(n, 24) for n in names[:3])}{', …' if len(names) > 3 else ''}>"
    return value

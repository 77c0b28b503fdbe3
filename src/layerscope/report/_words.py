"""What a page says first, in plain sentences: the answer, what was found, and what to distrust."""

from collections import Counter

from ._facts import Facts
from ._label_words import label_doubts, label_words
from ._movement_doubts import movement_doubts
from ._movement_words import movement_answer, movement_words
from ._names import plain
from ._sentence import Sentence, name
from ._state_doubts import state_doubts
from ._state_words import state_answer, state_words


def answer(facts: Facts) -> Sentence:
    """The first thing a reader sees."""
    read = len(facts.results.layers.read)
    if not read:
        return Sentence("No layer was read, so nothing was measured.", "made")
    parts: list[Sentence] = []
    if facts.movement.sites:
        parts.append(movement_answer(facts.movement))
    if facts.states.sites:
        parts.append(state_answer(facts.states))
    if not parts:
        samples = f"{facts.samples:,} sample{'s' if facts.samples != 1 else ''}"
        layers = sum(layer.kind != "input" for layer in facts.results.layers.read)
        which = "One layer was" if layers == 1 else f"{layers} layers were"
        return Sentence(f"{which} read with {samples}; what was measured is in the table.", "table")
    return Sentence(" ".join(part.text for part in parts), parts[0].picture)


def plain_words(facts: Facts) -> list[Sentence]:
    """What the numbers say."""
    said = movement_words(facts.movement) + state_words(facts.states) + label_words(facts.labels)
    if said:
        return said
    if facts.states.sites or facts.movement.sites:
        return [Sentence("Nothing can be said about these layers: see what to distrust.")]
    return [Sentence("No measure that was asked for has words of its own: the table has every reading.", "table")]


def distrust(facts: Facts) -> list[Sentence]:
    """What a reader could be misled by.  Never empty: intervals have their limits, and so has their absence."""
    said = movement_doubts(facts.movement) + state_doubts(facts.states) + label_doubts(facts.labels)
    return [*said, *_left_out(facts), *_guessed(facts), *_no_accuracy(facts), _limits(facts)]


def _left_out(facts: Facts) -> list[Sentence]:
    layers = facts.results.layers
    out = sum(bool(layer.left_out) for layer in layers)
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
    noted = [layer for layer in facts.results.layers.read if layer.note and layer.kind != "input"]
    said = [Sentence(f"{name(str(layer.site))}: {plain(layer.note)}.", "table") for layer in noted[:2]]
    return (
        said
        if len(noted) <= 2
        else [*said, Sentence(f"{len(noted) - 2} more layers have a note in the table.", "table")]
    )


def _no_accuracy(facts: Facts) -> list[Sentence]:
    if facts.results.accuracy is not None:
        return []
    return [Sentence(f"How well the model does its task is not known: {plain(facts.results.task.note)}.")]


def _limits(facts: Facts) -> Sentence:
    states, moved = facts.states.sites, facts.movement.sites
    found = [site.corrected for site in states if site.corrected.jackknife is not None] + [site.ratio for site in moved]
    if not states and not moved:
        results = facts.results
        found = [reading for measure in results.measures for reading in results.readings(measure).values()]
    if any(reading.low < reading.high for reading in found):
        others = "other transformations or another training run" if facts.movement.sites else "another training run"
        return Sentence(
            f"Intervals (95 %) say what other samples of the same kind would give, not what {others} would."
        )
    return Sentence(
        "No layer has an interval. Another set of samples, and another training run, would give other numbers."
    )

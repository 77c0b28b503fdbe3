"""How far the layers move with the transformations, in plain sentences."""

from collections.abc import Callable
from itertools import pairwise

from .._reading import Reading
from ._movement_facts import Movement, SiteMovement, ranked, ratio_digits, said
from ._names import listed, plain, rough
from ._sentence import Sentence, name, where

DOING = {
    "rotate": "Rotating", "shift": "Shifting", "scale": "Scaling", "shear": "Shearing", "flip": "Flipping", "roll": "Rolling",
    "brightness": "Brightening", "quarter": "Turning",
}  # fmt: skip


def doing(movement: Movement) -> str:
    """What the transformations do, as the beginning of a sentence: "Rotating the input"."""
    kept = [name for k, name in enumerate(movement.transformations) if k != movement.untransformed]
    first = {name.lstrip("0123456789 ").partition(" ")[0] for name in kept}
    one = first.pop() if len(first) == 1 and not any(", " in name and "(" not in name for name in kept) else ""
    return f"{DOING.get(one, 'Transforming')} the input"


def movement_answer(movement: Movement) -> Sentence:
    """How far the last layer moves, and what becomes of the task; of one site or more."""
    last = movement.last
    if last is None:
        return Sentence(f"None of the {len(movement.layers)} layers has a movement ratio.", "distrust")
    if last.ratio.low < last.ratio.high:
        more = "further than" if last.ratio.low > 1 else "less than" if last.ratio.high < 1 else "about as far as"
    else:
        more = (
            "further than"
            if float(last.ratio) > 1.05
            else "less than"
            if float(last.ratio) < 0.95
            else "about as far as"
        )
    which = "the only layer that was read" if len(movement.layers) == 1 else "the last layer that was read"
    moves = f"{doing(movement)} moves {name(last)}, {which}, {more} swapping the sample does: {last.lead} times as far."
    right = _task(movement)
    return Sentence(f"{moves} {right}".strip(), "movement")


def _task(movement: Movement) -> str:
    """ "Untransformed, 97 % of samples are right; over all 16 transformations, 29 %." """
    accuracy, k = movement.results.accuracy, movement.untransformed
    if accuracy is None or movement.results.task.kind != "accuracy" or not movement.results.task.columns:
        return ""
    whole = f"over all {movement.count} transformations, {rough(float(accuracy))}"
    if k is None:
        return f"{whole[0].upper()}{whole[1:]} of samples are right."
    upright = rough(float(movement.results.task.by_transformation[k]))
    return f"Untransformed, {upright} of samples are right; {whole}."


def movement_words(movement: Movement) -> list[Sentence]:
    """What the ratios say; nothing where there are none."""
    if not movement.known:
        return []
    makers: list[Callable[[Movement], list[Sentence]]] = [_last, _where, _task_by, _maps, _back]
    return [sentence for make in makers for sentence in make(movement)]


def _last(movement: Movement) -> list[Sentence]:
    last = movement.last
    assert last is not None  # there is a known one
    sentence = (
        f"{doing(movement)} moves {name(last)} {last.lead} times as far as swapping the sample "
        f"({movement.samples:,} samples, {movement.count} transformations)"
    )
    others = [f"{where(who)} {said(r)}" for who, r in _others(movement, last)]
    return [Sentence(f"{sentence}{f'; {listed(others, 4)}' if others else ''}.", "movement")]


def _others(movement: Movement, site: SiteMovement) -> list[tuple[str, Reading]]:
    """The same site in the reference networks, where it has a ratio there."""
    found = [(who, readings.get(site.layer.site)) for who, readings in movement.references.items()]
    return [(who, r) for who, r in found if r is not None and float(r) == float(r)]


def _where(movement: Movement) -> list[Sentence]:
    told: list[Sentence] = []
    given, layers = movement.input, [site for site in movement.known if not site.apart]
    if given is not None:
        told.append(
            Sentence(f"The input itself moves {given.lead} times as far: what the layers start from.", "movement")
        )
    if len(layers) < 3:
        return told
    falls = [(a, b) for a, b in pairwise(layers) if _below(b.ratio, a.ratio)]
    a = b = None
    if falls:
        a, b = max(falls, key=lambda pair: float(pair[0].ratio) - float(pair[1].ratio))
        told.append(
            Sentence(
                f"The ratio falls most from {name(a)} ({ratio_digits(float(a.ratio))}) to {name(b)} ({ratio_digits(float(b.ratio))}).",
                "movement",
            )
        )
    low, high = min(layers, key=lambda s: float(s.ratio)), max(layers, key=lambda s: float(s.ratio))
    if not _below(low.ratio, high.ratio):
        told.append(Sentence("No layer moves less than another beyond what other samples could change.", "movement"))
    elif low is not b or high is not a:
        told.append(
            Sentence(
                f"{name(low)} moves least of all layers ({ratio_digits(float(low.ratio))}), {name(high)} most ({ratio_digits(float(high.ratio))}).",
                "movement",
            )
        )
    return told


def _below(one: Reading, other: Reading) -> bool:
    """Whether one is smaller than the other beyond their intervals."""
    return one.high < other.low if one.low < one.high and other.low < other.high else float(one) < float(other)


def _task_by(movement: Movement) -> list[Sentence]:
    task = movement.results.task
    if not task.columns or not task.samples:
        return []
    each = [float(r) for r in task.by_transformation]
    worst = min(range(len(each)), key=each.__getitem__)
    k = movement.untransformed
    if task.kind != "accuracy":
        upright = f"{each[k]:.3g} untransformed, " if k is not None else ""
        return [
            Sentence(
                f"{plain(task.kind)}: {upright}lowest, {each[worst]:.3g}, under {movement.transformations[worst]}.",
                "accuracy",
            )
        ]
    upright = (
        f"Untransformed, {rough(each[k])} of samples are right; fewest" if k is not None else "Fewest samples are right"
    )
    others = [
        f"{where(who)} {rough(float(accuracy))}"
        for who, other in movement.networks.items()
        if (accuracy := other.accuracy) is not None and other.task.kind == "accuracy"
    ]
    whole = f" Over all, {rough(float(movement.results.accuracy or 0.0))}{f'; {listed(others)}' if others else ''}."
    return [
        Sentence(f"{upright}, {rough(each[worst])}, under {plain(movement.transformations[worst])}.{whole}", "accuracy")
    ]


def _maps(movement: Movement) -> list[Sentence]:
    found = ranked(movement.layers)
    if len(found) < 2:
        return []
    (low, where, k), (high, there, j) = found[0], found[-1]
    return [
        Sentence(
            f"The most invariant of {len(found):,} feature maps is map {k} of {name(where)} ({ratio_digits(low)}), the least map {j} of "
            f"{name(there)} ({ratio_digits(high)}).",
            "maps",
        )
    ]


def _back(movement: Movement) -> list[Sentence]:
    known = [(s, s.back) for s in movement.known if s.back is not None and float(s.back) == float(s.back)]
    if not known:
        return []
    least = min(known, key=lambda pair: float(pair[1]))
    floor = movement.input.back if movement.input is not None else None
    beside = f"; the input, which only resampling moves then, {said(floor)}" if floor is not None else ""
    return [
        Sentence(
            f"With the transformations taken back in the layers, {name(least[0])} comes closest to moving as its input did: "
            f"{said(least[1])} times as far as between samples{beside}.",
            "movement",
        )
    ]

"""Which of two numbers is larger, as far as the samples tell: paired differences and rankings."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

from .._reading import EXTRAPOLATED, SATURATED, UNPROVEN, Reading
from ._efficiency import names
from ._intervals import interval, paired


def difference(left: Reading, right: Reading) -> Reading:
    """`left` less `right`, of two layers or two models on the same samples, with its paired 95 % interval.

    Leaving out a sample moves both, and the part they have in common cancels: the interval is narrower than those of the two suggest.
    Without an interval of their own (any verdict but measured and corrected) the brackets are subtracted: [L − U, U − L].
    **Raises:** `ValueError` where they are measured in different units, or saw different samples.
    """
    if left.measured_in != right.measured_in:
        raise ValueError(
            f"difference: left is measured in {left.measured_in!r}, right in {right.measured_in!r}. Take the same measure of both."
        )
    value = float(left) - float(right)
    worse = max(left.verdict, right.verdict, key=lambda v: UNPROVEN.index(v) if v in UNPROVEN else -1)
    whole = replace(left, value=value, ceiling=math.nan, bound="", note="", verdict=worse, jackknife=None, parts=())
    if left.jackknife is None or right.jackknife is None:
        return replace(whole, low=left.low - right.high, high=left.high - right.low)
    together = paired((left.jackknife, right.jackknife))
    if together is None:
        raise ValueError(
            f"difference: left saw {left.jackknife.samples:,} samples, right {right.jackknife.samples:,}, or other ones. "
            "Measure both on the same data, with the same ids."
        )
    (a, b), shared = together
    one, two = left.jackknife, right.jackknife
    below, above = math.hypot(one.below, two.above), math.hypot(one.above, two.below)
    jackknife = replace(shared, values=a - b, below=below, above=above)
    low, high = interval(value, jackknife)
    return replace(whole, low=low, high=high, jackknife=jackknife)


@dataclass(frozen=True)
class Ranking:
    """Names from the highest reading to the lowest, and why others have no place.

    **Fields:** `ranked` names; `unranked` a reason by name.
    """

    ranked: tuple[str, ...]
    unranked: Mapping[str, str]

    def __str__(self) -> str:
        left = [f"{name} has no place: {why}" for name, why in self.unranked.items()]
        return "; ".join(filter(None, (" > ".join(self.ranked), *left))) or "nothing to rank"


def ranking(readings: Mapping[str, Reading]) -> Ranking:
    """Rank corrected readings: by value where they are at least extrapolated, else by brackets that do not overlap, else not at all.

    Two saturated readings are never ranked, whatever their brackets.
    """
    known = {name: reading for name, reading in readings.items() if not math.isnan(float(reading))}
    unranked = {name: reading.note or "no number" for name, reading in readings.items() if name not in known}
    for name, reading in known.items():
        if reading.verdict == EXTRAPOLATED or not reading.undersampled:
            continue
        rivals = [other for other, its in known.items() if other != name and not _told_apart(reading, its)]
        if rivals:
            within = f"between {reading.low:.3g} and {reading.high:.3g}" if reading.bracketed else "without bounds"
            unranked[name] = f"{reading.verdict or 'undersampled'}, {within}, as {names(rivals, 3)} may be"
    placed = [name for name in known if name not in unranked]
    return Ranking(tuple(sorted(placed, key=lambda name: -float(known[name]))), unranked)


def _told_apart(one: Reading, two: Reading) -> bool:
    """Whether two sets of bounds do not overlap; those of two saturated readings are not asked."""
    return not one.verdict == two.verdict == SATURATED and (one.high < two.low or two.high < one.low)

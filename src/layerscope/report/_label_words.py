"""What the states tell about the labels, in plain sentences, and what to doubt of it."""

from ._label_facts import Labels, said
from ._names import listed
from ._sentence import Sentence, name, where


def label_words(labels: Labels) -> list[Sentence]:
    """Where most is told, and where least; nothing where no state was counted by label."""
    sure = [site for site in labels.known if not site.information.undersampled]
    if not sure:
        return []
    best = max(sure, key=lambda site: float(site.information))
    others = [
        f"{said(found)} {where(who)}"
        for who, readings in labels.references.items()
        if (found := readings.get(best.layer.site)) is not None and float(found) == float(found)
    ]
    beside = f" ({listed(others, 3)})" if others else ""
    which = "Of the layers where it can be told, " if len(sure) > 1 else ""
    told = [
        Sentence(
            f"{which}{name(best)}'s state gives away {'most' if len(sure) > 1 else 'some'} of the class: {best.lead}{beside}; its plain count is "
            f"{best.plain:.3g}, of which {best.by_chance:.2g} would appear with any labels.",
            "labels",
        )
    ]
    least = min(sure, key=lambda site: float(site.information))
    if least.information.high < best.information.low:
        told.append(Sentence(f"{name(least)}'s gives away least of these, {said(least.information)} bits.", "labels"))
    return told


def label_doubts(labels: Labels) -> list[Sentence]:
    """Where information is undefined or extrapolated."""
    told: list[Sentence] = []
    blank = [site for site in labels.sites if not site.known]
    if blank:
        shown = listed([f"{name(site)} ({site.plain:.3g} bits)" for site in blank], 3)
        told.append(
            Sentence(
                f"What the state tells about the label is undefined where nearly every sample shows states of its own: {shown}. The plain count, "
                "in brackets, would be about that large with any labels.",
                "labels",
            )
        )
    loose = [site for site in labels.known if site.information.undersampled]
    if loose:
        shown = listed([f"{name(site)} ({said(site.information)} bits)" for site in loose], 3)
        told.append(Sentence(f"Information about the label is extrapolated, without an interval: {shown}.", "labels"))
    return told

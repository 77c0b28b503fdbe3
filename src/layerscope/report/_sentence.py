"""One finding in words: with its number, and the picture that shows it."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ._names import listed, shorten
from ._rows import Named

# Private characters inside a sentence: around names, and where a long name may break.  They are taken out of the names themselves.
_OPEN, _CLOSE, _BREAK = "\ue000", "\ue001", "\ue002"
_PRIVATE = str.maketrans("", "", _OPEN + _CLOSE + _BREAK)
SOME = 4
"""Sentences about single layers, at most; the table has them all."""


@dataclass(frozen=True)
class Sentence:
    """One finding; `picture` is the key of a picture, "table", "made" or empty.  `str()` is plain text."""

    text: str
    picture: str = ""

    def __str__(self) -> str:
        return self.text.translate(_PRIVATE)

    def html(self) -> Any:
        """Escaped, with names set apart."""
        from markupsafe import Markup, escape

        text = re.sub(r"(?<=\d) %", "\u00a0%", re.sub("([≥+]) (?=\\d)", "\\1\u00a0", self.text))
        return Markup(str(escape(text)).replace(_OPEN, "<b>").replace(_CLOSE, "</b>").replace(_BREAK, "<wbr>"))


def name(site: Named | str) -> str:
    text = shorten(site if isinstance(site, str) else site.name, 48)
    text = text if any(letter.isalpha() for letter in text) else f"layer {text}"
    return _OPEN + re.sub(r"(?<=[./])(?=\w{3})", _BREAK, text.translate(_PRIVATE)) + _CLOSE


def names(sites: Sequence[Named], most: int = 4) -> str:
    return listed([name(site) for site in sites], most)


def where(network: str) -> str:
    """In which reference a number was found: "in the untrained network", "with shuffled labels", or "in" its name."""
    known = {"untrained": "in the untrained network", "shuffled labels": "with shuffled labels"}
    return known.get(network) or f"in {name(network)}"

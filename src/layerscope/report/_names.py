"""Names that came from a user, made fit for a picture: short, on one line, without control characters; and the blocks they form."""

import re
from collections.abc import Sequence
from itertools import pairwise

from .._reading import percent

ELLIPSIS = "…"
_NUMBERED = re.compile(r"^(.*?(?:^|[._])\d+)(?:[._#:\[(@]|$)")


def plain(name: str) -> str:
    """One line without control or invisible direction characters; everything else as it is."""
    return "".join(letter if letter.isprintable() else " " for letter in name).strip() or "(no name)"


def shorten(name: str, most: int) -> str:
    """At most so many characters: the middle goes, because beginnings tell the block and ends the layer.

    >>> shorten("encoder.layer.0.attention.output.dense", 20)
    'encoder…output.dense'
    """
    name = plain(name)
    if len(name) <= most:
        return name
    left = (most - 1) * 2 // 5
    return name[:left] + ELLIPSIS + name[len(name) - (most - 1 - left) :]


def blocks(names: Sequence[str]) -> list[str]:
    """The block each name belongs to: its path up to the first number, else its first part; all empty where that groups nothing.

    >>> blocks(["embed.norm", "embed.drop", "layer.0.fc", "layer.0.act", "layer.1.fc", "layer.1.act"])
    ['embed', 'embed', 'layer.0', 'layer.0', 'layer.1', 'layer.1']
    >>> blocks(["conv_1", "conv_2", "fc"])
    ['', '', '']
    """
    found = [_block(name) for name in names]
    groups = 1 + sum(a != b for a, b in pairwise(found))
    return found if groups <= len(names) / 2 else [""] * len(names)


def short_blocks(found: Sequence[str]) -> list[str]:
    """The ends of block names, as long as they still tell the blocks apart.

    >>> short_blocks(["embed", "encoder.layer.0", "encoder.layer.1"])
    ['embed', 'layer.0', 'layer.1']
    """
    ends = [".".join(block.split(".")[-2:]) for block in found]
    return ends if len(set(ends)) == len(set(found)) else [*found]


def _block(name: str) -> str:
    path = plain(name)
    numbered = _NUMBERED.match(path)
    return numbered[1] if numbered else path.partition(".")[0]


def rough(share: float) -> str:
    """A share in whole percent, and never rounded to certainty.

    >>> rough(0.881), rough(0.9996), rough(1.0)
    ('88 %', '> 99.9 %', '100 %')
    """
    return f"{100 * share:.0f} %" if 0.01 <= share < 0.995 else percent(share)


def listed(names: Sequence[str], most: int = 4) -> str:
    """Names in a sentence: "a, b and c", "a, b and 5 more".

    >>> listed(["a", "b", "c"]), listed(list("abcdefg"), 2)
    ('a, b and c', 'a, b and 5 more')
    """
    if len(names) > most + 1:
        return f"{', '.join(names[:most])} and {len(names) - most} more"
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}" if names else ""

"""What a picture of the report is: a name, words, and how it is drawn from the facts."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ._facts import Facts
from ._look import Look

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Picture:
    """One kind of picture.

    **Fields:** `key` what `plot` and links call it; `title` and `caption` of the page; `shows` whether these results have what it draws;
    `draw` the figure; `names` the full names behind the texts whose gid is "site-0", "site-1" … of its rows.
    """

    key: str
    title: str
    caption: str
    shows: Callable[[Facts], bool]
    draw: "Callable[[Facts, Look], Figure]"
    names: Callable[[Facts], list[str]] = lambda facts: []

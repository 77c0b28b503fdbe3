"""Sites as rows of a picture: with a line of words above each where there are few, grouped by block where there are many."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from ..inventory import Layer
from ._look import Look, fitted, inches
from ._names import blocks, short_blocks, shorten

FEW = 12
"""Up to so many sites each has its own words."""
RIGHT = 0.2
"""Inches left free on the right of the axes."""


class Named(Protocol):
    """A site as a row needs to know it."""

    @property
    def name(self) -> str: ...
    @property
    def layer(self) -> Layer: ...
    @property
    def units(self) -> int: ...


@dataclass(frozen=True)
class Rows:
    """Where each site's row lies, in inches from the top of the axes: row k has its bar from `top(k)` over `thick`.

    `said` is what stands right of each site's name, where there is room for words; `word` what its units are called; `beside` puts both beside
    the axes instead of above the row, so that lines may run from row to row.
    """

    sites: Sequence[Named]
    said: Sequence[str]
    look: Look
    word: str = "unit"
    beside: bool = False

    @property
    def few(self) -> bool:
        return len(self.sites) <= (2 * FEW if self.beside else FEW)

    @property
    def pitch(self) -> float:
        """Inches from row to row."""
        if self.few:
            return (0.38 if len(self.sites) <= FEW else 0.26) if self.beside else 0.62
        return min(0.19, max(0.055, 8.5 / len(self.sites)))

    @property
    def thick(self) -> float:
        return min(0.22, self.pitch * 0.78) if self.few or self.beside else self.pitch * 0.78

    @property
    def height(self) -> float:
        return self.pitch * len(self.sites) + (0.08 if self.few else 0.04)

    def top(self, k: int) -> float:
        above = (self.pitch - self.thick) / 2 + 0.04 if self.beside else 0.26
        return k * self.pitch + (above if self.few else self.pitch * 0.11 + 0.02)

    def middle(self, k: int) -> float:
        return self.top(k) + self.thick / 2

    @property
    def left(self) -> float:
        """Inches that labels need on the left of the axes."""
        if self.few and not self.beside:
            return 0.2
        if self.few:
            return max((inches(name, 9.5) for name in self._names()), default=0) + 0.3
        return max((inches(fitted(text, self._most, 8.5), 8.5) for _, _, text in self._groups()), default=0) + 0.15

    @property
    def right(self) -> float:
        """Inches that words need on the right of the axes."""
        if self.few and self.beside:
            return max((inches(words, 8.5) for words in self.said), default=0) + 0.2
        return RIGHT

    def _names(self) -> list[str]:
        """The names that stand beside the axes."""
        room = 1.15 if self.look.narrow else 2.6
        kinds = ["" if self.look.narrow else f" · {kind_and_units(site, self.word)}" for site in self.sites]
        wide = [inches(kind, 9.5) for kind in kinds]
        kinds = [kind if w < room - 0.8 else "" for kind, w in zip(kinds, wide, strict=True)]
        return [fitted(x.name, room - inches(kind, 9.5), 9.5) + kind for x, kind in zip(self.sites, kinds, strict=True)]

    @property
    def _most(self) -> float:
        """Inches of a label on the left."""
        return 0.85 if self.look.narrow else 1.9

    def _groups(self) -> list[tuple[int, int, str]]:
        """First row, last row and words of each label on the left."""
        names = [site.name for site in self.sites]
        found = blocks(names)
        if not any(found):
            every = max(1, round(0.13 / self.pitch + 0.49))
            return [(k, k, name) for k, name in enumerate(names) if k % every == 0]
        starts = [k for k, block in enumerate(found) if k == 0 or found[k - 1] != block]
        found = short_blocks(found)
        return [(k, end - 1, found[k]) for k, end in zip(starts, [*starts[1:], len(found)], strict=True)]

    def write(self, ax: Any) -> None:
        """Labels: where there are few rows each site's name with what is said of it; else the names of blocks, and lines between them."""
        ax.set_ylim(self.height, 0)
        ax.set_yticks([])
        if self.few:
            self._write_few(ax)
        else:
            self._write_blocks(ax)

    def _write_few(self, ax: Any) -> None:
        at, ink = ax.get_yaxis_transform(), self.look.ink
        room = self.look.width - self.left - RIGHT - 0.15
        beside = self._names() if self.beside else []
        for k, (site, words) in enumerate(zip(self.sites, self.said, strict=True)):
            style: dict[str, Any] = {"va": "center", "gid": f"site-{k}", "fontsize": 9.5, "color": ink["text"]}
            muted: dict[str, Any] = {"va": "center", "color": ink["muted"], "fontsize": 8.5, "annotation_clip": False}
            if self.beside:
                y, gap = self.middle(k), {"xycoords": at, "textcoords": "offset points"}
                ax.annotate(beside[k], (0, y), xytext=(-9, 0), ha="right", annotation_clip=False, **gap, **style)
                ax.annotate(words, (1, y), xytext=(7, 0), **gap, **muted)
                continue
            y = self.top(k) - 0.11
            kind = "" if self.look.narrow else f" · {kind_and_units(site, self.word)}"
            short = fitted(site.name, room - inches(words, 8.5) - inches(kind, 9.5), 9.5) + kind
            ax.text(0, y, short, transform=at, **style)
            ax.text(1, y, words, transform=at, color=ink["muted"], va="center", ha="right", fontsize=8.5)

    def _write_blocks(self, ax: Any) -> None:
        at, ink = ax.get_yaxis_transform(), self.look.ink
        groups = self._groups()
        grouped = any(first != last for first, last, _ in groups)
        for first, last, name in groups:
            middle = (self.middle(first) + self.middle(last)) / 2
            text = fitted(name, self._most, 8.5)
            ax.annotate(
                text, (0, middle), xytext=(-6, 0), xycoords=at, textcoords="offset points", ha="right", va="center",
                fontsize=8.5 if grouped else 7.5, color=ink["text"], annotation_clip=False, gid=f"site-{first}" if not grouped else None,
            )  # fmt: skip
            if grouped and first:
                between = first * self.pitch + 0.02
                ax.plot([-0.02, 1], [between] * 2, transform=at, color=ink["line"], linewidth=0.6, clip_on=False)


def ends_inside(ax: Any) -> None:
    """The first and the last tick label grow inwards, so that none leaves the picture."""
    labels = ax.get_xticklabels()
    labels[0].set_ha("left")
    labels[-1].set_ha("right")


def kind_and_units(site: Named, word: str = "unit") -> str:
    """What a site is, in a few words: "ELU, 20 units"."""
    kind = "" if site.layer.kind == "input" else f"{shorten(site.layer.kind, 24)}, "
    return f"{kind}{site.units:,} {word}{'s' if site.units != 1 else ''}"

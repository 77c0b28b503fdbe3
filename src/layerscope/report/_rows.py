"""Sites as rows of a picture: with a line of words above each where there are few, grouped by block where there are many."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ._facts import SiteFacts
from ._look import Look, fitted, inches
from ._names import blocks, short_blocks, shorten

FEW = 12
"""Up to so many sites each has its own words."""
RIGHT = 0.2
"""Inches left free on the right of the axes."""


@dataclass(frozen=True)
class Rows:
    """Where each site's row lies, in inches from the top of the axes: row k has its bar from `top(k)` over `thick`."""

    sites: tuple[SiteFacts, ...]
    look: Look

    @property
    def few(self) -> bool:
        return len(self.sites) <= FEW

    @property
    def pitch(self) -> float:
        """Inches from row to row."""
        return 0.62 if self.few else min(0.19, max(0.055, 8.5 / len(self.sites)))

    @property
    def thick(self) -> float:
        return 0.22 if self.few else self.pitch * 0.78

    @property
    def height(self) -> float:
        return self.pitch * len(self.sites) + (0.08 if self.few else 0.04)

    def top(self, k: int) -> float:
        return k * self.pitch + (0.26 if self.few else self.pitch * 0.11 + 0.02)

    def middle(self, k: int) -> float:
        return self.top(k) + self.thick / 2

    @property
    def left(self) -> float:
        """Inches that labels need on the left of the axes."""
        if self.few:
            return 0.2
        return max((inches(fitted(text, self._most, 8.5), 8.5) for _, _, text in self._groups()), default=0) + 0.15

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

    def write(self, ax: Any, said: Sequence[str]) -> None:
        """Labels: where there are few rows each site's name with what is said of it; else the names of blocks, and lines between them."""
        ax.set_ylim(self.height, 0)
        ax.set_yticks([])
        at = ax.get_yaxis_transform()
        ink = self.look.ink
        if self.few:
            room = self.look.width - self.left - RIGHT - 0.15
            for k, (site, words) in enumerate(zip(self.sites, said, strict=True)):
                y = self.top(k) - 0.11
                kind = "" if self.look.narrow else f" · {kind_and_units(site)}"
                short = fitted(site.name, room - inches(words, 8.5) - inches(kind, 9.5), 9.5) + kind
                ax.text(0, y, short, transform=at, color=ink["text"], va="center", fontsize=9.5, gid=f"site-{k}")
                ax.text(1, y, words, transform=at, color=ink["muted"], va="center", ha="right", fontsize=8.5)
            return
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


def kind_and_units(site: SiteFacts) -> str:
    """What a site is, in a few words: "ELU, 20 units"."""
    return f"{shorten(site.layer.kind, 24)}, {site.units:,} unit{'s' if site.units != 1 else ''}"

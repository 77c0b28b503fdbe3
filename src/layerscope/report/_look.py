"""How pictures look: colours, sizes, and the way from a matplotlib figure to SVG that follows the page's light or dark."""

import re
import warnings
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from xml.sax.saxutils import escape, quoteattr

from ._names import plain, shorten

# Okabe & Ito's colours, each with a marker of its own, so that nothing is told by colour alone; grey is for references.
SERIES = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00")
MARKERS = ("o", "s", "^", "D", "v", "P")

_NAMES = ("text", "muted", "paper", "room", "used", "line", "ceiling", *(f"c{k}" for k in range(1, 7)))
ON_PAPER = dict(
    zip(_NAMES, ("#1a1a1a", "#666666", "#ffffff", "#ececec", "#d2d2d2", "#bbbbbb", "#D55E00", *SERIES), strict=True)
)
# In a page every colour is a CSS variable: the figure is drawn in colours that occur nowhere else, which are then replaced.
IN_PAGE = {name: f"#0f{k:02x}f0" for k, name in enumerate(_NAMES, 1)}
_VARIABLES = {colour: "currentColor" if name == "text" else f"var(--{name})" for name, colour in IN_PAGE.items()}

WIDE, NARROW = 7.6, 3.75
"""Inches: a picture for a desktop, for a notebook, and one that needs no magnifying glass on a phone."""


@dataclass(frozen=True)
class Look:
    """What a picture is drawn for: the colours by name, and the width in inches."""

    ink: Mapping[str, str]
    width: float = WIDE

    @property
    def narrow(self) -> bool:
        return self.width < 5

    def series(self, k: int) -> tuple[str, str]:
        """Colour and marker of the k-th series."""
        return self.ink[f"c{k % len(SERIES) + 1}"], MARKERS[k % len(MARKERS)]


@contextmanager
def drawing() -> Generator[None]:
    """matplotlib's own defaults, whatever the user's style; their settings are untouched afterwards."""
    from importlib import import_module

    matplotlib: Any = import_module("matplotlib")
    style: Any = import_module("matplotlib.style")

    ours: dict[str, Any] = {
        "text.parse_math": False,  # a layer may be called "$x$"
        "svg.fonttype": "none",
        "svg.hashsalt": "layerscope",
        "font.size": 9.5,
        "axes.unicode_minus": True,
    }
    with matplotlib.rc_context(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*[Gg]lyph.*missing")  # the page's own fonts may well have it
        style.use("default")
        matplotlib.rcParams.update(ours)
        yield


def figure(look: Look, height: float) -> Any:
    """An empty `matplotlib.figure.Figure` of the look's width; matplotlib's own types are too loose to check against."""
    from matplotlib.figure import Figure

    return Figure(figsize=(look.width, height), facecolor=look.ink["paper"], dpi=100)


def axes(fig: Any, look: Look, left: float, right: float, top: float, bottom: float) -> Any:
    """Axes with margins in inches, and only the lines that help."""
    width, height = fig.get_size_inches()
    ax = fig.add_axes((left / width, bottom / height, (width - left - right) / width, (height - top - bottom) / height))
    ax.set_facecolor("none")
    for side, spine in ax.spines.items():
        spine.set_visible(side == "bottom")
        spine.set_color(look.ink["line"])
    ax.tick_params(colors=look.ink["text"], labelcolor=look.ink["text"], color=look.ink["line"], labelsize=9)
    return ax


def inches(text: str, size: float) -> float:
    """How wide a text of this size (in points) is, in the widest font a reader is likely to have."""
    from matplotlib.font_manager import FontProperties
    from matplotlib.textpath import text_to_path

    return text_to_path.get_text_width_height_descent(text, FontProperties(size=size), False)[0] / 72


def fitted(name: str, room: float, size: float) -> str:
    """The name, shortened in its middle until it is at most `room` inches wide."""
    most = len(name)
    while inches(short := shorten(name, most), size) > room and most > 3:
        most = min(most - 1, int(most * room / inches(short, size)) + 1)
    return short


def to_svg(fig: Any, key: str, label: str, titles: Sequence[str] = ()) -> str:
    """The figure as an SVG element: text stays text, colours are the page's, `id`s begin with `key`, nothing is fetched.

    Names are escaped by matplotlib's writer; `label` describes the picture to those who cannot see it; `titles` are the full names of
    the texts whose gid is "site-0", "site-1" …, shown when the mouse rests on them.
    """
    import io

    written = io.StringIO()
    fig.savefig(written, format="svg", dpi=144, metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    svg = written.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    width, height = fig.get_size_inches() * 72
    head = (
        f'<svg class="picture" role="img" aria-label={quoteattr(label)} viewBox="0 0 {width:.6g} {height:.6g}" '
        'xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink">'
    )
    return head + "".join(_piece(piece, key, titles) for piece in re.split(r"(<[^>]*>)", svg[svg.index(">") + 1 :]))


def _piece(piece: str, key: str, titles: Sequence[str]) -> str:
    """A tag with the page's colours, fonts and ids; the text between tags as it is, whatever it looks like."""
    if not piece.startswith("<"):
        return piece
    piece = re.sub(r"#0f[0-9a-f]{2}f0\b", lambda m: _VARIABLES.get(m[0], m[0]), piece)
    named = re.fullmatch(r'<g id="site-(\d+)">', piece)
    if named:
        return f"<g><title>{escape(plain(titles[int(named[1])]))}</title>" if titles else "<g>"
    piece = re.sub(r"\bid=\"", f'id="{key}-', piece)
    piece = re.sub(r"(url\(|href=\")#", rf"\1#{key}-", piece)
    return re.sub(
        r"font: ([\d.]+px) [^;\"]*|font-family: [^;\"]*;? ?", lambda m: f"font-size: {m[1]}" if m[1] else "", piece
    )

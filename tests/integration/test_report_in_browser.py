"""The page in a real browser: it shows what it should, in light and dark, wide and narrow, fetches nothing, and no text leaves it."""

import json
import re
import subprocess
from html import escape, unescape
from pathlib import Path
from typing import Any

import matplotlib.image
import numpy as np
import pytest
from numpy.typing import NDArray

from layerscope import Results
from layerscope.report import page
from tests.conftest import require_program
from tests.unit.report.labelled import labelled, telling
from tests.unit.report.made import EVIL, narrow, results_of, usual, wide
from tests.unit.report.moved import INPUT, moved_of, moving, turned

CHROMIUM = require_program("chromium")
pytestmark = pytest.mark.browser

QUIET = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--disable-default-apps", "--disable-extensions", "--hide-scrollbars",
    "--force-device-scale-factor=1", "--virtual-time-budget=3000", "--host-resolver-rules=MAP * ~NOTFOUND",
]  # fmt: skip
SCHEME = {"dark": 0, "light": 1}
DESKTOP, PHONE = (1280, 900), (390, 844)
LONG = "the_first_stage_of_feature_extraction.residual_bottleneck_block_number_{}.activation_function"
POLICY = re.compile(r'<meta http-equiv="Content-Security-Policy"[^>]*>')


def deep() -> Results:
    """Forty layers of eight blocks, as of a transformer."""
    values = {
        f"encoder.layer.{k // 5}.block.part_{k % 5}": (narrow, wide)[k % 2](samples=60, seed=k) for k in range(40)
    }
    return results_of(values, untrained=values)


def moved() -> Results:
    """Forty layers that move with the transformations, some without a ratio, some carried by a few values, beside two other networks."""
    values = {
        f"encoder.layer.{k // 5}.block.part_{k % 5}": moving(0.1 + (k % 7) / 3, samples=40, seed=k) for k in range(40)
    }
    for k, v in enumerate(values.values()):
        v[..., 0] *= (1.0, 0.0, 0.001)[k % 3]
    return moved_of({INPUT: moving(1.4, samples=40), **values}, references={"untrained": values, "W" * 80: values})


PAGES: dict[str, Results] = {
    "turned": turned(references={"untrained": {"fc": moving(1.1, maps=6)}}),
    "moved": moved(),
    "evil moved": moved_of(
        {EVIL: moving(0.5), "W" * 300: moving(0.7)}, names=[EVIL, "W" * 200, "b", "c"], unreached=[LONG.format(0)]
    ),
    "labelled": labelled(
        {LONG.format(0): telling(1.0), "w": wide(samples=100), **{f"l{k}": telling(k / 9) for k in range(9)}}
    ),
    "usual": usual(untrained={"conv_1": narrow(seed=3), "conv_2": wide(seed=3)}),
    "long names": results_of(
        {LONG.format(k): (narrow, wide)[k % 2](samples=60, seed=k) for k in range(6)}, note="x" * 300
    ),
    "deep": deep(),
    "evil": results_of({EVIL: narrow(), "W" * 300: wide()}, manifest={"title": "W" * 200, "command": "W" * 300}),
}


def browse(html: str, folder: Path, *arguments: str, size: tuple[int, int] = DESKTOP, scheme: str = "light") -> str:
    """What the browser writes to standard output when it opens the page."""
    (folder / "page.html").write_text(html, encoding="utf-8")
    command = [
        CHROMIUM, *QUIET, f"--user-data-dir={folder / 'profile'}", f"--window-size={size[0]},{size[1]}",
        f"--blink-settings=preferredColorScheme={SCHEME[scheme]}", *arguments, (folder / "page.html").as_uri(),
    ]  # fmt: skip
    ran = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


def picture(html: str, folder: Path, size: tuple[int, int], scheme: str) -> NDArray[np.float64]:
    """The page as pixels (height, width, 3), 0 … 1."""
    browse(html, folder, f"--screenshot={folder / 'page.png'}", size=size, scheme=scheme)
    return np.asarray(matplotlib.image.imread(folder / "page.png"), np.float64)[:, :, :3]


def check_shown(pixels: NDArray[np.float64], scheme: str) -> None:
    """Not blank, and on the ground of the scheme."""
    ground = np.median(pixels, axis=(0, 1))
    assert (ground > 0.9).all() if scheme == "light" else (ground < 0.2).all(), f"the ground is {ground}"
    ink = np.abs(pixels - ground).max(axis=2) > 0.3
    assert 0.005 < ink.mean() < 0.5, f"{ink.mean():.1%} of the page is ink"
    rows = ink.any(axis=1)
    assert rows[: len(rows) // 2].any()
    assert rows[len(rows) // 2 :].any(), "the lower half is empty"


# --- what is seen ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", SCHEME)
@pytest.mark.parametrize("size", [DESKTOP, PHONE])
def test_the_page_is_shown(tmp_path: Path, size: tuple[int, int], scheme: str) -> None:
    pixels = picture(page(PAGES["usual"]), tmp_path, size, scheme)
    assert pixels.shape[:2] == (size[1], size[0])
    check_shown(pixels, scheme)


def test_the_check_of_pictures_sees_blank_and_wrong_ones(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="ink"):
        check_shown(picture("<!DOCTYPE html>", tmp_path, DESKTOP, "light"), "light")
    with pytest.raises(AssertionError, match="ground"):
        check_shown(picture(page(PAGES["usual"]), tmp_path, DESKTOP, "light"), "dark")


def test_the_facts_are_in_the_document(tmp_path: Path) -> None:
    dom = browse(page(PAGES["usual"]), tmp_path, "--dump-dom")
    for fact in (
        "1 of 2 layers can be measured",
        "What to distrust",
        "Undersampled",
        "saturated: 14.41 to 60.00 of 60 bits",
        "</svg>",
        "</table>",
    ):
        assert fact in dom
    assert "alert(1)" not in dom


# --- nothing is fetched ----------------------------------------------------------------------------------------------------------


def asked_for(html: str, folder: Path) -> set[str]:
    """Every address of a network that the page wanted, by the browser's own log; what the browser wants for itself has no initiator."""
    log = folder / "net.json"
    browse(html, folder, f"--log-net-log={log}", "--dump-dom")
    found: set[str] = set()
    for line in log.read_text(encoding="utf-8").splitlines():
        if '"initiator"' in line:
            asked = json.loads(line.strip().rstrip(",").removesuffix("],") or "{}").get("params", {})
            if asked.get("initiator") != "not an origin":
                found.add(str(asked.get("url")))
    return {address for address in found if not address.startswith("file:")}


def test_nothing_is_fetched(tmp_path: Path) -> None:
    assert asked_for(page(PAGES["evil"]), tmp_path) == set()


def test_the_check_of_fetching_sees_a_fetch_and_the_policy_stops_it(tmp_path: Path) -> None:
    address = "http://127.0.0.1:9/picture.png"
    html = page(PAGES["usual"]).replace("</main>", f'<img src="{address}" alt=""></main>')
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    assert address in asked_for(POLICY.sub("", html), tmp_path / "a")
    assert address not in asked_for(html, tmp_path / "b")


# --- no text leaves the page or covers another -----------------------------------------------------------------------------------

MEASURE = """<script>
addEventListener("load", () => {
  const seen = r => r.width > 0 && r.height > 0, wide = document.documentElement.clientWidth, found = {wide, out: [], over: []};
  found.scroll = document.documentElement.scrollWidth;
  for (const e of document.querySelectorAll("body *:not(svg *)")) {
    const r = e.getBoundingClientRect();
    if (seen(r) && !e.closest(".scroll, .wide") && (r.right > wide + 1 || r.left < -1)) found.out.push(e.tagName + " " + e.textContent.slice(0, 40));
  }
  for (const svg of document.querySelectorAll("svg.picture")) {
    const s = svg.getBoundingClientRect();
    if (!seen(s)) continue;
    const texts = [...svg.querySelectorAll("text")].map(t => [t.textContent, t.getBoundingClientRect()]).filter(t => seen(t[1]));
    for (const [what, r] of texts) if (r.left < s.left - 1 || r.right > s.right + 1 || r.bottom > s.bottom + 1) found.out.push("svg " + what);
    texts.forEach(([a, p], k) => texts.slice(k + 1).forEach(([b, q]) => {
      const across = Math.min(p.right, q.right) - Math.max(p.left, q.left), down = Math.min(p.bottom, q.bottom) - Math.max(p.top, q.top);
      if (across > 1 && down > 4) found.over.push(a + " | " + b);
    }));
    found.texts = (found.texts || 0) + texts.length;
  }
  parent.document.body.setAttribute("data-found", JSON.stringify(found));
});
</script></body>"""


def measured(html: str, folder: Path, size: tuple[int, int]) -> dict[str, Any]:
    """Where the browser put things; the page itself runs no script, so this one is put into a copy."""
    inner = escape(POLICY.sub("", html).replace("</body>", MEASURE))
    # In a frame, because a window of this browser is never narrower than 500 pixels.
    frame = f'<iframe style="border: 0; width: {size[0]}px; height: {size[1]}px" srcdoc="{inner}"></iframe>'
    dom = browse(f'<!DOCTYPE html><body style="margin: 0">{frame}</body>', folder, "--dump-dom", size=(1400, 1100))
    (found,) = re.findall(r'<body[^>]*? data-found="([^"]*)"', dom)
    return json.loads(unescape(found))


def check_laid_out(html: str, folder: Path, size: tuple[int, int]) -> None:
    found = measured(html, folder, size)
    assert found["wide"] == size[0]
    assert found["scroll"] <= size[0], "the page scrolls sideways"
    assert found["out"] == []
    assert found["over"] == []
    assert found["texts"] > 20, "the pictures were not seen"


@pytest.mark.parametrize("name", PAGES)
@pytest.mark.parametrize("size", [DESKTOP, PHONE, (768, 1024)])
def test_no_text_leaves_the_page_or_covers_another(tmp_path: Path, name: str, size: tuple[int, int]) -> None:
    check_laid_out(page(PAGES[name]), tmp_path, size)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("</header>", '<p style="width: 3000px">wide</p></header>'),
        (
            "</header>",
            '<svg class="picture" viewBox="0 0 90 20"><text x="5" y="9">one</text><text x="6" y="9">two</text></svg></header>',
        ),
        ("</header>", '<svg class="picture" viewBox="0 0 90 20"><text x="80" y="9">leaves it</text></svg></header>'),
    ],
)
def test_the_check_of_the_layout_sees_bad_ones(tmp_path: Path, old: str, new: str) -> None:
    with pytest.raises(AssertionError):
        check_laid_out(page(PAGES["usual"]).replace(old, new), tmp_path, DESKTOP)

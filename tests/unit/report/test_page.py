"""The page: whole, safe, honest, small, and made without model or framework."""

import csv
import io
import re
import subprocess
import sys
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import numpy as np
import pytest

from layerscope._results import Results, Task
from layerscope._site import Activations, Axes, Samples, Site
from layerscope.inventory import Layer, Layers, Role
from layerscope.measures import Entropy
from layerscope.report import page
from layerscope.tallies import AbstractTally, StateSketch
from tests.unit.report.made import EVIL, narrow, results_of, usual, wide
from tests.unit.report.reader import Page


def check_escaped(html: str) -> None:
    """No name of a user became a tag or an attribute."""
    read = Page(html)
    assert {tag for tag, _ in read.tags}.isdisjoint({"script", "img", "i"})
    assert read.fetched() == []


# --- safe ------------------------------------------------------------------------------------------------------------------------


def test_every_name_of_a_user_is_escaped() -> None:
    evil = EVIL + "<img src=x onerror=alert(2)>"
    results = results_of(
        {evil: narrow(), f"{evil} wide": wide(), f"{evil} constant": np.ones((30, 1, 3))},
        left_out={f"{evil} out": evil},
        untrained={evil: narrow(seed=4)},
        measures=[Entropy(), Entropy(2)],
        manifest={
            "model": evil, "framework": evil, "framework_version": evil, "dtype": evil, "device": evil, "mode": evil, "data": [evil],
            "data_name": evil, "command": evil, "layerscope": evil, "title": evil, "amp": evil, "shard": [evil, evil],
        },
        task=Task(3, 4, evil, evil),
        kind=evil,
        note=evil,
    )  # fmt: skip
    check_escaped(page(results))
    check_escaped(page(results, title=evil))
    assert "<script>alert(1)</script>" in Page(page(results)).text, "it is still to be read"


@pytest.mark.parametrize(
    "bad",
    [
        "<script>alert(1)</script>",
        "<p onclick='x'></p>",
        "<img src='https://example.org/x.png'>",
        "<svg><image xlink:href='https://example.org/x.png'/></svg>",
        "<link rel='stylesheet' href='x.css'>",
    ],
)
def test_the_check_of_escaping_sees_what_is_not(bad: str) -> None:
    with pytest.raises(AssertionError):
        check_escaped(page(usual()).replace("</main>", f"{bad}</main>"))


def test_nothing_is_fetched_and_the_browser_is_told_so() -> None:
    html = page(usual())
    assert Page(html).fetched() == []
    assert "default-src 'none'" in html
    assert "@import" not in html
    style = re.findall(r"<style>(.*?)</style>", html, re.DOTALL)
    assert len(style) == 1
    assert "url(" not in style[0]


def test_ids_are_unique_and_every_link_within_the_page_has_its_place() -> None:
    read = Page(page(usual()))
    assert len(read.ids) == len(set(read.ids))
    inner = {attrs["href"] for tag, attrs in read.tags if tag == "a" and str(attrs.get("href", "")).startswith("#")}
    assert {"#states", "#samples", "#units", "#table", "#made"} >= inner
    used = {attrs["xlink:href"] for tag, attrs in read.tags if tag == "use"}
    assert {f"#{each}" for each in read.ids} >= inner | used


# --- whole -----------------------------------------------------------------------------------------------------------------------


def test_the_order_is_answer_distrust_pictures_table_how_it_was_made() -> None:
    ids = Page(page(usual())).ids
    places = [
        ids.index(part) for part in ("answer", "words", "distrust", "states", "samples", "units", "table", "made")
    ]
    assert places == sorted(places)


def test_the_facts_are_there() -> None:
    text = Page(page(usual(untrained={"conv_1": narrow(seed=3), "conv_2": wide(seed=3)}))).text
    for fact in (
        "Net, layer by layer", "95 % on 400 samples", "1 of 2", "2 of 3 sites were read", "1,234 parameters", "torch 2.13",
        "float32, cpu, evaluation mode, 1.2 s", "What to distrust", "Undersampled: conv_2 (saturated, coverage 0 %)", "≥ 8.644", "Intervals (95 %) say",
        "normalisation: no unit of its own fires: norm (ReLU)", "400 in batches of 128", "untrained", "inputs: item[0]",
        "Network efficiency", "over 1 of 2 sites: conv_1", "aIQ", "layerscope.examine(model, data)", "arXiv:2006.02909",
    ):  # fmt: skip
        assert fact in text, fact


def test_the_command_of_the_manifest_is_the_one_that_is_shown() -> None:
    assert "layerscope demo --seed 7" in Page(page(usual(manifest={"command": "layerscope demo --seed 7"}))).text


def test_the_command_names_what_was_asked() -> None:
    text = Page(page(usual(manifest={"asked": {"layers": "['conv_1', 'conv_2']", "samples": "400"}}))).text
    assert "layerscope.examine(model, data, layers=['conv_1', 'conv_2'], samples=400)" in text


def test_the_title_is_the_one_given_else_the_manifests_else_the_models() -> None:
    html = page(usual(manifest={"title": "Second"}), title="First")
    assert "<title>First</title>" in html
    assert "<title>Second</title>" in page(usual(manifest={"title": "Second"}))
    assert "<title>Net, layer by layer</title>" in page(usual())


def test_the_table_has_a_row_per_site_with_bounds_marked() -> None:
    html = page(usual(unreached=["never"]))
    rows = [
        Page(f"<table>{row}</table>").text
        for row in re.findall(r"<tr(?: class=\"thin\")?><th scope=\"row\".*?</tr>", html)
    ]
    assert len(rows) == 3
    for fact in ("conv_1", "1,600", "400", "100 %", "2.99"):
        assert fact in rows[0]
    assert "≥ 8.644" in rows[1]
    assert "0.240 to 1.000" in rows[1]
    assert "never reached by the data" in rows[2]


def test_the_csv_is_the_table() -> None:
    results = results_of({'a,"b"\n#%41é': narrow(), EVIL: wide()})
    (link,) = [attrs for tag, attrs in Page(page(results)).tags if "download" in attrs]
    head, _, body = str(link["href"]).partition(",")
    assert head == "data:text/csv;charset=utf-8"
    rows = list(csv.DictReader(io.StringIO(unquote(body))))
    table = results.table
    assert [row["layer"] for row in rows] == list(table["layer"])
    np.testing.assert_allclose([float(row["value"]) for row in rows], table["value"], rtol=1e-5)


def test_readings_without_a_column_are_listed() -> None:
    text = Page(page(usual(measures=[Entropy(), Entropy(2)]))).text
    assert "2 more readings that were asked for" in text
    assert "entropy order=2" in text
    assert "more readings" not in Page(page(usual())).text


def test_a_score_that_is_no_accuracy_keeps_its_name() -> None:
    text = Page(page(usual(task=Task(120.0, 400, "word overlap", "")))).text
    assert "word overlap 0.3 on 400 samples" in text
    assert "aIQ" not in text


def test_without_labels_the_accuracy_is_unknown() -> None:
    assert "accuracy unknown the data has no labels" in Page(page(usual(task=Task(note="the data has no labels")))).text


def test_results_without_any_site_still_make_a_page() -> None:
    text = Page(page(results_of({}, left_out={"a": "excluded"}))).text
    assert "No layer was read" in text
    assert "excluded: a (ReLU)" in text


@pytest.mark.parametrize("junk", [None, 3, "text", [], {}, [1, "a"], {"a": 1}, True])
def test_a_strange_manifest_does_not_break_the_page(junk: object) -> None:
    keys = (
        "parameters",
        "seconds",
        "batch_size",
        "data",
        "model",
        "mode",
        "merged",
        "framework",
        "title",
        "data_name",
        "dtype",
        "amp",
    )
    Page(page(usual(manifest=dict.fromkeys(keys, junk))))


# --- light, dark, small ----------------------------------------------------------------------------------------------------------


def test_dark_and_light_define_the_same_colours_and_pictures_use_no_other() -> None:
    html = page(usual())
    light, dark = (
        set(re.findall(r"(--[a-z0-9]+):", block)) for block in re.findall(r":root \{(.*?)\}", html, re.DOTALL)
    )
    assert light == dark
    assert set(re.findall(r"var\((--[a-z0-9]+)\)", html)) <= light


def contrast(one: str, other: str) -> float:
    """Contrast of two colours by WCAG 2."""

    def luminance(colour: str) -> float:
        parts = [int(colour[k : k + 2], 16) / 255 for k in (1, 3, 5)]
        linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def test_text_can_be_read_on_its_ground() -> None:
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    for block in re.findall(r":root \{(.*?)\}", page(usual()), re.DOTALL):
        colour = dict(re.findall(r"--([a-z0-9]+): (#[0-9a-f]{6})", block))
        for ground in ("paper", "panel"):
            for ink in ("text", "muted", "link"):
                assert contrast(colour[ink], colour[ground]) >= 4.5, (ink, ground)
        for mark in ("c1", "ceiling", "muted"):
            assert contrast(colour[mark], colour["paper"]) >= 3, mark


def test_equal_results_give_equal_pages() -> None:
    assert page(usual()) == page(usual())


def test_a_page_of_many_wide_layers_stays_small() -> None:
    values = {
        f"encoder.layer.{k // 12}.block.{k % 12}": wide(samples=50, units=300, positions=4, seed=k) for k in range(150)
    }
    html = page(results_of(values, untrained=values))
    assert len(html.encode()) < 700_000, "of which its CSV, ten readings of 300 sites, takes half"
    assert len(page(usual()).encode()) < 150_000


def test_a_saved_file_becomes_a_page_where_no_framework_can_be_imported(tmp_path: Path) -> None:
    usual(untrained={"conv_1": narrow(), "conv_2": wide()}).save(tmp_path / "a.lscope")
    code = (
        "import sys\n"
        "for name in ('torch', 'tensorflow', 'keras', 'jax', 'sklearn'): sys.modules[name] = None\n"
        "import layerscope as ls\n"
        f"ls.load({str(tmp_path / 'a.lscope')!r}).to_html({str(tmp_path / 'a.html')!r})\n"
        "assert 'matplotlib.pyplot' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    html = (tmp_path / "a.html").read_text(encoding="utf-8")
    assert html == page(usual(untrained={"conv_1": narrow(), "conv_2": wide()}))


def test_importing_the_report_loads_nothing_heavy() -> None:
    code = "import sys, layerscope.report\nprint({'matplotlib', 'jinja2', 'pandas', 'PIL'} & set(sys.modules))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "set()"


def test_a_layer_whose_states_a_sketch_could_not_hold_stands_hollow_in_the_page() -> None:
    rng = np.random.default_rng(0)
    tally, values = StateSketch(1024), dict[Site, dict[AbstractTally[Any], Any]]()
    sizes = {"kept": 6, "lost": 64}
    for name, units in sizes.items():
        x = rng.normal(size=(3000, units)).astype(np.float32)
        seen = tally.observe(tally.init(Site(name)), Activations(x, Axes(1), np, host=x), Samples(np.arange(3000)))
        values[Site(name)] = {tally: seen}
    layers = Layers(
        Layer(Site(name), "ReLU", Role.NONLINEARITY, (1, units), "float32", Axes(1)) for name, units in sizes.items()
    )
    html = page(Results(layers, values, [Entropy(), Entropy(estimator="c2")], {}, Task()))
    text = re.sub(r"<[^>]*>", " ", html)
    assert "kept" in text
    assert "uses" in text
    assert "a sketch of 1,024" in text
    assert "hollow" in text
    assert "nan" not in text

"""Pictures: what is drawn is what was measured, matplotlib is left as it was, and any name may stand in them."""

import math
import subprocess
import sys
import warnings
from typing import Any

import matplotlib
import matplotlib.colors
import numpy as np
import pytest

from layerscope import Results
from layerscope._errors import DataError
from layerscope.report import plot
from layerscope.report._facts import Facts
from layerscope.report._look import IN_PAGE, NARROW, ON_PAPER, WIDE, Look, drawing, to_svg
from layerscope.report._plot import PICTURES
from layerscope.report._samples import spread, verdict
from layerscope.report._state_facts import states_of
from layerscope.report._units import sorted_rates
from tests.unit.report.labelled import labelled, telling
from tests.unit.report.made import EVIL, halfway, narrow, results_of, usual, wide
from tests.unit.report.moved import INPUT, moved_of, moving


def points(figure: Any, marker: str) -> list[tuple[float, bool]]:
    """Where the markers of the first axes stand, and whether they are hollow."""
    return [
        (float(x), line.get_markerfacecolor() == ON_PAPER["paper"])
        for line in figure.axes[0].lines
        if line.get_marker() == marker
        for x in np.atleast_1d(line.get_xdata())
    ]


def words(figure: Any) -> str:
    found = [text.get_text() for ax in figure.axes for text in ax.texts]
    return "\n".join([*found, *(text.get_text() for legend in figure.legends for text in legend.get_texts())])


def svg(results: Results, what: str, width: float = WIDE) -> str:
    facts = Facts(results)
    with drawing():
        return to_svg(PICTURES[what].draw(facts, Look(IN_PAGE, width)), "k", "label", PICTURES[what].names(facts))


# --- 1: states -------------------------------------------------------------------------------------------------------------------


def test_dots_stand_at_the_entropies_hollow_where_undersampled() -> None:
    results = usual()
    measured, thin = states_of(results).sites
    assert sorted(points(plot(results), "o")) == [
        (pytest.approx(float(measured.corrected)), False),
        (pytest.approx(float(thin.entropy)), True),
    ]


def test_lines_reach_from_limit_to_limit() -> None:
    results = usual()
    figure = plot(results)
    limits = {limit for site in states_of(results).sites for limit in (site.corrected.low, site.corrected.high)}
    (line,) = [p for p in figure.axes[0].patches if p.get_linewidth() == 2.0]
    assert {*np.asarray(line.get_path().vertices)[:, 0]} == limits


def test_an_extrapolation_is_a_hollow_dot_at_its_value() -> None:
    results = results_of({"a": halfway()})
    (site,) = states_of(results).sites
    assert site.verdict == "extrapolated"
    assert points(plot(results), "o") == [(pytest.approx(float(site.corrected)), True)]
    assert "extrapolated: ≈ " in words(plot(results))


def test_an_undersampled_entropy_is_written_with_its_bounds() -> None:
    said = words(plot(usual()))
    assert "3.00 [2.99, 3.00] of 3 bits" in said
    assert "saturated: 14.41 to 60.00 of 60 bits" in said
    assert "hollow: not measured" in said
    assert "hollow" not in words(plot(results_of({"a": narrow()}))), "the legend speaks only of what is there"


def test_the_untrained_network_is_a_triangle_hollow_where_undersampled() -> None:
    results = usual(untrained={"conv_1": np.abs(narrow()) * [[[1, 1, -1]]], "conv_2": wide(seed=5)})
    (before,) = [r for r in states_of(results).untrained.values() if r.undersampled]
    assert sorted(points(plot(results), "^")) == [(0, False), (pytest.approx(before.low), True)]
    assert points(plot(usual()), "^") == []


def shape(figure: Any, colour: str, *, edge: bool = False) -> Any:
    """The vertices of the one shape of this colour."""
    (found,) = [
        p
        for p in figure.axes[0].patches
        if matplotlib.colors.same_color(p.get_edgecolor() if edge else p.get_facecolor(), ON_PAPER[colour])
        and p.get_linewidth() == (2.2 if edge else 0)
    ]
    return found.get_path().vertices


def test_bars_reach_to_the_units_and_their_dark_part_to_the_independent_bits() -> None:
    results = usual()
    figure = plot(results)
    assert {*shape(figure, "room")[:, 0]} == {0, 3, 60}
    assert {*shape(figure, "used")[:, 0]} == {0, *(site.independent for site in states_of(results).sites)}


def test_ticks_stand_at_the_log_of_the_observations() -> None:
    assert {*shape(plot(usual()), "ceiling", edge=True)[:, 0]} == {math.log2(1600), math.log2(400)}


def test_wide_layers_get_an_axis_whose_steps_double() -> None:
    assert plot(results_of({"a": wide(units=100)})).axes[0].get_xscale() == "linear"
    assert plot(results_of({"a": wide(units=700)})).axes[0].get_xscale() == "function"


def test_a_layer_without_a_number_keeps_its_row() -> None:
    assert "not measured" in words(plot(results_of({"a": narrow()}, unreached=["b"])))
    assert len(points(plot(results_of({"a": narrow()}, unreached=["b"])), "o")) == 1


# --- 2: samples ------------------------------------------------------------------------------------------------------------------


def test_the_verdict_follows_the_curve() -> None:
    flat, thin = states_of(usual()).sites
    (rising,) = states_of(results_of({"a": narrow(units=9, samples=3000, positions=1)})).sites
    assert verdict(flat) == "flat"
    assert verdict(thin) == "saturated, +1 a doubling"
    assert (
        verdict(rising) == f"count {float(rising.corrected) - float(rising.entropy):.2g} bits low"
        or verdict(rising) == "flat"
    )
    (low,) = states_of(results_of({"a": narrow(units=9, samples=600, positions=1)})).sites
    assert low.measured
    assert verdict(low) == f"count {float(low.corrected) - float(low.entropy):.2g} bits low"


def test_every_curve_is_drawn_with_its_ceiling() -> None:
    results = usual()
    lines = plot(results, "samples").axes[0].lines
    for site in states_of(results).sites:
        for curve in (site.curve, site.ceiling):
            assert any(np.array_equal(line.get_ydata(), curve) for line in lines)
    (measured, _) = states_of(results).sites
    limits = [measured.corrected.low, measured.corrected.high]
    assert sum(np.array_equal(line.get_ydata(), limits) for line in lines) == 1


def test_many_layers_are_grey_but_for_six() -> None:
    results = results_of({f"l{k}": narrow(units=2 + k % 6, seed=k) for k in range(20)})
    figure = plot(results, "samples")
    grey = [line for line in figure.axes[0].lines if line.get_linewidth() == 0.8 and np.size(line.get_xdata()) > 2]
    assert len(grey) == 14
    assert "grey: 14 more layers" in "\n".join(text.get_text() for text in figure.texts)


def test_no_curve_can_be_drawn_of_one_sample() -> None:
    figure = plot(results_of({"a": wide(samples=1, positions=9)}), "samples")
    assert "no samples to draw from" in figure.texts[0].get_text()


def test_labels_keep_their_distance() -> None:
    places = spread([5, 5.1, 5.2, 9.9], 1.0, 0, 10)
    assert places == sorted(places)
    assert min(np.diff(places)) >= 1 - 1e-9
    assert max(places) <= 9.5


# --- 3: units --------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("units", [1, 5, 200, 1536])
def test_every_column_is_a_unit_from_the_rarest_to_the_most_frequent(units: int) -> None:
    rates = np.random.default_rng(units).random(units)
    columns = sorted_rates(rates)
    assert len(columns) == 200
    assert (np.diff(columns) >= 0).all()
    assert {*columns} <= {*rates}
    assert (columns[0], columns[-1]) == (rates.min(), rates.max())
    if units <= 200:
        assert {*columns} == {*rates}


def test_each_layer_is_a_row_of_its_rates() -> None:
    results = usual()
    images = plot(results, "units").axes[0].images
    assert len(images) == 2
    for image, site in zip(images, states_of(results).sites, strict=True):
        assert np.array_equal(np.asarray(image.get_array())[0], sorted_rates(site.rates))
        assert image.get_clim() == (0, 1)
        assert image.get_cmap().name == "cividis"


def test_dead_and_constant_units_are_written() -> None:
    values = narrow(units=4)
    values[:, :, 0], values[:, :, 1], values[:, :, 3] = -1, 1, values[:, :, 2]
    assert "1 dead, 1 always on, 1 repeated" in words(plot(results_of({"a": values}), "units"))
    assert "none dead or always on" in words(plot(usual(), "units"))


# --- all of them -----------------------------------------------------------------------------------------------------------------


STATES = ("states", "samples", "units")


def example(what: str, names: list[str]) -> Results:
    """Results of sites with these names that have what the picture shows; every second layer is undersampled, or has dead maps."""
    if what in STATES:
        return results_of({name: (narrow, wide)[k % 2](samples=60, seed=k) for k, name in enumerate(names)})
    if what == "labels":
        return labelled({name: (telling(k / len(names), 60), wide(samples=60))[k % 2] for k, name in enumerate(names)})
    values = {name: moving(0.1 + (k % 7) / 3, samples=40, seed=k) for k, name in enumerate(names)}
    for v in [*values.values()][1::2]:
        v[..., 0] = 0
    values = {INPUT: moving(1.4, samples=40, maps=1), **values}
    return moved_of(values, references={"untrained": values, names[0]: values}, unreached=["never"])


@pytest.mark.parametrize("what", PICTURES)
@pytest.mark.parametrize("count", [1, 5, 13, 150])
@pytest.mark.parametrize("width", [WIDE, NARROW])
def test_any_number_of_layers_fits(what: str, count: int, width: float) -> None:
    results = example(what, [f"encoder.layer.{k // 5}.part.{k % 5}" for k in range(count)])
    with drawing():
        figure = PICTURES[what].draw(Facts(results), Look(ON_PAPER, width))
    assert figure.get_size_inches()[1] < 14
    assert len(svg(results, what, width)) < 130_000, "of which the profiles of two references take half"


def text_boxes(figure: Any) -> list[Any]:
    figure.draw_without_rendering()
    texts = [t for ax in figure.axes for t in (*ax.texts, ax.xaxis.label, ax.yaxis.label)]
    for ax in figure.axes:
        low, high = ax.get_xlim()
        texts += [t for at, t in zip(ax.get_xticks(), ax.get_xticklabels(), strict=True) if low <= at <= high]
    texts += [*figure.texts, *(t for legend in figure.legends for t in legend.get_texts())]
    return [t.get_window_extent() for t in texts if t.get_text() and t.get_visible()]


def check_text_stays_inside(figure: Any) -> None:
    width, height = figure.get_size_inches() * figure.dpi
    for box in text_boxes(figure):
        assert box.x0 >= -1
        assert box.x1 <= width + 1
        assert box.y0 >= -1
        assert box.y1 <= height + 1


def check_text_does_not_overlap(figure: Any) -> None:
    boxes = text_boxes(figure)
    for k, a in enumerate(boxes):
        for b in boxes[k + 1 :]:
            across, down = min(a.x1, b.x1) - max(a.x0, b.x0), min(a.y1, b.y1) - max(a.y0, b.y0)
            assert across <= 1 or down <= 1.5, (a, b)


LONG = "the_first_stage_of_feature_extraction.residual_bottleneck_block_number_{}.activation_function"


@pytest.mark.parametrize("what", PICTURES)
@pytest.mark.parametrize("width", [WIDE, NARROW])
@pytest.mark.parametrize("name", ["conv_{}", LONG, "encoder.layer.{}.attention.output.dense"])
@pytest.mark.parametrize("count", [3, 12, 40])
def test_no_text_leaves_the_picture_or_covers_another(what: str, width: float, name: str, count: int) -> None:
    results = example(what, [name.format(k) for k in range(count)])
    with drawing():
        figure = PICTURES[what].draw(Facts(results), Look(ON_PAPER, width))
        check_text_stays_inside(figure)
        check_text_does_not_overlap(figure)


def test_the_checks_of_texts_see_bad_ones() -> None:
    figure = plot(usual())
    figure.text(0.95, 0.5, "a long text that leaves the picture")
    with pytest.raises(AssertionError):
        check_text_stays_inside(figure)
    figure = plot(usual())
    figure.axes[0].text(0, 0.15, "over the first name")
    with pytest.raises(AssertionError):
        check_text_does_not_overlap(figure)


@pytest.mark.parametrize("what", PICTURES)
@pytest.mark.parametrize("name", [EVIL, "$", "$\\frac{$", "a\nb", "层_1 🙂", "%s {0} \\n", "]]>", "--><b>"])
def test_any_name_may_stand_in_a_picture(what: str, name: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        plot(example(what, [name]), what)
        drawn = svg(example(what, [name]), what)
    assert "<script" not in drawn
    assert "<b>" not in drawn


@pytest.mark.parametrize("what", PICTURES)
def test_svg_takes_its_colours_from_the_page(what: str) -> None:
    states = usual(untrained={"conv_1": narrow(), "conv_2": wide()})
    drawn = svg(states if what in STATES else example(what, ["a", "b"]), what)
    assert "currentColor" in drawn
    assert "var(--line)" in drawn
    assert "#0f0" not in drawn, "a colour that was not replaced"
    assert "#000000" not in drawn, "black that would be lost in the dark"
    assert "DejaVu" not in drawn, "the page's own font"


def test_a_shortened_name_is_whole_in_a_title() -> None:
    name = LONG.format(1)
    drawn = svg(results_of({name: narrow()}), "states", NARROW)
    assert f"<title>{name}</title>" in drawn
    assert f">{name}<" not in drawn.replace(f"<title>{name}</title>", "")


def test_an_unknown_picture_lists_those_there_are() -> None:
    with pytest.raises(DataError, match=r"no picture 'unit'. Did you mean 'units'\? Choose one of 'movement', "):
        plot(usual(), "unit")


def test_nothing_can_be_drawn_of_nothing() -> None:
    with pytest.raises(DataError, match="these results hold no site"):
        plot(results_of({}))


def test_matplotlib_is_left_as_it_was_and_the_users_style_does_not_reach_in() -> None:
    plain = svg(usual(), "states")
    with matplotlib.rc_context({"font.size": 31, "lines.linewidth": 9, "axes.facecolor": "red", "text.usetex": True}):
        before = dict(matplotlib.rcParams)
        plot(usual())
        assert svg(usual(), "states") == plain
        assert dict(matplotlib.rcParams) == before


def test_pyplot_is_not_needed() -> None:
    code = (
        "import sys\nfrom tests.unit.report.made import usual\nfrom layerscope.report import plot\n"
        "for what in ('states', 'samples', 'units'): plot(usual(), what)\n"
        "print('matplotlib.pyplot' in sys.modules, 'torch' in sys.modules)"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert run.stdout.split() == ["False", "False"], run.stderr


def test_the_door_of_results_leads_here() -> None:
    assert points(usual().plot(), "o")
    assert usual().plot("units").axes[0].images

"""Movement on the page: what is drawn, said and doubted is what was measured, and nothing undefined is dropped."""

import math
from typing import Any

import numpy as np
import pytest

from layerscope import Results
from layerscope._errors import DataError
from layerscope.measures import (
    Distance,
    Entropy,
    FeaturesVariance,
    NormalizedFeaturesVariance,
    NormalizedVariance,
    TransformationVariance,
)
from layerscope.report import page, text
from layerscope.report import plot as drawn
from layerscope.report._accuracy import short_labels, wilson
from layerscope.report._convergence import halved, lines_of, relative
from layerscope.report._facts import Facts
from layerscope.report._maps import COLUMNS, sorted_maps
from layerscope.report._movement_facts import movement_of, ranked
from layerscope.report._words import answer, distrust, plain_words
from tests.unit.report.made import EVIL, narrow, results_of, usual
from tests.unit.report.moved import INPUT, moved_of, moving, turned
from tests.unit.report.reader import Page


def plot(results: Any, what: str | None = None) -> Any:
    """The picture; matplotlib's own types are too loose to check against."""
    return drawn(results, what)


def words(results: Results) -> str:
    return "\n".join(map(str, plain_words(Facts(results))))


def doubts(results: Results) -> str:
    return "\n".join(map(str, distrust(Facts(results))))


def legend(figure: Any) -> str:
    return "\n".join(each.get_text() for found in figure.legends for each in found.get_texts())


def with_dead(maps: int, dead: int, ratio: float = 0.5, seed: int = 5) -> np.ndarray:
    values = moving(ratio, maps=maps, seed=seed)
    values[..., :dead] = 0
    return values


# --- facts -----------------------------------------------------------------------------------------------------------------------


def test_ratios_are_those_that_were_made() -> None:
    movement = movement_of(turned())
    assert [site.name for site in movement.sites] == [INPUT, "conv_1", "conv_2", "fc"]
    assert [float(site.ratio) for site in movement.sites] == pytest.approx([1.4, 1.4, 1.3, 0.25], rel=1e-5)
    assert movement.last is not None
    assert (movement.last.name, movement.samples, movement.count, movement.rows) == ("fc", 60, 4, 240)
    assert movement.input is movement.sites[0]
    assert all(
        site.maps == pytest.approx(np.full(site.maps.shape, float(site.ratio)), rel=1e-5) for site in movement.sites
    )


def test_states_alone_have_no_movement_and_movement_alone_no_states() -> None:
    assert movement_of(usual()).sites == ()
    assert Facts(turned()).states.sites == ()


@pytest.mark.parametrize(
    ("measure", "told"),
    [
        (NormalizedVariance(flavour="variance"), NormalizedVariance(flavour="variance")),
        (NormalizedVariance(level="map"), NormalizedVariance()),
        (TransformationVariance(flavour="variance"), NormalizedVariance(flavour="variance")),
        (NormalizedFeaturesVariance(), NormalizedFeaturesVariance()),
        (FeaturesVariance(), NormalizedVariance()),
    ],
)
def test_the_ratio_that_is_told_follows_what_was_asked_for(measure: Any, told: Any) -> None:
    results = moved_of({"a": moving(0.5)}, measures=[measure])
    movement = movement_of(results)
    assert movement.measure == told
    expected = 0.25 if told.flavour == "variance" else 0.5
    assert float(movement.sites[0].ratio) == pytest.approx(expected, rel=1e-4)


def test_maps_are_ranked_over_all_layers_and_undefined_ones_left_out() -> None:
    movement = movement_of(moved_of({"a": moving(0.9, maps=2), "b": with_dead(4, 1, 0.2)}))
    found = ranked(movement.sites)
    assert len(found) == 5
    assert (found[0][1].name, found[-1][1].name) == ("b", "a")
    assert {k for _, site, k in found if site.name == "b"} == {1, 2, 3}
    (b,) = [site for site in movement.sites if site.name == "b"]
    assert b.lost == {"dead": 2}
    assert b.cells == 8


# --- pictures --------------------------------------------------------------------------------------------------------------------


def dots(figure: Any, marker: str) -> list[float]:
    """Where the markers of the first axes stand."""
    return [
        float(x)
        for line in figure.axes[0].lines
        if line.get_marker() == marker
        for x in np.atleast_1d(line.get_xdata())
        if not math.isnan(x)
    ]


def test_dots_stand_at_the_ratios_and_references_have_markers_of_their_own() -> None:
    values = {"conv_1": moving(0.3, maps=6), "conv_2": moving(0.4, maps=6), "fc": moving(0.5, maps=6)}
    figure = plot(turned(references={"untrained": values, "augmented": values}), "movement")
    assert dots(figure, "o") == pytest.approx([1.4, 1.4, 1.3, 0.25], rel=1e-4)
    assert dots(figure, "^") == pytest.approx([0.3, 0.4, 0.5], rel=1e-4)
    assert dots(figure, "s") == pytest.approx([0.3, 0.4, 0.5], rel=1e-4)
    assert "this network: 48 % right, transformed" in legend(figure)
    assert "augmented: 48 % right, transformed" in legend(figure)
    assert any(np.array_equal(line.get_xdata(), [1, 1]) for line in figure.axes[0].lines), "the line at 1"


def test_a_layer_without_a_ratio_keeps_its_row_with_a_mark_and_a_word() -> None:
    still = np.ones((60, 4, 2, 3))
    figure = plot(moved_of({"a": moving(0.5), "still": still, "b": moving(0.7)}, unreached=["never"]), "movement")
    assert dots(figure, "x") == [0, 0]
    said = [t.get_text() for t in figure.axes[0].texts]
    assert said.count("no ratio") == 2
    assert "no ratio" in legend(figure)
    gaps = [
        line
        for line in figure.axes[0].lines
        if line.get_linestyle() == "-"
        and np.isnan(np.asarray(line.get_xdata(), float)).any()
        and len(line.get_xdata()) == 4
    ]
    assert gaps, "the line is broken there"


def test_a_ratio_that_few_values_carry_is_hollow_with_the_other_mean_beside_it() -> None:
    values = moving(0.5, maps=8)
    values[..., 0] = 0.001 * moving(200.0, maps=8)[..., 0]
    results = moved_of({"a": values, "b": moving(0.5)})
    (a, b) = movement_of(results).sites
    assert a.apart
    assert not b.apart
    figure = plot(results, "movement")
    assert dots(figure, "|") == pytest.approx([a.other])
    assert "carried by a few values" in legend(figure)
    assert "The mean of ratios and the ratio of means tell different stories: a" in doubts(results)
    assert "different stories" not in doubts(turned())


def test_large_ratios_get_an_axis_whose_steps_double() -> None:
    assert plot(turned(), "movement").axes[0].get_xscale() == "linear"
    assert plot(moved_of({"a": moving(40.0)}), "movement").axes[0].get_xscale() == "function"


def test_several_networks_share_one_picture_over_their_depth() -> None:
    deep = moved_of({INPUT: moving(1.0), **{f"l{k}": moving(0.1 * k + 0.1) for k in range(8)}})
    figure = plot({"plain": turned(), "deep": deep, "untrained": turned()}, "movement")
    lines = [line for line in figure.axes[0].lines if line.get_marker() in ("o", "s", "^")]
    assert [(line.get_xdata()[0], line.get_xdata()[-1], len(line.get_xdata())) for line in lines] == [
        (0, 100, 4),
        (0, 100, 9),
        (0, 100, 4),
    ]
    assert lines[1].get_ydata() == pytest.approx([1.0, *(0.1 * k + 0.1 for k in range(8))], rel=1e-4)
    assert "deep: 48 % right, transformed" in legend(figure)
    accuracy = plot({"plain": turned(), "deep": deep}, "accuracy")
    assert len([line for line in accuracy.axes[0].lines if line.get_marker() in ("o", "s")]) >= 2


def test_epochs_are_followed_in_one_picture() -> None:
    training = {k: moved_of({"a": moving(1.2 - 0.3 * k), "b": moving(0.5)}) for k in range(3)}
    lines = plot(training, "movement").axes[0].lines
    (a,) = [line for line in lines if line.get_marker() == "o"]
    assert list(a.get_xdata()) == [0, 1, 2]
    assert a.get_ydata() == pytest.approx([1.2, 0.9, 0.6], rel=1e-4)
    states: Any = plot({1: usual(), 5: usual()})
    hollow = [
        line for line in states.axes[0].lines if line.get_marker() == "s" and line.get_markerfacecolor() == "#ffffff"
    ]
    assert [list(line.get_xdata()) for line in hollow] == [[1, 5]], "an undersampled layer is hollow"
    with pytest.raises(DataError, match=r"'maps' is not drawn over epochs. Choose 'states' or 'movement'"):
        plot(training, "maps")


def test_what_cannot_be_drawn_together_is_refused() -> None:
    with pytest.raises(DataError, match=r"'maps' of 2 networks. Several share 'movement' and 'accuracy'"):
        plot({"a": turned(), "b": turned()}, "maps")
    with pytest.raises(DataError, match=r"of 1 networks"):
        plot({"a": turned()}, "movement")
    with pytest.raises(
        DataError, match=r"'movement' shows what was not measured here. They can show 'states', 'samples', 'units'"
    ):
        plot({"a": turned(), "b": usual()}, "movement")


def test_a_picture_of_what_was_not_measured_is_refused() -> None:
    with pytest.raises(
        DataError,
        match=r"'states' shows what was not measured here. They can show 'movement', 'accuracy', 'maps', 'convergence'",
    ):
        plot(turned(), "states")
    with pytest.raises(DataError, match=r"there is no picture of what was measured here\. Read results\.table"):
        plot(replaced(usual(), values={}, measures=[Distance()]))


def replaced(results: Results, *, values: Any = None, measures: Any = None) -> Results:
    seen = results.values_by_site if values is None else values
    return Results(
        results.layers, seen, results.measures if measures is None else measures, results.manifest, results.task
    )


@pytest.mark.parametrize("maps", [1, 6, 200, 2048])
@pytest.mark.parametrize("lost", [0, 1, 5])
def test_every_column_is_a_map_and_undefined_ones_are_last(maps: int, lost: int) -> None:
    ratios = np.random.default_rng(maps).random(maps)
    ratios[: min(lost, maps)] = np.nan
    columns = sorted_maps(ratios)
    known = columns[~np.isnan(columns)]
    assert len(columns) == COLUMNS
    assert not np.isnan(columns[: len(known)]).any()
    assert (np.diff(known) >= 0).all()
    assert {*known.tolist()} <= {*ratios.tolist()}
    defined = ratios[~np.isnan(ratios)]
    if defined.size:
        assert (known[0], known[-1]) == (defined.min(), defined.max())
    assert (len(known) < COLUMNS) == (lost > 0), "an undefined map is never lost among many"


def test_maps_without_a_ratio_are_hatched() -> None:
    figure = plot(moved_of({"a": with_dead(6, 2), "b": moving(0.5)}), "maps")
    hatched = [patch for patch in figure.axes[0].patches if patch.get_hatch()]
    assert [(patch.get_x(), patch.get_width()) for patch in hatched] == [(pytest.approx(66.5), pytest.approx(33.5))]
    assert "2 undefined" in "\n".join(t.get_text() for t in figure.axes[0].texts)
    assert [image.get_cmap().name for image in figure.axes[0].images] == ["cividis"] * 2


def test_accuracy_stands_over_the_transformations_with_the_untransformed_ringed() -> None:
    figure = plot(turned(), "accuracy")
    (ring,) = [line for line in figure.axes[0].lines if line.get_markersize() == 11]
    assert (ring.get_xdata()[0], ring.get_ydata()[0]) == (0, pytest.approx(0.9))
    (drawn,) = [line for line in figure.axes[0].lines if line.get_markersize() == 5]
    assert drawn.get_ydata() == pytest.approx([0.9, 0.4, 0.2, 0.4])
    assert [t.get_text() for t in figure.axes[0].get_xticklabels()] == ["0°", "90°", "180°", "270°"]
    assert short_labels(["rotate 0°, shift", "flip x"])[1] == ""


def test_the_interval_of_a_share_is_wilsons() -> None:
    stats = pytest.importorskip("scipy.stats")
    for right, n in ((0, 10), (9, 10), (290, 1000)):
        exact = stats.binomtest(right, n).proportion_ci(method="wilson")
        assert wilson(right / n, n) == pytest.approx((exact.low, exact.high), abs=1e-6)


def test_curves_end_at_nothing_and_half_is_half() -> None:
    movement = movement_of(turned())
    lines = lines_of(movement)
    assert lines
    for _, curve in lines:
        for points, what in ((curve.over_samples, "samples"), (curve.over_transformations, "transformations")):
            found = relative(points, what)
            assert found[-1][1] == pytest.approx(0, abs=1e-12)
            assert halved(points, what) in [change for n, change, *_ in found if 2 * n <= found[-1][0]]


# --- words -----------------------------------------------------------------------------------------------------------------------


def test_the_answer_says_how_far_the_last_layer_moves_and_what_becomes_of_the_task() -> None:
    said = str(answer(Facts(turned())))
    assert said.startswith(
        "Rotating the input moves fc, the last layer that was read, less than swapping the sample does: 0.25 ["
    )
    assert said.endswith("Untransformed, 90 % of samples are right; over all 4 transformations, 48 %.")
    assert "further than" in str(answer(Facts(moved_of({"a": moving(1.4)}))))
    assert "about as far as" in str(answer(Facts(moved_of({"a": moving(1.0)}))))
    assert str(answer(Facts(moved_of({"a": np.ones((9, 4, 1, 2))})))) == "None of the 1 layers has a movement ratio."
    assert str(
        answer(Facts(moved_of({"a": moving(0.5)}, names=["blur", "wash", "fade", "x"], accuracy=())))
    ).startswith("Transforming the input")


def test_the_words_name_layers_references_and_maps() -> None:
    values = {"conv_1": moving(1.4, maps=6), "conv_2": moving(1.2, maps=6), "fc": moving(1.1, maps=6)}
    said = words(turned(references={"untrained": values}))
    assert "(60 samples, 4 transformations); in the untrained network 1.10 [" in said
    assert "The input itself moves 1.40 [" in said
    assert "The ratio falls most from conv_2 (1.30) to fc (0.25)." in said
    assert (
        "Untransformed, 90 % of samples are right; fewest, 20 %, under rotate 180°. Over all, 48 %; in the untrained network 48 %."
        in said
    )
    assert "The most invariant of 18 feature maps is map" in said
    assert "state" not in said


def test_layers_that_cannot_be_told_apart_are_not_ranked() -> None:
    said = words(moved_of({f"l{k}": moving(1.0, seed=k) for k in range(4)}))
    assert "No layer moves less than another beyond what other samples could change." in said
    assert "falls most" not in said


def test_what_is_few_undefined_or_missing_is_doubted() -> None:
    results = moved_of({"a": with_dead(6, 2), "b": np.ones((60, 4, 2, 3))}, unreached=["never"])
    said = doubts(results)
    assert "Few samples: a spread over 60 of them is uncertain by about 9 %." in said
    assert "Few transformations: 4 stand for all there could be" in said
    assert "2 feature maps have no ratio at any place: a (2)." in said
    assert "a 4 of 12 (dead)" in said
    assert "No ratio for b: no value has a ratio." in said or "No ratio for b" in said
    assert "No ratio for never: never reached by the data." in said
    assert "Ratios compare mean standard deviations; a layer's is the mean of ratios over its values." in said
    assert "not what other transformations or another training run would." in said
    many = doubts(
        moved_of({"a": moving(0.5, samples=200, T=8)}, names=[f"rotate {45 * k}°" for k in range(8)], accuracy=())
    )
    assert "Few" not in many
    assert "How well the model does its task is not known" in many


def test_both_kinds_are_told_on_one_page() -> None:
    moved, states = turned(), results_of({"relu": narrow()})
    layers = type(moved.layers)([*moved.layers, *states.layers])
    both = Results(
        layers,
        {**moved.values_by_site, **states.values_by_site},
        [*moved.measures, Entropy()],
        moved.manifest,
        moved.task,
    )
    read = Page(page(both))
    for part in ("movement", "accuracy", "maps", "convergence", "states", "samples", "units"):
        assert part in read.ids
    assert "Rotating the input moves fc" in read.text
    assert "The only layer that was read can be measured with 60 samples" in read.text or "can be measured" in read.text
    assert "How far each layer moves" in read.text
    assert "What each layer's states carry" in read.text


def test_the_page_of_movement_alone_says_nothing_of_states() -> None:
    read = Page(page(turned(references={"untrained": {"fc": moving(1.1, maps=6)}})))
    for fact in (
        "movement ratio 0.25 of the last layer, fc", "transformations 4 rotate 0° … rotate 270°", "240 forwards", "the same in untrained",
        "Most and least invariant feature maps", "rotate 0°, rotate 90°, rotate 180°, rotate 270°", "Maps count from 0",
        "accuracy 47.5 % on 60 samples × 4 transformations",
    ):  # fmt: skip
        assert fact in read.text, fact
    for other in ("measurable layers", "firing", "saturated", "coverage", "bits"):
        assert other not in read.text, other
    assert {"states", "samples", "units"}.isdisjoint(read.ids)


def test_a_page_of_other_measures_still_lists_every_reading() -> None:
    empty = {layer.site: {} for layer in turned().layers.read}
    results = replaced(turned(), measures=[Distance()], values=empty)
    read = Page(page(results))
    assert "3 layers were read with 60 samples; what was measured is in the table." in read.text
    assert "4 readings that were asked for" in read.text
    assert "No layer has an interval" in read.text
    assert "sites 4 of 4 were read" in read.text


def test_every_name_of_movement_is_escaped() -> None:
    evil = EVIL + "<img src=x onerror=alert(2)>"
    values = {evil: moving(0.5), f"{evil} dead": np.zeros((60, 4, 2, 3))}
    results = moved_of(
        values,
        references={evil: values},
        names=[evil, evil, "b", "c"],
        unreached=[f"{evil} never"],
        kind=evil,
        note=evil,
    )
    read = Page(page(results))
    assert {tag for tag, _ in read.tags}.isdisjoint({"script", "img", "i"})
    assert read.fetched() == []


def test_the_terminal_shows_a_row_per_site() -> None:
    said = text(turned())
    assert "48 %" in said
    assert "of 60 samples × 4 transformations right" in said
    (line,) = [line for line in said.splitlines() if line.startswith("fc ")]
    assert "0.25 [" in line
    assert "0 of 12" in line


def test_a_saved_file_gives_the_same_page(tmp_path: Any) -> None:
    results = turned(references={"untrained": {"fc": moving(1.1, maps=6)}})
    results.save(tmp_path / "a.lscope")
    assert page(Results.load(tmp_path / "a.lscope")) == page(results)

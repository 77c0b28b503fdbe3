"""Plain words and what to distrust: each sentence is there when it should be, and only then."""

import numpy as np
import pytest

from layerscope import Results
from layerscope._results import Task
from layerscope.report._facts import Facts
from layerscope.report._sentence import Sentence, name
from layerscope.report._state_facts import states_of
from layerscope.report._state_words import possible
from layerscope.report._words import answer, distrust, plain_words
from tests.unit.report.made import EVIL, halfway, narrow, results_of, usual, wide


def words(results: Results) -> str:
    return "\n".join(map(str, plain_words(Facts(results))))


def doubts(results: Results) -> str:
    return "\n".join(map(str, distrust(Facts(results))))


def answered(results: Results) -> str:
    return str(answer(Facts(results)))


# --- the answer ------------------------------------------------------------------------------------------------------------------


def test_the_answer_says_which_layers_cannot_be_measured() -> None:
    said = answered(usual())
    assert said.startswith("1 of 2 layers can be measured with 400 samples: conv_1.")
    assert "conv_2 is too wide for so few" in said


def test_the_answer_when_all_or_none_can_be_measured() -> None:
    assert (
        answered(results_of({"a": narrow(), "b": narrow()}))
        == "All 2 layers that were read can be measured with 400 samples."
    )
    assert answered(results_of({"a": narrow()})).startswith("The only layer that was read")
    none = answered(results_of({"a": wide(), "b": wide()}))
    assert none.startswith("None of the 2 layers can be measured: they are too wide for 400 samples.")
    assert "do not compare" in none
    assert answered(results_of({"a": wide()})).startswith("The layer is too wide")


def test_the_answer_counts_layers_without_a_number() -> None:
    assert "1 gave no number at all" in answered(results_of({"a": narrow()}, unreached=["b"]))
    assert answered(results_of({}, unreached=["b"])) == "None of the 1 layers gave a number."
    assert answered(results_of({})) == "No layer was read, so nothing was measured."


def test_many_wide_layers_are_counted_and_not_listed() -> None:
    many = {f"l{k}": wide(units=40 + k) for k in range(9)}
    assert "The other 9 are too wide" in answered(results_of({"good": narrow(), **many}))


# --- in plain words --------------------------------------------------------------------------------------------------------------


def test_a_measured_layer_is_told_with_its_numbers() -> None:
    said = words(usual())
    assert "conv_1 uses all of its patterns: 8 of 8, " in said
    assert (
        "3.00 [2.99, 3.00] of 3 bits, > 99.9 % of what its firing rates allow; going from 200 to 400 samples moved its plain"
        in said
    )
    assert "a plain count reads" not in said


def test_a_plain_count_that_is_low_stands_beside() -> None:
    results = results_of({"a": narrow(units=9, samples=600, positions=1)})
    (site,) = states_of(results).sites
    assert site.measured
    assert f"; a plain count reads {float(site.entropy):.2f}; going from" in words(results)


def test_an_undersampled_layer_is_a_bound_and_never_ranked() -> None:
    results = results_of({"a": narrow(), "wide": wide(), "b": narrow(units=5, seed=3)})
    said = words(results)
    assert (
        "wide was not measured: 100 % of further observations would be new states; its entropy is 14.41 to 60.00 of 60 bits"
        in said
    )
    assert (
        "and the plain count, 8.64, says mostly how many samples there were. Coverage of 90 % would take at least"
        in said
    )
    (ranking,) = [line for line in said.splitlines() if "largest share" in line]
    assert "wide" not in ranking, "its bounds reach to 60 of 60 bits"
    assert "Of the 2 layers that can be compared" in ranking
    assert "largest share" not in words(usual()), "one layer alone is not ranked"


def test_a_layer_whose_bounds_lie_apart_is_ranked() -> None:
    values = np.repeat(wide(units=8, samples=400, positions=1), 10, axis=2)
    values[:, :, :64] = wide(units=64, samples=400, positions=1)
    sparse = -np.abs(narrow(samples=400))
    sparse[:4] *= -1
    results = results_of({"wide": values, "sparse": sparse})
    order = states_of(results)
    assert order.undersampled[0].efficiency.low > float(order.measured[0].efficiency)
    said = words(results)
    assert "Of the 2 layers that can be compared, wide uses the largest share of its room (" in said
    assert ", sparse the smallest" in said


def test_an_extrapolation_is_called_one() -> None:
    said = words(results_of({"a": halfway()}))
    assert "a is an extrapolation: " in said
    assert "its entropy is ≈ " in said
    assert "Do not compare" not in said
    assert "Do not compare layers whose bounds overlap." in words(results_of({"a": halfway(), "b": wide()}))


def test_training_is_told_only_where_both_readings_are_measured() -> None:
    before = {"conv_1": np.abs(narrow()) * [[[1, 1, -1]]], "conv_2": wide(seed=5)}
    said = words(usual(untrained=before))
    assert "Training moved conv_1 from 0 to 3 bits." in said
    assert "Training moved no entropy" in words(usual(untrained={"conv_1": narrow(), "conv_2": wide()}))
    assert "Training" not in words(usual())


def test_dead_and_constant_units_are_counted_with_their_layer() -> None:
    values = narrow(units=4)
    values[:, :, 0], values[:, :, 1] = -1, 1
    said = words(results_of({"a": values, "b": narrow()}))
    assert "1 of 7 units never fired on these data: a (1)." in said
    assert "1 of 7 units always fired on these data: a (1)." in said
    assert "No unit is dead or always on: all 63 fired at times" in words(usual())


def test_copies_are_told() -> None:
    values = narrow(units=4)
    values[:, :, 3] = values[:, :, 0] * 2
    assert "1 unit only repeats another one of the same layer: a (1)." in words(results_of({"a": values}))
    assert "repeat" not in words(usual())


def test_a_constant_layer_is_no_use_of_patterns() -> None:
    assert "a is constant: one pattern in all 50 observations" in words(results_of({"a": -np.ones((50, 1, 4))}))


def test_where_nothing_is_known_the_words_say_so() -> None:
    assert words(results_of({}, unreached=["b"])) == "Nothing can be said about these layers: see what to distrust."


def test_patterns_of_wide_layers_are_powers() -> None:
    assert possible(20) == "1,048,576"
    assert possible(1536) == "2¹⁵³⁶"


# --- what to distrust ------------------------------------------------------------------------------------------------------------


def test_distrust_is_never_empty() -> None:
    assert doubts(results_of({"a": narrow(positions=1)})).startswith("Intervals (95 %) say what other samples")
    assert "No layer has an interval." in doubts(results_of({"a": wide()}))


def test_samples_that_came_twice_are_told() -> None:
    values = narrow(units=11, samples=300)
    results = results_of({"a": np.concatenate([values, values])})
    assert "The same samples may have come twice. At a, every state occurs in a multiple of 2 samples" in doubts(
        results
    )
    assert "came twice" not in doubts(usual())


def test_undersampled_layers_are_named_with_their_coverage() -> None:
    assert "Undersampled: conv_2 (saturated, coverage 0 %)." in doubts(usual())
    assert "Undersampled" not in doubts(results_of({"a": narrow()}))
    many = {f"l{k}": wide(units=40 + k) for k in range(9)}
    assert "9 layers; least covered l0 (0 %), l1 (0 %), l2 (0 %) and 6 more" in doubts(results_of(many))


def test_positions_are_not_taken_for_samples() -> None:
    assert "conv_1 rests on 400 samples, not on 1,600 independent observations" in doubts(usual())
    assert "depend on each other" not in doubts(results_of({"a": narrow(positions=1)}))


def test_values_that_are_not_finite_are_told() -> None:
    values = narrow()
    values[0, 0, 0], values[1, 0, :2] = np.nan, np.inf
    assert "not finite: a (1 NaN, 2 infinite)" in doubts(results_of({"a": values}))
    assert "not finite" not in doubts(usual())


def test_masked_rows_are_told() -> None:
    mask = np.ones((400, 4), np.bool_)
    mask[:, 3] = False
    assert "up to 400 rows a layer" in doubts(results_of({"a": narrow()}, mask=mask))
    assert "Masked" not in doubts(usual())


def test_sites_left_out_are_counted_with_the_commonest_reason() -> None:
    assert "1 of 3 sites were not read (all: normalisation: no unit of its own fires)." in doubts(usual())
    reasons = {"a": "same values as b", "c": "same values as d", "e": "excluded"}
    assert "3 of 4 sites were not read (2: same values as another site)." in doubts(
        results_of({"f": narrow()}, left_out=reasons)
    )


def test_layers_without_a_number_are_told_with_the_reason() -> None:
    said = doubts(results_of({"s": np.ones((50, 1, 4))}, unreached=["never"]))
    assert "No number for s: all 4 units were above 0 in all 50 observations" in said
    assert "No number for never: never reached by the data" in said
    many = doubts(results_of({}, unreached=[f"n{k}" for k in range(7)]))
    assert "No number for 3 more sites" in many


def test_a_curve_that_still_rises_is_told() -> None:
    rising = results_of({"a": narrow(units=9, samples=3000, positions=1)})
    (site,) = states_of(rising).sites
    assert site.measured
    assert site.growth >= 0.1, "otherwise this test tests nothing"
    assert "Plain counts that still rise with the last doubling of the samples: a (+" in doubts(rising)
    assert "still rise" not in doubts(usual())


def test_notes_of_layers_and_a_missing_accuracy_are_told() -> None:
    assert "a: unit axis by rank." in doubts(results_of({"a": narrow()}, note="unit axis by rank"))
    assert "2 more layers have a note" in doubts(results_of({k: narrow() for k in "abcd"}, note="unit axis by rank"))
    assert "is not known: the data has no labels" in doubts(usual(task=Task(note="the data has no labels")))
    assert "is not known" not in doubts(usual())


# --- sentences -------------------------------------------------------------------------------------------------------------------


def test_a_name_is_escaped_in_html_and_itself_in_text() -> None:
    said = Sentence(f"{name(EVIL)} uses few.")
    assert "<script" not in said.html()
    assert "<b>&lt;script&gt;" in said.html()
    assert str(said) == f"{EVIL} uses few."


def test_a_name_cannot_forge_the_marks_of_a_name() -> None:
    assert Sentence(name("a\ue001<i>\ue000b")).html().count("<b>") == 1


@pytest.mark.parametrize(("given", "said"), [("3", "layer 3"), ("3.1", "layer 3.1"), ("conv3", "conv3")])
def test_a_name_of_digits_is_called_a_layer(given: str, said: str) -> None:
    assert str(Sentence(name(given))) == said

"""The terminal's version: the same facts, aligned."""

from layerscope._results import Task
from layerscope.report import text
from tests.unit.report.made import narrow, results_of, usual


def test_the_table_is_aligned_and_marks_bounds() -> None:
    lines = text(usual()).splitlines()
    (head,) = [k for k, line in enumerate(lines) if line.startswith("site ")]
    table = [lines[head], *lines[head + 2 : head + 4]]
    assert table[1].startswith("conv_1  ReLU")
    assert "≥ 8.64" in table[2]
    end = lines[head].index("coverage") + len("coverage")
    assert [line[:end].split()[-2:] for line in table[1:]] == [["100", "%"], ["0", "%"]]
    assert all(line[end] == " " for line in table)


def test_answer_words_and_doubts_are_there_in_this_order() -> None:
    said = text(usual())
    parts = [
        "Net: 95 % of 400 samples right",
        "1 of 2 layers can be measured",
        "site ",
        "In plain words",
        "What to distrust",
        "Intervals (95 %)",
    ]
    places = [said.index(part) for part in parts]
    assert places == sorted(places)
    assert "\ue000" not in said
    assert "<b>" not in said


def test_sentences_fit_the_width() -> None:
    assert max(map(len, text(usual(), 60).split("In plain words")[1].splitlines())) <= 60


def test_a_site_without_a_number_keeps_its_row() -> None:
    row = next(
        line for line in text(results_of({"a": narrow()}, unreached=["b"])).splitlines() if line.startswith("b ")
    )
    assert row.split()[3:] == ["-"] * 10


def test_scores_and_missing_labels_are_told() -> None:
    assert text(usual(task=Task(note="the data has no labels"))).startswith(
        "Net: 400 samples; accuracy unknown, the data has no labels"
    )
    assert text(usual(task=Task(120.0, 400, "word overlap", ""))).startswith("Net: 400 samples; word overlap 0.3")


def test_nothing_read_is_said() -> None:
    assert "No layer was read" in text(results_of({}))

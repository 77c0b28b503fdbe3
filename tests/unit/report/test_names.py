"""Names from users in pictures and sentences."""

import pytest

from layerscope.report._names import blocks, listed, plain, rough, short_blocks, shorten


def test_a_long_name_keeps_its_beginning_and_more_of_its_end() -> None:
    name = "encoder.layer.0.attention.output.dense"
    for most in range(8, 60):
        short = shorten(name, most)
        assert len(short) <= most
        start, cut, end = short.partition("…")
        assert name.startswith(start)
        assert name.endswith(end)
        assert bool(cut) == (most < len(name))


def test_control_and_direction_characters_do_not_reach_the_page() -> None:
    assert plain("a\n\tb\x00\u202ec") == "a  b  c"
    assert plain("") == "(no name)"
    assert plain("层.é") == "层.é"


def test_blocks_follow_the_numbers_of_a_path() -> None:
    names = [f"encoder.layer.{k}.{part}" for k in range(3) for part in ("fc", "act", "norm")]
    assert blocks(names) == [f"encoder.layer.{k}" for k in range(3) for _ in range(3)]
    assert blocks([f"{k}.relu" for k in range(5)]) == [""] * 5, "a block a layer groups nothing"
    assert blocks([]) == []


def test_short_blocks_stay_apart() -> None:
    assert short_blocks(["a.layer.0", "a.layer.1"]) == ["layer.0", "layer.1"]
    assert short_blocks(["a.layer.0", "b.layer.0"]) == ["a.layer.0", "b.layer.0"]


@pytest.mark.parametrize(
    ("share", "said"),
    [(0.0, "0 %"), (0.0004, "< 0.1 %"), (0.5, "50 %"), (0.9949, "99 %"), (0.9999, "> 99.9 %"), (1.0, "100 %")],
)
def test_a_share_is_never_rounded_to_certainty(share: float, said: str) -> None:
    assert rough(share) == said


def test_lists_are_cut_only_where_that_saves_something() -> None:
    assert listed(["a"]) == "a"
    assert listed(list("abcde"), 4) == "a, b, c, d and e"
    assert listed(list("abcdef"), 4) == "a, b, c, d and 2 more"

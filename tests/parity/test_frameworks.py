"""One net, five frameworks: `ls.examine` reads the same places by default, and at each the same states.

The expected states come from two sides: plain NumPy in float64, and PyTorch.  A unit whose pre-activation is within rounding of zero may
fire in one framework and not in another: where any bit differs, the activation must be below 1e-5 on both sides, and the number of such
bits is reported.  Where none differs, counts and entropies must be equal to the bit.

Which site stands for which place is not written down here: the values tell.  `docs/parity.md` shows what was found, and is compared with it.
To print its tables, and how many bits differ on this machine:  KERAS_BACKEND=… .venv/bin/python -m tests.parity.test_frameworks
"""

import functools
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import layerscope as ls
from layerscope.inventory import Layer
from layerscope.testing import models
from tests.conftest import require
from tests.parity.nets import CASES, FRAMEWORKS, Framework

require("sklearn")  # the digits

PAGE = Path(__file__).resolve().parents[2] / "docs" / "parity.md"
SAMPLES = 100
NEAR_ZERO = 1e-5
"""Sums of a few hundred float32 products of the order of 1 are right to about 1e-6."""
PARTS = ("query", "key", "value")
ROUNDING = 1e-12
"""Of an entropy in bits, summed in another order."""


@dataclass(frozen=True)
class Seen:
    """What was seen at one place.

    **Fields:** `site` its name; `values` and `fired` (observations, units), padding left out; `counts` how often each state came, by its
    bytes; `entropy` in bits.
    """

    site: str
    values: NDArray[Any]
    fired: NDArray[np.bool_]
    counts: dict[bytes, int]
    entropy: float


@functools.cache
def by_numpy(net: Any, samples: int = SAMPLES) -> dict[str, Seen]:
    """The reference: states are the signs of float64 activations, counted by NumPy."""
    batch = models.batch(net, samples)
    found: dict[str, Seen] = {}
    for place, values in models.reference(net, models.weights(net), batch).items():
        rows = kept(values, batch)
        found[place] = Seen(place, rows, rows > 0, *counted(rows > 0))
    return found


@functools.cache
def built(framework: Framework, net: Any) -> tuple[Any, dict[str, Any]]:
    """The model with the weights of the reference, and what else it takes to look at it."""
    return framework.asked(framework.build(net, models.weights(net)))


@functools.cache
def by_framework(
    framework: Framework, net: Any, samples: int = SAMPLES, *, amp: str | None = None, parts: bool = False
) -> dict[str, Seen]:
    """What `ls.examine` reads, {place: what was seen}, in the order of the forward pass: by default, or `parts` of attention."""
    batch = models.batch(net, samples)
    given = framework.given(batch)
    model, more = built(framework, net)
    more = {**more, "layers": is_part if parts else None}
    results = ls.examine(model, given, keep_rows=True, amp=amp, **more)
    values = ls.activations(model, given, **more)
    expected = by_numpy(net, samples)
    found: dict[str, Seen] = {}
    for site in results:
        view = results[site]
        axes, units = view.layer.axes, view.layer.units
        rows = kept(np.moveaxis(values[site], (axes.sample, axes.unit), (0, -1)), batch)
        fired = np.unpackbits(view.raw_states, axis=1, count=units, bitorder="little").astype(bool)
        counts = dict(zip(view.state_ids(), view.counts().tolist(), strict=True))
        seen = Seen(site, rows, fired, counts, float(view.entropy()))
        assert view.state_count == len(fired), f"{site}: {view.state_count} states counted, {len(fired)} kept"
        assert (seen.counts, pytest.approx(seen.entropy, abs=ROUNDING)) == counted(fired), f"{site}: miscounted"
        place = place_of(seen, expected)
        assert place not in found, f"{site} and {found[place].site} are both read, and are both {place}"
        found[place] = seen
    return found


def kept(values: NDArray[Any], batch: Mapping[str, NDArray[Any]]) -> NDArray[Any]:
    """Activations (samples, *positions, units) as rows, those of padding tokens left out where there are tokens."""
    mask = batch.get("attention_mask")
    if mask is not None and values.shape[1:2] == mask.shape[1:] and values.ndim > 2:
        values = values[mask > 0]
    return values.reshape(-1, values.shape[-1])


def counted(fired: NDArray[np.bool_]) -> tuple[dict[bytes, int], float]:
    """How often each state is there, and the entropy of that, by NumPy alone."""
    states, n = np.unique(np.packbits(fired, axis=1, bitorder="little"), axis=0, return_counts=True)
    share = n / n.sum()
    counts = dict(zip((state.tobytes() for state in states), n.tolist(), strict=True))
    return counts, float(-(share * np.log2(share)).sum())


def place_of(seen: Seen, expected: Mapping[str, Seen]) -> str:
    """The place whose values a site has; heads of attention may share the axis of units, or have one of their own."""
    alike = [
        place
        for place, one in expected.items()
        if one.values.size == seen.values.size
        and np.allclose(seen.values.reshape(one.values.shape), one.values, rtol=0, atol=1e-4)
    ]
    assert len(alike) == 1, f"{seen.site} {seen.values.shape} is none of the places of the net: {alike}"
    return alike[0]


def check_alike(left: Seen, right: Seen) -> tuple[int, int]:
    """Assert that both saw the same states but for units at zero.  Gives the numbers of rows and of bits that differ."""
    assert left.fired.size == right.fired.size, f"{left.site} {left.fired.shape}, {right.site} {right.fired.shape}"
    other = replace(right, values=right.values.reshape(left.values.shape), fired=right.fired.reshape(left.fired.shape))
    differ = left.fired != other.fired
    size = np.maximum(np.abs(left.values), np.abs(other.values))[differ]
    assert (size < NEAR_ZERO).all(), (
        f"{left.site} and {right.site}: {differ.sum()} bits differ, one where the activation is {size.max()}"
    )
    if left.fired.shape == right.fired.shape and not differ.any():
        assert left.counts == right.counts, f"{left.site}, {right.site}: the same rows were counted otherwise"
        assert abs(left.entropy - right.entropy) < ROUNDING, (
            f"{left.site}, {right.site}: the same counts have two entropies"
        )
    return int(differ.any(axis=1).sum()), int(differ.sum())


def check_net(seen: Mapping[str, Seen], expected: Mapping[str, Seen]) -> tuple[int, int]:
    """Assert that every place was read with the same units and rows, and the same states; the numbers of rows and bits that differ."""
    missing = [place for place in must_be_read(expected) if place not in seen]
    assert not missing, f"not read: {', '.join(missing)}"
    for place in must_be_read(expected):
        assert seen[place].fired.shape == expected[place].fired.shape, f"{place}: {seen[place].fired.shape}"
    differing = [check_alike(seen[place], expected[place]) for place in seen if place in expected]
    return sum(rows for rows, _ in differing), sum(bits for _, bits in differing)


def must_be_read(places: Mapping[str, Any]) -> list[str]:
    """Everything but the logits, and what is inside an attention, which is read as one."""
    return [place for place in places if place != "logits" and place.rpartition(".")[2] not in PARTS]


def is_part(layer: Layer) -> bool:
    """Whether a layer makes queries, keys or values."""
    return layer.site.path.rpartition(".")[2].removesuffix("_proj") in PARTS


# --- the tests -------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("framework", "net"), CASES)
def test_the_states_are_those_of_numpy(framework: Framework, net: Any, record_property: Any) -> None:
    rows, bits = check_net(by_framework(framework, net), by_numpy(net))
    record_property("differing_rows", rows)
    record_property("differing_bits", bits)


@pytest.mark.parametrize(("framework", "net"), CASES[3:])
def test_the_states_are_those_of_pytorch(framework: Framework, net: Any, record_property: Any) -> None:
    require("torch")
    rows, bits = check_net(by_framework(framework, net), by_framework(FRAMEWORKS[0], net))
    record_property("differing_rows", rows)
    record_property("differing_bits", bits)


@pytest.mark.parametrize(("framework", "net"), CASES)
def test_accuracy_and_states_of_batches_that_do_not_divide(framework: Framework, net: Any) -> None:
    """100 samples in batches of 32, the last one padded: no padded sample is counted or scored, whichever the framework."""
    batch, expected = models.batch(net, SAMPLES), by_numpy(net)
    logits = expected["logits"].values
    labels = (logits.argmax(axis=1) + (np.arange(SAMPLES) % 4 == 0)) % logits.shape[1]  # every fourth is wrong
    model, more = built(framework, net)
    results = ls.examine(model, (framework.given(batch), labels), batch_size=32, **more)
    assert results.accuracy is not None
    assert (float(results.accuracy), results.accuracy.observations) == (0.75, SAMPLES)
    for place, whole in by_framework(framework, net).items():
        view = results[whole.site]
        assert view.state_count == len(whole.fired), f"{place}: {view.state_count} observations"
        counts = dict(zip(view.state_ids(), view.counts().tolist(), strict=True))
        moved = sum(abs(counts.get(state, 0) - whole.counts.get(state, 0)) for state in counts | whole.counts)
        close = (np.abs(expected[place].values) < NEAR_ZERO) & (expected[place].values != 0)
        assert moved <= 2 * close.any(axis=1).sum(), (
            f"{place}: {moved} rows counted otherwise, {close.sum()} units are at zero"
        )


@pytest.mark.parametrize(("framework", "net"), [c for c in CASES[3:] if c.values[1] == "transformer"])
def test_parts_of_attention_can_be_asked_for(framework: Framework, net: Any) -> None:
    """PyTorch has none: its attention is one function."""
    expected = by_numpy(net)
    seen = by_framework(framework, net, parts=True)
    assert [*seen] == [place for place in expected if place.rpartition(".")[2] in PARTS]
    for place, one in seen.items():
        assert one.fired.shape[-1] in (8, 16), "heads are positions where they have an axis of their own, else units"
        check_alike(one, expected[place])


@pytest.mark.parametrize(("framework", "net"), CASES)
def test_the_page_names_the_sites(framework: Framework, net: Any) -> None:
    written = tables(PAGE.read_text(encoding="utf-8"))[net][framework.name]
    assert written == {place: seen.site for place, seen in by_framework(framework, net).items()}
    model, more = built(framework, net)
    listed = ls.layers(model, framework.given(models.batch(net, 3)), **more)
    assert [str(layer.site) for layer in listed.read] == [*written.values()]


# --- canaries: each checker rejects what is wrong --------------------------------------------------------------------------------


@pytest.mark.parametrize("net", models.NETS)
def test_a_wrong_bit_is_seen(net: Any) -> None:
    right = by_numpy(net)
    place = must_be_read(right)[1]
    wrong = right[place].fired.copy()
    at = np.unravel_index(np.argmax(np.abs(right[place].values)), wrong.shape)
    wrong[at] ^= True
    with pytest.raises(AssertionError, match="1 bits differ"):
        check_net({**right, place: replace(right[place], fired=wrong)}, right)


@pytest.mark.torch
@pytest.mark.parametrize("net", models.NETS)
def test_states_in_bf16_are_not_those_of_float32(net: Any) -> None:
    require("torch")
    with pytest.raises(AssertionError, match=r"\d+ bits differ, one where the activation is"):
        check_net(by_framework(FRAMEWORKS[0], net, amp="bf16"), by_numpy(net))


def test_a_bit_at_zero_may_differ_and_is_counted() -> None:
    right = by_numpy("lenet")
    values, fired = right["relu3"].values.copy(), right["relu3"].fired.copy()
    values[5, 7] = values[6, 7] = values[6, 8] = 9e-6
    fired[5, 7] = fired[6, 7] = fired[6, 8] = False
    left = replace(right["relu3"], values=values, fired=fired)
    assert check_alike(left, replace(left, fired=values > 0)) == (2, 3)
    values[5, 7] = 2e-5
    with pytest.raises(AssertionError, match="2e-05"):
        check_alike(left, replace(left, fired=values > 0))


def test_a_place_too_few_another_width_another_count_and_foreign_values_are_seen() -> None:
    right = by_numpy("lenet")
    with pytest.raises(AssertionError, match="not read: relu2"):
        check_net({place: seen for place, seen in right.items() if place != "relu2"}, right)
    relu4 = right["relu4"]
    fewer = replace(relu4, fired=relu4.fired[:-1], values=relu4.values[:-1])
    with pytest.raises(AssertionError, match="relu4"):
        check_net({**right, "relu4": fewer}, right)
    with pytest.raises(AssertionError, match="counted otherwise"):
        check_alike(replace(relu4, counts={**relu4.counts, b"another": 1}), relu4)
    with pytest.raises(AssertionError, match="two entropies"):
        check_alike(replace(relu4, entropy=relu4.entropy + 1e-9), relu4)
    with pytest.raises(AssertionError, match="none of the places"):
        place_of(replace(relu4, values=relu4.values[:, ::-1]), right)


# --- the page --------------------------------------------------------------------------------------------------------------------


def tables(text: str) -> dict[str, dict[str, dict[str, str]]]:
    """The tables of the page, {net: {framework: {place: site}}}."""
    found: dict[str, dict[str, dict[str, str]]] = {}
    for net, table in re.findall(r"^## `(\w+)`.*?\n(\|.*?)\n(?:\n|\Z)", text, re.MULTILINE | re.DOTALL):
        head, _, *rows = ([cell.strip(" `") for cell in line.strip("|").split("|")] for line in table.splitlines())
        found[net] = {name: {row[0]: row[k] for row in rows} for k, name in enumerate(head) if k}
    return found


def table(net: Any) -> str:
    """One table of the page, from what is read."""
    columns = {f.name: by_framework(f, net) for f in FRAMEWORKS if net in f.nets}
    lines = [["", *columns], ["---"] * (1 + len(columns))]
    lines += [[place, *(f"`{seen[place].site}`" for seen in columns.values())] for place in must_be_read(by_numpy(net))]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def differing(samples: int) -> str:
    """How many bits differ from NumPy's on this machine, on so many samples."""
    lines: list[str] = []
    for net in models.NETS:
        for framework in (f for f in FRAMEWORKS if net in f.nets):
            seen = by_framework(framework, net, samples)
            rows, bits = check_net(seen, by_numpy(net, samples))
            size = sum(one.fired.size for one in seen.values())
            lines.append(f"{net}, {framework.name}: {bits} of {size:,} bits in {rows} rows")
    return "\n".join(lines)


if __name__ == "__main__":
    print(*(f"## `{net}`\n\n{table(net)}\n" for net in models.NETS), differing(1797), sep="\n")

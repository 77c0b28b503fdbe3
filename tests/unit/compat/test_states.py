"""Packing, unpacking and sorting of plain arrays: what they take and what they refuse."""

from typing import Any

import numpy as np
import pytest

from layerscope._errors import DtypeError, ShapeError
from layerscope.compat.tensorstate import States, compress_states, decompress_states, sort_states
from tests.conftest import require

VALUES = np.random.default_rng(0).normal(size=(12, 21)).round(1)
BITS = np.packbits(VALUES > 0, axis=1, bitorder="little")


@pytest.mark.parametrize("dtype", ["bool", "int8", "uint8", "int64", "float16", "float32", "float64", ">f4"])
def test_any_real_type_is_packed(dtype: str) -> None:
    x = (VALUES > 0).astype(dtype)
    assert np.array_equal(compress_states(x), BITS)


def frozen(x: Any) -> Any:
    x = x.copy()
    x.flags.writeable = False
    return x


@pytest.mark.parametrize(
    "view",
    [
        lambda x: x.T.copy().T,
        lambda x: np.repeat(x, 2, axis=1)[:, ::2],
        lambda x: x[::-1][::-1],
        frozen,
        np.asfortranarray,
    ],
)
def test_any_strides_are_packed(view: Any) -> None:
    assert np.array_equal(compress_states(view(VALUES)), BITS)


@pytest.mark.torch
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_tensors_are_packed(dtype: str) -> None:
    torch = require("torch")
    x = torch.from_numpy(VALUES).to(getattr(torch, dtype)).requires_grad_()
    assert np.array_equal(compress_states(x), BITS)
    assert np.array_equal(compress_states(x.T.contiguous().T), BITS)


def test_the_functions_live_in_their_module_too() -> None:
    assert (States.compress_states, States.sort_states) == (compress_states, sort_states)


def test_padding_bits_are_zero() -> None:
    assert compress_states(np.ones((1, 9))).tolist() == [[255, 1]]


@pytest.mark.parametrize("shape", [(4,), (2, 3, 4), ()])
def test_rows_of_another_rank_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ShapeError, match=r"\(rows, units\).*reshape\(-1, units\)"):
        compress_states(np.ones(shape))


def test_complex_values_are_refused() -> None:
    with pytest.raises(DtypeError, match="complex"):
        compress_states(np.ones((2, 2), complex))


@pytest.mark.parametrize("units", [0, 8, 17, 25])
def test_units_that_do_not_fill_the_bytes_are_refused(units: int) -> None:
    packed = np.zeros((3, 3 if units != 17 else 4), np.uint8)
    with pytest.raises(ShapeError, match=rf"asked for {units} units, but rows of {packed.shape[1]} bytes hold"):
        decompress_states(packed, units)


@pytest.mark.parametrize("units", [-1, 2.0, True, "8", None])
def test_a_number_of_units_is_a_whole_number(units: Any) -> None:
    with pytest.raises(ShapeError, match=r"num_neurons must be a whole number ≥ 0"):
        decompress_states(np.zeros((3, 1), np.uint8), units)


def test_numpy_integers_are_whole_numbers() -> None:
    assert decompress_states(np.array([[30]], np.uint8), int(np.int64(5))).tolist() == [[False, True, True, True, True]]
    assert sort_states(np.array([[1]], np.uint8), int(np.uint8(1)))[0].tolist() == [0, 1]


@pytest.mark.parametrize("function", [decompress_states, sort_states])
def test_only_packed_states_are_taken(function: Any) -> None:
    with pytest.raises(DtypeError, match=r"packed states are uint8, this array holds float64.*compress_states first"):
        function(np.zeros((3, 1)), 1)
    with pytest.raises(ShapeError, match=r"have shape \(rows, bytes\), this array \(3,\)"):
        function(np.zeros(3, np.uint8), 1)


def test_more_rows_than_there_are_cannot_be_sorted() -> None:
    with pytest.raises(ShapeError, match=r"asked to sort 4 rows, there are 3\. Give state_count ≤ 3"):
        sort_states(np.zeros((3, 1), np.uint8), 4)
    with pytest.raises(ShapeError, match="state_count must be a whole number"):
        sort_states(np.zeros((3, 1), np.uint8), -1)


def test_states_without_units_are_all_equal() -> None:
    edges, index = sort_states(np.zeros((3, 0), np.uint8), 3)
    assert (edges.tolist(), index.tolist()) == ([0, 3], [0, 1, 2])


def test_the_input_is_left_alone() -> None:
    packed = BITS.copy()
    sort_states(packed, len(packed))
    decompress_states(packed, 21)
    assert np.array_equal(packed, BITS)

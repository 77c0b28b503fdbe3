"""Known answers of TensorState's interface.

Packing, entropies and aIQ: TensorState 0.3.0's documentation and arithmetic by hand. LeNet-5: measured with TensorState 0.4.0 (its race
avoided) and equal to plain NumPy; torch 2.13 on another CPU may round a convolution differently, hence 1e-3. State counts: positions
times images, as the documentation's tutorial prints them.
"""

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

import layerscope.compat.tensorstate as ts
from tests.conftest import require

torch = require("torch")
pytestmark = pytest.mark.torch


class LeNet5(torch.nn.Module):
    """The tutorial's network with PyTorch's default initialisation."""

    def __init__(self) -> None:
        super().__init__()
        nn = torch.nn
        self.conv_1 = nn.Conv2d(1, 20, 5)
        self.rest_1 = nn.Sequential(nn.ELU(), nn.BatchNorm2d(20, eps=1e-5, momentum=0.9), nn.MaxPool2d(2, stride=2))
        self.conv_2 = nn.Conv2d(20, 50, 5)
        self.rest_2 = nn.Sequential(nn.ELU(), nn.BatchNorm2d(50, eps=1e-5, momentum=0.9), nn.MaxPool2d(2, stride=2))
        self.conv_3 = nn.Conv2d(50, 100, 4)
        self.rest_3 = nn.Sequential(nn.ELU(), nn.BatchNorm2d(100, eps=1e-5, momentum=0.9), nn.Flatten())
        self.pred = nn.Linear(100, 10)

    def forward(self, data: Any) -> Any:
        x = self.rest_1(self.conv_1(data.view(-1, 1, 28, 28)))
        return self.pred(self.rest_3(self.conv_3(self.rest_2(self.conv_2(x)))))


def lenet() -> Any:
    torch.manual_seed(0)
    return LeNet5().eval()


def test_lenet_has_the_published_numbers() -> None:
    model = lenet()
    images = torch.rand(2000, 784, generator=torch.Generator().manual_seed(1))
    assert ts.build_efficiency_model(model, attach_to=["Conv2d"], method="after") is model
    with torch.no_grad():
        for batch in images.split(200):
            model(batch)
    probes = model.efficiency_layers
    assert [p.name for p in probes] == ["conv_1_post_states", "conv_2_post_states", "conv_3_post_states"]
    assert [p.state_count for p in probes] == [1_152_000, 128_000, 2_000]
    assert [len(p.counts()) for p in probes] == pytest.approx([9874, 8371, 1995], rel=1e-3)
    assert [p.entropy() for p in probes] == pytest.approx([9.2074, 9.2514, 10.9608], rel=1e-3)
    assert [p.efficiency() for p in probes] == pytest.approx([0.460368, 0.185029, 0.109608], rel=1e-3)
    assert [p.max_entropy() for p in probes] == [20.0, 50.0, 100.0]
    assert ts.network_efficiency(model) == pytest.approx(0.210569592, rel=1e-3)


def test_ten_thousand_images_give_the_documented_counts() -> None:
    model = ts.build_efficiency_model(lenet(), attach_to=["Conv2d"])
    with torch.no_grad():
        for _ in range(50):
            model(torch.zeros(200, 784))
    assert [p.state_count for p in model.efficiency_layers] == [5_760_000, 640_000, 10_000]
    assert [p.counts().tolist() for p in model.efficiency_layers] == [[5_760_000], [640_000], [10_000]]


# --- entropy and aIQ -------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("alpha", "bits"), [(1, 1.75), (0, 2.0), (2, 1.540568), (0.5, 1.873504), (np.inf, 1.0), (np.int64(2), 1.540568)]
)
def test_entropy_of_four_states(alpha: float, bits: float) -> None:
    # α = ½: 2 log2(√½ + √¼ + 2 √⅛) = 2 log2(1.9142136)
    assert ts.entropy(np.array([4, 2, 1, 1]), alpha) == pytest.approx(bits, abs=5e-7)
    assert ts.entropy([0, 4, 0, 2, 1, 1, 0], alpha) == ts.entropy([4, 2, 1, 1], alpha)  # zero counts are no states


def test_entropy_of_high_order_does_not_underflow() -> None:
    assert ts.entropy(np.ones(1000), 400) == pytest.approx(9.9658, abs=5e-5)
    assert type(ts.entropy([1, 2])) is float


def test_aiq() -> None:
    assert ts.aIQ(0.5, 0.98, 2) == 0.7830822594569777
    assert ts.aIQ(0.5, 0.98, np.int32(2)) == 0.7830822594569777
    assert ts.aIQ(0.25, 1.0, 1) == 0.5


def test_network_efficiency_is_the_geometric_mean() -> None:
    assert ts.network_efficiency([0.460368, 0.185029, 0.109608]) == pytest.approx(0.2105695, abs=1e-6)
    assert ts.network_efficiency(np.array([[0.25, 1.0], [0.25, 1.0]])) == pytest.approx(0.5)
    assert ts.network_efficiency(iter((0.25, 1.0))) == 0.5
    assert type(ts.network_efficiency([0.25, 1.0])) is float


# --- packed states, against NumPy alone ------------------------------------------------------------------------------------------------


def check_packing(compress: Callable[[Any], Any]) -> None:
    """Bit k % 8 of byte k // 8 is unit k, for values above 0 only."""
    assert compress(np.array([[-1.0, 2.0, 3.0, 4.0, 5.0]], np.float32)).tolist() == [[0b00011110]] == [[30]]
    assert compress(np.array([[0.0, -0.0, np.nan, -np.inf, np.inf, 1e-45]], np.float32)).tolist() == [[0b110000]]
    for width in (1, 8, 9, 63, 64, 65, 300):
        x = np.random.default_rng(width).normal(size=(17, width))
        packed = compress(x)
        assert packed.dtype == np.uint8
        assert packed.shape == (17, -(-width // 8))
        assert np.array_equal(packed, np.packbits(x > 0, axis=1, bitorder="little"))


def test_packing() -> None:
    check_packing(ts.compress_states)


def test_packing_most_significant_bit_first_is_seen() -> None:
    with pytest.raises(AssertionError):
        check_packing(lambda x: np.packbits(x > 0, axis=1))


def test_packing_zero_as_firing_is_seen() -> None:
    with pytest.raises(AssertionError):
        check_packing(lambda x: np.packbits(x >= 0, axis=1, bitorder="little"))


@pytest.mark.parametrize("width", [1, 5, 8, 64, 65, 40_000])
def test_decompressing_is_the_exact_inverse(width: int) -> None:
    fires = np.random.default_rng(width).random((7, width)) < 0.4
    back = ts.decompress_states(ts.compress_states(fires), width)
    assert back.dtype == bool
    assert np.array_equal(back, fires)


def check_sorting(sort: Callable[[Any, int], Any], width: int) -> None:
    """Against Python's own sort of whole integers, which is stable."""
    rng = np.random.default_rng(width)
    states = rng.integers(0, 3, (200, width), np.uint8)
    states[::3] = states[0]
    for rows in (200, 150, 1, 0):
        edges, index = sort(states, rows)
        numbers = [int.from_bytes(row.tobytes(), "little") for row in states[:rows]]
        assert edges.dtype == index.dtype == np.int64
        assert index.tolist() == sorted(range(rows), key=numbers.__getitem__)
        found = {number: numbers.count(number) for number in sorted(numbers)}
        assert np.diff(edges).tolist() == list(found.values())
        assert (edges[0], edges[-1]) == (0, rows)
        for begin, end in pairwise(edges):
            assert len(np.unique(states[index[begin:end]], axis=0)) == 1


@pytest.mark.parametrize("width", [1, 2, 8, 13, 4096, 4097, 8750])  # bytes: 32,768 units and more crashed the original
def test_sorting(width: int) -> None:
    check_sorting(ts.sort_states, width)


def by_first_byte(states: Any, rows: int) -> Any:
    index = np.lexsort(states[:rows].T[::-1])
    new = (states[index][1:] != states[index][:-1]).any(axis=1)
    return np.r_[0, np.flatnonzero(new) + 1, rows].astype(np.int64), index.astype(np.int64)


def last_come_first(states: Any, rows: int) -> Any:
    edges, index = ts.sort_states(states[:rows][::-1], rows)
    return edges, rows - 1 - index


@pytest.mark.parametrize("wrong", [by_first_byte, last_come_first])
def test_another_order_is_seen(wrong: Callable[[Any, int], Any]) -> None:
    with pytest.raises(AssertionError):
        check_sorting(wrong, 2)

"""Measuring invariance takes one block of rows, the sums, and the largest layer, however many layers there are and however long the data."""

import subprocess
import sys
from typing import NamedTuple

import pytest

from tests.conftest import require

MIB = 2**20
SLACK = 80 * MIB
"""What allocators keep for later, and workspaces of convolutions."""

SCRIPT = """
import sys
import torch
from torch import nn
import layerscope as ls
from layerscope.tallies import GridMoments

torch.set_num_threads(1)
T, side, depth, keeps = 4, 64, 10, sys.argv[1] == "keep"
model = nn.Sequential(*(part for k in range(depth) for part in (nn.Conv2d(32 if k else 1, 32, 1), nn.ReLU())))

def run(samples, side, rows):
    images = torch.rand(samples, 1, side, side)
    return ls.examine(model, images, transformations=ls.transformations.rotations(T), batch_size=rows, layers="ReLU")

run(4, 8, 8)  # compiles, and imports what is imported late
kept, observe = [], GridMoments.observe
if keeps:  # what a library does that measures when the forward is through
    def keeping(self, value, activations, samples):
        kept.append(activations.host.copy())
        return observe(self, value, activations, samples)
    GridMoments.observe = keeping

def status(field):
    with open("/proc/self/status") as lines:
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(field))

with open("/proc/self/clear_refs", "w") as file:
    file.write("5")  # the high water mark begins anew
before, rows = status("VmRSS"), 32
results = run(16, side, rows)
state = sum(tally.nbytes(value) for values in results.values_by_site.values() for tally, value in values.items())
layer = rows * 32 * side * side * 4
print(status("VmHWM") - before, state, layer, (16 + rows) * side * side * 4)
"""


class Use(NamedTuple):
    """Bytes: `peak` above what was there before, `state` of all tallies, `layer` of the largest activation, `data` of a block."""

    peak: int
    state: int
    layer: int
    data: int


def use(how: str) -> Use:
    done = subprocess.run([sys.executable, "-c", SCRIPT, how], capture_output=True, text=True, check=True)
    return Use(*map(int, done.stdout.split()))


def check_memory(used: Use) -> None:
    """One block, the transformed rows and what two layers make of them, one into the other; the state; and the largest layer."""
    allowed = used.data + 2 * used.layer + used.state + used.layer + SLACK
    assert used.peak <= allowed, f"{used.peak / MIB:.0f} MiB of {allowed / MIB:.0f}: {used}"


@pytest.mark.torch
@pytest.mark.skipif(sys.platform != "linux", reason="reads the high water mark of Linux")
def test_one_block_the_state_and_the_largest_layer() -> None:
    require("torch")
    check_memory(use("read"))


@pytest.mark.torch
@pytest.mark.skipif(sys.platform != "linux", reason="reads the high water mark of Linux")
def test_the_check_rejects_keeping_a_batch_of_all_layers() -> None:
    require("torch")
    with pytest.raises(AssertionError, match="MiB of"):
        check_memory(use("keep"))

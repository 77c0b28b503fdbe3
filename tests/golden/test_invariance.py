"""What users come for, on real data: rotation augmentation makes the last layer invariant, and the convolutions hardly at all.

Numbers of `spec/invariance.md`, "Acceptance on real data": scikit-learn's digits at 22 pixels, a small CNN, 24 rotations, 200 digits, two
seeds.  Flavour std, mean of unit ratios, undefined units left out.  Last layer 1.22 / 1.14 untrained, 1.13 / 1.12 trained without, 0.29 /
0.24 trained with rotations; convolutions 1.39 to 1.51; the input 1.45.

Accuracy on rotated digits is given there as 0.30 and 0.92, where each of the 397 unseen digits was turned once by an angle drawn at
random: with these networks such draws give 0.912 ± 0.010 (seed 0) and 0.923 ± 0.008 (seed 1).  Here it is the mean over all 24 rotations of
all 397: 0.912 and 0.921.  The first 200 of them, of which the ratios are, are harder: 0.898 and 0.904.
"""

import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import layerscope as ls
from layerscope.measures import NormalizedVariance
from tests.conftest import require

torch = require("torch")
nn, F = torch.nn, torch.nn.functional
pytestmark = pytest.mark.torch


def digits() -> tuple[Any, Any, Any, Any]:
    """1,400 digits to train on and 397 to test on, 16 × 16 pixels within a margin of 3."""
    data = require("sklearn.datasets").load_digits()
    x = F.interpolate(torch.tensor(data.images, dtype=torch.float32)[:, None] / 16, size=16, mode="bilinear")
    x, y = F.pad(x, (3, 3, 3, 3)), torch.tensor(data.target)
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(0))
    return x[order[:1400]], y[order[:1400]], x[order[1400:]], y[order[1400:]]


def turned(x: Any, angle: Any) -> Any:
    c, s, zero = angle.cos(), angle.sin(), 0 * angle
    matrix = torch.stack([torch.stack([c, -s, zero], -1), torch.stack([s, c, zero], -1)], 1)
    return F.grid_sample(x, F.affine_grid(matrix, x.shape, align_corners=False), align_corners=False)


def trained(x: Any, y: Any, rotations: bool, epochs: int, seed: int) -> Any:
    torch.manual_seed(seed)
    net = nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1), nn.ELU(), nn.Conv2d(16, 16, 3, padding=1), nn.ELU(), nn.MaxPool2d(2),
        nn.Conv2d(16, 32, 3, padding=1), nn.ELU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(32 * 25, 64), nn.ELU(), nn.Linear(64, 10),
    )  # fmt: skip
    optimizer = torch.optim.Adam(net.parameters(), 2e-3)
    for _ in range(epochs):
        for batch in torch.randperm(len(x)).split(64):
            given = turned(x[batch], torch.rand(len(batch)) * 2 * math.pi) if rotations else x[batch]
            optimizer.zero_grad()
            F.cross_entropy(net(given), y[batch]).backward()
            optimizer.step()
    return net


@pytest.fixture(autouse=True)
def _one_thread() -> Any:
    """Threads that spin on shared cores make a small network five times slower."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize(
    ("seed", "epochs", "rotations", "last", "accuracy"),
    [
        (0, 0, False, 1.22, 0.08),
        (0, 25, False, 1.13, 0.305),
        (0, 25, True, 0.29, 0.912),
        (1, 0, False, 1.14, 0.09),
        (1, 25, False, 1.12, 0.303),
        (1, 25, True, 0.24, 0.921),
    ],
)
def test_augmentation_makes_the_last_layer_invariant(
    seed: int, epochs: int, rotations: bool, last: float, accuracy: float
) -> None:
    train_x, train_y, x, y = digits()
    net, measure = trained(train_x, train_y, rotations, epochs, seed), NormalizedVariance()
    turns = ls.transformations.rotations(24)
    results = ls.examine(net, (x[:200], y[:200]), transformations=turns, layers="all", measures=[measure])
    ratio = {name: float(results[name].reading(measure)) for name in results}
    # training ends a little elsewhere on another machine; without any, nothing but rounding differs
    assert ratio["11"] == pytest.approx(last, abs=0.05 if epochs else 0.005)
    assert ratio["(model):in"] == pytest.approx(1.45, abs=0.005)
    assert all(1.38 < ratio[name] < 1.53 for name in ("0", "2", "5")), ratio
    whole = ls.examine(net, (x, y), transformations=turns, layers=["11"], measures=[measure])
    assert whole.accuracy is not None
    assert float(whole.accuracy) == pytest.approx(accuracy, abs=0.03)
    upright = float(whole.task.by_transformation[0])
    assert not epochs or upright > (0.88 if rotations else 0.95)


def test_the_tutorial_shows_it(tmp_path: Path) -> None:
    """`examples/augmentation_makes_invariant.py`, on other digits of the same set: its last line of ratios, its accuracies, its pictures."""
    example = Path(__file__).resolve().parents[2] / "examples" / "augmentation_makes_invariant.py"
    assert len(example.read_text(encoding="utf-8").splitlines()) < 60
    done = subprocess.run([sys.executable, "-W", "error", example, tmp_path], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    rows = {line.split()[0]: [float(n) for n in line.split()[2:]] for line in done.stdout.splitlines()[1:]}
    upright, turned = rows.pop("upright,"), rows.pop("turned,")
    assert rows["11"] == pytest.approx([1.22, 1.1, 0.27], abs=0.06)
    assert rows["5"] == pytest.approx([1.45, 1.45, 1.45], abs=0.06)
    assert rows["(model):in"] == pytest.approx([1.42] * 3, abs=0.01)
    assert turned == pytest.approx([0.1, 0.3, 0.92], abs=0.04)
    assert upright[1] > 0.95
    assert sorted(path.suffix for path in tmp_path.iterdir()) == [".html", ".png"]
    assert all(path.stat().st_size > 20_000 for path in tmp_path.iterdir())

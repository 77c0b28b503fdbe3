"""From nothing to two reports: digits, training, examination, pages."""

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from .. import datasets
from .._errors import DataError
from .._examine import examine
from .._results import Results
from ..transformations import rotations

EPOCHS, EPOCHS_MNIST = 8, 2
"""Enough for 97 % of held-out images; MNIST has forty times as many to learn from."""
LONGER = 3
"""A network that learns turned images takes so many times the epochs."""
TURNS, TURNED = 16, 200
"""Rotations, and held-out images that are shown under each."""


def run(
    *, mnist: str | Path | None = None, epochs: int | None = None, seed: int = 0, progress: bool = True
) -> tuple[Results, Results]:
    """Train LeNet-5 on real digits and examine it on those held out, upright and turned.

    **Arguments:** `mnist` a folder or file with MNIST, None for the digits that come with scikit-learn, enlarged to 28 × 28; `epochs` of
    training, None for enough; `seed` of weights, order and untrained twin; `progress` shows bars.
    **Gives:** what the states of the layers carry on about 500 held-out digits, or MNIST's 10,000, beside the same network untrained; and how
    far the layers move when 200 of them are turned, beside the untrained network and one that was trained on turned digits.
    **Raises:** `ImportError` without PyTorch or scikit-learn; `DataError` for fewer than one epoch; what `datasets.mnist` raises.
    """
    if epochs is not None and epochs < 1:
        raise DataError(f"demo: epochs={epochs} trains nothing. Give 1 or more; {EPOCHS} are enough for the digits.")
    try:
        from .torch import trained
    except ModuleNotFoundError as error:
        if error.name != "torch":
            raise
        raise ImportError(
            "demo: the network is a PyTorch model, and PyTorch is not installed: pip install 'layerscope[torch]'"
        ) from error
    if mnist is None:
        (images, labels), held_out = datasets.digits(size=28, split="train"), datasets.digits(size=28, split="test")
        epochs, name = epochs or EPOCHS, "digits of scikit-learn, enlarged to 28 × 28"
    else:
        (images, labels), held_out = datasets.mnist(mnist, split="train"), datasets.mnist(mnist, split="test")
        epochs, name = epochs or EPOCHS_MNIST, "MNIST images"

    def bar(what: str) -> Any:
        from tqdm import tqdm

        def shown(steps: Iterable[Any]) -> Any:
            return tqdm(steps, desc=what, unit="epoch", disable=not progress, file=sys.stderr)

        return shown

    model = trained(images, labels, epochs=epochs, seed=seed, bar=bar("train"))
    upright = examine(model, held_out, references=["untrained"], progress=progress)
    references = {
        "untrained": trained(images, labels, epochs=0, seed=seed, bar=iter),
        "a twin trained on turns": trained(
            images, labels, epochs=LONGER * epochs, seed=seed, bar=bar("train on turned digits"), turning=True
        ),
    }
    turned = examine(
        model, held_out, layers=["ELU", "Linear"], transformations=rotations(TURNS), samples=TURNED, references=references, progress=progress,
    )  # fmt: skip
    command = f"layerscope demo --epochs {epochs} --seed {seed}" + ("" if mnist is None else " --mnist PATH")
    data = f"{{}} {name}, held out of training ({len(labels):,} were trained on)"
    for results, title, shown in (
        (upright, "LeNet-5 on handwritten digits it has never seen", len(held_out[1])),
        (turned, "What LeNet-5 makes of digits that are turned", int(turned.manifest["samples"])),
    ):
        results.manifest |= {"title": title, "data_name": data.format(f"{shown:,}"), "command": command}
    return upright, turned

"""From nothing to a report: digits, training, examination, page."""

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from .. import datasets
from .._errors import DataError
from .._examine import examine
from .._results import Results

EPOCHS, EPOCHS_MNIST = 8, 2
"""Enough for 97 % of held-out images; MNIST has forty times as many to learn from."""


def run(*, mnist: str | Path | None = None, epochs: int | None = None, seed: int = 0, progress: bool = True) -> Results:
    """Train LeNet-5 on real digits and examine it on those held out, beside the same network untrained.

    **Arguments:** `mnist` a folder or file with MNIST, None for the digits that come with scikit-learn, enlarged to 28 × 28; `epochs` of
    training, None for enough; `seed` of weights, order and untrained twin; `progress` shows bars.
    **Gives:** `Results` on about 500 held-out digits, or MNIST's 10,000.
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

    def bar(steps: Iterable[Any]) -> Any:
        from tqdm import tqdm

        return tqdm(steps, desc="train", unit="epoch", disable=not progress, file=sys.stderr)

    model = trained(images, labels, epochs=epochs, seed=seed, bar=bar)
    results = examine(model, held_out, references=["untrained"], progress=progress)
    data = f"{len(held_out[1]):,} {name}, held out of training ({len(labels):,} were trained on)"
    command = f"layerscope demo --epochs {epochs} --seed {seed}" + ("" if mnist is None else " --mnist PATH")
    results.manifest |= {
        "title": "LeNet-5 on handwritten digits it has never seen",
        "data_name": data,
        "command": command,
    }
    return results

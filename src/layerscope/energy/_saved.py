"""Parameters of a network in a file of plain arrays."""

from pathlib import Path
from typing import Any, TypeVar, cast

import numpy as np

from .._errors import DataError
from ._array import beside, framework, numbers
from ._tree import leaves, replaced

T = TypeVar("T")


def save(tree: object, path: str | Path) -> None:
    """Writes every parameter by its dotted path as a `.npz`, nothing pickled."""
    arrays = {name: np.asarray(numbers(value)) for name, value in leaves(tree).items()}
    with Path(path).open("wb") as file:
        np.savez(file, **cast("dict[str, Any]", arrays))


def load(tree: T, path: str | Path) -> T:
    """The same network with the parameters of a file, each in the framework and type it has there.

    **Raises:** `DataError` where the file has other parameters, `ShapeError` for other shapes.
    """
    mine = leaves(tree)
    with np.load(path, allow_pickle=False) as file:
        found = {name: file[name] for name in file.files}
    if set(found) != set(mine):
        raise DataError(
            f"load: {Path(path).name} has parameters {sorted(found)}, this network {sorted(mine)}. Build the same network first."
        )
    return replaced(tree, {name: _as_before(found[name], mine[name]) for name in mine})


def _as_before(value: Any, before: Any) -> Any:
    if not framework(before):
        return float(value)
    return value.astype(before.dtype) if framework(before) == "numpy" else beside(value, before)

"""One line for every place of a model that can be read: what it is, which axis holds its units, and whether units fire there."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import overload

from .._site import Axes, Site

STEP = "a step of "
"""How `unfit` begins where a layer runs in a loop whose values nobody can see."""


class Role(StrEnum):
    """What a layer does, as far as firing units are concerned."""

    NONLINEARITY = "nonlinearity"
    WEIGHT = "weight"
    RECURRENT = "recurrent"
    SOFTMAX = "softmax"
    LOOKUP = "look-up"
    NORM = "normalisation"
    POOL = "pooling"
    DROPOUT = "dropout"
    RESHAPE = "reshape"
    CONTAINER = "container"
    OTHER = "other"


@dataclass(frozen=True)
class Layer:
    """A place of a model as one forward pass showed it.

    **Fields:** `site`; `kind` class or function name; `role`; `shape` and `dtype` of the activation that was seen (axis 0 samples unless
    `axes` says otherwise); `axes` its unit and sample axes; `threshold` above which its units fire, None where no rule is known; `leaf`
    whether it is a layer without layers inside; `left_out` why it is not read by default, empty when it is; `note` what a reader of
    its numbers must know; `unfit` why it cannot be read at all, unless `axes` says how; `bases` full names of its class and bases.
    """

    site: Site
    kind: str
    role: Role
    shape: tuple[int, ...]
    dtype: str
    axes: Axes
    threshold: float | None = 0.0
    leaf: bool = True
    left_out: str = ""
    note: str = ""
    unfit: str = ""
    bases: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "bases", tuple(self.bases))  # a file gives a list

    def __hash__(self) -> int:
        return hash(self.site.path)  # enough to tell layers apart, and asked for at every reading

    @property
    def units(self) -> int:
        return self.shape[self.axes.unit] if len(self.shape) > 1 else 0

    @property
    def positions(self) -> tuple[int, ...]:
        return self.axes.positions(self.shape) if len(self.shape) > 1 else ()


class Layers(Sequence[Layer]):
    """The places of a model in the order of its forward pass; prints as a table.

    `read` are those measured by default; index with a number, a site or its name.
    """

    def __init__(self, layers: Iterable[Layer]) -> None:
        self._layers = tuple(layers)

    @property
    def read(self) -> tuple[Layer, ...]:
        """The layers that are read: those no reason leaves out."""
        return tuple(layer for layer in self._layers if not layer.left_out)

    @overload
    def __getitem__(self, index: int | str | Site) -> Layer: ...
    @overload
    def __getitem__(self, index: slice) -> "Layers": ...
    def __getitem__(self, index: int | str | Site | slice) -> "Layer | Layers":
        if isinstance(index, slice):
            return Layers(self._layers[index])
        if isinstance(index, int):
            return self._layers[index]
        from ._select import find

        return find(self._layers, index)

    def __len__(self) -> int:
        return len(self._layers)

    def __iter__(self) -> Iterator[Layer]:
        return iter(self._layers)

    def __repr__(self) -> str:
        head = ("", "site", "layer", "role", "shape", "units", "rows/sample", "fires above", "why not read by default")
        rows = [
            (
                "·" if layer.left_out else "▶",
                str(layer.site),
                layer.kind,
                layer.role,
                "×".join(map(str, layer.shape)),
                str(layer.units),
                str(_product(layer.positions)),
                "no rule" if layer.threshold is None else f"{layer.threshold:.4g}",
                layer.left_out + (f" ({layer.note})" if layer.note else ""),
            )
            for layer in self._layers
        ]
        widths = [max(len(row[k]) for row in [head, *rows]) for k in range(len(head))]
        lines = [
            "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
            for row in [head, *rows]
        ]
        return "\n".join([*lines, f"{len(self.read)} of {len(self)} sites are read by default (▶)"])


def _product(sizes: tuple[int, ...]) -> int:
    total = 1
    for size in sizes:
        total *= size
    return total

"""What a user chose: the arguments of `examine` and `plan`, checked before anything runs."""

import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, cast

from ._errors import DataError
from ._shuffled import SHUFFLED
from .feed import Data
from .inventory import Selection
from .measures import (
    AbstractMeasure,
    AlwaysOnUnits,
    DeadUnits,
    Efficiency,
    Entropy,
    EqualUnits,
    FiringRate,
    Information,
    NormalizedVariance,
    RedundantUnits,
    SampleVariance,
    TransformationVariance,
)
from .tallies import AbstractTally, PackedRows, StateTable, fewest, sketched
from .transformations import AbstractTransformation, Transformations

REFERENCES = ("untrained", SHUFFLED)
SILENT = {"said": False}
"""Marks arguments on which no number depends; the manifest names the others."""


def default_measures(labels: bool = False) -> tuple[AbstractMeasure[Any], ...]:
    """What is measured when nothing is asked for, of data with or without labels: one tally feeds it all."""
    rates = tuple(FiringRate(quantile) for quantile in (0.05, 0.5, 0.95))
    corrected = Entropy(estimator="c2"), Efficiency(estimator="c2")
    units = DeadUnits(), AlwaysOnUnits(), EqualUnits(), RedundantUnits()
    return (Entropy(), Efficiency(), *corrected, *rates, *units, *((Information(),) if labels else ()))


def grid_measures() -> tuple[AbstractMeasure[Any], ...]:
    """What is measured of transformed samples when nothing is asked for: one tally feeds it all."""
    return (NormalizedVariance(), TransformationVariance(), SampleVariance())


@dataclass(frozen=True)
class Choices:
    """The arguments of `examine`, by the names they have there.

    **Raises:** `DataError` for an argument of another kind than it takes.
    """

    layers: Selection = None
    exclude: Selection = None
    measures: Sequence[AbstractMeasure[Any]] | None = None
    transformations: Any = None
    references: Sequence[str] | Mapping[str, Any] = ()
    samples: int | None = None
    batch_size: int | None = None
    thresholds: Mapping[str, float] | None = None
    axes: Mapping[str, Any] | None = None
    amp: str | None = None
    keep_rows: bool | str | os.PathLike[str] = False
    sketch: int | None = None
    shard: tuple[int, int] | None = None
    params: Any = field(default=None, metadata=SILENT)
    device: Any = field(default=None, metadata=SILENT)
    nonfinite: str = field(default="note", metadata=SILENT)
    memory_limit: int | str | None = field(default=None, metadata=SILENT)

    def __post_init__(self) -> None:
        if self.nonfinite not in ("note", "raise"):
            raise DataError(f"nonfinite={self.nonfinite!r}: choose 'note' (count and say so) or 'raise'.")
        _ = self.limit, self.grid  # each checks what it is made of
        self._check_references()
        if self.measures is not None:
            self.recipes(self.measured(labels=False))

    @property
    def said(self) -> dict[str, str]:
        """What was chosen, in the user's words, of all that a number can depend on."""
        chosen = {f.name: getattr(self, f.name) for f in fields(self) if f.metadata.get("said", True)}
        return {name: said(value) for name, value in chosen.items() if value not in (None, (), False)}

    @property
    def limit(self) -> int | None:
        """Bytes that tallies and a batch may take together."""
        return None if self.memory_limit is None else parse_bytes(self.memory_limit)

    @cached_property
    def grid(self) -> Transformations | None:
        return None if self.transformations is None else checked(self.transformations)

    def measured(self, labels: bool) -> tuple[AbstractMeasure[Any], ...]:
        """What is measured: what was asked for, or the default for data with or without labels."""
        if self.measures is None:
            return default_measures(labels and self.sketch is None) if self.grid is None else grid_measures()
        given: Any = self.measures
        if isinstance(given, str) or not isinstance(given, Sequence):
            raise DataError(
                f"measures={given!r}: give a list of measures, for example measures=[ls.measures.Entropy()]."
            )
        for each in cast(Sequence[Any], given):
            if not isinstance(each, AbstractMeasure):
                name = each.__name__ if isinstance(each, type) else repr(each)
                raise DataError(
                    f"measures=: {name} is no measure. Give objects of measures, with the parentheses: measures=[ls.measures.Entropy()]."
                )
        return tuple(cast(Sequence[AbstractMeasure[Any]], given))

    def recipes(self, measured: Sequence[AbstractMeasure[Any]]) -> list[AbstractTally[Any]]:
        """What has to be tallied for these measures, each thing once."""
        recipes = fewest(sketched(measure.tally, self.sketch) for measure in measured)
        wide = [r.per for r in recipes if isinstance(r, StateTable) and r.per != "position" and not r.grid]
        if self.grid is not None and wide:
            raise DataError(
                f"transformations=: states per={wide[0]!r} span a whole sample, of which there are {len(self.grid)} versions here. Measure "
                "them per 'position', or without transformations."
            )
        lone = [measure.name for measure in measured if measure.tally.first(2) is not None]
        if self.grid is None and lone:
            raise DataError(
                f"measures=: {lone[0]} compares transformed samples with untransformed ones, and nothing was transformed. Pass "
                "transformations=, for example ls.transformations.rotations(16)."
            )
        if self.keep_rows:
            recipes.append(PackedRows(None if self.keep_rows is True else os.fspath(self.keep_rows)))
        return recipes

    def _check_references(self) -> None:
        given: Any = self.references
        listed = isinstance(given, Iterable) and not isinstance(given, str)
        if isinstance(given, Mapping) or (listed and all(name in REFERENCES for name in cast(Iterable[Any], given))):
            return
        raise DataError(
            f"references={given!r}: known is 'untrained', and 'shuffled labels' for measures that read labels. Write "
            "references=['untrained'], or give networks: references={'name': model}."
        )

    @property
    def shuffles_labels(self) -> bool:
        """Whether labels of other samples are a reference."""
        return not isinstance(self.references, Mapping) and SHUFFLED in self.references

    @property
    def wants_untransformed(self) -> bool:
        """Whether something must be known of the untransformed data first."""
        return any(measure.tally.first(2) is not None for measure in self.measures or ())

    @property
    def rows_on_disk(self) -> bool:
        """Whether every state is written to a folder."""
        return isinstance(self.keep_rows, str | os.PathLike)


def checked(transformations: Any) -> Transformations:
    """The set of transformations that was given, also as a sequence of them.

    **Raises:** `DataError` for anything else.
    """
    if isinstance(transformations, Transformations):
        return transformations
    if isinstance(transformations, AbstractTransformation):
        transformations = (transformations,)
    if isinstance(transformations, str) or not isinstance(transformations, Sequence):
        raise DataError(
            f"transformations={transformations!r}: give a set such as ls.transformations.rotations(16), or Transformations((…, …)) of a "
            "few; wrap a function of a batch in ls.transformations.Custom."
        )
    return Transformations(tuple(transformations))  # pyright: ignore[reportUnknownArgumentType]


def forward_of(data: Any) -> Callable[..., Any] | None:
    """How a `Data` says the model is called."""
    return data.forward if isinstance(data, Data) else None


def parse_bytes(text: int | str) -> int:
    """Bytes of "4 GiB", "500 MB" or a number."""
    units = {"": 1, "B": 1, "kB": 10**3, "MB": 10**6, "GB": 10**9, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([A-Za-z]*)\s*", str(text))
    if found is None or found[2] not in units or float(found[1]) <= 0:
        raise DataError(
            f"memory_limit={text!r} is no amount of memory. Write a number of bytes, or for example '4 GiB' or '500 MB'."
        )
    return int(float(found[1]) * units[found[2]])


def said(value: Any) -> str:
    """An argument as the user would write it; networks and functions by their names."""
    if isinstance(value, Mapping):
        pairs = cast(Mapping[Any, Any], value)  # casts, as isinstance says not of what
        return "{" + ", ".join(f"{said(key)}: {said(pairs[key])}" for key in pairs) + "}"
    if isinstance(value, list | tuple):
        inside = [said(each) for each in cast(Sequence[Any], value)]
        return f"({', '.join(inside)})" if isinstance(value, tuple) and len(inside) > 1 else f"[{', '.join(inside)}]"
    if isinstance(value, str | int | float) or is_dataclass(value):
        return repr(value)
    return getattr(value, "__name__", None) or (str(value) if isinstance(value, Path) else type(value).__name__)

"""What a measure is: something that reads a tally, and accumulates nothing."""

import abc
from collections.abc import Mapping
from dataclasses import fields
from typing import Any, ClassVar, Generic, TypeVar

from .._reading import Reading
from .._site import Site
from ..tallies import AbstractTally

T = TypeVar("T")


class AbstractMeasure(abc.ABC, Generic[T]):
    """One number (or one per unit) of one site, computed from the value of a tally; a frozen dataclass compared by value.

    Measures whose `tally` recipes are equal share one tally, so another order or setting costs no second pass.
    """

    name: ClassVar[str]
    """What it is called in tables."""

    @property
    @abc.abstractmethod
    def tally(self) -> AbstractTally[T]:
        """The recipe of the tally it reads."""

    @abc.abstractmethod
    def compute(self, value: T) -> Reading:
        """The reading.  Raises `EmptyTally` when nothing was observed, never returns a 0.0 for it."""

    @property
    def setting(self) -> str:
        """How this measure differs from its defaults, for tables: "order=2", or an empty string."""
        return settings_of(self)


class AbstractSummary(abc.ABC):
    """One number of several sites, computed from their readings of one measure."""

    name: ClassVar[str]

    @property
    @abc.abstractmethod
    def measure(self) -> AbstractMeasure[Any]:
        """The measure whose readings it summarises."""

    @abc.abstractmethod
    def compute(self, readings: Mapping[Site, Reading]) -> Reading:
        """The reading of all sites together.  Raises `EmptyTally` when there is no site."""

    @property
    def setting(self) -> str:
        """How this summary differs from its defaults, for tables."""
        return settings_of(self)


def settings_of(recipe: Any) -> str:
    """The fields of a recipe that differ from their defaults, as "name=value, name=value"."""
    return ", ".join(
        f"{f.name}={getattr(recipe, f.name)}" for f in fields(recipe) if getattr(recipe, f.name) != f.default
    )

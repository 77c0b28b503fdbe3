"""One site of results or of a watched model: methods that compute readings from what was remembered."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from ._errors import LayerscopeError, SiteError
from ._reading import Reading
from ._seen import SeenStates
from ._site import Site
from ._states import Per, as_bytes
from .inventory import Layer
from .measures import (
    AbstractMeasure,
    AlwaysOnUnits,
    ClassEntropy,
    DeadUnits,
    Efficiency,
    Entropy,
    EqualUnits,
    Estimator,
    FiringRate,
    Information,
    RedundantUnits,
    Trust,
    classes_of,
    trust_in,
)
from .tallies import AbstractTally, PackedRows, StateCounts, StateTable

if TYPE_CHECKING:
    import pandas as pd


class View:
    """What was seen at one site.

    Every method computes from the tallies, so another order or setting costs no second pass.  Methods that need a tally that was not
    recorded raise `SiteError` and say which measure to ask for.
    """

    def __init__(self, layer: Layer, values: Mapping[AbstractTally[Any], Any]) -> None:
        self.layer, self._values = layer, values

    @property
    def site(self) -> Site:
        return self.layer.site

    def value(self, tally: AbstractTally[Any]) -> Any:
        """The value of a tally at this site, as it is; one that holds more serves for one that holds less."""
        if tally in self._values:
            return self._values[tally]
        for other, value in self._values.items():
            if other.covers(tally):
                return other.answer(value)
        there = ", ".join(map(repr, self._values)) or "nothing"
        raise SiteError(
            f"{self.site}: {tally!r} was not recorded; recorded are {there}. Ask for a measure that reads it: "
            "ls.examine(model, data, measures=[…])."
        )

    def reading(self, measure: AbstractMeasure[Any]) -> Reading:
        """The reading of any measure whose tally was recorded."""
        return measure.compute(self.value(measure.tally))

    def entropy(self, order: float = 1, *, per: Per = "position", estimator: Estimator = "plug-in") -> Reading:
        """Rényi entropy of the firing states, in bits: the plain count, or "c2" with an interval or a bracket, or a textbook estimator."""
        return self.reading(Entropy(order, per, estimator))

    def efficiency(
        self,
        order: float = 1,
        *,
        against: float | Literal["rates"] | None = None,
        per: Per = "position",
        estimator: Estimator = "plug-in",
    ) -> Reading:
        """State efficiency: entropy over the number of units, over the entropy of order `against`, or over what the "rates" allow."""
        return self.reading(Efficiency(order, against, per, estimator))

    def trust(self, *, per: Per = "position") -> Trust:
        """How far the entropy can be trusted; printed, "9.96 bits [9.82, 10.12] of 32 (31 %); …", and `.words` for the verdict."""
        return trust_in(self.value(StateTable(per)))

    def firing_rates(self) -> Reading:
        """The share of observations in which each unit fired."""
        return self.reading(FiringRate())

    def dead_units(self) -> Reading:
        """How many units never fired; `.items` lists them."""
        return self.reading(DeadUnits())

    def always_on_units(self) -> Reading:
        """How many units always fired; `.items` lists them."""
        return self.reading(AlwaysOnUnits())

    def equal_units(self, *, opposite: bool = False) -> Reading:
        """How many units only repeat (or negate) another; `.items` lists the groups."""
        return self.reading(EqualUnits(opposite))

    def redundant_units(self) -> Reading:
        """How many units carry nothing of their own; `.items` lists the groups with the observations behind each."""
        return self.reading(RedundantUnits())

    @property
    def table(self) -> StateCounts:
        """The state counts of this site, with all columns."""
        return self.value(StateTable())

    def information(self) -> Reading:
        """What the state tells about the label, in bits; needs states counted by label."""
        return self.reading(Information())

    def class_entropy(self) -> Reading:
        """Entropy of the states within a class, in bits; needs states counted by label."""
        return self.reading(ClassEntropy())

    def classes(self) -> "pd.DataFrame":
        """A row per class: its samples, states, those no other class shows, entropies, coverage, and efficiency at equal samples."""
        import pandas as pd

        lines = [asdict(line) for line in classes_of(self.value(StateTable(strata="label")))]
        table = pd.DataFrame(lines).set_index("label")
        room = max(1, self.table.units)
        return table.assign(
            efficiency=table["c2"] / room, efficiency_at_equal_samples=table.pop("at_equal_samples") / room
        )

    def counts(self) -> NDArray[np.int64]:
        """How often each different state was seen, (states,), all > 0, in the order of the states as little-endian integers."""
        return self.table.records().n

    def state_ids(self) -> list[bytes]:
        """The different states as bytes, aligned with `counts()`: unit k is bit k % 8 of byte k // 8."""
        return [row.tobytes() for row in as_bytes(self.table.records().states, self.table.units)]

    @property
    def states(self) -> SeenStates:
        """The different states, an array (states, units) aligned with `counts()` that also has `top`, `mixed` and `show`."""
        return SeenStates(self.table)

    @property
    def state_count(self) -> int:
        """Observations counted, repeats included."""
        return self.table.observations

    @property
    def raw_states(self) -> NDArray[np.uint8]:
        """Every state in the order it came, packed, (observations, ceil(units / 8)); needs `keep_rows=`."""
        for tally, value in self._values.items():
            if isinstance(tally, PackedRows):
                return value.all()
        raise SiteError(
            f"{self.site}: the rows in their order were not kept. Say so: ls.examine(model, data, keep_rows=True)."
        )

    def __repr__(self) -> str:
        layer = self.layer
        try:
            said = str(self.entropy(estimator="c2"))
        except LayerscopeError as error:
            said = str(error).splitlines()[0]
        return f"<{layer.site}: {layer.kind}, {layer.units} units; entropy {said}>"

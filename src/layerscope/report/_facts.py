"""Everything the report is made of: what the results hold, each part computed once, when it is first asked for."""

from dataclasses import dataclass
from functools import cached_property

from .._results import Results
from ._label_facts import Labels, labels_of
from ._movement_facts import Movement, movement_of
from ._state_facts import States, states_of


@dataclass(frozen=True, eq=False)
class Facts:
    """The facts of one page; a part that was not measured has no sites."""

    results: Results

    @cached_property
    def states(self) -> States:
        return states_of(self.results)

    @cached_property
    def movement(self) -> Movement:
        return movement_of(self.results)

    @cached_property
    def labels(self) -> Labels:
        return labels_of(self.results)

    @property
    def samples(self) -> int:
        """Items of the data, each counted once, under however many transformations it was shown."""
        return self.states.samples or self.movement.samples or int(self.results.manifest.get("samples", 0))

"""One site of results or of a watched model: methods that compute readings from what was remembered."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, fields
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, cast

import numpy as np
from numpy.typing import NDArray

from ._errors import DataError, LayerscopeError, SiteError
from ._reading import Reading
from ._seen import SeenStates
from ._site import Site
from ._states import Per, as_bytes
from .inventory import Layer
from .measures import (
    CKA,
    AbstractGridMeasure,
    AbstractMeasure,
    AlwaysOnUnits,
    Anova,
    ClassEntropy,
    DeadUnits,
    Distance,
    Efficiency,
    Entropy,
    EntropyByTransformation,
    EqualUnits,
    FiringRate,
    Goodfellow,
    Information,
    NormalizedSameEquivariance,
    NormalizedVariance,
    RedundantUnits,
    SameEquivariance,
    SampleVariance,
    SampleVarianceByTransformation,
    TransformationVariance,
    Trust,
    classes_of,
    trust_in,
)
from .tallies import AbstractTally, PackedRows, StateCounts, StateSketch, StateTable

if TYPE_CHECKING:
    import pandas as pd


P = ParamSpec("P")


def asks(measure: Callable[P, AbstractMeasure[Any]]) -> Callable[Concatenate["View", P], Reading]:
    """A method with the arguments and the words of a measure, which reads it at the site of its view."""

    def method(self: "View", *args: P.args, **kwargs: P.kwargs) -> Reading:
        return self.reading(measure(*args, **kwargs))

    mine, of = inspect.signature(method), inspect.signature(measure)
    parameters = [mine.parameters["self"], *of.parameters.values()]
    method.__dict__["__signature__"] = mine.replace(parameters=parameters)
    method.__doc__ = measure.__doc__
    return method


class View:
    """What was seen at one site.

    Every method computes from the tallies, so another order or setting costs no second pass.  Methods that need a tally that was not
    recorded raise `SiteError` and say which measure to ask for.  Those that `ask` take the arguments of their measure: `help(view.entropy)`.
    """

    # states: what is recorded when nothing is transformed
    entropy = asks(Entropy)
    efficiency = asks(Efficiency)
    firing_rates = asks(FiringRate)
    dead_units = asks(DeadUnits)
    always_on_units = asks(AlwaysOnUnits)
    equal_units = asks(EqualUnits)
    redundant_units = asks(RedundantUnits)
    information = asks(Information)
    class_entropy = asks(ClassEntropy)

    # movement under transformations
    normalized_variance = asks(NormalizedVariance)
    transformation_variance = asks(TransformationVariance)
    sample_variance = asks(SampleVariance)
    same_equivariance = asks(SameEquivariance)
    normalized_same_equivariance = asks(NormalizedSameEquivariance)
    anova = asks(Anova)
    distance = asks(Distance)
    cka = asks(CKA)
    goodfellow = asks(Goodfellow)

    def __init__(
        self, layer: Layer, values: Mapping[AbstractTally[Any], Any], transformations: Sequence[str] = ()
    ) -> None:
        self.layer, self._values, self._transformations = layer, values, tuple(transformations)

    @property
    def site(self) -> Site:
        return self.layer.site

    def value(self, tally: AbstractTally[Any], measure: AbstractMeasure[Any] | None = None) -> Any:
        """The value of a tally at this site, as it is; one that holds more serves for one that holds less.

        **Raises:** `SiteError` where none was recorded that holds it; it names the `measure` to ask for, where one is given.
        """
        if tally in self._values:
            return self._values[tally]
        for other, value in self._values.items():
            if other.covers(tally):
                return other.answer(value)
        there = ", ".join(map(repr, self._values)) or "nothing"
        raise SiteError(
            f"{self.site}: {tally!r} was not recorded; recorded are {there}. {self._how_to_ask(tally, measure)}"
        )

    def _how_to_ask(self, tally: AbstractTally[Any], measure: AbstractMeasure[Any] | None) -> str:
        if measure is None:
            return "Ask for a measure that reads it: ls.examine(model, data, measures=[…])."
        more = ""
        if type(tally).__name__.startswith("Grid") or getattr(tally, "grid", False):
            more = f", transformations={'…' if self._transformations else 'ls.transformations.rotations(16)'}"
        counts = getattr(tally, "strata", None) == "label"
        labels = ", with labels in the data" if counts else ""
        if counts and any(isinstance(each, StateSketch) for each in self._values):
            labels += " and without sketch="
        return f"Ask for it: ls.examine(model, data, measures=[{_written(measure)}]{more}){labels}."

    def reading(self, measure: AbstractMeasure[Any]) -> Reading:
        """The reading of any measure whose tally was recorded."""
        given: Any = measure
        if not isinstance(given, AbstractMeasure):
            name = given.__name__ if isinstance(given, type) else repr(given)
            raise DataError(
                f"{self.site}: {name} is no measure. Give an object of one, with the parentheses: ls.measures.Entropy()."
            )
        return measure.compute(self.value(measure.tally, measure))

    def trust(self, *, per: Per = "position") -> Trust:
        """How far the entropy can be trusted; printed, "9.96 bits [9.82, 10.12] of 32 (31 %); …", and `.words` for the verdict."""
        return trust_in(self.value(StateTable(per)))

    @property
    def table(self) -> StateCounts:
        """The state counts of this site, with all columns."""
        return self.value(StateTable())

    def classes(self) -> "pd.DataFrame":
        """A row per class: its samples, states, those no other class shows, entropies, coverage, and efficiency at equal samples."""
        import pandas as pd

        lines = [asdict(line) for line in classes_of(self.value(StateTable(strata="label"), Information()))]
        table = pd.DataFrame(lines).set_index("label")
        room = max(1, self.table.units)
        return table.assign(
            efficiency=table["c2"] / room, efficiency_at_equal_samples=table.pop("at_equal_samples") / room
        )

    def by_transformation(self) -> "pd.DataFrame":
        """A row per transformation: what the recorded tallies say of each.

        `sample_variance` how far samples lie apart under it; `distance` (root mean square of a value) and `cosine` to the first
        transformation, `cka` with it; `entropy` of the states (c2) under it.
        """
        import pandas as pd

        columns = {
            "sample_variance": SampleVarianceByTransformation(),
            "distance": Distance(against=0, level="transformation"),
            "cosine": Distance("cosine", against=0, level="transformation"),
            "cka": CKA(level="transformation"),
            "entropy": EntropyByTransformation(),
        }
        recorded = {name: measure for name, measure in columns.items() if self._recorded(measure.tally)}
        if not recorded:
            self.value(SampleVarianceByTransformation().tally, NormalizedVariance())  # says what to ask for
        table = pd.DataFrame({name: np.asarray(self.reading(measure)) for name, measure in recorded.items()})
        return table.set_axis(pd.Index(self._transformations or table.index, name="transformation"), axis="index")

    def by_class(self) -> "pd.DataFrame":
        """A row per class with two samples or more: how far its samples move with the transformation, and from each other.

        Needs a measure by class, for example `ls.measures.NormalizedVariance(by_class=True)`, and labels.
        """
        import pandas as pd

        kinds = (NormalizedVariance, TransformationVariance, SampleVariance)
        found = {kind.name.replace(" ", "_"): self._classes(kind(by_class=True)) for kind in kinds}
        samples = {label: reading.samples for label, reading in found["normalized_variance"].items()}
        columns = {name: {label: float(each) for label, each in readings.items()} for name, readings in found.items()}
        return pd.DataFrame({"samples": samples, **columns}).rename_axis("label")

    def _classes(self, measure: AbstractGridMeasure) -> dict[int, Reading]:
        return measure.classes(self.value(measure.tally, measure))

    def _recorded(self, tally: AbstractTally[Any]) -> bool:
        return any(other.covers(tally) for other in self._values)

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


def _written(measure: AbstractMeasure[Any]) -> str:
    """A measure as one would write it, without what is left at its default: "ls.measures.CKA(against=1)"."""
    kind, recipe = measure.__class__, cast(Any, measure)  # a dataclass
    given = {f.name: getattr(recipe, f.name) for f in fields(recipe) if getattr(recipe, f.name) != f.default}
    inside = ", ".join(f"{name}={value!r}" for name, value in given.items())
    return f"{'ls.measures.' if kind.__module__.startswith('layerscope.measures') else ''}{kind.__name__}({inside})"

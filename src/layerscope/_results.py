"""What an examination found: tallies, recipes and how it was made; numbers are computed from them when asked for."""

import os
from collections.abc import Iterator, Mapping, MutableMapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from . import _files, measures, tallies
from ._errors import DataError, FileFormatError, LayerscopeError, MergeError
from ._index import layer_from_json, layer_to_json, recipe_from_json, recipe_to_json
from ._reading import NAN, Reading
from ._site import INPUT, Site
from ._task import Task
from ._view import View
from .inventory import Layer, Layers, find
from .measures import (
    AbstractMeasure,
    AbstractSummary,
    Efficiency,
    Estimator,
    NetworkEfficiency,
    NormalizedVariance,
    Ranking,
    Together,
    Total,
    aiq,
    ranking,
    sources_of,
)
from .tallies import AbstractTally

if TYPE_CHECKING:
    import pandas as pd

Values = MutableMapping[Site, dict[AbstractTally[Any], Any]]


class Results(Mapping[str, View]):
    """Everything measured of one model on one set of data.

    A mapping from site names to views: `results["conv_1"].efficiency()`.  `table` is the tidy table of all measures, `layers` every site of
    the model with the reason why it was not read, `manifest` how the numbers were made, `references` the same for reference networks.
    """

    def __init__(
        self,
        layers: Layers,
        values: Values,
        asked: Sequence[AbstractMeasure[Any]],
        manifest: Mapping[str, Any],
        task: Task,
        references: Mapping[str, "Results"] | None = None,
    ) -> None:
        self.layers, self.values_by_site, self.measures = layers, values, tuple(asked)
        self.manifest, self.task, self.references = dict(manifest), task, dict(references or {})

    # --- the mapping -------------------------------------------------------------------------------------------------------------

    def __getitem__(self, name: str | Site) -> View:
        layer = find(self.layers.read, name)
        return View(layer, self.values_by_site[layer.site], self.manifest.get("transformations", ()))

    def __iter__(self) -> Iterator[str]:
        return (str(layer.site) for layer in self.layers.read)

    def __len__(self) -> int:
        return len(self.layers.read)

    def __contains__(self, name: object) -> bool:
        return any(name in (layer.site, str(layer.site)) for layer in self.layers.read)

    def __repr__(self) -> str:
        m = self.manifest
        return f"<Results of {m.get('model', 'a model')}: {len(self)} sites, {m.get('samples', 0):,} samples>"

    # --- numbers of the whole network --------------------------------------------------------------------------------------------

    def readings(self, measure: AbstractMeasure[Any]) -> dict[Site, Reading]:
        """One measure at every site; where it cannot be computed the value is NaN and the note says why."""
        return {layer.site: reading_or_why(self[layer.site], measure) for layer in self.layers.read}

    def summary(self, summary: AbstractSummary) -> Reading:
        """One number of all layers together; the input, where it was measured, is none of them."""
        readings = self.readings(summary.measure)
        return summary.compute({site: reading for site, reading in readings.items() if site != INPUT})

    def total(self, measure: AbstractMeasure[Any] | None = None, aggregate: Together = "mean of layers") -> Reading:
        """A measure of all layers together, every layer one vote; None for the movement ratio.  See `ls.measures.Total`."""
        return self.summary(Total(NormalizedVariance() if measure is None else measure, aggregate))

    def network_efficiency(
        self, *, order: float = 1, allow_undersampled: bool = False, estimator: Estimator = "plug-in"
    ) -> Reading:
        """Geometric mean of the layers' efficiencies; undersampled layers are left out and named, unless allowed.  "c2" has an interval."""
        return self.summary(NetworkEfficiency(order, allow_undersampled, estimator))

    def ranking(self, measure: AbstractMeasure[Any] | None = None) -> Ranking:
        """Sites from the highest to the lowest efficiency (or any measure with bounds), as far as the samples tell; others with the reason."""
        found = self.readings(Efficiency(estimator="c2") if measure is None else measure)
        return ranking({str(site): reading for site, reading in found.items()})

    @property
    def accuracy(self) -> Reading | None:
        """The share of samples whose largest output is their label, or the mean of `score=`; None without labels."""
        return self.task.reading

    def aIQ(self, weight: int = 2, *, allow_undersampled: bool = False) -> Reading:
        """Artificial intelligence quotient of accuracy and network efficiency."""
        if self.accuracy is None or self.task.kind != "accuracy":
            raise DataError(
                f"aIQ: it needs an accuracy within [0, 1], and there is none ({self.task.note}). Give labels with the data."
            )
        network = self.network_efficiency(allow_undersampled=allow_undersampled)
        value = aiq(float(network), float(self.accuracy), weight)
        return Reading(
            value,
            observations=network.observations,
            samples=self.task.samples,
            measured_in=f"aIQ, weight {weight}",
            coverage=network.coverage,
            bound=network.bound,
            verdict=network.verdict,
            note=network.note,
        )

    # --- table, pictures, files --------------------------------------------------------------------------------------------------

    @property
    def table(self) -> "pd.DataFrame":
        """Tidy table, a row per site and measure: layer, call, measure, setting, value, measured_in, observations, …, note."""
        import pandas as pd

        rows: list[dict[str, Any]] = []
        for name, results in (("", self), *self.references.items()):
            for layer in results.layers.read:
                for measure in results.measures:
                    reading = reading_or_why(results[layer.site], measure)
                    rows.append({"network": name, **_row(layer, measure, reading)})
        table = pd.DataFrame(rows, columns=["network", *_COLUMNS])
        return table if self.references else table.drop(columns="network")

    def beside(self) -> "pd.DataFrame":
        """The table with the values of the references beside ours: a column for "untrained", for "shuffled labels", for each network given."""
        from ._beside import beside

        return beside(self.table, self.references)

    def plot(self, what: str | None = None) -> Any:
        """A matplotlib figure of what was measured: "movement", "accuracy", "maps", "states", "samples", "units"; None takes the first there is.

        See `layerscope.report.plot`, which also puts several results in one picture.
        """
        from .report import plot

        return plot(self, what)

    def to_html(self, path: str | os.PathLike[str] | None = None, *, title: str | None = None) -> str:
        """The report as one self-contained page; also written to `path` where one is given."""
        from .report import page

        html = page(self, title=title)
        if path is not None:
            Path(path).write_text(html, encoding="utf-8")
        return html

    def cite(self) -> str:
        """The sources of the numbers in this object."""
        return "\n".join(sources_of(self.measures))

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write everything to one file, from which `ls.load` computes the same numbers."""
        return _files.write(path, self._index(), self._arrays(""))

    def _index(self) -> dict[str, Any]:
        """All that is no array."""
        known = [m for m in self.measures if getattr(measures, type(m).__name__, None) is type(m)]
        return {
            "sites": [
                {
                    "layer": layer_to_json(layer),
                    "tallies": [recipe_to_json(t, tallies) for t in self.values_by_site.get(layer.site, {})],
                }
                for layer in self.layers
            ],
            "measures": [recipe_to_json(m, measures) for m in known],
            "manifest": self.manifest,
            "task": {f.name: getattr(self.task, f.name) for f in fields(Task)},
            "references": {name: results._index() for name, results in self.references.items()},
        }

    def _arrays(self, prefix: str) -> Iterator[tuple[str, NDArray[Any]]]:
        """All arrays by name, site by site: those of one site at a time need be in memory."""
        for k, layer in enumerate(self.layers):
            for j, (tally, value) in enumerate(self.values_by_site.get(layer.site, {}).items()):
                for name, array in tally.to_arrays(value).items():
                    yield f"{prefix}{k}.{j}.{name}", array
        for name, results in self.references.items():
            yield from results._arrays(f"{prefix}{name}.")

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> "Results":
        """What `save` wrote.  Raises `FileFormatError` for anything else."""
        index, arrays = _files.read(path)
        try:
            return cls._from_contents(index, arrays, "")
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            if isinstance(error, FileFormatError):
                raise
            raise FileFormatError(
                f"{path}: the index does not describe what the file holds ({error!r}). It is damaged."
            ) from error

    @classmethod
    def _from_contents(cls, index: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]], prefix: str) -> "Results":
        layers: list[Layer] = []
        values: Values = {}
        for k, line in enumerate(index["sites"]):
            layer = layer_from_json(line["layer"])
            layers.append(layer)
            if not layer.left_out:
                values[
                    layer.site
                ] = {}  # also where nothing is recorded, as of the input where states alone were counted
            for j, text in enumerate(line["tallies"]):
                tally = recipe_from_json(text, tallies)
                head = f"{prefix}{k}.{j}."
                mine = {name.removeprefix(head): array for name, array in arrays.items() if name.startswith(head)}
                values[layer.site][tally] = tally.from_arrays(layer.site, mine)
        return cls(
            Layers(layers),
            values,
            [recipe_from_json(text, measures) for text in index["measures"]],
            index["manifest"],
            Task(**index["task"]),
            {name: cls._from_contents(more, arrays, f"{prefix}{name}.") for name, more in index["references"].items()},
        )

    def merge(self, other: "Results") -> "Results":
        """Both together, as if one stream had been examined; neither is changed.

        **Raises:** `MergeError` unless both read the same sites with the same rules.  The samples must be disjoint (shards, or more data).
        """
        mine, theirs = [[x.site for x in r.layers.read] for r in (self, other)]
        if mine != theirs:
            raise MergeError(
                f"merge: left reads {', '.join(map(str, mine))}; right reads {', '.join(map(str, theirs))}. Results merge only when both "
                "read the same sites: examine with the same layers=."
            )
        self._check_transformed(other)
        values: Values = {}
        for site in mine:
            left, right = self.values_by_site[site], other.values_by_site[site]
            if left.keys() != right.keys():
                raise MergeError(
                    f"merge: {site} has the tallies {list(left)} on the left, {list(right)} on the right. Use the same measures=."
                )
            values[site] = {
                tally: tally.merge(tally.merge(tally.init(site), left[tally]), right[tally]) for tally in left
            }
        if self.task.kind and other.task.kind and self.task.kind != other.task.kind:
            raise MergeError(
                f"merge: left is scored by {self.task.kind}, right by {other.task.kind}. Score both alike."
            )
        manifest = {**self.manifest, "merged": self.manifest.get("merged", 1) + other.manifest.get("merged", 1)}
        for key in ("samples", "batches", "seconds", "forwards", "passes"):
            if key in manifest and key in other.manifest:
                manifest[key] = manifest[key] + other.manifest[key]
        if self.references.keys() != other.references.keys():
            left, right = (", ".join(sorted(r.references)) or "none" for r in (self, other))
            raise MergeError(
                f"merge: left has the references {left}; right {right}. What one side alone has would be lost: examine both with the same "
                "references=."
            )
        return Results(
            self.layers,
            values,
            self.measures,
            manifest,
            self.task.merged(other.task),
            {name: mine.merge(other.references[name]) for name, mine in self.references.items()},
        )

    def _check_transformed(self, other: "Results") -> None:
        """**Raises:** `MergeError` where samples were shown under other transformations: sums over both would be numbers of neither."""
        left, right = (r.manifest.get("transformations") or ["none"] for r in (self, other))
        digests = {r.manifest.get("transformations_digest") for r in (self, other)} - {None}
        if left != right or len(digests) > 1:
            more = ", and are not made alike" if left == right else ""
            raise MergeError(
                f"merge: left has the transformations {', '.join(left)}; right {', '.join(right)}{more}. Results merge only when samples were "
                "shown alike: examine with the same transformations=."
            )


def load(path: str | os.PathLike[str]) -> Results:
    """The results that `results.save(path)` wrote."""
    return Results.load(path)


def reading_or_why(view: View, measure: AbstractMeasure[Any]) -> Reading:
    """The reading, or NaN with the reason in its note: one site that cannot be measured does not take the others with it."""
    try:
        return view.reading(measure)
    except LayerscopeError as error:
        return Reading(NAN, note=str(error).splitlines()[0])


_COLUMNS = (
    "layer", "call", "port", "part", "step", "type", "units", "measure", "setting", "value", "measured_in", "observations", "samples",
    "coverage", "ceiling", "low", "high", "verdict", "undersampled", "note",
)  # fmt: skip


def _row(layer: Layer, measure: AbstractMeasure[Any], reading: Reading) -> dict[str, Any]:
    whole, known = np.ndim(reading.value) == 0, reading.numbers
    mean, of = (float(known.mean()) if known.size else NAN), f"{known.size:,} of {np.size(reading.value):,}"
    note = "; ".join(n for n in (layer.note, reading.note) if n)
    return {
        "layer": str(layer.site), "call": layer.site.call, "port": layer.site.port, "part": layer.site.part, "step": layer.site.step,
        "type": layer.kind, "units": layer.units, "measure": measure.name, "setting": measure.setting,
        "value": float(reading.value) if whole else mean,
        "measured_in": reading.measured_in if whole else f"{reading.measured_in}, mean of {of} numbers",
        "observations": reading.observations, "samples": reading.samples, "coverage": reading.coverage, "ceiling": reading.ceiling,
        "low": reading.low, "high": reading.high, "verdict": reading.verdict, "undersampled": reading.undersampled, "note": note,
    }  # fmt: skip

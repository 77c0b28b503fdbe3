"""Watch a model by hand, around the user's own calls, training loops too."""

import functools
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from types import TracebackType
from typing import Any, Self

import numpy as np

from ._choices import default_measures
from ._errors import DataError, EmptyTally, SiteError
from ._results import Results, Values
from ._site import Samples, Site
from ._task import Task
from ._view import View
from ._walk import reader
from .inventory import Layer, Layers, Role, Selection, at_inputs, find, matches, select, wants_inputs, with_rules
from .measures import AbstractMeasure
from .probes import probe_for
from .tallies import PackedRows, fewest

WHEN = ("after", "before", "both")


class Watched(Mapping[str, View]):
    """A watched model: a mapping from site names to views, filled by the calls inside the `with` block.

    The first forward shows which sites there are; every call counts, that one too. A forward is the outermost call of the model, or of
    a part that is called alone; one that raises counts nowhere. Samples lie on the first axis of what the user gives, unless a layer says
    `batch_first=False`. Samples are numbered in the order they come at each
    site, so do not pass the same data twice unless you mean it: `reset()` begins anew.
    """

    def __init__(
        self,
        model: Any,
        layers: Selection,
        exclude: Selection,
        when: str,
        measures: Sequence[AbstractMeasure[Any]],
        thresholds: Mapping[str, float] | None,
        axes: Mapping[str, Any] | None,
        keep_rows: bool | str,
    ) -> None:
        if when not in WHEN:
            raise DataError(f"watch: when={when!r}; choose 'after' (outputs), 'before' (inputs) or 'both'.")
        self._probe, self._inputs, self._measures = probe_for(model), when != "after", tuple(measures)
        if self._inputs and layers is None:
            raise SiteError(
                f"watch: when={when!r} reads the inputs of layers, and there is no default choice of those.\n"
                f"    wrong: ls.watch(model, when={when!r})\n    right: ls.watch(model, layers='Conv2d', when={when!r})"
            )
        self._inputs = self._inputs or wants_inputs(layers)
        self._wanted = None if layers is None else _ports(layers, when)
        self._exclude = _ports(() if exclude is None else exclude, when)
        self._thresholds, self._axes = dict(thresholds or {}), dict(axes or {})
        self._recipes = fewest(m.tally for m in measures)
        if keep_rows:
            self._recipes.append(PackedRows(None if keep_rows is True else str(keep_rows)))
        self.layers = Layers(())
        self._whole = False
        self._values: Values = {}
        self._seen: dict[Site, int] = {}
        self._open = ExitStack()

    def __enter__(self) -> Self:
        read = reader(self._recipes, lambda layer: _NOBODY)
        self._open.enter_context(self._probe.watch(self._early, self._choose, read, self._add, self._inputs))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open.__exit__(kind, error, trace)
        if kind is None and self.layers and self._wanted is not None:
            select(self.layers, self._wanted)
            silent = [str(x.site) for x in self.layers.read if x.site not in self._values]
            if silent:
                raise SiteError(
                    f"watch: {', '.join(silent)} never ran inside the with block. The model has:\n{self.layers!r}"
                )

    def _early(self, layer: Layer) -> Layer | None:
        """The layer by the user's rules, where it may be chosen."""
        thresholds, axes = _of(layer, self._thresholds), _of(layer, self._axes)
        if self._wanted is not None:
            possible = any(matches(layer, one) for one in self._wanted)
        else:
            possible = layer.role in (Role.NONLINEARITY, Role.WEIGHT, Role.RECURRENT) or bool(thresholds or axes)
        if layer.threshold is None:  # without a rule of the user it will not be chosen
            layer = replace(layer, threshold=0.0)
        return with_rules(Layers([layer]), thresholds, axes, None)[0] if possible else None

    def _choose(self, found: Layers, whole: bool) -> Layers:
        """The sites that are read; as long as only parts of the model ran, a name may match nothing yet."""
        self._whole = self._whole or whole
        wanted, exclude, thresholds, axes = self._wanted, self._exclude, self._thresholds, self._axes
        if not self._whole:
            there = [any(matches(layer, one) for layer in found) for one in wanted or ()]
            wanted = None if wanted is None else [one for one, known in zip(wanted, there, strict=True) if known]
            exclude = [one for one in exclude if any(matches(layer, one) for layer in found)]
            thresholds, axes = (
                {k: v for layer in found for k, v in _of(layer, each).items()} for each in (thresholds, axes)
            )
            if wanted == [] or (wanted is None and not found.read):
                self.layers = Layers(replace(layer, left_out=layer.left_out or "not asked for") for layer in found)
                return self.layers
        self.layers = with_rules(select(found, wanted, exclude), thresholds, axes, wanted)
        return self.layers

    def _add(self, layer: Layer, chunks: Any) -> None:
        values = self._values.setdefault(layer.site, {tally: tally.init(layer.site) for tally in self._recipes})
        first = self._seen.get(layer.site, 0)
        count = next((chunk.forward_samples for chunk in chunks.values()), 0)
        samples = _numbered(first, count)
        for tally, chunk in chunks.items():
            whose = samples if chunk.samples.mask is None else replace(samples, mask=chunk.samples.mask)
            values[tally] = tally.add(values[tally], replace(chunk, samples=whose))
        self._seen[layer.site] = first + count

    def reset(self) -> None:
        """Forget everything seen so far; the sites stay."""
        self._values.clear()
        self._seen.clear()

    def results(self) -> Results:
        """What was seen, as `Results` that can be saved, merged and reported."""
        self._check()
        seen = max(self._seen.values(), default=0)
        manifest = {
            **self._probe.facts(),
            "samples": seen,
            "mode": "as the user ran it",
            "data": ["the user's own calls"],
        }
        values = {layer.site: self._values[layer.site] for layer in self._read}
        layers = Layers(
            x if x.left_out or x.site in values else replace(x, left_out="did not run") for x in self.layers
        )
        return Results(layers, values, self._measures, manifest, Task(note="watched: no labels"))

    @property
    def _read(self) -> list[Layer]:
        """The sites that were read so far."""
        return [layer for layer in self.layers.read if layer.site in self._values]

    def _check(self) -> None:
        if not self._values:
            raise EmptyTally(
                "watch: the model was not called inside the with block yet, so there is nothing to read. Call it first."
            )

    def __getitem__(self, name: str | Site) -> View:
        self._check()
        layer = find(self._read, name)
        return View(layer, self._values[layer.site])

    def __contains__(self, name: object) -> bool:
        return any(name in (layer.site, str(layer.site)) for layer in self._read)

    def __iter__(self) -> Iterator[str]:
        return (str(layer.site) for layer in self._read)

    def __len__(self) -> int:
        return len(self._read)

    def __repr__(self) -> str:
        return f"<Watched: {len(self)} sites, {max(self._seen.values(), default=0):,} samples>"


@functools.lru_cache(maxsize=8)
def _numbered(first: int, count: int) -> Samples:
    """Samples with running numbers; all sites of one forward share them, and what is computed of them."""
    return Samples(np.arange(first, first + count, dtype=np.int64))


def _ports(wanted: Selection, when: str) -> list[Any]:
    """The selectors at outputs, inputs, or both."""
    each = [wanted] if isinstance(wanted, str | Site | type) or callable(wanted) else list(wanted or ())
    inputs: Any = at_inputs(each)
    return {"after": each, "before": inputs, "both": [*each, *inputs]}[when]


def _of(layer: Layer, rules: Mapping[str, Any]) -> dict[str, Any]:
    """The rules that speak of a layer."""
    return {selector: rule for selector, rule in rules.items() if matches(layer, selector)}


_NOBODY = Samples(np.empty(0, np.int64))


def watch(
    model: Any,
    layers: Selection = None,
    *,
    exclude: Selection = None,
    when: str = "after",
    measures: Sequence[AbstractMeasure[Any]] | None = None,
    thresholds: Mapping[str, float] | None = None,
    axes: Mapping[str, Any] | None = None,
    keep_rows: bool | str = False,
) -> Watched:
    """Read a model while you call it yourself: `with ls.watch(model, layers="Conv2d") as watched: model(x)`.

    **Arguments:** `layers`, `exclude`, `thresholds`, `axes`, `keep_rows` as in `examine`; `when` "after" reads outputs, "before" inputs,
    "both" both; `measures` whose tallies are kept. Mode, device and gradients stay yours: a model in training mode is watched as it
    trains. Compiled models run eagerly meanwhile; forwards that backward repeats (activation checkpointing) are not counted twice.
    """
    return Watched(
        model, layers, exclude, when, default_measures() if measures is None else measures, thresholds, axes, keep_rows
    )

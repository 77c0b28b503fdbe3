"""A network measured again and again on one fixed sample, while it learns: what the monitors of all frameworks share."""

import copy
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from .._choices import forward_of, said
from .._epochs import Epochs
from .._errors import DataError, EmptyTally
from .._manifest import Making
from .._reading import NAN
from .._results import Results
from .._road import LOOK, chosen_layers
from .._walk import Walk
from ..feed import Batch, Feed, same_order
from ..inventory import Selection, wants_inputs
from ..measures import AbstractMeasure, DeadUnits, Entropy, FiringRate
from ..probes import probe_for
from ..tallies import StateTable
from ._scalars import Row, label, scalars_of

if TYPE_CHECKING:
    import pandas as pd

TOP = 8
SAMPLES = 512
COLUMNS = (
    "layer",
    "measure",
    "setting",
    "value",
    "low",
    "high",
    "verdict",
    "coverage",
    "observations",
    "undersampled",
    "note",
)
"""What the history keeps of a table of results."""


def default_measures() -> tuple[AbstractMeasure[Any], ...]:
    """What is logged when nothing is asked for: one tally feeds it all."""
    return Entropy(), DeadUnits(), FiringRate()


@dataclass(eq=False)
class Monitor:
    """Scalars of a model's layers, epoch after epoch, on the same samples.

    **Arguments:** `data`, `layers`, `exclude`, `measures`, `batch_size`, `thresholds`, `axes` as `examine` takes them (`measures` None:
    entropy, dead units, firing rate); `samples` how many, drawn once; `top` how many layers are logged; `save` a file for the last results;
    `keep_epochs` keeps the results of every epoch, not only the last.
    **Gives:** `history`, `results`, `epochs`.
    **Raises:** `DataError` for arguments that can be seen to be wrong; `begin` raises whatever `examine` would, before anything is trained.
    """

    data: Any
    layers: Selection = None
    exclude: Selection = None
    measures: Sequence[AbstractMeasure[Any]] | None = None
    samples: int | None = SAMPLES
    batch_size: int | None = None
    thresholds: Mapping[str, float] | None = None
    axes: Mapping[str, Any] | None = None
    top: int = TOP
    save: str | os.PathLike[str] | None = None
    keep_epochs: bool = False

    _measures: tuple[AbstractMeasure[Any], ...] = field(default=(), init=False, repr=False)
    _trained: tuple[Any, str | None] = field(default=(None, None), init=False, repr=False)
    _road: tuple[Walk, Making] | None = field(default=None, init=False, repr=False)
    _batches: tuple[Batch, ...] = field(default=(), init=False, repr=False)
    _results: Results | None = field(default=None, init=False, repr=False)
    _epochs: Epochs = field(default_factory=Epochs, init=False, repr=False)
    _rows: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]], init=False, repr=False)
    _epoch_began: float = field(default=NAN, init=False, repr=False)
    _cost: str = field(default="", init=False, repr=False)

    def __post_init__(self) -> None:
        if self.data is None:
            raise DataError(
                "LayerMonitor: data=None gives nothing to measure on. Give samples that stay the same over the whole training: "
                "LayerMonitor((x_val, y_val)), or a loader, a data set, ls.Data(…)."
            )
        if isinstance(self.top, bool) or not isinstance(self.top, int) or self.top < 1:  # pyright: ignore[reportUnnecessaryIsInstance] - users write 0.5 all the same
            raise DataError(f"LayerMonitor: top={self.top!r} is no number of layers. Give 1 or more.")
        self._measures = default_measures() if self.measures is None else tuple(self.measures)
        named = [label(measure.name, measure.setting) for measure in self._measures]
        if not named or len({*named}) < len(named):
            seen = f"the names {', '.join(named)}" if named else "none"
            raise DataError(
                f"LayerMonitor: measures= must have one or more, each under a name of its own; seen: {seen}. "
                "Leave measures= out for entropy, dead units and firing rate."
            )
        if self.save is not None and not Path(self.save).absolute().parent.is_dir():
            raise DataError(
                f"LayerMonitor: save={os.fspath(self.save)!r} lies in a folder that does not exist. Make {Path(self.save).parent} first."
            )

    # --- what was found ----------------------------------------------------------------------------------------------------------

    @property
    def history(self) -> "pd.DataFrame":
        """A row per epoch, layer and measure, all layers included, with the values of `results.table`.

        Columns: epoch, layer, measure, setting, value, low, high, verdict, coverage, observations, undersampled, note.
        """
        import pandas as pd

        return pd.DataFrame(self._rows, columns=["epoch", *COLUMNS])

    @property
    def results(self) -> Results:
        """The results of the last epoch.  Raises `EmptyTally` before there are any."""
        if self._results is None:
            raise EmptyTally("LayerMonitor: no epoch was measured yet. Train the model with this callback first.")
        return self._results

    @property
    def epochs(self) -> Epochs:
        """The results of every epoch, and windows of them.  Raises `EmptyTally` before there are any, or without `keep_epochs=True`."""
        if not self._epochs:
            why = (
                "no epoch was measured yet. Train the model with this callback first"
                if self.keep_epochs
                else "they were not kept"
            )
            raise EmptyTally(
                f"LayerMonitor: epochs: {why}. Write LayerMonitor(data, keep_epochs=True) to keep all, with their tables."
            )
        return self._epochs

    # --- one training ------------------------------------------------------------------------------------------------------------

    def begin(self, model: Any, amp: str | None = None) -> None:
        """A training of `model` begins: draw the sample, choose the layers and run one batch, so that errors come now.

        Sample, choice and compiled programs stay for further trainings of the same model; the history starts anew.
        """
        self._rows, self._results, self._epochs, self._cost = [], None, Epochs(), ""
        if self._trained[0] is model and self._trained[1] == amp:
            return
        self._trained = None, None
        with probe_for(model, amp=amp, forward=forward_of(self.data)) as probe, same_order(self.data):
            feed = Feed(self.data, samples=self.samples, batch_size=self.batch_size)
            found = probe.describe(feed.peek(LOOK), wants_inputs(self.layers))
            listed = chosen_layers(found, feed, self.layers, self.exclude, self.thresholds, self.axes)
            recipes = [*dict.fromkeys([StateTable(), *(measure.tally for measure in self._measures)])]
            # copies, as a shuffled, augmented or used-up source would give others in the next epoch, and a buffer is written anew
            batches = tuple(copy.deepcopy(batch) for batch in feed)
            walk = Walk(probe, listed, recipes, feed)
        choices = {"layers": self.layers, "exclude": self.exclude, "thresholds": self.thresholds, "axes": self.axes}
        choices |= {"measures": self._measures, "samples": self.samples, "batch_size": self.batch_size}
        asked = {name: said(value) for name, value in choices.items() if value not in (None, ())}
        self._road, self._batches = (walk, Making(probe, feed, self._measures, asked, None)), batches
        results, table = self._examined(batches[:1])
        scalars_of(results, table, self.top)
        self._trained = model, amp

    def start(self) -> None:
        """An epoch starts: its time is what the monitor's own is compared with."""
        self._epoch_began = time.perf_counter()

    def measure(self, epoch: int) -> dict[str, float]:
        """Measure the model as it is now; the scalars to log, by name."""
        began = time.perf_counter()
        results, table = self._examined(self._batches)
        results.manifest["epoch"] = epoch
        scalars = scalars_of(results, table, self.top)
        if self.save is not None:
            results.save(self.save)
        if not self._rows:
            self._cost = _cost_of(results, table, time.perf_counter() - began, began - self._epoch_began)
        self._rows += [{"epoch": epoch, **{column: row[column] for column in COLUMNS}} for row in table]
        self._results = results
        if self.keep_epochs:
            self._epochs.add(results, epoch)
        return scalars

    def _examined(self, batches: Sequence[Batch]) -> tuple[Results, list[Row]]:
        """The model as it is now, and the rows of its table."""
        assert self._road is not None  # since begin
        walk, making = self._road
        began = time.perf_counter()
        walk.restart()
        with walk.probe:
            for batch in batches:
                walk.step(batch)
            results = making.results(walk, {}, time.perf_counter() - began)
        return results, cast(list[Row], results.table.to_dict("records"))

    def cost(self) -> str:
        """What measuring the first epoch cost, in one line; empty before, and when it was asked for already."""
        cost, self._cost = self._cost, ""
        return cost


def _cost_of(results: Results, table: Sequence[Row], seconds: float, epoch: float) -> str:
    thin = [*dict.fromkeys(str(row["layer"]) for row in table if row["undersampled"])]
    some = f"{len(thin)} of {len(results)} layers: {', '.join(thin[:3])}{' …' if len(thin) > 3 else ''}"
    more = f" Undersampled, so no more than lower bounds: entropies of {some}. More samples= may help." if thin else ""
    return (
        f"layerscope: measuring {len(results)} layers on {results.manifest['samples']:,} samples takes {seconds:.2g} s an epoch, "
        f"{100 * seconds / epoch:.2g} % of the first one's {epoch:.2g} s.{more}"
    )

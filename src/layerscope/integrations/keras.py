"""The Keras monitor: scalars of the layers at the end of every epoch, written into its logs.  For all backends of Keras 3."""

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import keras

from .._epochs import Epochs
from .._results import Results
from ..inventory import Selection
from ..measures import AbstractMeasure
from ._monitor import SAMPLES, TOP, Monitor

if TYPE_CHECKING:
    import pandas as pd


class LayerMonitor(keras.callbacks.Callback):
    """Logs a few scalars per layer at the end of every epoch: entropy with its coverage, dead units, firing rate.

        monitor = LayerMonitor((x_val, y_val))
        model.fit(x, y, epochs=5, callbacks=[monitor])
        model.history.history["layerscope/entropy_at_least/conv_1"]  # CSVLogger and TensorBoard have it too
        monitor.history  # all layers, all epochs

    The model is called in inference mode on one *fixed* sample: curves follow the network, and never the number or the order of samples.
    Its weights and all random states are afterwards as before: it trains to the same bits with and without.

    **Arguments:** `data` anything `ls.examine` takes. `samples` how many of them, evenly spaced where the data is addressable, drawn once
    before training and held in memory. `layers`, `exclude`, `measures`, `batch_size`, `thresholds`, `axes` as in `ls.examine`; a measure
    with a number per unit is logged as its mean. `top` so many layers are logged, evenly spread over the depth. `save` a file that always
    holds the last epoch's results. `keep_epochs` keeps those of all epochs, for `epochs`.

    **Logs:** `layerscope/<measure>/<layer>`: `layerscope/entropy_at_least/conv_1` in bits and `layerscope/entropy_coverage/conv_1`,
    `layerscope/dead_units/conv_1` (how many), `layerscope/firing_rate/conv_1` (mean over units); of all layers together
    `layerscope/network/dead_share`, `…/firing_rate` (shares of units) and `…/undersampled_share` (of layers). Names are the same in every
    epoch. A callback that monitors one of them (`EarlyStopping`) must stand behind this one in `callbacks=`. The progress bar prints all
    there is in the logs: with `top=1` or `verbose=0` it says less.
    **Beware:** the plain count of states is a lower bound, hence its name; with a coverage far below 1 it tells the sample size more than
    the network, so look at both, and raise `samples`. Of other measures (`Entropy(estimator="c2")`) an undersampled value is logged as NaN.
    `history` says of every value whether it is undersampled.

    **Raises:** what `ls.examine` would, in `on_train_begin`: before anything is trained.
    """

    def __init__(
        self,
        data: Any,
        *,
        layers: Selection = None,
        exclude: Selection = None,
        measures: Sequence[AbstractMeasure[Any]] | None = None,
        samples: int | None = SAMPLES,
        batch_size: int | None = None,
        thresholds: Mapping[str, float] | None = None,
        axes: Mapping[str, Any] | None = None,
        top: int = TOP,
        save: str | os.PathLike[str] | None = None,
        keep_epochs: bool = False,
    ) -> None:
        super().__init__()
        self._monitor = Monitor(
            data, layers, exclude, measures, samples, batch_size, thresholds, axes, top, save, keep_epochs
        )

    @property
    def history(self) -> "pd.DataFrame":
        """A row per epoch, layer and measure, all layers included, with coverage and whether it is undersampled."""
        return self._monitor.history

    @property
    def epochs(self) -> Epochs:
        """With `keep_epochs=True` the results of every epoch, a table of all and windows of some.  Raises `EmptyTally` without."""
        return self._monitor.epochs

    @property
    def results(self) -> Results:
        """The results of the last epoch, as `ls.examine` gives them.  Raises `EmptyTally` before there are any."""
        return self._monitor.results

    def on_train_begin(self, logs: Any = None) -> None:
        self._monitor.begin(self.model)

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self._tell_cost()
        self._monitor.start()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        if keras.backend.backend() == "jax":
            # while it trains, the weights are elsewhere
            self.model.jax_state_sync()  # pyright: ignore[reportOptionalMemberAccess] - there is one while it trains
        scalars = self._monitor.measure(epoch)
        if logs is not None:
            logs.update(scalars)

    def on_train_end(self, logs: Any = None) -> None:
        self._tell_cost()

    def _tell_cost(self) -> None:
        """Between two epochs, as the progress bar's line is open at the end of one."""
        if (cost := self._monitor.cost()) and (self.params or {}).get("verbose") != 0:
            print(cost)

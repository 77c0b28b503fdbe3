"""The Lightning monitor: scalars of the layers at the end of every training epoch, through `self.log`."""

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_info

from .._epochs import Epochs
from .._errors import SiteError
from .._results import Results
from ..feed import Data
from ..inventory import Selection
from ..measures import AbstractMeasure
from ._monitor import SAMPLES, TOP, Monitor

if TYPE_CHECKING:
    import pandas as pd

AMP = {"bf16-mixed": "bf16", "16-mixed": "fp16"}
"""The precisions of a trainer that run a forward under autocast, as probes name them."""


class LayerMonitor(Callback):
    """Logs a few scalars per layer at the end of every training epoch: entropy with its coverage, dead units, firing rate.

        trainer = Trainer(callbacks=[LayerMonitor((x_val, y_val))])
        trainer.fit(module, loader)
        trainer.callbacks[0].history  # or monitor.history: all layers, all epochs

    The module is called as `module(x)`, in evaluation mode and in the trainer's autocast precision, on one *fixed* sample: curves follow
    the network, and never the number or the order of samples. Its weights, mode and all random states are afterwards as before: it trains
    to the same bits with and without.

    **Arguments:** `data` anything `ls.examine` takes; `ls.Data(data, forward=lambda module, x: module.net(x))` says how else the module is
    called. `samples` how many of them, evenly spaced where the data is addressable, drawn once before training and held in memory.
    `layers`, `exclude`, `measures`, `batch_size`, `thresholds`, `axes` as in `ls.examine`; a measure with a number per unit is logged as
    its mean. `top` so many layers are logged, evenly spread over the depth. `save` a file that always holds the last epoch's results.
    `keep_epochs` keeps those of all epochs, for `epochs`.

    **Logs:** `layerscope/<measure>/<layer>`: `layerscope/entropy_at_least/net.1` in bits and `layerscope/entropy_coverage/net.1`,
    `layerscope/dead_units/net.1` (how many), `layerscope/firing_rate/net.1` (mean over units); of all layers together
    `layerscope/network/dead_share`, `…/firing_rate` (shares of units) and `…/undersampled_share` (of layers). Names are the same in every
    epoch, and all can be monitored by `EarlyStopping` and `ModelCheckpoint`.
    **Beware:** the plain count of states is a lower bound, hence its name; with a coverage far below 1 it tells the sample size more than
    the network, so look at both, and raise `samples`. Of other measures (`Entropy(estimator="c2")`) an undersampled value is logged as NaN.
    `history` says of every value whether it is undersampled.

    Several processes: each measures the same sample, so that collective calls meet; what the first one found is logged by all, so that
    they stop together; it alone prints and saves.
    **Raises:** what `ls.examine` would, in `on_fit_start`: before anything is trained.
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

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        _check_forward(pl_module, self._monitor.data)
        if not trainer.is_global_zero:
            self._monitor.save = None
        self._monitor.begin(pl_module, AMP.get(str(trainer.precision)))

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._monitor.start()

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """After the epoch's validation, once however often that ran, and never in the sanity check."""
        found = trainer.strategy.broadcast(self._monitor.measure(trainer.current_epoch))
        # MPS has no float64; elsewhere Lightning keeps it, and the logs have the digits of the history.
        dtype = torch.float32 if pl_module.device.type == "mps" else torch.float64
        scalars = {name: torch.tensor(value, dtype=dtype, device=pl_module.device) for name, value in found.items()}
        # The largest of equal values is that value to the bit, which their mean need not be.
        pl_module.log_dict(scalars, on_step=False, on_epoch=True, sync_dist=True, reduce_fx="max", batch_size=1)
        if cost := self._monitor.cost():
            rank_zero_info(cost)


def _check_forward(module: LightningModule, data: Any) -> None:
    """**Raises:** `SiteError` where nothing says how the module is called."""
    told = isinstance(data, Data) and data.forward is not None
    if not told and type(module).forward is LightningModule.forward:
        name = type(module).__name__
        raise SiteError(
            f"LayerMonitor: {name} has no forward(x), so nobody here knows how it is called. Give it one, or say how:\n"
            f"    LayerMonitor(ls.Data(data, forward=lambda module, x: module.net(x)))"
        )

"""Does a layer use more states, or fewer, as a network learns?  Its layers at every epoch's end, on samples that stay the same."""

import lightning.pytorch as pl
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import layerscope as ls
from layerscope.integrations.lightning import LayerMonitor


class Net(pl.LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Conv2d(1, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(288, 10))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.net(x)

    def training_step(self, batch: tuple[torch.Tensor, torch.Tensor], index: int) -> torch.Tensor:
        loss = nn.functional.cross_entropy(self(batch[0]), batch[1])
        self.log("loss", loss, on_epoch=True, on_step=False)
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters(), lr=3e-3)


pl.seed_everything(0, verbose=False)
train = TensorDataset(*map(torch.from_numpy, ls.datasets.digits(size=8, split="train")))
monitor = LayerMonitor(ls.datasets.digits(size=8, split="test"))
trainer = pl.Trainer(
    max_epochs=5,
    accelerator="cpu",
    callbacks=[monitor, pl.callbacks.EarlyStopping("layerscope/network/dead_share", mode="min", patience=3)],
    enable_progress_bar=False,
    enable_model_summary=False,
    enable_checkpointing=False,
    logger=False,
)
trainer.fit(Net(), DataLoader(train, 64, shuffle=True))

print(monitor.history.pivot(index="epoch", columns="measure", values="value"))
print("the logger and the other callbacks saw:", *(f"\n  {n}: {v:.3f}" for n, v in trainer.callback_metrics.items()))
print("last epoch:", monitor.results["net.1"].entropy())

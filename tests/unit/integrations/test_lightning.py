"""Lightning's logs get the numbers of `ls.examine`, epoch by epoch; the module trains to the same bits as without."""

import csv
import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import layerscope as ls
from layerscope._errors import DataError, EmptyTally, SiteError
from tests.conftest import require
from tests.unit.integrations.oracle import EXAMPLES, MEASURES, check_history, check_logged, page_code

torch = require("torch")
require("sklearn")
lightning = require("lightning.pytorch")
from layerscope.integrations.lightning import LayerMonitor  # noqa: E402

nn, F = torch.nn, torch.nn.functional
pytestmark = [
    pytest.mark.torch,
    # Lightning's own: it asks for torch's old names, and has advice on workers and logging intervals
    pytest.mark.filterwarnings("ignore:.*LeafSpec.*:FutureWarning"),
    pytest.mark.filterwarnings("ignore::lightning.fabric.utilities.warnings.PossibleUserWarning"),
]

X, Y = ls.datasets.digits(size=8, split="train")
SAMPLE = (X[:300], Y[:300])
TRAIN = torch.utils.data.TensorDataset(torch.from_numpy(X[300:]), torch.from_numpy(Y[300:]))


class Net(lightning.LightningModule):
    """Small, with what tells training from evaluation: dropout and batch normalisation."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(
            nn.Conv2d(1, 4, 3),
            nn.BatchNorm2d(4),
            nn.ReLU(),
            nn.Dropout(0.2),
            nn.Flatten(),
            nn.Linear(144, 24),
            nn.ReLU(),
            nn.Linear(24, 10),
        )
        self.steps = 0

    def forward(self, x: Any) -> Any:
        return self.net(x)

    def training_step(self, batch: Any, index: int) -> Any:
        self.steps += 1
        return F.cross_entropy(self(batch[0]), batch[1])

    def validation_step(self, batch: Any, index: int) -> None:
        self.log("val_loss", F.cross_entropy(self(batch[0]), batch[1]))

    def configure_optimizers(self) -> Any:
        return torch.optim.Adam(self.parameters(), lr=1e-2)


class NoForward(lightning.LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.inner = Net()
        self.training_step, self.configure_optimizers = self.inner.training_step, self.inner.configure_optimizers


class Examined(lightning.Callback):
    """`ls.examine` of the module on the same samples, at the end of every epoch."""

    def __init__(self, **asked: Any) -> None:
        self.asked, self.tables = asked, list[Any]()

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        self.tables.append(ls.examine(pl_module, SAMPLE, measures=MEASURES, **self.asked).table)


def net() -> Net:
    torch.manual_seed(0)
    return Net()


def loader(**how: Any) -> Any:
    return torch.utils.data.DataLoader(TRAIN, 64, **how)


def trained(module: Any, *callbacks: Any, epochs: int = 2, validation: Any = None, data: Any = None, **how: Any) -> Any:
    """The trainer of a finished training; equal arguments give equal weights."""
    torch.manual_seed(1)
    settings = {"logger": False, "enable_checkpointing": False, **how}
    trainer = lightning.Trainer(
        max_epochs=epochs, accelerator="cpu", devices=1, callbacks=[*callbacks],
        enable_progress_bar=False, enable_model_summary=False, **settings,
    )  # fmt: skip
    trainer.fit(module, loader(shuffle=True) if data is None else data, validation)
    return trainer


def columns_of(folder: Path) -> dict[str, list[float]]:
    """What CSVLogger wrote, read back: our columns, one value an epoch."""
    (path,) = folder.rglob("metrics.csv")
    with path.open() as stream:
        rows = [row for row in csv.DictReader(stream) if row.get("layerscope/network/dead_share")]
    return {name: [float(row[name]) for row in rows] for name in rows[0] if name.startswith("layerscope/")}


# --- the numbers ------------------------------------------------------------------------------------------------------------------


def test_the_csv_and_the_history_are_what_examine_finds(tmp_path: Path) -> None:
    """With a sanity check before, and two validations within each epoch: still one row an epoch."""
    monitor, examined = LayerMonitor(SAMPLE), Examined()
    logger = lightning.loggers.CSVLogger(tmp_path)
    validation = torch.utils.data.DataLoader(TRAIN, 200)
    trained(
        net(), monitor, examined, epochs=3, validation=validation, logger=logger,
        num_sanity_val_steps=2, val_check_interval=0.5, log_every_n_steps=5,
    )  # fmt: skip
    assert len(examined.tables) == 3
    check_history(monitor.history, examined.tables)
    logs = columns_of(tmp_path)
    check_logged(logs, examined.tables)
    assert (
        len({*logs["layerscope/entropy_at_least/net.2"]}) == 3
    )  # the network moved, so no epoch can stand for another
    assert logs["layerscope/entropy_coverage/net.6"][-1] < 0.9
    assert monitor.results.manifest["epoch"] == 2


def test_a_column_of_another_epoch_is_rejected(tmp_path: Path) -> None:
    examined = Examined()
    trained(net(), LayerMonitor(SAMPLE), examined, logger=lightning.loggers.CSVLogger(tmp_path))
    logs = columns_of(tmp_path)
    check_logged(logs, examined.tables)
    with pytest.raises(AssertionError):
        check_logged(logs, examined.tables[::-1])


def test_every_epoch_is_kept_where_that_is_asked_for() -> None:
    """The table of all epochs is the history; two epochs together hold the rows of both."""
    monitor = LayerMonitor(SAMPLE, keep_epochs=True)
    trained(net(), monitor, epochs=3)
    assert [*monitor.epochs] == [0, 1, 2]
    history, table = monitor.history, monitor.epochs.table
    assert table["value"].tolist() == history["value"].tolist()
    assert table["epoch"].tolist() == history["epoch"].tolist()
    window, name = monitor.epochs.window(1, 2), next(iter(monitor.results))
    assert window[name].state_count == 2 * monitor.results[name].state_count
    without = LayerMonitor(SAMPLE)
    trained(net(), without, epochs=1)
    with pytest.raises(EmptyTally, match="keep_epochs=True"):
        _ = without.epochs


def test_the_weights_are_those_without_the_monitor() -> None:
    """Also where sample and training come from one shuffled loader with a generator of its own."""
    states = []
    for measured in (False, True, True):
        data = loader(shuffle=True, generator=torch.Generator().manual_seed(5))
        source = ls.Data(data) if len(states) == 1 else data
        module = net()
        trained(module, *([LayerMonitor(source, samples=100)] if measured else []), data=data)
        states.append(module.state_dict())
        assert all(part.training for part in module.modules())
        assert not any(part._forward_hooks for part in module.modules())
    for name, value in states[0].items():
        assert torch.equal(value, states[1][name]), name
        assert torch.equal(value, states[2][name]), name


def test_weights_of_another_order_are_not_the_same() -> None:
    """The test above could fail: a single random number more and the weights differ."""

    class Draws(lightning.Callback):
        def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
            torch.rand(1)

    one, other = net(), net()
    trained(one)
    trained(other, Draws())
    assert not torch.equal(one.net[0].weight, other.net[0].weight)


def test_mixed_precision_is_measured_as_it_trains() -> None:
    monitor, examined, plain = LayerMonitor(SAMPLE), Examined(amp="bf16"), Examined()
    trained(net(), monitor, examined, plain, precision="bf16-mixed")
    check_history(monitor.history, examined.tables)
    with pytest.raises(AssertionError):
        check_history(monitor.history, plain.tables)


def test_a_compiled_module_is_measured_and_compiled_no_more_often() -> None:
    torch._dynamo.reset()
    counts = []
    for callbacks in ([], [LayerMonitor(SAMPLE), Examined()]):
        graphs = []

        def backend(graph: Any, inputs: Any, graphs: list[Any] = graphs) -> Any:
            graphs.append(graph)
            return graph.forward

        module = net()
        module.net = torch.compile(module.net, backend=backend)
        trained(module, *callbacks, epochs=3)
        counts.append(len(graphs))
        torch._dynamo.reset()
    assert counts[0] == counts[1] > 0
    monitor, examined = callbacks
    check_history(monitor.history, examined.tables)
    assert len({*monitor.history.query("measure == 'entropy'")["value"]}) == 6


def test_a_module_compiled_as_a_whole_is_measured() -> None:
    torch._dynamo.reset()
    monitor, examined = LayerMonitor(SAMPLE), Examined()
    trained(torch.compile(net(), backend="eager"), monitor, examined)
    check_history(monitor.history, examined.tables)
    torch._dynamo.reset()


# --- Lightning --------------------------------------------------------------------------------------------------------------------


def test_checkpoints_and_early_stopping_see_the_values(tmp_path: Path) -> None:
    monitor = LayerMonitor(SAMPLE)
    best = lightning.callbacks.ModelCheckpoint(tmp_path, monitor="layerscope/entropy_at_least/net.2", mode="max")
    stop = lightning.callbacks.EarlyStopping("layerscope/network/dead_share", stopping_threshold=2.0)
    trainer = trained(net(), stop, best, monitor, epochs=5, enable_checkpointing=True)
    assert trainer.current_epoch == 1  # a share below 2: stopped after the first epoch
    (entropy,) = monitor.history.query("layer == 'net.2' and measure == 'entropy'")["value"]
    assert best.best_model_score == entropy
    assert Path(best.best_model_path).is_file()


def test_a_module_without_forward_is_measured_as_the_user_says() -> None:
    torch.manual_seed(0)
    monitor = LayerMonitor(ls.Data(SAMPLE, forward=lambda module, x: module.inner(x)))
    trained(NoForward(), monitor)
    assert {*monitor.history["layer"]} == {"inner.net.2", "inner.net.6"}


def test_the_cost_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "lightning.pytorch.utilities.rank_zero"):
        trained(net(), LayerMonitor(SAMPLE), epochs=3)
    lines = [record.message for record in caplog.records if "layerscope" in record.message]
    assert len(lines) == 1
    assert "measuring 2 layers on 300 samples" in lines[0]


def test_a_second_training_starts_a_new_history_on_the_same_sample() -> None:
    module, monitor = net(), LayerMonitor((x for x in [X[:100], X[100:200]]), samples=150)
    for _ in range(2):
        trained(module, monitor, epochs=1)
        assert {*monitor.history["epoch"]} == {0}
    expected = ls.examine(module, lambda: iter([X[:100], X[100:200]]), samples=150, measures=MEASURES).table
    assert monitor.results.table.equals(expected)


def test_a_trainer_of_the_older_package_takes_it() -> None:
    older = require("pytorch_lightning")

    class Older(older.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.net = net().net

        def forward(self, x: Any) -> Any:
            return self.net(x)

        def training_step(self, batch: Any, index: int) -> Any:
            return F.cross_entropy(self(batch[0]), batch[1])

        def configure_optimizers(self) -> Any:
            return torch.optim.Adam(self.parameters(), lr=1e-2)

    monitor = LayerMonitor(SAMPLE)
    trainer = older.Trainer(
        max_epochs=1, accelerator="cpu", devices=1, callbacks=[monitor], logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip
    trainer.fit(Older(), loader())
    (entropy,) = monitor.history.query("layer == 'net.2' and measure == 'entropy'")["value"]
    assert trainer.callback_metrics["layerscope/entropy_at_least/net.2"] == entropy


TWO = """
import sys
sys.path[:0] = [{root!r}]
import warnings
warnings.simplefilter("ignore")
import torch
from tests.unit.integrations.test_lightning import Examined, LayerMonitor, SAMPLE, lightning, loader, net
monitor, examined = LayerMonitor(SAMPLE, save={save!r}), Examined()
torch.set_num_threads(1)
stop = lightning.callbacks.EarlyStopping("layerscope/entropy_at_least/net.2", mode="max", patience=9)
trainer = lightning.Trainer(
    max_epochs=2, accelerator="cpu", devices=2, strategy="ddp", callbacks=[monitor, examined, stop],
    logger=lightning.loggers.CSVLogger({folder!r}), enable_checkpointing=False, enable_progress_bar=False,
    enable_model_summary=False,
)
trainer.fit(net(), loader(shuffle=True))
seen = {{k: v.item() for k, v in trainer.callback_metrics.items() if k.startswith("layerscope/")}}
every = [None, None]
torch.distributed.all_gather_object(every, (repr(sorted(seen.items())), trainer.current_epoch, float(monitor.results["net.2"].entropy())))
if trainer.is_global_zero:
    assert every[0][:2] == every[1][:2], every
    assert every[0][2] != every[1][2], "nothing was there to agree on"
    monitor.history.to_pickle({folder!r} + "/history.pkl")
    import pickle
    pickle.dump(examined.tables, open({folder!r} + "/tables.pkl", "wb"))
    print("both agree")
"""


def test_two_processes_log_what_the_first_one_found(tmp_path: Path) -> None:
    """Their batch statistics differ, so their own readings may; what is logged and monitored does not."""
    import pickle

    import pandas as pd

    script = tmp_path / "two.py"
    root = Path(__file__).resolve().parents[3]
    script.write_text(TWO.format(root=str(root), folder=str(tmp_path), save=str(tmp_path / "last.lscope")))
    done = subprocess.run(
        [sys.executable, str(script)],
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("both agree") == 1
    tables = pickle.loads((tmp_path / "tables.pkl").read_bytes())
    check_history(pd.read_pickle(tmp_path / "history.pkl"), tables)
    check_logged(columns_of(tmp_path), tables)
    assert done.stderr.count("layerscope: measuring") == 1
    assert ls.load(tmp_path / "last.lscope").manifest["epoch"] == 1


# --- what is written about it -----------------------------------------------------------------------------------------------------


def test_the_page_and_the_example_run(capsys: pytest.CaptureFixture[str]) -> None:
    exec(page_code("lightning"), {})
    assert "bits" in capsys.readouterr().out.splitlines()[-1]
    code = (EXAMPLES / "monitor_lightning.py").read_text(encoding="utf-8")
    assert len(code.splitlines()) < 60
    exec(code, {"__name__": "monitor_lightning"})
    assert capsys.readouterr().out.splitlines()[-1].startswith("last epoch: ")


# --- bad input --------------------------------------------------------------------------------------------------------------------


def used_up() -> Iterator[Any]:
    batches = (x for x in [X[:100]])
    next(batches)
    return batches


@pytest.mark.parametrize(
    ("module", "arguments", "error", "message"),
    [
        (NoForward, {"data": SAMPLE}, SiteError, r"NoForward has no forward\(x\).*\n.*ls.Data\(data, forward="),
        (Net, {"data": used_up()}, DataError, "used up, or empty"),
        (Net, {"data": (X[:0], Y[:0])}, DataError, "empty"),
        (Net, {"data": SAMPLE, "samples": -1}, DataError, "samples=-1 is no number of samples"),
        (Net, {"data": SAMPLE, "layers": "net.9"}, SiteError, "matches no layer"),
        (Net, {"data": SAMPLE, "exclude": "ReLU"}, SiteError, "no site is left to read"),
    ],
)
def test_what_cannot_be_measured_stops_before_the_first_step(
    module: Any, arguments: dict[str, Any], error: type[Exception], message: str
) -> None:
    torch.manual_seed(0)
    made = module()
    with pytest.raises(error, match=message):
        trained(made, LayerMonitor(**arguments))
    assert getattr(made, "inner", made).steps == 0


def test_wrong_arguments_are_refused_when_they_are_given() -> None:
    with pytest.raises(DataError, match="data=None"):
        LayerMonitor(None)
    with pytest.raises(DataError, match="top=0"):
        LayerMonitor(SAMPLE, top=0)
    with pytest.raises(TypeError, match="data"):
        LayerMonitor()  # pyright: ignore[reportCallIssue] - what a user may type


def test_a_lone_sample_is_measured() -> None:
    monitor = LayerMonitor(np.asarray(X[:1]), samples=1)
    trained(net(), monitor, epochs=1)
    assert monitor.results.manifest["samples"] == 1

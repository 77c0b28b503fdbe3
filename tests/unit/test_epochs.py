"""A training followed on the same samples: each epoch is what `examine` finds, a window is the sum of its epochs."""

import numpy as np
import pytest

import layerscope as ls
from layerscope import measures as ms
from layerscope._errors import DataError
from layerscope._site import Activations, Samples, Site
from layerscope.measures import repeats_in
from layerscope.tallies import StateTable
from tests.conftest import require

torch = require("torch")
nn = torch.nn
pytestmark = pytest.mark.torch

X = np.random.default_rng(0).normal(size=(120, 12)).astype(np.float32)
Y = np.arange(120) % 3


def net() -> "nn.Module":
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(12, 7), nn.ReLU(), nn.Linear(7, 5), nn.ReLU())


def trained(epochs: int = 4) -> tuple[ls.Epochs, list[dict[str, np.ndarray]]]:
    """A network that changes, followed; and its activations in each epoch."""
    model, found = net(), ls.Epochs()
    shown: list[dict[str, np.ndarray]] = []
    for epoch in range(epochs):
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(
                    0.05 * torch.sin(torch.arange(float(parameter.numel())) + epoch).reshape(parameter.shape)
                )
            first = model[:2](torch.from_numpy(X))
            shown.append({"1": first.numpy(), "3": model[2:](first).numpy()})
        found.add(ls.examine(model, (X, Y), layers="ReLU"))
    return found, shown


def test_the_table_holds_every_epoch() -> None:
    found, _ = trained()
    table = found.table
    assert [*found] == [0, 1, 2, 3]
    assert table["epoch"].unique().tolist() == [0, 1, 2, 3]
    assert {"low", "high", "verdict", "coverage"} <= {*table}
    for epoch in found:
        part = table[table.epoch == epoch].drop(columns="epoch").reset_index(drop=True)
        assert part.equals(found[epoch].table)
    entropy = found.readings(ms.Entropy(estimator="c2"))
    corrected = table[(table.measure == "entropy") & (table.setting.str.contains("c2"))]
    assert entropy["value"].tolist() == corrected["value"].tolist()
    assert entropy["verdict"].tolist() == corrected["verdict"].tolist()
    assert entropy["value"].nunique() > 4


def test_a_window_is_one_table_of_its_epochs() -> None:
    """To the bit what one table counts that is shown the same rows, or one with the epoch as stratum."""
    found, shown = trained()
    plain, by_epoch, ids = StateTable(), StateTable(strata="epoch"), np.arange(120)
    for site in ("1", "3"):
        one, stratified = plain.init(Site(site)), by_epoch.init(Site(site))
        for epoch in range(4):
            a = Activations.of(shown[epoch][site])
            stratified = by_epoch.observe(stratified, a, Samples(ids, epoch=epoch))
            if epoch in (1, 2):
                one = plain.observe(one, a, Samples(ids))
        window = found.window(1, 2)[site].table
        for mine, first, second in zip(window.records(), one.records(), stratified.within(1, 2).records(), strict=True):
            np.testing.assert_array_equal(mine, first)
            np.testing.assert_array_equal(mine, second)
        assert window.samples == 240
    assert not np.array_equal(found.window(1, 2)["1"].counts(), found.window(1, 3)["1"].counts())


def test_windows_add_up() -> None:
    found, _ = trained()
    whole, parts = found.window(), found.window(0, 1).merge(found.window(2, 3))
    for site in whole:
        for mine, theirs in zip(whole[site].table.records(), parts[site].table.records(), strict=True):
            np.testing.assert_array_equal(mine, theirs)
    assert whole.manifest["epochs"] == [0, 1, 2, 3]
    assert "epochs" not in found[0].manifest


def test_a_window_claims_no_more_samples_than_there_are() -> None:
    found, _ = trained()
    assert repeats_in(found.window(0, 1)["1"].table)
    assert not repeats_in(found.window(1)["1"].table)
    reading = found.window()["1"].entropy(estimator="c2")
    assert reading.verdict not in ("measured", "corrected")
    assert "have the id of another" in reading.note


def test_other_samples_other_sites_and_epochs_twice_are_refused() -> None:
    found, _ = trained(1)
    model = net()
    with pytest.raises(DataError, match="epoch 0 is there already"):
        found.add(ls.examine(model, (X, Y), layers="ReLU"), 0)
    with pytest.raises(DataError, match="epoch 0 read 1, 3; epoch 1 1, 2, 3"):
        found.add(ls.examine(model, (X, Y), layers=["1", "2", "3"]))
    with pytest.raises(DataError, match="measured on other samples"):
        found.add(ls.examine(model, (X[:100], Y[:100]), layers="ReLU"))
    with pytest.raises(DataError, match="measured on other samples"):
        found.add(ls.examine(model, ls.Data((X, Y), ids=np.arange(120) + 1), layers="ReLU"))
    assert [*found] == [0]
    with pytest.raises(KeyError, match="no epoch 5; there are 0"):
        found[5]
    for nothing in (lambda: ls.Epochs().table, lambda: ls.Epochs().window()):
        with pytest.raises(DataError, match="there is no epoch yet"):
            nothing()


def test_shuffled_samples_and_other_thresholds_are_refused() -> None:
    """As many samples with the same running numbers, in another order or with other rules, give curves of something else."""
    model, found = net(), ls.Epochs()
    found.add(ls.examine(model, (X, Y), layers="ReLU"))
    with pytest.raises(DataError, match="measured on other samples"):
        found.add(ls.examine(model, (X[::-1].copy(), Y[::-1].copy()), layers="ReLU"))
    with pytest.raises(DataError, match="thresholds="):
        found.add(ls.examine(model, (X, Y), layers="ReLU", thresholds={"1": 0.25}))
    found.add(ls.examine(model, (X, Y), layers="ReLU"))
    assert len(found) == 2


def test_a_watched_training_loop() -> None:
    model, found = net(), ls.Epochs()
    with ls.watch(model, "ReLU") as watched:
        for _ in range(3):
            watched.reset()
            for rows in torch.randperm(120).split(40):
                model(torch.from_numpy(X)[rows]).sum().backward()
            with torch.no_grad():
                model[0].bias.add_(0.3)
            found.add(watched.results())
    assert found.table.query("measure == 'entropy'")["epoch"].nunique() == 3
    assert found[0]["1"].table.observations == found.window()["1"].table.observations / 3 == 120
    assert not np.array_equal(found[0]["1"].firing_rates().value, found[2]["1"].firing_rates().value)

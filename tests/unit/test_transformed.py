"""`ls.examine(model, data, transformations=…)`: N · T forwards, and every number that of the transformed rows by hand."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import layerscope as ls
from layerscope import measures as ms
from layerscope import transformations as ts
from layerscope._errors import DataError, MergeError
from layerscope._inputs import INPUT
from layerscope.feed import Feed
from tests.conftest import require

torch = require("torch")
nn = torch.nn
pytestmark = pytest.mark.torch

T = 6
EVERY = (
    ms.NormalizedVariance(),
    ms.NormalizedVariance("variance", aggregate="ratio of means"),
    ms.TransformationVariance(),
    ms.SampleVariance(),
    ms.NormalizedFeaturesVariance(),
    ms.NormalizedSameEquivariance(),
    ms.Anova(),
    ms.Distance(),
    ms.CKA(),
    ms.SampleVarianceByTransformation(),
    ms.EntropyByTransformation(),
)


def net(seed: int = 0) -> Any:
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1), nn.ELU(), nn.MaxPool2d(2), nn.Conv2d(4, 6, 3, padding=1), nn.ReLU(inplace=True),
        nn.Flatten(), nn.Linear(6 * 36, 10), nn.ELU(), nn.Linear(10, 3),
    ).eval()  # fmt: skip


def images(n: int = 23, seed: int = 0) -> Any:
    return torch.from_numpy(np.random.default_rng(seed).random((n, 1, 12, 12)).astype(np.float32))


def by_hand(model: Any, rows: Any) -> dict[str, np.ndarray]:
    """What every layer gives for all rows at once, and the input."""
    found, x = {str(INPUT): rows.numpy()}, rows
    with torch.no_grad():
        for k, module in enumerate(model):
            x = module(x.clone())
            found[str(k)] = x.numpy().copy()
    return found


def spread(values: np.ndarray, axis: int, flavour: str) -> np.ndarray:
    grid = values.reshape(-1, T, *values.shape[1:]).astype(np.float64)
    return (grid.std if flavour == "std" else grid.var)(axis=axis, ddof=1).mean(0)


def check_results(results: ls.Results, values: Mapping[str, np.ndarray]) -> None:
    """Both spreads of every site are those of the rows by hand, and the ratio is theirs."""
    assert len(results) > 2
    for name in results:
        t, s = spread(values[name], 1, "std"), spread(values[name], 0, "std")
        assert float(results[name].reading(ms.TransformationVariance())) == pytest.approx(t.mean(), rel=2e-5)
        assert float(results[name].reading(ms.SampleVariance())) == pytest.approx(s.mean(), rel=2e-5)
        some = s > 1e-6 * s.max()
        ratio = results[name].reading(ms.NormalizedVariance())
        assert float(ratio) == pytest.approx((t[some] / s[some]).mean(), rel=1e-4)
        assert ratio.samples == len(values[name]) // T


@pytest.mark.parametrize("batch_size", [None, 1, 13, 24, 400])
def test_every_number_is_that_of_the_rows_by_hand(batch_size: int | None) -> None:
    model, x, turns = net(), images(), ts.rotations(T)
    results = ls.examine(model, x, transformations=turns, batch_size=batch_size)
    check_results(results, by_hand(model, turns(x)))
    assert next(iter(results)) == "(model):in"
    assert [m.name for m in results.measures] == ["normalized variance", "transformation variance", "sample variance"]


def test_the_check_rejects_other_rows() -> None:
    model, x = net(), images()
    results = ls.examine(model, x, transformations=ts.rotations(T))
    with pytest.raises(AssertionError):
        check_results(results, by_hand(model, ts.rotations(T, border="edge")(x)))
    with pytest.raises(AssertionError):
        check_results(results, by_hand(net(1), ts.rotations(T)(x)))


def test_exactly_n_times_t_forwards() -> None:
    model, rows, calls = net(), [], []
    x = images(20)
    count = model.register_forward_pre_hook(lambda module, args: rows.append(len(args[0])))
    ls.examine(model, x, transformations=ts.rotations(T), batch_size=4 * T, measures=EVERY)
    count.remove()
    looks = rows[:1]  # one small batch shows what there is to read
    assert looks == [T]
    assert rows[1:] == [4 * T] * 5
    assert not calls


def test_transformations_come_before_preprocess() -> None:
    """Raw bytes are turned, then scaled; turned after normalising, the black corners would be grey."""
    raw = np.random.default_rng(0).integers(100, 255, (15, 12, 12, 1), dtype=np.uint8)

    def preprocess(batch: Any) -> Any:
        assert batch.dtype == np.uint8
        return torch.from_numpy((np.moveaxis(batch, -1, 1).astype(np.float32) / 255 - 0.5) / 0.1)

    model, turns = net(), ts.rotations(T)
    results = ls.examine(model, ls.Data(raw, preprocess=preprocess), transformations=turns)
    check_results(results, by_hand(model, preprocess(turns(raw))))
    with pytest.raises(AssertionError):
        check_results(results, by_hand(model, turns(preprocess(raw))))


def test_loaders_are_cut_anew_and_labels_stay_with_their_samples() -> None:
    x, y = images(21), torch.arange(21) % 3
    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(x, y), batch_size=8)
    model, turns = net(), ts.rotations(T)
    results = ls.examine(model, loader, transformations=turns)
    values = by_hand(model, turns(x))
    check_results(results, values)
    right = (values["8"].argmax(1).reshape(21, T) == y.numpy()[:, None]).mean(0)
    np.testing.assert_allclose([float(r) for r in results.task.by_transformation], right)
    assert results.accuracy is not None
    assert float(results.accuracy) == pytest.approx(right.mean())
    assert (results.accuracy.observations, results.accuracy.samples) == (21 * T, 21)
    by_class = ls.examine(model, loader, transformations=turns, measures=[ms.TransformationVariance(by_class=True)])
    labels = np.repeat(y.numpy(), T)
    wanted = np.mean([spread(values["7"][labels == c], 1, "std").mean() for c in range(3)])
    assert float(by_class["7"].reading(ms.TransformationVariance(by_class=True))) == pytest.approx(wanted, rel=2e-5)


def test_a_score_of_ones_own() -> None:
    x, y = images(9), torch.linspace(0, 1, 9)
    error = lambda output, target: (output[:, 0] - target) ** 2  # noqa: E731
    model, turns = net(), ts.rotations(T)
    results = ls.examine(model, ls.Data((x, y), score=error), transformations=turns, batch_size=2 * T)
    wanted = (by_hand(model, turns(x))["8"][:, 0].reshape(9, T) - y.numpy()[:, None]) ** 2
    np.testing.assert_allclose([float(r) for r in results.task.by_transformation], wanted.mean(0), rtol=1e-5)


def test_results_under_other_transformations_do_not_merge() -> None:
    def made(transformations: Any) -> ls.Results:
        return ls.examine(net(), images(), transformations=transformations, batch_size=4 * T)

    turned, alike = made(ts.rotations(T)), made(list(ts.rotations(T)))
    assert turned.merge(alike).manifest["forwards"] == 2 * turned.manifest["forwards"]
    with pytest.raises(MergeError, match=r"left has the transformations rotate 0°.*right shift"):
        turned.merge(made(ts.translations(pixels=range(T), directions="x")))
    with pytest.raises(MergeError, match="are not made alike"):  # of the same names
        turned.merge(made(ts.rotations(T, border="edge")))


def test_results_of_states_alone_survive_a_file(tmp_path: Path) -> None:
    results = ls.examine(net(), images(), transformations=ts.rotations(T), measures=[ms.Entropy()])
    loaded = ls.load(results.save(tmp_path / "states.lscope"))
    np.testing.assert_array_equal(loaded.table["value"], results.table["value"])
    assert list(loaded) == list(results)


def test_shards_merge_and_files_keep_everything(tmp_path: Path) -> None:
    model, x, turns = net(), (images(), np.arange(23) % 3), ts.rotations(T)
    how: dict[str, Any] = {"transformations": turns, "batch_size": 4 * T, "measures": EVERY}
    whole = ls.examine(model, x, **how)
    shards = [ls.examine(model, x, shard=(i, 3), **how) for i in range(3)]
    merged = shards[2].merge(shards[0]).merge(shards[1])
    loaded = ls.load(whole.save(tmp_path / "grid.lscope"))
    for name in whole:
        for measure in EVERY:
            try:
                one = whole[name].reading(measure)
            except ls.LayerscopeError:
                continue  # no space
            np.testing.assert_allclose(merged[name].reading(measure).value, one.value, rtol=2e-6)
            two = loaded[name].reading(measure)
            np.testing.assert_array_equal([*two.numbers, two.low], [*one.numbers, one.low])
            assert two.note == one.note
    assert merged.task.columns == whole.task.columns
    assert loaded.task == whole.task


def test_states_ride_along_as_if_the_rows_were_the_data() -> None:
    model, x, turns = net(), images(), ts.rotations(T)
    results = ls.examine(
        model, x, transformations=turns, measures=[ms.Entropy(), ms.NormalizedVariance(), ms.Activation("deviation")]
    )
    plain = ls.examine(model, turns(x), measures=[ms.Entropy(), ms.Activation("deviation")])
    for name in plain:
        assert float(results[name].entropy()) == float(plain[name].entropy())
        table, other = (r[name].table for r in (results, plain))
        assert (table.observations, table.samples) == (
            other.observations,
            other.samples // T,
        )  # versions of one sample are no samples
        np.testing.assert_allclose(
            results[name].reading(ms.Activation("deviation")).value,
            plain[name].reading(ms.Activation("deviation")).value,
            rtol=1e-6,
        )


def test_references_ride_the_same_pass() -> None:
    results = ls.examine(net(), images(), transformations=ts.rotations(T), references=["untrained"])
    twin = results.references["untrained"]
    assert [*twin] == [*results]
    one, two = (r["(model):in"].reading(ms.NormalizedVariance()) for r in (results, twin))
    assert float(one) == float(two)


def test_texts_go_from_batch_to_batch() -> None:
    """Tokens under a transformation of texts, padded and masked: pooled over their own positions."""

    def tokens(texts: list[str]) -> dict[str, Any]:
        ids = np.zeros((len(texts), 8), np.int64)
        for row, text in zip(ids, texts, strict=True):
            row[: len(text)] = [ord(c) % 31 + 1 for c in text]
        return {"ids": torch.from_numpy(ids), "attention_mask": torch.from_numpy((ids > 0).astype(np.int64))}

    class Reader(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.embed, self.dense, self.act = nn.Embedding(40, 12), nn.Linear(12, 9), nn.GELU()

        def forward(self, ids: Any, attention_mask: Any) -> Any:
            return self.act(self.dense(self.embed(ids)))

    grid = ts.Transformations((ts.Identity(), ts.Custom(lambda b: [t.upper() for t in b], title="upper case"), ts.Custom(lambda b: [t[::-1] for t in b], title="reversed")))  # fmt: skip
    texts = [chr(97 + k % 26) * (k % 5 + 1) + "xyz" for k in range(20)]
    model, measure = Reader(), ms.NormalizedVariance(pool="mean")
    results = ls.examine(
        model, ls.Data(texts, preprocess=tokens), transformations=grid, measures=[measure], batch_size=9
    )
    assert [*results] == ["act"]
    given = tokens([version for text in texts for version in (text, text.upper(), text[::-1])])
    with torch.no_grad():
        values, mask = model(**given).numpy().astype(np.float64), given["attention_mask"].numpy()[..., None]
    pooled = ((values * mask).sum(1) / mask.sum(1)).reshape(20, 3, 9)
    wanted = (pooled.std(1, ddof=1).mean(0) / pooled.std(0, ddof=1).mean(0)).mean()
    assert float(results["act"].reading(measure)) == pytest.approx(wanted, rel=1e-5)
    with pytest.raises(ls.LayerscopeError, match="some positions are masked"):
        ls.examine(model, ls.Data(texts, preprocess=tokens), transformations=grid)


# --- exact references -----------------------------------------------------------------------------------------------------------------


def equivariance(layer: Any, grid: ts.Transformations, x: Any) -> float:
    results = ls.examine(
        nn.Sequential(layer), x, transformations=grid, layers="all", measures=[ms.NormalizedSameEquivariance()]
    )
    return float(results["0"].reading(ms.NormalizedSameEquivariance()))


def test_circular_convolution_shifts_with_its_input() -> None:
    torch.manual_seed(0)
    layer = nn.Conv2d(1, 4, 3, padding=1, padding_mode="circular")
    shifts = ts.Transformations(tuple(ts.Roll(i, j) for i in (0, 3, 7) for j in (0, 5)))
    assert equivariance(layer, shifts, images()) < 1e-6
    assert equivariance(nn.Conv2d(1, 4, 3, padding=1), shifts, images()) > 0.1


def test_a_symmetric_kernel_turns_with_its_input() -> None:
    torch.manual_seed(0)
    layer = nn.Conv2d(1, 4, 3, padding=1, bias=False)
    assert 0.7 < equivariance(layer, ts.quarter_turns(), images(60)) < 1.1
    with torch.no_grad():
        layer.weight[:] = sum(torch.rot90(layer.weight, k, (2, 3)) for k in range(4)) / 4
    assert equivariance(layer, ts.quarter_turns(), images(60)) < 1e-6
    double = layer.double()
    results = ls.examine(nn.Sequential(double), images(60).double(), transformations=ts.quarter_turns(), layers="all", measures=[ms.NormalizedSameEquivariance()])  # fmt: skip
    assert float(results["0"].reading(ms.NormalizedSameEquivariance(floor=0))) < 1e-7


# --- where it happens -----------------------------------------------------------------------------------------------------------------


def test_images_are_transformed_where_the_model_is() -> None:
    """N images move to the device, not N · T; code of the user's gets what the user gave."""
    moved: list[int] = []

    def place(x: Any) -> Any:
        moved.append(len(x))
        return x.double()

    turns, own = ts.rotations(T), ts.Transformations((ts.Identity(), ts.Custom(lambda x: x * 2)))
    (batch,) = Feed(images(5), transformations=turns, batch_size=99, place=place)
    assert batch.args[0].dtype == torch.float64
    assert moved[-1] == 5
    for data, grid in ((images(5), own), (ls.Data(images(5), preprocess=lambda x: x), turns)):
        (batch,) = Feed(data, transformations=grid, batch_size=99, place=place)
        assert batch.args[0].dtype == torch.float32


@pytest.mark.gpu
def test_on_a_gpu_the_numbers_are_those_of_the_cpu() -> None:
    if not torch.cuda.is_available():
        pytest.skip("no GPU here")
    here = ls.examine(net(), images(), transformations=ts.rotations(T), measures=EVERY)
    there = ls.examine(net().cuda(), images(), transformations=ts.rotations(T), measures=EVERY)
    np.testing.assert_allclose(there.table["value"], here.table["value"], rtol=1e-3, atol=1e-5)


# --- bad input ------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("message", "how"),
    [
        (r"transformations=3: give a set such as ls.transformations.rotations\(16\)", {"transformations": 3}),
        ("only 'rotate 0°'", {"transformations": ts.rotations(1)}),
        ("only 'rotate 30°'", {"transformations": ts.rotate(30)}),
        ("transformations: 'turn' is none", {"transformations": ["turn", "flip"]}),
        ("states per='sample' span a whole sample, of which there are 6 versions", {"transformations": ts.rotations(T), "measures": [ms.Entropy(per="sample")]}),
        ("nothing was transformed", {"measures": [ms.SameEquivariance()]}),
        ("became", {"transformations": (ts.Identity(), ts.Custom(lambda x: x[:, :, 1:]))}),
        ("NaN or infinite values of finite inputs", {"transformations": (ts.Identity(), ts.Custom(lambda x: x / 0 * 0))}),
        ("its inverse is none", {"transformations": (ts.Identity(), ts.Custom(lambda x: x.roll(1, 3), back=lambda x: x.roll(1, 3)))}),
    ],
)  # fmt: skip
def test_bad_arguments_say_what_to_do(message: str, how: dict[str, Any]) -> None:
    with pytest.raises(DataError, match=message):
        ls.examine(net(), images(), **how)


def test_too_few_of_either_is_a_note_and_no_number() -> None:
    table = ls.examine(net(), images(1), transformations=ts.rotations(T)).table
    assert table["value"].isna().all()
    assert table["note"].str.contains("only one sample was seen").all()
    table = ls.examine(net(), images(), measures=[ms.NormalizedVariance()]).table
    assert table["value"].isna().all()
    assert table["note"].str.contains("Pass transformations= with two or more").all()


def test_layers_without_space_are_listed_with_the_reason() -> None:
    results = ls.examine(net(), images(), transformations=ts.rotations(T), measures=[ms.SameEquivariance()])
    lines = {line["layer"]: line for line in results.table.to_dict("records")}
    assert all(np.isfinite(lines[name]["value"]) for name in ("(model):in", "1", "4"))
    assert np.isnan(lines["7"]["value"])
    assert "no space" in lines["7"]["note"]

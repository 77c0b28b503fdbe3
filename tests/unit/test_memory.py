"""`memory_limit` changes passes and never a number: layers take turns, and those that are done lie in files."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import layerscope as ls
from layerscope import measures as ms
from layerscope import transformations as ts
from layerscope._choices import parse_bytes
from layerscope._errors import DataError, MemoryLimitError
from layerscope._room import Room, in_mib
from layerscope._shelf import Shelf
from layerscope._site import Site
from layerscope.tallies import Moments
from tests.conftest import require

torch = require("torch")
nn = torch.nn
pytestmark = pytest.mark.torch

T, N = 4, 26
GRID = (ms.NormalizedVariance(), ms.Distance(), ms.Goodfellow("quantile", 0.1))
STATES = (ms.Entropy(), ms.Information())


def net(seed: int = 0) -> Any:
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(1, 6, 3, padding=1), nn.ELU(), nn.MaxPool2d(2), nn.Conv2d(6, 8, 3, padding=1), nn.ReLU(),
        nn.Flatten(), nn.Linear(8 * 36, 40), nn.Tanh(), nn.Linear(40, 3),
    ).eval()  # fmt: skip


X = np.random.default_rng(0).random((N, 1, 12, 12)).astype(np.float32)
Y = np.arange(N) % 3


def rows_through(model: Any, run: Any) -> int:
    """How many rows the model was given, without the small batch that shows what there is."""
    seen: list[int] = []
    hook = model.register_forward_pre_hook(lambda module, args: seen.append(len(args[0])))
    run()
    hook.remove()
    return sum(seen[1:])


def check_equal(one: ls.Results, two: ls.Results) -> None:
    """Every tally is the same to the bit, and so is everything that is read of it."""
    check_tallies(one, two)
    assert one.table.equals(two.table)


def check_tallies(one: ls.Results, two: ls.Results) -> None:
    assert [*one] == [*two]
    for name in one:
        mine, theirs = (r.values_by_site[r[name].site] for r in (one, two))
        assert mine.keys() == theirs.keys()
        for tally in mine:
            a, b = tally.to_arrays(mine[tally]), tally.to_arrays(theirs[tally])
            assert all(np.array_equal(a[key], b[key], equal_nan=a[key].dtype.kind == "f") for key in a), (name, tally)
    assert one.task == two.task
    assert one.manifest["samples"] == two.manifest["samples"]
    assert one.manifest["batches"] == two.manifest["batches"]


HOW: dict[str, Any] = {"transformations": ts.rotations(T), "batch_size": 2 * T, "measures": GRID}


@pytest.fixture(scope="module")
def whole() -> ls.Results:
    return ls.examine(net(), (X, Y), **HOW)


def smallest(**how: Any) -> str:
    """What the message says would do, for a limit far too small."""
    with pytest.raises(MemoryLimitError) as caught:
        ls.examine(net(), (X, Y), memory_limit="80 kB", **how)
    return str(caught.value).partition("memory_limit='")[2].partition("'")[0]


def test_layers_take_turns_and_no_number_changes(whole: ls.Results) -> None:
    limit, model = smallest(**HOW), net()
    results: list[ls.Results] = []
    rows = rows_through(model, lambda: results.append(ls.examine(model, (X, Y), memory_limit=limit, **HOW)))
    (tight,) = results
    check_equal(tight, whole)
    turns = [each for each in tight.manifest["passes"] if "transformations" in each]
    firsts = [each for each in tight.manifest["passes"] if "thresholds" in each]
    assert len(turns) > 1
    assert len(turns) == len(firsts)
    assert tight.manifest["forwards"] == len(turns) * N * T + len(firsts) * N
    assert rows == len(turns) * 13 * 2 * T + len(firsts) * (-(-N // (2 * T))) * 2 * T  # the last batch is padded
    assert tight.manifest["memory_limit"] == limit
    assert isinstance(tight.values_by_site, Shelf)
    assert whole.manifest["forwards"] == N * T + N
    assert whole.manifest["passes"] == [
        f"{N} untransformed samples, for thresholds of all 4 sites", f"{N} samples × {T} transformations: all 4 sites"
    ]  # fmt: skip


def test_the_check_rejects_another_number(whole: ls.Results) -> None:
    with pytest.raises(AssertionError):
        check_equal(ls.examine(net(), (X + 1e-6, Y), **HOW), whole)
    with pytest.raises(AssertionError):
        check_equal(ls.examine(net(), (X, np.roll(Y, 1)), **HOW), whole)


@pytest.mark.parametrize("limit", ["0.36 MiB", "0.6 MiB", "1 MiB", "100 MiB"])
def test_any_limit_gives_the_same_numbers(limit: str, whole: ls.Results) -> None:
    check_equal(ls.examine(net(), (X, Y), memory_limit=limit, **HOW), whole)


def test_tallies_and_a_batch_never_take_more_than_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    most = 0
    put = Room.put

    def watched(self: Room, *arguments: Any) -> None:
        nonlocal most
        put(self, *arguments)
        most = max(most, self.used + self.batch)

    monkeypatch.setattr(Room, "put", watched)
    limit = smallest(**HOW)
    ls.examine(net(), (X, Y), memory_limit=limit, **HOW)
    assert 0.5 * parse_bytes(limit) < most <= parse_bytes(limit)


def test_references_take_turns_too(whole: ls.Results) -> None:
    plain = ls.examine(net(), (X, Y), references=["untrained"], **HOW)
    tight = ls.examine(net(), (X, Y), references=["untrained"], memory_limit=smallest(**HOW), **HOW)
    check_tallies(plain, whole)
    check_equal(tight, plain)
    check_equal(tight.references["untrained"], plain.references["untrained"])


def test_states_that_grow_in_the_middle_take_turns() -> None:
    """Tables are small in the first batch: the largest gives way when they have grown."""
    how: dict[str, Any] = {"measures": STATES, "batch_size": 4, "layers": ["1", "4", "7"]}
    plain = ls.examine(net(), (X, Y), **how)
    turned: list[int] = []
    for limit in range(80_000, 400_000, 20_000):
        try:
            tight = ls.examine(net(), (X, Y), memory_limit=limit, **how)
        except MemoryLimitError as error:
            assert "More than memory_limit=" in str(error) or "one sample takes" in str(error)  # noqa: PT017 - some of them fail
            continue
        check_equal(tight, plain)
        turned.append(len(tight.manifest["passes"]))
    assert max(turned) > 1
    assert min(turned) == 1


def test_a_table_that_outgrows_the_limit_says_so() -> None:
    with pytest.raises(
        MemoryLimitError,
        match=r"(?s)take too much after \d+ samples: 1 0\.\d+ MiB.*they grow with the samples.*More than memory_limit=.*sketch=",
    ):
        ls.examine(net(), (X, Y), measures=STATES, batch_size=4, memory_limit=60_000)


def test_what_is_said_to_be_enough_is_enough(whole: ls.Results) -> None:
    for more in ({}, {"measures": [ms.NormalizedVariance("variance")]}, {"batch_size": None}):
        how = {**HOW, **more}
        ls.examine(net(), (X, Y), memory_limit=smallest(**how), **how)


def test_a_limit_too_small_for_one_sample() -> None:
    message = r"one sample under 4 transformations takes 0\.\d+ MiB .* memory_limit='0\.\d+ MiB' leaves as much .*fewer transformations"
    with pytest.raises(MemoryLimitError, match=message):
        ls.examine(net(), X, transformations=ts.rotations(T), memory_limit="20 kB")
    with pytest.raises(MemoryLimitError, match="one sample takes"):
        ls.examine(net(), X, memory_limit=1000)


def test_batches_are_smaller_where_nobody_chose_their_size() -> None:
    """A smaller batch may change the last bit of an activation, so it is done only where the size is left open."""
    grid = ts.rotations(T)
    whole = ls.examine(net(), (X, Y), transformations=grid)
    tight = ls.examine(net(), (X, Y), transformations=grid, memory_limit="1 MB")
    assert whole.manifest["batch_size"] == 32
    assert tight.manifest["batch_size"] == 16
    for name in whole:
        one, two = (float(r[name].reading(ms.NormalizedVariance())) for r in (whole, tight))
        assert two == pytest.approx(one, rel=2e-6)
    with pytest.raises(MemoryLimitError, match=r"a batch of 128 rows takes .* Choose batch_size=\d+, or leave it out"):
        ls.examine(net(), (X, Y), transformations=grid, memory_limit="0.7 MB", batch_size=128)


def test_the_choices_are_named() -> None:
    with pytest.raises(MemoryLimitError, match=r"layers=, exclude=.*pool=.*flavour='variance'.*sketch=.*samples="):
        ls.examine(net(), (X, Y), memory_limit="80 kB", **HOW)


def test_data_that_can_be_read_once_only() -> None:
    def batches() -> Iterator[Any]:
        yield from np.array_split(X, 5)

    how: dict[str, Any] = {"transformations": ts.rotations(T), "batch_size": 8}
    plain = ls.examine(net(), batches(), **how)
    tallies = sum(t.nbytes(v) for values in plain.values_by_site.values() for t, v in values.items())
    with pytest.raises(
        MemoryLimitError, match=r"of tallies after 2 samples; the largest are .*read once only.*memory_limit='"
    ) as caught:
        ls.examine(net(), batches(), memory_limit=tallies, **how)
    enough = str(caught.value).partition("would do")[0].rpartition("memory_limit='")[2].partition("'")[0]
    check_equal(ls.examine(net(), batches(), memory_limit=enough, **how), plain)
    turns = ls.examine(net(), batches, memory_limit=tallies, **how)  # a function can be asked again
    check_equal(turns, plain)
    assert len(turns.manifest["passes"]) == 2
    with pytest.raises(
        DataError, match="taken from the untransformed data first, and these data can be read once only"
    ):
        ls.examine(net(), batches(), transformations=ts.rotations(T), measures=[ms.Goodfellow()])


def test_rows_in_a_folder_cannot_be_begun_anew(tmp_path: Path) -> None:
    kept = ls.examine(net(), X, keep_rows=True, batch_size=8)
    tallies = sum(t.nbytes(v) for values in kept.values_by_site.values() for t, v in values.items())
    check_equal(ls.examine(net(), X, keep_rows=True, batch_size=8, memory_limit=tallies), kept)
    with pytest.raises(MemoryLimitError, match="states in a folder cannot be begun anew"):
        ls.examine(net(), X, keep_rows=str(tmp_path / "rows"), memory_limit=tallies // 2, batch_size=8)


@pytest.mark.parametrize("how", ["shuffled", "augmented"])
def test_data_that_change_between_passes_are_refused(how: str) -> None:
    """Numbers of other data would stand side by side."""
    data = torch.utils.data.TensorDataset(torch.from_numpy(X), torch.from_numpy(Y))
    loader: Any = torch.utils.data.DataLoader(data, batch_size=8, shuffle=True)
    if how == "augmented":
        rng = np.random.default_rng(0)

        def augmented() -> Any:
            return ((x + np.float32(rng.random()), y) for x, y in zip(np.split(X, 2), np.split(Y, 2), strict=True))

        loader = augmented
    for more in ({"memory_limit": smallest(**HOW)}, {"measures": [ms.Goodfellow()]}):
        with pytest.raises(DataError, match=r"read more than once .* sample \d+ is another one than before"):
            ls.examine(net(), loader, **{**HOW, **more})
    once = ls.examine(net(), loader, **{**HOW, "measures": [ms.NormalizedVariance()], "memory_limit": "100 MB"})
    assert len(once.manifest["passes"]) == 1


@pytest.mark.parametrize("stop", [3, 14, 20, 28])
def test_a_run_in_turns_goes_on_from_its_file(
    stop: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, whole: ls.Results
) -> None:
    monkeypatch.setattr("layerscope._manifest.SAVE_EVERY", 0.0)
    path, limit, seen = tmp_path / "run.lscope", smallest(**HOW), 0

    def breaks(batch: Any) -> Any:
        nonlocal seen
        seen += 1
        if seen == stop + 6:
            raise KeyboardInterrupt
        return batch

    how = {**HOW, "memory_limit": limit}
    with pytest.raises(KeyboardInterrupt):
        ls.examine(net(), ls.Data((X, Y), preprocess=breaks), resume=path, **how)
    resumed = ls.examine(net(), (X, Y), resume=path, **how)
    check_equal(resumed, whole)
    assert resumed.manifest["passes"] == ls.examine(net(), (X, Y), **how).manifest["passes"]


def test_results_on_the_shelf_are_results(tmp_path: Path, whole: ls.Results) -> None:
    tight = ls.examine(net(), (X, Y), memory_limit=smallest(**HOW), **HOW)
    check_equal(ls.load(tight.save(tmp_path / "x.lscope")), whole)
    halves = [ls.examine(net(), (X, Y), shard=(i, 2), memory_limit=smallest(**HOW), **HOW) for i in range(2)]
    merged = halves[1].merge(halves[0])
    for name in whole:
        for tally, value in whole.values_by_site[whole[name].site].items():
            assert tally.same(merged.values_by_site[merged[name].site][tally], value)


def test_a_shelf_takes_its_folder_along() -> None:
    site, tally = Site("a"), Moments()
    shelf = Shelf({site: {tally: tally.init(site)}, Site("b"): {}})
    shelf.put_away(site)
    shelf.put_away(site)
    folder = shelf._folder
    assert folder is not None
    assert [*shelf] == [site, Site("b")]
    assert tally.same(shelf[site][tally], tally.init(site))
    shelf[site] = {}
    del shelf[Site("b")]
    assert [*shelf] == [site]
    assert len(shelf) == 1
    assert folder.exists()
    del shelf
    assert not folder.exists()


@pytest.mark.parametrize("size", [1, 1023, 20_000, 2**20, 123_456_789, 3 * 2**30 + 1])
def test_bytes_are_rounded_up(size: int) -> None:
    assert size <= parse_bytes(in_mib(size)) <= 1.02 * size + 64

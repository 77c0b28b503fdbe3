"""What went wrong in TensorState, each fault with a test that would catch it, and a probe that has the fault to prove it."""

import copy
import io
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import layerscope.compat.tensorstate as ts
from layerscope._errors import DataError, EmptyTally
from tests.conftest import require

torch = require("torch")
pytestmark = pytest.mark.torch
nn = torch.nn


def small(inplace: bool = False) -> Any:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 11, 3), nn.ReLU(inplace), nn.Flatten(), nn.Linear(11 * 36, 4)).eval()


def images(count: int, seed: int = 1) -> Any:
    return torch.randn(count, 1, 8, 8, generator=torch.Generator().manual_seed(seed))


def truth(maps: Any) -> dict[bytes, int]:
    """Counts of states by NumPy alone: (N, C, …) maps to {packed state: how often}."""
    rows = np.moveaxis(maps.detach().float().numpy(), 1, -1).reshape(-1, maps.shape[1])
    states, counts = np.unique(np.packbits(rows > 0, axis=1, bitorder="little"), axis=0, return_counts=True)
    return {state.tobytes(): int(n) for state, n in zip(states, counts, strict=True)}


def check_counts(probe: Any, expected: dict[bytes, int]) -> None:
    assert probe.state_count == sum(expected.values())
    assert dict(zip(probe.state_ids(), probe.counts().tolist(), strict=True)) == expected


class Wrong:
    """A hook of our own making that packs and counts in NumPy, with a fault."""

    def __init__(self, fault: Callable[["Wrong", Any], None]) -> None:
        self.fault, self.rows = fault, []

    def __call__(self, module: Any, args: Any, output: Any) -> None:
        self.fault(self, output)

    def keep(self, maps: Any) -> None:
        rows = np.moveaxis(maps.detach().numpy(), 1, -1).reshape(-1, maps.shape[1])
        self.rows.append(np.packbits(rows > 0, axis=1, bitorder="little"))

    @property
    def state_count(self) -> int:
        return sum(map(len, self.rows))

    def counts(self) -> Any:
        return np.unique(np.concatenate(self.rows), axis=0, return_counts=True)[1]

    def state_ids(self) -> list[bytes]:
        return [row.tobytes() for row in np.unique(np.concatenate(self.rows), axis=0)]


def faultless(wrong: Wrong, maps: Any) -> None:
    wrong.keep(maps)


def run(probe: Any, model: Any, x: Any, batch: int) -> Any:
    """The convolution's output for all of x, while `probe` hangs on it."""
    handle = model[0].register_forward_hook(probe)
    with torch.no_grad():
        for part in x.split(batch):
            model(part)
    handle.remove()
    with torch.no_grad():
        return model[0](x)


def test_the_checker_knows_a_right_probe() -> None:
    right = Wrong(faultless)
    check_counts(right, truth(run(right, small(), images(20), 7)))


# --- 1. batches that overwrite each other ------------------------------------------------------------------------------------------------


def from_many_threads(probe: Any) -> dict[bytes, int]:
    layer = nn.Conv2d(1, 11, 3).eval()
    layer.register_forward_hook(probe)
    parts = images(320).split(8)
    start = threading.Barrier(8)

    def work(mine: int) -> None:
        start.wait()
        with torch.no_grad():
            for part in parts[mine::8]:
                layer(part)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(8)))
    layer._forward_hooks.clear()
    with torch.no_grad():
        return truth(layer(images(320)))


@pytest.mark.parametrize("on_disk", [False, True])
def test_threads_lose_nothing(tmp_path: Path, on_disk: bool) -> None:
    probe = ts.StateCaptureHook("x", tmp_path if on_disk else None)
    expected = from_many_threads(probe)
    check_counts(probe, expected)
    rows, counts = np.unique(probe.raw_states[:], axis=0, return_counts=True)
    assert {row.tobytes(): int(n) for row, n in zip(rows, counts, strict=True)} == expected


def test_a_batch_that_overwrites_another_is_seen() -> None:
    def overwrite(wrong: Wrong, maps: Any) -> None:
        wrong.keep(maps)
        wrong.rows = [np.concatenate(wrong.rows)[:2000]]

    probe = Wrong(overwrite)
    with pytest.raises(AssertionError):
        check_counts(probe, from_many_threads(probe))


def test_the_same_data_give_the_same_numbers_every_time() -> None:
    probe, seen = ts.StateCaptureHook("x"), []
    for _ in range(3):
        run(probe, small(), images(100), 9)
        seen.append((probe.efficiency(), probe.raw_states.tobytes()))
        probe.reset_states()
    assert seen[0] == seen[1] == seen[2]


# --- 2. batches that are too large -------------------------------------------------------------------------------------------------------


def test_a_batch_of_any_size_is_counted() -> None:
    """64 channels at 112², 84 samples: 0 states in the original."""
    pool = nn.AvgPool2d(1)
    pool.register_forward_hook(probe := ts.StateCaptureHook("pool"))
    maps = torch.zeros(84, 64, 112, 112, dtype=torch.bfloat16)
    maps[:, 3] = 1
    pool(maps)
    assert probe.state_count == 84 * 112 * 112
    assert probe.counts().tolist() == [84 * 112 * 112]
    assert probe.state_ids() == [bytes([8, 0, 0, 0, 0, 0, 0, 0])]


def test_a_dropped_batch_is_seen() -> None:
    def drop(wrong: Wrong, maps: Any) -> None:
        if len(maps) <= 16:
            wrong.keep(maps)

    probe = Wrong(drop)
    expected = truth(run(probe, small(), images(50), 20))
    with pytest.raises(AssertionError):
        check_counts(probe, expected)


@pytest.mark.parametrize("units", [32_768, 40_003])
def test_layers_of_any_width_are_counted(units: int) -> None:
    layer = nn.Identity()
    layer.register_forward_hook(probe := ts.StateCaptureHook("wide"))
    x = torch.randn(6, units, generator=torch.Generator().manual_seed(0))
    layer(x[[0, 1, 2, 0, 1, 0]])
    assert sorted(probe.counts().tolist()) == [1, 2, 3]
    assert np.array_equal(np.unique(probe.states, axis=0), np.unique(x[:3].numpy() > 0, axis=0))


# --- 3. failures that nobody hears of ----------------------------------------------------------------------------------------------------


def break_the_disk(probe: Any) -> None:
    """From now on nothing can be appended."""

    def full(rows: Any) -> None:
        raise OSError("No space left on device")

    probe._rows.store = type(
        "Full", (), {"append": staticmethod(full), "shape": (0, 2), "resize": lambda self, shape: None}
    )()


def test_a_failure_is_raised_where_it_happens_and_stays_known(tmp_path: Path) -> None:
    model = small()
    model[0].register_forward_hook(probe := ts.StateCaptureHook("x", tmp_path))
    model(images(3))
    assert probe.state_count == 108
    break_the_disk(probe)
    with pytest.raises(OSError, match="No space left"):
        model(images(3))
    for read in (
        lambda: probe.state_count,
        probe.counts,
        probe.state_ids,
        probe.entropy,
        probe.max_entropy,
        lambda: probe.states,
    ):
        with pytest.raises(DataError, match=r"x: a batch could not be captured.*No space left on device.*reset_states"):
            read()


def test_after_a_failure_a_reset_begins_anew() -> None:
    layer = nn.Linear(3, 5)
    layer.register_forward_hook(probe := ts.StateCaptureHook("x"))
    layer(torch.randn(4, 3))
    probe(layer, (), torch.randn(2, 5))
    with pytest.raises(ValueError, match="5 units so far, 6 now"):
        probe(layer, (), torch.randn(2, 6))
    with pytest.raises(DataError, match="could not be captured"):
        probe.efficiency()
    probe.reset_states()
    layer(torch.randn(4, 3))
    assert probe.state_count == 4


# --- 4. in-place operations after the hook -----------------------------------------------------------------------------------------------


def negatives_that_fire_later(probe: Any) -> dict[bytes, int]:
    """A module that overwrites its input after the probe has seen it: everything is positive then."""
    layer = nn.Conv2d(1, 11, 3).eval()
    layer.register_forward_hook(probe)
    x = images(10)
    with torch.no_grad():
        expected = truth(torch.conv2d(x, layer.weight, layer.bias))
        nn.Sequential(layer, nn.Hardtanh(0.5, 1.0, inplace=True))(x)
    return expected


def test_operations_in_place_change_nothing() -> None:
    probe = ts.StateCaptureHook("x")
    check_counts(probe, negatives_that_fire_later(probe))
    assert len(probe.counts()) > 1


def test_reading_the_tensor_too_late_is_seen() -> None:
    late = []
    probe = Wrong(lambda wrong, maps: late.append(maps))
    expected = negatives_that_fire_later(probe)
    probe.keep(late[0])
    with pytest.raises(AssertionError):
        check_counts(probe, expected)


def test_relu_in_place_reads_the_same_as_a_copying_one() -> None:
    numbers = []
    for inplace in (True, False):
        model = ts.build_efficiency_model(small(inplace), ["Conv2d", "ReLU"], method="both")
        model(images(20))
        numbers.append([p.counts().tolist() for p in model.efficiency_layers])
    assert numbers[0] == numbers[1]


# --- 5. before, and models of every kind -------------------------------------------------------------------------------------------------


def test_before_and_both_read_inputs() -> None:
    model = ts.build_efficiency_model(small(), ["Conv2d", "Linear"], method="both")
    maps = []
    model[0].register_forward_hook(lambda m, a, out: maps.append((a[0], out)))
    model(images(5))
    before, after, flat, logits = model.efficiency_layers
    assert [p.name for p in model.efficiency_layers] == [
        "0_pre_states",
        "0_post_states",
        "3_pre_states",
        "3_post_states",
    ]
    check_counts(before, truth(maps[0][0]))
    check_counts(after, truth(maps[0][1]))
    assert (flat.max_entropy(), flat.state_count, logits.max_entropy()) == (11 * 36, 5, 4)
    model = ts.build_efficiency_model(small(), ["Conv2d"], method="before")
    model(images(5))
    assert [p.name for p in model.efficiency_layers] == ["0_pre_states"]
    assert model.efficiency_layers[0].state_count == 5 * 64


class Odd(nn.Module):
    """Nested, shared under two names, used twice, several inputs by position and by name, a tuple as output."""

    def __init__(self) -> None:
        super().__init__()
        self.block = nn.Sequential(
            nn.Sequential(nn.Linear(6, 6), nn.ReLU()), nn.ModuleDict({"last": nn.Linear(6, 6)})["last"]
        )
        self.again = self.block[0][0]
        self.lstm = nn.LSTM(6, 5, batch_first=True)

    def forward(self, a: Any, b: Any) -> Any:
        a = self.block(a)
        out, _ = self.lstm(input=(self.again(a) + b)[:, None])
        return out, a


def test_nested_shared_reused_and_multi_input_models() -> None:
    torch.manual_seed(3)
    model = Odd().eval()
    a, b = torch.randn(7, 6), torch.randn(7, 6)
    ts.build_efficiency_model(model, ["again", "block.1", "LSTM"], method="both")
    first, uses = model.block[0][0], []
    handle = first.register_forward_hook(lambda m, args, out: uses.append(out))
    model(a, b=b)
    handle.remove()
    probes = {p.name: p for p in model.efficiency_layers}
    names = [f"{layer}_{port}_states" for layer in ("block.0.0", "block.1", "lstm") for port in ("pre", "post")]
    assert list(probes) == names
    assert len(uses) == 2
    check_counts(probes["block.0.0_post_states"], truth(torch.cat(uses)))
    assert probes["block.0.0_pre_states"].state_count == 14
    assert (probes["lstm_post_states"].max_entropy(), probes["lstm_post_states"].state_count) == (5, 7)
    assert (probes["lstm_pre_states"].max_entropy(), probes["lstm_pre_states"].state_count) == (6, 7)  # passed by name


# --- 6. attaching, detaching, copying, compiling -----------------------------------------------------------------------------------------


def test_a_second_build_replaces_the_first() -> None:
    model = ts.build_efficiency_model(small(), ["Conv2d"])
    old = model.efficiency_layers[0]
    ts.build_efficiency_model(model, ["Conv2d", "ReLU"], exclude=["1"])
    model(images(3))
    assert old.state_count == 0
    assert [p.state_count for p in model.efficiency_layers] == [108]
    assert len(model[0]._forward_hooks) == 1


def test_a_build_that_fails_leaves_the_old_probes() -> None:
    model = ts.build_efficiency_model(small(), ["Conv2d"])
    with pytest.raises(LookupError):
        ts.build_efficiency_model(model, ["Conv3d"])
    model(images(3))
    assert model.efficiency_layers[0].state_count == 108


@pytest.mark.parametrize("method", ["before", "after", "both"])
def test_detaching_is_exact(method: str) -> None:
    model, seen = small(), []
    model[0].register_forward_hook(lambda m, a, o: seen.append("after"))
    model[0].register_forward_pre_hook(lambda m, a: seen.append("before"))
    hooks = [(list(m._forward_hooks), list(m._forward_pre_hooks), sorted(m.__dict__)) for m in model.modules()]
    ts.build_efficiency_model(model, ["Conv2d", "ReLU"], method=method)
    model(images(2))
    probes = ts.detach_efficiency_model(model)
    assert [(list(m._forward_hooks), list(m._forward_pre_hooks), sorted(m.__dict__)) for m in model.modules()] == hooks
    model(images(2))
    assert seen == ["before", "after"] * 2
    assert probes[0].state_count in (2 * 36, 2 * 64)
    assert ts.detach_efficiency_model(model) == []


def test_a_deep_copy_is_free_and_says_so() -> None:
    model = ts.build_efficiency_model(small(), ["Conv2d", "ReLU"], method="both")
    model[0].register_forward_hook(by_hand := ts.StateCaptureHook("by hand"))
    twin = copy.deepcopy(model)
    twin(images(4))
    assert by_hand.state_count == 0
    assert [p.state_count for p in model.efficiency_layers] == [0] * 4
    with pytest.raises(EmptyTally, match="is a copy that came along with a copied model"):
        ts.network_efficiency(twin)
    ts.build_efficiency_model(twin, ["Conv2d"])
    twin(images(4))
    assert (twin.efficiency_layers[0].state_count, by_hand.state_count) == (144, 0)


def test_a_saved_model_loads_where_there_is_no_layerscope(tmp_path: Path) -> None:
    model = ts.build_efficiency_model(small(), ["Conv2d", "ReLU"], method="both")
    torch.save(model, tmp_path / "model.pt")
    code = (
        "import sys, torch\n"
        "model = torch.load(sys.argv[1], weights_only=False)\n"
        "assert model(torch.zeros(2, 1, 8, 8)).shape == (2, 4)\n"
        "assert model.efficiency_layers == [] and 'layerscope' not in sys.modules\n"
    )
    ran = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "model.pt")], capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stderr
    assert model.state_dict().keys() == small().state_dict().keys()


def test_a_hook_by_hand_is_saved_with_its_model_and_is_inert() -> None:
    model, file = small(), io.BytesIO()
    model[0].register_forward_hook(ts.StateCaptureHook("x"))
    torch.save(model, file)
    file.seek(0)
    loaded = torch.load(file, weights_only=False)
    loaded(images(2))
    (hook,) = loaded[0]._forward_hooks.values()
    with pytest.raises(EmptyTally, match="is a copy"):
        hook.entropy()


def compiled_first(model: Any, x: Any) -> Any:
    compiled = torch.compile(model, backend="eager")
    compiled(x)
    ts.build_efficiency_model(compiled, ["Conv2d", "ReLU"], method="both")
    return compiled


def attached_first(model: Any, x: Any) -> Any:
    ts.build_efficiency_model(model, ["Conv2d", "ReLU"], method="both")
    return torch.compile(model, backend="eager")


@pytest.fixture
def _compiler() -> Any:
    torch.compiler.reset()
    yield
    torch.compiler.reset()


@pytest.mark.usefixtures("_compiler")
@pytest.mark.parametrize("prepare", [compiled_first, attached_first])
def test_compiled_models_are_counted_in_full(prepare: Callable[[Any, Any], Any]) -> None:
    model, x = small(), images(24)
    with torch.no_grad():
        compiled = prepare(model, x[:10])
        for part in (x[:10], x[10:20], x[20:]):
            compiled(part)
        plain = ts.build_efficiency_model(small(), ["Conv2d", "ReLU"], method="both")
        plain(x)
    for mine, theirs in zip(compiled.efficiency_layers, plain.efficiency_layers, strict=True):
        assert mine.state_count == theirs.state_count
        assert mine.counts().tolist() == theirs.counts().tolist()


@pytest.mark.usefixtures("_compiler")
def test_a_detached_compiled_model_counts_no_more() -> None:
    compiled = attached_first(small(), None)
    with torch.no_grad():
        compiled(images(10))
        probes = ts.detach_efficiency_model(compiled)
        compiled(images(10))
    assert [p.state_count for p in probes] == [640, 360, 360, 360]


@pytest.mark.usefixtures("_compiler")
def test_hooks_that_compiled_code_passes_by_are_seen() -> None:
    """Why making a probe has models compiled again: an ordinary hook is passed by."""
    model, probe = small(), Wrong(faultless)
    compiled = torch.compile(model, backend="eager")
    with torch.no_grad():
        expected = truth(model[0](images(10)))
        compiled(images(10))
        model[0].register_forward_hook(probe)
        compiled(images(10))
    with pytest.raises(AssertionError):
        check_counts(probe, expected)


@pytest.mark.parametrize("reentrant", [True, False])
def test_checkpointed_layers_are_counted_once(reentrant: bool) -> None:
    from torch.utils.checkpoint import checkpoint

    model = ts.build_efficiency_model(small().train(), ["Conv2d", "ReLU"])
    plain = Wrong(faultless)
    model[0].register_forward_hook(plain)
    out = checkpoint(model, images(6).requires_grad_(), use_reentrant=reentrant)
    out.sum().backward()
    assert [p.state_count for p in model.efficiency_layers] == [216, 216]
    assert plain.state_count == 432  # a hook that counts the forward of backward too


def test_replicas_in_threads_fill_one_probe() -> None:
    """What DataParallel does on several devices: replicas share the hooks and run in threads."""
    model = ts.build_efficiency_model(small(), ["Conv2d"])
    replicas = []
    for _ in range(4):
        replica = model._replicate_for_data_parallel()
        replica._modules = {name: layer._replicate_for_data_parallel() for name, layer in model._modules.items()}
        for name, layer in replica._modules.items():
            layer._parameters = model._modules[name]._parameters
        replicas.append(replica)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda replica, part: replica(part), replicas, images(40).split(10)))
    probe = model.efficiency_layers[0]
    expected = truth(torch.conv2d(images(40), model[0].weight, model[0].bias))
    check_counts(probe, expected)
    ts.reset_efficiency_model(model)
    wrapped = nn.DataParallel(model)
    wrapped(images(40))
    check_counts(probe, expected)


# --- 7. numbers that depend on the batch size --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("batch", [1, 7, 64, 200])
def test_the_batch_size_changes_nothing(batch: int) -> None:
    probe = ts.StateCaptureHook("x")
    check_counts(probe, truth(run(probe, small(), images(200), batch)))


def test_counting_in_how_many_batches_a_state_was_seen_is_seen() -> None:
    def once_a_batch(wrong: Wrong, maps: Any) -> None:
        wrong.keep(maps)
        wrong.rows[-1] = np.unique(wrong.rows[-1], axis=0)

    probe = Wrong(once_a_batch)
    expected = truth(run(probe, small(), images(200), 64))
    with pytest.raises(AssertionError):
        check_counts(probe, expected)

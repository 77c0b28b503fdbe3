"""One probe: where it reads, what it tells, what it keeps, what it refuses."""

import copy
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import layerscope.compat.tensorstate as ts
from layerscope._errors import DataError, DtypeError, EmptyTally, ShapeError
from tests.conftest import require

torch = require("torch")
pytestmark = pytest.mark.torch
nn = torch.nn


def seen(layer: Any, *inputs: Any, **settings: Any) -> Any:
    """A probe that has seen one forward of a layer."""
    probe = ts.StateCaptureHook("x", **settings)
    layer.register_forward_hook(probe)
    layer(*inputs)
    return probe


def rows(*values: list[float]) -> Any:
    return seen(nn.Identity(), torch.tensor(values))


# --- what it tells ---------------------------------------------------------------------------------------------------------------------


def test_numbers_of_a_probe() -> None:
    probe = rows([1.0, -1, 1], [-1, -1, 1], [1, -1, 1], [-1, -1, 1], [1, -1, 1], [1, -1, 1], [1, 1, -1], [-1, 1, -1])
    assert probe.state_count == 8
    assert probe.state_ids() == [b"\x02", b"\x03", b"\x04", b"\x05"]
    assert (probe.counts().tolist(), probe.counts().dtype) == ([1, 1, 2, 4], np.int64)
    assert probe.states.tolist() == [
        [False, True, False],
        [True, True, False],
        [False, False, True],
        [True, False, True],
    ]
    assert probe.raw_states.tolist() == [[5], [4], [5], [4], [5], [5], [3], [2]]
    assert (probe.max_entropy(), probe.entropy(), probe.entropy(0), probe.entropy(None)) == (3.0, 1.75, 2.0, 3.0)
    assert probe.entropy(alpha=np.inf) == 1.0
    assert probe.efficiency() == pytest.approx(1.75 / 3)
    assert probe.efficiency(2) == pytest.approx(1.5405684 / 3)
    assert probe.efficiency(alpha1=1, alpha2=0) == 0.875
    assert {type(n) for n in (probe.efficiency(), probe.entropy(), probe.max_entropy())} == {float}
    assert repr(probe) == "<StateCaptureHook x: 8 states of 3 units>"


def test_reading_agrees_with_the_functions() -> None:
    probe = seen(nn.Conv2d(2, 70, 3), torch.randn(5, 2, 9, 9))
    edges, index = ts.sort_states(probe.raw_states, probe.state_count)
    assert np.array_equal(np.diff(edges), probe.counts())
    first = probe.raw_states[index[edges[:-1]]]
    assert [row.tobytes() for row in first] == probe.state_ids()
    assert np.array_equal(ts.decompress_states(first, 70), probe.states)
    assert np.array_equal(ts.compress_states(probe.states), first)
    assert probe.entropy() == ts.entropy(probe.counts())


def test_numbers_follow_what_comes_later() -> None:
    layer = nn.Identity()
    probe = seen(layer, torch.tensor([[1.0, 1.0]]))
    assert probe.counts().tolist() == [1]
    probe.counts()[:] = 7  # the caller's own
    layer(torch.tensor([[1.0, 1.0], [-1.0, 1.0]]))
    assert probe.counts().tolist() == [1, 2]
    assert len(probe.raw_states) == 3


def test_always_on_and_always_off_layers_keep_the_originals_zero() -> None:
    for sign in (1.0, -1.0):
        assert (rows([sign, sign], [sign, sign]).efficiency(), rows([sign, sign]).entropy()) == (0.0, 0.0)


def test_nan_and_infinity_are_counted() -> None:
    probe = rows([np.nan, np.inf, -np.inf, 1.0])
    assert (probe.nonfinite, probe.state_ids()) == ((1, 2), [bytes([0b1010])])


def test_orders_of_an_efficiency() -> None:
    probe = rows([1.0, -1.0], [-1.0, 1.0])
    with pytest.raises(ValueError, match="alpha1=0 must be larger than alpha2=1"):
        probe.efficiency(0, 1)
    with pytest.raises(ValueError, match="alpha1=1 must be larger than alpha2=1"):
        probe.efficiency(1, 1)
    with pytest.raises(ValueError, match="must be a number ≥ 0"):
        probe.entropy(-1)
    assert np.isnan(rows([1.0, 1.0]).efficiency(2, 1))  # 0 / 0


def test_raw_states_cannot_be_changed_by_accident() -> None:
    with pytest.raises(ValueError, match="read-only"):
        rows([1.0, 1.0]).raw_states[0] = 0


READINGS: dict[str, Any] = {
    "counts": lambda p: p.counts(), "state_ids": lambda p: p.state_ids(), "raw_states": lambda p: p.raw_states,
    "states": lambda p: p.states, "max_entropy": lambda p: p.max_entropy(), "entropy": lambda p: p.entropy(),
    "entropy(None)": lambda p: p.entropy(None), "efficiency": lambda p: p.efficiency(),
}  # fmt: skip


@pytest.mark.parametrize("reading", READINGS)
def test_before_any_data_there_is_an_error_and_no_zero(reading: str) -> None:
    probe = ts.StateCaptureHook("conv_1")
    assert probe.state_count == 0
    with pytest.raises(EmptyTally, match="conv_1: nothing was captured yet"):
        READINGS[reading](probe)
    probe = rows([1.0, 1.0])
    probe.reset_states()
    with pytest.raises(EmptyTally, match="x: nothing was captured yet"):
        READINGS[reading](probe)


@pytest.mark.parametrize("reading", [*READINGS, "state_count"])
@pytest.mark.parametrize("copied", [copy.deepcopy, lambda p: pickle.loads(pickle.dumps(p))])
def test_a_copy_says_that_it_is_one(copied: Any, reading: str) -> None:
    layer = nn.Identity()
    twin = copied(seen(layer, torch.ones(2, 2)))
    twin(layer, (), torch.ones(2, 2))
    assert type(twin) is ts.StateCaptureHook
    with pytest.raises(EmptyTally, match=r"x: this probe is a copy.*build_efficiency_model"):
        READINGS.get(reading, lambda p: p.state_count)(twin)


# --- where it reads --------------------------------------------------------------------------------------------------------------------

PLACES = [
    (nn.Conv2d(1, 5, 3), (2, 1, 8, 8), 5, 72),
    (nn.Conv2d(1, 5, 3), (1, 8, 8), 5, 36),
    (nn.Conv1d(2, 5, 3), (4, 2, 9), 5, 28),
    (nn.Conv3d(1, 5, 2), (2, 1, 4, 4, 4), 5, 54),
    (nn.ConvTranspose2d(3, 5, 2), (2, 3, 4, 4), 5, 50),
    (nn.BatchNorm1d(5), (4, 5), 5, 4),
    (nn.BatchNorm1d(5), (4, 5, 6), 5, 24),
    (nn.GroupNorm(2, 4), (2, 4, 3), 4, 6),
    (nn.InstanceNorm1d(4), (2, 4, 3), 4, 6),
    (nn.AdaptiveAvgPool2d(1), (4, 6, 5, 5), 6, 4),
    (nn.Linear(3, 5), (4, 3), 5, 4),
    (nn.Linear(3, 5), (3,), 5, 1),
    (nn.Linear(3, 5), (4, 6, 7, 3), 5, 168),
    (nn.LayerNorm(5), (4, 6, 5), 5, 24),
    (nn.LSTM(3, 5), (7, 4, 3), 5, 28),
    (nn.GRUCell(3, 5), (7, 3), 5, 7),
    (nn.TransformerEncoderLayer(4, 2, 8, batch_first=True), (2, 3, 4), 4, 6),
    (nn.ReLU(), (4, 6), 6, 4),
    (nn.ReLU(), (4, 6, 5, 5), 6, 100),
]


@pytest.mark.parametrize(
    ("layer", "shape", "units", "count"), PLACES, ids=lambda v: type(v).__name__ if isinstance(v, nn.Module) else str(v)
)
def test_the_layer_says_where_its_units_are(layer: Any, shape: tuple[int, ...], units: int, count: int) -> None:
    probe = seen(layer, torch.randn(shape))
    assert (probe.max_entropy(), probe.state_count) == (units, count)


def test_derived_classes_are_where_their_parents_are() -> None:
    class Mine(nn.Conv1d):
        pass

    assert seen(Mine(2, 5, 3), torch.randn(4, 2, 9)).max_entropy() == 5


def test_embeddings_attention_and_tuples() -> None:
    assert seen(nn.Embedding(9, 5), torch.tensor([[1, 2, 3]])).raw_states.shape == (3, 1)
    x = torch.randn(4, 3, 8)
    assert seen(nn.MultiheadAttention(8, 2, batch_first=True), x, x, x).max_entropy() == 8
    assert seen(nn.MultiheadAttention(8, 2, batch_first=True), x, x, x, part=1).max_entropy() == 3
    with pytest.raises(ShapeError, match=r"1 tensors came by at this Linear, and part 1 .* was asked for"):
        seen(nn.Linear(3, 2), torch.randn(4, 3), part=1)


def test_the_user_can_say_where_the_units_are() -> None:
    x = torch.randn(4, 6, 5)
    assert seen(nn.GELU(), x, unit_axis=1).max_entropy() == 6
    assert seen(nn.GELU(), x, unit_axis=-1).max_entropy() == 5
    assert seen(nn.Linear(5, 7), x, unit_axis=0).max_entropy() == 4
    probe = ts.StateCaptureHook("x")
    probe.unit_axis = 2
    probe(nn.GELU(), (), x)
    assert probe.max_entropy() == 5


def test_where_nobody_can_know_there_is_an_error() -> None:
    with pytest.raises(
        ShapeError, match=r"which axis of shape \(4, 6, 5\) holds the units\? A GELU does not say(.|\n)*unit_axis=1"
    ):
        seen(nn.GELU(), torch.randn(4, 6, 5))
    with pytest.raises(
        ShapeError,
        match=r"which axis of shape \(4,\) holds the units\? An? Identity does not say|Identity does not say",
    ):
        seen(nn.Identity(), torch.randn(4))
    with pytest.raises(ShapeError, match=r"of shape \(4, 6\) holds the units\? Axis 2 is not there"):
        seen(nn.Linear(3, 6), torch.randn(4, 3), unit_axis=2)
    with pytest.raises(ShapeError, match="0 tensors came by"):
        ts.StateCaptureHook("x")(nn.Identity(), (), None)


def test_pre_hooks_and_hooks_with_keywords() -> None:
    layer = nn.Linear(3, 5)
    before, after = ts.StateCaptureHook("before"), ts.StateCaptureHook("after")
    layer.register_forward_pre_hook(before)
    layer.register_forward_hook(after, with_kwargs=True)
    layer(torch.randn(4, 3))
    assert (before.max_entropy(), after.max_entropy()) == (3, 5)


def test_the_output_is_passed_on_unchanged() -> None:
    layer, x = nn.Linear(3, 5), torch.randn(4, 3, requires_grad=True)
    plain = layer(x)
    seen(layer, x)
    assert torch.equal(layer(x), plain)
    layer(x).sum().backward()
    assert x.grad is not None


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64", "int64", "bool"])
def test_any_type_of_number(dtype: str) -> None:
    x = torch.tensor([[1, 0, 1], [0, 0, 1]]).to(getattr(torch, dtype))
    assert seen(nn.Identity(), x).raw_states.tolist() == [[5], [4]]


def test_any_memory_layout() -> None:
    x = torch.randn(3, 7, 4, 5)
    plain, last = seen(nn.ReLU(), x), seen(nn.ReLU(), x.to(memory_format=torch.channels_last))
    assert np.array_equal(plain.raw_states, last.raw_states)
    order = np.packbits((x.permute(0, 2, 3, 1).reshape(-1, 7) > 0).numpy(), axis=1, bitorder="little")
    assert np.array_equal(plain.raw_states, order)  # by sample, then position in raster order


def test_values_that_cannot_be_read_are_an_error() -> None:
    with pytest.raises(DtypeError, match="complex"):
        seen(nn.Identity(), torch.ones(2, 2, dtype=torch.complex64))
    layer = nn.Linear(3, 2)
    layer.register_forward_hook(ts.StateCaptureHook("x"))
    with pytest.raises(DtypeError, match=r"torch\.func"):
        torch.func.vmap(layer)(torch.randn(4, 3))


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
def test_nested_tensors_are_an_error() -> None:
    nested = torch.nested.nested_tensor([torch.ones(2, 3), torch.ones(4, 3)])
    with pytest.raises(ShapeError, match=r"nested tensor.*enable_nested_tensor=False"):
        seen(nn.Identity(), nested)


def test_batches_without_samples_add_nothing() -> None:
    layer = nn.Linear(3, 5)
    probe = seen(layer, torch.randn(0, 3))
    assert probe.state_count == 0
    layer(torch.randn(2, 3))
    assert probe.state_count == 2


# --- beginning anew --------------------------------------------------------------------------------------------------------------------


def test_a_reset_forgets_everything() -> None:
    layer = nn.Identity()
    probe = seen(layer, torch.ones(3, 4))
    probe.reset_states()
    assert probe.state_count == 0
    layer(torch.ones(2, 9))  # another width is as good
    assert (probe.max_entropy(), probe.raw_states.tolist()) == (9, [[255, 1], [255, 1]])


def test_the_shape_of_what_comes_can_be_laid_down() -> None:
    layer = nn.Identity()
    layer.register_forward_hook(probe := ts.StateCaptureHook("x"))
    probe.reset_states((None, 4, None, 2))
    layer(torch.ones(3, 4, 7, 2))
    assert probe.state_count == 42
    with pytest.raises(ShapeError, match=r"reset_states said \(any, 4, any, 2\), this batch is \(3, 4, 7, 5\)"):
        layer(torch.ones(3, 4, 7, 5))


# --- on disk ---------------------------------------------------------------------------------------------------------------------------


def test_rows_on_disk(tmp_path: Path) -> None:
    zarr = require("zarr")
    layer = nn.Conv2d(1, 11, 3)
    layer.register_forward_hook(disk := ts.StateCaptureHook("a.b", tmp_path))
    layer.register_forward_hook(memory := ts.StateCaptureHook("a.b"))
    for count in (3, 1, 4):
        layer(torch.randn(count, 1, 6, 6))
    file = tmp_path / "tensor_states" / "a.b.zarr"
    assert isinstance(disk.raw_states, zarr.Array)
    assert (disk.raw_states.shape, disk.raw_states.dtype) == ((128, 2), np.uint8)
    assert np.array_equal(zarr.open_array(str(file), mode="r")[:], memory.raw_states)
    assert disk.counts().tolist() == memory.counts().tolist()
    assert np.array_equal(ts.sort_states(disk.raw_states, 128)[1], ts.sort_states(memory.raw_states, 128)[1])
    with pytest.raises(ValueError, match=r"read-only|read only"):
        disk.raw_states[0] = 0
    disk.reset_states()
    assert zarr.open_array(str(file), mode="r").shape == (0, 2)
    layer(torch.randn(2, 1, 6, 6))
    assert (disk.state_count, disk.raw_states.shape) == (32, (32, 2))


def test_nothing_on_disk_is_overwritten(tmp_path: Path) -> None:
    first, late = ts.StateCaptureHook("x", tmp_path), ts.StateCaptureHook("x", tmp_path)
    first(nn.Identity(), (), torch.ones(2, 3))
    with pytest.raises(
        DataError, match=r"x: .*x\.zarr exists already, and nothing is overwritten.*another storage_path"
    ):
        ts.StateCaptureHook("x", tmp_path)
    with pytest.raises(DataError, match=r"x\.zarr exists already"):
        late(nn.Identity(), (), torch.ones(2, 3))
    assert first.raw_states[:].tolist() == [[7], [7]]


def test_names(tmp_path: Path) -> None:
    for name in ("", None, 3):
        with pytest.raises(DataError, match="a probe needs a name"):
            ts.StateCaptureHook(name)  # type: ignore[arg-type]
    with pytest.raises(DataError, match=r"'\.\./x' names a file under .* plain name"):
        ts.StateCaptureHook("../x", tmp_path)


# --- what there is ---------------------------------------------------------------------------------------------------------------------


def test_the_abstract_probe_cannot_be_made() -> None:
    with pytest.raises(TypeError, match="abstract"):
        ts.AbstractStateCapture("x")  # type: ignore[abstract]


def test_the_keras_layer_is_there_when_asked_for() -> None:
    code = (
        "import sys, layerscope.compat.tensorstate as ts; assert 'keras' not in sys.modules;"
        "assert all(module.StateCapture.__name__ == 'StateCapture' for module in (ts, ts.Layers, ts.TensorState))"
    )
    require("keras")
    subprocess.run([sys.executable, "-c", code], check=True)
    with pytest.raises(AttributeError, match="has no 'StateCaptures'"):
        _ = ts.StateCaptures  # pyright: ignore[reportAttributeAccessIssue]


def test_without_keras_the_keras_layer_says_so() -> None:
    code = "import sys; sys.modules['keras'] = None; from layerscope.compat.tensorstate import StateCapture"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert ran.returncode == 1
    assert "ImportError: StateCapture is a layer of Keras 3, which is not installed: pip install keras" in ran.stderr


def test_importing_it_loads_no_framework() -> None:
    code = (
        "import sys, layerscope.compat.tensorstate as ts; ts.StateCaptureHook('x'); ts.network_efficiency([1]);"
        "print(*{'torch', 'keras', 'tensorflow', 'jax', 'numba', 'pandas', 'zarr', 'matplotlib'} & set(sys.modules))"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == ""


def test_two_probes_of_one_name_never_share_rows(tmp_path: Path) -> None:
    """In memory each counts for itself; on disk the second would write into the rows of the first, and is refused."""
    model = nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 3))
    probes = ts.StateCaptureHook("p"), ts.StateCaptureHook("p")
    handles = [layer.register_forward_hook(probe) for layer, probe in zip((model[0], model[2]), probes, strict=True)]
    model(torch.randn(5, 4))
    assert [probe.state_count for probe in probes] == [5, 5]
    for handle in handles:
        handle.remove()
    for layer in (model[0], model[2]):
        layer.register_forward_hook(ts.StateCaptureHook("p", disk_path=tmp_path))
    with pytest.raises(DataError, match="exists already, and nothing is overwritten"):
        model(torch.randn(5, 4))

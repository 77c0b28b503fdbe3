"""Probes on whole models, and numbers of whole networks."""

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import layerscope.compat.tensorstate as ts
from layerscope._errors import DataError, EmptyTally, SiteError
from tests.conftest import require

torch = require("torch")
pytestmark = pytest.mark.torch
nn = torch.nn


def model() -> Any:
    torch.manual_seed(0)
    parts = {"conv": nn.Conv2d(1, 6, 3), "act": nn.ReLU(), "flat": nn.Flatten(), "fc": nn.Linear(96, 3)}
    return nn.Sequential(Block(parts))


class Block(nn.Module):
    def __init__(self, parts: dict[str, Any]) -> None:
        super().__init__()
        self.parts = nn.ModuleDict(parts)

    def forward(self, x: Any) -> Any:
        for part in self.parts.values():
            x = part(x)
        return x


def images(count: int = 4) -> Any:
    return torch.randn(count, 1, 6, 6, generator=torch.Generator().manual_seed(count))


def names(built: Any) -> list[str]:
    return [probe.name for probe in built.efficiency_layers]


# --- which layers ----------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("attach_to", "exclude", "found"),
    [
        (["Conv2d"], [], ["conv"]),
        (["Conv2d", "Linear"], [], ["conv", "fc"]),
        (["0.parts.fc", "Conv2d"], [], ["conv", "fc"]),
        (["Conv2d", "Linear", "ReLU"], ["Linear"], ["conv", "act"]),
        (["Conv2d", "Linear"], ["0.parts.conv"], ["fc"]),
        ("Linear", (), ["fc"]),
    ],
)
def test_layers_by_class_and_by_name(attach_to: Any, exclude: Any, found: list[str]) -> None:
    built = ts.build_efficiency_model(model(), attach_to, exclude)
    assert names(built) == [f"0.parts.{name}_post_states" for name in found]


def test_the_model_itself_can_be_watched() -> None:
    built = ts.build_efficiency_model(nn.Linear(3, 2), ["Linear"])
    assert names(built) == ["(model)_post_states"]
    built(torch.randn(5, 3))
    assert built.efficiency_layers[0].state_count == 5


@pytest.mark.parametrize(
    ("attach_to", "exclude", "message"),
    [
        (["Conv2D"], [], r"attach_to has 'Conv2D', which is no layer\. Did you mean 'Conv2d'\?"),
        (["0.parts.cnov"], [], r"Did you mean '0\.parts\.conv'\?"),
        (["Conv2d"], ["nothing"], r"exclude has 'nothing', which is no layer"),
        (["Conv2d"], ["Conv2d"], r"attach_to=\['Conv2d'\], exclude=\['Conv2d'\] leaves no layer"),
        ([], [], r"leaves no layer"),
    ],
)
def test_unknown_layers_are_an_error_that_lists_them(attach_to: Any, exclude: Any, message: str) -> None:
    with pytest.raises(SiteError, match=message) as caught:
        ts.build_efficiency_model(model(), attach_to, exclude)
    assert "0.parts.fc" in str(caught.value)
    assert "Classes are: Block, Conv2d, Flatten, Linear, ModuleDict, ReLU, Sequential" in str(caught.value)


@pytest.mark.parametrize("attach_to", [[nn.Conv2d], [3], 3, None])
def test_only_names_are_names(attach_to: Any) -> None:
    with pytest.raises(SiteError, match=r"attach_to=.* must be names of classes or layers"):
        ts.build_efficiency_model(model(), attach_to)


def test_an_unknown_method_is_an_error() -> None:
    with pytest.raises(DataError, match="method='during' is none of 'before', 'after', 'both'"):
        ts.build_efficiency_model(model(), ["Conv2d"], method="during")


def test_what_is_no_model_is_an_error() -> None:
    for function in (lambda m: ts.build_efficiency_model(m, ["Conv2d"]), ts.detach_efficiency_model):
        with pytest.raises(SiteError, match=r"builtins\.int is no model\. Give a torch\.nn\.Module or a keras\.Model"):
            function(3)


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
def test_a_model_that_runs_no_hooks_is_refused() -> None:
    traced = torch.jit.trace(nn.Sequential(nn.Linear(3, 2)), torch.ones(1, 3))
    with pytest.raises(SiteError, match=r"scripted or traced model.*runs no hooks"):
        ts.build_efficiency_model(traced, ["Linear"])


# --- nonlinearities have the units of what they are applied to --------------------------------------------------------------------------


class Applied(nn.Module):
    def __init__(self, before: Any, between: Any = None) -> None:
        super().__init__()
        self.before, self.between, self.act = before, between or (lambda x: x), nn.GELU()

    def forward(self, x: Any) -> Any:
        return self.act(self.between(self.before(x)))


@pytest.mark.parametrize(
    ("before", "between", "shape", "units"),
    [
        (nn.Conv1d(2, 7, 3), None, (3, 2, 9), 7),
        (nn.Linear(2, 7), None, (3, 9, 2), 7),
        (nn.Linear(2, 7), None, (3, 4, 5, 2), 7),  # channels last
        (nn.Conv2d(2, 7, 3), None, (3, 2, 9, 9), 7),
        (nn.Conv1d(2, 7, 3), lambda x: torch.max_pool1d(x, 2), (3, 2, 9), 7),
        (nn.LayerNorm(6), lambda x: x + 1, (3, 9, 6), 6),
    ],
)
def test_nonlinearities(before: Any, between: Any, shape: tuple[int, ...], units: int) -> None:
    for method in ("after", "before"):
        built = ts.build_efficiency_model(Applied(before, between), ["GELU"], method=method)
        built(torch.randn(shape))
        assert built.efficiency_layers[0].max_entropy() == units


def test_a_rearranged_tensor_is_not_guessed_at() -> None:
    built = ts.build_efficiency_model(Applied(nn.Conv1d(2, 7, 3), lambda x: x.transpose(1, 2)), ["GELU"])
    with pytest.raises(
        ValueError, match=r"act_post_states: which axis of shape \(3, 5, 7\)(.|\n)*set its unit_axis = 1"
    ):
        built(torch.randn(3, 2, 7))
    (probe,) = built.efficiency_layers
    probe.unit_axis = 2
    probe.reset_states()
    built(torch.randn(3, 2, 7))
    assert (probe.max_entropy(), probe.state_count) == (7, 15)


def test_a_shared_nonlinearity_of_several_widths_is_an_error() -> None:
    act = nn.ReLU()
    built = ts.build_efficiency_model(nn.Sequential(nn.Linear(3, 4), act, nn.Linear(4, 5), act), ["ReLU"])
    with pytest.raises(ValueError, match=r"1_post_states: 4 units so far, 5 now\. .*shared ReLU.*exclude="):
        built(torch.randn(2, 3))


# --- wrappers, disk, reset ---------------------------------------------------------------------------------------------------------------


def test_wrapped_models_show_their_probes() -> None:
    plain = model()
    wrapped = nn.DataParallel(plain)
    assert ts.build_efficiency_model(wrapped, ["Conv2d"]) is wrapped
    assert wrapped.efficiency_layers is plain.efficiency_layers
    assert names(wrapped) == ["0.parts.conv_post_states"]
    wrapped(images())
    assert wrapped.efficiency_layers[0].state_count == 64
    ts.detach_efficiency_model(wrapped)
    assert not any(hasattr(each, "efficiency_layers") for each in (plain, wrapped))


def test_states_on_disk(tmp_path: Path) -> None:
    zarr = require("zarr")
    built = ts.build_efficiency_model(model(), ["Conv2d", "Linear"], method="both", storage_path=tmp_path)
    built(images())
    files = sorted(p.name for p in (tmp_path / "tensor_states").iterdir())
    assert files == sorted(f"{name}.zarr" for name in names(built))
    rows = zarr.open_array(str(tmp_path / "tensor_states" / "0.parts.conv_post_states.zarr"), mode="r")
    assert rows.shape == (64, 1)
    with pytest.raises(DataError, match=r"0\.parts\.conv_post_states\.zarr exists already"):
        ts.build_efficiency_model(built, ["Conv2d"], storage_path=str(tmp_path))
    built(images())
    assert [p.state_count for p in built.efficiency_layers] == [288, 128, 8, 8]  # the old ones are at work
    ts.reset_efficiency_model(built)
    assert rows.store is not None
    assert zarr.open_array(str(tmp_path / "tensor_states" / "0.parts.conv_post_states.zarr"), mode="r").shape == (0, 1)


def test_reset_also_before_any_data() -> None:
    built = ts.build_efficiency_model(model(), ["Conv2d", "Linear"])
    ts.reset_efficiency_model(built)
    built(images())
    ts.reset_efficiency_model(built)
    assert [p.state_count for p in built.efficiency_layers] == [0, 0]
    built(images())
    assert [p.state_count for p in built.efficiency_layers] == [64, 4]


@pytest.mark.parametrize("function", [ts.reset_efficiency_model, ts.network_efficiency])
def test_models_without_probes_are_an_error(function: Any) -> None:
    for plain in (model(), ts.detach_efficiency_model(model()) or model()):
        with pytest.raises(SiteError, match=r"this Sequential has no probes.*build_efficiency_model"):
            function(plain)


# --- numbers of networks -----------------------------------------------------------------------------------------------------------------


def test_network_efficiency_of_a_model() -> None:
    built = ts.build_efficiency_model(model(), ["Conv2d", "Linear"])
    built(images(20))
    each = [probe.efficiency() for probe in built.efficiency_layers]
    assert ts.network_efficiency(built) == pytest.approx(np.sqrt(each[0] * each[1]))
    assert type(ts.network_efficiency(built)) is float


def test_a_model_that_saw_nothing_has_no_efficiency() -> None:
    built = ts.build_efficiency_model(model(), ["Conv2d", "Linear"])
    built[0].parts["conv"](images())
    with pytest.raises(EmptyTally, match=r"network_efficiency: 0\.parts\.fc_post_states captured nothing yet"):
        ts.network_efficiency(built)


def test_a_zero_is_a_zero_and_names_its_layer() -> None:
    built = ts.build_efficiency_model(model(), ["Conv2d", "Linear"])
    with torch.no_grad():
        built[0].parts["fc"].weight.zero_()
        built[0].parts["fc"].bias.fill_(-1)
    built(images())
    zero = ts.network_efficiency(built)
    assert isinstance(zero, float)
    assert isinstance(zero, ts.TensorState.ZeroEfficiency)
    assert zero == 0.0
    assert zero.note == "efficiency 0 at 0.parts.fc_post_states"
    assert (str(zero), f"{100 * zero:.1f}%") == ("0.0 (efficiency 0 at 0.parts.fc_post_states)", "0.0%")
    assert pickle.loads(pickle.dumps(zero)).note == zero.note
    entries = ts.network_efficiency([0.5, 0.0, 0.0])
    assert isinstance(entries, ts.TensorState.ZeroEfficiency)
    assert entries.note == "efficiency 0 at entry 1, counted from 0; entry 2, counted from 0"
    assert ts.aIQ(zero, 0.9, 2) == 0.0


@pytest.mark.parametrize("nothing", [[], (), np.array([]), iter(())])
def test_no_efficiency_at_all_is_an_error(nothing: Any) -> None:
    with pytest.raises(EmptyTally, match="there is no efficiency to take the mean of"):
        ts.network_efficiency(nothing)


@pytest.mark.parametrize(
    ("values", "which"), [([0.5, -0.1], r"-0\.1 \(entry 1\)"), ([np.nan], r"nan \(entry 0\)"), ([0.0, np.inf], "inf")]
)
def test_values_that_are_no_efficiencies_are_an_error(values: Any, which: str) -> None:
    with pytest.raises(DataError, match=f"efficiencies are numbers ≥ 0, but there is {which}"):
        ts.network_efficiency(values)


def test_a_single_number_is_no_network() -> None:
    with pytest.raises(DataError, match=r"0\.5 is no model with probes and no sequence"):
        ts.network_efficiency(0.5)


@pytest.mark.parametrize("weight", [0, -1, np.int64(0), 1.0, 2.5, True, "2", None])
def test_the_weight_is_an_integer_from_one(weight: Any) -> None:
    with pytest.raises(ValueError, match="the weight must be an integer ≥ 1"):
        ts.aIQ(0.5, 0.9, weight)


def test_entropy_refuses_what_has_none() -> None:
    with pytest.raises(EmptyTally, match="no observation at all"):
        ts.entropy([])
    with pytest.raises(ValueError, match="counts must be numbers ≥ 0"):
        ts.entropy([1, -1])
    with pytest.raises(ValueError, match="must be a number ≥ 0"):
        ts.entropy([1, 1], alpha=-1)

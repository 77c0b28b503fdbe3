"""Models of every make: default sites, unit axes and firing rules, each site's states against NumPy's."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import layerscope as ls
from layerscope._errors import SiteError, ThresholdError
from tests.conftest import require
from tests.unit.probes.oracle import Expected, Model, capture, check_against_oracle, check_sites, table_of

torch = require("torch")
nn, F = torch.nn, torch.nn.functional
N = 6
LN2 = float(np.log(np.float32(2)))


def images(channels: int = 3, size: int = 8) -> Any:
    return torch.randn(N, channels, size, size, generator=torch.Generator().manual_seed(1))


def vectors(features: int = 5) -> Any:
    return torch.randn(N, features, generator=torch.Generator().manual_seed(2))


def sequences(steps: int = 7, features: int = 5) -> Any:
    return torch.randn(N, steps, features, generator=torch.Generator().manual_seed(3))


def tokens() -> Any:
    return torch.randint(0, 9, (N, 7), generator=torch.Generator().manual_seed(4))


# ---- layers of strangers


class Relu(nn.Module):
    def forward(self, x: Any) -> Any:
        return F.relu(x)


class Swish(nn.Module):
    def forward(self, x: Any) -> Any:
        return x * torch.sigmoid(x)


class Gelu(nn.Module):
    def forward(self, x: Any) -> Any:
        return 0.5 * x * (1 + torch.erf(x / 2**0.5))


class Matrix(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.randn(5, 4))

    def forward(self, x: Any) -> Any:
        return x @ self.w


class Positions(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.p = nn.Parameter(torch.randn(7, 5))

    def forward(self, x: Any) -> Any:
        return x + self.p


class FrozenNorm(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        for name, value in (
            ("scale", torch.randn(channels)),
            ("bias", torch.randn(channels)),
            ("variance", torch.rand(channels) + 0.5),
        ):
            self.register_buffer(name, value)

    def forward(self, x: Any) -> Any:
        scale = (self.scale * self.variance.rsqrt()).reshape(1, -1, 1, 1)
        return x * scale + self.bias.reshape(1, -1, 1, 1)


class MyConv(nn.Conv2d):
    pass


class Next(nn.Module):
    """A ConvNeXt block: channels go last for its linear layers, and first again."""

    def __init__(self, d: int) -> None:
        super().__init__()
        self.dw, self.norm = nn.Conv2d(d, d, 3, padding=1, groups=d), nn.LayerNorm(d)
        self.up, self.act, self.down = nn.Linear(d, 4 * d), nn.GELU(), nn.Linear(4 * d, d)
        self.gamma = nn.Parameter(torch.ones(d))

    def forward(self, x: Any) -> Any:
        y = self.norm(self.dw(x).permute(0, 2, 3, 1))
        return x + (self.gamma * self.down(self.act(self.up(y)))).permute(0, 3, 1, 2)


class SwiGlu(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.gate, self.up, self.down = nn.Linear(5, 8), nn.Linear(5, 8), nn.Linear(8, 5)

    def forward(self, x: Any) -> Any:
        return self.down(F.silu(self.gate(x)) * self.up(x))


class PreNorm(nn.Module):
    def __init__(self, d: int = 5, batch_first: bool = True) -> None:
        super().__init__()
        self.n1, self.n2 = nn.LayerNorm(d), nn.LayerNorm(d)
        self.att = nn.MultiheadAttention(d, 1, batch_first=batch_first)
        self.mlp = nn.Sequential(nn.Linear(d, 9), nn.GELU(), nn.Dropout(0.1), nn.Linear(9, d))

    def forward(self, x: Any) -> Any:
        h = self.n1(x)
        x = x + self.att(h, h, h)[0]
        return x + self.mlp(self.n2(x))


def residual(self: Any, x: Any) -> Any:
    return self.fc(F.relu(self.bn(self.c1(x)) + self.c2(x)).mean((2, 3)))


def packed(self: Any, x: Any) -> Any:
    lengths = [7, 3, 2, 2, 1, 5][: len(x)]
    short = nn.utils.rnn.pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
    out, _ = nn.utils.rnn.pad_packed_sequence(self.gru(short)[0], batch_first=True)
    return self.fc(out)


def by_heads(self: Any, x: Any) -> Any:
    q = self.q(x).view(len(x), 7, 2, 4).transpose(1, 2)
    return self.fc((F.elu(q) + 1).transpose(1, 2).reshape(len(x), 7, 8))


def windows(self: Any, x: Any) -> Any:
    y = F.relu(self.h(x.reshape(-1, 5)))
    return self.fc(y.view(x.shape[0], x.shape[1], -1))


def tail(inputs: int) -> Any:
    return nn.Linear(inputs, 2)


Case = tuple[Callable[[], Any], Callable[[], Any], Expected]
FUNCTIONS: dict[str, Callable[[Any], Any]] = {
    "F.relu": lambda x: F.relu(x),
    "torch.relu": lambda x: torch.relu(x),
    "x.relu": lambda x: x.relu(),
    "x.relu_": lambda x: x.relu_(),
    "F.relu in place": lambda x: F.relu(x, inplace=True),
    "x.clamp": lambda x: x.clamp(min=0),
    "x.clamp_": lambda x: x.clamp_(0),
    "torch.clip": lambda x: torch.clip(x, 0.0, 6.0),
    "x.clamp_min": lambda x: x.clamp_min(0),
    "F.threshold": lambda x: F.threshold(x, 0.1, 0.0),
    "F.leaky_relu": lambda x: F.leaky_relu(x),
    "F.hardswish": lambda x: F.hardswish(x),
}
SITE_OF = {"F.relu in place": "relu()"}


def named(function: str) -> str:
    return SITE_OF.get(function, f"{function.partition('.')[2].rstrip('_')}()")


ZOO: dict[str, Case] = {
    "sequential": (
        lambda: nn.Sequential(nn.Linear(5, 8), nn.ReLU(), nn.Dropout(), nn.Identity(), nn.Linear(8, 6), nn.Tanh(), tail(6), nn.Softmax(-1)),
        vectors,
        {"1": 1, "5": 1},
    ),
    "in place": (
        lambda: nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(inplace=True), nn.Conv2d(4, 2, 3), nn.Flatten(), tail(32)),
        images,
        {"2": 1, "3": 1},
    ),
    "residual": (
        lambda: Model(residual, c1=nn.Conv2d(3, 4, 3, padding=1), bn=nn.BatchNorm2d(4), c2=nn.Conv2d(3, 4, 1), fc=tail(4)),
        images,
        {"relu()": 1},
    ),
    "frozen norm": (
        lambda: nn.Sequential(nn.Conv2d(3, 4, 3), FrozenNorm(4), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), tail(4)),
        images,
        {"2": 1},
    ),
    "own activations": (
        lambda: nn.Sequential(nn.Linear(5, 8), Swish(), nn.Linear(8, 4), Gelu(), nn.Linear(4, 4), Relu(), tail(4)),
        vectors,
        {"1.sigmoid()": (1, 0.5), "3.erf()": 1, "5": 1},
    ),
    "weights without a module": (lambda: nn.Sequential(Matrix(), nn.ReLU(), nn.Linear(4, 5), Matrix(), tail(4)), vectors, {"1": 1, "2": 1, "3": 1}),
    "positions are no weights": (lambda: nn.Sequential(Positions(), nn.Linear(5, 4), nn.ReLU(), tail(4)), sequences, {"2": 2}),
    "convnext": (
        lambda: nn.Sequential(nn.Conv2d(3, 4, 3), Next(4), nn.AdaptiveAvgPool2d(1), nn.Flatten(), tail(4)),
        images,
        {"0": 1, "1.dw": 1, "1.act": 3, "1.down": 3},
    ),
    "swiglu": (lambda: nn.Sequential(SwiGlu(), nn.LayerNorm(5), tail(5)), sequences, {"0.silu()": 2, "0.up": 2, "0.down": 2}),
    "pre-norm": (
        lambda: nn.Sequential(nn.Linear(5, 5), PreNorm(), PreNorm(), nn.LayerNorm(5), tail(5)),
        sequences,
        {f"{k}{s}": 2 for k, sites in ((0, [""]), (1, [".att", ".mlp.1", ".mlp.3"]), (2, [".att", ".mlp.1", ".mlp.3"])) for s in sites},
    ),
    "encoder": (
        lambda: nn.TransformerEncoder(nn.TransformerEncoderLayer(4, 2, 8, batch_first=True), 2, enable_nested_tensor=True),
        lambda: sequences(7, 4),
        {f"layers.{k}.{s}": 2 for k in range(2) for s in ("self_attn", "relu()", "linear2")},
    ),
    "encoder, sequence first": (
        lambda: Model(lambda m, x: m.e(x.transpose(0, 1)).transpose(0, 1), e=nn.TransformerEncoder(nn.TransformerEncoderLayer(5, 1, 8), 1, enable_nested_tensor=False)),
        sequences,
        {f"e.layers.0.{s}": (2, 0, 1) for s in ("self_attn", "relu()", "linear2")},
    ),
    "lstm": (lambda: Model(lambda m, x: m.fc(m.l(x)[0][:, -1]), l=nn.LSTM(5, 4, 2, batch_first=True), fc=tail(4)), sequences, {"l": 2}),
    "gru, sequence first": (
        lambda: Model(lambda m, x: m.fc(m.g(x.transpose(0, 1))[1][-1]), g=nn.GRU(5, 4), fc=tail(4)), sequences, {"g": (2, 0, 1)},
    ),
    "rnn": (lambda: Model(lambda m, x: m.fc(m.r(x)[0]), r=nn.RNN(5, 4, bidirectional=True, batch_first=True), fc=tail(8)), sequences, {"r": 2}),
    "cell": (
        lambda: Model(lambda m, x: m.fc(m.c(x[:, 1], m.c(x[:, 0]))), c=nn.GRUCell(5, 4), fc=tail(4)), sequences, {"c": 1, "c#1": 1},
    ),
    "embedding": (lambda: Model(lambda m, x: m.fc(F.relu(m.h(m.e(x)))).mean(1), e=nn.Embedding(9, 5), h=nn.Linear(5, 4), fc=tail(4)), tokens, {"relu()": 2}),
    "transposed": (
        lambda: nn.Sequential(nn.Conv2d(3, 8, 3), nn.PixelShuffle(2), nn.ReLU(), nn.ConvTranspose2d(2, 3, 2), nn.GroupNorm(3, 3), nn.ReLU(), nn.Conv2d(3, 1, 1), nn.Sigmoid()),
        images,
        {"2": 1, "5": 1},
    ),
    "3d": (lambda: nn.Sequential(nn.Unflatten(1, (1, 3)), nn.Conv3d(1, 4, 2), nn.ReLU(), nn.MaxPool3d(2), nn.Flatten(), nn.Linear(36, 2)), images, {"2": 1}),
    "1d": (
        lambda: nn.Sequential(nn.Conv1d(7, 8, 3), nn.GLU(1), nn.Conv1d(4, 6, 1), nn.Softplus(3.0), nn.Conv1d(6, 4, 1), nn.Sigmoid(), nn.Flatten(), tail(12)),
        sequences,
        {"1": 1, "3": (1, LN2 / 3), "5": (1, 0.5)},
    ),
    "channels moved": (
        lambda: Model(lambda m, x: m.fc(F.relu(m.c(x).flatten(2)).transpose(1, 2).tanh().mean(1)), c=nn.Conv2d(3, 4, 3), fc=tail(4)),
        images,
        {"relu()": 1, "tanh()": 2},
    ),
    "one column": (lambda: Model(lambda m, x: m.fc(F.relu(m.c(x)[:, :, 0]).flatten(1)), c=nn.Conv2d(3, 4, 3), fc=tail(24)), images, {"relu()": 1}),
    "summed": (lambda: Model(lambda m, x: m.fc(F.relu(m.c(x).mean(3)).mean(2)), c=nn.Conv2d(3, 4, 3), fc=tail(4)), images, {"relu()": 1}),
    "matrix transposed": (lambda: Model(lambda m, x: m.fc(F.relu(m.h(x).mT).mT), h=nn.Linear(5, 4), fc=tail(4)), sequences, {"relu()": 1}),
    "heads": (lambda: Model(by_heads, q=nn.Linear(5, 8), fc=tail(8)), sequences, {"elu()": 3}),
    "shared": (lambda: Model(lambda m, x: m.fc(m.r(m.a(m.r(m.a(x))))), a=nn.Linear(5, 5), r=nn.ReLU(), fc=tail(5)), vectors, {"r": 1, "r#1": 1}),
    "list": (lambda: Model(lambda m, x: m.fc(torch.cat([F.relu(b(x)) for b in m.bs], 1)), bs=nn.ModuleList([nn.Linear(5, 3) for _ in range(3)]), fc=tail(9)), vectors, {"relu()": 1, "relu()#1": 1, "relu()#2": 1}),
    "parametrised": (
        lambda: nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Linear(5, 8)), nn.ReLU(), nn.utils.parametrizations.spectral_norm(nn.Linear(8, 5)), nn.Linear(5, 5), nn.ReLU(), tail(5)),
        vectors,
        {"1": 1, "2": 1, "4": 1},
    ),
    "autoencoder": (
        lambda: nn.Sequential(nn.Linear(5, 4), nn.ReLU(), nn.Linear(4, 2), nn.Linear(2, 4), nn.ReLU(), nn.Linear(4, 5), nn.Sigmoid()),
        vectors,
        {"1": 1, "2": 1, "4": 1},
    ),
    "many outputs": (
        lambda: Model(lambda m, x: {"a": m.a(F.relu(m.t(x))), "b": (m.b(x).sigmoid(), None, 3)}, t=nn.Linear(5, 4), a=tail(4), b=tail(5)),
        vectors,
        {"relu()": 1},
    ),
    "scaled logits": (lambda: Model(lambda m, x: m.fc(F.relu(m.h(x))) / 2 + 1, h=nn.Linear(5, 4), fc=tail(4)), vectors, {"relu()": 1}),
    "convolutional logits": (lambda: nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 2, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten()), images, {"1": 1}),
    "clamps that are none": (lambda: Model(lambda m, x: m.fc(m.h(x.clamp(min=-9)).clamp(min=0)), h=nn.Linear(5, 4), fc=tail(4)), vectors, {"clamp()#1": 1}),
    "one layer that fires": (lambda: nn.Sequential(nn.Linear(5, 4), nn.ReLU()), vectors, {"1": 1}),
    "an activation as the model": (lambda: nn.ReLU(), vectors, {"(model)": 1}),
    "nested": (lambda: nn.Sequential(nn.Sequential(nn.Linear(5, 4), nn.Sequential(nn.ReLU())), nn.Sequential(tail(4))), vectors, {"0.1.0": 1}),
    "a product of two": (
        lambda: Model(lambda m, x: m.fc(F.relu(m.a(x) * m.b(x))), a=nn.Linear(5, 4), b=nn.Linear(5, 4), fc=tail(4)),
        vectors,
        {"a": 1, "b": 1, "relu()": 1},
    ),
    "relu then relu6": (lambda: nn.Sequential(nn.Linear(5, 8), nn.ReLU(), nn.Hardtanh(-1, 99.0), tail(8)), vectors, {"1": 1, "2": 1}),
    "dead layers": (lambda: nn.Sequential(nn.Linear(5, 8), nn.ReLU(), nn.Linear(8, 8), nn.ReLU(), tail(8)), lambda: torch.zeros(N, 5), {"1": 1, "3": 1}),
    **{
        name: (lambda f=f: Model(lambda m, x: m.fc(f(m.h(x))), h=nn.Linear(5, 4), fc=tail(4)), vectors, {named(name): 1})
        for name, f in FUNCTIONS.items()
    },
}  # fmt: skip


@pytest.mark.parametrize("name", ZOO)
def test_default_sites_and_their_states(name: str) -> None:
    make, inputs, expected = ZOO[name]
    torch.manual_seed(0)
    check_against_oracle(make(), inputs(), expected)


def test_the_oracle_rejects_a_probe_that_reads_another_layer_or_axis() -> None:
    torch.manual_seed(0)
    model = ZOO["convnext"][0]().eval()
    captured = capture(model, lambda: model(images()))
    right = ls.examine(model, images(), batch_size=N, layers=["1.dw"])
    check_sites(right, {"1.dw": 1}, captured)
    for wrong in ({"1.dw": 2}, {"1.dw": (1, 0.3)}, {"1.dw": (1, 0.0, 2)}, {"0": 1}):
        with pytest.raises(AssertionError):
            check_sites(right, wrong, captured)
    with pytest.raises(AssertionError):
        check_sites(ls.examine(model, images(), batch_size=N, layers=["1.dw"], axes={"1.dw": 2}), {"1.dw": 1}, captured)
    with pytest.raises(AssertionError):
        check_sites(right, {"1.dw": 1}, {"1.dw": captured["1.dw"][::-1]})  # samples in another order


# ---- what is not read by default


def reasons(model: Any, inputs: Any, **asked: Any) -> dict[str, str]:
    return {str(x.site): x.left_out for x in ls.layers(model.eval(), inputs, **asked)}


def test_everything_is_listed_with_its_reason() -> None:
    torch.manual_seed(0)
    seen = reasons(ZOO["sequential"][0](), vectors())
    assert seen["0"] == "goes on into a nonlinearity, which is read"
    assert seen["2"] == seen["3"] == "same values as 1"
    assert seen["6"] == seen["7"] == "the model's output (logits or probabilities)"
    assert seen["(model)"] == "same values as 7"
    seen = reasons(ZOO["embedding"][0](), tokens())
    assert "look-up" in seen["e"]
    seen = reasons(ZOO["transposed"][0](), images())
    assert "reshapes" in seen["1"]
    assert "normalisation" in seen["4"]
    seen = reasons(ZOO["lstm"][0](), sequences())
    assert "ask for 'l[2]'" in seen["l[2]"]
    seen = reasons(ZOO["parametrised"][0](), vectors())
    assert seen["0.parametrizations.weight.0"] == "does not depend on the model's input"


def test_values_written_through_a_view_are_not_the_same() -> None:
    def forward(m: Any, x: Any) -> Any:
        h = m.act(m.a(x))
        same = m.first(h)
        h.view(-1).sub_(0.5)
        return m.fc(m.second(same))

    torch.manual_seed(0)
    model = Model(forward, a=nn.Linear(5, 4), act=nn.ReLU(), first=nn.Identity(), second=nn.Identity(), fc=tail(4))
    seen = reasons(model, vectors())
    assert seen["first"] == "same values as act"
    assert seen["second"] == "reshapes or passes on its input"


def test_all_is_every_leaf_that_can_be_read() -> None:
    torch.manual_seed(0)
    read = [str(x.site) for x in ls.layers(ZOO["sequential"][0](), vectors(), layers="all").read]
    assert read == [str(k) for k in range(8)]
    results = ls.examine(ZOO["pre-norm"][0](), sequences(), layers="all", batch_size=N)
    assert "1.att[1]" in results
    assert "1" not in results
    assert len(ls.examine(ZOO["parametrised"][0](), vectors(), layers="all")) == 6


def test_sites_whose_samples_are_mixed_are_listed_and_refused_by_name() -> None:
    torch.manual_seed(0)
    model = Model(windows, h=nn.Linear(5, 4), fc=nn.Sequential(nn.Linear(4, 4), nn.ReLU(), tail(4)))
    check = ls.examine(model, sequences(), batch_size=N)
    assert list(check) == ["fc.1"]
    seen = reasons(model, sequences())
    assert seen["h"] == seen["relu()"] == "its samples share axis 0 with something else: say axes={…}"
    with pytest.raises(ValueError, match=r"h: it cannot be read: its samples share axis 0"):
        ls.examine(model, sequences(), layers=["h"])
    gru = Model(packed, gru=nn.GRU(5, 4, batch_first=True), fc=nn.Sequential(nn.Linear(4, 3), nn.ReLU(), tail(3)))
    assert list(ls.examine(gru, sequences(), batch_size=N)) == ["fc.1"]
    assert "share axis 0" in reasons(gru, sequences())["gru"]


def test_a_watched_site_whose_samples_are_mixed_counts_rows_and_says_so() -> None:
    torch.manual_seed(0)
    model = Model(windows, h=nn.Linear(5, 4), fc=nn.Sequential(nn.Linear(4, 4), nn.ReLU(), tail(4))).eval()
    captured = capture(model, lambda: model(sequences()))
    with ls.watch(model) as watched, torch.no_grad():
        model(sequences())
    check_sites(watched, {"relu()": 1, "fc.1": 2}, captured)
    assert "each row counts as a sample" in watched["relu()"].layer.note


@pytest.mark.parametrize("batch_first", [True, False])
def test_parts_of_recurrent_outputs(batch_first: bool) -> None:
    torch.manual_seed(0)
    lstm = nn.LSTM(5, 4, num_layers=2, bidirectional=True, batch_first=batch_first)
    turned = (lambda x: x) if batch_first else (lambda x: x.transpose(0, 1))
    model = Model(lambda m, x: m.fc(m.l(turned(x))[0]), l=lstm, fc=tail(8)).eval()
    captured = capture(model, lambda: model(sequences()))
    results = ls.examine(model, sequences(), layers=["l", "l[1]", "l[2]"], batch_size=N)
    check_sites(results, {"l": (2, 0.0, 0 if batch_first else 1), "l[1]": (2, 0.0, 1), "l[2]": (2, 0.0, 1)}, captured)


def test_softmax_needs_a_rule_of_the_user() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(5, 4), nn.Softmax(-1), tail(4)).eval()
    with pytest.raises(ThresholdError, match=r"wrong: .*layers=\['1'\]\)\n    right: .*thresholds=\{'1': 0.1\}"):
        ls.examine(model, vectors(), layers=["1"])
    captured = capture(model, lambda: model(vectors()))
    results = ls.examine(model, vectors(), layers=["1"], thresholds={"1": 0.25}, batch_size=N)
    check_sites(results, {"1": (1, 0.25)}, captured)
    with ls.watch(model, thresholds={"Softmax": 0.25}) as watched, torch.no_grad():
        model(vectors())  # the first forward already obeys the rule
        model(vectors())
    assert dict(zip(watched["1"].state_ids(), watched["1"].counts().tolist(), strict=True)) == {
        state: 2 * n for state, (n, *_) in table_of(captured["1"], 1, 0.25).items()
    }
    assert "1" not in ls.examine(model, vectors())


@pytest.mark.parametrize(
    ("layer", "threshold"),
    [
        (nn.Sigmoid(), 0.5),
        (nn.Hardsigmoid(), 0.5),
        (nn.Softplus(), LN2),
        (nn.Softplus(0.7), LN2 / 0.7),
        (nn.LogSigmoid(), -LN2),
    ],
    ids=str,
)
def test_above_the_threshold_means_a_positive_input(layer: Any, threshold: float) -> None:
    """Also for an input of exactly 0, which fires nowhere, in every precision."""
    for dtype in (torch.float32, torch.float64, torch.bfloat16):
        x = torch.cat([vectors(5), torch.zeros(2, 5), torch.full((2, 5), 0.5)]).to(dtype)
        for unit in x[:6].flatten():
            unit.copy_(torch.sign(unit))
        model = nn.Sequential(nn.Identity(), layer, nn.Flatten()).to(dtype)
        results = ls.examine(model, x, layers=["1"], batch_size=len(x))
        assert results["1"].layer.threshold == pytest.approx(threshold, rel=1e-2)
        found = dict(zip(results["1"].state_ids(), results["1"].counts().tolist(), strict=True))
        assert found == {s: n for s, (n, *_) in table_of(x.to(torch.float64).numpy(), 1).items()}


def test_a_layer_that_is_always_on_is_an_error_not_zero() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(5, 4), nn.Softplus(), tail(4))
    results = ls.examine(model, vectors(), thresholds={"1": 0.0})
    with pytest.raises(ThresholdError, match="1"):
        results["1"].efficiency()
    assert np.isnan(results.table.query("measure == 'efficiency'").value).all()


def test_a_model_that_is_only_its_output_says_so() -> None:
    with pytest.raises(SiteError, match=r"no site is left to read(.|\n)*the model's output"):
        ls.examine(nn.Linear(5, 2), vectors())
    torch.manual_seed(0)
    model = nn.Linear(5, 2)
    check_against_oracle(model, vectors(), {"(model)": 1}, layers=["Linear"])


def test_two_inputs() -> None:
    torch.manual_seed(0)
    model = Model(lambda m, a, b: m.fc(F.relu(m.a(a) + m.b(b))), a=nn.Linear(5, 4), b=nn.Linear(3, 4), fc=tail(4))
    check_against_oracle(model, (vectors(), vectors(3)), {"relu()": 1})


@pytest.mark.parametrize("dtype", ["float64", "bfloat16", "float16"])
def test_other_precisions(dtype: str) -> None:
    torch.manual_seed(0)
    kind = getattr(torch, dtype)
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 5), nn.Sigmoid(), tail(5)).to(
        kind
    )
    check_against_oracle(model, images().to(kind), {"1": 1, "4": (1, 0.5)})


def test_channels_last_memory() -> None:
    torch.manual_seed(0)
    model = ZOO["in place"][0]().to(memory_format=torch.channels_last)
    check_against_oracle(model, images().to(memory_format=torch.channels_last), {"2": 1, "3": 1})


def test_autocast_is_the_users_autocast() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(5, 8), nn.ReLU(), nn.Linear(8, 4), nn.Softplus(), tail(4)).eval()

    def forward() -> None:
        with torch.autocast("cpu", torch.bfloat16):
            model(vectors())

    captured = capture(model, forward)
    results = ls.examine(model, vectors(), amp="bf16", batch_size=N)
    check_sites(results, {"1": 1, "3": (1, results["3"].layer.threshold or 0.0)}, captured)
    assert results["1"].layer.dtype == "bfloat16"
    assert results.manifest["amp"] == "bf16"

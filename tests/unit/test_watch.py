"""Watching the user's own calls: every whole forward counts once, training goes on as if nobody watched, and nothing stays behind."""

import copy
import pickle
from typing import Any

import numpy as np
import pytest

import layerscope as ls
from layerscope import Axes
from layerscope._errors import DataError, EmptyTally, SiteError, ThresholdError
from tests.conftest import require
from tests.unit.probes.oracle import Model, capture, check_sites, table_of, table_seen

torch = require("torch")
nn, F = torch.nn, torch.nn.functional
N = 6
X = torch.randn(N, 5, generator=torch.Generator().manual_seed(1))


def net(dropout: float = 0.0) -> Any:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Linear(5, 8), nn.ReLU(), nn.Dropout(dropout), nn.Linear(8, 4), nn.Tanh(), nn.Linear(4, 2)
    ).eval()


def mixed() -> Any:
    """Modules and functions, a shared layer, parts that are called alone."""
    torch.manual_seed(0)
    return Model(
        lambda m, x: m.dec(m.enc(x)),
        enc=Model(lambda m, x: m.act(m.b(m.act(m.a(x)))), a=nn.Linear(5, 5), b=nn.Linear(5, 5), act=nn.ReLU()),
        dec=Model(lambda m, x: m.fc(F.silu(m.h(x))), h=nn.Linear(5, 4), fc=nn.Linear(4, 2)),
        aux=nn.Sequential(nn.Linear(5, 3), nn.ReLU(), nn.Linear(3, 2)),
    ).eval()


def counts(view: Any) -> dict[bytes, int]:
    return {state: row[0] for state, row in table_seen(view).items()}


def counted(*values: Any, unit: int = 1, threshold: float = 0.0) -> dict[bytes, int]:
    return {state: row[0] for state, row in table_of(np.concatenate(values), unit, threshold).items()}


def modes() -> int:
    return torch._C._len_torch_function_stack()


def bare(model: Any) -> None:
    """No hook of ours, no mode."""
    assert modes() == 0
    for module in model.modules():
        assert not module._forward_hooks
        assert not module._forward_pre_hooks


# ---- what counts


def test_every_forward_counts_once_from_the_first_on() -> None:
    model = mixed()
    sizes = [torch.randn(k, 5, generator=torch.Generator().manual_seed(k)) for k in (6, 1, 9, 3)]
    captured = [capture(model, lambda x=x: model(x)) for x in sizes]
    with ls.watch(model) as watched, torch.no_grad():
        for x in sizes:
            model(x)
    assert list(watched) == ["enc.act", "enc.act#1", "dec.silu()"]
    whole = {name: np.concatenate([c[name] for c in captured]) for name in watched}
    check_sites(watched, dict.fromkeys(watched, 1), whole)  # samples are numbered on, too
    assert watched.results().manifest["samples"] == 19
    bare(model)


@pytest.mark.parametrize(
    ("when", "sites"),
    [
        ("after", ["enc.a", "enc.b"]),
        ("before", ["enc.a:in", "enc.b:in"]),
        ("both", ["enc.a:in", "enc.a", "enc.b:in", "enc.b"]),
    ],
)
@pytest.mark.parametrize(
    "layers",
    ["enc.[ab]", ["enc.a", "enc.b"], lambda x: x.site.path in ("enc.a", "enc.b"), [ls.Site("enc.a"), ls.Site("enc.b")]],
)
def test_before_after_and_both(when: str, sites: list[str], layers: Any) -> None:
    model = mixed()
    captured = capture(model, lambda: model(X))
    for rounds in (1, 2):
        with ls.watch(model, layers, when=when) as watched, torch.no_grad():
            model(X)
            if rounds == 2:
                watched.reset()
                model(X)
        assert sorted(watched) == sorted(sites)
        check_sites(watched, dict.fromkeys(sites, 1), captured)


def test_inputs_of_every_leaf_and_of_a_class() -> None:
    model = mixed()
    with ls.watch(model, "all", when="before") as watched:
        model(X)
    assert list(watched) == ["enc.a:in", "enc.act:in", "enc.b:in", "enc.act#1:in", "dec.h:in", "dec.fc:in"]
    with ls.watch(model, nn.Linear, when="before", exclude="enc.*") as watched:
        model(X)
    assert list(watched) == ["dec.h:in", "dec.fc:in"]
    with (
        pytest.raises(SiteError, match=r"exclude=input of 'enk.a' matches no layer. Did you mean"),
        ls.watch(model, nn.Linear, when="before", exclude="enk.a"),
    ):
        model(X)
    with pytest.raises(SiteError, match=r"wrong: ls.watch\(model, when='before'\)"):
        ls.watch(model, when="before")
    with pytest.raises(DataError, match="choose 'after'"):
        ls.watch(model, when="during")


def test_rules_hold_from_the_first_forward_on() -> None:
    model = net()
    captured = capture(model, lambda: model(X))
    with ls.watch(model, thresholds={"1": 0.4}, exclude=["4"]) as watched, torch.no_grad():
        model(X)
        model(X)
    assert counts(watched["1"]) == counted(captured["1"], captured["1"], threshold=0.4)
    seq = nn.Sequential(nn.Linear(5, 4), nn.ReLU(), nn.Linear(4, 2)).eval()
    x = torch.randn(N, 3, 5)
    captured = capture(seq, lambda: seq(x))
    with ls.watch(seq, axes={"1": Axes(1, sample=2)}) as watched, torch.no_grad():
        seq(x)
    check_sites(watched, {"1": (1, 0.0, 2)}, captured)


def test_parts_that_the_user_calls_alone() -> None:
    model = mixed()
    captured = capture(model, lambda: model(X))
    for order in ("parts first", "model first"):
        with ls.watch(model) as watched, torch.no_grad():
            if order == "model first":
                model(X)
            model.dec(model.enc(X))
            if order == "parts first":
                model(X)
        assert sorted(watched) == ["dec.silu()", "enc.act", "enc.act#1"]
        for name in watched:
            assert counts(watched[name]) == counted(captured[name], captured[name]), (order, name)


def test_a_layer_called_alone_is_a_forward_of_its_own() -> None:
    model = mixed()
    with ls.watch(model, layers="enc.act") as watched, torch.no_grad():
        one, two = model.enc.act(X), model.enc.act(-X)
    assert list(watched) == ["enc.act"]
    assert counts(watched["enc.act"]) == counted(one.numpy(), two.numpy())


def test_names_may_belong_to_parts_that_come_later() -> None:
    model = mixed()
    captured = capture(model, lambda: model(X))
    with (
        ls.watch(model, layers=["enc.b", "dec.h"], thresholds={"dec.h": 0.1}, exclude="dec.fc") as watched,
        torch.no_grad(),
    ):
        model.dec(model.enc(X))
    assert counts(watched["dec.h"]) == counted(captured["dec.h"], threshold=0.1)
    with (
        pytest.raises(SiteError, match=r"'enk.a' matches no layer. Did you mean"),
        ls.watch(model, layers=["enc.b", "enk.a"]),
    ):
        model.enc(X)
    with (
        pytest.raises(SiteError, match=r"'enk.a' matches no layer. Did you mean"),
        ls.watch(model, layers=["enc.b", "enk.a"]),
    ):
        model(X)


def test_a_part_that_comes_late_is_counted_from_its_first_call() -> None:
    model = mixed()
    model.run = lambda m, x: m.dec(m.enc(x)) + (m.aux(x) if m.training else 0) + (m.aux(-x) if x.max() > 50 else 0)
    late = X + 100
    with ls.watch(model) as watched, torch.no_grad():
        model(X)
        assert "aux.1" not in watched
        model.train()
        model(X)
        model(late)
        model.eval()
        model(X)
    hidden, last, negative = (model.aux[:2](x).detach().numpy() for x in (X, late, -late))
    assert counts(watched["aux.1"]) == counted(hidden, last)
    assert counts(watched["aux.1#1"]) == counted(negative)
    assert watched["enc.act"].state_count == watched["dec.silu()"].state_count == 4 * N


def test_calls_that_vary() -> None:
    model = Model(lambda m, x: m.fc(m.act(m.act(x)) if len(x) > 5 else m.act(x)), act=nn.ReLU(), fc=nn.Linear(5, 2))
    for first, then in ((X, X[:3]), (X[:3], X)):
        with ls.watch(model) as watched:
            model(first)
            model(then)
            model(then)
        assert watched["act"].table.samples == len(first) + 2 * len(then)
        assert watched["act#1"].table.samples == (N if first is X else 2 * N)


def test_a_named_layer_that_never_ran() -> None:
    model = mixed()
    with pytest.raises(SiteError, match=r"'aux.1' matches no layer"), ls.watch(model, layers=["enc.a", "aux.1"]):
        model(X)
    with ls.watch(model, layers="enc.a") as watched:
        pass  # nothing was called
    with pytest.raises(EmptyTally, match="was not called inside the with block yet"):
        watched["enc.a"]
    with pytest.raises(EmptyTally, match="was not called"):
        watched.results()
    assert len(watched) == 0
    assert list(watched) == []


def test_reset_begins_anew() -> None:
    model = net()
    with ls.watch(model) as watched:
        watched.reset()
        model(X)
        watched.reset()
        with pytest.raises(EmptyTally):
            watched["1"]
        model(X[:2])
    assert watched["1"].state_count == 2
    assert watched["1"].table.records().first.min() == 0


def test_watching_again_goes_on_counting() -> None:
    model = net()
    watched = ls.watch(model)
    for _ in range(2):
        with watched:
            model(X)
        model(X)
    assert watched["1"].state_count == 2 * N
    bare(model)


# ---- training


@pytest.mark.parametrize("amp", [False, True])
def test_training_goes_on_as_if_nobody_watched(amp: bool) -> None:
    def train(watching: bool) -> tuple[list[Any], Any, list[int]]:
        torch.manual_seed(0)
        model = nn.Sequential(
            nn.Conv2d(1, 4, 3),
            nn.BatchNorm2d(4),
            nn.ReLU(inplace=True),
            nn.Dropout(0.3),
            nn.Flatten(),
            nn.Linear(144, 5),
            nn.RReLU(),
            nn.Linear(5, 2),
        )
        optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9)
        data = torch.randn(4, 8, 1, 8, 8, generator=torch.Generator().manual_seed(3))
        grads: list[Any] = []

        def epoch() -> None:
            for x in data:
                optimizer.zero_grad()
                with torch.autocast("cpu", torch.bfloat16, enabled=amp):
                    loss = model(x).float().square().mean()
                loss.backward()
                grads.append([p.grad.clone() for p in model.parameters()])
                optimizer.step()

        seen: list[int] = []
        if watching:
            with ls.watch(model) as watched:
                epoch()
                seen = [watched[name].table.samples for name in watched]
            bare(model)
        else:
            epoch()
        assert model.training
        return grads, (model.state_dict(), torch.rand(1)), seen

    (plain, (state, drawn), _), (mine, (state_, drawn_), seen) = train(False), train(True)
    assert all(torch.equal(a, b) for one, two in zip(plain, mine, strict=True) for a, b in zip(one, two, strict=True))
    assert all(torch.equal(state[k], state_[k]) for k in state)
    assert torch.equal(drawn, drawn_)
    assert seen == [32] * len(seen)
    assert seen


def test_dropout_that_drops_is_no_twin() -> None:
    model = net(0.5).train()
    with ls.watch(model) as watched:
        model(X)
    reasons = {str(x.site): x.left_out for x in watched.layers}
    assert reasons["2"] == "dropout: passes its input on"
    model.eval()
    with ls.watch(model) as watched:
        model(X)
    assert {str(x.site): x.left_out for x in watched.layers}["2"] == "same values as 1"


# ---- failures


class Boom(Exception):
    pass


def failing(first: bool) -> Any:
    model = mixed()
    model.fails = first

    def forward(m: Any, x: Any) -> Any:
        h = m.enc(x)
        if m.fails:
            raise Boom
        return m.dec(h)

    model.run = forward
    return model


@pytest.mark.parametrize("first", [True, False])
def test_a_forward_that_raises_counts_nowhere(first: bool) -> None:
    model = failing(first)
    captured = capture(mixed(), lambda: None)
    with ls.watch(model) as watched, torch.no_grad():
        if not first:
            model(X)
            watched.reset()
            model.fails = True
        for _ in range(2):
            with pytest.raises(Boom):
                model(X)
            assert modes() == 0
        model.fails = False
        model(X)
    assert not captured
    captured = capture(model, lambda: model(X))
    check_sites(watched, {"enc.act": 1, "enc.act#1": 1, "dec.silu()": 1}, captured)
    bare(model)


def test_an_exception_leaves_no_hook() -> None:
    model = failing(True)
    with pytest.raises(Boom), ls.watch(model):
        model(X)
    bare(model)
    model.fails = False
    model(X)
    handle = model.dec.h.register_forward_pre_hook(_interrupt)
    with pytest.raises(KeyboardInterrupt), ls.watch(model):
        model(X)
    handle.remove()
    bare(model)


def _boom(*_: Any) -> None:
    raise Boom


def _interrupt(*_: Any) -> None:
    raise KeyboardInterrupt


def test_a_forward_that_was_interrupted_is_not_forgotten() -> None:
    model = net()
    handle = model[3].register_forward_pre_hook(_interrupt)

    def go_on() -> None:
        with pytest.raises(KeyboardInterrupt):
            model(X)
        handle.remove()
        model(X)

    with pytest.raises(SiteError, match="a forward was interrupted"), ls.watch(model):
        go_on()
    bare(model)


def test_a_call_that_fails_and_is_caught_inside_the_model() -> None:
    def forward(m: Any, x: Any) -> Any:
        try:
            return m.enc(m.bad(x))
        except Boom:
            return m.enc(x)

    def boom(m: Any, x: Any) -> Any:
        m.inner(x)
        raise Boom

    model = Model(
        forward, bad=Model(boom, inner=nn.ReLU()), enc=nn.Sequential(nn.Linear(5, 4), nn.ReLU(), nn.Linear(4, 2))
    ).eval()
    model.bad.inner.register_forward_hook(_boom)  # its output was there already
    with ls.watch(model) as watched, torch.no_grad():
        for _ in range(3):
            model(X)
    assert watched["enc.1"].state_count == 3 * N
    assert list(watched) == ["bad.inner.relu()", "enc.1"]  # the function ran, the module never gave its output
    model.bad.inner._forward_hooks.clear()
    assert list(ls.examine(model, X)) == ["bad.inner", "enc.1"]


def test_a_tally_that_fails_is_heard_and_leaves_nothing() -> None:
    model = net()
    with ls.watch(model, layers=["1"], thresholds={"1": -1.0}) as watched:
        model(X)
        with pytest.raises(ThresholdError):
            watched["1"].efficiency()
    with ls.watch(model, layers=["1"], axes={"1": 1}) as watched:
        model(torch.randn(2, 8, 5))
        with pytest.raises(ValueError, match=r"1: 8 units so far, 7 in this batch"):
            model(torch.randn(2, 7, 5))
        assert modes() == 0
    bare(model)


# ---- several at once


def test_two_watch_one_model_and_each_sees_all() -> None:
    model = mixed()
    captured = capture(model, lambda: model(X))
    with torch.no_grad(), ls.watch(model, layers=["F.silu", "enc.a"]) as outer:
        model(X)
        with ls.watch(model) as inner:
            model(X)
            model(X)
        model(X)
        results = ls.examine(model, X, batch_size=N)
    assert (
        counts(outer["dec.silu()"]) == counted(*[captured["dec.silu()"]] * 4) or outer["dec.silu()"].state_count > 4 * N
    )
    assert inner["dec.silu()"].state_count == 2 * N
    assert counts(inner["enc.act#1"]) == counted(*[captured["enc.act#1"]] * 2)
    check_sites(results, {"enc.act": 1, "enc.act#1": 1, "dec.silu()": 1}, captured)
    bare(model)


def test_two_models_at_once() -> None:
    student, teacher = mixed(), mixed()
    with ls.watch(student) as one, ls.watch(teacher, layers="enc.b") as two, torch.no_grad():
        for _ in range(2):
            student(X)
            teacher(-X)
    assert counts(two["enc.b"]) == counted(*[capture(teacher, lambda: teacher(-X))["enc.b"]] * 2)
    assert one["dec.silu()"].state_count == 2 * N


def test_a_model_inside_a_model() -> None:
    inner = net()
    outer = Model(lambda m, x: m.inner(x).relu(), inner=inner).eval()
    with ls.watch(inner) as one, ls.watch(outer) as two:
        outer(X)
        inner(X)
    assert one["1"].state_count == 2 * N
    assert two["inner.1"].state_count == 2 * N
    assert two["relu()"].state_count == N


def test_watching_inside_an_examination() -> None:
    model = net()
    seen: list[int] = []

    def forward(m: Any, x: Any) -> Any:
        with ls.watch(m) as watched:
            out = m(x)
        seen.append(watched["1"].state_count)
        return out

    results = ls.examine(model, ls.Data(X, forward=forward), batch_size=N)
    assert seen == [3, N]
    check_sites(results, {"1": 1, "4": 1}, capture(model, lambda: model(X)))


def test_hooks_of_the_user_stay_and_ours_go() -> None:
    model = net()
    fired: list[str] = []
    mine = model[1].register_forward_hook(lambda *_: fired.append("before"))
    attributes = [sorted(vars(m)) for m in model.modules()]
    with ls.watch(model):
        late = model[1].register_forward_hook(lambda *_: fired.append("inside"))
        model(X)
    model(X)
    assert fired == ["before", "inside"] * 2
    assert list(model[1]._forward_hooks) == [mine.id, late.id]
    assert [sorted(vars(m)) for m in model.modules()] == attributes
    assert not model[1]._forward_hooks_always_called
    assert not model[1]._forward_pre_hooks_with_kwargs


def test_copies_made_while_watching_are_not_watched() -> None:
    model = net()
    with ls.watch(model) as watched:
        before = copy.deepcopy(model)
        before(X)
        model(X)
        after = pickle.loads(pickle.dumps(model))
        after(X)
        copy.deepcopy(model)(X)
    assert watched["1"].state_count == N
    assert torch.equal(before(X), after(X))


def test_users_function_modes_and_devices() -> None:
    def forward(m: Any, x: Any) -> Any:
        with torch.device("cpu"):
            return m.dec(m.enc(x)) + torch.zeros(2)

    model = mixed()
    model.run = forward
    with torch.device("cpu"), ls.watch(model) as watched:
        outside = modes()
        model(X)
        model(X)
        assert modes() == outside
    assert watched["dec.silu()"].state_count == 2 * N


def test_results_of_a_watched_model() -> None:
    model = net()
    with ls.watch(model, keep_rows=True) as watched:
        model(X)
        model(X)
    results = watched.results()
    assert list(results) == ["1", "4"]
    assert results["1"].raw_states.shape == (2 * N, 1)
    assert results.manifest["mode"] == "as the user ran it"
    assert results.accuracy is None
    assert "2 sites, 12 samples" in repr(watched)
    assert float(results.merge(results)["1"].state_count) == 4 * N


def test_sequences_first_inside_a_model_of_images() -> None:
    torch.manual_seed(0)

    def forward(m: Any, x: Any) -> Any:
        h = m.patch(x).flatten(2).permute(2, 0, 1)
        h = h + m.att(h, h, h)[0]
        return m.fc(F.gelu(m.up(h)).mean(0))

    layers = {
        "patch": nn.Conv2d(3, 4, 4, 4),
        "att": nn.MultiheadAttention(4, 2),
        "up": nn.Linear(4, 8),
        "fc": nn.Linear(8, 2),
    }
    model = Model(forward, **layers).eval()
    x = torch.randn(N, 3, 12, 12, generator=torch.Generator().manual_seed(1))
    captured = capture(model, lambda: model(x))
    expected = {"patch": 1, "att": (2, 0.0, 1), "gelu()": (2, 0.0, 1)}
    with ls.watch(model) as watched, torch.no_grad():
        model(x)
    check_sites(watched, expected, captured)
    check_sites(ls.examine(model, x, batch_size=N), expected, captured)


def test_batch_second_models_number_their_samples() -> None:
    torch.manual_seed(0)
    model = Model(lambda m, x: m.fc(m.g(x)[0]), g=nn.GRU(5, 4), fc=nn.Linear(4, 2)).eval()
    x = torch.randn(7, N, 5)
    captured = capture(model, lambda: model(x))
    with ls.watch(model) as watched, torch.no_grad():
        model(x)
    check_sites(watched, {"g": (2, 0.0, 1)}, captured)

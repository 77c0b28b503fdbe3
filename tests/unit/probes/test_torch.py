"""The PyTorch probe: what is compiled, threaded, repeated or in place is counted once and exactly, and the model stays as it was."""

import copy
import random
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

import layerscope as ls
from layerscope._errors import DtypeError, LayerscopeError, ShapeError, SiteError
from layerscope.inventory import Layer
from layerscope.inventory.torch import unwrapped
from layerscope.probes import probe_for
from tests.conftest import require
from tests.unit.probes.oracle import Model, capture, check_against_oracle, check_sites, table_of, table_seen

torch = require("torch")
nn, F = torch.nn, torch.nn.functional
N = 6
X = torch.randn(N, 5, generator=torch.Generator().manual_seed(1))


def net() -> Any:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(5, 8), nn.ReLU(), nn.Linear(8, 4), nn.Tanh(), nn.Linear(4, 2)).eval()


def functional() -> Any:
    torch.manual_seed(0)
    return Model(lambda m, x: m.b(F.relu(m.a(x))), a=nn.Linear(5, 8), b=nn.Linear(8, 2)).eval()


def hooks_of(model: Any) -> list[Any]:
    kinds = (
        "_forward_hooks",
        "_forward_pre_hooks",
        "_forward_hooks_always_called",
        "_forward_pre_hooks_with_kwargs",
        "_forward_hooks_with_kwargs",
    )
    return [
        (path, sorted(vars(m)), m.training, [list(getattr(m, kind)) for kind in kinds])
        for path, m in model.named_modules()
    ]


def modes() -> int:
    return torch._C._len_torch_function_stack()


# ---- wrapped and compiled


@pytest.mark.parametrize("make", [net, functional])
def test_a_compiled_model_is_read_in_every_batch(make: Any) -> None:
    model = make()
    captured = capture(model, lambda: model(X))
    expected = {"1": 1, "3": 1} if make is net else {"relu()": 1}
    compiled = torch.compile(model, backend="eager")
    whole = make()
    whole.compile(backend="eager")
    for ready in (compiled, whole):
        for _ in range(2):
            ready(X)  # its graph is there before we are
        check_sites(ls.examine(ready, X, batch_size=N), expected, captured)
        ready(X)
        with ls.watch(ready) as watched, torch.no_grad():
            for _ in range(3):
                ready(X)
        assert all(watched[name].state_count == 3 * N for name in expected)
        ready(X)
        assert ls.examine(ready, X).manifest["compiled"] is True or ready is whole


def test_a_compiled_layer_inside_is_read() -> None:
    model = net()
    captured = capture(model, lambda: model(X))
    inner = nn.Sequential(torch.compile(model[:2], backend="eager"), model[2:])
    inner(X)
    results = ls.examine(inner, X, batch_size=N)
    assert [table_seen(results[name]) for name in results] == [table_of(captured["1"], 1), table_of(captured["3"], 1)]


def test_data_parallel_wrappers_are_looked_through() -> None:
    model = net()
    captured = capture(model, lambda: model(X))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch._utils, "_get_all_device_indices", lambda: [])
        wrapped = nn.DataParallel(model)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(nn.DataParallel, "forward", lambda *_: pytest.fail("replicas were made"))
        check_sites(ls.examine(wrapped, X, batch_size=N), {"1": 1, "3": 1}, captured)
    with ls.watch(wrapped) as watched, torch.no_grad():
        wrapped(X)
    check_sites(watched, {"1": 1, "3": 1}, captured)
    named = Model(lambda m, x: m.module(x), module=model).eval()  # some other wrapper
    results = ls.examine(named, X, batch_size=N)
    assert list(results) == ["module.1", "module.3"]


def test_a_distributed_model_is_read_without_asking_the_others(tmp_path: Path) -> None:
    model = net()
    captured = capture(model, lambda: model(X))
    distributed = torch.distributed
    distributed.init_process_group("gloo", init_method=f"file://{tmp_path / 'store'}", rank=0, world_size=1)
    try:
        wrapped = nn.parallel.DistributedDataParallel(model)
        with ls.watch(wrapped) as watched:
            wrapped(X).sum().backward()
        check_sites(watched, {"1": 1, "3": 1}, captured)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(nn.parallel.DistributedDataParallel, "forward", lambda *_: pytest.fail("others were asked"))
            check_sites(ls.examine(wrapped, X, batch_size=N), {"1": 1, "3": 1}, captured)
    finally:
        distributed.destroy_process_group()


def replica(module: Any) -> Any:
    """A copy that shares parameters and hooks, as `torch.nn.parallel.replicate` makes it."""
    twin = module._replicate_for_data_parallel()
    for name, child in module._modules.items():
        twin._modules[name] = replica(child)
    for name, parameter in module._parameters.items():
        setattr(twin, name, parameter)
    return twin


@pytest.mark.parametrize("make", [net, functional])
@pytest.mark.parametrize("warm", [False, True])
def test_replicas_in_threads_are_counted_once_each(make: Any, warm: bool) -> None:
    model, shards = make(), [torch.randn(3, 5, generator=torch.Generator().manual_seed(k)) for k in range(8)]
    expected = {"1": 1, "3": 1} if make is net else {"relu()": 1}
    captured = [capture(model, lambda x=x: model(x)) for x in shards]
    errors: list[BaseException] = []
    start = threading.Barrier(len(shards))

    def work(twin: Any, x: Any) -> None:
        try:
            start.wait()
            with torch.no_grad():
                twin(x)
        except BaseException as error:
            errors.append(error)

    with ls.watch(model) as watched:
        if warm:
            model(shards[0])
            watched.reset()
        threads = [threading.Thread(target=work, args=(replica(model), x)) for x in shards]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert not errors
    for name, unit in expected.items():
        whole = np.concatenate([c[name] for c in captured])
        assert {s: n for s, (n, *_) in table_seen(watched[name]).items()} == {
            s: n for s, (n, *_) in table_of(whole, unit).items()
        }
        assert watched[name].table.samples == len(whole)


def test_replicas_inside_a_model_do_not_wait_for_each_other() -> None:
    inner = net()

    def spread(m: Any, x: Any) -> Any:
        outputs: dict[int, Any] = {}
        threads = [
            threading.Thread(target=lambda k=k: outputs.__setitem__(k, replica(m.inner)(x[3 * k : 3 * k + 3])))
            for k in range(2)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(timeout=60)
        return torch.cat([outputs[0], outputs[1]]).tanh()

    model = Model(spread, inner=inner).eval()
    with ls.watch(model) as watched, torch.no_grad():
        for _ in range(2):
            model(X)
    assert watched["inner.1"].state_count == 2 * N
    for layers in (None, ["inner.1"]):
        with pytest.raises(SiteError, match=r"inner.*ran in another thread"):
            ls.examine(model, X, batch_size=N, layers=layers)


# ---- repeated and nested forwards


@pytest.mark.parametrize("reentrant", [False, True])
def test_gradient_checkpointing_counts_a_forward_once(reentrant: bool) -> None:
    from torch.utils.checkpoint import checkpoint

    def forward(m: Any, x: Any) -> Any:
        return m.b(checkpoint(lambda z: F.relu(m.a(z)), x, use_reentrant=reentrant))

    torch.manual_seed(0)
    model = Model(forward, a=nn.Linear(5, 8), b=nn.Linear(8, 2))
    x = X.clone().requires_grad_()
    with ls.watch(model, layers=["a", "relu()"]) as watched:
        for step in range(3):
            model(x).sum().backward()
            assert watched["a"].state_count == watched["relu()"].state_count == N * (step + 1)
    assert modes() == 0


def test_a_model_that_takes_gradients_inside_its_forward() -> None:
    def forward(m: Any, x: Any) -> Any:
        with torch.enable_grad():
            x = x.detach().requires_grad_()
            return torch.autograd.grad(m.fc(F.softplus(m.a(x))).sum(), x)[0]

    torch.manual_seed(0)
    model = Model(forward, a=nn.Linear(5, 8), fc=nn.Linear(8, 1)).eval()
    captured = capture(model, lambda: model(X))
    zero = float(F.softplus(torch.zeros(1)))
    check_sites(ls.examine(model, X, batch_size=N, layers=["F.softplus"]), {"softplus()": (1, zero)}, captured)


def test_recursion_numbers_calls_as_they_begin() -> None:
    class Tree(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(5, 5)

        def forward(self, x: Any, depth: int = 2) -> Any:
            return self.fc(x).relu() if depth == 0 else self(x * depth, depth - 1) + x

    torch.manual_seed(0)
    model = nn.Sequential(Tree(), nn.Linear(5, 2)).eval()
    captured = capture(model, lambda: model(X))
    results = ls.examine(model, X, batch_size=N, layers=["0", "0#1", "0#2", "F.relu"])
    check_sites(results, {"0": 1, "0#1": 1, "0#2": 1, "0.relu()": 1}, captured)
    with ls.watch(model, layers=["0", "F.relu"]) as watched, torch.no_grad():
        model(X)
        watched.reset()
        model(X)
    check_sites(watched, {"0": 1, "0#1": 1, "0#2": 1, "0.relu()": 1}, captured)


def test_one_module_of_two_names_is_one_layer() -> None:
    torch.manual_seed(0)
    act = nn.ReLU()
    model = Model(
        lambda m, x: m.c(m.second(m.b(m.first(m.a(x))))),
        a=nn.Linear(5, 5),
        b=nn.Linear(5, 5),
        c=nn.Linear(5, 2),
        first=act,
        second=act,
    )
    model.b.weight = model.a.weight  # tied
    check_against_oracle(model, X, {"first": 1, "first#1": 1})
    with pytest.raises(SiteError, match="matches no layer"):
        ls.examine(model, X, layers=["second"])


def test_a_forward_of_the_user_may_call_the_model_or_its_parts_several_times() -> None:
    torch.manual_seed(0)
    model = Model(
        lambda m, x: m.dec(m.enc(x)),
        enc=nn.Sequential(nn.Linear(5, 4), nn.ReLU()),
        dec=nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 2)),
    ).eval()

    def by_parts(m: Any, x: Any) -> Any:
        return m.dec(m.enc(x))

    def twice(m: Any, x: Any) -> Any:
        return m(x) - m(-x)

    captured = capture(model, lambda: by_parts(model, X))
    check_sites(ls.examine(model, ls.Data(X, forward=by_parts), batch_size=N), {"enc.1": 1, "dec.1": 1}, captured)
    captured = capture(model, lambda: twice(model, X))
    expected = {"enc.1": 1, "dec.1": 1, "enc.1#1": 1, "dec.1#1": 1}
    check_sites(ls.examine(model, ls.Data(X, forward=twice), batch_size=N), expected, captured)


# ---- control flow that changes


def changing(when: Any, then: Any) -> Any:
    torch.manual_seed(0)

    def forward(m: Any, x: Any) -> Any:
        h = m.act(m.a(x))
        return m.b(then(m, h) if when(x) else h)

    return Model(
        forward, a=nn.Linear(5, 5), act=nn.ReLU(), extra=nn.Sequential(nn.Linear(5, 5), nn.ReLU()), b=nn.Linear(5, 2)
    )


LATE = torch.cat([X, X + 100])


@pytest.mark.parametrize(
    ("then", "message"),
    [
        (lambda m, h: m.extra(h), r"batch 1: extra.0, extra.1 ran, though the first forward did not run it"),
        (lambda m, h: m.act(h - 1), r"batch 1: act#1 ran, though the first forward did not run it"),
    ],
)
def test_a_site_that_comes_late_is_an_error(then: Any, message: str) -> None:
    model = changing(lambda x: x.mean() > 50, then)
    with pytest.raises(SiteError, match=message):
        ls.examine(model, LATE, batch_size=N)
    with pytest.raises(SiteError, match=r"batch 1: .*(extra.1|act#1) ran"):
        ls.examine(model, LATE, batch_size=N, layers=["ReLU"])
    assert len(ls.examine(model, X, batch_size=N)) == 1
    assert len(ls.examine(model, LATE, batch_size=N, layers=["a"])) == 1  # it concerns no Linear but this one


def test_a_function_that_comes_late_is_an_error() -> None:
    torch.manual_seed(0)
    model = Model(
        lambda m, x: m.b(F.relu(F.relu(m.a(x)) - 1) if x.mean() > 50 else F.relu(m.a(x))),
        a=nn.Linear(5, 5),
        b=nn.Linear(5, 2),
    )
    with pytest.raises(SiteError, match=r"batch 1: relu\(\)#1 ran"):
        ls.examine(model, LATE, batch_size=N)
    with pytest.raises(SiteError, match=r"relu\(\)#1 ran, though no forward before did"), ls.watch(model):
        _both(lambda: model(X), lambda: model(LATE[N:]))


def test_a_site_that_goes_missing_is_an_error() -> None:
    model = changing(lambda x: x.mean() < 50, lambda m, h: m.extra(h))
    with pytest.raises(SiteError, match=r"batch 1: extra.1 did not run, though the first forward ran it"):
        ls.examine(model, LATE, batch_size=N)


# ---- outputs of every kind


class Pair(NamedTuple):
    first: Any
    second: Any


def test_outputs_of_every_kind() -> None:
    from dataclasses import dataclass

    @dataclass
    class Output:
        loss: Any
        hidden: Any
        more: Any = None

    kinds = {
        "dict": lambda h: {"x": h, "y": [h + 1, None]},
        "tuple": lambda h: (None, h, (h + 1,)),
        "named": lambda h: Pair(h, h + 1),
        "data": lambda h: Output(None, h, {"z": h + 1}),
    }
    for name, wrap in kinds.items():
        torch.manual_seed(0)
        model = Model(
            lambda m, x: m.b(next(t for t in _tensors(m.a(x)))),
            a=Model(lambda m, x, w=wrap: w(F.relu(m.fc(x))), fc=nn.Linear(5, 4)),
            b=nn.Linear(4, 2),
        ).eval()
        both = ls.examine(model, X, layers=["a", "a[1]"], batch_size=N)
        h = F.relu(model.a.fc(X)).detach().numpy()
        assert table_seen(both["a"]) == table_of(h, 1), name
        assert table_seen(both["a[1]"]) == table_of(h + 1, 1), name


def _tensors(value: Any) -> Any:
    from layerscope.inventory.torch import tensors_in

    return tensors_in(value)


def test_a_model_output_of_transformers() -> None:
    transformers = require("transformers")
    torch.manual_seed(0)
    output = transformers.modeling_outputs.BaseModelOutput
    model = Model(
        lambda m, x: m.b(m.a(x).last_hidden_state),
        a=Model(lambda m, x: output(last_hidden_state=F.relu(m.fc(x))), fc=nn.Linear(5, 4)),
        b=nn.Linear(4, 2),
    ).eval()
    results = ls.examine(model, X, layers=["a"], batch_size=N)
    assert table_seen(results["a"]) == table_of(F.relu(model.a.fc(X)).detach().numpy(), 1)


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda x: torch.complex(x, x), "complex values have no order"),
        (lambda x: x.sum(), "a single number"),
        (lambda x: x.sum(1), "no unit axis: a number per sample"),
        (lambda x: torch.nested.nested_tensor([x[:1], x[1:]]), "a nested tensor"),
        (lambda x: x.repeat(3, 1), "axis 0 has 9 entries for 3 samples"),
    ],
)
def test_what_cannot_be_read_is_listed_and_refused(make: Any, reason: str) -> None:
    import warnings

    torch.manual_seed(0)
    model = Model(
        lambda m, x: (m.odd(x), m.b(F.relu(m.a(x))))[1],
        odd=Model(lambda m, x: make(x)),
        a=nn.Linear(5, 4),
        b=nn.Linear(4, 2),
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # nested tensors are a prototype, says torch
        assert reason in ls.layers(model, X)["odd"].left_out
        assert list(ls.examine(model, X)) == ["relu()"]
        with ls.watch(model) as watched:
            model(X)
        assert list(watched) == ["relu()"]
        with pytest.raises(ShapeError, match=f"odd: it cannot be read: .*{reason}"):
            ls.examine(model, X, layers=["odd"])
        if "axis 0" not in reason:  # nobody says how many samples a watched call has
            with pytest.raises(ShapeError, match=f"odd: it cannot be read: .*{reason}"), ls.watch(model, layers="odd"):
                model(X)


def test_no_output_and_integers() -> None:
    torch.manual_seed(0)
    model = Model(
        lambda m, x: (m.none(x), m.index(x), m.b(F.relu(m.a(x))))[2],
        none=Model(lambda m, x: None),
        index=Model(lambda m, x: (x * 3).to(torch.int32)),
        a=nn.Linear(5, 4),
        b=nn.Linear(4, 2),
    )
    assert list(ls.examine(model, X)) == ["relu()"]
    results = ls.examine(model, X, layers=["index"], batch_size=N)
    assert table_seen(results["index"]) == table_of((X * 3).to(torch.int32).numpy(), 1)


def test_a_model_that_returns_nothing_is_read_all_the_same() -> None:
    torch.manual_seed(0)
    model = Model(lambda m, x: None if m.a(x).relu() is not x else x, a=nn.Linear(5, 4)).eval()
    captured = capture(model, lambda: model(X))
    check_sites(ls.examine(model, X, batch_size=N), {"relu()": 1}, captured)
    with ls.watch(model) as watched:
        model(X)
        model(X)
    assert watched["relu()"].state_count == 2 * N


def test_sparse_outputs_are_read_as_dense() -> None:
    torch.manual_seed(0)
    model = Model(lambda m, x: m.s(x).to_dense(), s=Model(lambda m, x: F.relu(x).to_sparse())).eval()
    results = ls.examine(model, X, layers=["s"], batch_size=N)
    assert table_seen(results["s"]) == table_of(F.relu(X).numpy(), 1)


def test_inside_torch_func_values_cannot_be_read() -> None:
    model = net()
    for transform in (lambda: torch.func.vmap(model)(X), lambda: torch.func.grad(lambda x: model(x).sum())(X)):
        with pytest.raises(SiteError, match=r"no site is left(.|\n)*runs inside torch.func"), ls.watch(model):
            transform()
        with pytest.raises(DtypeError, match=r"runs inside torch.func"), ls.watch(model):
            _both(lambda: model(X), transform)
    assert modes() == 0
    with ls.watch(model) as watched:
        torch.func.functional_call(model, dict(model.named_parameters()), (X,))
    assert watched["1"].state_count == N


def _both(first: Any, then: Any) -> None:
    first()
    then()


def test_models_without_values_are_refused() -> None:
    with pytest.raises(SiteError, match="on the meta device and hold no values"):
        ls.examine(net().to("meta"), X)
    with pytest.raises(SiteError, match=r"have no shape yet. Call the model once"):
        _lazy()
    with pytest.raises(SiteError, match="TorchScript"):
        _scripted()
    with pytest.raises(SiteError, match=r"was given a builtins.int as the model"):
        probe_for(3)


def _lazy() -> None:
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        model = nn.Sequential(nn.LazyLinear(3))
    ls.examine(model, X)


def _scripted() -> None:
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        model = torch.jit.trace(net(), X)
    ls.examine(model, X)


# ---- the model stays as it was


def drawn() -> list[int]:
    """Where NumPy's global generator is."""
    return np.random.get_state(legacy=False)["state"]["key"].tolist()  # type: ignore[index]  # noqa: NPY002


class Boom(Exception):
    pass


def test_examine_leaves_everything_as_it_was_also_after_an_error() -> None:
    model = net().train()
    model[1].eval()
    fired: list[int] = []
    model[0].register_forward_hook(lambda *_: fired.append(1))
    model[2].register_forward_pre_hook(lambda *_: None)
    before, weights = hooks_of(model), {k: v.clone() for k, v in model.state_dict().items()}

    def failing_data() -> Any:
        yield X
        raise Boom

    def failing_forward(m: Any, x: Any) -> Any:
        if len(x) == N:
            m(x)
            raise Boom
        return m(x)

    class FailingModel(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = model
            self.count = 0

        def forward(self, x: Any) -> Any:
            self.count += 1
            if self.count > 1:
                self.inner[:2](x)
                raise Boom
            return self.inner(x)

    from layerscope.measures import Entropy
    from layerscope.tallies import StateTable

    class BadTable(StateTable):
        def read(self, activations: Any) -> Any:
            raise Boom

    bad = type("Bad", (Entropy,), {"tally": property(lambda self: BadTable())})()
    tries: list[Any] = [
        lambda: ls.examine(model, X, batch_size=N),
        lambda: ls.examine(model, failing_data),
        lambda: ls.examine(model, ls.Data(X, forward=failing_forward), batch_size=N),
        lambda: ls.examine(FailingModel(), X, batch_size=N),
        lambda: ls.examine(model, X, measures=[bad]),
        lambda: ls.examine(model, X, layers="nothing"),
        lambda: ls.layers(model, X),
        lambda: ls.activations(model, X),
        lambda: ls.plan(model, X),
    ]
    for attempt in tries:
        torch.manual_seed(7)
        np.random.seed(7)  # noqa: NPY002
        random.seed(7)
        state = torch.get_rng_state(), random.getstate(), drawn()
        try:
            attempt()
        except (Boom, SiteError):
            pass
        assert torch.equal(state[0], torch.get_rng_state())
        assert state[1:] == (random.getstate(), drawn())
        assert torch.is_grad_enabled()
        assert hooks_of(model) == before
        assert modes() == 0
        assert torch.backends.mha.get_fastpath_enabled()
        assert all(torch.equal(v, weights[k]) for k, v in model.state_dict().items())
    assert fired
    x = X.clone().requires_grad_()
    model(x).sum().backward()
    assert x.grad is not None


def test_results_do_not_depend_on_how_the_data_is_cut() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 6, 3), nn.ReLU(), nn.Flatten(), nn.Linear(216, 9), nn.Tanh(), nn.Linear(9, 2))
    x = torch.randn(50, 1, 8, 8, generator=torch.Generator().manual_seed(5))
    whole = ls.examine(model, x, batch_size=16)
    tables = {name: table_seen(whole[name]) for name in whole}
    forms: list[Any] = [x.numpy(), torch.utils.data.TensorDataset(x), lambda: iter(x.split(11))]
    for form in forms:
        other = ls.examine(model, form, batch_size=16)
        assert {name: table_seen(other[name]) for name in other} == tables
    parts = [ls.examine(model, x, batch_size=16, shard=(k, 2)) for k in range(2)]
    merged = parts[0].merge(parts[1])
    assert {name: table_seen(merged[name]) for name in merged} == tables


def test_a_model_whose_leading_axis_holds_windows() -> None:
    torch.manual_seed(0)
    model = Model(lambda m, x: m.h(x.unfold(1, 3, 1).reshape(-1, 3)).relu(), h=nn.Linear(3, 4))
    assert "samples" in ls.layers(model, X, layers=lambda layer: True)["h"].unfit
    with pytest.raises(ShapeError, match=r"h: it cannot be read: .*(share axis 0|entries for 3 samples)"):
        ls.examine(model, X, layers=["h"])
    with pytest.raises(SiteError, match="no site is left to read"):
        ls.examine(model, X)


def test_axes_given_for_a_site_that_was_left_out_let_it_in() -> None:
    torch.manual_seed(0)
    model = Model(
        lambda m, x: m.fc(F.relu(torch.einsum("nf,of->on", x, m.a.weight)).T), a=nn.Linear(5, 4), fc=nn.Linear(4, 2)
    ).eval()
    assert "axis 0 has 4 entries for 3 samples" in ls.layers(model, X)["relu()"].left_out
    captured = capture(model, lambda: model(X))
    results = ls.examine(model, X, axes={"relu()": ls.Axes(0, sample=1)}, batch_size=N)
    check_sites(results, {"relu()": (0, 0.0, 1)}, captured)


def test_padding_of_the_last_batch_counts_nowhere() -> None:
    model = net()
    rows = torch.cat([X, X[:1]])
    results = ls.examine(model, rows, batch_size=4)
    assert results["1"].state_count == 7
    spoilt = rows.clone()
    spoilt[-1] = float("nan")  # what the padding repeats
    assert ls.examine(model, spoilt, batch_size=4)["1"].table.nan == 8
    with torch.no_grad():
        wanted = np.concatenate([model[:2](b).numpy() for b in (rows[:4], torch.cat([rows[4:], rows[-1:]]))])[:7]
    assert table_seen(results["1"]) == table_of(wanted, 1)


def test_a_mask_leaves_padding_rows_out_and_pooled_sites_in() -> None:
    torch.manual_seed(0)
    model = Model(
        lambda m, x: m.fc(F.tanh(m.p(F.relu(m.h(x)).mean(1)))), h=nn.Linear(5, 4), p=nn.Linear(4, 3), fc=nn.Linear(3, 2)
    ).eval()
    x = torch.randn(N, 7, 5, generator=torch.Generator().manual_seed(1))
    mask = np.arange(7) < np.array([7, 3, 2, 5, 1, 4])[:, None]
    captured = capture(model, lambda: model(x))
    results = ls.examine(model, ls.Data(x, mask=mask), batch_size=4)
    kept = np.packbits(captured["relu()"][mask] > 0, axis=1, bitorder="little")
    states, n = np.unique(kept, axis=0, return_counts=True)
    assert {s: v[0] for s, v in table_seen(results["relu()"]).items()} == {
        s.tobytes(): int(k) for s, k in zip(states, n, strict=True)
    }
    assert results["tanh()"].state_count == N
    conv = nn.Sequential(
        nn.Unflatten(2, (5, 1)),
        nn.Conv2d(7, 3, 1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(15, 4),
        nn.ReLU(),
        nn.Linear(4, 2),
    )
    listed = ls.examine(conv, ls.Data(x, mask=mask)).layers
    assert "do not match the mask (7,)" in listed["2"].left_out
    assert listed["5"].left_out == ""


def test_the_untrained_twin_and_the_fingerprint() -> None:
    model = net()
    probe = probe_for(model)
    print_ = probe.fingerprint()
    twin: Any = probe.untrained(3)
    assert probe.fingerprint() == print_ != twin.fingerprint()
    assert twin.fingerprint() == probe.untrained(3).fingerprint() != probe.untrained(4).fingerprint()
    with torch.no_grad():
        model[0].weight[0, 0] += 1e-6
    assert probe.fingerprint() != print_
    attention = nn.MultiheadAttention(4, 2)
    nn.init.normal_(attention.out_proj.bias)
    again: Any = probe_for(attention).untrained()
    assert not again.model.out_proj.bias.any()  # as a fresh one has it
    bare = nn.Sequential(Model(lambda m, x: x * m.w, w=nn.Parameter(torch.ones(5))), nn.Linear(5, 2))
    with pytest.raises(SiteError, match=r"0 \(Model\) have parameters but no reset_parameters"):
        probe_for(bare).untrained()


def test_wrappers_come_off() -> None:
    model = net()
    assert unwrapped(torch.compile(model, backend="eager")) is model
    assert unwrapped(model) is model


def test_a_copy_or_a_saved_model_of_a_running_probe_is_inert(tmp_path: Path) -> None:
    model = net()
    with ls.watch(model) as watched:
        early = copy.deepcopy(model)
        early(X)
        with pytest.raises(LayerscopeError, match="not called"):
            watched.results()
        model(X)
        twin, state = copy.deepcopy(model), model.state_dict()
        torch.save(model, tmp_path / "model.pt")
        twin(X)
        assert watched["1"].state_count == N
    assert set(state) == set(net().state_dict())
    code = (
        "import sys, torch\n"
        "sys.modules['layerscope'] = None\n"
        f"model = torch.load({str(tmp_path / 'model.pt')!r}, weights_only=False)\n"
        "print(tuple(model(torch.ones(3, 5)).shape), 'layerscope' in [m for m in sys.modules if sys.modules[m]])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "(3, 2) False"


def test_hooks_of_the_user_that_change_values_are_seen() -> None:
    model = net()
    model[1].register_forward_hook(lambda m, a, out: -out)
    model[2].register_forward_pre_hook(lambda m, a: (a[0] + 5,))
    captured = capture(model, lambda: model(X))
    with ls.watch(model, layers=["1", "2"], when="both") as watched, torch.no_grad():
        model(X)
    check_sites(watched, {"1": 1, "2": 1, "1:in": 1, "2:in": 1}, captured)
    assert captured["2:in"].min() > captured["1"].min()


def test_tallies_may_be_read_by_functions_that_are_sites_themselves() -> None:
    """What a reader computes is no part of the model."""
    model = functional()
    probe = probe_for(model)

    def read(layer: Layer, a: Any) -> Any:
        return F.relu(a.values).clamp(min=0).sum().item()

    from layerscope.feed import Feed

    with probe:
        batch = Feed(X, batch_size=N).peek(N)
        layers = probe.describe(batch).read
        assert [str(x.site) for x in layers] == ["relu()"]
        _, found = probe.run(batch, layers, read)
    assert found[layers[0]] == pytest.approx(float(F.relu(model.a(X)).sum().detach()))


def test_a_scripted_layer_inside_is_one_layer() -> None:
    import warnings

    model = net()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        scripted = nn.Sequential(nn.Linear(5, 5), torch.jit.trace(model[:2], X), nn.ReLU(), nn.Linear(8, 2)).eval()
    captured = capture(scripted, lambda: scripted(X))
    check_sites(ls.examine(scripted, X, batch_size=N), {"2": 1, "0": 1}, captured)


def test_experts_that_see_some_rows() -> None:
    class Experts(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.gate = nn.Linear(5, 2)
            self.each = nn.ModuleList(nn.Sequential(nn.Linear(5, 6), nn.ReLU(), nn.Linear(6, 5)) for _ in range(2))

        def forward(self, x: Any) -> Any:
            flat, out = x.reshape(-1, 5), torch.zeros(x.shape[0] * x.shape[1], 5)
            chosen = self.gate(flat).argmax(1)
            for k, expert in enumerate(self.each):
                rows = torch.where(chosen == k)[0]
                out[rows] = expert(flat[rows])
            return out.view(x.shape)

    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(5, 5), Experts(), nn.Linear(5, 5), nn.ReLU(), nn.Linear(5, 2)).eval()
    x = torch.randn(N, 7, 5, generator=torch.Generator().manual_seed(1))
    captured = capture(model, lambda: model(x))
    results = ls.examine(model, x, batch_size=N)
    check_sites(results, {"0": 2, "3": 2}, captured)
    assert "share axis 0" in results.layers["1.each.0.1"].left_out
    with ls.watch(model, layers=["1.each.*.1"]) as watched, torch.no_grad():
        model(x)
        model(x)
    for k in range(2):
        name = f"1.each.{k}.1"
        assert watched[name].state_count == 2 * len(captured[name])


def test_a_layer_inside_an_encoder_that_has_a_fast_path() -> None:
    torch.manual_seed(0)
    model = nn.TransformerEncoder(
        nn.TransformerEncoderLayer(4, 2, 8, batch_first=True), 2, enable_nested_tensor=True
    ).eval()
    x = torch.randn(N, 7, 4, generator=torch.Generator().manual_seed(1))
    captured = capture(model, lambda: model(x))
    for name in ("layers.1.linear1", "layers.0.dropout2", "layers.1"):
        check_sites(ls.examine(model, x, layers=[name], batch_size=N), {name: 2}, captured)


def test_custom_autograd_functions_do_not_hide_what_follows() -> None:
    class Double(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Any) -> Any:
            return x * 2

        @staticmethod
        def backward(ctx: Any, g: Any) -> Any:
            return g * 2

    torch.manual_seed(0)
    model = Model(
        lambda m, x: m.c(F.relu(m.b(Double.apply(m.a(x))))), a=nn.Linear(5, 5), b=nn.Linear(5, 4), c=nn.Linear(4, 2)
    )
    check_against_oracle(model, X, {"a": 1, "relu()": 1})

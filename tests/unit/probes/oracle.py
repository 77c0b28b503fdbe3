"""What a probe must find, by other means: hooks and a function mode of the test that copy every activation, and NumPy that counts."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

import layerscope as ls
from layerscope._results import Results
from tests.conftest import require

torch = require("torch")
nn, F = torch.nn, torch.nn.functional

Captured = dict[str, NDArray[Any]]
Expected = Mapping[str, int | tuple[int, float] | tuple[int, float, int]]
"""By site: the unit axis, above what a unit fires (0), and the sample axis (0)."""


class Model(nn.Module):
    """A model whose forward is a function of it and its inputs."""

    def __init__(self, forward: Callable[..., Any], **layers: Any) -> None:
        super().__init__()
        for name, layer in layers.items():
            setattr(self, name, layer)
        self.run = forward

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return self.run(self, *args, **kwargs)


def capture(model: Any, forward: Callable[[], Any]) -> Captured:
    """Copies of all outputs of modules (`a.b`, `a.b#1`, `a.b[1]`), inputs (`a.b:in`) and functions (`a.b.relu()`) of one forward."""
    found: Captured = {}
    stack: list[tuple[str, int]] = []
    calls: Counter[str] = Counter()

    def number(name: str) -> str:
        calls[name] += 1
        return name if calls[name] == 1 else f"{name}#{calls[name] - 1}"

    def keep(name: str, value: Any, port: str = "") -> None:
        for part, tensor in enumerate(flat(value)):
            copy = tensor.detach().clone()
            whole = copy.to(torch.float64) if copy.dtype in (torch.bfloat16, torch.float16) else copy
            found[f"{name}{port}" + (f"[{part}]" if part else "")] = (
                whole.to_dense().numpy() if whole.is_sparse else whole.numpy()
            )

    class Mode(torch.overrides.TorchFunctionMode):
        def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            result = func(*args, **(kwargs or {}))
            name = getattr(func, "__name__", "")
            if (
                not name.startswith("__")
                and isinstance(result, torch.Tensor)
                and not torch._C._functorch.is_functorch_wrapped_tensor(result)
            ):
                inside = f"{stack[-1][0]}." if stack and stack[-1][0] else ""
                keep(number(f"{inside}{name.strip('_')}()"), result)
            return result

    handles: list[Any] = []
    for path, module in model.named_modules():

        def before(module: Any, args: Any, kwargs: Any, path: str = path) -> None:
            name = number(path or "(model)")
            stack.append((path, name))  # type: ignore[arg-type]
            keep(name, (args, kwargs), ":in")

        def after(module: Any, args: Any, output: Any) -> None:
            keep(str(stack.pop()[1]), output)

        handles += [module.register_forward_pre_hook(before, with_kwargs=True), module.register_forward_hook(after)]
    try:
        with torch.no_grad(), Mode():
            forward()
    finally:
        for handle in handles:
            handle.remove()
    return found


def flat(value: Any) -> Iterator[Any]:
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, nn.utils.rnn.PackedSequence):
        yield value.data
    elif isinstance(value, dict):
        for each in value.values():
            yield from flat(each)
    elif isinstance(value, tuple | list):
        for each in value:
            yield from flat(each)


def table_of(
    values: NDArray[Any], unit: int, threshold: float = 0.0, sample: int = 0
) -> dict[bytes, tuple[int, int, int, int]]:
    """Every state with how often it was seen, in how many samples, the sum of squared counts a sample, and its smallest sample."""
    rows = np.moveaxis(values, (sample, unit), (0, -1))
    states: dict[bytes, Counter[int]] = {}
    for k, of_one in enumerate(rows.reshape(len(rows), -1, rows.shape[-1])):
        for row in np.packbits(of_one > threshold, axis=1, bitorder="little"):
            states.setdefault(row.tobytes(), Counter())[k] += 1
    return {s: (sum(c.values()), len(c), sum(n * n for n in c.values()), min(c)) for s, c in states.items()}


def table_seen(view: Any) -> dict[bytes, tuple[int, int, int, int]]:
    """The same of a view."""
    r = view.table.records()
    columns = [np.asarray(column).tolist() for column in r[1:5]]
    return dict(zip(view.state_ids(), zip(*columns, strict=True), strict=True))  # type: ignore[arg-type]


def rule_of(rule: int | tuple[int, float] | tuple[int, float, int]) -> tuple[int, float, int]:
    if isinstance(rule, int):
        return rule, 0.0, 0
    return rule if len(rule) == 3 else (*rule, 0)


def check_sites(results: Any, expected: Expected, captured: Captured) -> None:
    """The sites of results are those expected, and each has the table that NumPy makes of what was captured."""
    assert sorted(results) == sorted(expected), (
        f"read {sorted(results)}, expected {sorted(expected)}\n{results.layers!r}"
    )
    for name, rule in expected.items():
        unit, threshold, sample = rule_of(rule)
        mine, theirs = table_of(captured[name], unit, threshold, sample), table_seen(results[name])
        assert theirs == mine, f"{name}: {len(theirs)} states, NumPy has {len(mine)}"
        assert results[name].state_count == captured[name].size // captured[name].shape[unit]


def check_against_oracle(model: Any, inputs: Any, expected: Expected, **asked: Any) -> Results:
    """`examine` and `watch` give the sites expected, and at each the states that NumPy counts in a forward of its own."""
    model.eval()
    arguments: list[Any] = [*inputs] if isinstance(inputs, tuple) else [inputs]
    captured = capture(model, lambda: model(*arguments))
    data = ls.Data(arguments, inputs=list(range(len(arguments)))) if len(arguments) > 1 else inputs
    results = ls.examine(model, data, batch_size=len(arguments[0]), **asked)
    check_sites(results, expected, captured)
    with ls.watch(model, **asked) as watched, torch.no_grad():
        model(*arguments)
    check_sites(watched, expected, captured)
    with ls.watch(model, **asked) as watched, torch.no_grad():
        model(*arguments)
        watched.reset()
        model(*arguments)  # by hooks alone this time
    check_sites(watched, expected, captured)
    return results

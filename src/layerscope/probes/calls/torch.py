"""A Keras forward on the PyTorch backend: it runs eagerly, and a mode hears of every torch function no function of Keras stands for."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.overrides import TorchFunctionMode

from ..._site import Activations, Chunk, Samples
from ...feed import Batch
from ...inventory import Layer
from ...inventory import _operations as ops
from ...inventory._graph import Graph, Kind, Value
from ...inventory.torch import axes_went, in_functorch, name_of
from .._abstract import Read
from ..torch import activations, same_random_state
from ._engine import AbstractEngine, AbstractProgram, Described, Forward, Result, check_found, described
from ._follow import AbstractFollower, AbstractTracer, Describer, Function, Listener
from .keras import Calls, converted, stateless, tensors_in, updated


class EagerTracer(AbstractTracer):
    """Follows what runs in this thread inside its context; `functions` whether torch functions are told, too."""

    def __init__(self, follower: AbstractFollower, functions: bool) -> None:
        self.follower, self.functions = follower, functions
        self._within = 0
        self._mode = _Mode(self)
        self._undo = ExitStack()

    def __enter__(self) -> "EagerTracer":
        if self.functions:
            self._undo.enter_context(self._mode)
        return self

    def __exit__(self, *error: Any) -> None:
        self._undo.close()

    def here(self) -> bool:
        return not self._mapped()

    @staticmethod
    def _mapped() -> bool:
        return torch._C._functorch.peek_interpreter_stack() is not None  # pyright: ignore[reportAttributeAccessIssue]

    def opens(self, path: str, kind: Kind, tensors: Sequence[Any]) -> None:
        with torch._C.DisableTorchFunction():
            self.follower.opens(path, kind, tensors)

    def closes(self, path: str, tensors: Sequence[Any], masks: Sequence[Any], new: bool) -> None:
        with torch._C.DisableTorchFunction():
            self.follower.closes(path, tensors, masks, new)

    def begins(self) -> None:
        self._within += 1

    def breaks_off(self) -> None:
        self._within -= 1

    def function(self, function: Function, inputs: Sequence[Any], outputs: Sequence[Any]) -> None:
        self._within -= 1
        if not self._within:
            with torch._C.DisableTorchFunction():
                self.follower.function(function, inputs, outputs)

    def looped(self, path: str, kind: Kind, loop: str, tensors: Sequence[Any]) -> None:
        self.follower.looped(path, kind, loop, tensors)

    def heard(self, func: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any], result: Any) -> None:
        """A torch function ran that nobody told of."""
        if self._within or self._mapped():
            return
        inputs, outputs = [*tensors_in((args, kwargs))], [*tensors_in(result)]
        name = name_of(func)
        if not inputs or not outputs or name in ("size", "shape", "dim", "ndim", "dtype", "device"):
            return
        if any(map(in_functorch, outputs)) or (name in ops.SAME and any(outputs[0] is each for each in inputs)):
            return  # `to` gives back what it is given where there is nothing to do
        old, new = tuple(inputs[0].shape), tuple(outputs[0].shape)
        went = axes_went(func, name, args, kwargs, old, new) if name in ops.SAME | ops.PARTS else None
        unit = 1 if name.startswith("conv") or name == "batch_norm" or "pool" in name else None
        said = tuple((key, value) for key, value in kwargs.items() if isinstance(value, int | float | tuple))
        plain = tuple(value if isinstance(value, int | float | tuple) else None for value in args)
        with torch._C.DisableTorchFunction():
            self.follower.function(
                Function(name, None if went is None else tuple(went), unit, plain, said), inputs, outputs
            )


class _Mode(TorchFunctionMode):
    def __init__(self, tracer: EagerTracer) -> None:
        super().__init__()
        self.tracer = tracer

    def __torch_function__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None) -> Any:
        result = partial(func, *args, **(kwargs or {}))()
        self.tracer.heard(func, args, kwargs or {}, result)
        return result


class Values:
    """What stands for a tensor, which it keeps alive so that no other takes its place."""

    def __init__(self) -> None:
        self._kept: dict[int, Any] = {}

    def __call__(self, tensor: Any) -> Value:
        self._kept[id(tensor)] = tensor
        return Value(id(tensor), tuple(tensor.shape), str(tensor.dtype).removeprefix("torch."))


class TorchEngine(AbstractEngine):
    """Forwards that run eagerly, as Keras runs them on this backend."""

    def describe(self, forward: Forward, arrays: Sequence[Any], samples: int | None, inputs: bool) -> Described:
        describer = Describer(Graph(samples, inputs), Values(), forward.masked)
        tensors = _tensors(arrays)
        describer.given(tensors)
        with (
            same_random_state(),
            torch.no_grad(),
            EagerTracer(describer, functions=True) as tracer,
            Calls(forward.operations, tracer, functions=True),
        ):
            output, scope = stateless(forward, tensors, ())
        describer.gave([*tensors_in(output)])
        return described(describer, updated(forward, scope))

    def program(
        self, forward: Forward, arrays: Sequence[Any], layers: tuple[Layer, ...], batch: Batch, read: Read | None
    ) -> AbstractProgram:
        return TorchProgram(forward, layers, batch)

    def on_host(self) -> bool:
        return True  # eager: `activations` says of each tensor where it lies

    def watching(self) -> AbstractContextManager[Any]:
        return torch.compiler.set_stance("force_eager")

    def there(self, value: Any) -> bool:
        return True

    def spec(self, tensor: Any) -> Any:
        return tensor

    def tracer(self, follower: AbstractFollower) -> AbstractContextManager[AbstractTracer]:
        return EagerTracer(follower, functions=True)

    def step(self, original: Callable[..., Any], args: tuple[Any, ...], watch: Any, kept: list[Any]) -> Any:
        return original(*args)

    def host(self, tensor: Any) -> NDArray[Any]:
        return tensor.detach().cpu().numpy()

    def activations(self, layer: Layer, tensor: Any, samples: Samples) -> Activations:
        mask = None if samples.mask is None else torch.from_numpy(samples.mask).to(tensor.device)
        return activations(layer, tensor, mask=mask)


class TorchProgram(AbstractProgram):
    """No program: a forward that is followed each time. What lies on the host is counted while it is there."""

    def __init__(self, forward: Forward, layers: tuple[Layer, ...], batch: Batch) -> None:
        self.forward, self.layers = forward, layers
        self.masks = forward.masked and batch.samples.mask is None
        functions = any(layer.site.path.endswith("()") for layer in layers)
        paths = {layer.site.path for layer in layers}
        self._operations = {
            path: operation
            for path, operation in forward.operations.items()
            if functions or self.masks or path in paths
        }

    def run(
        self, arrays: Sequence[Any], carried: Sequence[Any], batch: Batch, read: Read
    ) -> tuple[Result, Mapping[Layer, Mapping[Any, Chunk]]]:
        tensors, count = _tensors(arrays), len(batch.samples)
        given = batch.samples.mask
        mask = None if given is None else torch.from_numpy(np.ascontiguousarray(given)).to(tensors[0].device)
        found: dict[Layer, Mapping[Any, Chunk]] = {}
        masked: dict[int, Samples] = {}

        def seen(layer: Layer, tensor: Any, own: Any) -> None:
            if own is None:
                found[layer] = read(layer, activations(layer, tensor, count, batch.size, mask))
                return
            counts = own.to(torch.bool)[:count]
            samples = masked.setdefault(id(own), replace(batch.samples, mask=counts.cpu().numpy()))
            # whoever counts on the spot knows of the batch's own mask only
            a = replace(activations(layer, tensor, count, batch.size, counts), host=None, dtype=None)
            found[layer] = {key: replace(chunk, samples=samples) for key, chunk in read(layer, a).items()}

        listener = Listener(self.layers, seen, self.masks)
        with (
            torch.no_grad(),
            EagerTracer(listener, listener.functions) as tracer,
            Calls(self._operations, tracer, listener.functions),
        ):
            output, scope = stateless(self.forward, tensors, carried)
        check_found(self.layers, listener.found)
        new = [scope.get_current_value(variable) for variable in self.forward.carried]
        return Result(next(tensors_in(output), None), None, [], new), found


def _tensors(arrays: Sequence[Any]) -> list[Any]:
    return [converted(array) for array in arrays]

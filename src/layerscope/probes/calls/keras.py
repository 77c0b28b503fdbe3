"""The calls of a Keras model's layers and functions, while a forward of ours runs.

`layer.call` is replaced on the instance, and taken away again: Keras looks it up at every call, on every backend. Functions (`keras.ops.relu` in the
`call` of a user) are no layers; they are found where Keras finds them, in the module of the active backend.
"""

import functools
import inspect
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import keras
import numpy as np

# Private, and without a public door: what `keras.ops` looks up at every call, and the masks that Keras attaches to tensors. `check_door`
# sees to it that a Keras that keeps them elsewhere is refused by name, instead of a model read without its functions.
from keras.src import backend

from ..._errors import LayerscopeError, SiteError
from ...inventory._graph import Kind
from ...inventory.keras import arguments_of, axes_went, kind_of, loops, plain, unit_of
from ._engine import Forward
from ._follow import AbstractFollower, AbstractTracer, Function

QUIET = ("arange", "array", "empty", "eye", "full", "identity", "linspace", "meshgrid", "ones", "zeros", "ndim", "size")
"""Functions that make tensors of nothing, or no tensor."""


class ToldTracer(AbstractTracer):
    """Passes on what it is told, where nothing else is to be seen; `here` says whether values are those of the call that is followed."""

    def __init__(self, follower: AbstractFollower, here: Callable[[], bool]) -> None:
        self.follower, self._here = follower, here

    def here(self) -> bool:
        return self._here()

    def opens(self, path: str, kind: Kind, tensors: Sequence[Any]) -> None:
        self.follower.opens(path, kind, tensors)

    def closes(self, path: str, tensors: Sequence[Any], masks: Sequence[Any], new: bool) -> None:
        self.follower.closes(path, tensors, masks, new)

    def function(self, function: Function, inputs: Sequence[Any], outputs: Sequence[Any]) -> None:
        self.follower.function(function, inputs, outputs)

    def looped(self, path: str, kind: Kind, loop: str, tensors: Sequence[Any]) -> None:
        self.follower.looped(path, kind, loop, tensors)


class Calls:
    """Tells a tracer of every call of these operations, as long as the context lasts, in the thread that entered it.

    **Arguments:** `operations` by path; `functions` whether calls of functions are told, too.
    """

    def __init__(self, operations: Mapping[str, Any], tracer: AbstractTracer, functions: bool) -> None:
        self.operations, self.tracer, self.functions = operations, tracer, functions
        self._thread = 0
        self._quiet = False
        self._open: list[tuple[str, bool]] = []
        self._undo = ExitStack()

    def __enter__(self) -> "Calls":
        self._thread = threading.get_ident()
        with ExitStack() as undo:
            for path, operation in self.operations.items():
                for method in ("call", "quantized_call"):
                    if method == "call" or getattr(operation, "quantization_mode", None) is not None:
                        self._place(undo, operation, method, path)
                if getattr(operation, "_remat_mode", None) is not None:  # changes memory, not values
                    undo.callback(object.__setattr__, operation, "_remat_mode", operation._remat_mode)
                    object.__setattr__(operation, "_remat_mode", None)
            if self.functions:
                composed = [(module, name, getattr(module, name)) for module, name in self.tracer.composed()]
                for module, name, function in (*_functions(), *composed):
                    undo.callback(setattr, module, name, function)
                    setattr(module, name, self._told(name, function))
            self._undo = undo.pop_all()
        return self

    def __exit__(self, *error: Any) -> None:
        self._undo.close()
        self._thread = 0

    def _place(self, undo: ExitStack, operation: Any, method: str, path: str) -> None:
        own = vars(operation).get(method)
        original = getattr(operation, method)

        @functools.wraps(original)
        def followed(*args: Any, **kwargs: Any) -> Any:
            if threading.get_ident() != self._thread or self._quiet:
                return original(*args, **kwargs)
            with plain_errors():
                return self._call(path, operation, original, args, kwargs)

        if own is None:
            undo.callback(object.__delattr__, operation, method)
        else:  # a user replaced it on the instance, too
            undo.callback(object.__setattr__, operation, method, own)
        object.__setattr__(operation, method, followed)

    def _call(self, path: str, operation: Any, original: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        if any(looping for _, looping in self._open):
            return original(*args, **kwargs)
        kind = kind_of(operation, kwargs.get("training"))
        if not self.tracer.here():
            output = original(*args, **kwargs)
            with self._silence():
                self.tracer.looped(path, kind, "", [*tensors_in(output)])
            return output
        data = {key: value for key, value in kwargs.items() if key != "mask" and not key.endswith("_mask")}
        with self._silence():
            self.tracer.opens(path, kind, [*tensors_in((args, data if kind.does else kwargs))])
            if looping := loops(operation):  # whether its steps run as a loop of Python or inside one of the backend
                for inside, each in self.operations.items():
                    if inside.startswith(f"{path}." if path else "") and inside != path:
                        self.tracer.looped(inside, kind_of(each), path, [])
        self._open.append((path, looping))
        try:
            output = original(*args, **kwargs)
        finally:
            self._open.pop()
        with self._silence():
            outputs = [*tensors_in(output)]
            masks, new = self._masks(operation, args, kwargs, outputs)
            self.tracer.closes(path, outputs, masks, new)
        return output

    def _masks(self, operation: Any, args: Any, kwargs: Any, outputs: Sequence[Any]) -> tuple[list[Any], bool]:
        """The masks that Keras is about to give these outputs, by its own rules, and whether the inputs had none."""
        masks = [backend.get_keras_mask(output) for output in outputs]
        if not isinstance(operation, keras.Layer):
            return masks, False
        first = args[0] if args else next(iter(kwargs.values()), None)
        before = kwargs.get("mask")
        if before is None:
            before = keras.tree.map_structure(backend.get_keras_mask, first)
        new = all(mask is None for mask in keras.tree.flatten(before))
        if operation.supports_masking and any(mask is None for mask in masks):
            given = [*tensors_in(operation.compute_mask(first, before))]
            masks = [
                old if old is not None else mask
                for old, mask in zip(masks, [*given, *[None] * len(masks)], strict=False)
            ]
        return masks, new

    def _told(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def told(*args: Any, **kwargs: Any) -> Any:
            if threading.get_ident() != self._thread or self._quiet or not self.tracer.here():
                return function(*args, **kwargs)
            inputs = [*tensors_in((args, kwargs))]
            if not inputs:
                return function(*args, **kwargs)
            with self._silence():
                self.tracer.begins()
                try:
                    output = function(*args, **kwargs)
                except BaseException:
                    self.tracer.breaks_off()
                    raise
                self.tracer.function(_described(name, function, args, kwargs, output), inputs, [*tensors_in(output)])
            return output

        return told

    def _silence(self) -> "_Silence":
        return _Silence(self)


@contextmanager
def plain_errors() -> Iterator[None]:
    """Keras adds the arguments of a call to errors raised in it, arrays and all; ours say what there is to say."""
    try:
        yield
    except LayerscopeError as error:
        error._keras_call_info_injected = True  # pyright: ignore[reportAttributeAccessIssue] - a mark of Keras's own
        raise


class _Silence:
    """What runs inside is no part of the model's own program, or a part of a function that is told as one."""

    def __init__(self, calls: Calls) -> None:
        self.calls = calls

    def __enter__(self) -> None:
        self.before, self.calls._quiet = self.calls._quiet, True

    def __exit__(self, *error: Any) -> None:
        self.calls._quiet = self.before


def _described(name: str, function: Callable[..., Any], args: Any, kwargs: Any, output: Any) -> Function:
    arguments = arguments_of(function, args, kwargs)
    first = next(tensors_in((args, kwargs)))
    old, new = (tuple(value.shape) for value in (first, next(tensors_in(output), first)))
    known = plain(name)
    if name == "take":  # rows of a table of the model's own, or some of a tensor's
        known = "embedding" if isinstance(first, keras.Variable) else "index_select"
    said = {key: _plain(value) for key, value in arguments.items() if _plain(value) is not None}
    extra = tuple(_plain(value) for value in args)
    if name == "clip":
        said["min"] = _plain(arguments.get("x_min"))
    return Function(
        known, axes_went(name, arguments, old, new), unit_of(name, arguments, len(new)), extra, tuple(said.items())
    )


def _plain(value: Any) -> Any:
    """A number, text or tuple of them; None for the rest."""
    if isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, list | tuple) and all(isinstance(each, int | float) for each in value):
        return tuple(value)
    return None


def stateless(forward: Forward, tensors: Sequence[Any], carried: Sequence[Any]) -> tuple[Any, Any]:
    """The output of a forward that changes no variable of the model, and the scope that knows what would have changed."""
    around = backend.get_stateless_scope()
    with keras.StatelessScope(list(zip(forward.carried, carried, strict=False))) as scope:
        if around is not None:  # a step of Keras's own, in which variables have their values from it
            scope.state_mapping = {**around.state_mapping, **scope.state_mapping}
        return forward.call(tensors), scope


def updated(forward: Forward, scope: Any) -> list[Any]:
    """The variables that a forward would have changed."""
    return [variable for variable in forward.variables if scope.get_current_value(variable) is not None]


def without_variable(value: Any) -> Any:
    """A tensor, where a variable stands for it."""
    return value.value if isinstance(value, keras.Variable) else value


def converted(array: Any) -> Any:
    """An array as a tensor of the backend, where Keras puts it."""
    return keras.ops.convert_to_tensor(array)


def batch_devices() -> int:
    """Among how many devices Keras shares out a batch."""
    distribution = keras.distribution.distribution()
    if distribution is None:
        return 1
    mesh = distribution.device_mesh
    return int(dict(zip(mesh.axis_names, mesh.shape, strict=True)).get(distribution.batch_dim_name, 1))


def distributed(array: Any) -> Any:
    """An array where the model's distribution wants it."""
    distribution = keras.distribution.distribution()
    if distribution is None:
        return array
    return keras.distribution.distribute_tensor(array, distribution.get_data_layout(array.shape))


def in_symbolic_scope() -> bool:
    """Whether Keras only asks for shapes."""
    return backend.in_symbolic_scope()


def taken_apart(value: Any) -> tuple[list[Any], Callable[[Iterator[Any]], Any]]:
    """The tensors and arrays of a value, and what puts others in their places."""
    if isinstance(value, Mapping):
        parts = {key: taken_apart(each) for key, each in value.items()}
        made = [tensor for tensors, _ in parts.values() for tensor in tensors]
        return made, lambda new: {key: rebuild(new) for key, (_, rebuild) in parts.items()}
    if isinstance(value, tuple | list):
        kind, listed = type(value), [taken_apart(each) for each in value]
        made = [tensor for tensors, _ in listed for tensor in tensors]
        if hasattr(value, "_fields"):
            return made, lambda new: kind(*(rebuild(new) for _, rebuild in listed))
        return made, lambda new: kind(rebuild(new) for _, rebuild in listed)
    if isinstance(value, np.ndarray) or (
        not (value is None or isinstance(value, keras.Variable)) and backend.is_tensor(value)
    ):
        return [value], next
    return [], lambda new: value


def tensors_in(value: Any) -> Iterator[Any]:
    """The tensors of the backend in a value, and variables of Keras, in order, however nested."""
    if isinstance(value, Mapping):
        for each in value.values():
            yield from tensors_in(each)
    elif isinstance(value, list | tuple):
        for each in value:
            yield from tensors_in(each)
    elif isinstance(value, keras.Variable) or (value is not None and backend.is_tensor(value)):
        yield value


@functools.cache
def _functions() -> tuple[tuple[Any, str, Callable[..., Any]], ...]:
    """What `keras.ops` looks up in the modules of the active backend."""
    return tuple(
        (module, name, function)
        for module in (backend.nn, backend.numpy)
        for name, function in vars(module).items()
        if inspect.isfunction(function) and function.__module__ == module.__name__
        if not name.startswith("_") and name not in QUIET
    )


@functools.cache
def check_door() -> None:
    """Raise where `keras.ops` does not look its functions up where we stand."""
    heard: list[str] = []
    original = getattr(getattr(backend, "nn", None), "relu", None)
    if callable(original):
        setattr(backend.nn, "relu", lambda x: heard.append("relu") or original(x))  # noqa: B010 - as `Calls` does it
        try:
            keras.ops.relu(keras.ops.convert_to_tensor(0.0))
        finally:
            setattr(backend.nn, "relu", original)  # noqa: B010
    if not heard:
        raise SiteError(
            f"Keras {keras.__version__} keeps the functions behind keras.ops elsewhere than layerscope looks for them, so functions in a "
            "model's call would be missed. Use another version of Keras or of layerscope; 3.15 is known to work."
        )

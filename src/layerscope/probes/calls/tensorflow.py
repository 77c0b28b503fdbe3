"""A Keras forward as TensorFlow traces it: whatever no function of Keras stands for is found among the operations of the graph."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import numpy as np
import tensorflow as tf

from ..._site import Chunk
from ...feed import Batch
from ...inventory import Layer
from ...inventory import _operations as ops
from ...inventory._graph import Graph, Kind, Value
from .._abstract import Read
from .._program import counted
from ._engine import (
    AbstractEngine,
    AbstractProgram,
    AbstractReader,
    Described,
    DeviceReader,
    Forward,
    HostReader,
    Result,
    Spec,
    check_found,
    described,
)
from ._follow import AbstractFollower, AbstractTracer, Describer, Function, Listener
from ._watch import Watch, step_result
from .keras import Calls, ToldTracer, stateless, tensors_in, updated

OPERATIONS = {
    "Relu": "relu", "Relu6": "relu6", "Elu": "elu", "Selu": "selu", "LeakyRelu": "leaky_relu", "Sigmoid": "sigmoid", "Tanh": "tanh",
    "Softplus": "softplus", "Softsign": "softsign", "Softmax": "softmax", "LogSoftmax": "log_softmax", "Erf": "erf", "Sin": "sin",
    "Sign": "sign", "Atan": "atan", "Exp": "exp", "Log": "log", "Neg": "neg", "AddV2": "add", "Add": "add", "AddN": "add",
    "BiasAdd": "add", "Sub": "sub", "Mul": "mul", "RealDiv": "div", "MatMul": "matmul", "BatchMatMul": "matmul",
    "BatchMatMulV2": "matmul", "BatchMatMulV3": "matmul", "Einsum": "einsum", "XlaEinsum": "einsum", "Conv2D": "conv", "Conv3D": "conv",
    "Conv": "conv", "DepthwiseConv2dNative": "conv", "Conv2DBackpropInput": "conv", "Conv3DBackpropInputV2": "conv", "MaxPool": "max_pool",
    "MaxPoolV2": "max_pool", "MaxPool3D": "max_pool", "AvgPool": "avg_pool", "AvgPool3D": "avg_pool", "FusedBatchNorm": "batch_norm",
    "FusedBatchNormV3": "batch_norm", "Reshape": "reshape", "Squeeze": "squeeze", "ExpandDims": "unsqueeze", "Transpose": "permute",
    "StridedSlice": "__getitem__", "Slice": "narrow", "ConcatV2": "cat", "Pack": "stack", "Unpack": "unbind", "Split": "split",
    "SplitV": "split", "GatherV2": "index_select", "GatherNd": "gather", "Mean": "mean", "Sum": "sum", "Max": "amax", "Min": "amin",
    "Prod": "prod", "Cast": "to", "Identity": "alias", "IdentityN": "alias", "StopGradient": "detach", "Snapshot": "alias",
    "PreventGradient": "alias", "EnsureShape": "alias", "Pad": "pad", "PadV2": "pad", "MirrorPad": "pad", "Tile": "repeat",
    "BroadcastTo": "expand", "Roll": "roll", "ReverseV2": "flip", "ClipByValue": "clip", "SelectV2": "where", "ResizeBilinear": "interpolate",
    "ResizeNearestNeighbor": "interpolate",
}  # fmt: skip
"""Operations of a graph by the names of `_operations`; any other is named as it is."""
COMPOSED = ("gelu", "silu", "swish")
"""Functions of `tf.nn` that are several operations."""


SOME = 3
"""What stands for a size that is not known while a program is described."""


class GraphTracer(AbstractTracer):
    """Follows what is added to the graph that is current where it is made."""

    def __init__(self, follower: AbstractFollower) -> None:
        self.follower = follower
        self.graph = tf.compat.v1.get_default_graph()
        self._done, self._version = 0, -1
        self._catch_up(lambda operation: None)

    def here(self) -> bool:
        return not tf.executing_eagerly() and tf.compat.v1.get_default_graph() is self.graph

    def opens(self, path: str, kind: Kind, tensors: Sequence[Any]) -> None:
        self.tell()
        self.follower.opens(path, kind, tensors)
        self.pass_over()

    def closes(self, path: str, tensors: Sequence[Any], masks: Sequence[Any], new: bool) -> None:
        self.tell()
        self.follower.closes(path, tensors, masks, new)
        self.pass_over()

    def composed(self) -> Sequence[tuple[Any, str]]:
        return [(tf.nn, name) for name in COMPOSED]

    def begins(self) -> None:
        self.tell()

    def function(self, function: Function, inputs: Sequence[Any], outputs: Sequence[Any]) -> None:
        self.follower.function(function, inputs, outputs)
        self.pass_over()

    def looped(self, path: str, kind: Kind, loop: str, tensors: Sequence[Any]) -> None:
        self.follower.looped(path, kind, loop, tensors)

    def tell(self) -> None:
        """Tell the follower of what was added since."""
        self._catch_up(self._operation)

    def pass_over(self) -> None:
        """What was added since is part of something the follower knows."""
        self._catch_up(lambda operation: None)

    def _catch_up(self, each: Callable[[Any], None]) -> None:
        if self.graph.version == self._version:
            return
        operations = self.graph.get_operations()
        for operation in operations[self._done :]:
            each(operation)
        if self.graph.version != len(operations):  # to read a value adds operations, too
            operations = self.graph.get_operations()
        self._done, self._version = len(operations), self.graph.version

    def _operation(self, operation: Any) -> None:
        if operation.inputs:
            name = OPERATIONS.get(operation.type) or str(operation.type)
            told = Function(name, _went(operation), _unit(operation), *_said(operation), raw=True)
            self.follower.function(told, list(operation.inputs), list(operation.outputs))


def value_of(tensor: Any) -> Value:
    """What stands for a tensor of a graph, or a variable; an unknown size is -1."""
    if isinstance(tensor, tf.Tensor):
        return Value(tensor.name, _shape(tensor), tensor.dtype.name)
    return Value(id(tensor), _shape(tensor), str(tensor.dtype))


def _shape(tensor: Any) -> tuple[int, ...]:
    if isinstance(tensor, tf.Tensor) and tensor.shape.rank is None:
        return ()
    return tuple(-1 if size is None else int(size) for size in tensor.shape)


def _constant(tensor: Any) -> Any:
    value = tf.get_static_value(tensor)
    return None if value is None else np.asarray(value)


def _unit(operation: Any) -> int | None:
    if OPERATIONS.get(operation.type) not in ("conv", "max_pool", "avg_pool"):
        return None
    try:
        return 1 if operation.get_attr("data_format").startswith(b"NC") else len(_shape(operation.outputs[0])) - 1
    except ValueError:
        return None


def _said(operation: Any) -> tuple[tuple[Any, ...], tuple[tuple[str, Any], ...]]:
    """Arguments that say what an operation does: the lower end of a clip, the axes of a sum."""
    name = OPERATIONS.get(operation.type)
    if name == "clip":
        low = _constant(operation.inputs[1])
        return (), (("min", None if low is None else float(low)),)
    if name in ops.REDUCTIONS:
        axes = _constant(operation.inputs[1])
        return (), (() if axes is None else (("axis", tuple(int(a) for a in axes.reshape(-1))),))
    return (), ()


def _went(operation: Any) -> tuple[ops.Went | None, ...] | None:
    """Where the axes of the first input are in the first output."""
    old, new = _shape(operation.inputs[0]), _shape(operation.outputs[0]) if operation.outputs else ()
    kind = operation.type
    if kind in ("Squeeze", "ExpandDims"):
        return tuple(ops.regrouped(old, new))
    if kind == "Transpose":
        order = _constant(operation.inputs[1])
        return None if order is None else tuple(_stays([int(o) for o in order].index(axis)) for axis in range(len(old)))
    if kind == "Pack":
        at = operation.get_attr("axis") % len(new)
        return tuple(_stays(axis + (axis >= at)) for axis in range(len(old)))
    if kind == "Unpack":
        at = operation.get_attr("axis") % len(old)
        return tuple(None if axis == at else _stays(axis - (axis > at)) for axis in range(len(old)))
    if kind == "StridedSlice":
        return _sliced(operation, len(old))
    return None


def _sliced(operation: Any, rank: int) -> tuple[ops.Went | None, ...]:
    """`x[...]` as TensorFlow writes it down: one entry for each index, and masks of bits that say what each is."""
    entries = _shape(operation.inputs[1])[0]
    bit = {
        name: [bool(operation.get_attr(f"{name}_mask") >> k & 1) for k in range(entries)]
        for name in ("ellipsis", "new_axis", "shrink_axis")
    }
    spent = sum(not (bit["ellipsis"][k] or bit["new_axis"][k]) for k in range(entries))
    went: list[ops.Went | None] = []
    to = 0
    for k in range(entries):
        if bit["ellipsis"][k]:
            went += [_stays(to + j) for j in range(rank - spent)]
            to += rank - spent
        elif bit["new_axis"][k]:
            to += 1
        elif bit["shrink_axis"][k]:
            went.append(None)
        else:
            went.append(_stays(to))
            to += 1
    rest = rank - len(went)
    return (*went, *(_stays(to + j) for j in range(rest)))


def _stays(axis: int) -> ops.Went:
    return ops.Went(axis, axis)


class TensorFlowEngine(AbstractEngine):
    """Forwards as `tf.function`s of our own."""

    def describe(self, forward: Forward, arrays: Sequence[Any], samples: int | None, inputs: bool) -> Described:
        describer = Describer(Graph(samples, inputs), value_of, forward.masked)
        changed: list[Any] = []

        def traced(tensors: Sequence[Any]) -> None:
            tracer = GraphTracer(describer)
            describer.given(tensors)
            with _inlined(), Calls(forward.operations, tracer, functions=True):
                output, scope = stateless(forward, tensors, ())
            tracer.tell()
            describer.gave([*tensors_in(output)])
            changed.extend(updated(forward, scope))

        specs = [tf.TensorSpec(array.shape, array.dtype) for array in arrays]
        tf.function(traced, autograph=False).get_concrete_function(specs)
        return described(describer, changed)

    def program(
        self, forward: Forward, arrays: Sequence[Any], layers: tuple[Layer, ...], batch: Batch, read: Read | None
    ) -> AbstractProgram:
        return TensorFlowProgram(forward, layers, batch, read)

    def on_host(self) -> bool:
        return not tf.config.list_logical_devices("GPU")

    def watching(self) -> AbstractContextManager[None]:
        return nullcontext()

    def there(self, value: Any) -> bool:
        return tf.executing_eagerly()

    def spec(self, tensor: Any) -> Spec:
        return Spec(tuple(SOME if size < 0 else size for size in _shape(tensor)), tensor.dtype)

    @contextmanager
    def tracer(self, follower: AbstractFollower) -> Iterator[AbstractTracer]:
        with _inlined():
            if tf.executing_eagerly():
                yield ToldTracer(follower, tf.executing_eagerly)
                return
            tracer = GraphTracer(follower)
            yield tracer
            tracer.tell()

    def step(self, original: Callable[..., Any], args: tuple[Any, ...], watch: Watch, kept: list[Any]) -> Any:
        return step_result(original(*args), kept)

    def replicas(self, model: Any) -> int:
        return model.distribute_strategy.num_replicas_in_sync


class TensorFlowProgram(AbstractProgram):
    """A `tf.function` whose outputs are what was read; compiled as the model itself would be."""

    def __init__(self, forward: Forward, layers: tuple[Layer, ...], batch: Batch, read: Read | None) -> None:
        self.traces = 0
        self._reader: AbstractReader = HostReader()
        self._concrete: Any = None
        masked = batch.samples.mask is not None

        def traced(tensors: Sequence[Any], carried: Sequence[Any], real: Any, mask: Any) -> Result:
            self.traces += 1
            reader = HostReader() if read is None else DeviceReader(read, tf.experimental.numpy, batch.size, real, mask)
            listener = Listener(layers, reader.seen, forward.masked and not masked)
            tracer = GraphTracer(listener)
            with _inlined(), Calls(forward.operations, tracer, listener.functions):
                output, scope = stateless(forward, tensors, carried)
            tracer.tell()
            check_found(layers, listener.found)
            new = [scope.get_current_value(variable) for variable in forward.carried]
            self._reader = reader
            masks, reader.masks = reader.masks, []
            return Result(next(tensors_in(output), None), reader.outputs(), masks, new)

        self._program = tf.function(traced, autograph=False, jit_compile=forward.jit or None)

    def run(
        self, arrays: Sequence[Any], carried: Sequence[Any], batch: Batch, read: Read
    ) -> tuple[Result, Mapping[Layer, Mapping[Any, Chunk]]]:
        tensors = [tf.convert_to_tensor(array) for array in arrays]
        real, mask = (None if each is None else tf.convert_to_tensor(each) for each in counted(batch))
        if self._concrete is None:
            self._concrete = self._program.get_concrete_function(tensors, list(carried), real, mask)
        result = self._concrete(tensors, list(carried), real, mask)
        return result, self._reader.chunks(result, batch, read)


@contextmanager
def _inlined() -> Iterator[None]:
    """A `tf.function` inside the model is run as part of ours: what it traced before would pass our wrappers by in silence."""
    before = tf.config.functions_run_eagerly()
    tf.config.run_functions_eagerly(True)
    try:
        yield
    finally:
        tf.config.run_functions_eagerly(before)

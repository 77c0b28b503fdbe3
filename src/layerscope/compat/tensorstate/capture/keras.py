"""`StateCapture`, a layer of Keras 3 that counts the firing states that pass it, on TensorFlow, JAX and PyTorch.

States are packed inside the graph, and only bits reach the host: by an ordered callback where a program is compiled, at once where it is
not.  What Keras runs only to learn shapes, and forwards that a backward pass repeats, are not data and not counted.

An error raises in the forward pass, but not while Keras runs a program on JAX: it takes the weights out of the model meanwhile, and an
exception would leave it without them.  The error is remembered instead, and raised by the next who asks for a number.
"""

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Any

import keras
import numpy as np

from ...._errors import ShapeError, SiteError
from ...._site import Activations, Axes, Site
from ....inventory import Layer, Role
from ..Layers import TABLE, AbstractStateCapture

BACKEND: str = keras.backend.backend()
LAST = frozenset("Dense EinsumDense Embedding RNN MultiHeadAttention GroupedQueryAttention Attention".split())


def outside_graphs(function: Any) -> Any:
    """Compiled PyTorch code steps out of its graph here, or what we do would be compiled too."""
    if BACKEND != "torch":
        return function
    import torch

    return torch.compiler.disable(function)


@keras.saving.register_keras_serializable(package="layerscope")
class StateCapture(keras.layers.Layer, AbstractStateCapture):
    """A probe as a Keras layer: passes on what it gets, and counts the firing states of every batch that goes through.

    **Arguments:** as `AbstractStateCapture`; `unit_axis` is the last one by default, say 1 after layers with channels first; further ones
    as any Keras layer. Set `capturing = False` and data goes through uncounted, also in compiled models; True counts again.

    Counts in `predict`, `evaluate`, their `_on_batch` forms, calls by hand and `fit` (training and validation batches alike).
    Saved models have the layer without what it saw and without its `disk_path`; so have copies.
    **Raises:** besides the probe's own errors: `SiteError` where a batch would be lost or counted twice in silence (inside recurrent layers,
    in other loops on JAX, in `vectorized_map` on TensorFlow).
    **Beware:** TensorFlow's XLA has no host callbacks, so Keras compiles a model with this layer without XLA (`supports_jit` is False; on
    PyTorch it runs eagerly). On JAX an error does not stop `predict` and its like: whoever asks for a number is told.
    """

    def __init__(
        self,
        name: str,
        disk_path: str | os.PathLike[str] | None = None,
        *,
        unit_axis: int | None = None,
        part: int = 0,
        **kwargs: Any,
    ) -> None:
        keras.layers.Layer.__init__(
            self, name=name if isinstance(name, str) and name else None, autocast=False, **kwargs
        )
        AbstractStateCapture.__init__(self, name, disk_path, unit_axis=unit_axis, part=part)
        self.capturing = True
        self.supports_jit = (
            BACKEND == "jax"
        )  # of Keras's own compiling; functions of yours are another matter, see the page
        self.supports_masking = True
        self.built = True  # nothing to build

    def call(self, inputs: Any) -> Any:
        self.capture(inputs, -1 if keras.config.image_data_format() == "channels_last" else None)
        return inputs

    def compute_output_shape(self, input_shape: Any) -> Any:
        return input_shape

    def compute_output_spec(self, inputs: Any) -> Any:
        if self.unit_axis is None:
            _check_channels_last(self.name, keras.tree.flatten(inputs)[self.part : self.part + 1])
        return keras.tree.map_structure(lambda each: keras.KerasTensor(each.shape, each.dtype), inputs)

    def rematerialized_call(self, layer_call: Any, *args: Any, **kwargs: Any) -> Any:
        return layer_call  # nothing here is worth computing twice

    def get_config(self) -> dict[str, Any]:
        return {**keras.layers.Layer.get_config(self), "unit_axis": self.unit_axis, "part": self.part}

    @outside_graphs
    def capture(self, value: Any, axis: int | None) -> None:
        """Count the tensor `part` of a value; `axis` holds its units where `unit_axis` does not say, None where nobody knows."""
        tensors = tensors_in(value)
        if self._inert or _learns_shapes(tensors):
            return
        try:
            with self._all_or_failed():
                _check_place(self.name)
                tensor = self._chosen(tensors)
                TAKES[BACKEND](self, tensor, self._unit_axis(tuple(tensor.shape), axis))
        except Exception as error:
            compiles = _jax_compiles(tensors)
            if not compiles and (BACKEND != "jax" or _stateless() is None):
                raise
            if compiles and not isinstance(error, SiteError):
                _send_from_jax(partial(self._lost, error))

    def _chosen(self, tensors: Sequence[Any]) -> Any:
        if BACKEND not in TAKES:
            raise SiteError(
                f"{self.name}: Keras runs on {BACKEND!r} here. States are captured on {', '.join(TAKES)}; set KERAS_BACKEND to one of them."
            )
        if not 0 <= self.part < len(tensors):
            raise ShapeError(
                f"{self.name}: {len(tensors)} tensors came by, and part {self.part} (counted from 0) was asked for. Choose another part=, or "
                "leave the layer out."
            )
        return tensors[self.part]

    def _unit_axis(self, shape: tuple[int | None, ...], axis: int | None) -> int:
        rank = len(shape)
        axis = axis if self.unit_axis is None else self.unit_axis
        if axis is None and rank == 2:
            axis = -1  # the other one holds samples
        if axis is not None and -rank <= axis < rank and shape[axis] is not None:
            return axis % rank
        if axis is None:
            reason = "With channels first, a layer that does not say may have them anywhere"
        else:
            reason = f"Axis {axis} {'has no size yet' if -rank <= axis < rank else 'is not there'}"
        raise ShapeError(
            f"{self.name}: which axis of shape {shape} holds the units? {reason}.\n    right: StateCapture({self.name!r}, unit_axis=1), or, "
            "where build_efficiency_model made the probe, set its unit_axis = 1 (it is in model.efficiency_layers) and call its "
            "reset_states()"
        )

    def check(self) -> None:
        """Raise where a batch could not be captured."""
        with self._still():
            self._check_whole()

    def _asked(self) -> tuple[int | None, int]:
        return self.unit_axis, self.part

    def _arrive(
        self, asked: tuple[int | None, int], shape: tuple[int, ...], unit: int, arrays: Mapping[str, Any]
    ) -> None:
        """What the host does with the states of a batch; `asked` what the probe was asked for when they were packed."""
        if not self.capturing:
            return
        with self._all_or_failed():
            if self._asked() != asked:
                raise ShapeError(
                    f"{self.name}: unit_axis and part are {self._asked()} now and were {asked} when the model was compiled. Have it compiled "
                    "again: model.make_predict_function(force=True)."
                )
            # copies: the memory belongs to the framework, which uses it again
            self._count({name: np.array(array) for name, array in arrays.items()}, shape, Axes(unit))

    def _lost(self, error: Exception) -> None:
        if self.capturing:
            with self._all_or_failed():
                raise error

    def _settle(self) -> None:
        if BACKEND == "jax":
            import jax

            jax.effects_barrier()

    def __deepcopy__(self, memo: Any) -> "StateCapture":
        return StateCapture.from_config(self.get_config())

    def __reduce__(self) -> Any:
        return StateCapture.from_config, (self.get_config(),)

    def __repr__(self) -> str:
        return AbstractStateCapture.__repr__(self)


# --- how a batch reaches the host, by backend ----------------------------------------------------------------------------------------------


def _on_tensorflow(probe: StateCapture, tensor: Any, unit: int) -> None:
    import tensorflow as tf

    if _running("inner_recompute_grad", "custom_gradient.py"):
        return
    if tensor.dtype in (tf.bfloat16, tf.float16):  # TensorFlow's NumPy does not know both; float32 holds them exactly
        tensor = tf.cast(tensor, tf.float32)
    arrays = TABLE.read(Activations(tensor, Axes(unit), tf.experimental.numpy))
    if tf.executing_eagerly():
        return probe._arrive(probe._asked(), tuple(tensor.shape), unit, arrays)
    asked, names = probe._asked(), list(arrays)

    def arrive(shape: Any, *values: Any) -> None:
        probe._arrive(asked, tuple(int(size) for size in shape), unit, dict(zip(names, values, strict=True)))

    # the name stands in TensorFlow's own error where someone forces XLA on a function of theirs
    tf.numpy_function(
        arrive, [tf.shape(tensor), *arrays.values()], [], name="StateCapture_calls_the_host_as_XLA_cannot"
    )


def _on_jax(probe: StateCapture, tensor: Any, unit: int) -> None:
    import jax

    arrays = TABLE.read(Activations(tensor, Axes(unit), jax.numpy))
    arrive = partial(probe._arrive, probe._asked(), tuple(tensor.shape), unit)
    if _jax_compiles(list(arrays.values())):
        _send_from_jax(arrive, arrays)
    else:
        arrive(arrays)


def _send_from_jax(call: Callable[..., None], *arrays: Any) -> None:
    """Have the host call this whenever the program that is being compiled comes by; its errors are remembered by whom they concern."""
    from jax.experimental import io_callback

    def quietly(*arrived: Any) -> None:
        with suppress(BaseException):
            call(*arrived)

    io_callback(quietly, None, *arrays, ordered=True)


def _on_torch(probe: StateCapture, tensor: Any, unit: int) -> None:
    from ....inventory.torch import in_backward
    from ....probes.torch import activations

    if probe.capturing and not in_backward():
        shape, dtype = tuple(tensor.shape), str(tensor.dtype)
        layer = Layer(Site(probe.name), "StateCapture", Role.OTHER, shape, dtype, Axes(unit))
        probe._take(lambda: activations(layer, tensor))


TAKES: dict[str, Callable[[StateCapture, Any, int], None]] = {
    "tensorflow": _on_tensorflow, "jax": _on_jax, "torch": _on_torch,
}  # fmt: skip


def _check_place(name: str) -> None:
    """Raise where a batch would be lost, or counted twice, and nobody would notice."""
    instead = "leave this one out with exclude=."
    if _running("rnn", f"backend/{BACKEND}/rnn.py"):
        raise SiteError(
            f"{name}: this layer runs inside a recurrent layer, which calls it once more than there are steps, so every count would be wrong. "
            f"Probe the recurrent layer, or {instead}"
        )
    if BACKEND == "tensorflow" and _running("_pfor_impl", "parallel_for/control_flow_ops.py"):
        raise SiteError(
            f"{name}: vectorized_map runs this layer for one sample and lets the others follow without it. Use map_fn there, or {instead}"
        )
    if BACKEND != "jax":
        return
    if _running(None, "control_flow/loops.py"):
        raise SiteError(
            f"{name}: this layer runs inside a loop that JAX compiles (scan, map, while), where gradients lose callbacks in silence. Probe the "
            f"layer around the loop, or {instead}"
        )
    if _running(None, "ad_checkpoint.py") and _running("value_and_grad_f", "api.py"):
        raise SiteError(
            f"{name}: this layer is computed again for gradients (remat), where JAX takes no callbacks. Train the original model and probe it "
            f"afterwards, or {instead}"
        )
    import jax

    if keras.distribution.distribution() is not None and jax.device_count() > 1:
        raise SiteError(
            f"{name}: the model is spread over {jax.device_count()} devices, where JAX keeps callbacks in no order. Run it on one: "
            "keras.distribution.set_distribution(None)."
        )


def _check_channels_last(name: str, tensors: Sequence[Any]) -> None:
    """Raise where a graph shows that the layer before has its units elsewhere than on the last axis."""
    for tensor in tensors:
        rank = len(tensor.shape)
        while rank > 2 and (made := getattr(tensor, "_keras_history", None)) is not None:
            before = made.operation
            if axis_of(before) in (1, 1 - rank):
                raise ShapeError(
                    f"{name}: {before.name} before it has its units on axis 1, and by default the last axis is taken.\n"
                    f"    right: StateCapture({name!r}, unit_axis=1)"
                )
            inputs = before._inbound_nodes[made.node_index].input_tensors
            if axis_of(before) is not None or not inputs:
                return
            tensor = inputs[0]


def _running(function: str | None, file: str) -> bool:
    """Whether a function of that name, in a file that ends so, is being run: frameworks do not say when they repeat or unroll."""
    frame = sys._getframe(1)
    while frame is not None:
        code = frame.f_code
        if function in (None, code.co_name) and code.co_filename.replace(os.sep, "/").endswith(file):
            return True
        frame = frame.f_back
    return False


def _learns_shapes(tensors: Sequence[Any]) -> bool:
    """Whether Keras runs the forward on no data, or on data it will run again: to build layers and to learn shapes.

    A scope says so: a symbolic one, or (`predict` on JAX with layers not built) one that is to keep variables but was given none.
    """
    with keras.SymbolicScope() as symbolic:
        if symbolic.original_scope is not None:
            return True
    outer = _stateless()
    return BACKEND == "jax" and outer is not None and not outer.state_mapping and not _jax_compiles(tensors)


def _stateless() -> Any:
    """The scope in which Keras keeps variables aside, or None."""
    with keras.StatelessScope(initialize_variables=False) as scope:
        return scope.original_scope


def _jax_compiles(tensors: Sequence[Any]) -> bool:
    if BACKEND != "jax":
        return False
    from jax.core import Tracer

    return any(isinstance(each, Tracer) for each in tensors)


def tensors_in(value: Any) -> list[Any]:
    """Every tensor in nested lists, tuples and dicts, in order."""
    return [each for each in keras.tree.flatten(value) if keras.ops.is_tensor(each)]


def axis_of(layer: Any) -> int | None:
    """The axis that holds the units of a layer of Keras's own (or a class derived from it); None where it does not say."""
    if getattr(layer, "data_format", None) in ("channels_first", "channels_last"):
        return 1 if layer.data_format == "channels_first" else -1
    for kind in type(layer).__mro__:
        if kind.__module__.partition(".")[0] != "keras":
            continue
        if kind.__name__ in LAST:
            return -1
        if kind.__name__.endswith("Normalization"):
            axis = getattr(layer, "axis", None)
            axes = axis if isinstance(axis, tuple | list) else [axis]
            return axes[0] if len(axes) == 1 and isinstance(axes[0], int) else None
    return None

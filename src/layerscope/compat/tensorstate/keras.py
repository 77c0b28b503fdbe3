"""Probes in Keras 3 models, on TensorFlow, JAX and PyTorch: a layer to place by hand, and a model that has probes at layers of another.

States are packed inside the graph, and only bits reach the host: by an ordered callback where a program is compiled, at once where it is
not.  What Keras runs only to learn shapes, and forwards that a backward pass repeats, are not data and not counted.

An error raises in the forward pass, but not while Keras runs a program on JAX: it takes the weights out of the model meanwhile, and an
exception would leave it without them.  The error is remembered instead, and raised by the next who asks for a number.
"""

import os
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import partial, wraps
from typing import Any, ClassVar

import keras
import numpy as np

from ..._errors import LayerscopeError, ShapeError, SiteError, nearest
from ..._site import Activations, Axes, Site
from ...inventory import Layer, Role
from .Layers import TABLE, AbstractStateCapture

BACKEND: str = keras.backend.backend()
LAST = frozenset("Dense EinsumDense Embedding RNN MultiHeadAttention GroupedQueryAttention Attention".split())


def _outside_graphs(function: Any) -> Any:
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

    @_outside_graphs
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
    from ...inventory.torch import in_backward
    from ...probes.torch import activations

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


# --- a model with probes at layers of another ----------------------------------------------------------------------------------------------

PREDICTS = ("predict", "predict_on_batch", "make_predict_function")
EVALUATES = (
    "evaluate",
    "test_on_batch",
    "test_step",
    "make_test_function",
    "compute_loss",
    "compute_metrics",
    "metrics",
)
TRAINS = ("fit", "train_on_batch", "train_step", "make_train_function", "compute_loss", "compute_metrics", "metrics")


def _run(name: str, ways: Sequence[str]) -> Any:
    """A method of `keras.Model`, refused where the original has its own `ways`, and where probes failed followed by their error."""
    method = getattr(keras.Model, name)

    @wraps(method)
    def run(self: "EfficiencyModel", *args: Any, **kwargs: Any) -> Any:
        kind = type(self.original)
        own = [way for way in ways if getattr(kind, way) is not getattr(keras.Model, way)]
        if own:
            raise SiteError(
                f"{name}: {kind.__name__} has its own {', '.join(own)}, which this model would not follow. Call it batch by batch, "
                f"efficiency_model(x, training=False), or {name} with the original model."
            )
        asked = [probe._asked() for probe in self.efficiency_layers]
        if asked != self._compiled_for:
            self._forget(asked)
        result = method(self, *args, **kwargs)
        try:
            for probe in self.efficiency_layers:
                probe.check()
        except LayerscopeError:
            self._forget(asked)  # whatever is mended, the next run sees it
            raise
        return result

    return run


@keras.saving.register_keras_serializable(package="layerscope")
class EfficiencyModel(keras.Model):
    """A model that computes what `original` does, with its weights, and has probes at some of its layers.

    The probes are passed only while this model runs, and only in its own thread; the original stays as it is and counts nothing.
    `efficiency_layers` are the probes in the order of the model; `layers` are the original's and the probes.
    **Beware:** it is compiled by itself: call its `compile` before `evaluate` or `fit`, which trains the shared weights.
    """

    def __init__(self, original: Any, probes: Sequence[tuple[str, str, StateCapture]]) -> None:
        keras.Model.__init__(self, name=original.name)
        self.original = original
        self.supports_jit = BACKEND == "jax"
        self.supports_masking = True
        self.built = True
        self._show(probes)

    def _show(self, probes: Sequence[tuple[str, str, StateCapture]]) -> None:
        layers = layers_of(self.original)
        # past Keras's own bookkeeping, which lets nothing go again
        object.__setattr__(self, "efficiency_layers", [probe for _, _, probe in probes])
        object.__setattr__(self, "_places", tuple(probes))
        object.__setattr__(self, "_taps", Taps([(layers[path], port, probe) for path, port, probe in probes], layers))
        self._forget([])

    def _forget(self, asked: Any) -> None:
        """Have everything compiled anew, for probes that are asked for this."""
        object.__setattr__(self, "_compiled_for", asked)
        self.train_function = self.test_function = self.predict_function = None

    @property
    def layers(self) -> list[Any]:  # pyright: ignore[reportIncompatibleMethodOverride] - Keras's own setter only raises
        return [*self.original.layers, *self.efficiency_layers]

    @_outside_graphs
    def call(self, *args: Any, training: bool | None = None, **kwargs: Any) -> Any:
        given = {} if training is None else {"training": training}
        with self._taps.on():
            return self.original(*args, **given, **kwargs)

    def compute_mask(self, inputs: Any, previous_mask: Any) -> None:
        """None: the original has put masks on its outputs already."""

    def predict_step(self, *args: Any) -> Any:
        with self._taps.on():
            return self.original.predict_step(*args)

    predict = _run("predict", PREDICTS)
    predict_on_batch = _run("predict_on_batch", PREDICTS)
    evaluate = _run("evaluate", EVALUATES)
    test_on_batch = _run("test_on_batch", EVALUATES)
    fit = _run("fit", TRAINS)
    train_on_batch = _run("train_on_batch", TRAINS)

    def get_config(self) -> dict[str, Any]:
        probes = [(path, port, probe.get_config()) for path, port, probe in self._places]
        return {"original": keras.saving.serialize_keras_object(self.original), "probes": probes}

    @classmethod
    def from_config(cls, config: Mapping[str, Any], custom_objects: Any = None) -> "EfficiencyModel":
        original = keras.saving.deserialize_keras_object(config["original"], custom_objects)
        probes = [(path, port, StateCapture.from_config(probe)) for path, port, probe in config["probes"]]
        return cls(original, probes)


class Taps:
    """Puts probes in front of and behind the calls of layers, while one thread runs a model there."""

    def __init__(self, places: Sequence[tuple[Any, str, StateCapture]], layers: Mapping[str, Any]) -> None:
        self.probes: dict[int, dict[str, StateCapture]] = {}
        for layer, port, probe in places:
            self.probes.setdefault(id(layer), {})[port] = probe
        ask = any(probe.unit_axis is None for _, _, probe in places)
        self.layers = [
            layer for layer in layers.values() if id(layer) in self.probes or (ask and axis_of(layer) is not None)
        ]
        self.thread = threading.local()

    @contextmanager
    def on(self) -> Iterator[None]:
        before = self._seen()
        with _Calls.turn:
            for layer in self.layers:
                _Calls.of(layer).taps.append(self)
        self.thread.seen = {}
        try:
            yield
        finally:
            self.thread.seen = before
            with _Calls.turn:
                for layer in self.layers:
                    _Calls.of(layer).leave(self)

    def _seen(self) -> dict[int, tuple[int, Any]] | None:
        """Axis and number of the units in tensors of so many axes, as layers that know told last; None: not running in this thread."""
        return getattr(self.thread, "seen", None)

    def passed(self, layer: Any, port: str, value: Any) -> None:
        """Something went into a layer ("pre") or came out of it ("post")."""
        seen = self._seen()
        if seen is None:
            return
        tensors = tensors_in(value)
        probe = self.probes.get(id(layer), {}).get(port)
        if probe is not None:
            probe.capture(tensors, _witnessed(seen, tensors[probe.part : probe.part + 1]))
        axis = axis_of(layer)
        if port == "post" and axis is not None and tensors:
            shape = tuple(tensors[0].shape)
            if -len(shape) <= axis < len(shape):
                seen[len(shape)] = axis % len(shape), shape[axis]


def _witnessed(seen: Mapping[int, tuple[int, Any]], tensors: Sequence[Any]) -> int | None:
    """The axis of the units of a tensor, if the last layer that knew gave one of as many axes and units: it has the same."""
    for tensor in tensors:
        axis, size = seen.get(len(tensor.shape), (None, None))
        return axis if axis is not None and tensor.shape[axis] == size else None
    return None


class _Calls:
    """The calls of one layer while taps are on: an attribute of the layer itself, gone when the last of them is off."""

    turn = threading.Lock()
    placed: ClassVar[dict[int, "_Calls"]] = {}

    @classmethod
    def of(cls, layer: Any) -> "_Calls":
        return cls.placed.get(id(layer)) or cls(layer)

    def __init__(self, layer: Any) -> None:
        self.taps: list[Taps] = []
        self.layer, self.name = layer, "call" if layer.quantization_mode is None else "quantized_call"
        self.own = vars(layer).get(self.name)
        original = getattr(layer, self.name)

        @wraps(original)
        def call(*args: Any, **kwargs: Any) -> Any:
            taps = list(dict.fromkeys(self.taps))  # one model that runs in two threads is there twice
            for each in taps:
                each.passed(layer, "pre", (args, kwargs))
            output = original(*args, **kwargs)
            for each in taps:
                each.passed(layer, "post", output)
            return output

        object.__setattr__(layer, self.name, call)
        self.placed[id(layer)] = self

    def leave(self, taps: Taps) -> None:
        self.taps.remove(taps)
        if not self.taps:
            del self.placed[id(self.layer)]
            object.__delattr__(self.layer, self.name)
            if self.own is not None:
                object.__setattr__(self.layer, self.name, self.own)


# --- which layers, and where their units are -----------------------------------------------------------------------------------------------


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


def layers_of(model: Any) -> dict[str, Any]:
    """Every layer by its path ("backbone.conv_1"), the model itself by its name, in the order of the model; a shared one comes once."""
    found: dict[str, Any] = {model.name: model}
    seen = {id(model)}

    def walk(layer: Any, path: str) -> None:
        for each in layer._flatten_layers(include_self=False, recursive=False):
            if id(each) in seen:
                continue
            seen.add(id(each))
            name = first = f"{path}{each.name}"
            number = 1
            while name in found:  # a name is unique only within its graph
                number += 1
                name = f"{first}_{number}"
            found[name] = each
            walk(each, f"{name}.")

    walk(model, "")
    return found


def build(
    model: Any,
    attach_to: tuple[str, ...],
    exclude: tuple[str, ...],
    method: str,
    storage_path: str | os.PathLike[str] | None,
) -> EfficiencyModel:
    """See `build_efficiency_model`."""
    original = model.original if isinstance(model, EfficiencyModel) else model
    if not original.built:
        raise SiteError(
            f"build_efficiency_model: {original.name} is not built yet, so its layers are not all there. Call it once: model(batch)."
        )
    layers = layers_of(original)
    chosen = _chosen(layers, attach_to, exclude)
    _check_runs(layers, chosen)
    ports = {"before": ("pre",), "after": ("post",), "both": ("pre", "post")}[method]
    first = any(axis_of(layer) == 1 for layer in layers.values())
    names = [layer.name for layer in layers.values()]
    probes: list[tuple[str, str, StateCapture]] = []
    for path, layer in chosen.items():
        axis = axis_of(layer)
        name = layer.name if names.count(layer.name) == 1 else path
        for port in ports:
            unit_axis = axis if axis is not None or first else -1
            probes.append((path, port, StateCapture(f"{name}_{port}_states", storage_path, unit_axis=unit_axis)))
    return EfficiencyModel(original, probes)


def detach(model: Any) -> list[AbstractStateCapture]:
    """See `detach_efficiency_model`."""
    if not isinstance(model, EfficiencyModel):
        return []
    probes: list[AbstractStateCapture] = list(model.efficiency_layers)
    for probe in model.efficiency_layers:
        probe.capturing = False  # functions of the user's that were compiled with it have it in them
    model._show([])
    return probes


def placed(model: Any) -> list[StateCapture]:
    """The probes that someone placed in a model by hand, in its order."""
    return [layer for layer in layers_of(model).values() if isinstance(layer, StateCapture)]


def _chosen(layers: Mapping[str, Any], attach_to: tuple[str, ...], exclude: tuple[str, ...]) -> dict[str, Any]:
    """The layers asked for, by path, in the order of the model."""
    wanted = {path for name in attach_to for path in _called(layers, name, "attach_to")}
    wanted -= {path for name in exclude for path in _called(layers, name, "exclude")}
    if not wanted:
        raise SiteError(
            f"build_efficiency_model: attach_to={list(attach_to)}, exclude={list(exclude)} leaves no layer. {_listed(layers)}"
        )
    return {path: layer for path, layer in layers.items() if path in wanted}


def _called(layers: Mapping[str, Any], name: str, argument: str) -> list[str]:
    found = [path for path, layer in layers.items() if name in (path, layer.name, type(layer).__name__)]
    if not found:
        words = [word for path, layer in layers.items() for word in (path, type(layer).__name__)]
        raise SiteError(
            f"build_efficiency_model: {argument} has {name!r}, which is no layer.{nearest(name, words)} {_listed(layers)}"
        )
    return found


def _listed(layers: Mapping[str, Any]) -> str:
    kinds = sorted({type(layer).__name__ for layer in layers.values()})
    return f"Layers are: {', '.join(layers)}. Classes are: {', '.join(kinds)}."


def _check_runs(layers: Mapping[str, Any], chosen: Mapping[str, Any]) -> None:
    """Raise for layers that run inside a function compiled apart: what was compiled before passes probes by in silence."""
    for path, layer in layers.items():
        compiled = any(hasattr(layer.call, sign) for sign in ("get_concrete_function", "clear_cache"))
        inside = [name for name, each in chosen.items() if each is not layer and each in layer._flatten_layers()]
        if compiled and inside:
            raise SiteError(
                f"build_efficiency_model: the call of {path} is a compiled function, and {', '.join(inside)} inside it would be counted "
                "only when it is compiled anew. Take the decorator off; Keras compiles predict by itself."
            )

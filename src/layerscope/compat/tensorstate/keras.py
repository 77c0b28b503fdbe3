"""Efficiency models of Keras 3: a model that has probes at layers of another, shares its weights and predicts the same."""

import os
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import wraps
from typing import Any, ClassVar

import keras

from ..._errors import LayerscopeError, SiteError, nearest
from .capture.keras import BACKEND, StateCapture, axis_of, outside_graphs, tensors_in
from .Layers import AbstractStateCapture

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

    @outside_graphs
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


# --- which layers ----------------------------------------------------------------------------------------------------------------


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

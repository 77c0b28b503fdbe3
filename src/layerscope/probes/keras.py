"""The Keras probe, on the backends TensorFlow, JAX and PyTorch: our own forwards with what is read as further outputs."""

import copy
import hashlib
import inspect
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import cache
from types import TracebackType
from typing import Any, Self

import keras
import numpy as np
from keras.src.backend.common import global_state  # private: the counters of made-up names have no door
from numpy.typing import NDArray

from .._errors import DtypeError, SiteError
from .._site import Chunk
from ..inventory import Layer, Layers
from ..inventory.keras import named_operations
from ..tallies import to_numpy
from ._abstract import AbstractProbe, Read
from .calls._engine import AbstractEngine, AbstractProgram, Forward
from .calls._watch import Watch
from .calls.keras import check_door


class KerasProbe(AbstractProbe):
    """Reads a Keras model; see `AbstractProbe`.

    A model runs as `predict` would run it: without training, compiled by XLA where it would be, and where it is. `forward` (model, inputs) → output
    replaces the model's own call.
    """

    def __init__(
        self,
        model: Any,
        *,
        device: Any = None,
        amp: str | None = None,
        forward: Callable[..., Any] | None = None,
    ) -> None:
        _refuse(device, amp)
        _check_built(model)
        self.model, self.forward = model, forward
        self._engine, self._jit = engine(), _compiled(model)
        self._operations = named_operations(model)
        self._carried: list[Any] = []
        self._values: list[Any] = []
        self._looked: Any = None
        self._programs: dict[Any, tuple[Any, AbstractProgram]] = {}
        self._training: list[tuple[Any, bool]] = []
        self._flags: list[tuple[Any, bool]] = []

    # --- leaving the model as it was ---------------------------------------------------------------------------------------------

    def __enter__(self) -> Self:
        # a flag of Keras's own, which `predict` on JAX leaves alone
        self._flags = [(each, each._called) for each in self._operations.values() if "_called" in vars(each)]
        self._values = [*map(keras.ops.convert_to_tensor, self._carried)]  # as they are now: it may be entered again
        if keras.backend.backend() == "torch":  # layers of PyTorch inside look at their own flag
            self._training = [(module, module.training) for module in self.model.modules()]
            self.model.eval()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for module, mode in self._training:
            module.__dict__["training"] = mode
        for layer, called in self._flags:
            object.__setattr__(layer, "_called", called)
        self._training, self._flags = (
            [],
            [],
        )  # programs stay: a monitor enters again after every epoch, and compiles once

    # --- our own forwards --------------------------------------------------------------------------------------------------------

    def describe(self, batch: Any, inputs: bool = False) -> Layers:
        arrays = _arrays(batch)
        self._looked = batch
        found = self._engine.describe(self._forward(batch), arrays, batch.size, inputs)
        self._carried, self._values = found.changed, [*map(keras.ops.convert_to_tensor, found.changed)]
        return found.layers

    def run(self, batch: Any, layers: tuple[Layer, ...], read: Read) -> tuple[Any, Mapping[Layer, Mapping[Any, Chunk]]]:
        arrays = _arrays(batch, self._engine.rows(batch.size))
        program = self._program(batch, arrays, layers, read)
        result, found = program.run(arrays, self._values, batch, read)
        self._values = result.carried
        count, output = len(batch.samples), result.output
        return output if output is None or not len(output.shape) else output[:count], found

    def _program(self, batch: Any, arrays: Sequence[Any], layers: tuple[Layer, ...], read: Read) -> AbstractProgram:
        """The program for inputs of this form; made once."""
        inside = None if self._engine.on_host() else read
        shapes = tuple((array.shape, array.dtype) for array in arrays)
        key = id(layers), inside, shapes, batch.size, batch.samples.mask is None, batch.padding_counts
        if key not in self._programs:
            program = self._engine.program(self._forward(batch), arrays, layers, batch, inside)
            self._programs[key] = layers, program  # kept, as an id is good for as long as what it is of
        return self._programs[key][1]

    def _forward(self, batch: Any) -> Forward:
        model, forward = self.model, self.forward
        shape = _form((batch.args, batch.kwargs))

        def call(tensors: Sequence[Any]) -> Any:
            args, kwargs = shape(iter(tensors))
            if forward is not None:
                return forward(model, kwargs or (args[0] if len(args) == 1 else args))
            return _called(model, args, kwargs)

        masked = batch.samples.mask is None and not batch.padding_counts
        return Forward(call, self._operations, _variables(model), self._carried, masked, self._jit)

    def watch(
        self,
        early: Callable[[Layer], Layer | None],
        choose: Callable[[Layers, bool], Layers],
        read: Read,
        sink: Callable[[Layer, Mapping[Any, Chunk]], None],
        inputs: bool = False,
    ) -> AbstractContextManager[None]:
        # a first forward is described before it runs, so nothing need be read early
        models = [each for each in self._operations.values() if isinstance(each, keras.Model)]
        return Watch(self._engine, self._operations, models, choose, read, sink, inputs)

    def untrained(self, seed: int = 0) -> "KerasProbe":
        with _same_names(), _seeded(seed):
            twin = self._anew()
        self._check_twin(twin)
        probe = KerasProbe(twin, forward=self.forward)
        probe._jit = self._jit
        return probe

    def _anew(self) -> Any:
        """The same architecture with new weights, from its configuration."""
        model = self.model
        try:
            whole = isinstance(model, keras.Model)
            twin = keras.models.clone_model(model) if whole else type(model).from_config(model.get_config())
            if self._looked is not None and any(not each.built for each in twin._flatten_layers()):
                twin_probe = copy.copy(self)
                twin_probe.model = twin
                forward = twin_probe._forward(self._looked)
                forward.call([keras.ops.convert_to_tensor(np.zeros_like(a)) for a in _arrays(self._looked)])
        except Exception as error:
            said = str(error).strip().partition("\n")[0]
            raise _no_twin(f"it cannot be made from its configuration ({type(error).__name__}: {said})") from error
        for mine, its in zip(model._flatten_layers(), twin._flatten_layers(), strict=False):
            if type(mine) is type(its) and isinstance(mine, keras.layers.Normalization) and mine.built:
                its.set_weights(mine.get_weights())  # what it knows is of the data, not of training
                its.finalize_state()
        return twin

    def _check_twin(self, twin: Any) -> None:
        """**Raises:** `SiteError` for a twin that is another network, or the same one again."""
        mine, its = _variables(self.model), _variables(twin)
        if [v.shape for v in mine] != [v.shape for v in its] or [*named_operations(twin)] != [*self._operations]:
            raise _no_twin("made from its configuration, it has other layers or weights")
        equal = [
            v.path
            for v, w in zip(self.model.trainable_variables, twin.trainable_variables, strict=True)
            if len(np.unique(a := _values(v))) > 1 and np.array_equal(a, _values(w))
        ]
        if equal:
            raise _no_twin(
                f"made anew, it has the same weights again ({', '.join(equal[:3])}): they come with its configuration"
            )

    def fingerprint(self) -> str:
        digest = hashlib.blake2b(digest_size=16)
        for variable in _variables(self.model):
            values = _values(variable)
            digest.update(f"{variable.path} {values.shape} {variable.dtype}".encode())
            digest.update(values.tobytes())
        return digest.hexdigest()

    def facts(self) -> dict[str, Any]:
        policy = self.model.dtype_policy
        return {
            "framework": "keras",
            "framework_version": keras.__version__,
            "backend": keras.backend.backend(),
            "model": type(self.model).__name__,
            "parameters": self.model.count_params(),
            "dtype": policy.compute_dtype,
            "dtype_policy": policy.name,
            "compiled": keras.backend.backend() != "torch",
            "xla": self._jit or keras.backend.backend() == "jax",
        }


@cache
def engine() -> AbstractEngine:
    """The engine of the active backend."""
    name = keras.backend.backend()
    if name in ("tensorflow", "jax", "torch"):
        check_door()
    if name == "tensorflow":
        from .calls.tensorflow import TensorFlowEngine

        return TensorFlowEngine()
    if name == "jax":
        from .calls.jax import JaxEngine

        return JaxEngine()
    if name == "torch":
        from .calls.torch import TorchEngine

        return TorchEngine()
    raise SiteError(
        f"KERAS_BACKEND={name!r}: layerscope reads Keras models on the backends 'tensorflow', 'jax' and 'torch'. Set KERAS_BACKEND to one of "
        "them before Keras is imported; the weights of a saved model load on any."
    )


# --- inputs --------------------------------------------------------------------------------------------------------------------------


def _called(model: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """The model's call: several inputs as one list, as `predict` takes them, unless its `call` has an argument for each."""
    training = {"training": False} if model._call_has_training_arg else {}
    names = [
        name
        for name, parameter in inspect.signature(model.call).parameters.items()
        if parameter.kind is parameter.POSITIONAL_OR_KEYWORD and name not in ("training", "mask")
    ]
    by_graph = bool(getattr(model, "inputs", None))
    if kwargs:
        if not by_graph and set(kwargs) <= set(names):
            return model(**kwargs, **training)
        return model(kwargs, **training)
    if len(args) == 1:
        return model(args[0], **training)
    return model(list(args), **training) if by_graph or len(names) < len(args) else model(*args, **training)


def _arrays(batch: Any, rows: int | None = None) -> list[NDArray[Any]]:
    """The arrays of a batch in order; float64 in the dtype of Keras, as nobody trains in NumPy's default.

    Their last row is repeated where a forward has more rows.
    """
    arrays = [np.ascontiguousarray(to_numpy(leaf)) for leaf in _leaves((batch.args, batch.kwargs))]
    wide = np.dtype(np.float64)
    arrays = [array.astype(keras.config.floatx()) if array.dtype == wide else array for array in arrays]
    more = 0 if rows is None else rows - batch.size
    if not more:
        return arrays
    return [np.concatenate([a, np.repeat(a[-1:], more, axis=0)]) if len(a) == batch.size else a for a in arrays]


def _leaves(value: Any) -> Iterator[Any]:
    if isinstance(value, Mapping):
        for each in value.values():
            yield from _leaves(each)
    elif isinstance(value, tuple | list):
        for each in value:
            yield from _leaves(each)
    elif value is not None:
        yield value


def _form(value: Any) -> Callable[[Iterator[Any]], Any]:
    """What puts tensors where the arrays of a batch were; it keeps no array."""
    if isinstance(value, Mapping):
        parts = {key: _form(each) for key, each in value.items()}
        return lambda tensors: {key: part(tensors) for key, part in parts.items()}
    if isinstance(value, tuple | list):
        kind, each = type(value), [_form(part) for part in value]
        made = [*each]
        if hasattr(value, "_fields"):
            return lambda tensors: kind(*(part(tensors) for part in made))
        return lambda tensors: kind(part(tensors) for part in made)
    return (lambda tensors: None) if value is None else next


# --- models --------------------------------------------------------------------------------------------------------------------------


def _refuse(device: Any, amp: str | None) -> None:
    if device is not None:
        raise SiteError(
            f"device={device!r}: a Keras model runs where its variables are. Leave device= out, and make the model within "
            f"keras.device({str(device)!r})."
        )
    if amp is not None:
        raise DtypeError(
            f"amp={amp!r}: Keras has dtype policies for that. Leave amp= out, and make the model with dtype='mixed_bfloat16' or 'mixed_float16'."
        )


def _check_built(model: Any) -> None:
    """**Raises:** `SiteError` for a model whose layers have no weights yet."""
    unbuilt = [
        path for path, each in named_operations(model).items() if isinstance(each, keras.Layer) and not each.built
    ]
    if unbuilt:
        named = ", ".join(path or "the model" for path in unbuilt[:3])
        more = f" and {len(unbuilt) - 3} more" if len(unbuilt) > 3 else ""
        raise SiteError(
            f"model: {named}{more} {'is' if len(unbuilt) == 1 else 'are'} not built: there are no weights yet. Call the model once on a batch, "
            "model(batch), or model.build(input_shape), and load its weights, before it is measured."
        )


def _variables(model: Any) -> list[Any]:
    return [*model.trainable_variables, *model.non_trainable_variables]


def _values(variable: Any) -> NDArray[Any]:
    return np.ascontiguousarray(keras.ops.convert_to_numpy(variable.value))


def _compiled(model: Any) -> bool:
    """Whether the model would be compiled by XLA; asking leaves no trace."""
    if keras.backend.backend() == "torch" or not isinstance(model, keras.Model) or model.run_eagerly:
        return False
    before = model._jit_compile
    try:
        return bool(model.jit_compile)
    finally:
        model._jit_compile = before


def _no_twin(reason: str) -> SiteError:
    return SiteError(
        f"references=['untrained']: {reason}. Pass the untrained network yourself: references={{'untrained': make_model()}}."
    )


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Keras draws the seeds of initializers from Python's random numbers; these go on afterwards as if nothing had happened."""
    before = random.getstate()
    random.seed(seed)
    try:
        yield
    finally:
        random.setstate(before)


@contextmanager
def _same_names() -> Iterator[None]:
    """Layers made inside do not count where Keras makes up names (`dense_7`)."""
    names = global_state.get_global_attribute("object_name_uids")
    before = None if names is None else dict(names)
    try:
        yield
    finally:
        if names is not None and before is not None:
            names.clear()
            names.update(before)

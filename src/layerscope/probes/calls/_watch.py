"""The user's own calls of a Keras model, watched: eager ones as they run, `predict` and `evaluate` by what their compiled steps give."""

import functools
import threading
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import replace
from typing import Any, cast

import numpy as np

from ..._errors import SiteError
from ..._site import WHOLE, Chunk, Samples, Site
from ...inventory import Layer, Layers
from .._abstract import Read
from ._engine import AbstractEngine, Described, Forward, check_readable
from ._follow import Listener
from .keras import Calls, in_symbolic_scope, plain_errors, taken_apart

CHANGING = (
    "The model's control flow depends on the data: leave these sites out with exclude=, or name others with layers=."
)
STEPS = {"predict_step": "predict_function", "test_step": "test_function"}
"""The steps of a Keras model, and the attributes that hold what is compiled of them."""
TRAINING = ("fit", "train_on_batch")
FOUND, RESULT, MASKS = "layerscope.found", "layerscope.result", "layerscope.masks"
"""What a watched step gives, besides its result."""


class Watch:
    """Watches a model as long as its context lasts; see `AbstractProbe.watch`.

    The outermost call of a layer is a forward. One whose layer was not called before is described first, without running it (on PyTorch: without
    leaving a trace), so nothing has to be read before it is chosen.
    """

    def __init__(
        self,
        engine: AbstractEngine,
        operations: Mapping[str, Any],
        models: Iterable[Any],
        choose: Callable[[Layers, bool], Layers],
        read: Read,
        sink: Callable[[Layer, Any], None],
        inputs: bool,
    ) -> None:
        self.engine, self.operations, self.models = engine, operations, [*models]
        self.choose, self.read, self.sink, self.inputs = choose, read, sink, inputs
        self._found: dict[Site, Layer] = {}
        self._chosen: dict[Site, Layer] = {}
        self._unseen: set[Site] = set()
        self._ran: set[tuple[str, int]] = set()
        self._lock = threading.RLock()
        self._here = _Here()
        self._undo = ExitStack()

    def __enter__(self) -> None:
        with ExitStack() as undo:
            undo.enter_context(self.engine.watching())
            for path, operation in self.operations.items():
                replaced(undo, operation, "call", functools.partial(self._call, path))
            for model in self.models:
                self._place_steps(undo, model)
            self._undo = undo.pop_all()

    def __exit__(self, *error: Any) -> None:
        self._undo.close()

    # --- calls -------------------------------------------------------------------------------------------------------------------

    def _call(self, path: str, original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        if self._here.busy or in_symbolic_scope():
            return original(*args, **kwargs)
        with plain_errors():
            return self._forward(path, args, kwargs)

    def _forward(self, path: str, args: Any, kwargs: Any) -> Any:
        here = self._here
        if here.kept is None and not self.engine.there((args, kwargs)):
            raise SiteError(
                f"watch: {path or WHOLE} is called inside a function that is compiled (tf.function, jax.jit), where its values cannot be read. Call the "
                "model itself, or model.predict or model.evaluate; or measure with ls.examine(model, data, forward=…)."
            )
        with here.following():
            if (path, 0) not in self._ran:
                self.learn(self._described(path, args, kwargs), not path)
            now = here.kept is None  # values are there, and may be overwritten in place later
            kept: list[tuple[Layer, Any, Any]] = []

            def seen(layer: Layer, tensor: Any, mask: Any) -> None:
                kept.append((layer, self._read(layer, tensor, mask), None) if now else (layer, tensor, mask))

            listener = self.listener(seen)
            with self.engine.tracer(listener) as tracer, Calls(self.operations, tracer, functions=True):
                output = self.operations[path].call(*args, **kwargs)
            self.check(listener)
        if here.kept is not None:
            here.kept.append(kept)
            return output
        with self._lock:
            for layer, chunks, _ in kept:
                self.sink(layer, chunks)
        return output

    def _described(self, path: str, args: Any, kwargs: Any) -> Described:
        """What a call has to read, found without running it."""
        tensors, rebuild = taken_apart((args, kwargs))

        def call(new: Sequence[Any]) -> Any:
            again, named = rebuild(iter(new))
            return self.operations[path].call(*again, **named)

        forward = Forward(call, self.operations, ())
        return self.engine.describe(forward, [self.engine.spec(tensor) for tensor in tensors], None, self.inputs)

    def learn_once(self, described: Described) -> None:
        """The sites of a whole step, where they are not known."""
        if ("", 0) not in self._ran:
            self.learn(described, ("", 0) in described.ran)

    def listener(self, seen: Callable[[Layer, Any, Any], None]) -> Listener:
        """Reads what is chosen; only what every run so far had is known."""
        return Listener(self._chosen.values(), seen, True, self._ran)

    def check(self, listener: Listener) -> None:
        """**Raises:** `SiteError` where something ran that no description had, or did not show though it is chosen."""
        if listener.unknown:
            raise SiteError(f"watch: {', '.join(listener.unknown)} ran, though no forward before did. {CHANGING}")
        if self.engine.there(()) and self._here.kept is None:
            hidden = [str(site) for site in self._unseen if site in self._chosen]
            if hidden:
                raise SiteError(
                    f"watch: {', '.join(hidden)} calls the backend directly, which nobody sees in an eager call. Use model.predict, write it with "
                    "keras.ops, or leave it out with exclude=."
                )

    def learn(self, described: Described, whole: bool) -> None:
        """The sites of a part of the model that runs for the first time, and the choice among all."""
        with self._lock:
            found = {layer.site: layer for layer in described.layers}
            if whole:  # it knows the order, and what is only the model's output
                known = {s: replace(self._found.get(s, layer), left_out=layer.left_out) for s, layer in found.items()}
                self._found = known | {s: layer for s, layer in self._found.items() if s not in found}
            else:
                self._found = found | self._found
            self._chosen = {layer.site: layer for layer in self.choose(Layers(self._found.values()), whole).read}
            self._unseen |= described.unseen
            self._ran |= described.ran

    def quiet(self) -> AbstractContextManager[None]:
        """A context in which calls are part of something that is followed already."""
        return self._here.following()

    def _read(self, layer: Layer, tensor: Any, mask: Any) -> dict[Any, Chunk]:
        """Read what one forward gave at a site; nobody knows yet whose samples they are."""
        check_readable(layer, tensor, None)
        count = int(tensor.shape[layer.axes.sample])
        samples = Samples(np.arange(count), mask=None if mask is None else self.engine.host(mask).astype(np.bool_))
        given = self.read(layer, self.engine.activations(layer, tensor, samples))
        return {key: replace(chunk, samples=samples) for key, chunk in given.items()}

    # --- steps -------------------------------------------------------------------------------------------------------------------

    def _place_steps(self, undo: ExitStack, model: Any) -> None:
        """The model's own compiled functions are put aside, and made anew of steps that also give what is read."""
        compiled: list[bool] = []

        def compile_anew(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
            compiled.append(True)
            return original(*args, **kwargs)

        replaced(undo, model, "compile", compile_anew)
        for step, attribute in STEPS.items():
            undo.callback(_put_back, model, attribute, getattr(model, attribute), compiled)
            setattr(model, attribute, None)
            replaced(undo, model, step, self._step)
            replaced(undo, model, f"make_{attribute}", functools.partial(self._make, model, attribute))
        for method in TRAINING:
            replaced(undo, model, method, functools.partial(_refuse_training, method))

    def _make(self, model: Any, attribute: str, original: Callable[..., Any], force: bool = False) -> Any:
        if getattr(model, attribute) is not None and not force:
            return getattr(model, attribute)
        if model.steps_per_execution > 1:
            raise SiteError(
                f"watch: the model is compiled with steps_per_execution={model.steps_per_execution}, which hides all batches of a run but one. Compile it "
                "with steps_per_execution=1 meanwhile, or measure with ls.examine(model, data)."
            )
        if (replicas := self.engine.replicas(model)) > 1:
            raise SiteError(
                f"watch: the model runs on {replicas} replicas at once. Measure it with ls.examine(model, data), which runs it on one."
            )
        original(force=force)
        setattr(model, attribute, self._stripped(getattr(model, attribute)))
        return getattr(model, attribute)

    def _step(self, original: Callable[..., Any], *args: Any) -> Any:
        here = self._here
        if here.busy or self.engine.there(args):
            return original(*args)
        with here.keeping() as kept:
            return self.engine.step(original, args, self, kept)

    def _stripped(self, compiled: Callable[..., Any]) -> Callable[..., Any]:
        """A compiled function without what is for us."""

        def stripped(*args: Any) -> Any:
            given = compiled(*args)
            result, rest = self.engine.result(given)
            if not isinstance(result, dict) or FOUND not in result:
                return given
            said = cast(dict[str, Any], result)
            with self._lock:
                for name, tensor in said[FOUND].items():
                    layer = self._chosen[Site.parse(name.partition(" ")[2])]
                    self.sink(layer, self._read(layer, tensor, said[MASKS].get(name)))
            return rest(said[RESULT])

        return stripped


def step_result(result: Any, forwards: Sequence[Sequence[tuple[Layer, Any, Any]]]) -> dict[str, Any]:
    """What a watched step gives; the names of what was found begin with the number of the forward in the step."""
    found: dict[str, Any] = {}
    masks: dict[str, Any] = {}
    for number, kept in enumerate(forwards):
        for layer, tensor, mask in kept:
            found[f"{number} {layer.site}"] = tensor
            if mask is not None:
                masks[f"{number} {layer.site}"] = mask
    return {RESULT: result, FOUND: found, MASKS: masks}


class _Here(threading.local):
    """What runs in this thread: whether a forward is followed, and what a step keeps of its forwards."""

    busy = False
    kept: list[list[tuple[Layer, Any, Any]]] | None = None

    @contextmanager
    def following(self) -> Generator[None]:
        self.busy = True
        try:
            yield
        finally:
            self.busy = False

    @contextmanager
    def keeping(self) -> Generator[list[list[tuple[Layer, Any, Any]]]]:
        self.kept = []
        try:
            yield self.kept
        finally:
            self.kept = None


def replaced(undo: ExitStack, holder: Any, name: str, by: Callable[..., Any]) -> None:
    """Put a function in place of a method of one object; it gets the method it stands for first."""
    own = cast(dict[str, Any], vars(holder)).get(name)
    original = getattr(holder, name)

    @functools.wraps(original)
    def instead(*args: Any, **kwargs: Any) -> Any:
        return by(original, *args, **kwargs)

    # `object`, as Keras and PyTorch track what is set the usual way
    undo.callback(object.__delattr__, holder, name) if own is None else undo.callback(
        object.__setattr__, holder, name, own
    )
    object.__setattr__(holder, name, instead)


def _put_back(model: Any, attribute: str, before: Any, compiled: list[bool]) -> None:
    """What was compiled before; nothing where the user compiled the model anew."""
    setattr(model, attribute, None if compiled else before)


def _refuse_training(method: str, original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    raise SiteError(
        f"watch: {method} compiles its own training step, which hides the layers. To follow training, pass a callback: "
        "model.fit(x, y, callbacks=[layerscope.integrations.keras.LayerMonitor(…)])."
    )

"""The probe of retrievals: a network with an energy, read at every step of its descent.

A retrieval gives all its values at once, whatever the framework, so nothing is hooked, traced or rewritten here.
"""

import hashlib
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from types import TracebackType
from typing import Any, Self, cast

import numpy as np

from .._errors import DataError, DtypeError, SiteError
from .._site import Activations, Axes, Chunk, Site
from ..energy import Layer as Neurons
from ..energy import (
    LExp,
    LGhostmax,
    LIdentity,
    LLayerNorm,
    LRelu,
    LRepu,
    LRexp,
    LSigmoid,
    LSoftmax,
    LSphericalNorm,
    LTanh,
    Retrieval,
)
from ..energy._array import common_framework, framework, numbers
from ..energy._present import Present
from ..energy._tree import leaves
from ..inventory import Layer, Layers, Role
from ..inventory._select import NO_UNITS_FIRE
from ._abstract import AbstractProbe, Read
from ._program import hosted

SIGNED = (LIdentity, LRelu, LRepu, LRexp, LTanh, LLayerNorm, LSphericalNorm)
"""Lagrangians whose activation is above 0 where a neuron is on."""
NO_RULE = "no rule is known above which value it fires: say thresholds={…} and layers=[…] to measure it"
CLAMPED = "clamped: it stays what the batch gave"
START = "the start: the same state for every sample"


class EnergyProbe(AbstractProbe):
    """Reads a retrieval, `ham.retrieval(…)`, at sites over time: `memory@7` is the layer "memory" after 7 steps, `memory@0` its start.

    A batch is the state of the input layer, or states by layer. The output, for `score=`, is what was read at the last step, by layer.
    Units of a layer lie along the axis of its Lagrangian, else along its last axis (channels last); `axes=` says otherwise.
    """

    def __init__(
        self,
        model: Retrieval,
        *,
        device: Any = None,
        amp: str | None = None,
        forward: Callable[..., Any] | None = None,
    ) -> None:
        if device is not None:
            raise SiteError(
                f"device={device!r}: a retrieval runs where the parameters of its network are. Put them there: "
                "ham.with_parameters({name: moved}), or energy.torch.Module(ham).to(device).ham."
            )
        if amp is not None:
            raise DtypeError(
                f"amp={amp!r}: a retrieval runs in the type of its parameters. Give a network with parameters of that type."
            )
        if forward is not None:
            raise SiteError(
                "ls.Data(…, forward=…): a retrieval is run as it is. Change what goes in with ls.Data(…, preprocess=…), and what is done with "
                "ham.retrieval(…)."
            )
        self.model = model
        self._kind = common_framework(*model.ham.parameters().values())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Nothing was changed."""

    def describe(self, batch: Any, inputs: bool = False) -> Layers:
        retrieval, given = self.model, self._given(batch)
        with self._values_only():
            ham, states = retrieval.ham.enter(retrieval.start(given))
            seen = ham.activations(states) if retrieval.read == "g" else states
            # a mask that comes with the data may be another in the next batch
            held = {
                name: name not in retrieval.masks and _all(mask)
                for name, mask in ham.held(retrieval.held(given), states).items()
            }
        known = set(given) if isinstance(given, Mapping) else {retrieval.input}
        listed: list[Layer] = []
        for name, step in retrieval.sites():
            layer = self._listed(name, step, seen[name], held.get(name))
            if not layer.left_out and step == 0 and name not in known:
                layer = replace(layer, left_out=START)
            listed.append(layer)
        return Layers(listed)

    def _listed(self, name: str, step: int, value: Any, clamped: bool | None) -> Layer:
        """One layer at one step; `clamped` whether all of it is, None where nothing is."""
        neurons = self.model.ham.layer(name)
        lagrangian, shape = neurons.lagrangian, tuple(int(size) for size in value.shape)
        states = self.model.read == "x"
        threshold = 0.0 if states else fires_above(neurons)
        competing = not states and isinstance(lagrangian, LSoftmax | LGhostmax)
        notes = ["some of its units are clamped"] if clamped is False else []
        if states and neurons.bias is not None:
            notes.append("states, not compared with the bias: read='g' does that")
        if len(shape) > 2 and not lagrangian.axis:
            notes.append("unit axis by rank: the last")
        unfit = "a layer of one neuron without an axis has no units" if len(shape) < 2 else ""
        reason = unfit or (CLAMPED if clamped else "")
        if not reason and threshold is None:
            reason = NO_UNITS_FIRE[Role.SOFTMAX] if competing else NO_RULE
        kinds = (*type(neurons).__mro__[:-1], *type(lagrangian).__mro__[:-1])
        return Layer(
            Site(name, step=step),
            type(lagrangian if type(neurons) is Neurons else neurons).__name__,
            Role.SOFTMAX if competing else Role.NONLINEARITY,
            shape,
            str(value.dtype).removeprefix("torch."),
            Axes(len(shape) + (lagrangian.axis or -1) if len(shape) > 1 else 0),
            threshold,
            left_out=reason,
            note="; ".join(notes),
            unfit=unfit,
            bases=tuple(f"{kind.__module__}.{kind.__qualname__}" for kind in kinds),
        )

    def run(self, batch: Any, layers: tuple[Layer, ...], read: Read) -> tuple[Any, Mapping[Layer, Mapping[Any, Chunk]]]:
        sites = set(self.model.sites())
        missing = [str(x.site) for x in layers if (x.site.path, x.site.step) not in sites]
        if missing:
            raise SiteError(
                f"{', '.join(missing)}: this retrieval has no such layer and step. It does {self.model!r}. References need the same layers "
                "and at least as many steps."
            )
        self._check_masks(batch)
        with self._values_only():
            given = self.model.run(self._given(batch), "nothing").read
        count = len(batch.samples)
        on_host = {name: value if framework(value) == "torch" else np.asarray(value) for name, value in given.items()}
        found = {x: read(x, _activations(x, on_host[x.site.path][x.site.step], batch)) for x in layers}
        return {name: value[-1][:count] for name, value in on_host.items()}, found

    def _check_masks(self, batch: Any) -> None:
        """**Raises:** `DataError` where a mask of tokens, one a sample, would be held against the samples of another batch."""
        for name, synapse in self.model.ham.synapses.items():
            masks = [value for value in vars(synapse).values() if isinstance(value, Present)]
            if batch.number and any(mask.samples > 1 for mask in masks):
                raise DataError(
                    f"synapse {name!r}: its mask of tokens, one a sample, is of the samples of one batch, and there are more batches. Give a mask "
                    "(tokens,) that is the same for all samples, or all samples in one batch: batch_size= as many as the mask has."
                )

    def watch(self, *args: Any, **kwargs: Any) -> AbstractContextManager[None]:
        """**Raises:** `SiteError` always: a retrieval is a description of a run, which nobody calls."""
        raise SiteError(
            "ls.watch: descents of a network with an energy cannot be watched from outside. Let layerscope run it: "
            "ls.examine(ham.retrieval(steps=10), data)."
        )

    def untrained(self, seed: int = 0) -> AbstractProbe:
        """**Raises:** `SiteError` always: weights of a synapse are given, and nobody here knows how they were drawn."""
        raise SiteError(
            "references=['untrained']: the weights of a HAM were given to it, and nobody here knows how they start. Make the untrained network "
            "yourself: references={'untrained': fresh.retrieval(…)}, with the same arguments."
        )

    def fingerprint(self) -> str:
        """A digest of parameters and structure, and of what is done with them: steps, rule, clamp."""
        retrieval, digest = self.model, hashlib.blake2b(digest_size=16)
        digest.update(f"{retrieval!r} {retrieval.input} {retrieval.ham!r}".encode())
        clamp = cast("Mapping[str, Any]", retrieval.clamp) if isinstance(retrieval.clamp, Mapping) else {}
        for name, value in (*retrieval.ham.parameters().items(), *leaves(retrieval.descent).items(), *clamp.items()):
            host = np.asarray(value if isinstance(value, list | tuple | str) else numbers(value))
            digest.update(f"{name} {host.shape} {host.dtype}".encode())
            digest.update(np.ascontiguousarray(host).tobytes())
        return digest.hexdigest()

    def facts(self) -> dict[str, Any]:
        arrays = [value for value in self.model.ham.parameters().values() if framework(value)]
        library = sys.modules[self._kind]
        return {
            "framework": "layerscope.energy",
            "framework_version": f"{self._kind} {library.__version__}",
            "model": f"HAM, {self.model!r}",
            "parameters": sum(int(np.prod(np.shape(value))) for value in self.model.ham.parameters().values()),
            "dtype": ", ".join(sorted({str(value.dtype).removeprefix("torch.") for value in arrays})) or "none",
            "device": ", ".join(sorted({str(value.device) for value in arrays})) or "cpu",
            "amp": None,
            "compiled": self._kind == "jax",
        }

    def _given(self, batch: Any) -> Any:
        """The states a batch sets, where they can meet the parameters.

        **Raises:** `SiteError` for several inputs without names.
        """
        if batch.kwargs and not batch.args:
            return {name: self._beside(value) for name, value in batch.kwargs.items()}
        if len(batch.args) != 1 or batch.kwargs:
            raise SiteError(
                f"a retrieval takes the state of {self.model.input!r}; the data gives {len(batch.args) + len(batch.kwargs)} inputs. Give states "
                "by layer, {'v': x, 'h': y}, or say which input it is: ls.Data(data, inputs=0)."
            )
        return self._beside(batch.args[0])

    def _beside(self, value: Any) -> Any:
        """A loader of one framework may feed a network of another, on another device."""
        kind = framework(value)
        if kind in ("", "numpy") or self._kind == "numpy":
            return value
        if kind != self._kind:
            return np.asarray(value)
        if kind == "torch":
            devices = [p.device for p in self.model.ham.parameters().values() if framework(p) == "torch"]
            return value.to(devices[0])
        return value

    @contextmanager
    def _values_only(self) -> Iterator[None]:
        """PyTorch keeps every step for a derivative that nobody asks for."""
        torch = sys.modules.get("torch")
        if torch is None:
            yield
            return
        with torch.no_grad():
            yield


def fires_above(neurons: Neurons) -> float | None:
    """Above which activation a neuron is on: what it shows at its own threshold; None where neurons compete, or where nobody knows."""
    match lagrangian := neurons.lagrangian:
        case LSigmoid():
            scale = np.asarray(numbers(lagrangian.scale))
            return float(scale.reshape(())) / 2 if scale.size == 1 else None
        case LExp():
            return 1.0
        case _:
            return 0.0 if isinstance(lagrangian, SIGNED) else None


def _activations(layer: Layer, value: Any, batch: Any) -> Activations:
    """What was read at one site, where it lies."""
    if framework(value) != "torch":
        return hosted(layer, value, batch)
    from .torch import activations

    given = batch.samples.mask
    mask = None if given is None else sys.modules["torch"].as_tensor(given, device=value.device)
    return activations(layer, value, len(batch.samples), batch.size, mask)


def _all(mask: Any) -> bool:
    return bool(np.asarray(numbers(mask)).all())

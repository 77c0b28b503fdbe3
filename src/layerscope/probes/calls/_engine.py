"""What a backend can do for a probe: list what a forward has to read, and make a program of it that reads."""

import abc
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..._errors import DtypeError, ShapeError, SiteError
from ..._site import Activations, Chunk, Samples, Site
from ...feed import Batch
from ...inventory import Layer, Layers
from .._abstract import Read
from .._program import Reads, hosted
from ._follow import AbstractFollower, AbstractTracer, Describer


@dataclass
class Forward:
    """One forward of a model: `call` gets its tensors in order, `operations` are its layers by path.

    Of its `variables` those `carried` change meanwhile (the seeds of random layers), and go from batch to batch without
    touching the model. `masked` says that the masks of Keras count; `jit` that the program is compiled by XLA.
    """

    call: Callable[[Sequence[Any]], Any]
    operations: Mapping[str, Any]
    variables: Sequence[Any]
    carried: list[Any] = field(default_factory=list[Any])
    masked: bool = True
    jit: bool = False


class Result(NamedTuple):
    """What a program gave for one batch: the model's first output, what was read, the masks of Keras, and the carried variables."""

    output: Any
    found: Any
    masks: list[Any]
    carried: list[Any]


class AbstractReader(abc.ABC):
    """What is done with the activations that a traced program shows, and with what the program gives for them."""

    def __init__(self) -> None:
        self.masks: list[Any] = []
        self.mask_of: dict[Layer, int] = {}

    @abc.abstractmethod
    def seen(self, layer: Layer, tensor: Any, mask: Any) -> None:
        """A site while the program is traced; `mask` says which of its rows count, None if all do."""

    @abc.abstractmethod
    def outputs(self) -> Any:
        """What the program has to give for that; nothing traced is kept."""

    @abc.abstractmethod
    def chunks(self, result: Result, batch: Batch, read: Read) -> dict[Layer, Mapping[Any, Chunk]]:
        """What was read of one batch."""

    def _noted(self, layer: Layer, mask: Any) -> None:
        if mask is None:
            return
        known = next((k for k, each in enumerate(self.masks) if each is mask), len(self.masks))
        if known == len(self.masks):
            self.masks.append(mask)
        self.mask_of[layer] = known

    def _masked(self, result: Result, batch: Batch) -> dict[Layer, Samples]:
        """The samples of a batch, with the mask of Keras, by layer where there is one."""
        count = len(batch.samples)
        masks = [np.asarray(mask).astype(np.bool_)[:count] for mask in result.masks]
        masked = [replace(batch.samples, mask=mask) for mask in masks]
        return {layer: masked[k] for layer, k in self.mask_of.items()}


class HostReader(AbstractReader):
    """For programs on a CPU: they give the activations as they are, and the host reads them where they lie."""

    def __init__(self) -> None:
        super().__init__()
        self._layers: list[Layer] = []
        self._tensors: list[Any] = []

    def seen(self, layer: Layer, tensor: Any, mask: Any) -> None:
        check_readable(layer, tensor, None)
        self._layers.append(layer)
        self._tensors.append(tensor)
        self._noted(layer, mask)

    def outputs(self) -> list[Any]:
        tensors, self._tensors = self._tensors, []
        return tensors

    def chunks(self, result: Result, batch: Batch, read: Read) -> dict[Layer, Mapping[Any, Chunk]]:
        masked, tensors = self._masked(result, batch), [*reversed(result.found)]
        found: dict[Layer, Mapping[Any, Chunk]] = {}
        for layer in self._layers:
            a = hosted(layer, np.asarray(tensors.pop()), batch)
            samples = masked.get(layer)
            if samples is None:
                found[layer] = read(layer, a)
                continue
            # whoever counts on the spot knows of the batch's own mask only
            given = read(layer, replace(a, mask=samples.mask, host=None, dtype=None))
            found[layer] = {key: replace(chunk, samples=samples) for key, chunk in given.items()}
        return found


class DeviceReader(AbstractReader):
    """For programs on an accelerator: states are made where the activations are, as bits are 32 times less to move.

    **Arguments:** `read` of the probe; `xp` namespace of the backend; `size` of the forward; `real`, `mask` of the batch, of the backend.
    """

    def __init__(self, read: Read, xp: Any, size: int, real: Any, mask: Any) -> None:
        super().__init__()
        self._read, self._xp, self._size, self._real, self._mask = read, xp, size, real, mask
        self._reads = Reads()

    def seen(self, layer: Layer, tensor: Any, mask: Any) -> None:
        check_readable(layer, tensor, self._size)
        xp, counts = self._xp, self._mask
        if mask is not None:
            real = xp.reshape(self._real, (-1, *(1,) * (len(mask.shape) - 1)))
            counts = xp.logical_and(xp.asarray(mask, dtype=xp.bool_), real)
        self._noted(layer, mask)
        above = 0.0 if layer.threshold is None else layer.threshold
        a = Activations(tensor, layer.axes, xp, above, counts, real=self._real)
        self._reads.chunks[layer] = self._read(layer, a)

    def outputs(self) -> list[list[dict[str, Any]]]:
        arrays = self._reads.arrays()
        self._reads.forget_arrays()
        self._real = self._mask = None
        return arrays

    def chunks(self, result: Result, batch: Batch, read: Read) -> dict[Layer, Mapping[Any, Chunk]]:
        found: dict[Layer, Mapping[Any, Chunk]] = dict(self._reads.filled(result.found, batch.samples))
        for layer, samples in self._masked(result, batch).items():
            found[layer] = {key: replace(chunk, samples=samples) for key, chunk in found[layer].items()}
        return found


class AbstractProgram(abc.ABC):
    """A forward that reads, for inputs of one shape."""

    @abc.abstractmethod
    def run(
        self, arrays: Sequence[Any], carried: Sequence[Any], batch: Batch, read: Read
    ) -> tuple[Result, Mapping[Layer, Mapping[Any, Chunk]]]:
        """One batch."""


class Described(NamedTuple):
    """What a forward has to read, the variables it changes, the calls it made, and the sites that no eager call shows."""

    layers: Layers
    changed: list[Any]
    ran: set[tuple[str, int]]
    unseen: set[Site]


@dataclass(frozen=True)
class Spec:
    """The form of a tensor that is not there yet."""

    shape: tuple[int, ...]
    dtype: Any


class AbstractEngine(abc.ABC):
    """A backend of Keras."""

    @abc.abstractmethod
    def describe(self, forward: Forward, arrays: Sequence[Any], samples: int | None, inputs: bool) -> Described:
        """What the forward has to read when it gets arrays of these forms."""

    @abc.abstractmethod
    def program(
        self, forward: Forward, arrays: Sequence[Any], layers: tuple[Layer, ...], batch: Batch, read: Read | None
    ) -> AbstractProgram:
        """A program that reads at these layers; where `read` is given, inside it."""

    @abc.abstractmethod
    def on_host(self) -> bool:
        """Whether forwards run where the host sees their values, so that it reads them."""

    def rows(self, size: int) -> int:
        """How many rows a forward of `size` samples has: more where they are shared out to several devices."""
        return size

    # --- the user's own calls ----------------------------------------------------------------------------------------------------

    @abc.abstractmethod
    def watching(self) -> AbstractContextManager[Any]:
        """A context around all that is watched."""

    @abc.abstractmethod
    def there(self, value: Any) -> bool:
        """Whether what runs now gives values, rather than a program; `value` is what it was given."""

    @abc.abstractmethod
    def spec(self, tensor: Any) -> Any:
        """What `describe` takes for a tensor of the user's."""

    @abc.abstractmethod
    def tracer(self, follower: AbstractFollower) -> AbstractContextManager[AbstractTracer]:
        """What tells a follower of the user's call that runs now."""

    @abc.abstractmethod
    def step(self, original: Callable[..., Any], args: tuple[Any, ...], watch: Any, kept: list[Any]) -> Any:
        """A step of `predict` or `evaluate` while it is compiled, with what was found in it."""

    def result(self, given: Any) -> tuple[Any, Callable[[Any], Any]]:
        """What a compiled step gave of the step's own, and how another takes its place."""
        return given, lambda result: result

    def replicas(self, model: Any) -> int:
        """On how many devices at once the model runs."""
        return 1

    def host(self, tensor: Any) -> NDArray[Any]:
        return np.asarray(tensor)

    def activations(self, layer: Layer, tensor: Any, samples: Samples) -> Activations:
        """A tensor of the user's as a tally reads it."""
        return hosted(layer, self.host(tensor), Batch((), {}, samples, None, 0, len(samples)))


def described(describer: Describer, changed: list[Any]) -> Described:
    """What a describer found."""
    numbers = describer.graph.numbers.seen.items()
    ran = {(path, call) for (path, function), count in numbers if not function for call in range(count)}
    unseen = {
        Site(f"{path}.{name}()".lstrip("."), call)
        for (path, name), count in numbers
        if (path, name) in describer.raw
        for call in range(count)
    }
    return Described(_listed(describer), changed, ran, unseen)


def _listed(describer: Describer) -> Layers:
    """The sites, without those at which padding cannot be told from the rest."""
    describer.finish()
    unmasked = describer.unmasked()
    found = describer.graph.found()
    if not unmasked:
        return found
    return Layers(
        replace(layer, unfit=reason, left_out=layer.left_out or reason, note="")
        if (reason := unmasked.get(layer.site))
        else layer
        for layer in found
    )


def check_found(layers: Sequence[Layer], found: set[Layer]) -> None:
    """**Raises:** `SiteError` where a chosen site did not run."""
    missing = [str(layer.site) for layer in layers if layer not in found]
    if missing:
        raise SiteError(
            f"{', '.join(missing)} did not run, though the first forward ran it. The model's control flow depends on the data or its shapes: leave "
            "these sites out with exclude=, name others with layers=, or measure with ls.watch around your own calls."
        )


def check_readable(layer: Layer, tensor: Any, size: int | None) -> None:
    """**Raises:** `ShapeError` for another number of samples than the batch has, `DtypeError` for complex values."""
    sample, shape = layer.axes.sample, tuple(tensor.shape)
    if len(shape) <= sample or (size is not None and shape[sample] != size):
        raise ShapeError(
            f"{layer.site}: axis {sample} of shape {shape} should have the {size} samples of the batch. "
            f"Say which axis is which with axes={{{layer.site.path!r}: ls.Axes(unit=…, sample=…)}}, or leave the site out with exclude=."
        )
    if "complex" in str(tensor.dtype):
        raise DtypeError(
            f"{layer.site}: complex values ({tensor.dtype}) have no order, so no unit can fire. Leave the site out with exclude=, or "
            "measure a layer that gives real numbers."
        )

"""Who follows a forward: told of every call of a layer and of every function, they list what is there, or read chosen sites."""

import abc
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..._errors import SiteError
from ..._site import Axes, Site
from ...inventory import Layer, Role
from ...inventory import _operations as ops
from ...inventory._flow import Numbers
from ...inventory._graph import Graph, Kind, Value
from ...inventory._layer import STEP


@dataclass(frozen=True)
class Function:
    """A call of a function, by its name in `_operations`, with what `Graph.operation` wants to know of it.

    `raw` says that it is an operation of the backend, seen in its program only.
    """

    name: str
    went: tuple[ops.Went | None, ...] | None = None
    unit: int | None = None
    args: tuple[Any, ...] = ()
    kwargs: tuple[tuple[str, Any], ...] = ()
    raw: bool = False


class AbstractFollower(abc.ABC):
    """Hears of one forward, in the order in which it runs. Tensors are those of the framework, or what stands for them."""

    @abc.abstractmethod
    def opens(self, path: str, kind: Kind, tensors: Sequence[Any]) -> None:
        """A layer is called."""

    @abc.abstractmethod
    def closes(self, path: str, tensors: Sequence[Any], masks: Sequence[Any], new: bool) -> None:
        """The innermost call is through. `masks` are those of its outputs, None for those without; `new` if none of its inputs had one."""

    @abc.abstractmethod
    def function(self, function: Function, inputs: Sequence[Any], outputs: Sequence[Any]) -> None:
        """A function ran."""

    def varies(self, tensor: Any) -> bool:
        """Whether a tensor depends on the model's input; assumed where nobody asks."""
        return True

    @abc.abstractmethod
    def looped(self, path: str, kind: Kind, loop: str, tensors: Sequence[Any]) -> None:
        """A layer ran inside a loop of the layer `loop` ("" if it is the user's own), where its values cannot be read."""


class AbstractTracer(AbstractFollower):
    """A follower of a backend: it also knows when functions begin, and the operations that no function of Keras stands for."""

    def begins(self) -> None:
        """A function of Keras begins; what runs until `function` is part of it."""

    def breaks_off(self) -> None:
        """The function that began raised."""

    def composed(self) -> Sequence[tuple[Any, str]]:
        """Further functions that are told as one, each by its module and name."""
        return ()

    def here(self) -> bool:
        """Whether what runs now is part of the program that is followed, not of a loop body inside it."""
        return True


@dataclass
class Masks:
    """The masks that Keras hands on with tensors, and which one says what counts at a site.

    A tensor that has none of its own (Keras drops them at every function and at layers that do not know of masks) counts by the mask of
    the model's input, so that padding counts nowhere.
    """

    sources: list[Any] = field(default_factory=list[Any])

    def at(self, shape: tuple[int, ...], axes: Axes, own: Any) -> tuple[Any, str]:
        """The mask of a site, None for none, and why it cannot be known."""
        if len(shape) < 2 or axes.unit % len(shape) == axes.sample % len(shape):
            return None, ""
        positions = axes.positions(shape)
        if not positions or (own is None and not self.sources):
            return None, ""
        if own is not None and fits(own, shape, axes):
            return own, ""
        fitting = [mask for mask in self.sources if fits(mask, shape, axes)]
        if len(fitting) == 1:
            return fitting[0], ""
        if fitting:
            return None, "the model has several masks, and none of them came this far: give one with ls.Data(…, mask=)"
        sizes = " or ".join(str(tuple(mask.shape[1:])) for mask in self.sources if mask is not None)
        return None, f"its positions {positions} do not match the mask {sizes}"


def fits(mask: Any, shape: tuple[int, ...], axes: Axes) -> bool:
    """Whether a mask speaks of the leading positions of a tensor."""
    sizes = tuple(mask.shape)
    return sizes[:1] == (shape[axes.sample],) and axes.positions(shape)[: len(sizes) - 1] == sizes[1:]


class Describer(AbstractFollower):
    """Lists what a forward has to read."""

    def __init__(self, graph: Graph, value: Callable[[Any], Value], masked: bool) -> None:
        self.graph, self.value, self.masked = graph, value, masked
        self.masks = Masks()
        self._varies: dict[Any, bool] = {}
        self._own: dict[Site, Any] = {}
        self._open: list[tuple[str, int, bool]] = []
        self._loops: dict[str, Layer] = {}
        self.raw: set[tuple[str, str]] = set()

    def given(self, tensors: Iterable[Any]) -> None:
        values = [self.value(tensor) for tensor in tensors]
        self._varies |= {value.key: True for value in values}
        self.graph.given(values)

    def gave(self, tensors: Sequence[Any]) -> None:
        self.graph.gave(self._inputs(tensors))

    def opens(self, path: str, kind: Kind, tensors: Sequence[Any]) -> None:
        values = self._inputs(tensors)
        self._open.append((path, self.graph.opens(path, kind, values), self._any_varies(values)))

    def closes(self, path: str, tensors: Sequence[Any], masks: Sequence[Any], new: bool) -> None:
        path, call, varies = self._open.pop()
        self.graph.closes(self._outputs(tensors, varies))
        for part, mask in enumerate(masks):
            if mask is not None:
                self._own[Site(path, call, "out", part)] = self.value(mask)
                if new:
                    self.masks.sources.append(self.value(mask))

    def function(self, function: Function, inputs: Sequence[Any], outputs: Sequence[Any]) -> None:
        given = self._inputs(inputs)
        if function.raw and ops.counts(function.name):
            self.raw.add((self._open[-1][0] if self._open else "", function.name))
        self.graph.operation(
            function.name, given, self._outputs(outputs, self._any_varies(given)), went=function.went, unit=function.unit,
            args=function.args, kwargs=dict(function.kwargs),
        )  # fmt: skip

    def looped(self, path: str, kind: Kind, loop: str, tensors: Sequence[Any]) -> None:
        value = next((self.value(tensor) for tensor in tensors), Value(None, (), ""))
        where = (
            f"{loop!r}, which runs it in a loop: read {loop!r} instead"
            if loop
            else "a loop: read what comes out of it instead"
        )
        self._loops[path] = Layer(
            Site(path), kind.name, Role.OTHER, value.shape, value.dtype, Axes(len(value.shape) - 1), bases=kind.bases,
            unfit=f"{STEP}{where}",
        )  # fmt: skip

    def varies(self, tensor: Any) -> bool:
        return self._varies.get(self.value(tensor).key, False)

    def unmasked(self) -> dict[Site, str]:
        """The sites at which nobody knows which rows are padding."""
        if not self.masked:
            return {}
        reasons = {
            site: self.masks.at(layer.shape, layer.axes, self._own.get(site))[1]
            for site, layer in self.graph.layers.items()
        }
        return {site: reason for site, reason in reasons.items() if reason}

    def finish(self) -> None:
        """Add what could not be read."""
        for path, layer in self._loops.items():
            self.graph.layers.setdefault(Site(path), layer)

    def _inputs(self, tensors: Sequence[Any]) -> list[Value]:
        """What nobody made of the model's input is constant."""
        values = [self.value(tensor) for tensor in tensors]
        new = [value for value in values if value.key not in self._varies]
        self.graph.constant(new)
        self._varies |= {value.key: False for value in new}
        return values

    def _outputs(self, tensors: Sequence[Any], varies: bool) -> list[Value]:
        """A layer may give what it was given, or what was made within."""
        values = [self.value(tensor) for tensor in tensors]
        for value in values:
            self._varies.setdefault(value.key, varies)
        return values

    def _any_varies(self, values: Sequence[Value]) -> bool:
        return any(self._varies[value.key] for value in values)


class Listener(AbstractFollower):
    """Reads chosen sites: `seen` gets each layer with its tensor and the mask of its rows, at the moment it is there.

    Where it is known which calls `ran` before, others are named in `unknown`.
    """

    def __init__(
        self,
        layers: Iterable[Layer],
        seen: Callable[[Layer, Any, Any], None],
        masked: bool,
        ran: set[tuple[str, int]] | None = None,
    ) -> None:
        self.seen, self.masked, self.masks = seen, masked, Masks()
        self.ran, self.unknown = ran, dict[str, None]()
        self.wanted: dict[Site, Layer] = {layer.site: layer for layer in layers}
        self.numbers, self.found = Numbers(), set[Layer]()
        self.functions = any(site.path.endswith("()") for site in self.wanted)
        self.parts: dict[tuple[str, int, str], list[Layer]] = {}
        for layer in self.wanted.values():
            self.parts.setdefault((layer.site.path, layer.site.call, layer.site.port), []).append(layer)
        self._frames: list[tuple[str, int, bool]] = []

    def opens(self, path: str, kind: Kind, tensors: Sequence[Any]) -> None:
        call = self.numbers.next(path)
        if self.ran is not None and (path, call) not in self.ran:
            self.unknown[str(Site(path, call))] = None
        self._frames.append((path, call, bool(kind.does)))
        self._read((path, call, "in"), tensors, ())

    def closes(self, path: str, tensors: Sequence[Any], masks: Sequence[Any], new: bool) -> None:
        if new:
            self.masks.sources += [mask for mask in masks if mask is not None]
        path, call, _ = self._frames.pop()
        self._read((path, call, "out"), tensors, masks)

    def function(self, function: Function, inputs: Sequence[Any], outputs: Sequence[Any]) -> None:
        if not ops.counts(function.name) or any(known for _, _, known in self._frames):
            return
        path = self._frames[-1][0] if self._frames else ""
        call = self.numbers.next(path, function.name)
        self._read((f"{path}.{function.name}()".lstrip("."), call, "out"), outputs, ())

    def looped(self, path: str, kind: Kind, loop: str, tensors: Sequence[Any]) -> None:
        if any(layer.site.path == path for layer in self.wanted.values()):
            where = f"read {loop!r} instead" if loop else "read what comes out of the loop instead"
            raise SiteError(
                f"{path}: it runs once for every step of {loop or 'a loop'}, where it cannot be read: {where}."
            )

    def _read(self, at: tuple[str, int, str], tensors: Sequence[Any], masks: Sequence[Any]) -> None:
        for layer in self.parts.get(at, ()):
            part = layer.site.part
            if part >= len(tensors):
                continue
            tensor, own = tensors[part], masks[part] if part < len(masks) else None
            mask, reason = None, ""
            if self.masked:
                mask, reason = self.masks.at(tuple(tensor.shape), layer.axes, own)
            if reason:
                raise SiteError(f"{layer.site}: {reason}. Leave it out with exclude=, or pass ls.Data(…, mask=False).")
            self.found.add(layer)
            self.seen(layer, tensor, mask)


class Scoped(AbstractFollower):
    """Passes on what happens inside the calls of a model, where other things run around them: a loss, metrics."""

    def __init__(self, follower: "Describer | Listener") -> None:
        self.follower, self._depth = follower, 0

    def opens(self, path: str, kind: Kind, tensors: Sequence[Any]) -> None:
        if not self._depth and isinstance(self.follower, Describer):
            self.follower.given(tensors)
        self._depth += 1
        self.follower.opens(path, kind, tensors)

    def closes(self, path: str, tensors: Sequence[Any], masks: Sequence[Any], new: bool) -> None:
        self._depth -= 1
        self.follower.closes(path, tensors, masks, new)
        if not self._depth and isinstance(self.follower, Describer):
            self.follower.gave(tensors)

    def function(self, function: Function, inputs: Sequence[Any], outputs: Sequence[Any]) -> None:
        if self._depth:
            self.follower.function(function, inputs, outputs)

    def looped(self, path: str, kind: Kind, loop: str, tensors: Sequence[Any]) -> None:
        self.follower.looped(path, kind, loop, tensors)

    def varies(self, tensor: Any) -> bool:
        return self.follower.varies(tensor)

"""How a network is put together: parts get names, and every connection is checked before anything runs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

from .._errors import ShapeError, SiteError, nearest
from ._abstract import AbstractSynapse
from ._layers import Layer


@dataclass(frozen=True)
class Connection:
    """One synapse at work: the layers it connects, in its own order, and which of them feel its force.

    A connection that not all its layers feel is asymmetric: the others shape its force and are not shaped by it, as in a feed-forward network.
    It is allowed, but then no energy has to fall.
    """

    layers: tuple[str, ...]
    synapse: str
    feels: tuple[str, ...]
    felt: tuple[int, ...] = field(init=False, repr=False)
    """The places in `layers` that feel it."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "felt", tuple(n for n, name in enumerate(self.layers) if name in self.feels))

    @property
    def symmetric(self) -> bool:
        return set(self.feels) == set(self.layers)


def no_layer(name: str, layers: tuple[str, ...]) -> SiteError:
    return SiteError(f"HAM: no layer is called {name!r}; layers are: {', '.join(layers)}.{nearest(name, list(layers))}")


def named(parts: Any, kind: type, word: str) -> dict[str, Any]:
    if not isinstance(parts, Mapping):
        items = list(cast("Sequence[Any]", parts))
        titles = [part.name if isinstance(part, Layer) else f"{word}_{at}" for at, part in enumerate(items)]
        titles = [f"{t}_{at}" if titles.count(t) > 1 else t for at, t in enumerate(titles)]
        parts = dict(zip(titles, items, strict=True))
    made = {str(name): part for name, part in cast("Mapping[str, Any]", parts).items()}
    for name, part in made.items():
        if not isinstance(part, kind):
            raise TypeError(f"HAM: {word} {name!r} is a {type(part).__name__}; it must be a {kind.__name__}.")
        if isinstance(part, Layer) and part.use_bias and part.bias is None:
            raise ValueError(f"HAM: layer {name!r} has use_bias=True and no bias yet. Draw it first: layer.init(key).")
    if not made and word == "layer":
        raise ValueError("HAM: there is no layer. A network needs at least one.")
    return made


def connection_of(given: Any, layers: tuple[str, ...], synapses: tuple[str, ...]) -> Connection:
    if isinstance(given, Connection):
        given = (given.layers, given.synapse, given.feels)
    hint = "A connection is (layers, synapse), such as (('v', 'h'), 'W'), or (layers, synapse, layers that feel it)."
    if not isinstance(given, Sequence) or isinstance(given, str) or len(cast("Sequence[Any]", given)) not in (2, 3):
        raise ValueError(f"HAM: cannot read the connection {given!r}. {hint}")
    parts = list(cast("Sequence[Any]", given))
    between = parts[0] if not isinstance(parts[0], str | int) else (parts[0],)
    among = tuple(_pick(name, layers, "layer") for name in cast("Sequence[Any]", between))
    synapse = _pick(parts[1], synapses, "synapse")
    feels = among
    if len(parts) == 3:
        asked = (parts[2],) if isinstance(parts[2], str | int) else cast("Sequence[Any]", parts[2])
        feels = tuple(_pick(name, layers, "layer") for name in asked)
        strangers = [name for name in feels if name not in among]
        if strangers or not feels:
            raise ValueError(
                f"HAM: {strangers or 'nobody'} cannot feel the synapse {synapse!r} between {', '.join(among)}. {hint}"
            )
    return Connection(among, synapse, feels)


def _pick(given: Any, names: tuple[str, ...], word: str) -> str:
    if isinstance(given, int) and not isinstance(given, bool):
        if 0 <= given < len(names):
            return names[given]
        raise SiteError(f"HAM: there is no {word} number {given}; there are {len(names)}, from 0: {', '.join(names)}.")
    if given in names:
        return cast("str", given)
    raise SiteError(
        f"HAM: no {word} is called {given!r}; {word}s are: {', '.join(names)}.{nearest(str(given), list(names))}"
    )


def fitted(name: str, synapse: AbstractSynapse, connection: Connection, layers: Mapping[str, Layer]) -> AbstractSynapse:
    try:
        return synapse.fit(tuple(layers[layer].shape for layer in connection.layers))
    except ShapeError as error:
        raise ShapeError(f"HAM: the synapse {name!r} does not fit {', '.join(connection.layers)}. {error}") from None

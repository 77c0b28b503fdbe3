"""Networks as trees: which fields of a node are trainable parameters, which are nodes again, and which are settings.

One description serves JAX (a pytree whose leaves are the parameters), PyTorch (an `nn.Module` that registers them) and files.
"""

import dataclasses
import sys
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, TypeVar, cast, get_args, get_origin

import numpy as np

from .._errors import ShapeError, SiteError, nearest
from ._array import framework, numbers

T = TypeVar("T")

Parameter = Annotated[Any, "parameter"]
"""The type of a dataclass field that holds a trainable number or array, a tuple of them, or None."""
Child = Annotated[T, "child"]
"""The type of a dataclass field that holds another node, or a dict of nodes by name."""

SIMPLE = (bool, int, float, str, frozenset)

NODES: dict[type, dict[str, str]] = {}
"""Every class that is a node of a network: its fields, each a "parameter", a "child" or a "setting"."""


def node(cls: type[T]) -> type[T]:
    """Makes a dataclass known as a node; with JAX loaded, also as a pytree."""
    NODES[cls] = {
        f.name: get_args(f.type)[1] if get_origin(f.type) is Annotated else "setting"
        for f in dataclasses.fields(cast("Any", cls))
    }
    announce()
    return cls


def announce() -> None:
    """Tells JAX of all nodes, once it is loaded.  Constructors ask again, as JAX may come after us."""
    if "jax" in sys.modules:
        from .jax import register

        register()


def is_tree(value: Any) -> bool:
    """Whether a child has parameters of its own; an object that is no node, such as a Lagrangian of one's own, is a setting."""
    return type(value) in NODES or isinstance(value, Mapping)


def _leaves(value: Any, path: str) -> Iterator[tuple[str, Any]]:
    if type(value) in NODES:
        for name, role in NODES[type(value)].items():
            item = getattr(value, name)
            if role == "parameter" or (role == "child" and is_tree(item)):
                yield from _leaves(item, f"{path}.{name}" if path else name)
    elif isinstance(value, Mapping):
        for name, item in cast("Mapping[str, Any]", value).items():
            yield from _leaves(item, f"{path}.{name}")
    elif isinstance(value, tuple):
        for at, item in enumerate(cast("tuple[Any, ...]", value)):
            yield from _leaves(item, f"{path}.{at}")
    elif value is not None:
        yield path, value


def leaves(tree: Any) -> dict[str, Any]:
    """Every parameter of a network by its dotted path, such as `layers.hidden.lagrangian.beta`."""
    return dict(_leaves(tree, ""))


def _rebuilt(value: Any, path: str, new: Mapping[str, Any]) -> Any:
    if type(value) in NODES:
        made = object.__new__(cast("type[Any]", type(value)))  # past the checks: the values may be traced
        for name, role in NODES[type(value)].items():
            item = getattr(value, name)
            if role == "parameter" or (role == "child" and is_tree(item)):
                item = _rebuilt(item, f"{path}.{name}" if path else name, new)
            object.__setattr__(made, name, item)
        return made
    if isinstance(value, Mapping):
        return {name: _rebuilt(item, f"{path}.{name}", new) for name, item in cast("Mapping[str, Any]", value).items()}
    if isinstance(value, tuple):
        return tuple(_rebuilt(item, f"{path}.{at}", new) for at, item in enumerate(cast("tuple[Any, ...]", value)))
    return new.get(path, value)


def with_leaves(tree: T, new: Mapping[str, Any]) -> T:
    """The same network with other parameters at the given paths; nothing else changes, nothing is checked."""
    return cast("T", _rebuilt(tree, "", new))


def replaced(tree: T, new: Mapping[str, Any]) -> T:
    """`with_leaves` for values that come from a person or a file.

    **Raises:** `SiteError` for a path that is none of the network's, `ShapeError` for another shape.
    """
    old = leaves(tree)
    for path, value in new.items():
        if path not in old:
            raise SiteError(
                f"parameters: no parameter is called {path!r}; they are {', '.join(old)}.{nearest(path, list(old))}"
            )
        if np.shape(value) != np.shape(old[path]):
            raise ShapeError(
                f"parameters: {path} has shape {tuple(np.shape(old[path]))}, got {tuple(np.shape(value))}."
            )
    return with_leaves(tree, new)


def _short(value: Any, indent: str) -> str:
    if type(value) in NODES:
        quiet = tuple(
            n for n in NODES[type(value)] if n == "name" or getattr(value, n) is None or getattr(value, n) is False
        )
        return _shown(value, indent, quiet)
    if isinstance(value, Mapping):
        inner = indent + "  "
        lines = [f"{inner}{name}: {_short(item, inner)}" for name, item in cast("Mapping[str, Any]", value).items()]
        return "{\n" + ",\n".join(lines) + f"\n{indent}}}"
    if value is None or isinstance(value, SIMPLE):
        return repr(cast("Any", value))
    if isinstance(value, tuple):
        items = cast("tuple[Any, ...]", value)
        return "(" + ", ".join(_short(item, indent) for item in items) + ("," if len(items) == 1 else "") + ")"
    try:
        kind = framework(value)
    except TypeError:
        return repr(value)
    if value.ndim == 0 and (known := numbers(value)) is not None:
        return f"{float(known):g} ({kind})"
    return f"{str(value.dtype).removeprefix('torch.')}{tuple(value.shape)} ({kind})"


def _shown(value: Any, indent: str, hide: tuple[str, ...] = ()) -> str:
    inner = indent + "  "
    parts = [(name, _short(getattr(value, name), inner)) for name in NODES[type(value)] if name not in hide]
    title = type(value).__name__
    line = f"{title}(" + ", ".join(f"{name}={text}" for name, text in parts) + ")"
    if "\n" not in line and len(line) + len(indent) <= 110:
        return line
    return f"{title}(\n" + ",\n".join(f"{inner}{name}={text}" for name, text in parts) + f"\n{indent})"


def show(tree: Any, hide: tuple[str, ...] = ()) -> str:
    """A node as a person reads it: arrays as type and shape, and inside another node only what is set."""
    return _shown(tree, "", hide)

"""Energy layers with JAX: networks as pytrees whose leaves are the parameters, and descents compiled as one loop."""

from typing import Any

import jax
import jax.core
import jax.numpy as NAMESPACE
import numpy as np
from numpy.typing import NDArray

from ._tree import NODES

__all__ = ["NAMESPACE", "on_the_host", "register"]

_registered: set[type] = set()


def on_the_host(value: Any) -> NDArray[Any] | None:
    """The values of an array, in float64 where they are real; None while JAX traces it."""
    if isinstance(value, jax.core.Tracer):
        return None
    return np.asarray(value, np.float64 if NAMESPACE.issubdtype(value.dtype, NAMESPACE.floating) else None)


def register() -> None:
    """Makes every node of a network a pytree: parameters and nodes are its children, settings its structure."""
    for cls in tuple(NODES):
        if cls not in _registered:
            _registered.add(cls)
            _register(cls)


def _register(cls: type) -> None:
    kinds = NODES[cls]
    inner = tuple(name for name, role in kinds.items() if role != "setting")
    settings = tuple(name for name, role in kinds.items() if role == "setting")

    def flatten_with_keys(node: Any) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
        children, aux = flatten(node)
        return tuple((jax.tree_util.GetAttrKey(n), c) for n, c in zip(inner, children, strict=True)), aux

    def flatten(node: Any) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
        values = [getattr(node, name) for name in inner]
        # JAX sorts the keys of a dict, and the order of layers means something: only the values go through, the names are structure
        names = tuple(tuple(value) if isinstance(value, dict) else None for value in values)
        children = tuple(tuple(value.values()) if isinstance(value, dict) else value for value in values)
        return children, (names, tuple(getattr(node, name) for name in settings))

    def unflatten(aux: tuple[Any, ...], children: Any) -> Any:
        names, fixed = aux
        made = object.__new__(cls)  # past the checks: JAX puts tracers and placeholders here
        for name, keys, value in zip(inner, names, children, strict=True):
            object.__setattr__(made, name, value if keys is None else dict(zip(keys, value, strict=True)))
        for name, value in zip(settings, fixed, strict=True):
            object.__setattr__(made, name, value)
        return made

    jax.tree_util.register_pytree_with_keys(cls, flatten_with_keys, unflatten, flatten)


register()

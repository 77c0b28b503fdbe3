"""Energy layers with JAX: networks as pytrees whose leaves are the parameters, and descents compiled as one loop."""

import functools
from dataclasses import dataclass
from typing import Any

import jax
import jax.core
import jax.lax
import jax.numpy as NAMESPACE
import jax.random
import jax.tree
import jax.tree_util
import numpy as np
from numpy.typing import NDArray

from ._tree import NODES, is_tree

__all__ = ["NAMESPACE", "descend", "draw", "on_the_host", "register", "settle", "split"]

_registered: set[type] = set()


def on_the_host(value: Any) -> NDArray[Any] | None:
    """The values of an array, in float64 where they are real; None while JAX traces it."""
    if isinstance(value, jax.core.Tracer):
        return None
    return np.asarray(value, np.float64 if NAMESPACE.issubdtype(value.dtype, NAMESPACE.floating) else None)


def draw(key: Any, shape: tuple[int, ...], like: Any = None) -> Any:
    """Standard normal numbers of JAX's own float type, or of the type of `like`."""
    return jax.random.normal(key, shape) if like is None else jax.random.normal(key, shape, like.dtype)


def split(key: Any, count: int) -> list[Any]:
    """A key for each of `count` draws."""
    return list(jax.random.split(key, count))


def register() -> None:
    """Makes every node of a network a pytree: parameters and nodes are its children, settings its structure."""
    for cls in tuple(NODES):
        if cls not in _registered:
            _registered.add(cls)
            _register(cls)


@dataclass(frozen=True)
class Names:
    """The names of a dict, in its order."""

    names: tuple[str, ...]


def _register(cls: type) -> None:
    kinds = NODES[cls]
    inner = tuple(name for name, role in kinds.items() if role != "setting")
    settings = tuple(name for name, role in kinds.items() if role == "setting")

    def flatten_with_keys(node: Any) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
        children, aux = flatten(node)
        return tuple((jax.tree_util.GetAttrKey(n), c) for n, c in zip(inner, children, strict=True)), aux

    def flatten(node: Any) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
        children: list[Any] = []
        shapes: list[
            Any
        ] = []  # of each child: the names of a dict, or in a tuple of one what is no tree and stays as it is
        for name in inner:
            value = getattr(node, name)
            if isinstance(value, dict):
                # JAX sorts the keys of a dict, and the order of layers means something: the names are structure
                children.append(tuple(value.values()))
                shapes.append(Names(tuple(value)))
            elif kinds[name] == "child" and not is_tree(value):
                children.append(None)
                shapes.append((value,))
            else:
                children.append(value)
                shapes.append(None)
        return tuple(children), (tuple(shapes), tuple(getattr(node, name) for name in settings))

    def unflatten(aux: tuple[Any, ...], children: Any) -> Any:
        shapes, fixed = aux
        made = object.__new__(cls)  # past the checks: JAX puts tracers and placeholders here
        for name, shape, value in zip(inner, shapes, children, strict=True):
            if isinstance(shape, Names):
                value = dict(zip(shape.names, value, strict=True))
            elif shape is not None:
                (value,) = shape
            object.__setattr__(made, name, value)
        for name, value in zip(settings, fixed, strict=True):
            object.__setattr__(made, name, value)
        return made

    jax.tree_util.register_pytree_with_keys(cls, flatten_with_keys, unflatten, flatten)


# --- compiled loops: `ham` and `descent` are arguments, so another network of the same structure runs the same program ----------------


@functools.partial(jax.jit, static_argnames=("steps", "record", "read"))
def descend(
    ham: Any, xs: dict[str, Any], held: dict[str, Any], descent: Any, memory: Any, *, steps: int, record: str, read: Any
) -> tuple[dict[str, Any], dict[str, Any]]:
    """`steps` steps as one `lax.scan`, and what each left behind."""
    from ._run import record_of

    def body(carry: Any, _: None) -> Any:
        xs, memory = carry
        look = ham.look(xs)
        moved = descent.step(ham, xs, look, held, memory)
        return moved, record_of(ham, xs, look, record, read)

    (xs, _), kept = jax.lax.scan(body, (xs, memory), None, length=steps)
    last = record_of(ham, xs, ham.look(xs), record, read)
    return xs, jax.tree.map(lambda many, one: NAMESPACE.concatenate([many, one[None]]), kept, last)


@functools.partial(jax.jit, static_argnames=("most",))
def settle(
    ham: Any, xs: dict[str, Any], held: dict[str, Any], descent: Any, memory: Any, tolerance: float, most: int
) -> Any:
    """Steps until every sample has settled, as one `lax.while_loop`; a sample that has moves no more."""
    from ._descent import where_samples
    from ._run import Settled, residual

    def goes_on(carry: Any) -> Any:
        _, _, _, left, count = carry
        return (left > tolerance).any() & (count < most)

    def body(carry: Any) -> Any:
        xs, memory, steps, left, count = carry
        moves = left > tolerance
        new, memory = descent.step(ham, xs, ham.look(xs), held, memory)
        xs = where_samples(moves, new, xs)
        return xs, memory, steps + moves, residual(ham.look(xs), held), count + 1

    left = residual(ham.look(xs), held)
    start = (xs, memory, NAMESPACE.zeros(left.shape, int), left, 0)
    xs, _, steps, left, _ = jax.lax.while_loop(goes_on, body, start)
    return Settled(xs, ham.look(xs).energy, steps, left, left <= tolerance)


register()

"""States and clamps as they come from a person, and as a network can use them: the only place where they are checked."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from .._errors import DtypeError, ShapeError, SiteError
from ._array import Array, beside, checked, common_framework, compiling, framework, namespace
from ._descent import States
from ._tree import leaves, with_leaves

if TYPE_CHECKING:
    from ._ham import HAM


def entered(ham: "HAM", xs: Mapping[str, Array]) -> tuple["HAM", States]:
    """The network and states as they can meet: one framework, every layer there, fitting shapes and batch axes.

    **Raises:** `SiteError`, `ShapeError`, `DtypeError`.
    """
    if not isinstance(xs, Mapping):  # pyright: ignore[reportUnnecessaryIsInstance] - people pass lists
        raise SiteError(
            f"HAM: states are a dict by layer, {{{', '.join(map(repr, ham.layers))}}}; got a {type(xs).__name__}."
        )
    for name in xs:
        ham.layer(name)
    missing = [name for name in ham.layers if name not in xs]
    if missing:
        raise SiteError(
            f"HAM: no state for {', '.join(missing)}. Start from ham.init_states(bs) and set the layers you know."
        )
    batches: dict[str, tuple[int, ...]] = {}
    for name, layer in ham.layers.items():
        x, rank = checked(xs[name], name), len(layer.shape)
        lead = x.ndim - rank
        if lead < 0 or tuple(x.shape[lead:]) != layer.shape:
            raise ShapeError(
                f"HAM: a state of {name!r} has shape {layer.shape}, with batch axes in front of it; got {tuple(x.shape)}."
            )
        batches[name] = tuple(x.shape[:lead])
    if len(set(batches.values())) > 1:
        axes = ", ".join(f"{name} has {batch or 'none'}" for name, batch in batches.items())
        raise ShapeError(
            f"HAM: layers disagree about the batch axes: {axes}. "
            "Give every layer the same batch axes, as ham.init_states(bs) does."
        )
    parameters = leaves(ham)
    kind = common_framework(*xs.values(), *parameters.values())
    if kind == "numpy":
        return ham, {name: xs[name] for name in ham.layers}
    example = next(x for x in (*xs.values(), *parameters.values()) if framework(x) == kind)
    foreign = {
        path: beside(p, example) for path, p in parameters.items() if kind == "torch" and framework(p) == "numpy"
    }
    moved = with_leaves(ham, foreign) if foreign else ham
    states = {name: beside(xs[name], example) for name in ham.layers}
    if kind == "torch":
        _check_one_type(states, {path: foreign.get(path, p) for path, p in parameters.items()})
    return moved, states


def held(ham: "HAM", clamp: Any, xs: States) -> States:
    """A clamp as boolean arrays, True where a unit keeps its state.

    **Arguments:** `clamp` None, the name of a layer or several, or a dict of masks by layer: True for the whole layer, or an array of the
    layer's shape, or of the state's.
    **Raises:** `SiteError`, `ShapeError`, `DtypeError`.
    """
    if clamp is None:
        return {}
    asked: dict[str, Any]
    if isinstance(clamp, Mapping):
        asked = dict(cast("Mapping[str, Any]", clamp))
    else:
        asked = dict.fromkeys([clamp] if isinstance(clamp, str) else cast("Sequence[str]", clamp), True)
    made: States = {}
    for name, mask in asked.items():
        shape = ham.layer(name).shape
        xp = namespace(xs[name])
        if isinstance(mask, bool):
            mask = np.full(shape, mask)
        if isinstance(mask, str):
            raise SiteError(
                f"clamp: the mask of {name!r} is the name {mask!r}, which only a retrieval takes from its batch. Give the mask itham."
            )
        if not compiling() and not any(kind in str(mask.dtype) for kind in ("bool", "int")):
            raise DtypeError(
                f"clamp: the mask of {name!r} holds {mask.dtype}; it must hold True where a unit keeps its state, for example mask > 0.5."
            )
        if framework(mask) == "numpy":
            mask = beside(mask.astype(bool), xs[name])
        if tuple(mask.shape) not in (shape, tuple(xs[name].shape)):
            raise ShapeError(
                f"clamp: the mask of {name!r} has shape {tuple(mask.shape)}; it must be {shape}, or {tuple(xs[name].shape)} with one a sample."
            )
        made[name] = xp.asarray(mask, dtype=xp.bool)
    return made


def _check_one_type(states: States, parameters: Mapping[str, Any]) -> None:
    """PyTorch multiplies only arrays of one type.

    **Raises:** `DtypeError` with the names, where it would fail in the middle.
    """
    types = {f"the state of {name}": str(x.dtype) for name, x in states.items()}
    types |= {path: str(p.dtype) for path, p in parameters.items() if framework(p) and p.ndim}
    if len(set(types.values())) > 1:
        raise DtypeError(
            f"HAM: PyTorch does not mix types, and {', '.join(f'{name} is {t}' for name, t in types.items())}. "
            "Give states and parameters one type, for example x.float(), or Module(ham, dtype=torch.float64)."
        )

"""Arrays of NumPy, PyTorch and JAX behind one namespace: the only file here that asks which of them an array is."""

import sys
from typing import Any, cast

import array_api_compat.numpy as numpy_namespace
import numpy as np
from numpy.typing import NDArray

from .._errors import DtypeError

Array = Any
"""An array of NumPy, PyTorch or JAX; inside `jit`, `vmap`, `grad` and `torch.compile` the tracer that stands for one."""


NUMPY = (np.ndarray, np.generic)
PLAIN = (int, float)

KINDS: dict[type, str] = {np.ndarray: "numpy", int: "", float: ""}
"""The framework of types that are met at every step; `torch.py` adds its own."""


def framework(array: Array) -> str:
    """ "numpy", "torch", "jax", or "" for a plain number; frameworks are recognised, never imported.

    **Raises:** `DtypeError` for anything else.
    """
    kind = KINDS.get(cast("type[Any]", type(array)))
    return _recognised(array) if kind is None else kind


def _recognised(array: Array) -> str:
    if isinstance(array, NUMPY):
        return "numpy"
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(array, torch.Tensor):
        return "torch"
    jax = sys.modules.get("jax")
    if jax is not None and isinstance(array, jax.Array):
        return "jax"
    if isinstance(array, PLAIN):
        return ""
    raise DtypeError(
        f"energy: expected an array of NumPy, PyTorch or JAX, got a {type(array).__module__}.{type(array).__qualname__}. "
        "Wrap it, for example np.asarray(x, float)."
    )


def compiling() -> bool:
    """Whether `torch.compile` is reading the code, which cannot ask NumPy arrays for their type."""
    torch = sys.modules.get("torch")
    return torch is not None and torch.compiler.is_compiling()


def common_framework(*arrays: Array) -> str:
    """The framework that all `arrays` can meet in: NumPy arrays and numbers go along with either of the others.

    **Raises:** `DtypeError` where PyTorch meets JAX.
    """
    met = "numpy"
    for array in arrays:
        kind = framework(array)
        if kind in ("torch", "jax"):
            if met not in ("numpy", kind):
                raise DtypeError(
                    "energy: some arrays are PyTorch tensors and some are JAX arrays. Convert one side: torch.from_numpy(np.array(x)), "
                    "or jnp.asarray(x.detach().cpu().numpy())."
                )
            met = kind
    return met


def namespace(*arrays: Array) -> Any:
    """The array-API namespace that `arrays` obey."""
    kind = framework(arrays[0]) if len(arrays) == 1 else common_framework(*arrays)
    return NAMESPACES.get(kind) or _found(kind)


NAMESPACES: dict[str, Any] = {"numpy": numpy_namespace, "": numpy_namespace}
"""The namespaces that were asked for so far; small networks ask many times a step."""


def _found(kind: str) -> Any:
    if kind == "torch":
        from .torch import NAMESPACE as found
    else:
        from .jax import NAMESPACE as found
    NAMESPACES[kind] = found
    return found


def beside(value: Array, array: Array) -> Array:
    """A NumPy `value` where `array` lives: its framework, device and float type; what is there already stays as it is."""
    if framework(value) in ("", framework(array)):
        return value
    xp = namespace(array)
    made = xp.asarray(value, device=array.device) if framework(array) == "torch" else xp.asarray(value)
    return xp.astype(made, array.dtype) if "float" in str(made.dtype) else made


def numbers(value: Array) -> NDArray[Any] | None:
    """The values of a number or array on the host, floats in float64; None while a compiler traces them."""
    match framework(value):
        case "torch":
            from .torch import on_the_host

            return on_the_host(value)
        case "jax":
            from .jax import on_the_host

            return on_the_host(value)
        case _:
            known: NDArray[Any] = np.asarray(value)
            return known.astype(np.float64) if known.dtype.kind == "f" else known


AXES = [tuple(range(-rank, 0)) for rank in range(64)]
"""The last axes, by their number."""


def total(values: Array, rank: int | None) -> Array:
    """The sum over the last `rank` axes, which are one state; over all axes where rank is None.  Batch axes stay."""
    if rank == 0 or values.ndim == 0:
        return values
    if rank == 1 and values.shape[-1] == 1:  # a Lagrangian that reduces its axis itself
        return values[..., 0]
    return namespace(values).sum(values, axis=None if rank is None else AXES[rank])


def checked(array: Array, what: str = "energy") -> Array:
    """The array itself, if it is one of floats.

    **Raises:** `DtypeError` for integers, which no energy moves, and for what is no array.
    """
    framework(array)
    name = str(getattr(array, "dtype", type(array).__name__))
    if "float" not in name:
        raise DtypeError(f"{what}: a neuron state is an array of floats, got {name}. Convert it: x.astype(float).")
    return array

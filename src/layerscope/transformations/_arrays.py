"""The few operations of array libraries that transformations need, so that each formula stands once.

Inputs are transformed in PyTorch where they are its tensors, and in NumPy else.  Outputs of layers are taken back where they are: in
PyTorch, in NumPy, or inside a program of JAX or TensorFlow while it is traced.
"""

import sys
from collections.abc import Mapping, Sequence
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray


def is_torch(x: Any) -> bool:
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(x, torch.Tensor)


def is_array(x: Any) -> bool:
    return hasattr(x, "shape") and hasattr(x, "dtype") and not isinstance(x, np.generic)


def traced(x: Any) -> Any | None:
    """The array namespace of a value inside a program of JAX or TensorFlow that is being traced; None for what has values now."""
    jax, tensorflow = sys.modules.get("jax"), sys.modules.get("tensorflow")
    if jax is not None and isinstance(x, jax.core.Tracer):
        return jax.numpy
    if tensorflow is not None and tensorflow.is_symbolic_tensor(x):
        return tensorflow.experimental.numpy
    return None


def ready(x: Any) -> Any:
    """A PyTorch tensor or a traced value as it is, any other array in NumPy."""
    return x if is_torch(x) or traced(x) is not None else np.asarray(x)


def namespace(x: Any) -> Any:
    """The array namespace: that of PyTorch for its tensors, of the program for traced values, NumPy for all else."""
    if not is_torch(x):
        return traced(x) or np
    from array_api_compat import array_namespace

    return array_namespace(x)


def copied(x: Any) -> Any:
    """A batch whose arrays, also in mappings and sequences, may be changed in place; arrays that nobody can change stay as they are."""
    if isinstance(x, Mapping):
        parts = cast(Mapping[Any, Any], x)
        return {key: copied(parts[key]) for key in parts}
    if isinstance(x, list | tuple):
        kind = cast(Any, type)(x)
        items = [copied(item) for item in cast(Sequence[Any], x)]
        return kind(*items) if hasattr(kind, "_fields") else kind(items)
    if is_torch(x):
        return x.clone()
    copy = getattr(x, "copy", None)  # pictures have one too
    return copy() if callable(copy) and (isinstance(x, np.ndarray) or not is_array(x)) else x


def transposed(x: Any, order: Sequence[int]) -> Any:
    """The array with its axes in another order."""
    return x.permute(*order) if is_torch(x) else namespace(x).transpose(x, tuple(order))


def beside(x: Any, values: NDArray[Any]) -> Any:
    """A NumPy array as an array of the kind and device of `x`."""
    return namespace(x).asarray(values, device=x.device) if is_torch(x) else values


def is_whole(x: Any) -> bool:
    """Whether it holds integers or truth values."""
    return not any(kind in str(x.dtype) for kind in ("float", "complex"))


def real(x: Any) -> Any:
    """Values to compute with: floats as they are, all else in float32."""
    return namespace(x).asarray(x, dtype=namespace(x).float32) if is_whole(x) else x


def like(y: Any, x: Any) -> Any:
    """Computed values in the type of `x`: rounded and clipped to its range where it holds integers, as image files are."""
    xp = namespace(x)
    if y.dtype == x.dtype:
        return y
    if is_whole(x):
        limits = (0, 1) if "bool" in str(x.dtype) else _limits(x)
        y = xp.clip(xp.round(y), limits[0], limits[1])
    return xp.asarray(y, dtype=x.dtype)


def _limits(x: Any) -> tuple[int, int]:
    info = namespace(x).iinfo(x.dtype)
    return int(info.min), int(info.max)


def join(pieces: Sequence[Any]) -> Any:
    """T transformed batches as one batch in which every sample comes T times in a row."""
    xp = namespace(pieces[0])
    together = xp.stack(list(pieces), axis=1)
    return xp.reshape(together, (-1, *together.shape[2:]))


def to_host(x: Any) -> NDArray[Any]:
    return x.detach().cpu().numpy() if is_torch(x) else np.asarray(x)

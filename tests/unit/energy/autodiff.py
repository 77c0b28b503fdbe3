"""Automatic differentiation in float64 as the oracle of the closed forms, by PyTorch or by JAX."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.conftest import require

FRAMEWORKS = [pytest.param("torch", marks=pytest.mark.torch), pytest.param("jax", marks=pytest.mark.jax)]
ALL = ["numpy", *FRAMEWORKS]


@contextmanager
def double(framework: str) -> Iterator[None]:
    """A block in which the framework knows float64."""
    if framework == "jax":
        with require("jax").enable_x64(True):
            yield
    else:
        if framework != "numpy":
            require(framework)
        yield


def array(framework: str, x: Any) -> Any:
    """`x` as an array of the framework, in float64 (inside `double`)."""
    x = np.array(x, np.float64)
    if framework == "torch":
        return require("torch").tensor(x)
    return require("jax").numpy.asarray(x) if framework == "jax" else x


def host(x: Any) -> NDArray[Any]:
    """An array of any framework as NumPy."""
    return np.asarray(x.detach() if hasattr(x, "detach") else x)


def compiled(framework: str, f: Callable[..., Any]) -> Callable[..., Any]:
    """`f` compiled by JAX, which would else compile every operation alone; unchanged elsewhere."""
    return require("jax").jit(f) if framework == "jax" else f


def gradient(framework: str, f: Callable[[Any], Any], x: Any) -> NDArray[Any]:
    """∇f at x, for f that gives one number."""
    if framework == "torch":
        torch = require("torch")
        leaf = torch.tensor(np.array(x), dtype=torch.float64, requires_grad=True)
        result = f(leaf)
        if not result.requires_grad:  # f does not depend on x
            return np.zeros(np.shape(x))
        return torch.autograd.grad(result, leaf, materialize_grads=True)[0].numpy()
    jax = require("jax")
    with double("jax"):
        return np.asarray(jax.jit(jax.grad(f))(array("jax", x)))


def hessian(framework: str, f: Callable[[Any], Any], x: Any) -> NDArray[Any]:
    """∇²f at x (n,), for f that gives one number."""
    if framework == "torch":
        torch = require("torch")
        return torch.autograd.functional.hessian(f, torch.tensor(np.array(x), dtype=torch.float64)).numpy()
    jax = require("jax")
    with double("jax"):
        return np.asarray(jax.jit(jax.hessian(f))(array("jax", x)))

"""Energy layers with PyTorch: a network as an `nn.Module` whose parameters any optimiser takes."""

from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

import array_api_compat.torch as NAMESPACE
import numpy as np
import torch
from numpy.typing import NDArray

from ._array import KINDS, numbers
from ._descent import AbstractDescent
from ._ham import HAM
from ._tree import leaves, with_leaves

__all__ = ["NAMESPACE", "Module", "draw", "on_the_host"]


KINDS[torch.Tensor] = KINDS[torch.nn.Parameter] = "torch"


def on_the_host(value: torch.Tensor) -> NDArray[Any]:
    """The values of a tensor, in float64 where they are real."""
    value = value.detach().cpu()
    return np.asarray((value.double() if value.is_floating_point() else value).numpy())


def draw(generator: torch.Generator, shape: tuple[int, ...], like: torch.Tensor | None = None) -> torch.Tensor:
    """Standard normal numbers on the generator's device, of PyTorch's default type or that of `like`."""
    return torch.randn(shape, generator=generator, device=generator.device, dtype=None if like is None else like.dtype)


class Module(torch.nn.Module):
    """A network with an energy as a PyTorch module: its parameters are registered, so optimisers, `state_dict`, `.to()` and `torch.compile` know it.

    `forward(xs, steps)` descends and gives the states; `module.ham` is the network with the parameters as they are now, for everything else.

    **Arguments:** `ham`; `fixed` patterns of paths that are no parameters, such as "layers.*.beta" or "synapses.W.*": they become buffers;
    `dtype` of the parameters, by default that of PyTorch.
    """

    def __init__(self, ham: HAM, fixed: Sequence[str] = (), dtype: torch.dtype | None = None) -> None:
        torch.nn.Module.__init__(self)
        dtype = dtype or torch.get_default_dtype()
        self._paths: dict[str, str] = {}
        for path, value in leaves(ham).items():
            name = path.replace(".", "__")  # a name of PyTorch has no dot
            known = numbers(value)
            tensor = (
                value.detach() if isinstance(value, torch.Tensor) else torch.as_tensor(np.array(known), dtype=dtype)
            )
            if any(fnmatchcase(path, pattern) for pattern in fixed):
                self.register_buffer(name, tensor.clone())
            else:
                self.register_parameter(name, torch.nn.Parameter(tensor.clone()))
            self._paths[path] = name
        self._structure = with_leaves(ham, dict.fromkeys(self._paths, 0.0))

    @property
    def ham(self) -> HAM:
        """The network with this module's parameters."""
        return with_leaves(self._structure, {path: getattr(self, name) for path, name in self._paths.items()})

    def forward(
        self, xs: Mapping[str, torch.Tensor], steps: int = 10, descent: AbstractDescent | float = 0.1, clamp: Any = None
    ) -> dict[str, torch.Tensor]:
        """The states after `steps` steps."""
        return self.ham.run(xs, steps, descent, clamp, "nothing").states

    def energy(self, xs: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """The energy of states, (*batch)."""
        return self.ham.energy(xs)

    def extra_repr(self) -> str:
        return repr(self.ham)

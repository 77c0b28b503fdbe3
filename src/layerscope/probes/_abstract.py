"""What a probe is: it runs a model, or watches the user's own calls, and reads activations inside the forward pass."""

import abc
import sys
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Any, Self, TypeVar

from .._errors import SiteError
from .._site import Activations
from ..inventory import Layer, Layers

R = TypeVar("R")
Read = Callable[[Layer, Activations], Any]
"""What is done with an activation while it is there: usually the `read` of the tallies that want it."""


class AbstractProbe(abc.ABC):
    """A model of some framework, ready to be read; a context manager that leaves the model as it was.

    Inside it the model is in evaluation mode on the asked device; on exit mode, device, random state and hooks are as before, also
    after an exception.
    """

    @abc.abstractmethod
    def __enter__(self) -> Self: ...

    @abc.abstractmethod
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    @abc.abstractmethod
    def describe(self, batch: Any, inputs: bool = False) -> Layers:
        """All sites of the model as one forward of a small batch shows them, with the default choice made; `inputs` lists those too."""

    @abc.abstractmethod
    def run(self, batch: Any, layers: tuple[Layer, ...], read: Read) -> tuple[Any, Mapping[Layer, Any]]:
        """One forward of a batch: the model's output for its real samples, and what `read` gave at each of `layers`."""

    @abc.abstractmethod
    def watch(
        self,
        early: Callable[[Layer], Layer | None],
        choose: Callable[[Layers, bool], Layers],
        read: Read,
        sink: Callable[[Layer, Any], None],
        inputs: bool = False,
    ) -> AbstractContextManager[None]:
        """Read the user's own calls while the context lasts.

        `choose` is asked whenever a forward has shown sites that were not known, and told whether the whole model ran; what such a forward shows is read at once where `early`
        gives the layer as it would be read, None where it cannot be chosen. `sink` gets what was read when a forward is through.
        """

    @abc.abstractmethod
    def untrained(self, seed: int = 0) -> "AbstractProbe":
        """The same network with freshly initialised parameters: what the numbers are without training."""

    @abc.abstractmethod
    def fingerprint(self) -> str:
        """A digest of all parameters and buffers: whether two runs measured the same network."""

    @abc.abstractmethod
    def facts(self) -> dict[str, Any]:
        """What belongs into the manifest: framework, version, device, dtype, parameters."""


def probe_for(
    model: Any, *, device: Any = None, amp: str | None = None, forward: Callable[..., Any] | None = None
) -> AbstractProbe:
    """The probe of the framework a model belongs to, recognised without importing any.

    **Raises:** `SiteError` for anything that is no model of a supported framework.
    """
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(model, torch.nn.Module):
        from .torch import TorchProbe

        return TorchProbe(model, device=device, amp=amp, forward=forward)
    kind = f"{type(model).__module__}.{type(model).__qualname__}"
    raise SiteError(
        f"layerscope was given a {kind} as the model. It measures PyTorch modules (torch.nn.Module, also compiled ones). "
        "Pass the module itself; for a plain function, wrap it in a module's forward."
    )

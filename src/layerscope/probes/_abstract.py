"""What a probe is: it runs a model, or watches the user's own calls, and reads activations inside the forward pass."""

import abc
import sys
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Any, Self, TypeVar

from .._errors import SiteError
from .._site import Activations, Chunk
from ..inventory import Layer, Layers

R = TypeVar("R")
Read = Callable[[Layer, Activations], Mapping[Any, Chunk]]
"""What is done with an activation while it is there: usually the `read` of the tallies that want it, by tally.

Where a forward is compiled it is called once, while the program is traced, and the arrays of its chunks become outputs of the program.
"""


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
    def run(self, batch: Any, layers: tuple[Layer, ...], read: Read) -> tuple[Any, Mapping[Layer, Mapping[Any, Chunk]]]:
        """One forward of a batch: the model's output for its real samples, and what `read` gave at each of `layers`."""

    @abc.abstractmethod
    def watch(
        self,
        early: Callable[[Layer], Layer | None],
        choose: Callable[[Layers, bool], Layers],
        read: Read,
        sink: Callable[[Layer, Mapping[Any, Chunk]], None],
        inputs: bool = False,
    ) -> AbstractContextManager[None]:
        """Read the user's own calls while the context lasts.

        `choose` is asked whenever a forward has shown sites that were not known, and told whether the whole model ran; what such a forward shows is read at once where `early`
        gives the layer as it would be read, None where it cannot be chosen. `sink` gets what was read when a forward is through.
        """

    def place(self, inputs: Any) -> Any:
        """An array of inputs where the model is, so that it can be transformed there; as it is where the framework places it itself."""
        return inputs

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
    model: Any,
    *,
    device: Any = None,
    amp: str | None = None,
    forward: Callable[..., Any] | None = None,
    params: Any = None,
) -> AbstractProbe:
    """The probe of the framework a model belongs to, recognised without importing any.

    Keras before PyTorch: on that backend a Keras model is a module of PyTorch too.
    **Raises:** `SiteError` for anything that is no model of a supported framework.
    """
    keras, torch = sys.modules.get("keras"), sys.modules.get("torch")
    energy = sys.modules.get("layerscope.energy")
    if energy is not None and isinstance(model, energy.Retrieval):
        _check_no_params("a retrieval", params)
        from .energy import EnergyProbe

        return EnergyProbe(model, device=device, amp=amp, forward=forward)
    if energy is not None and isinstance(model, energy.HAM):
        raise SiteError(
            "layerscope was given a HAM, which has no forward: say what it shall do with a batch.\n"
            "    wrong: ls.examine(ham, data)\n"
            "    right: ls.examine(ham.retrieval(clamp=None, steps=10, read='g'), data)"
        )
    if keras is not None and isinstance(model, keras.Layer):
        _check_no_params("a Keras model", params)
        from .keras import KerasProbe

        return KerasProbe(model, device=device, amp=amp, forward=forward)
    if torch is not None and isinstance(model, torch.nn.Module):
        _check_no_params("a PyTorch module", params)
        from .torch import TorchProbe

        return TorchProbe(model, device=device, amp=amp, forward=forward)
    if any(kind.__module__.partition(".")[0] == "tf_keras" for kind in type(model).__mro__):
        raise SiteError(
            "layerscope was given a model of Keras 2 (tf_keras), and measures those of Keras 3. Save it, model.save('model.keras'), load it with "
            "keras.models.load_model('model.keras'), and unset TF_USE_LEGACY_KERAS."
        )
    if "jax" in sys.modules and callable(model):
        from .jax import JaxProbe

        return JaxProbe(model, device=device, amp=amp, forward=forward, params=params)
    kind = f"{type(model).__module__}.{type(model).__qualname__}"
    raise SiteError(
        f"layerscope was given a {kind} as the model. It measures PyTorch modules (also compiled ones), Keras models, Flax and Equinox "
        "modules, retrievals of a HAM, and JAX functions with ls.tap. Pass the model itself; for a plain function of PyTorch, wrap it in a module's forward."
    )


def _check_no_params(kind: str, params: Any) -> None:
    if params is not None:
        raise SiteError(
            f"params=: {kind} holds its own parameters. Leave params= out; it is for Flax Linen modules and JAX functions."
        )

"""Networks as a whole: probes on a model, network efficiency, artificial intelligence quotient."""

import os
import sys
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ... import measures
from ..._errors import DataError, EmptyTally, SiteError
from .Layers import AbstractStateCapture as AbstractStateCapture
from .Layers import StateCaptureHook as StateCaptureHook
from .Layers import __getattr__ as __getattr__

METHODS = ("before", "after", "both")


def entropy(counts: ArrayLike, alpha: float = 1) -> float:
    """Rényi entropy of order `alpha` in bits: 1 Shannon's, 0 log2 of how many states, inf −log2 of the largest share.

    **Raises:** `EmptyTally` where there is no count, `ValueError` for a negative one or α < 0.

    >>> entropy([4, 2, 1, 1])
    1.75
    """
    return measures.entropy(counts, alpha)


def aIQ(net_efficiency: float, accuracy: float, weight: int | np.integer[Any]) -> float:
    """Artificial intelligence quotient: (accuracy^weight · efficiency)^(1 / (weight + 1)).

    **Raises:** `ValueError` for a weight that is no integer ≥ 1.

    >>> aIQ(0.5, 0.98, 2)
    0.7830822594569777
    """
    return measures.aiq(net_efficiency, accuracy, weight)  # pyright: ignore[reportArgumentType] - checked there


class ZeroEfficiency(float):
    """The network efficiency 0.0, which remembers whose fault it is: `note` names the layers of efficiency 0, and it prints so."""

    note: str

    def __new__(cls, note: str) -> "ZeroEfficiency":
        zero = float.__new__(cls, 0.0)
        zero.note = note
        return zero

    def __repr__(self) -> str:
        return f"0.0 ({self.note})"

    def __reduce__(self) -> Any:
        return ZeroEfficiency, (self.note,)


def network_efficiency(efficiencies: Any) -> float:
    """Geometric mean of the layers' efficiencies: of a sequence, an array, or a model with probes.

    A layer of efficiency 0 makes it 0.0; that number is a `ZeroEfficiency`, whose `note` (and print) names the layer. Layers that
    saw too little data are not left out, as in the original; `ls.examine` says which they are.
    **Raises:** `EmptyTally` where there is nothing, or a layer has seen nothing; `DataError` for values that are no efficiencies.

    >>> network_efficiency([0.25, 1.0])
    0.5
    >>> network_efficiency([0.5, 0.0])
    0.0 (efficiency 0 at entry 1, counted from 0)
    """
    if _is_model(efficiencies):
        probes = efficiency_layers(efficiencies, "network_efficiency")
        idle = [probe.name for probe in probes if not probe.state_count]
        if idle:
            raise EmptyTally(
                f"network_efficiency: {', '.join(idle)} captured nothing yet. Run data through the model first; a layer that never runs "
                "in the forward pass is left out with exclude=."
            )
        values = np.array([probe.efficiency() for probe in probes])
        names = [probe.name for probe in probes]
    else:
        values = _numbers(efficiencies)
        names = [f"entry {k}, counted from 0" for k in range(len(values))]
    zero = [name for name, value in zip(names, values, strict=True) if value == 0]
    return ZeroEfficiency(f"efficiency 0 at {'; '.join(zero)}") if zero else measures.geometric_mean(values)


def _numbers(efficiencies: Any) -> NDArray[np.float64]:
    if not isinstance(efficiencies, Iterable):
        raise DataError(
            f"network_efficiency: {efficiencies!r} is no model with probes and no sequence of efficiencies. Give one of these."
        )
    flat: Any = efficiencies.ravel() if isinstance(efficiencies, np.ndarray) else efficiencies
    values = np.array([float(each) for each in flat])
    if not values.size:
        raise EmptyTally("network_efficiency: there is no efficiency to take the mean of. Give at least one.")
    bad = [f"{value!r} (entry {k})" for k, value in enumerate(values.tolist()) if not 0 <= value < np.inf]
    if bad:
        raise DataError(
            f"network_efficiency: efficiencies are numbers ≥ 0, but there is {', '.join(bad)}. Look at that layer."
        )
    return values


def build_efficiency_model(
    model: Any,
    attach_to: Sequence[str],
    exclude: Sequence[str] = (),
    method: str = "after",
    storage_path: str | os.PathLike[str] | None = None,
) -> Any:
    """Put a probe on every layer asked for; the probes are in `efficiency_layers` of the model that is returned.

    For PyTorch that is the model itself, with hooks. For Keras it is a new model that shares the weights and predicts the same; the one
    given stays as it is and counts nothing.

    **Arguments:** `attach_to`, `exclude` class names ("Conv2d", in Keras "Conv2D") or layer names ("features.0"; in Keras "conv_1", or
    "backbone.conv_1" for one inside a layer), exclude wins; `method` "after" captures outputs, "before" inputs, "both" both;
    `storage_path` keeps the raw states on disk, `<storage_path>/tensor_states/<probe>.zarr`.
    A probe is called `<layer>_post_states` or `<layer>_pre_states`. A layer that runs twice in a forward fills its one probe twice.
    Building again replaces the probes of before on PyTorch (never hooks of yours), and gives one more model in Keras;
    `detach_efficiency_model` takes them off. A copy of a PyTorch model (`deepcopy`, `torch.save`) has no live probes: build again on it.
    **Raises:** `SiteError` for names that are not there, listing what is, and for Keras models not built yet; `DataError` for an unknown
    method and for files that exist. Nothing is changed then.
    """
    if method not in METHODS:
        raise DataError(f"build_efficiency_model: method={method!r} is none of {', '.join(map(repr, METHODS))}.")
    if _is_keras(model):
        from .keras import build
    elif _is_torch(model):
        from .torch import build
    else:
        raise SiteError(_no_model(model))
    return build(model, _names(attach_to, "attach_to"), _names(exclude, "exclude"), method, storage_path)


def reset_efficiency_model(model: Any) -> None:
    """All probes of a model back to zero, also those that have seen nothing yet."""
    for probe in efficiency_layers(model, "reset_efficiency_model"):
        probe.reset_states()


def detach_efficiency_model(model: Any) -> list[AbstractStateCapture]:
    """Take the probes off a model, and nothing else: its own hooks stay.  Gives the probes, which keep what they saw.

    A model without probes is left as it is, and so are `StateCapture` layers in a Keras model: they are part of it.
    """
    if _is_keras(model):
        from .keras import detach
    elif _is_torch(model):
        from .torch import detach
    else:
        raise SiteError(_no_model(model))

    return detach(model)


def efficiency_layers(model: Any, asked: str) -> list[AbstractStateCapture]:
    """The probes of a model, also those placed in a Keras model by hand, or a `SiteError` where it has none."""
    probes = getattr(model, "efficiency_layers", None)
    if not probes and _is_keras(model):
        from .keras import placed

        probes = placed(model)
    if not probes:
        raise SiteError(
            f"{asked}: this {type(model).__name__} has no probes (a PyTorch model that was saved and loaded has none either). Attach them "
            f"first: build_efficiency_model(model, attach_to=['{'Conv2D' if _is_keras(model) else 'Conv2d'}'])."
        )
    return list(probes)


def _names(names: Any, argument: str) -> tuple[str, ...]:
    if isinstance(names, str):
        return (names,)
    each: tuple[Any, ...] = tuple(names) if isinstance(names, Iterable) else (names,)
    if not all(isinstance(name, str) for name in each):
        raise SiteError(
            f"build_efficiency_model: {argument}={names!r} must be names of classes or layers.\n    right: {argument}=['Conv2d', 'fc.0']"
        )
    return each


def _is_keras(model: Any) -> bool:
    keras = sys.modules.get("keras")
    return keras is not None and isinstance(model, getattr(keras, "Model", ()))


def _is_torch(model: Any) -> bool:  # Keras models on its torch backend are modules too: ask `_is_keras` first
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(model, torch.nn.Module)


def _is_model(value: Any) -> bool:
    return _is_keras(value) or _is_torch(value) or hasattr(value, "efficiency_layers")


def _no_model(model: Any) -> str:
    kind = f"{type(model).__module__}.{type(model).__qualname__}"
    return f"build_efficiency_model: {kind} is no model. Give a torch.nn.Module or a keras.Model."

"""A model of some JAX library as a function of its parameters, with a tap at every call of a layer."""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from ..inventory._graph import Kind

Call = Callable[[Any, tuple[Any, ...], dict[str, Any]], Any]

INFERENCE = {
    "train": False,
    "training": False,
    "is_training": False,
    "deterministic": True,
    "inference": True,
    "use_running_average": True,
}
"""How a call says that it is no training step, in all JAX libraries."""


@dataclass(frozen=True)
class Net:
    """What a probe runs.

    **Fields:** `library` and its `version`; `model` the user's object by name; `parameters` a tree of arrays; `call` (parameters, args,
    kwargs) → output; `mapped` whether it takes one sample; `only_taps` whether it has no layers but the user's taps; `fresh` gives other
    parameters for a seed and a batch, None where nobody knows how they start.
    """

    library: str
    version: str
    model: str
    parameters: Any
    call: Call
    mapped: bool = False
    only_taps: bool = False
    fresh: Callable[[int, tuple[Any, ...], dict[str, Any]], Any] | None = None


def kind_of(cls: type, root: type, library: str, does: Mapping[str, str], unit: int | None) -> Kind:
    """What a class of layers is: a step of the library's own where nobody has overridden its call.

    `root` the library's base class; `does` the functions of `_operations` by the names of the classes that define a call; `unit` axis of
    the output, counted from the end.
    """
    ours = cls.__mro__[: cls.__mro__.index(root)]
    bases = tuple(f"{each.__module__}.{each.__qualname__}" for each in ours)
    author = next((each for each in ours if "__call__" in vars(each)), cls)
    step = does.get(author.__name__, "") if author.__module__.startswith(library) else ""
    args = (None, None, False) if step == "dropout" else ()  # in evaluation nothing is dropped
    return Kind(cls.__name__, bases, step, unit=unit if step else None, args=args)


def in_evaluation(call: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """The named arguments of a call, and those that say that it is no training step, where it takes them and the data does not."""
    try:
        signature = inspect.signature(call)
        given = signature.bind_partial(*args, **kwargs).arguments
    except (TypeError, ValueError):  # the call itself says better what is wrong
        return dict(kwargs)
    further: dict[str, Any] = {
        name: INFERENCE[name] for name in signature.parameters if name in INFERENCE and name not in given
    }
    key = signature.parameters.get("key")
    if key is not None and key.default is key.empty and "key" not in given:
        further["key"] = None  # randomness of training
    return {**kwargs, **further}


def inputs_of(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    """What the `forward` of a `Data` is given besides the model."""
    return dict(kwargs) if kwargs else args[0] if len(args) == 1 else args

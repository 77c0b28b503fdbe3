"""The three nets in every framework, as tests ask for them: how each is made, given a batch, and called."""

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from layerscope.testing import models
from tests.conftest import require


@dataclass(frozen=True)
class Framework:
    """A column of the parity table.

    **Fields:** `name` of the library and of the style a net is written in; `module` of `layerscope.testing.models`; `mark` of its tests;
    `make` the function there that makes a net, with `{}` for the net's name; `nets` there are; `options` of making a net and of
    giving it a batch.
    """

    name: str
    module: str
    mark: str
    make: str = "{}"
    nets: tuple[str, ...] = models.NETS
    options: tuple[tuple[str, str], ...] = ()

    def build(self, net: str, weights: Any) -> Any:
        """The model with these weights; skips the test where the framework is not installed."""
        return getattr(self._models(), self.make.format(net))(weights, **dict(self.options))

    def given(self, batch: Any) -> Any:
        """One NumPy batch in the layout of this framework."""
        return self._models().given(batch, **dict(self.options))

    def call(self, model: Any, given: Any) -> NDArray[np.float32]:
        """The logits of a model's own call."""
        return _CALLS[self.name.partition(",")[0]](model, given)

    def asked(self, model: Any) -> tuple[Any, dict[str, Any]]:
        """The model and the further arguments that `ls.examine` and its like need for this framework."""
        return (model[0], {"params": model[1]}) if self.name == "flax.linen" else (model, {})

    def _models(self) -> Any:
        require(self.module)
        return import_module(f"layerscope.testing.models.{self.module}")


def _torch(model: Any, given: Any) -> Any:
    with require("torch").no_grad():
        return (model(**given) if isinstance(given, dict) else model(given)).numpy()


def _keras(model: Any, given: Any) -> Any:
    return require("keras").ops.convert_to_numpy(model(given, training=False))


def _nnx(model: Any, given: Any) -> Any:
    return np.asarray(model(**given) if isinstance(given, dict) else model(given))


def _linen(model: Any, given: Any) -> Any:
    module, variables = model
    return np.asarray(module.apply(variables, **given) if isinstance(given, dict) else module.apply(variables, given))


def _equinox(model: Any, given: Any) -> Any:
    batched = require("jax").vmap(model)
    return np.asarray(
        batched(given["input_ids"], given["attention_mask"]) if isinstance(given, dict) else batched(given)
    )


_CALLS: dict[str, Callable[[Any, Any], Any]] = {
    "torch": _torch,
    "keras": _keras,
    "flax.nnx": _nnx,
    "flax.linen": _linen,
    "equinox": _equinox,
}

FRAMEWORKS = (
    Framework("torch", "torch", "torch"),
    Framework("keras", "keras", "keras"),
    Framework("keras, channels first", "keras", "keras", nets=("lenet",), options=(("data_format", "channels_first"),)),
    Framework("keras, subclassed", "keras", "keras", "{}_subclassed", nets=("residual",)),
    Framework("flax.nnx", "flax", "jax"),
    Framework("flax.linen", "flax", "jax", "linen_{}"),
    Framework("equinox", "equinox", "jax"),
)

# Keras 3.15 turns torch tensors into NumPy arrays in a way that NumPy 2 has deprecated.
KERAS_ON_TORCH = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")


def marks(framework: Framework) -> list[Any]:
    """What `pytest -m` selects the tests of a framework by."""
    mark = getattr(pytest.mark, framework.mark)
    return [mark, KERAS_ON_TORCH] if framework.mark == "keras" else [mark]


CASES = [
    pytest.param(framework, net, id=f"{framework.name}-{net}", marks=marks(framework))
    for framework in FRAMEWORKS
    for net in framework.nets
]

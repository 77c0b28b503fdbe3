"""Transformations of your own: any callable from batch to batch, and random ones with their draws frozen."""

import random
import sys
from collections.abc import Callable, Generator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from .._errors import DataError
from ._abstract import AbstractTransformation, Frame
from ._arrays import is_torch


@dataclass(frozen=True)
class Custom(AbstractTransformation):
    """Any callable from a raw batch to a batch of the same form: arrays, texts, dicts; rows in, as many rows out, in order.

    **Arguments:** `function`; `back` batch → batch, its inverse, where there is one; `on_layer` (values, axes of its positions) → values,
    which takes back what the transformation did to a layer's output, samples along axis 0; `title` its name in tables.
    **Beware:** two are equal when their functions are the same object.
    """

    function: Callable[[Any], Any]
    back: Callable[[Any], Any] | None = None
    on_layer: Callable[[Any, tuple[int, ...]], Any] | None = None
    title: str = ""

    def __post_init__(self) -> None:
        for what in ("function", "back", "on_layer"):
            given = getattr(self, what)
            if not callable(given) and (what == "function" or given is not None):
                raise DataError(f"Custom: {what}={given!r} cannot be called. Give a function of a batch.")

    @property
    def name(self) -> str:
        return self.title or getattr(self.function, "__name__", type(self.function).__name__)

    def apply(self, x: Any, frame: Frame) -> Any:
        return self.function(x)

    def inverse(self) -> "Custom":
        if self.back is None:
            raise DataError(f"{self.name}: no inverse was given. Say how it is taken back: Custom(function, back=…).")
        return Custom(self.back, self.function, title=f"inverse of {self.name}")

    def undo(self, values: Any, frame: Frame) -> Any | None:
        return None if self.on_layer is None else self.on_layer(values, frame.axes)


@dataclass(frozen=True)
class Draw(AbstractTransformation):
    """One draw of a random transformation, frozen: the same at every call, for every sample and batch.

    **Arguments:** `random_transform` batch → batch, drawing from Python's, NumPy's or PyTorch's global random numbers; `number` of the
    draw; `seed`.  The random numbers of the caller are left as they were.
    """

    random_transform: Callable[[Any], Any]
    number: int
    seed: int = 0

    def __post_init__(self) -> None:
        if not callable(self.random_transform):
            raise DataError(f"sampled: {self.random_transform!r} cannot be called. Give a function of a batch.")

    @property
    def name(self) -> str:
        of = getattr(self.random_transform, "__name__", type(self.random_transform).__name__)
        return f"draw {self.number} of {of} (seed {self.seed})"

    def apply(self, x: Any, frame: Frame) -> Any:
        entropy = np.random.SeedSequence((self.seed, self.number)).generate_state(1)
        with seeded(int(entropy[0]), torch=is_torch(x) or "torch" in sys.modules):
            return self.random_transform(x)

    def inverse(self) -> AbstractTransformation:
        raise DataError(
            f"{self.name}: a random transformation has no inverse. Use transformations with known parameters."
        )

    def undo(self, values: Any, frame: Frame) -> None:
        return None


@contextmanager
def seeded(seed: int, *, torch: bool) -> Generator[None]:
    """Global random numbers from `seed`, and afterwards as if nothing had happened."""
    states = random.getstate(), np.random.get_state()  # noqa: NPY002 - the user's global state, not ours
    with ExitStack() as stack:
        if torch:
            from .torch import seeded as of_torch

            stack.enter_context(of_torch(seed))
        random.seed(seed)
        np.random.seed(seed)  # noqa: NPY002
        try:
            yield
        finally:
            random.setstate(states[0])
            np.random.set_state(states[1])  # noqa: NPY002

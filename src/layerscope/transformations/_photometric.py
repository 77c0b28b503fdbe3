"""Changes of light: what they do to values, not to places."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from .._errors import DataError
from ._abstract import AbstractTransformation, Frame, check_number
from ._arrays import beside, like, namespace, ready, real


@dataclass(frozen=True)
class Brightness(AbstractTransformation):
    """Add a number to every value, in the unit of the inputs; integers are clipped to their range."""

    amount: float = 0.0

    def __post_init__(self) -> None:
        check_number("Brightness", amount=self.amount)

    @property
    def name(self) -> str:
        return f"brightness {self.amount:+g}"

    def apply(self, x: Any, frame: Frame) -> Any:
        x = ready(x)
        return like(real(x) + self.amount, x)

    def inverse(self) -> "Brightness":
        return Brightness(-self.amount)

    def undo(self, values: Any, frame: Frame) -> Any:
        return values  # it moves nothing, so nothing has to be put back


@dataclass(frozen=True)
class Contrast(AbstractTransformation):
    """Stretch every sample about its own mean by a factor above 0."""

    factor: float = 1.0

    def __post_init__(self) -> None:
        check_number("Contrast", factor=self.factor)
        if self.factor <= 0:
            raise DataError(f"Contrast: a factor is above 0, got {self.factor:g}: at 0 the sample is lost.")

    @property
    def name(self) -> str:
        return f"contrast ×{self.factor:g}"

    def apply(self, x: Any, frame: Frame) -> Any:
        x = ready(x)
        values = real(x)
        mean = namespace(values).mean(values, axis=tuple(range(1, values.ndim)), keepdims=True)
        return like((values - mean) * self.factor + mean, x)

    def inverse(self) -> "Contrast":
        return Contrast(1 / self.factor)

    def undo(self, values: Any, frame: Frame) -> Any:
        return values


@dataclass(frozen=True)
class Noise(AbstractTransformation):
    """Add a fixed pattern of normal noise, the same for every sample: drawn once from `seed`, with standard deviation `deviation`."""

    deviation: float = 0.0
    seed: int = 0
    sign: int = 1

    def __post_init__(self) -> None:
        check_number("Noise", deviation=self.deviation, seed=self.seed)
        if self.deviation < 0 or self.sign not in (1, -1):
            raise DataError(
                f"Noise: a deviation is 0 or more and the sign 1 or -1, got {self.deviation:g}, {self.sign}."
            )

    @property
    def name(self) -> str:
        return (
            f"noise {self.deviation:g} (seed {self.seed})"
            if self.sign > 0
            else f"less noise {self.deviation:g} (seed {self.seed})"
        )

    def apply(self, x: Any, frame: Frame) -> Any:
        x = ready(x)
        pattern = np.random.default_rng(self.seed).normal(0.0, self.deviation, tuple(x.shape[1:]))
        values = real(x)
        return like(values + namespace(values).asarray(beside(x, self.sign * pattern), dtype=values.dtype), x)

    def inverse(self) -> "Noise":
        return Noise(self.deviation, self.seed, -self.sign)

    def undo(self, values: Any, frame: Frame) -> Any:
        return values

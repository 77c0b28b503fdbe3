"""How well a model did its task on the samples it was examined on."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ._errors import DataError
from ._reading import NAN, Reading
from .feed import Batch, repeated
from .tallies import to_numpy


@dataclass(frozen=True)
class Task:
    """The sum of scores, of how many samples, and what a score is; without a `kind` no batch was scored, and `note` says why.

    `columns` holds the sum under each transformation, where every sample comes once under each; `samples` then counts all of these.

    One batch that cannot be scored ends it: an accuracy of those samples that happened to fit would be a number of other data.
    """

    score: float = 0.0
    samples: int = 0
    kind: str = ""
    note: str = ""
    columns: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "columns", tuple(self.columns))  # a file gives a list

    @property
    def by_transformation(self) -> tuple[Reading, ...]:
        """The mean score under each transformation; nothing where there are none."""
        each = self.samples // max(1, len(self.columns))
        unit = "of samples" if self.kind == "accuracy" else self.kind
        return tuple(
            Reading(score / each if each else NAN, observations=each, samples=each, measured_in=unit, note=self.note)
            for score in self.columns
        )

    @property
    def reading(self) -> Reading | None:
        """The mean score; None where there is none."""
        if not self.kind:
            return None
        unit = "of samples" if self.kind == "accuracy" else self.kind
        value = self.score / self.samples if self.samples else NAN
        samples = self.samples // max(1, len(self.columns))
        return Reading(value, observations=self.samples, samples=samples, measured_in=unit, note=self.note)

    def with_batch(self, output: Any, batch: Batch, score: Callable[[Any, Any], Any] | None) -> "Task":
        """The task with one more batch: by `score=`, or by the largest of (N, C) outputs against labels."""
        if self.note and not self.kind:
            return self  # it ended
        if score is not None:
            return self._scored(output, batch, score)
        labels = batch.samples.flat().labels
        if labels is None:
            return Task(note="the data has no labels")
        if isinstance(output, Mapping):
            output = None  # which of its entries are scores of classes, nobody said
        values = None if output is None else to_numpy(output.float() if "bfloat16" in str(output.dtype) else output)
        if values is None or values.ndim != 2 or values.shape[1] < 2 or len(values) != len(labels):
            shape = None if values is None else tuple(values.shape)
            return Task(note=f"accuracy needs outputs (samples, classes); they are {shape}. Pass ls.Data(…, score=…)")
        if labels.min() < 0 or labels.max() >= values.shape[1]:
            return Task(note=f"labels {labels.min()} … {labels.max()} do not fit {values.shape[1]} outputs")
        known = ~np.isnan(values).any(axis=1)  # argmax would take a NaN for the largest
        right = (values.argmax(axis=1) == labels) & known
        note = self.note if known.all() else "outputs with NaN count as wrong"
        return self._with(right.astype(np.float64), batch.samples.transformations, "accuracy", note)

    def _with(self, each: NDArray[np.float64], T: int, kind: str, note: str) -> "Task":
        """The task with the scores of one batch, every sample T times in a row."""
        columns: list[float] = each.reshape(-1, T).sum(axis=0).tolist() if T > 1 else []
        return Task(self.score + float(each.sum()), self.samples + len(each), kind, note, _added(self.columns, columns))

    def _scored(self, output: Any, batch: Batch, score: Callable[[Any, Any], Any]) -> "Task":
        T = batch.samples.transformations
        each = to_numpy(score(output, repeated(batch.targets, T))).astype(np.float64).reshape(-1)
        if len(each) != len(batch.samples) * T:
            raise DataError(
                f"score=: {len(each)} scores for {len(batch.samples) * T} samples. Give one score per sample, not their mean."
            )
        return self._with(each, T, getattr(score, "__name__", "score"), self.note)

    def merged(self, other: "Task") -> "Task":
        """Both together; only what both scored is scored."""
        if not self.kind or not other.kind:
            return self if not self.kind else other
        note = self.note or other.note
        columns = _added(self.columns, other.columns)
        return Task(self.score + other.score, self.samples + other.samples, self.kind, note, columns)


def _added(left: Sequence[float], right: Sequence[float]) -> tuple[float, ...]:
    """Sums under each transformation together; one side may have seen nothing."""
    if not left or not right:
        return tuple(left or right)
    return tuple(a + b for a, b in zip(left, right, strict=True))

"""Probes: what sits at a layer, sees its activations go by, and counts their firing states."""

import abc
import os
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ... import measures
from ..._errors import DataError, EmptyTally, ShapeError
from ..._site import Activations, Axes, Chunk, Samples, Site
from ..._states import as_bytes, unpack_states
from ...kernels import Records
from ...tallies import PackedRows, RowsKept, StateCounts, StateTable

FOLDER = "tensor_states"
TABLE = StateTable(threshold=0.0)


def __getattr__(name: str) -> Any:
    if name == "StateCapture":  # a Keras layer: Keras and its backend load when it is first asked for
        try:
            from .capture.keras import StateCapture
        except ModuleNotFoundError as error:
            if error.name != "keras":
                raise
            raise ImportError(  # no AttributeError: `from … import StateCapture` would swallow the reason
                "StateCapture is a layer of Keras 3, which is not installed: pip install keras, and TensorFlow, JAX or PyTorch with it."
            ) from error
        return StateCapture
    raise AttributeError(f"layerscope.compat.tensorstate has no {name!r}")


class AbstractStateCapture(abc.ABC):
    """Everything a probe can tell; a subclass says how activations of its framework come in.

    **Arguments:** `name`; `disk_path` a folder for the raw states, kept in `<disk_path>/tensor_states/<name>.zarr` (None: in memory);
    `unit_axis` which axis of the activation holds the units (None: the layer decides); `part` which tensor of a tuple or dict.
    A unit fires above 0. Every other axis is a position, and each position of each sample is one state.

    Safe with threads: what is captured at the same time is counted one after the other. A batch that fails raises in the forward pass,
    and from then on every number is refused until `reset_states()`. A copy of a probe captures nothing and says so.
    """

    def __init__(
        self,
        name: str,
        disk_path: str | os.PathLike[str] | None = None,
        *,
        unit_axis: int | None = None,
        part: int = 0,
    ) -> None:
        if not isinstance(name, str) or not name:
            raise DataError(f"a probe needs a name, got {name!r}. For example {type(self).__name__}('conv_1').")
        self.name, self.disk_path, self.unit_axis, self.part = name, disk_path, unit_axis, part
        self._file: Path | None = None
        if disk_path is not None:
            if Path(name).name != name:
                raise DataError(
                    f"{name!r} names a file under {disk_path}, so it cannot hold a path. Choose a plain name."
                )
            self._file = Path(disk_path) / FOLDER / f"{name}.zarr"
            if self._file.exists():
                raise DataError(_exists(name, self._file))
        self._turn = threading.RLock()
        self._keeps = PackedRows(None if self._file is None else str(self._file.parent))
        self._rows: RowsKept = self._keeps.init(Site(name))
        self._inert = False
        self._begin(None)
        _forget_compiled()

    # --- capturing ---------------------------------------------------------------------------------------------------------------

    @abc.abstractmethod
    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """What the framework calls at the layer; gives the activations to `_take` and changes nothing."""

    def _begin(self, shape: Sequence[int | None] | None) -> None:
        self._counts: StateCounts = TABLE.init(Site(self.name))
        self._sorted: Records | None = None
        self._failure = ""
        self._arrived = 0
        self._shape = None if shape is None else tuple(shape)[1:]

    def _take(self, look: Callable[[], Activations]) -> None:
        """Count the activations that `look` gives, all of them or with an error that no number survives."""
        if self._inert:
            return
        with self._all_or_failed():
            a = look()
            self._count(TABLE.read(a), tuple(int(size) for size in a.values.shape), a.axes)

    def _count(self, arrays: Mapping[str, Any], shape: tuple[int, ...], axes: Axes) -> None:
        """Count what was read from activations of this shape."""
        with self._all_or_failed(), self._turn:
            self._add(Chunk(arrays, self._numbered(shape[0]), axes.positions(shape), shape[axes.unit]), shape)

    @contextmanager
    def _all_or_failed(self) -> Iterator[None]:
        """An error inside is remembered, so that no number is told which lacks a batch."""
        try:
            yield
        except BaseException as error:
            self._failure = f"{type(error).__name__}: {error}"
            raise

    @abc.abstractmethod
    def _settle(self) -> None:
        """Wait until everything that went through the model has arrived here."""

    @contextmanager
    def _still(self) -> Iterator[None]:
        """All that was sent has arrived, and nothing comes in meanwhile."""
        self._settle()  # before the lock: what arrives needs it
        with self._turn:
            yield

    def _add(self, chunk: Chunk, shape: tuple[int, ...]) -> None:
        if self._shape is not None and not _fits(shape[1:], self._shape):
            raise ShapeError(
                f"{self.name}: reset_states said (any, {_sizes(self._shape)}), this batch is ({_sizes(shape)}). Reset again."
            )
        if self._rows.units not in (0, chunk.units):
            raise ShapeError(
                f"{self.name}: {self._rows.units} units so far, {chunk.units} now. One probe counts states of one width; a layer that runs "
                "at several widths (a shared ReLU) is left out with exclude=, or read call by call with ls.examine."
            )
        try:
            self._rows = self._keeps.add(self._rows, chunk)
        except DataError as error:  # made by someone else since this probe was
            raise DataError(_exists(self.name, self._file)) from error
        self._counts = TABLE.add(self._counts, chunk)
        self._arrived += len(chunk.samples)
        self._sorted = None

    def _numbered(self, samples: int) -> Samples:
        return Samples(np.arange(self._arrived, self._arrived + samples, dtype=np.int64))

    def reset_states(self, input_shape: Sequence[int | None] | None = None) -> None:
        """Forget everything seen, also on disk.  With `input_shape`, activations of another shape (samples apart) are refused."""
        with self._still():
            if self._rows.store is None:
                self._rows = self._keeps.init(Site(self.name))
            else:
                self._rows.store.resize((0, self._rows.store.shape[1]))
                self._rows.rows = 0
            self._begin(input_shape)

    # --- reading -----------------------------------------------------------------------------------------------------------------

    @property
    def state_count(self) -> int:
        """Rows captured, repeats included; 0 before any data."""
        with self._still():
            self._check_whole()
            return self._counts.observations

    @property
    def nonfinite(self) -> tuple[int, int]:
        """How many NaN and how many infinite values went by; NaN and -inf do not fire."""
        with self._still():
            return self._counts.nan, self._counts.inf

    @property
    def raw_states(self) -> Any:
        """The packed rows in the order they came, uint8 (state_count, ceil(units / 8)), read-only; a zarr array when kept on disk."""
        with self._still():
            self._check()
            if self._rows.store is not None:
                import zarr

                return zarr.open_array(str(self._file), mode="r")
            rows = self._rows.all().view()
            rows.flags.writeable = False
            return rows

    @property
    def states(self) -> NDArray[np.bool_]:
        """The different states, bool (different states, units), in the order of `counts()`."""
        return unpack_states(self._records().states, self._rows.units)

    def counts(self) -> NDArray[np.int64]:
        """How often each different state was seen, in the order of `sort_states`."""
        return self._records().n.copy()

    def state_ids(self) -> list[bytes]:
        """The different states as packed bytes, in the order of `counts()`."""
        rows = as_bytes(self._records().states, self._rows.units)
        width, packed = rows.shape[1], rows.tobytes()
        return [packed[k * width : (k + 1) * width] for k in range(len(rows))]

    def max_entropy(self) -> float:
        """The most a layer can have: its number of units, in bits."""
        with self._still():
            self._check()
            return float(self._rows.units)

    def entropy(self, alpha: float | None = 1) -> float:
        """Rényi entropy of order `alpha` in bits; None gives `max_entropy()`."""
        return self.max_entropy() if alpha is None else measures.entropy(self._records().n, alpha)

    def efficiency(self, alpha1: float = 1, alpha2: float | None = None) -> float:
        """Entropy of order `alpha1` over the number of units, or over the entropy of order `alpha2` < `alpha1`.

        NaN where that second entropy is 0, as 0 / 0 has no value.
        """
        above, below = self.entropy(alpha1), self.entropy(alpha2)
        if alpha2 is not None and not alpha1 > alpha2:
            raise ValueError(
                f"efficiency: alpha1={alpha1} must be larger than alpha2={alpha2}, as entropy falls with its order. Swap them, or leave "
                "alpha2 out to divide by the number of units."
            )
        return above / below if below else float("nan")

    def _records(self) -> Records:
        with self._still():
            self._check()
            if self._sorted is None:
                self._sorted = self._counts.records()
            return self._sorted

    def _check(self) -> None:
        """Raise where there is nothing to read, or a number would be missing something."""
        self._check_whole()
        if not self._counts.observations:
            raise EmptyTally(
                f"{self.name}: nothing was captured yet. Run data through the model first. If that was done, the layer did not run in it; "
                "in a compiled model, attach probes before the first call."
            )

    def _check_whole(self) -> None:
        if self._inert:
            raise EmptyTally(
                f"{self.name}: this probe is a copy that came along with a copied model, and captures nothing. Attach probes to the copy: "
                "build_efficiency_model(copy, attach_to=[...])."
            )
        if self._failure:
            raise DataError(
                f"{self.name}: a batch could not be captured, so every number would lack it ({self._failure}). Mend that, call "
                "reset_states(), and run the data again."
            )

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name}: {self._counts.observations:,} states of {self._rows.units or '?'} units>"

    # --- copies: the model may be copied and saved, the count of a stream may not --------------------------------------------------

    def __deepcopy__(self, memo: Any) -> "AbstractStateCapture":
        return _inert(type(self), self.name)

    def __reduce__(self) -> Any:
        return _inert, (type(self), self.name)


class StateCaptureHook(AbstractStateCapture):
    """A probe for PyTorch, as forward or forward pre-hook of a layer: `layer.register_forward_hook(StateCaptureHook("x"))`.

    The units lie where the layer has them: channel axis for convolutions, pooling, batch and group norm; last axis for linear,
    embedding, layer norm, attention and recurrent layers. A layer that does not say (a nonlinearity, a module of your own): axis 1 of
    two, four or more axes; three axes could be either and are an error, unless `unit_axis` is given.
    Forwards that backward repeats (activation checkpointing) are not counted twice.
    **Beware:** register it as a pre-hook without `with_kwargs`.
    """

    def __call__(self, module: Any, args: Any, *output: Any) -> None:
        from .torch import take

        take(self, module, output[-1] if output else args)

    def _settle(self) -> None:
        return None  # a hook is done before its layer is


def _inert(kind: type[AbstractStateCapture], name: str) -> AbstractStateCapture:
    copy = kind(name)
    copy._inert = True
    return copy


def _forget_compiled() -> None:
    """Have compiled models compiled again: what was compiled and run before a hook came passes it by in silence."""
    dynamo = sys.modules.get("torch._dynamo")
    if dynamo is not None:
        dynamo.reset()


def _exists(name: str, path: Path | None) -> str:
    return f"{name}: {path} exists already, and nothing is overwritten. Move it away, or give another storage_path (disk_path)."


def _fits(sizes: tuple[int, ...], asked: tuple[int | None, ...]) -> bool:
    return len(sizes) == len(asked) and all(want in (None, size) for size, want in zip(sizes, asked, strict=True))


def _sizes(sizes: Sequence[int | None]) -> str:
    return ", ".join("any" if size is None else str(size) for size in sizes)

"""Every packed state in the order it came: kept only when asked for, in memory or in one zarr array on disk."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._errors import DataError, FileFormatError, MergeError, ShapeError
from .._site import Activations, Chunk, Site
from .._states import as_bytes, as_words, pack_states
from ._abstract import AbstractTally, to_numpy

CHUNK_BYTES = 1 << 20


@dataclass
class RowsKept:
    """The value of `PackedRows`: bytes (rows, ceil(units / 8)) in the order they came, in memory or in a zarr array."""

    site: Site
    units: int = 0
    rows: int = 0
    parts: list[NDArray[np.uint8]] = field(default_factory=list[NDArray[np.uint8]])
    store: Any = None

    def all(self) -> NDArray[np.uint8]:
        """The rows as one array, read from the disk where they lie there."""
        if self.store is not None:
            return np.asarray(self.store[:])
        if len(self.parts) > 1:
            self.parts = [np.concatenate(self.parts)]
        return self.parts[0] if self.parts else np.empty((0, -(-self.units // 8)), np.uint8)

    @property
    def nbytes(self) -> int:
        return sum(part.nbytes for part in self.parts)


@dataclass(frozen=True)
class PackedRows(AbstractTally[RowsKept]):
    """Keeps every packed state, in the order of the stream: 32 times smaller than activations, but it grows with the rows.

    **Arguments:** `folder` where zarr arrays named after the sites are written (an existing one is never overwritten), None for memory.
    **Beware:** merging appends, in memory unless the left value lies on disk; `same` compares the rows in sorted order.
    """

    folder: str | None = None

    def read(self, activations: Activations) -> dict[str, Any]:
        return pack_states(activations)

    def init(self, site: Site) -> RowsKept:
        return RowsKept(site)

    def add(self, value: RowsKept, chunk: Chunk) -> RowsKept:
        m, units = int(np.prod(chunk.positions, dtype=np.int64)), chunk.units
        rows = as_words(to_numpy(chunk.arrays["states"]), units)[: len(chunk.samples) * m]
        mask = chunk.rows_mask(m, value.site)
        if mask is not None:
            rows = rows[mask.reshape(-1)]
        return self._append(value, as_bytes(rows, units), units, ShapeError, self.folder)

    def merge(self, left: RowsKept, right: RowsKept) -> RowsKept:
        return self._append(left, right.all(), right.units, MergeError, None) if right.units else left

    def _append(
        self, value: RowsKept, rows: NDArray[np.uint8], units: int, error: type[Exception], folder: str | None
    ) -> RowsKept:
        if value.units and value.units != units:
            raise error(f"{value.site}: {value.units} units so far, now {units}. Rows of one site have one width.")
        if not value.units and folder is not None:
            value.store = self._create(value.site, rows.shape[1])
        value.units = units
        value.rows += len(rows)
        if value.store is not None:
            value.store.append(rows)
        else:
            value.parts.append(np.ascontiguousarray(rows))
        return value

    def _create(self, site: Site, width: int) -> Any:
        import zarr

        path = Path(self.folder or "") / f"{site}.zarr"
        if path.exists():
            raise DataError(
                f"keep_rows={self.folder!r}: {path} exists already, and nothing is overwritten. Move it away or give another folder."
            )
        chunks = (max(1, CHUNK_BYTES // max(1, width)), width)
        # zarr's own signature has a parameter without a type
        return zarr.create_array(str(path), shape=(0, width), chunks=chunks, dtype="uint8")  # pyright: ignore[reportUnknownMemberType]

    def same(self, left: RowsKept, right: RowsKept) -> bool:
        def listing(value: RowsKept) -> list[bytes]:
            return sorted(row.tobytes() for row in value.all())

        return left.units == right.units and left.rows == right.rows and listing(left) == listing(right)

    def nbytes(self, value: RowsKept) -> int:
        return value.nbytes

    def to_arrays(self, value: RowsKept) -> Mapping[str, NDArray[Any]]:
        return {"rows": value.all(), "units": np.array([value.units], np.int64)}

    def from_arrays(self, site: Site, arrays: Mapping[str, NDArray[Any]]) -> RowsKept:
        try:
            rows, units = arrays["rows"], int(arrays["units"][0])
        except (KeyError, IndexError) as error:
            raise FileFormatError(f"{site}: packed rows need the arrays rows and units ({error}).") from error
        if rows.dtype != np.uint8 or rows.ndim != 2 or rows.shape[1] != -(-units // 8):
            raise FileFormatError(
                f"{site}: {rows.shape} {rows.dtype} are no packed rows of {units} units; the file is damaged."
            )
        return RowsKept(site, units, len(rows), [rows] if units else [])

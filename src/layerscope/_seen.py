"""The different states that were seen at a site: as an array, as a table of the commonest, and as the samples that show them."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ._errors import DataError
from ._states import as_bytes, unpack_states
from .measures import check_labels, classes_by_state
from .tallies import StateCounts

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure


@dataclass(frozen=True, eq=False)
class SeenStates:
    """The different states of a site, in the order of `counts()`; where an array is wanted it is one, (states, units) bool.

    `top(20)` lists the commonest with a sample that shows each, `mixed(20)` those that samples of several classes share, and
    `show(data, 8)` draws such samples.  Nothing of the inputs is remembered: examples are ids, and pictures are made of data you give.
    """

    counts: StateCounts

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        bits = unpack_states(self.counts.records().states, self.counts.units)
        return bits if dtype is None else bits.astype(dtype)

    def __len__(self) -> int:
        return len(self.counts.records().n)

    def __getitem__(self, index: Any) -> Any:
        return np.asarray(self)[index]

    @property
    def shape(self) -> tuple[int, int]:
        return len(self), self.counts.units

    def __repr__(self) -> str:
        return f"<{len(self):,} different states of {self.counts.units} units in {self.counts.observations:,} observations>"

    def top(self, k: int = 20) -> "pd.DataFrame":
        """The k commonest states: state (hexadecimal, unit 0 in the first digit pair's lowest bit), units firing, observations, share of
        them, samples, an example's id; by label also the commonest class and its share of the state's observations."""
        import pandas as pd

        records, order = self.counts.records(), self._commonest(k)
        lines = pd.DataFrame(
            {
                "state": [row.tobytes().hex() for row in as_bytes(records.states[order], self.counts.units)],
                "fires": unpack_states(records.states[order], self.counts.units).sum(axis=1),
                "observations": records.n[order],
                "share": records.n[order] / max(1, self.counts.observations),
                "samples": records.i[order],
                "example": records.first[order],
            }
        )
        if self.counts.by_stratum:
            by_class = [self._classes(int(s)) for s in order]
            lines["class"] = [max(rows, key=lambda label: rows[label][0]) for rows in by_class]
            lines["class share"] = [
                max(n for n, _ in rows.values()) / sum(n for n, _ in rows.values()) for rows in by_class
            ]
        return lines

    def mixed(self, k: int = 20) -> "pd.DataFrame":
        """The k commonest states that samples of different classes show: how often each class does, and an example's id of each.

        Here the layer no longer tells the classes apart.  **Raises:** `DataError` where states were not counted by label.
        """
        import pandas as pd

        check_labels(self.counts)
        records = self.counts.records()
        at, _, _ = classes_by_state(self.counts)
        several = np.flatnonzero(np.bincount(at, minlength=len(records.n)) > 1)
        order = several[np.argsort(-records.n[several], kind="stable")][:k]
        lines = [
            {
                "state": as_bytes(records.states[s : s + 1], self.counts.units).tobytes().hex(),
                "observations": int(records.n[s]),
                "samples": int(records.i[s]),
                "classes": {label: n for label, (n, _) in rows.items()},
                "examples": {label: first for label, (_, first) in rows.items()},
            }
            for s in order.tolist()
            for rows in [self._classes(s)]
        ]
        return pd.DataFrame(lines, columns=["state", "observations", "samples", "classes", "examples"])

    def show(self, data: Any, k: int = 8) -> "Figure":
        """The k commonest states as pictures: for each the sample of the smallest id that shows it, by label one of every class (six at most).

        **Arguments:** `data` what was examined: anything whose item number `id` is an image (or starts with one), or (images, labels).
        **Gives:** a matplotlib figure.  **Raises:** `DataError` where an id cannot be looked up or is no image.
        """
        from matplotlib.figure import Figure

        order = self._commonest(k)
        if not len(order):
            raise DataError(f"{self.counts.site}: no state was seen, so there is nothing to show.")
        examples = [[first for _, first in self._classes(int(s)).values()][:6] for s in order]
        columns = max(map(len, examples))
        figure = Figure(figsize=(1.2 * columns + 2.2, 1.25 * len(order)), layout="constrained")
        axes = figure.subplots(len(order), columns, squeeze=False)
        records = self.counts.records()
        for row, (s, ids) in enumerate(zip(order.tolist(), examples, strict=True)):
            for column in range(columns):
                ax = axes[row, column]
                ax.axis("off")
                if column < len(ids):
                    ax.imshow(image_of(data, ids[column]), cmap="gray")
                    ax.set_title(f"id {ids[column]}", fontsize=7, pad=2)
            share = f"{records.n[s]:,} observations\n{records.i[s]:,} samples"
            axes[row, 0].text(-0.1, 0.5, share, transform=axes[row, 0].transAxes, ha="right", va="center", fontsize=8)
        return figure

    def _commonest(self, k: int) -> NDArray[np.int64]:
        return np.argsort(-self.counts.records().n, kind="stable")[: max(0, k)]

    def _classes(self, s: int) -> dict[int, tuple[int, int]]:
        """Observations and smallest id of each class that shows state number s; without labels, of all samples as class 0."""
        records = self.counts.records()
        if not self.counts.by_stratum or self.counts.table is None:
            return {0: (int(records.n[s]), int(records.first[s]))}
        at, label, line = self.counts.remember("classes by state", lambda: classes_by_state(self.counts))
        whole = self.counts.remember("table", self.counts.table.records)
        here = at == s
        return {
            c: (int(whole.n[k]), int(whole.first[k])) for c, k in zip(label[here].tolist(), line[here], strict=True)
        }


def image_of(data: Any, number: int) -> NDArray[Any]:
    """Item `number` of the data as rows × columns (× colours), from 0 to 1."""
    pair = type(data) in (tuple, list) and len(data) == 2 and len(data[0]) == len(data[1]) > 2
    try:
        item: Any = (data[0] if pair else data)[number]
    except (IndexError, KeyError, TypeError) as error:
        raise DataError(
            f"show: the data has no item {number} ({error}). Give the data that was examined, in a form that can be indexed by id."
        ) from None
    if type(item) in (dict, tuple, list):
        item = next(iter(getattr(item, "values", item.__iter__)()))
    image = np.squeeze(np.asarray(item, np.float64))
    if image.ndim == 3 and image.shape[0] in (3, 4) and image.shape[2] not in (3, 4):
        image = np.moveaxis(image, 0, -1)
    if image.ndim not in (2, 3) or (image.ndim == 3 and image.shape[2] not in (3, 4)):
        raise DataError(
            f"show: item {number} of shape {np.shape(item)} is no image. Only images can be shown; `top()` gives ids."
        )
    span = float(np.ptp(image))
    return (image - image.min()) / span if span else np.zeros_like(image)

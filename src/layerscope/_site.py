"""Where in a network we read, and what is read there: sites, axis roles, activations, and the samples they belong to."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ._errors import ShapeError, SiteError

_SITE = re.compile(
    r"^(?P<path>.*?)(?:@(?P<step>-?\d+))?(?:#(?P<call>\d+))?(?::(?P<port>in|out))?(?:\[(?P<part>\d+)\])?$", re.DOTALL
)


GROUPS = 16
"""Groups of samples that numbers of variances and distances are kept apart for."""

WHOLE = "(model)"
"""How the model itself, whose path is empty, is written."""


@dataclass(frozen=True, order=True)
class Site:
    """A place in a network where activations are read.

    **Arguments:** `path` dotted name of the layer (a function called inside `block` is `block.relu()`); `call` which use of it in one
    forward, from 0; `port` "out" or "in"; `part` which tensor of a tuple or dict; `step` of a descent, or epoch.

    Written `a.b`, `a.b#1` (second call), `a.b:in` (its input), `a.b[1]` (second tensor), `a.b@7` (step 7).

    >>> str(Site("block.fc", call=1, port="in", part=2))
    'block.fc#1:in[2]'
    >>> Site.parse("block.fc#1:in[2]") == Site("block.fc", call=1, port="in", part=2)
    True
    """

    path: str
    call: int = 0
    port: str = "out"
    part: int = 0
    step: int | None = None

    def __post_init__(self) -> None:
        if self.port not in ("in", "out"):
            raise SiteError(f"Site: port must be 'in' or 'out', got {self.port!r}.")

    def __str__(self) -> str:
        step = "" if self.step is None else f"@{self.step}"
        call = f"#{self.call}" if self.call else ""
        port = ":in" if self.port == "in" else ""
        part = f"[{self.part}]" if self.part else ""
        return f"{self.path or WHOLE}{step}{call}{port}{part}"

    @classmethod
    def parse(cls, text: str) -> "Site":
        """The site that is written so; the inverse of `str`."""
        found = _SITE.match(text)
        assert found is not None  # every part but the path is optional
        step = found["step"]
        return cls(
            "" if found["path"] == WHOLE else found["path"],
            int(found["call"] or 0),
            found["port"] or "out",
            int(found["part"] or 0),
            None if step is None else int(step),
        )


INPUT = Site("", port="in")
"""What the model is given: its own input, row 0 of a profile and no layer."""


@dataclass(frozen=True)
class Axes:
    """What the axes of an activation mean: samples, units, and all others positions.

    The layer decides this, not the rank: channel axis for convolutions, pooling and batch norm, last axis for linear, layer norm,
    embedding, attention and recurrent layers.
    """

    unit: int
    sample: int = 0

    def positions(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Sizes of the axes that are neither samples nor units, in order."""
        taken = {self.unit % len(shape), self.sample % len(shape)}
        if len(taken) != 2:
            raise ShapeError(
                f"axes: the unit axis {self.unit} and the sample axis {self.sample} are one and the same in shape {shape}. "
                "Give another one, for example axes={'conv*': 1}."
            )
        return tuple(size for axis, size in enumerate(shape) if axis not in taken)

    def among(self, rank: int) -> int:
        """The unit axis, counted among the axes of one sample."""
        return self.unit % rank - (self.sample % rank < self.unit % rank)


@dataclass(frozen=True)
class Samples:
    """Whose activations a batch holds: what the host knows of its samples.

    **Arguments:** `ids` (samples,) int64, one per real sample (a forward may see more rows: padding at the end of the batch); `labels`
    (samples,) int64 or None; `mask` (samples, *positions) bool, True where a position counts, or None; `transformations` T when every
    sample comes T times in a row, the mask then being (samples, T, *positions); `epoch` of a training run, where states are followed over training;
    `shuffled` (samples,) labels that a fixed random permutation gives instead, where that is a reference.
    """

    ids: NDArray[np.int64]
    labels: NDArray[np.int64] | None = None
    mask: NDArray[np.bool_] | None = None
    transformations: int = 1
    epoch: int | None = None
    shuffled: NDArray[np.int64] | None = None

    def __len__(self) -> int:
        return len(self.ids)

    def flat(self) -> "Samples":
        """Every row a sample of its own, as the model sees them that runs it."""
        T, mask = self.transformations, self.mask
        if T == 1:
            return self
        labels, shuffled = (None if each is None else np.repeat(each, T) for each in (self.labels, self.shuffled))
        rows = None if mask is None else mask.reshape(-1, *mask.shape[2:])
        return Samples(np.repeat(self.ids, T), labels, rows, 1, self.epoch, shuffled)

    @cached_property
    def keys(self) -> NDArray[np.uint64]:
        """A fixed pseudo-random rank of every sample, a function of its id alone (the finaliser of SplitMix64, Steele et al. 2014)."""
        z = self.ids.view(np.uint64) + np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return z ^ (z >> np.uint64(31))

    @cached_property
    def groups(self) -> NDArray[np.int64]:
        """One of `GROUPS` groups for every sample, a function of its id alone: what a jackknife leaves out one by one."""
        return (self.keys % np.uint64(GROUPS)).astype(np.int64)

    @cached_property
    def ranked(self) -> tuple[list[int], list[int]]:
        """The keys in ascending order, and the numbers of the samples they belong to."""
        order = np.argsort(self.keys, kind="stable")
        return self.keys[order].tolist(), order.tolist()

    def strata(self, by: str) -> NDArray[np.int64] | None:
        """The stratum of every sample: its label or its epoch, None where the data has none; by "transformation" the number of each of its
        T versions, (samples · T,)."""
        if by in ("label", "shuffled label"):
            return self.labels if by == "label" else self.shuffled
        if by == "transformation":
            return np.tile(np.arange(self.transformations), len(self))
        return None if self.epoch is None else np.full(len(self), self.epoch, np.int64)


@dataclass(frozen=True)
class Activations:
    """What a tally reads, where it lives: one tensor of one site, inside the forward pass.

    **Arguments:** `values` the tensor of any framework; `axes` its roles; `xp` the array namespace it obeys (`numpy`, `jax.numpy`, …);
    `threshold` above which a unit fires here; `mask` (samples, positions) as a tensor of the same framework, or None; `host` the same
    memory as a NumPy array where the host can see it without a copy (`dtype` then names a type NumPy lacks, such as bfloat16); `real`
    (samples,) as a tensor of the same framework, False where a compiled forward of fixed size is padded, or None; `grid` the alignment of
    the transformations (`len(grid)` T of them) where every sample comes T times in a row, or None.
    """

    values: Any
    axes: Axes
    xp: Any
    threshold: float = 0.0
    mask: Any = None
    host: NDArray[Any] | None = None
    dtype: str | None = None
    real: Any = None
    grid: Any = None

    @classmethod
    def of(
        cls,
        values: NDArray[Any],
        unit: int = -1,
        *,
        sample: int = 0,
        threshold: float = 0.0,
        mask: NDArray[np.bool_] | None = None,
    ) -> "Activations":
        """The activations of a NumPy array."""
        return cls(values, Axes(unit, sample), np, threshold, mask, host=values)


@dataclass(frozen=True)
class Chunk:
    """What one batch adds to a tally: what `read` gave at one site, and the samples it came from.

    **Arguments:** `arrays` by name, of any framework (rows beyond the real samples are padding); `samples`; `positions` sizes of the
    activation's position axes; `units` size of its unit axis; `threshold` of the site; `forward_samples` rows of the forward, padding
    included, where it is not known whose they are; `unit` which of a sample's axes counts its units.
    """

    arrays: Mapping[str, Any]
    samples: Samples
    positions: tuple[int, ...] = ()
    units: int = 0
    threshold: float = 0.0
    forward_samples: int | None = None
    unit: int = 0

    @classmethod
    def of(cls, arrays: Mapping[str, Any], a: Activations, samples: Samples) -> "Chunk":
        """What was read from these activations, which are those of these samples."""
        shape = tuple(int(size) for size in a.values.shape)
        positions, unit = a.axes.positions(shape), a.axes.among(len(shape))
        return cls(arrays, samples, positions, shape[a.axes.unit], a.threshold, shape[a.axes.sample], unit)

    def rows_mask(self, rows: int | None, site: Site) -> NDArray[np.bool_] | None:
        """Which rows count, (samples, rows a sample), or None when all do; `rows` is None where a state spans masked positions."""
        mask = self.samples.mask
        if mask is None or not self.positions:
            return None
        if not mask_fits(mask.shape[1:], self.positions):
            raise ShapeError(
                f"{site}: the mask has positions {mask.shape[1:]}, this site has {self.positions}. Leave the site out, or pass "
                "ls.Data(…, mask=False) to count padding too."
            )
        if rows is None:
            if mask.all():
                return None
            raise ShapeError(
                f"{site}: states that span all positions cannot leave masked ones out. Measure per='position'."
            )
        spread = mask.reshape(*mask.shape, *(1,) * (len(self.positions) - mask.ndim + 1))
        return np.broadcast_to(spread, (len(mask), *self.positions)).reshape(len(mask), rows)


def mask_fits(mask: tuple[int, ...], positions: tuple[int, ...]) -> bool:
    """The rule for row masks: a mask speaks of the leading position axes; a site without positions (pooled) is not masked."""
    return not positions or positions[: len(mask)] == mask

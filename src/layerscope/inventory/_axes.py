"""Where units and samples are after an operation."""

from collections.abc import Mapping, Sequence
from typing import Any

from . import _operations as ops
from ._flow import Flow

Placed = tuple[int | None, int | None, bool]
"""Unit axis, sample axis (None where unknown), and whether samples share theirs with something else."""


def moved(source: Flow, went: Sequence[ops.Went | None]) -> Placed:
    """Where the axes of a source are, told where each axis went."""
    mixed = source.mixed
    units, samples = (
        None if axis is None or axis >= len(went) else went[axis] for axis in (source.unit, source.sample)
    )
    if samples is not None:  # of an axis that samples share the first piece is theirs
        mixed = not samples.alone or (mixed and samples.whole)
    elif source.sample is not None:
        mixed = True
    return None if units is None else units.last, None if samples is None else samples.first, mixed


def placed(
    name: str,
    went: Sequence[ops.Went | None] | None,
    source: Flow,
    old: tuple[int, ...],
    new: tuple[int, ...],
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
) -> Placed:
    """Where the axes of a `source` of shape `old` are in an operation's result of shape `new`."""
    rank, unit, sample = len(new), source.unit, source.sample
    if went is None and name in ops.CUTS:
        went = ops.regrouped(old, new)
    elif went is None and name in ops.REDUCTIONS and rank != len(old):
        went = ops.reduced(len(old), rank, args, kwargs)
    if went is not None:
        return moved(source, went)
    if rank != len(old):
        sample = sample if sample == 0 and new[:1] == old[:1] else None
    if name in ops.LAST:
        unit = max(rank - 1, 0)
    elif rank != len(old):
        unit = None
    return unit, sample, source.mixed

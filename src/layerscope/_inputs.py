"""The input itself as row 0 of a profile: what a layer's numbers are measured against."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ._errors import DataError
from ._site import INPUT as INPUT
from ._site import Activations, Axes
from .feed import Batch
from .inventory import Layer, Layers, Role
from .tallies import to_numpy


def is_input(layer: Layer) -> bool:
    """Whether it is that row, and no site of the model."""
    return layer.site == INPUT and layer.kind == "input"


def with_input(listed: Layers, batch: Batch, alignment: Any) -> Layers:
    """The layers with the model's first input in front, where it is an array of real numbers that is not among them."""
    values = _first(batch)
    if values is None or any(x.site == INPUT and not x.left_out for x in listed):
        return listed
    shape = tuple(int(size) for size in values.shape)
    try:
        frame = alignment.transformations.frame_of(values)
        unit = next((k for k in range(1, len(shape)) if frame.space is not None and k not in frame.space), 1)
    except DataError:
        unit = 1  # which axis holds the colours only feature maps ask for
    if len(shape) == 3:
        shape, unit = (shape[0], 1, *shape[1:]), 1  # images without colours are one map
    layer = Layer(
        INPUT, "input", Role.OTHER, shape, str(values.dtype), Axes(unit), None, note="what the model is given"
    )
    return Layers([layer, *(x for x in listed if x.site != INPUT)])


def input_of(layer: Layer, batch: Batch) -> Activations:
    """The input of a batch as a tally reads it, without padded rows."""
    values = _first(batch)
    assert values is not None  # it was there in the first batch, and the feed insists on one form
    host: NDArray[Any] = np.ascontiguousarray(to_numpy(values)[: len(batch.samples) * batch.samples.transformations])
    host = host.reshape(len(host), *layer.shape[1:])
    if host.dtype != np.float64:
        host = host.astype(np.float32, copy=False)
    return Activations(host, layer.axes, np, mask=batch.samples.flat().mask, host=host)


def _first(batch: Batch) -> Any | None:
    """The first input, where it is an array of real numbers with an axis besides the samples."""
    for values in (*batch.args, *batch.kwargs.values()):
        kind = str(getattr(values, "dtype", ""))
        if "float" in kind and "bfloat16" not in kind and len(values.shape) > 1:
            return values
        return values if kind.endswith("uint8") and len(values.shape) > 2 else None
    return None

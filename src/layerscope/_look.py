"""Before anything is measured: what a model has to read, and the values themselves."""

from dataclasses import replace
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from ._choices import forward_of
from ._road import LOOK
from ._site import Activations, Chunk, Samples
from .feed import Feed
from .inventory import Layer, Layers, Selection, select, wants_inputs, with_rules
from .probes import probe_for
from .tallies import to_numpy


def layers(
    model: Any,
    batch: Any,
    *,
    layers: Selection = None,
    exclude: Selection = None,
    params: Any = None,
    device: Any = None,
) -> Layers:
    """What can be read in a model, and what is read by default: the first line anyone types.

    **Arguments:** `batch` any data that `examine` takes; its first three samples are run. **Gives:** a table, a line per site, in the order
    of the forward pass.
    """
    with probe_for(model, device=device, forward=forward_of(batch), params=params) as probe:
        feed = Feed(_one_batch(batch))
        return select(probe.describe(feed.peek(LOOK), wants_inputs(layers)), layers, exclude)


def activations(
    model: Any,
    batch: Any,
    *,
    layers: Selection = None,
    exclude: Selection = None,
    params: Any = None,
    device: Any = None,
    amp: str | None = None,
) -> dict[str, NDArray[Any]]:
    """The values themselves: {site name: array} for one batch, without tallies; half floats come as float32."""

    with probe_for(model, device=device, amp=amp, forward=forward_of(batch), params=params) as probe:
        feed = Feed(_one_batch(batch))
        whole = feed.peek(feed.length or feed.batch_size)
        listed = select(probe.describe(feed.peek(LOOK), wants_inputs(layers)), layers, exclude)
        ruled = Layers(replace(x, threshold=x.threshold or 0.0) for x in listed)  # values need no firing rule
        chosen = with_rules(ruled, None, None, layers).read
        _, found = probe.run(whole, chosen, _values)
        count = np.arange(len(whole.samples))
        return {
            str(x.site): to_numpy(found[x]["values"].arrays["values"]).take(count, axis=x.axes.sample) for x in chosen
        }


def _values(layer: Layer, a: Activations) -> dict[str, Chunk]:
    """The values while they are there; a copy, as an operation in place may change them later."""
    half = "float16" in str(a.values.dtype)
    values = a.xp.asarray(a.values, dtype=a.xp.float32) if half else a.values
    if a.host is not None:
        values = np.array(to_numpy(values))
    return {"values": Chunk.of({"values": values}, a, Samples(np.empty(0, np.int64)))}


def _one_batch(batch: Any) -> Any:
    """A batch as loaders give it: a list of two is the pair (inputs, labels) here, not two batches."""
    # a cast, as isinstance says not of what
    return tuple(cast(list[Any], batch)) if isinstance(batch, list) else batch

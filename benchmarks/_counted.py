"""One data set of a law, counted by the tally that measures networks."""

import numpy as np

from benchmarks._populations import Setting
from layerscope._site import Chunk, Samples, Site
from layerscope.tallies import StateCounts, StateTable


def counted(setting: Setting, rng: np.random.Generator) -> StateCounts:
    words, sizes = setting.draw(rng, setting.samples)
    samples, m, width = words.shape
    mask = None if sizes is None else np.arange(m) < sizes[:, None]
    tally = StateTable()
    chunk = Chunk({"states": words.reshape(-1, width)}, Samples(np.arange(samples), mask=mask), (m,), setting.units)
    return tally.add(tally.init(Site("layer")), chunk)

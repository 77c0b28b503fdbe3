"""State tables made of chosen patterns, and the brute-force definitions that the estimators are held to."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from layerscope._site import Activations, Chunk, Samples, Site
from layerscope.tallies import StateCounts, StateTable


def bits_of(patterns: NDArray[np.int64], units: int) -> NDArray[np.bool_]:
    """The patterns as numbers, in bits, (…, units)."""
    return (patterns[..., None] >> np.arange(units) & 1).astype(bool)


def table_of(
    patterns: NDArray[np.int64],
    units: int,
    *,
    mask: NDArray[np.bool_] | None = None,
    labels: NDArray[np.int64] | None = None,
    ids: NDArray[np.int64] | None = None,
) -> StateCounts:
    """The table of patterns (samples, positions), each a number below 2^units; with labels, of strata."""
    return table_of_bits(bits_of(patterns, units), mask=mask, labels=labels, ids=ids)


def table_of_bits(
    bits: NDArray[np.bool_],
    *,
    mask: NDArray[np.bool_] | None = None,
    labels: NDArray[np.int64] | None = None,
    ids: NDArray[np.int64] | None = None,
) -> StateCounts:
    """The table of firing bits (samples, positions, units)."""
    tally = StateTable(strata=None if labels is None else "label")
    samples = Samples(np.arange(len(bits)) if ids is None else ids, labels, mask)
    values = bits.astype(np.float32)
    chunk = Chunk(tally.read(Activations.of(values)), samples, bits.shape[1:2], bits.shape[2], 0.0, len(bits))
    return tally.add(tally.init(Site("layer")), chunk)


def fields(
    samples: int, positions: int, units: int, seed: int, spread: float = 0.7, shared: float = 0.0
) -> NDArray[np.int64]:
    """Patterns (samples, positions) that resemble each other within a sample, as those of images do; `shared` makes units alike."""
    rng = np.random.default_rng(seed)
    common = rng.normal(size=(samples, positions, 1)) * shared
    level = rng.normal(size=(samples, 1, units)) * spread + np.linspace(-1, 1, units)
    return ((level + common + rng.normal(size=(samples, positions, units)) > 0) << np.arange(units)).sum(-1)


def one_after_the_other(samples: Sequence[NDArray[np.int64]]) -> tuple[NDArray[np.int64], ...]:
    """n, i and Q of each different pattern, by the definition."""
    patterns, where = np.unique(np.concatenate(samples), return_inverse=True)
    whose = np.repeat(np.arange(len(samples)), [len(sample) for sample in samples])
    pair, c = np.unique(where.reshape(-1) * len(samples) + whose, return_counts=True)
    s = pair // len(samples)
    return tuple(np.bincount(s, w, len(patterns)).astype(np.int64) for w in (c, c > 0, c**2))

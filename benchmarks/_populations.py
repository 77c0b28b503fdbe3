"""Populations of samples whose entropy is known exactly, to draw data sets from: what intervals and brackets are judged by."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

Bits = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Setting:
    """A law to draw `samples` from: `draw(rng, samples)` gives packed states (samples, positions, 1) and how many rows of each sample count.

    `truth` is its entropy in bits, `dependent` whether positions of one sample resemble each other.
    """

    name: str
    units: int
    samples: int
    truth: float
    draw: Callable[[np.random.Generator, int], tuple[NDArray[np.uint64], NDArray[np.int64] | None]]
    dependent: bool = True


def packed(bits: Bits) -> NDArray[np.uint64]:
    """Bits (…, units) as words (…, words)."""
    units = bits.shape[-1]
    padded = np.zeros((*bits.shape[:-1], -(-units // 64) * 64), np.bool_)
    padded[..., :units] = bits
    return np.packbits(padded, axis=-1, bitorder="little").view(np.uint64)


def entropy_of(words: NDArray[np.uint64]) -> float:
    """Shannon entropy of the rows (rows, 1), all equally likely, in bits."""
    _, n = np.unique(words[:, 0], return_counts=True)
    p = n / n.sum()
    return float(-(p * np.log2(p)).sum())


@cache
def fields(
    units: int, smooth: float = 1.5, image: float = 0.5, noise: float = 0.5, seed: int = 0
) -> NDArray[np.uint64]:
    """16,000 samples of 8 × 8 positions: thresholded mixtures of six smooth fields, each with a level of its own in every sample."""
    rng = np.random.default_rng(seed)
    weights = rng.standard_normal((units, 6))
    weights /= np.linalg.norm(weights, axis=1, keepdims=True)
    rate = rng.beta(2, 4, units) * 0.9 + 0.03
    shown = []
    wave = np.fft.fftfreq(8)
    blur = np.exp(-2 * np.pi**2 * smooth**2 * (wave[:, None] ** 2 + wave[None, :] ** 2))
    for _ in range(8):
        z = rng.standard_normal((2000, 6, 8, 8))
        z = np.fft.ifft2(np.fft.fft2(z) * blur).real
        z = np.sqrt(1 - image) * z / z.std() + np.sqrt(image) * rng.standard_normal((2000, 6, 1, 1))
        x = np.sqrt(1 - noise**2) * np.einsum("nr,brhw->bhwn", weights, z)
        x += noise * rng.standard_normal(x.shape)
        shown.append(x.reshape(2000, 64, units).astype(np.float32))
    values = np.concatenate(shown)
    cut = np.array([np.quantile(values[:2000, :, k], 1 - rate[k]) for k in range(units)], np.float32)
    return packed(values > cut)


@cache
def digits(units: int, depth: int = 1, seed: int = 0) -> NDArray[np.uint64]:
    """Handwritten digits, shifted by up to one pixel (16,173 images of 8 × 8), through `depth` layers of random 3 × 3 filters."""
    import layerscope as ls

    rng = np.random.default_rng(seed)
    images = np.concatenate([np.asarray(ls.datasets.digits(size=8, split=part)[0]) for part in ("train", "test")])
    images = images.reshape(-1, 8, 8)
    framed = np.pad(images, ((0, 0), (1, 1), (1, 1)))
    shifts = [framed[:, dy : dy + 8, dx : dx + 8] for dy in range(3) for dx in range(3)]
    x = np.concatenate(shifts)[:, None].astype(np.float32)
    for layer in range(depth):
        filters = rng.standard_normal((units, x.shape[1], 3, 3)).astype(np.float32) / np.sqrt(9 * x.shape[1])
        bias = rng.standard_normal(units).astype(np.float32) * 0.1
        around = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)))
        patches = np.stack([around[:, :, dy : dy + 8, dx : dx + 8] for dy in range(3) for dx in range(3)], axis=2)
        flat = np.ascontiguousarray(patches.transpose(0, 3, 4, 1, 2)).reshape(-1, x.shape[1] * 9)
        x = (flat @ filters.reshape(units, -1).T + bias).reshape(-1, 8, 8, units).transpose(0, 3, 1, 2)
        if layer < depth - 1:
            x = np.maximum(x, 0)
    return packed(x.transpose(0, 2, 3, 1).reshape(len(x), 64, units) > 0)


def resampled(name: str, population: NDArray[np.uint64], units: int, samples: int) -> Setting:
    """Samples drawn with replacement from a population, whose entropy is then exact."""

    def draw(rng: np.random.Generator, count: int) -> tuple[NDArray[np.uint64], None]:
        return population[rng.integers(0, len(population), count)], None

    return Setting(name, units, samples, entropy_of(population.reshape(-1, 1)), draw, population.shape[1] > 1)


def ragged(name: str, population: NDArray[np.uint64], units: int, samples: int) -> Setting:
    """The same with 8 to 64 rows a sample, as padding leaves them."""
    sizes = np.random.default_rng(5).integers(8, population.shape[1] + 1, len(population))
    counted = population[np.arange(population.shape[1]) < sizes[:, None]]

    def draw(rng: np.random.Generator, count: int) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
        chosen = rng.integers(0, len(population), count)
        return population[chosen], sizes[chosen]

    return Setting(name, units, samples, entropy_of(counted), draw)


def h(p: NDArray[np.float64] | float) -> float:
    """Σ −p log2 p − (1 − p) log2(1 − p)."""
    p = np.asarray(p)
    return float(-(p * np.log2(p) + (1 - p) * np.log2(1 - p)).sum())


def independent(name: str, units: int, samples: int, *, copies: int = 1, background: float = 0.0) -> Setting:
    """One row a sample: independent units, each repeated `copies` times; a share `background` of the samples shows no unit at all."""
    rate = np.random.default_rng(units).beta(2, 4, units // copies) * 0.9 + 0.03
    silent = float(np.prod(1 - rate))
    truth = h(rate)
    if background:
        rest = truth + silent * np.log2(silent)
        dark = background + (1 - background) * silent
        light = 1 - background
        truth = -dark * np.log2(dark) + light * rest - light * (1 - silent) * np.log2(light)

    def draw(rng: np.random.Generator, count: int) -> tuple[NDArray[np.uint64], None]:
        bits = rng.random((count, units // copies)) < rate
        bits[rng.random(count) < background] = False
        return packed(np.repeat(bits, copies, axis=1))[:, None], None

    return Setting(name, units, samples, float(truth), draw, dependent=False)


def uniform(bits: int, samples: int) -> Setting:
    """One row a sample, 2^bits states equally likely: hard where few of them come twice."""

    def draw(rng: np.random.Generator, count: int) -> tuple[NDArray[np.uint64], None]:
        return rng.integers(0, 2**bits, (count, 1, 1), dtype=np.uint64), None

    return Setting(f"uniform, 2^{bits} states", bits, samples, float(bits), draw, dependent=False)


def settings() -> list[Setting]:
    """What is judged: smooth fields, digits through filters, single rows, ragged samples, and laws made to mislead."""
    f8, f12, f16, f24 = (fields(n) for n in (8, 12, 16, 24))
    strong = fields(12, 2.5, 0.8, 0.3, 2)
    d8, d16, d32, deep = digits(8), digits(16), digits(32), digits(16, 2)
    return [
        resampled("field, 8 units", f8, 8, 50), resampled("field, 8 units", f8, 8, 200),
        resampled("field, 12 units", f12, 12, 50), resampled("field, 12 units", f12, 12, 200),
        resampled("field, 12 units", f12, 12, 1000), resampled("strong field, 12 units", strong, 12, 200),
        resampled("field, 16 units", f16, 16, 200), resampled("field, 24 units", f24, 24, 200),
        resampled("digits, 8 filters", d8, 8, 50), resampled("digits, 8 filters", d8, 8, 200),
        resampled("digits, 16 filters", d16, 16, 50), resampled("digits, 16 filters", d16, 16, 200),
        resampled("digits, 32 filters", d32, 32, 200), resampled("digits, 32 filters", d32, 32, 800),
        resampled("digits, 2 layers of 16", deep, 16, 200), ragged("digits, 16 filters, 8 to 64 rows", d16, 16, 200),
        ragged("field, 12 units, 8 to 64 rows", f12, 12, 200),
        resampled("one row of the field, 12 units", np.ascontiguousarray(f12[:, 27:28]), 12, 1000),
        resampled("one row of the field, 12 units", np.ascontiguousarray(f12[:, 27:28]), 12, 5000),
        resampled("one row of the field, 16 units", np.ascontiguousarray(f16[:, 27:28]), 16, 1000),
        uniform(10, 1000), uniform(18, 1000), independent("20 units", 20, 2000), independent("64 units", 64, 2000),
        independent("64 units, each 8 times", 512, 2000, copies=8),
        independent("64 units, 90 % of samples silent", 64, 2000, background=0.9),
        independent("64 units, 99 % of samples silent", 64, 2000, background=0.99),
    ]  # fmt: skip

"""Ready sets of transformations."""

from collections.abc import Callable, Sequence
from typing import Any, Literal

from .._errors import DataError
from ._affine import Affine, rotate, scale, translate
from ._custom import Draw
from ._exact import Identity, QuarterTurns
from ._grid import Transformations
from ._resample import Border, Interpolation

Channels = Literal["first", "last"] | None


def rotations(
    n: int = 16,
    *,
    border: Border = "zero",
    interpolation: Interpolation = "linear",
    channels: Channels = None,
) -> Transformations:
    """n rotations by i · (360 / n)°, counter-clockwise, the first by 0°.

    >>> rotations(4).names
    ('rotate 0°', 'rotate 90°', 'rotate 180°', 'rotate 270°')
    """
    _check_count("rotations", n)
    turns = (rotate(360 * i / n, border=border, interpolation=interpolation) for i in range(n))
    return Transformations(tuple(turns), channels)


def translations(
    *,
    pixels: Sequence[float] | None = None,
    fractions: Sequence[float] | None = None,
    directions: Literal["x", "y", "both"] = "both",
    border: Border = "zero",
    channels: Channels = None,
) -> Transformations:
    """Shifts by all the given distances along x, along y, or all pairs of both; in pixels, or in fractions of the image's size.

    >>> translations(pixels=(0, 3), directions="x").names
    ('shift (0, 0) px', 'shift (3, 0) px')
    """
    given = pixels if fractions is None else fractions
    if given is None or (pixels is not None and fractions is not None) or directions not in ("x", "y", "both"):
        raise DataError(
            f"translations: give one of pixels=(0, 2, …) and fractions=(0, 0.1, …), and directions 'x', 'y' or 'both'; got pixels={pixels!r}, "
            f"fractions={fractions!r}, directions={directions!r}."
        )
    pairs = {
        "x": [(d, 0.0) for d in given],
        "y": [(0.0, d) for d in given],
        "both": [(x, y) for y in given for x in given],
    }[directions]
    return Transformations(tuple(_shift(pair, fractions is None, border) for pair in pairs), channels)


def scales(
    factors: Sequence[float],
    *,
    border: Border = "zero",
    interpolation: Interpolation = "linear",
    channels: Channels = None,
) -> Transformations:
    """Zooms by the given factors; 1 leaves the image as it is.

    >>> len(scales((0.5, 1, 2)))
    3
    """
    zooms = (scale(factor, border=border, interpolation=interpolation) for factor in factors)
    return Transformations(tuple(zooms), channels)


def quarter_turns(channels: Channels = None) -> Transformations:
    """The four exact rotations of a square image."""
    return Transformations(tuple(QuarterTurns(k) for k in range(4)), channels)


def sampled(
    random_transform: Callable[[Any], Any], n: int, seed: int = 0, *, channels: Channels = None
) -> Transformations:
    """n frozen draws of a random transformation of batches: the same for every sample, batch and run.

    It draws from Python's, NumPy's or PyTorch's global random numbers, once per call. **Raises:** `DataError`, on the first batch, for one
    that draws from elsewhere, or a new draw for every sample.
    """
    _check_count("sampled", n)
    return Transformations(tuple(Draw(random_transform, k, seed) for k in range(n)), channels)


def published(group: int, n: int, *, border: Border = "zero", channels: Channels = None) -> Transformations:
    """The groups of transformations of Quiroga et al.'s data set: n columns, shifts by i / n of the image's size.

    **Arguments:** `group` 0 n identities; 1 rotations by i · 360° / n; 2 shifts along x; 3 along y; 4 along both; 5 rotations with shifts
    along x; 6 with shifts along y.
    """
    _check_count("published", n)
    if group not in range(7):
        raise DataError(f"published: groups are 0 to 6, got {group!r}.")
    if group == 0:
        return Transformations((Identity(),) * n, channels)
    columns: list[Affine] = []
    for i in range(n):
        x, y = (i / n if group in (2, 4, 5) else 0.0), (i / n if group in (3, 4, 6) else 0.0)
        turn = rotate(360 * i / n, border=border)
        move = translate(fraction=(x, y), border=border)
        columns.append(turn if group == 1 else move if group < 5 else turn.followed_by(move))
    return Transformations(tuple(columns), channels)


def _shift(by: tuple[float, float], pixels: bool, border: Border) -> Affine:
    return translate(pixels=by, border=border) if pixels else translate(fraction=by, border=border)


def _check_count(who: str, n: Any) -> None:
    if isinstance(n, bool) or not isinstance(n, int) or n < 1:
        raise DataError(f"{who}: n is a number of transformations, 1 or more, got {n!r}.")

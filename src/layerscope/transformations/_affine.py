"""Rotations, shifts, zooms and shears: maps of the plane that compose and invert as matrices do."""

import functools
import math
from dataclasses import dataclass, field, replace
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray

from .._errors import DataError
from ._abstract import AbstractTransformation, Frame, check_number, space_of
from ._resample import Border, Interpolation, Points, realigned, resampled

Matrix = tuple[tuple[float, float], tuple[float, float]]
UNIT: Matrix = ((1.0, 0.0), (0.0, 1.0))
NONE: Matrix = ((0.0, 0.0), (0.0, 0.0))
SNAP = 1e-9
"""Pixels from a pixel's centre that are rounding: a quarter turn moves values and computes none."""


@dataclass(frozen=True)
class Affine(AbstractTransformation):
    r"""An affine map of images about their centre, $q = A (p - c) + c + t$ in pixels, x to the right and y downwards.

    **Arguments:** `linear` the matrix A; the shift is $t = P + F (W, H)$ with `pixels` P and `fraction` F, which makes maps of both kinds
    closed under composition for any size of image; `border` "zero" or "edge": what lies outside; `interpolation` "linear" or "nearest".
    Make them with `rotate`, `translate`, `scale` and `shear`, and join them with `then`: one resample for all.
    **Raises:** `DataError` for a map that cannot be inverted.
    """

    linear: Matrix = UNIT
    pixels: tuple[float, float] = (0.0, 0.0)
    fraction: Matrix = NONE
    border: Border = "zero"
    interpolation: Interpolation = "linear"
    said: str = field(default="", compare=False)

    def __post_init__(self) -> None:
        for name, of in (("linear", self.linear), ("fraction", self.fraction), ("pixels", (self.pixels,))):
            check_number("Affine", **{f"{name}[{i}][{j}]": v for i, row in enumerate(of) for j, v in enumerate(row)})
            rows = tuple(tuple(float(v) for v in row) for row in of)  # files give lists, callers integers
            object.__setattr__(self, name, rows[0] if name == "pixels" else rows)
        for name, choices in (("border", get_args(Border)), ("interpolation", get_args(Interpolation))):
            if getattr(self, name) not in choices:
                raise DataError(f"Affine: {name} is one of {choices}, got {getattr(self, name)!r}.")
        if abs(np.linalg.det(np.array(self.linear))) < 1e-9:
            raise DataError(
                f"Affine: the matrix {self.linear} maps the image onto a line and has no inverse. Give a scale above 0, and shears below 90°."
            )

    @property
    def name(self) -> str:
        return self.said or f"affine {self.linear} {self.pixels} {self.fraction}"

    def apply(self, x: Any, frame: Frame) -> Any:
        return fanned((self,), x, frame)[:, 0]

    def inverse(self) -> "Affine":
        back = np.linalg.inv(np.array(self.linear))
        pixels, fraction = -back @ np.array(self.pixels), -back @ np.array(self.fraction)
        said = f"inverse of {self.said}" if self.said else ""
        if self.said.startswith("inverse of "):
            said = self.said.removeprefix("inverse of ")
        return replace(self, linear=_matrix(back), pixels=_pair(pixels), fraction=_matrix(fraction), said=said)

    def followed_by(self, other: "Affine") -> "Affine":
        """This map, then the other, as one; both must treat border and values between pixels alike."""
        assert self.mode == other.mode  # `chain` sees to it
        a, b = np.array(self.linear), np.array(other.linear)
        pixels = b @ np.array(self.pixels) + np.array(other.pixels)
        fraction = b @ np.array(self.fraction) + np.array(other.fraction)
        said = f"{self.name}, {other.name}"
        return replace(self, linear=_matrix(b @ a), pixels=_pair(pixels), fraction=_matrix(fraction), said=said)

    @property
    def mode(self) -> tuple[Border, Interpolation]:
        return self.border, self.interpolation

    def undo(self, values: Any, frame: Frame) -> Any | None:
        return None if frame.space is None else self.inverse().apply(values, frame)

    def supported(self, shape: tuple[int, int], frame: Frame) -> NDArray[np.bool_]:
        height, width = shape
        points = points_of((self.inverse(),), shape, frame)
        return (points.x[0] >= 0) & (points.x[0] <= width - 1) & (points.y[0] >= 0) & (points.y[0] <= height - 1)


def fanned(maps: tuple[Affine, ...], x: Any, frame: Frame) -> Any:
    """A batch under every map, (samples, …) to (samples, maps, …), in one resample; the maps share border and interpolation."""
    rows, columns = space_of(x, frame, maps[0].name)
    shape = (int(x.shape[rows]), int(x.shape[columns]))
    return resampled(
        x,
        (rows, columns),
        points_of(maps, shape, frame.of_input(x.shape) if not frame.height else frame),
        *maps[0].mode,
    )


def undone(maps: tuple[Affine, ...], values: Any, frame: Frame) -> Any | None:
    """(samples, maps, …) with column k taken back by the inverse of map k, in one resample; None without space."""
    if frame.space is None:
        return None
    rows, columns = frame.space
    shape = (int(values.shape[rows + 1]), int(values.shape[columns + 1]))
    points = points_of(tuple(m.inverse() for m in maps), shape, frame)
    return realigned(values, (rows, columns), points, *maps[0].mode)


@functools.lru_cache(maxsize=256)
def points_of(maps: tuple[Affine, ...], shape: tuple[int, int], frame: Frame) -> Points:
    """Where the pixels of maps (rows, columns) that stand for images of the frame's size come from.

    In the pixels of such a map the affine map is S A S⁻¹ with the shift S t, where S = diag(columns / W, rows / H).
    """
    rows, columns = shape
    image = np.array([frame.width or columns, frame.height or rows], np.float64)
    zoom = np.array([columns, rows]) / image
    centre = (np.array([columns, rows], np.float64) - 1) / 2
    x, y = np.arange(columns)[None, :] - centre[0], np.arange(rows)[:, None] - centre[1]
    found: list[tuple[NDArray[np.float64], NDArray[np.float64]]] = []
    for m in maps:
        back = np.linalg.inv(np.array(m.linear)) * zoom[:, None] / zoom[None, :]
        shift = zoom * (np.array(m.pixels) + np.array(m.fraction) @ image)
        u, v = x - shift[0], y - shift[1]
        found.append(
            (
                _snapped(back[0, 0] * u + back[0, 1] * v + centre[0]),
                _snapped(back[1, 0] * u + back[1, 1] * v + centre[1]),
            )
        )
    return Points(np.stack([f[0] for f in found]), np.stack([f[1] for f in found]))


def _snapped(points: NDArray[np.float64]) -> NDArray[np.float64]:
    near = np.rint(points)
    return np.where(np.abs(points - near) < SNAP, near, points)


def rotate(degrees: float, *, border: Border = "zero", interpolation: Interpolation = "linear") -> Affine:
    """Turn the image counter-clockwise about its centre, by degrees; quarter turns of square images are exact.

    >>> rotate(90).linear
    ((0.0, 1.0), (-1.0, 0.0))
    """
    check_number("rotate", degrees=degrees)
    c, s = _cosine(degrees), _cosine(degrees - 90)
    return Affine(((c, s), (-s, c)), border=border, interpolation=interpolation, said=f"rotate {degrees:g}°")


def translate(
    *,
    pixels: tuple[float, float] | None = None,
    fraction: tuple[float, float] | None = None,
    border: Border = "zero",
    interpolation: Interpolation = "linear",
) -> Affine:
    """Shift the image by (x, y) to the right and downwards: in `pixels`, or in `fraction` of its width and height."""
    given = pixels if fraction is None else fraction
    if given is None or (pixels is not None and fraction is not None) or len(given) != 2:
        raise DataError(
            f"translate: give one of pixels=(x, y) and fraction=(x, y), got pixels={pixels!r}, fraction={fraction!r}."
        )
    x, y = given
    check_number("translate", x=x, y=y)
    if fraction is None:
        return Affine(pixels=(x, y), border=border, interpolation=interpolation, said=f"shift ({x:g}, {y:g}) px")
    share = ((x, 0.0), (0.0, y))
    return Affine(
        fraction=share, border=border, interpolation=interpolation, said=f"shift ({x:.3g}, {y:.3g}) of the size"
    )


def scale(
    factor: float | tuple[float, float], *, border: Border = "zero", interpolation: Interpolation = "linear"
) -> Affine:
    """Zoom about the centre: above 1 the content grows; a pair scales x and y."""
    x, y = factor if isinstance(factor, tuple) else (factor, factor)
    check_number("scale", x=x, y=y)
    if x <= 0 or y <= 0:
        raise DataError(f"scale: a factor is above 0, got {factor!r}. To mirror an image, use ls.transformations.Flip.")
    said = f"scale {x:g}" if x == y else f"scale ({x:g}, {y:g})"
    return Affine(((x, 0.0), (0.0, y)), border=border, interpolation=interpolation, said=said)


def shear(
    x: float = 0.0, y: float = 0.0, *, border: Border = "zero", interpolation: Interpolation = "linear"
) -> Affine:
    """Slant the image, by degrees: x moves a pixel to the right by tan(x) for each one down, y downwards for each one to the right."""
    check_number("shear", x=x, y=y)
    if max(abs(x), abs(y)) >= 90:
        raise DataError(f"shear: angles lie between -90° and 90°, got ({x:g}, {y:g}).")
    matrix = ((1.0, math.tan(math.radians(x))), (math.tan(math.radians(y)), 1.0))
    return Affine(matrix, border=border, interpolation=interpolation, said=f"shear ({x:g}, {y:g})°")


def _cosine(degrees: float) -> float:
    """The cosine, exact at quarter turns."""
    quarter, rest = divmod(float(degrees), 90.0)
    if rest == 0:
        return (1.0, 0.0, -1.0, 0.0)[int(quarter) % 4]
    return math.cos(math.radians(degrees))


def _matrix(of: NDArray[np.float64]) -> Matrix:
    a, b, c, d = (float(v) + 0.0 for v in of.reshape(-1))  # + 0.0: no -0.0 in what is compared and shown
    return (a, b), (c, d)


def _pair(of: NDArray[np.float64]) -> tuple[float, float]:
    return float(of[0]) + 0.0, float(of[1]) + 0.0

"""A set of transformations: the columns of the grid of samples × transformations."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, cast, overload

import numpy as np
from numpy.typing import NDArray

from .._errors import DataError
from ._abstract import AbstractTransformation, Frame
from ._affine import Affine, fanned, undone
from ._arrays import copied, is_array, is_torch, join, namespace, ready, to_host
from ._chain import Chain, chain
from ._custom import Custom, Draw
from ._exact import Identity

if TYPE_CHECKING:
    from ._alignment import Alignment

CHANNELS = (1, 2, 3, 4)
"""Sizes of an axis that may be the colours of an image."""


@dataclass(frozen=True)
class Transformations(Sequence[AbstractTransformation]):
    """T transformations in order, under each of which every sample is shown.

    **Arguments:** `items`; `channels` "first" or "last" where the shape of the images leaves open which axis holds their colours.
    `a * b` are all pairs, first one of a, then one of b; `a + b` are those of a and those of b.
    **Raises:** `DataError` for what is no transformation.
    """

    items: tuple[AbstractTransformation, ...]
    channels: Literal["first", "last"] | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "items", tuple(self.items))
        strange = [item for item in self.items if not isinstance(item, AbstractTransformation)]  # pyright: ignore[reportUnnecessaryIsInstance]
        if strange or not self.items:
            raise DataError(
                f"transformations: {f'{strange[0]!r} is none' if strange else 'there is none'}. Give rotations(16), or "
                "Transformations((rotate(90), Flip())); wrap a function of a batch in Custom(function)."
            )
        if self.channels not in (None, "first", "last"):
            raise DataError(f"transformations: channels is 'first' or 'last', got {self.channels!r}.")

    @overload
    def __getitem__(self, index: int) -> AbstractTransformation: ...
    @overload
    def __getitem__(self, index: slice) -> "Transformations": ...
    def __getitem__(self, index: int | slice) -> "AbstractTransformation | Transformations":
        return replace(self, items=self.items[index]) if isinstance(index, slice) else self.items[index]

    def __len__(self) -> int:
        return len(self.items)

    def __iter__(self) -> Iterator[AbstractTransformation]:
        return iter(self.items)

    def __mul__(self, other: "Transformations") -> "Transformations":
        return Transformations(tuple(chain((a, b)) for a in self for b in other), self.channels or other.channels)

    def __add__(self, other: "Transformations") -> "Transformations":
        return Transformations((*self.items, *other.items), self.channels or other.channels)

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(item.name for item in self.items)

    @property
    def identity(self) -> int | None:
        """The number of the column that leaves inputs as they are, None where there is none."""
        plain = Affine()
        found = (
            k
            for k, item in enumerate(self.items)
            if isinstance(item, Identity)
            or (
                isinstance(item, Affine)
                and (item.linear, item.pixels, item.fraction) == (plain.linear, plain.pixels, plain.fraction)
            )
        )
        return next(found, None)

    # --- inputs ------------------------------------------------------------------------------------------------------------------

    def __call__(self, inputs: Any) -> Any:
        """A batch in which every sample comes T times in a row, as the transformations leave it; nests of arrays and lists likewise.

        **Raises:** `DataError` for a transformation that gives another number or shape of samples.
        """
        if is_array(inputs):
            frame = Frame(None, None) if self.custom else self.frame_of(inputs)
            maps = [item for item in self.items if isinstance(item, Affine)]
            if len(maps) == len(self) and len({m.mode for m in maps}) == 1:
                together = fanned(tuple(maps), inputs, frame)
                return namespace(together).reshape(together, (-1, *together.shape[2:]))
            columns = [_checked(item, _applied(item, inputs, frame), inputs) for item in self.items]
            return join(columns)
        frame = Frame(None, None)
        return _interleaved([_of_form(item, _applied(item, inputs, frame), inputs) for item in self.items])

    def frame_of(self, x: Any) -> Frame:
        """Where the images of a batch have their rows and columns; arrays that are no images have none.

        (samples, rows, columns), or four axes of which one holds colours: it has 1 to 4 entries, or `channels` names it.
        **Raises:** `DataError` where both could be the colours.
        """
        shape = tuple(int(size) for size in x.shape)
        if len(shape) == 3:
            return Frame(1, 2).of_input(shape)
        if len(shape) != 4:
            return Frame(None, None)
        first = shape[1] in CHANNELS
        last = shape[3] in CHANNELS and not (first and is_torch(x))  # PyTorch has colours in front
        if self.channels is None and first == last:
            raise DataError(
                f"transformations: which axis of images of shape {shape} holds the colours? Say so: "
                "Transformations(items, channels='first'), or rotations(16, channels='last')."
            )
        in_front = self.channels == "first" if self.channels else first
        return (Frame(2, 3) if in_front else Frame(1, 2)).of_input(shape)

    def check(self, inputs: Any) -> None:
        """Assert on a first batch that everything here is what it says.

        **Raises:** `DataError` for fewer than two transformations, one that gives NaN, one whose second call differs or that treats a
        sample differently in another batch, and an inverse that is none.
        """
        if len(self) < 2:
            raise DataError(
                f"transformations: only {self.names[0]!r}. A variance over transformations needs two or more; the untransformed inputs are "
                "one of them: Transformations((Identity(), …))."
            )
        for item in filter(_is_foreign, self.items):
            if is_array(inputs):
                _check_array(item, inputs, Frame(None, None) if self.custom else self.frame_of(inputs))
            elif not _equal(*(_of_form(item, _applied(item, inputs, Frame(None, None)), inputs) for _ in range(2))):
                raise DataError(_differs(item))

    def alignment(self, inputs: Any) -> "Alignment":
        """These transformations with the size of the images they act on: what takes them back in a layer's output."""
        from ._alignment import Alignment

        frame = self.frame_of(inputs) if is_array(inputs) and not self.custom else Frame(None, None)
        return Alignment(self, frame.height, frame.width)

    @property
    def custom(self) -> bool:
        """Whether all are functions of the user's, which know themselves what their inputs are."""
        return all(isinstance(item, Custom | Draw | Identity) for item in self.items)

    @property
    def ours(self) -> bool:
        """Whether none is code of the user's, so that inputs may be transformed on any device."""
        return not any(map(_is_foreign, self.items))

    # --- layers ------------------------------------------------------------------------------------------------------------------

    def align(self, values: Any, frame: Frame) -> Any | None:
        """A layer's output (samples · T, …) with every column taken back, or None where the layer offers nothing to act on."""
        T = len(self)
        grid = namespace(values).reshape(ready(values), (-1, T, *values.shape[1:]))
        maps = tuple(item for item in self.items if isinstance(item, Affine))
        if len(maps) == T and len({m.mode for m in maps}) == 1:
            back = undone(maps, grid, frame)
            return None if back is None else namespace(back).reshape(back, values.shape)
        columns: list[Any] = []
        for k, item in enumerate(self.items):
            column = item.undo(copied(grid[:, k]) if _is_foreign(item) else grid[:, k], frame)
            if column is None:
                return None
            columns.append(column)
        return join(columns)

    def supported(self, shape: tuple[int, int], frame: Frame) -> NDArray[np.bool_]:
        """Which pixels of a map (rows, columns) rest on values inside it under every transformation."""
        return np.logical_and.reduce([item.supported(shape, frame) for item in self.items])


def _is_foreign(item: AbstractTransformation) -> bool:
    """Whether it is code of the user's; what is defined here is known to be what it says."""
    parts = item.parts if isinstance(item, Chain) else (item,)
    return any(
        isinstance(part, Custom | Draw) or not type(part).__module__.startswith(__package__ or "") for part in parts
    )


def _applied(item: AbstractTransformation, inputs: Any, frame: Frame) -> Any:
    """What a transformation makes of a batch; code of the user's may work in place, on a copy that is no other column's."""
    return item.apply(copied(inputs) if _is_foreign(item) else inputs, frame)


def _checked(item: AbstractTransformation, made: Any, given: Any) -> Any:
    shape = tuple(getattr(made, "shape", ()))
    if shape != tuple(given.shape):
        raise DataError(
            f"{item.name}: inputs of shape {tuple(given.shape)} became {shape or type(made).__name__}. A transformation keeps the shape; "
            "crop or pad to it."
        )
    return made


def _of_form(item: AbstractTransformation, made: Any, given: Any) -> Any:
    """**Raises:** `DataError` unless a nest came out in the form it went in."""
    seen, was = type(made).__name__, type(given).__name__
    if isinstance(given, Mapping):
        parts = cast(Mapping[Any, Any], given)
        if isinstance(made, Mapping) and parts.keys() == cast(Mapping[Any, Any], made).keys():
            return {key: _of_form(item, made[key], parts[key]) for key in parts}
    elif is_array(given):
        return _checked(item, made, given)
    elif isinstance(made, list | tuple) and len(cast(Sequence[Any], made)) == len(given):
        return cast(Sequence[Any], made)
    raise DataError(
        f"{item.name}: {was} became {seen}. A transformation gives a batch of the same form, with as many samples."
    )


def _interleaved(columns: Sequence[Any]) -> Any:
    first: Any = columns[0]
    if isinstance(first, Mapping):
        return {key: _interleaved([column[key] for column in columns]) for key in cast(Mapping[Any, Any], first)}
    if is_array(first):
        return join(columns)
    if isinstance(first, tuple) or any(is_array(part) or isinstance(part, Mapping) for part in first):
        return tuple(_interleaved(part) for part in zip(*columns, strict=True))
    rows = (row for together in zip(*columns, strict=True) for row in together)
    return type(columns[0])(rows)


def _check_array(item: AbstractTransformation, x: Any, frame: Frame) -> None:
    made = _checked(item, _applied(item, x, frame), x)
    once = to_host(made)
    if "float" in str(once.dtype) and np.isfinite(to_host(x)).all() and not np.isfinite(once).all():
        raise DataError(f"{item.name}: it makes NaN or infinite values of finite inputs. Mend it, or leave it out.")
    if not np.array_equal(once, to_host(_applied(item, x, frame)), equal_nan="float" in str(once.dtype)):
        raise DataError(_differs(item))
    alone = to_host(_applied(item, x[-1:], frame))
    if not np.allclose(
        once[-1:].astype(np.float64), alone.astype(np.float64), rtol=1e-4, atol=1e-5 * _size(once), equal_nan=True
    ):
        raise DataError(
            f"{item.name}: a sample comes out differently when it is alone in its batch, so every sample would meet another transformation. "
            "Draw once per call, not once per sample."
        )
    if isinstance(item, Custom) and item.back is not None:
        _check_back(item, x, made)


def _differs(item: AbstractTransformation) -> str:
    return f"{item.name}: a second call gives something else. Freeze the draws: ls.transformations.sampled(transform, n, seed=0)."


def _equal(one: Any, two: Any) -> bool:
    """Whether two batches hold the same: nests of arrays, numbers and texts."""
    if isinstance(one, Mapping):
        parts = cast(Mapping[Any, Any], one)
        return parts.keys() == two.keys() and all(_equal(parts[key], two[key]) for key in parts)
    if isinstance(one, list | tuple):
        pairs = zip(cast(Sequence[Any], one), two, strict=False)
        return len(cast(Sequence[Any], one)) == len(two) and all(_equal(a, b) for a, b in pairs)
    if is_array(one):
        mine, theirs = to_host(one), to_host(two)
        return np.array_equal(mine, theirs, equal_nan="float" in str(mine.dtype))
    return bool(one == two)


def _check_back(item: Custom, x: Any, made: Any) -> None:
    """An inverse must undo most of what was done; interpolation and borders take their part."""
    back: Callable[[Any], Any] = item.inverse().function
    there, again = to_host(made).astype(np.float64), to_host(_checked(item, back(made), x)).astype(np.float64)
    given = to_host(x).astype(np.float64)
    moved, left = np.sqrt(np.mean((there - given) ** 2)), np.sqrt(np.mean((again - given) ** 2))
    if left > 0.5 * moved and left > 1e-6 * _size(given):
        raise DataError(
            f"{item.name}: its inverse is none. The transformation moves the first batch by {moved:.3g} (root mean square), and after the "
            f"inverse {left:.3g} are left. Give the function that takes it back as Custom(function, back=…)."
        )


def _size(x: NDArray[Any]) -> float:
    return float(np.max(np.abs(x.astype(np.float64)))) if x.size else 0.0

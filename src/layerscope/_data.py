"""What the parts of a user's data mean, and how many samples of any framework are stacked, joined and cut.

A *nest* is what a data set gives for one sample or for a batch: tuples, lists and mappings whose leaves are arrays of any framework,
numbers, or `Rows` (texts, pictures: whatever is no array yet).
"""

import hashlib
import numbers
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ._errors import DataError, nearest

LABELS = ("labels", "label", "y", "target", "targets", "class")


@dataclass(frozen=True, eq=False)
class Data:
    """A data source, with what cannot be guessed about it.

    **Arguments:** `source` anything `Feed` reads. `inputs` the part of an item that goes into the model: a key or index (passed first), a
    list of keys (passed by name) or of indices (passed in order), or a function item → inputs. `label`, `mask`, `ids` likewise a key,
    index or function, or a whole array aligned with the samples of an addressable source; `label=False`, `mask=False`: there is none,
    ignore what looks like one. `preprocess` raw batch of inputs → inputs of the model (a tokenizer). `forward` (model, inputs) → output,
    instead of `model(*args, **kwargs)`. `score` (output, targets) → scores per sample, instead of accuracy.

    An *item* is what the source gives at once: a batch for loaders and other streams of batches, one sample for data sets, a slice of the
    columns for arrays. A mapping of inputs is passed by name, a tuple in order. Parts named by `label`, `mask`, `ids` are not passed to
    the model, `attention_mask` excepted. With `score=` only integers of shape (N,) are labels: a matrix is left to the score.

    **Raises:** `DataError` for an argument that is neither.
    """

    source: Any
    inputs: Any = None
    label: Any = None
    mask: Any = None
    ids: Any = None
    preprocess: Callable[[Any], Any] | None = None
    forward: Callable[[Any, Any], Any] | None = None
    score: Callable[[Any, Any], Any] | None = None

    def __post_init__(self) -> None:
        if isinstance(self.source, Data):
            raise DataError("Data: the source is a Data already. Give all arguments to one ls.Data(...).")
        for name in ("preprocess", "forward", "score"):
            value = getattr(self, name)
            if value is not None and not callable(value):
                raise DataError(
                    f"Data: {name}={value!r} cannot be called. Give a function, for example {name}=tokenize."
                )
        inputs = self.inputs
        several = isinstance(inputs, (list, tuple)) and len(inputs) > 0 and all(is_key(key) for key in inputs)
        if not (inputs is None or is_key(inputs) or callable(inputs) or several):
            raise DataError(
                f"Data: inputs={inputs!r} is no key, index, list of them or function. Write inputs='x' or inputs=[0, 1]."
            )
        for name in ("label", "mask", "ids"):
            value = getattr(self, name)
            if value is True or (value is False and name == "ids"):
                raise DataError(
                    f"Data: {name}={value} says nothing. Give a key, index, function or array, or leave it out."
                )
            if not (
                value is None or value is False or is_key(value) or callable(value) or is_array(value) or is_list(value)
            ):
                raise DataError(f"Data: {name}={value!r} is no key, index, function or array.")


def is_key(value: Any) -> bool:
    """Whether it names a part of an item."""
    return isinstance(value, (str, numbers.Integral)) and not isinstance(value, bool)


def is_list(value: Any) -> bool:
    return isinstance(value, (list, tuple))


def whole(value: Any) -> bool:
    """Whether `label=`, `mask=` or `ids=` is a whole array rather than a place in an item."""
    return value is not None and value is not False and not is_key(value) and not callable(value)


class Rows(list[Any]):
    """Samples that are no array (texts, pictures): a list along the sample axis, not parts of an item."""


class Columns(NamedTuple):
    """The parts of an item or of a batch, by what they mean."""

    inputs: Any
    target: Any = None
    mask: Any = None
    ids: Any = None


def is_array(x: Any) -> bool:
    """Whether it is an array of any framework, in memory or on disk; a NumPy scalar is a number."""
    return hasattr(x, "shape") and hasattr(x, "dtype") and not isinstance(x, np.generic)


def is_number(x: Any) -> bool:
    return isinstance(x, (numbers.Number, np.generic))


def is_scalar(x: Any) -> bool:
    """Whether it is one value: a number, a text, an array without axes."""
    return len(x.shape) == 0 if is_array(x) else x is not None and not isinstance(x, (list, tuple, Mapping))


def _numeric(x: Any) -> bool:
    return is_number(x) or (is_list(x) and len(x) > 0 and all(_numeric(part) for part in x))


def normal(nest: Any, *, batch: bool) -> Any:
    """The nest with lists of numbers and pandas columns as arrays and, in a batch, lists of anything else as `Rows`."""
    if hasattr(nest, "iloc"):
        nest = nest.to_numpy()
    if isinstance(nest, np.ndarray):
        if nest.dtype.kind in "OUST":
            return Rows(nest.tolist()) if nest.ndim else nest.item()
        return nest
    if isinstance(nest, Mapping):
        return {key: normal(nest[key], batch=batch) for key in nest}
    if isinstance(nest, Rows) or not is_list(nest):
        return nest
    if _numeric(nest):
        try:
            return np.asarray(nest)
        except ValueError:
            return Rows(nest)  # lists of different lengths
    if batch and len(nest) and not any(is_array(x) or is_list(x) or hasattr(x, "iloc") for x in nest):
        return Rows(nest)
    return _rebuild(nest, [normal(part, batch=batch) for part in nest])


def _rebuild(like: Any, parts: Sequence[Any]) -> Any:
    return type(like)(*parts) if hasattr(like, "_fields") else tuple(parts)


def each(function: Callable[..., Any], *nests: Any) -> Any:
    """The nest of `function(leaf of the first, leaf of the second, …)`; None stays None."""
    first = nests[0]
    if isinstance(first, Mapping):
        return {key: each(function, *(nest[key] for nest in nests)) for key in first}
    if is_list(first) and not isinstance(first, Rows):
        return _rebuild(first, [each(function, *parts) for parts in zip(*nests, strict=True)])
    return None if first is None else function(*nests)


def leaves(nest: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """Every leaf with its name: `inputs[0]`, `inputs['mask']`; None included."""
    if isinstance(nest, Columns):
        for field, part in zip(nest._fields, nest, strict=True):
            yield from leaves(part, field)
    elif isinstance(nest, Mapping):
        for key in nest:
            yield from leaves(nest[key], f"{name}[{key!r}]")
    elif is_list(nest) and not isinstance(nest, Rows):
        for index, part in enumerate(nest):
            yield from leaves(part, f"{name}[{index}]")
    else:
        yield name, nest


def length(leaf: Any) -> int | None:
    """Samples of a leaf, None where it has no sample axis."""
    if isinstance(leaf, Rows):
        return len(leaf)
    return int(leaf.shape[0]) if is_array(leaf) and len(leaf.shape) else None


def count(nest: Any, what: str = "the batch") -> int:
    """Samples of a nest.

    **Raises:** `DataError` where its leaves disagree, or one has no sample axis.
    """
    lengths = {name: length(leaf) for name, leaf in leaves(nest, "inputs") if leaf is not None}
    if not lengths:
        raise DataError(f"Data: {what} holds nothing. Say where the inputs are: ls.Data(data, inputs=...).")
    for name, rows in lengths.items():
        if rows is None:
            leaf = dict(leaves(nest, "inputs"))[name]
            raise DataError(
                f"Data: {name} of {what} is {describe(leaf)} and has no sample axis. "
                "Give arrays whose first axis counts samples, or say how to make them: ls.Data(data, preprocess=...)."
            )
    if len(set(lengths.values())) > 1:
        seen = ", ".join(f"{name} has {rows}" for name, rows in lengths.items())
        raise DataError(
            f"Data: the parts of {what} differ in their number of samples: {seen}. The first axis of each must count the same samples. "
            "(If each item is one sample, stack them first: np.stack(...).) Else say which parts to read: ls.Data(data, inputs=0, label=1)."
        )
    return next(rows for rows in lengths.values() if rows is not None)


def describe(leaf: Any) -> str:
    """`float32, shape (N, 3)` for people."""
    if is_array(leaf):
        shape = [str(int(size)) for size in leaf.shape]
        shape = ["N", *shape[1:]] if shape else []
        return f"{dtype_name(leaf)}, shape ({', '.join(shape)}{',' if len(shape) == 1 else ''})"
    if isinstance(leaf, Rows):
        return f"a list of {type(leaf[0]).__name__}" if leaf else "an empty list"
    if isinstance(leaf, (Mapping, list, tuple)):
        return f"a {type(leaf).__name__} of {len(leaf)}"
    return f"{leaf!r}" if is_number(leaf) else f"a {type(leaf).__name__}"


def dtype_name(x: Any) -> str:
    """`float32`, whatever the framework calls it."""
    return str(getattr(x.dtype, "name", x.dtype)).removeprefix("torch.")


def form(nest: Any, *, sizes_from: int) -> dict[str, str]:
    """Per leaf its framework, dtype, number of axes, and sizes from that axis on: what must not change from batch to batch."""

    def one(leaf: Any) -> str:
        if is_array(leaf):
            sizes = [
                str(int(n)) if axis >= sizes_from else "N" if axis == 0 else "*" for axis, n in enumerate(leaf.shape)
            ]
            return f"{type(leaf).__module__.split('.')[0].removesuffix('lib')} {dtype_name(leaf)} ({', '.join(sizes)})"
        return "None" if leaf is None else "numbers" if is_number(leaf) else "objects"

    return {name: one(leaf) for name, leaf in leaves(nest)}


def same_form(left: dict[str, str], right: dict[str, str], names: tuple[str, str], remedy: str) -> None:
    """**Raises:** `DataError` that names the first difference."""
    for name in left | right:
        a, b = left.get(name, "nothing"), right.get(name, "nothing")
        if a != b:
            raise DataError(f"Data: {name} is {b} in {names[1]} but {a} in {names[0]}. {remedy}")


def _namespace(x: Any) -> Any:
    """The functions `stack` and `concat` of the array's framework."""
    if type(x).__module__.startswith("tensorflow"):
        return sys.modules["tensorflow"]
    from array_api_compat import array_namespace

    return array_namespace(x)


def stack(samples: Sequence[Any]) -> Any:
    """A batch of samples of one form: arrays are stacked, numbers become an array of the framework beside them, the rest `Rows`."""
    first = form(samples[0], sizes_from=0)
    for number, sample in enumerate(samples):
        names = ("the first sample of its batch", f"sample {number} of it")
        same_form(
            first,
            form(sample, sizes_from=0),
            names,
            "Samples of one form make a batch: pad or resize them in the data set.",
        )
    like = next((leaf for _, leaf in leaves(samples[0]) if is_array(leaf)), np.empty(0))

    def one(*values: Any) -> Any:
        if is_array(values[0]):
            return _namespace(values[0]).stack(values)
        if is_number(values[0]):
            together = np.asarray(values)
            return together if isinstance(like, np.ndarray) else _as_framework(together, like)
        return Rows(values)

    return each(one, *samples)


def _as_framework(values: NDArray[Any], like: Any) -> Any:
    if type(like).__module__.startswith("tensorflow"):
        return sys.modules["tensorflow"].convert_to_tensor(values)
    return _namespace(like).asarray(values)


def concat(pieces: Sequence[Any]) -> Any:
    """Batches of one form, one behind the other; a single one is given back as it is."""
    if len(pieces) == 1:
        return pieces[0]
    for piece in pieces[1:]:
        names = ("the batch before", "another")
        same_form(
            form(pieces[0], sizes_from=1),
            form(piece, sizes_from=1),
            names,
            "Such batches cannot be joined: leave out batch_size= to keep them as they are, or pad all alike.",
        )

    def one(*values: Any) -> Any:
        if isinstance(values[0], Rows):
            return Rows(reduce(list.__add__, values))
        return _namespace(values[0]).concat(values, axis=0)

    return each(one, *pieces)


def cut(nest: Any, start: int, stop: int) -> Any:
    """Samples start … stop of a nest."""
    if start == 0 and all(length(leaf) in (None, stop) for _, leaf in leaves(nest)):
        return nest
    return each(lambda leaf: Rows(leaf[start:stop]) if isinstance(leaf, Rows) else leaf[start:stop], nest)


def take(nest: Any, index: NDArray[np.int64]) -> Any:
    """Samples by increasing index: a slice where they lie side by side, so that a file is read in one piece."""
    side_by_side = index[-1] - index[0] == len(index) - 1

    def one(leaf: Any) -> Any:
        if isinstance(leaf, Rows):
            return Rows(leaf[int(i)] for i in index)
        if side_by_side:
            part = leaf[int(index[0]) : int(index[-1]) + 1]
        elif type(leaf).__module__.startswith("tensorflow"):
            part = sys.modules["tensorflow"].gather(leaf, index)
        else:
            part = leaf.oindex[index] if hasattr(leaf, "oindex") else leaf[index]  # zarr: by its outer index
        return np.array(part) if isinstance(part, np.memmap) else part

    return each(one, nest)


def pad(nest: Any, size: int) -> Any:
    """The nest with its last sample repeated until there are `size`."""
    rows = count(nest)
    if rows == size:
        return nest
    last = cut(nest, rows - 1, rows)
    return concat([nest, *[last] * (size - rows)])


def host(x: Any) -> NDArray[Any]:
    """The array in NumPy, from any framework and device."""
    if hasattr(x, "detach"):
        x = x.detach().cpu()
        x = x.float() if dtype_name(x) == "bfloat16" else x  # NumPy has no bfloat16
    return np.asarray(x)


@dataclass(frozen=True)
class Layout:
    """Where inputs, target, mask and ids lie in an item: a key or index, a tuple of them, a function, or None for the whole item / none."""

    inputs: Any = None
    label: Any = None
    mask: Any = None
    ids: Any = None
    parts: int | tuple[Any, ...] | None = None

    def select(self, item: Any) -> Columns:
        """The parts of an item."""
        if _parts(item) != self.parts:
            raise DataError(
                f"Data: an item has {_outline(item)}, the first had {_outline_of(self.parts)}. All items must have the same parts; "
                "say which to read if some vary: ls.Data(data, inputs=lambda item: ..., label=lambda item: ...)."
            )
        return Columns(
            self._inputs(item),
            *(None if key is None else _pick(item, key) for key in (self.label, self.mask, self.ids)),
        )

    def _inputs(self, item: Any) -> Any:
        if self.inputs is None:
            return item
        if isinstance(self.inputs, tuple):
            chosen = [_pick(item, key) for key in self.inputs]
            return dict(zip(self.inputs, chosen, strict=True)) if isinstance(item, Mapping) else tuple(chosen)
        return _pick(item, self.inputs)

    def words(self) -> str:
        """`inputs: item[0]; labels: item[1]`."""
        if isinstance(self.inputs, tuple) and all(isinstance(key, str) for key in self.inputs):
            inputs = ", ".join(self.inputs) + " (passed by name)"
        elif isinstance(self.inputs, tuple):
            inputs = ", ".join(place(key) for key in self.inputs)
        else:
            inputs = "the whole item" if self.inputs is None else place(self.inputs)
        return f"inputs: {inputs}"


def place(key: Any) -> str:
    """How people write a part of an item."""
    return f"item[{key!r}]" if is_key(key) else f"{getattr(key, '__name__', 'a function')}(item)"


def _parts(item: Any) -> int | tuple[Any, ...] | None:
    if isinstance(item, Mapping):
        return tuple(sorted(map(str, item)))
    return len(item) if is_list(item) and not isinstance(item, Rows) else None


def _outline(item: Any) -> str:
    return _outline_of(_parts(item))


def _outline_of(parts: int | tuple[Any, ...] | None) -> str:
    if parts is None:
        return "no parts"
    return f"{parts} parts" if isinstance(parts, int) else f"the keys {', '.join(parts)}"


def _pick(item: Any, key: Any) -> Any:
    if callable(key):
        return key(item)
    try:
        return item[key]
    except (KeyError, IndexError, TypeError):
        pass
    if isinstance(item, Mapping):
        raise DataError(
            f"Data: there is no {key!r} in an item; its keys are: {', '.join(map(str, item))}."
            f"{nearest(str(key), [str(k) for k in item])}"
        )
    raise DataError(f"Data: there is no item[{key!r}]: an item has {_outline(item)}.")


def locate(data: Data, item: Any) -> Layout:
    """Where things lie in items like this one: what the user said, else what every framework has.

    A pair is (inputs, target). In a mapping `labels`, `label`, `y`, `target`, `targets`, `class` is the label and all else goes in by name.

    **Raises:** `DataError` for what has more than one reading.
    """
    label, mask, ids = (None if whole(v) or v is False else v for v in (data.label, data.mask, data.ids))
    named = [key for key in (label, mask, ids) if is_key(key)]
    inputs = tuple(data.inputs) if is_list(data.inputs) else data.inputs
    parts = _parts(item)
    if isinstance(item, Mapping):
        found = [key for key in LABELS if key in item]
        asked = inputs if isinstance(inputs, tuple) else (inputs,)
        found = [key for key in found if key not in asked and key not in named]
        if data.label is None and len(found) > 1:
            raise DataError(
                f"Data: several keys look like labels: {', '.join(found)}. Say which one is: ls.Data(data, label={found[0]!r}), "
                "and what goes into the model: inputs=[...]."
            )
        if label is None and data.label is None and found:
            label = found[0]
        if inputs is None:
            left_out = {key for key in (*named, label, *found) if is_key(key)} - {"attention_mask"}
            inputs = tuple(key for key in item if key not in left_out)
            if not inputs or not all(isinstance(key, str) for key in inputs):
                raise DataError(
                    f"Data: found no inputs in a dict with the keys {', '.join(map(repr, item))}. "
                    "Say what goes into the model: ls.Data(data, inputs='x')."
                )
    elif isinstance(parts, int):
        rest = [i for i in range(parts) if i not in named and i - parts not in named]
        if inputs is not None:
            label = 1 if inputs == 0 and len(rest) == parts == 2 and data.label is None else label
        elif len(rest) == 1 or (len(rest) == 2 and not is_key(label)):
            inputs = rest[0]
            label = rest[1] if len(rest) == 2 and data.label is None else label
        else:
            raise DataError(
                f"Data: an item has {parts} parts, and it is not clear which are inputs and which is the target. "
                f"Say it: ls.Data(data, inputs={'0' if parts < 3 else list(range(parts - 1))}, label={parts - 1})."
            )
        if (
            label == 1
            and inputs == 0
            and isinstance(item[0], Mapping)
            and (twice := [key for key in LABELS if key in item[0]])
        ):
            raise DataError(
                f"Data: the inputs hold {twice[0]!r}, which looks like the label, and there is a second part, the target. "
                f"Say which is which: ls.Data(data, inputs=lambda item: ..., label=1)."
            )
    elif is_key(inputs) or isinstance(inputs, tuple) or named:
        raise DataError(
            f"Data: inputs, label, mask or ids name a part of an item, but an item is {describe(item)} without parts. "
            "Leave them out, or give whole arrays."
        )
    return Layout(inputs, label, mask, ids, parts)


def arguments(inputs: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Inputs as a forward takes them: a mapping by name, a tuple in order."""
    if isinstance(inputs, Mapping):
        return (), {str(key): inputs[key] for key in inputs}
    return (tuple(inputs), {}) if is_list(inputs) and not isinstance(inputs, Rows) else ((inputs,), {})


def check_tensors(args: tuple[Any, ...], kwargs: dict[str, Any], *, preprocessed: bool) -> None:
    """**Raises:** `DataError` where an input is text, a picture or another object."""
    for name, leaf in (*leaves(args, "inputs"), *leaves(kwargs, "inputs")):
        if leaf is None or is_array(leaf):
            continue
        kind = type(leaf[0]).__name__ if isinstance(leaf, Rows) and leaf else type(leaf).__name__
        if preprocessed:
            raise DataError(
                f"Data: preprocess gave {kind} for {name}, which is no array. It must give what the model takes, "
                "for example tokenizer(texts, padding=True, return_tensors='pt')."
            )
        raise DataError(
            f"Data: {name} holds {kind}, which no model takes as it is. Say how to make arrays of a batch of them: "
            "ls.Data(data, preprocess=lambda batch: ...)."
        )


def read_labels(target: Any, *, matrix: bool = True) -> tuple[NDArray[np.int64] | None, str]:
    """Labels and their kind: integers of shape (N,), (N, 1) or, with `matrix`, one-hot rows (N, C), every row of them.

    The kind is "" for a target that is no label.
    """
    if target is None or not is_array(target):
        return None, ""
    values = host(target)
    if values.dtype.kind in "iub" and (values.ndim == 1 or (values.ndim == 2 and values.shape[1] == 1)):
        kind = "integers" if values.ndim == 1 else "integers, squeezed from (N, 1)"
        return values.reshape(-1).astype(np.int64), kind
    if matrix and values.ndim == 2 and values.shape[1] > 1 and values.dtype.kind in "iubf":
        if bool(np.all((values == 0) | (values == 1))) and bool(np.all((values != 0).sum(axis=1) == 1)):
            return values.argmax(axis=1).astype(np.int64), f"one-hot of {values.shape[1]}"
    return None, ""


def read_mask(mask: Any, rows: int, name: str) -> NDArray[np.bool_]:
    """The mask as booleans (samples, *positions).

    **Raises:** `DataError` for another number of samples, or values other than 0 and 1.
    """
    values = host(np.asarray(mask) if isinstance(mask, Rows) else mask)
    if values.ndim == 0 or len(values) != rows:
        raise DataError(
            f"Data: the mask {name} has {len(values) if values.ndim else 'no'} rows for {rows} samples. A mask has one row per sample, "
            "(samples, positions); mask=False ignores it."
        )
    if values.dtype.kind not in "biuf" or not bool(np.all((values == 0) | (values == 1))):
        raise DataError(
            f"Data: the mask {name} holds values other than 0 and 1 ({values.dtype.name}). Give True where a position counts, "
            "for example ls.Data(data, mask=lambda item: item['bias'] == 0), or mask=False."
        )
    return values.astype(np.bool_)


def read_ids(ids: Any, rows: int) -> tuple[NDArray[np.int64], bool]:
    """Ids as int64, and whether they had to be hashed (texts and all that is no integer: 64 bits of BLAKE2b, the same on every machine)."""
    values = Rows(ids.tolist()) if isinstance(ids, np.ndarray) and ids.dtype.kind in "OUST" else ids
    if not isinstance(values, Rows):
        values = host(values)
        values = values.reshape(-1) if values.ndim == 2 and values.shape[1] == 1 else values
    if not isinstance(values, Rows) and values.ndim != 1:
        raise DataError(
            f"Data: ids have the shape {values.shape}, not one per sample. Give an array of shape ({rows},)."
        )
    if len(values) != rows:
        raise DataError(f"Data: there are {len(values)} ids for {rows} samples. Give one per sample.")
    if not isinstance(values, Rows) and values.dtype.kind in "iu":
        return values.astype(np.int64), False
    hashes = [
        hashlib.blake2b(v if isinstance(v, bytes) else str(v).encode(), digest_size=8).digest() for v in list(values)
    ]
    return np.frombuffer(b"".join(hashes), dtype="<i8").astype(np.int64), True

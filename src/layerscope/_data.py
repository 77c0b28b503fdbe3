"""What the parts of a user's data mean, and how samples of any framework are stacked, joined, cut and read.

A *nest* is what data gives for one sample or for a batch: tuples, lists and mappings whose leaves are arrays of any framework, numbers,
or `Rows` (texts, pictures: what is no array yet).
"""

import hashlib
import numbers
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ._errors import DataError, nearest

LABELS = ("labels", "label", "y", "target", "targets", "class")
"""Keys of a mapping that are the label, and never an input, unless the user says otherwise."""


@dataclass(frozen=True, eq=False)
class Data:
    """A source of data, with what cannot be guessed about it.

    **Arguments:** `source` anything `Feed` reads. `inputs` the part of an item that goes into the model: a key or index (passed first), a
    list of keys (passed by name) or of indices (passed in order), or a function item → inputs. `label`, `mask`, `ids` likewise a key,
    index or function, or a whole array aligned with the samples of an addressable source; `label=False`, `mask=False`: there is none,
    ignore what looks like one. `preprocess` raw batch of inputs → inputs of the model (a tokenizer). `forward` (model, inputs) → output,
    instead of `model(*args, **kwargs)`. `score` (output, targets) → scores per sample, instead of accuracy.

    An *item* is what the source gives at once: a batch for loaders and other streams of batches, one sample for data sets, a slice of the
    columns for arrays. A mapping of inputs is passed by name, a tuple in order. Parts named by `label`, `mask`, `ids` are not passed to
    the model, `attention_mask` excepted. With `score=` only integers of shape (N,) are labels: a matrix is left to the score.

    **Raises:** `DataError` for an argument that is none of these.
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
                    f"Data: {name}={value!r} cannot be called. Give a function, for example {name}=my_{name}."
                )
        inputs = self.inputs
        several = is_list(inputs) and len(inputs) > 0 and all(map(is_key, inputs))
        if not (inputs is None or is_key(inputs) or callable(inputs) or several):
            raise DataError(
                f"Data: inputs={inputs!r} is no key, index, list of them or function. Write inputs='x' or inputs=[0, 1]."
            )
        for name in ("label", "mask", "ids"):
            value = getattr(self, name)
            none = value is None or (value is False and name != "ids")
            if not (none or is_key(value) or callable(value) or is_array(value) or is_list(value)):
                raise DataError(
                    f"Data: {name}={value!r} is no key, index, function or array. Write {name}='key', {name}=1 or {name}=array."
                )


def is_key(value: Any) -> bool:
    """Whether it names a part of an item."""
    return type(value) is not bool and isinstance(value, (str, numbers.Integral))


def is_whole(value: Any) -> bool:
    """Whether `label=`, `mask=` or `ids=` is an array of all samples rather than a place in an item."""
    return value is not None and value is not False and not is_key(value) and not callable(value)


# ---- nests


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


def is_list(x: Any) -> bool:
    """Whether it has parts by index."""
    return isinstance(x, (list, tuple)) and not isinstance(x, Rows)


def is_tuple(x: Any) -> bool:
    return isinstance(x, tuple)


def is_mapping(x: Any) -> bool:
    """Whether it has parts by name."""
    return isinstance(x, Mapping)


def is_rows(x: Any) -> bool:
    return isinstance(x, Rows)


def is_numpy(x: Any) -> bool:
    return isinstance(x, np.ndarray)


def is_scalar(x: Any) -> bool:
    """Whether it is one value: a number, a text, a picture, an array without axes."""
    return len(x.shape) == 0 if is_array(x) else not (x is None or is_list(x) or is_rows(x) or is_mapping(x))


def _is_numeric(x: Any) -> bool:
    return is_number(x) or (is_list(x) and len(x) > 0 and all(map(_is_numeric, x)))


def _is_text(x: Any) -> bool:
    """Whether a NumPy array holds texts or objects."""
    return is_numpy(x) and x.dtype.kind in "OUST"


def normal(nest: Any, *, batch: bool) -> Any:
    """The nest with pandas columns and lists of numbers as arrays and, in a batch, texts and other objects as `Rows`."""
    if isinstance(nest, Columns):
        return Columns(*(normal(part, batch=batch) for part in nest))
    if hasattr(nest, "iloc"):
        nest = nest.to_numpy()
    if _is_text(nest):
        return Rows(nest.tolist()) if nest.ndim else nest.item()
    if is_mapping(nest):
        return {key: normal(nest[key], batch=batch) for key in nest}
    if not is_list(nest):
        return nest
    if _is_numeric(nest):
        try:
            return np.asarray(nest)
        except ValueError:
            return Rows(nest)  # lists of different lengths
    if batch and len(nest) and not any(is_array(part) or is_list(part) or hasattr(part, "iloc") for part in nest):
        return Rows(nest)
    return _like(nest, [normal(part, batch=batch) for part in nest])


def _like(nest: Any, parts: Sequence[Any]) -> Any:
    return type(nest)(*parts) if hasattr(nest, "_fields") else tuple(parts)  # a named tuple stays one


def each(function: Callable[..., Any], *nests: Any) -> Any:
    """The nest of `function(leaf of the first, leaf of the second, …)`; None stays None."""
    first = nests[0]
    if is_mapping(first):
        return {key: each(function, *(nest[key] for nest in nests)) for key in first}
    if is_list(first):
        return _like(first, [each(function, *parts) for parts in zip(*nests, strict=True)])
    return None if first is None else function(*nests)


def leaves(nest: Any, name: str = "inputs") -> Iterator[tuple[str, Any]]:
    """Every leaf with its name: `inputs[0]`, `inputs['mask']`; None included."""
    if isinstance(nest, Columns):
        for field, part in zip(nest._fields, nest, strict=True):
            yield from leaves(part, field)
    elif is_mapping(nest):
        for key in nest:
            yield from leaves(nest[key], f"{name}[{key!r}]")
    elif is_list(nest):
        for index, part in enumerate(nest):
            yield from leaves(part, f"{name}[{index}]")
    else:
        yield name, nest


def length(leaf: Any) -> int | None:
    """Samples of a leaf, None where it has no sample axis."""
    if is_rows(leaf):
        return len(leaf)
    return int(leaf.shape[0]) if is_array(leaf) and len(leaf.shape) else None


def count(nest: Any, what: str = "the batch") -> int:
    """Samples of a nest.

    **Raises:** `DataError` where its leaves disagree, or one has no sample axis.
    """
    rows = 0
    lengths: dict[str, int] = {}
    for name, leaf in leaves(nest):
        if leaf is None:
            continue
        if (found := length(leaf)) is None:
            raise DataError(
                f"Data: {name} of {what} is {describe(leaf)} and has no sample axis. Give arrays whose first axis counts samples, "
                "or say which parts to read: ls.Data(data, inputs=0, label=1)."
            )
        lengths[name] = rows = found
    if not lengths:
        raise DataError(f"Data: {what} holds no inputs. Say where they are: ls.Data(data, inputs=...).")
    if len(set(lengths.values())) > 1:
        seen = ", ".join(f"{name} has {found}" for name, found in lengths.items())
        raise DataError(
            f"Data: the parts of {what} differ in their number of samples: {seen}. The first axis of each must count the same samples: "
            "say which parts to read, ls.Data(data, inputs=0, label=1), or stack the data first if each item is one sample."
        )
    return rows


def dtype_name(x: Any) -> str:
    """`float32`, whatever the framework calls it."""
    return str(getattr(x.dtype, "name", x.dtype)).removeprefix("torch.")


def describe(leaf: Any) -> str:
    """`float32, shape (N, 3)` for people."""
    if is_array(leaf):
        sizes = [str(int(size)) if axis else "N" for axis, size in enumerate(leaf.shape)]
        return f"{dtype_name(leaf)}, shape ({', '.join(sizes)}{',' if len(sizes) == 1 else ''})"
    if is_rows(leaf):
        return f"a list of {type(leaf[0]).__name__}" if leaf else "an empty list"
    if is_list(leaf) or is_mapping(leaf):
        return f"a {type(leaf).__name__} of {len(leaf)}"
    return f"the number {leaf!r}" if is_number(leaf) else f"of type {type(leaf).__name__}"


def form(nest: Any, *, sizes_from: int) -> dict[str, str]:
    """Per leaf its framework, dtype, number of axes, and sizes from that axis on: what must not change from batch to batch."""

    def one(leaf: Any) -> str:
        if is_array(leaf):
            sizes = [str(int(n)) if axis >= sizes_from else "*" if axis else "N" for axis, n in enumerate(leaf.shape)]
            return f"{type(leaf).__module__.split('.')[0].removesuffix('lib')} {dtype_name(leaf)} ({', '.join(sizes)})"
        return "None" if leaf is None else "a number" if is_number(leaf) else "an object"

    return {name: one(leaf) for name, leaf in leaves(nest)}


def check_form(here: dict[str, str], first: dict[str, str], names: tuple[str, str], remedy: str) -> None:
    """**Raises:** `DataError` that names the first difference."""
    for name in first | here:
        a, b = here.get(name, "nothing"), first.get(name, "nothing")
        if a != b:
            raise DataError(f"Data: {name} is {a} in {names[0]}, but {b} in {names[1]}. {remedy}")


def _is_tensorflow(x: Any) -> bool:
    return type(x).__module__.startswith("tensorflow")


def _namespace(x: Any) -> Any:
    """The functions `stack` and `concat` of the array's framework."""
    if _is_tensorflow(x):
        return sys.modules["tensorflow"]
    from array_api_compat import array_namespace

    return array_namespace(x)


def stack(samples: Sequence[Any]) -> Any:
    """A batch of samples: arrays are stacked, numbers become an array of the framework beside them, all else `Rows`.

    **Raises:** `DataError` where the samples are not of one form.
    """
    first = form(samples[0], sizes_from=0)
    for number, sample in enumerate(samples):
        names = (f"sample {number} of a batch", "sample 0")
        check_form(
            form(sample, sizes_from=0), first, names, "Pad or resize them in the data set, or give batches of your own."
        )
    beside = next((leaf for _, leaf in leaves(samples[0]) if is_array(leaf)), np.empty(0))

    def one(*values: Any) -> Any:
        if is_array(values[0]):
            return _namespace(values[0]).stack(values)
        if not is_number(values[0]):
            return Rows(values)
        together = np.asarray(values)
        return (
            _namespace(beside).convert_to_tensor(together)
            if _is_tensorflow(beside)
            else _namespace(beside).asarray(together)
        )

    return each(one, *samples)


def concat(pieces: Sequence[Any]) -> Any:
    """Batches one behind the other; a single one is given back as it is.

    **Raises:** `DataError` where they are not of one form.
    """
    first = form(pieces[0], sizes_from=1) if len(pieces) > 1 else {}
    for piece in pieces[1:]:
        remedy = "They cannot be joined: leave out batch_size= to keep batches as they are, or pad all alike."
        check_form(form(piece, sizes_from=1), first, ("one batch", "the one before"), remedy)

    def one(*values: Any) -> Any:
        if is_rows(values[0]):
            return Rows(row for rows in values for row in rows)
        return _namespace(values[0]).concat(values, axis=0)

    return pieces[0] if len(pieces) == 1 else each(one, *pieces)


def cut(nest: Any, start: int, stop: int) -> Any:
    """Samples start … stop of a nest."""

    def one(leaf: Any) -> Any:
        return Rows(leaf[start:stop]) if is_rows(leaf) else leaf[start:stop]

    return each(one, nest)


def take(nest: Any, index: NDArray[np.int64]) -> Any:
    """Samples by increasing index: a slice where they lie side by side, so that a file is read in one piece."""
    together = index[-1] - index[0] == len(index) - 1

    def one(leaf: Any) -> Any:
        if is_rows(leaf):
            return Rows(leaf[int(i)] for i in index)
        if together:
            part = leaf[int(index[0]) : int(index[-1]) + 1]
        elif _is_tensorflow(leaf):
            part = sys.modules["tensorflow"].gather(leaf, index)
        else:
            part = leaf.oindex[index] if hasattr(leaf, "oindex") else leaf[index]  # zarr: by its outer index
        return np.array(part) if type(part) is np.memmap else part  # read now, and no longer tied to the file

    return each(one, nest)


def pad(nest: Any, size: int) -> Any:
    """The nest with its last sample repeated until there are `size`."""
    rows = count(nest)
    return nest if rows == size else concat([nest, *[cut(nest, rows - 1, rows)] * (size - rows)])


def host(x: Any) -> NDArray[Any]:
    """The array in NumPy, from any framework and device."""
    if hasattr(x, "detach"):
        x = x.detach().cpu()
        x = x.float() if dtype_name(x) == "bfloat16" else x  # NumPy has no bfloat16
    return np.asarray(x)


# ---- which part of an item is what


@dataclass(frozen=True)
class Layout:
    """Where inputs, target, mask and ids lie in an item: a key or index, a function, None; for inputs also a tuple of keys, None for all."""

    inputs: Any = None
    label: Any = None
    mask: Any = None
    ids: Any = None
    parts: Any = None

    def select(self, item: Any) -> Columns:
        """The parts of an item.

        **Raises:** `DataError` where it lacks one, or is made otherwise than the first.
        """
        item = _as_rows(item)
        if _parts(item) != self.parts:
            raise DataError(
                f"Data: an item has {_outline(_parts(item))}, the first had {_outline(self.parts)}. Say how to read both: "
                "ls.Data(data, inputs=lambda item: ..., label=lambda item: ...), or make them alike."
            )
        rest = (None if key is None else _pick(item, key) for key in (self.label, self.mask, self.ids))
        return Columns(item if self.inputs is None else _pick(item, self.inputs), *rest)

    def words(self) -> str:
        """`item[0], item[1]`: the inputs."""
        if self.inputs is None:
            return "the whole item"
        if not is_list(self.inputs):
            return place(self.inputs)
        by_name = isinstance(self.inputs[0], str)
        return ", ".join(map(str if by_name else place, self.inputs)) + (" (passed by name)" if by_name else "")


def place(key: Any) -> str:
    """A part of an item as people write it."""
    return f"item[{key!r}]" if is_key(key) else f"{getattr(key, '__name__', 'a function')}(item)"


def _as_rows(item: Any) -> Any:
    """A list of texts is a batch of them; a tuple of texts has parts."""
    texts = is_list(item) and not is_tuple(item) and all(isinstance(part, (str, bytes)) for part in item)
    return Rows(item) if texts and len(item) else item


def _parts(item: Any) -> Any:
    return tuple(sorted(map(str, item))) if is_mapping(item) else len(item) if is_list(item) else None


def _outline(parts: Any) -> str:
    return "no parts" if parts is None else f"the keys {', '.join(parts)}" if is_list(parts) else f"{parts} parts"


def _pick(item: Any, key: Any) -> Any:
    if callable(key):
        return key(item)
    if is_list(key):
        chosen = [_pick(item, one) for one in key]
        return dict(zip(key, chosen, strict=True)) if is_mapping(item) else tuple(chosen)
    try:
        return item[key]
    except (KeyError, IndexError, TypeError):
        pass
    if is_mapping(item):
        keys = [str(one) for one in item]
        raise DataError(f"Data: an item has no {key!r}; its keys are: {', '.join(keys)}.{nearest(str(key), keys)}")
    raise DataError(f"Data: there is no item[{key!r}]: an item has {_outline(_parts(item))}. Count them from 0.")


def locate(data: Data, item: Any) -> Layout:
    """Where things lie in items like this one: what the user said, else what every framework has.

    A pair is (inputs, target). In a mapping one of `LABELS` is the label, and all else goes in by name.

    **Raises:** `DataError` for what has more than one reading.
    """
    item = _as_rows(item)
    label, mask, ids = (
        None if value is False or is_whole(value) else value for value in (data.label, data.mask, data.ids)
    )
    inputs = tuple(data.inputs) if is_list(data.inputs) else data.inputs
    named = [key for key in (label, mask, ids) if is_key(key)]
    if is_mapping(item):
        inputs, label = _in_mapping(item, inputs, label, named, guess=data.label is None)
    elif is_list(item):
        inputs, label = _in_list(item, inputs, label, named, guess=data.label is None)
    elif is_key(inputs) or is_list(inputs) or named:
        raise DataError(
            f"Data: inputs, label, mask or ids name a part of an item, but an item is one thing without parts, {describe(item)}. "
            "Leave them out, or give functions or whole arrays."
        )
    return Layout(inputs, label, mask, ids, _parts(item))


def _in_mapping(item: Any, inputs: Any, label: Any, named: list[Any], *, guess: bool) -> tuple[Any, Any]:
    asked = inputs if is_list(inputs) else (inputs,)
    found = [key for key in LABELS if key in item and key not in named and key not in asked]
    if guess and len(found) > 1:
        raise DataError(
            f"Data: several keys look like labels: {', '.join(found)}. Say which one is: ls.Data(data, label={found[0]!r}), "
            "and what goes into the model if another one does: inputs=[...]."
        )
    if inputs is None:
        left_out = {*found, *named} - {"attention_mask"}
        inputs = tuple(key for key in item if key not in left_out)
        if not inputs or not all(isinstance(key, str) for key in inputs):
            raise DataError(
                f"Data: found no inputs in a dict with the keys {', '.join(map(repr, item))}. "
                "Say what goes into the model: ls.Data(data, inputs='x')."
            )
    return inputs, found[0] if guess and found else label


def _in_list(item: Any, inputs: Any, label: Any, named: list[Any], *, guess: bool) -> tuple[Any, Any]:
    rest = [i for i in range(len(item)) if i not in named and i - len(item) not in named]
    pair = len(rest) == 2
    if inputs is not None:
        return inputs, 1 if guess and pair and len(item) == 2 and (inputs == 0 or callable(inputs)) else label
    if len(rest) != 1 and (not pair or is_key(label)):
        few, last = list(range(len(item) - 1)), len(item) - 1
        raise DataError(
            f"Data: an item has {len(item)} parts, and it is not clear which are inputs and which is the target. "
            f"Say it: ls.Data(data, inputs={few if len(few) > 1 else 0}, label={last})."
        )
    first = item[rest[0]]
    if guess and pair and is_mapping(first) and (twice := [key for key in LABELS if key in first]):
        raise DataError(
            f"Data: the inputs hold {twice[0]!r}, which looks like the label, and a second part does too. "
            "Say which one is: ls.Data(data, inputs=lambda item: ..., label=1)."
        )
    return rest[0], rest[1] if guess and pair else label


# ---- what a part holds


def arguments(inputs: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Inputs as a forward takes them: a mapping by name, a tuple in order."""
    if is_mapping(inputs):
        return (), {str(key): inputs[key] for key in inputs}
    return (tuple(inputs) if is_list(inputs) else (inputs,)), {}


def check_arrays(inputs: Any, *, preprocessed: bool) -> None:
    """**Raises:** `DataError` where an input is text, a picture or another object."""
    for name, leaf in leaves(inputs):
        if leaf is None or is_array(leaf):
            continue
        if preprocessed:
            raise DataError(
                f"Data: preprocess gave no array for {name} ({describe(leaf)}). It must give what the model takes, for example "
                "preprocess=lambda texts: tokenizer(texts, padding=True, return_tensors='pt')."
            )
        raise DataError(
            f"Data: {name} ({describe(leaf)}) is nothing a model takes. Say how to make arrays of a batch: "
            "ls.Data(data, preprocess=lambda batch: ...)."
        )


def read_labels(target: Any, *, matrix: bool = True) -> tuple[NDArray[np.int64] | None, str]:
    """Labels and their kind: integers of shape (N,) or (N, 1) or, with `matrix`, one-hot rows (N, C); "" for a target that is no label."""
    if not is_array(target):
        return None, ""
    values = host(target)
    if values.dtype.kind in "iub" and (values.ndim == 1 or (values.ndim == 2 and values.shape[1] == 1)):
        return values.reshape(-1).astype(np.int64), "integers" if values.ndim == 1 else "integers, squeezed from (N, 1)"
    if matrix and values.ndim == 2 and values.shape[1] > 1 and values.dtype.kind in "iubf":
        zero_or_one = (values == 0) | (values == 1)
        if bool(zero_or_one.all()) and bool(((values != 0).sum(axis=1) == 1).all()):
            return values.argmax(axis=1).astype(np.int64), f"one-hot of {values.shape[1]}"
    return None, ""


def read_mask(mask: Any, rows: int, name: str) -> NDArray[np.bool_]:
    """The mask as booleans (samples, *positions).

    **Raises:** `DataError` for another number of samples, or values other than 0 and 1.
    """
    values = host(mask)
    if values.ndim == 0 or len(values) != rows:
        raise DataError(
            f"Data: the mask {name} has {len(values) if values.ndim else 'no'} rows for {rows} samples. "
            "A mask has one row per sample, (samples, positions); mask=False ignores it."
        )
    if values.dtype.kind not in "biuf" or not bool(((values == 0) | (values == 1)).all()):
        raise DataError(
            f"Data: the mask {name} holds values other than 0 and 1 ({values.dtype.name}). Give True where a position counts, "
            "for example ls.Data(data, mask=lambda item: item['bias'] == 0), or mask=False."
        )
    return values.astype(np.bool_)


def read_ids(ids: Any, rows: int) -> tuple[NDArray[np.int64], bool]:
    """Ids as int64, and whether they were hashed: texts, and all that is no integer, to 64 bits of BLAKE2b, alike on every machine."""
    values = ids if is_rows(ids) else host(ids)
    shape = (len(values),) if is_rows(values) else values.shape
    if shape not in ((rows,), (rows, 1)):
        raise DataError(f"Data: ids have the shape {shape} for {rows} samples. Give one per sample, shape ({rows},).")
    values = values if is_rows(values) else values.reshape(-1)
    if not is_rows(values) and values.dtype.kind in "iu":
        return values.astype(np.int64), False
    texts = (value if isinstance(value, bytes) else str(value).encode() for value in values)
    hashes = b"".join(hashlib.blake2b(text, digest_size=8).digest() for text in texts)
    return np.frombuffer(hashes, dtype="<i8").astype(np.int64), True

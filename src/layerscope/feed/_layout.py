"""Which part of an item is what: what the user said, else what every framework has."""

from dataclasses import dataclass
from typing import Any

from .._errors import DataError, nearest
from ._data import Data, is_key, is_whole
from ._leaf import Rows, describe, is_list, is_mapping, is_tuple
from ._nest import Columns

LABELS = ("labels", "label", "y", "target", "targets", "class")
"""Keys of a mapping that are the label, and never an input, unless the user says otherwise."""


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

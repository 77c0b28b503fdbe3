"""What a user says about the data: the source, with what cannot be guessed about it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from .._errors import DataError
from ._leaf import is_array, is_integer, is_list


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
    return isinstance(value, str) or is_integer(value)


def is_whole(value: Any) -> bool:
    """Whether `label=`, `mask=` or `ids=` is an array of all samples rather than a place in an item."""
    return value is not None and value is not False and not is_key(value) and not callable(value)

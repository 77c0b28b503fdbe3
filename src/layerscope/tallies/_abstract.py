"""The protocol that everything remembered of a stream obeys."""

import abc
from collections.abc import Iterable, Mapping
from typing import Any, Generic, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from .._site import Activations, Chunk, Samples, Site

T = TypeVar("T")


class AbstractTally(abc.ABC, Generic[T]):
    """A recipe for what to remember of the activations of a site; frozen and compared by value.

    The device summarises a batch (`read`), the host adds it (`add`), and what was added anywhere can be merged (`merge`): streaming,
    resuming, sharding and merging are one operation and cannot disagree.  The law that every tally is tested against:

        add(v, c)  is  merge(v, add(init(site), c))          and `merge` is associative and commutative, all under `same`.

    `add` and `merge` may reuse the memory of their left value: do not use it afterwards.
    """

    @property
    def grid(self) -> bool:
        """Whether it tells the transformed versions of a sample apart; to others they are so many more positions of one sample."""
        return False

    def first(self, samples: int) -> "AbstractTally[Any] | None":
        """What must have been tallied of so many untransformed samples before this can begin; None where nothing must."""
        return None

    def prepared(self, value: T, first: Any) -> T:
        """`value`, which has seen nothing, with what a value of `first` found out.

        What it takes over belongs to the value: `init` stays the identity of `merge`, and two values that took over different things do
        not merge.
        """
        return value

    @abc.abstractmethod
    def read(self, activations: Activations) -> dict[str, Any]:
        """Summarise one batch where it lives: traceable, with shapes fixed by the shape of the input.  Arrays by name."""

    @abc.abstractmethod
    def init(self, site: Site) -> T:
        """The value that has seen nothing: the identity of `merge`."""

    @abc.abstractmethod
    def add(self, value: T, chunk: Chunk) -> T:
        """`value` with one more batch in it, on the host."""

    def observe(self, value: T, activations: Activations, samples: Samples) -> T:
        """`add` of what `read` gives, in one step, where the host sees the activation.

        A tally may have a faster way; the law checks hold it to this one.
        """
        return self.add(value, Chunk.of(self.read(activations), activations, samples))

    @abc.abstractmethod
    def merge(self, left: T, right: T) -> T:
        """Both together.  Raises `MergeError` where they cannot belong together.  Leaves `right` unharmed."""

    @abc.abstractmethod
    def same(self, left: T, right: T) -> bool:
        """Whether two values say the same: to the bit for counts, 2e-6 relative for moments."""

    def covers(self, other: "AbstractTally[Any]") -> bool:
        """Whether this recipe's value answers whatever the other's would; then only this one is kept."""
        return self == other

    def answer(self, value: T) -> Any:
        """The value as a covered recipe's measures read it."""
        return value

    def nbytes(self, value: T) -> int:
        """Bytes the value takes; a tally whose arrays are expensive to make says it without them."""
        return sum(array.nbytes for array in self.to_arrays(value).values())

    def expected_nbytes(self, shape: tuple[int, ...], unit: int, transformations: int) -> int | None:
        """What `nbytes` will be from the first batch on, for samples of this shape with units along axis `unit`; None where it grows."""
        return None

    @abc.abstractmethod
    def to_arrays(self, value: T) -> Mapping[str, NDArray[Any]]:
        """The value as arrays of numbers, for a file.  No pickled objects."""

    @abc.abstractmethod
    def from_arrays(self, site: Site, arrays: Mapping[str, NDArray[Any]]) -> T:
        """The value that `to_arrays` was given.  Raises `FileFormatError` where the arrays do not fit each other."""


def fewest(recipes: Iterable[AbstractTally[Any]]) -> list[AbstractTally[Any]]:
    """Each recipe once, without those that another one answers for."""
    asked = list(dict.fromkeys(recipes))
    return [one for one in asked if not any(other != one and other.covers(one) for other in asked)]


def to_numpy(array: Any) -> NDArray[Any]:
    """An array of any framework on the host; no copy where it is there already."""
    if isinstance(array, np.ndarray):
        return cast(NDArray[Any], array)  # isinstance cannot say of which type
    if hasattr(array, "detach"):  # PyTorch; TensorFlow has a `cpu`, too, which it would rather not be asked for
        array = array.detach().cpu()
        array = array.float() if str(array.dtype) == "torch.bfloat16" else array  # exact, and NumPy has no such type
    return np.asarray(array)

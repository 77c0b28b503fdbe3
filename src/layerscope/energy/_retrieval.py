"""A descent as a model: a batch goes in, states or activations of every layer at every step come out."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, cast

from .._errors import ShapeError
from ._array import Array, checked
from ._descent import AbstractDescent, Run, States

if TYPE_CHECKING:
    from ._ham import HAM


@dataclass(frozen=True, eq=False)
class Retrieval:
    """What `ham.retrieval(...)` will do with a batch.

    **Arguments:** `ham`; `input` the layer whose state a batch sets, all others start at zero; `clamp` what holds still, as `HAM.held` takes it;
    `steps`; `read` "g" activations or "x" states; `descent` the rule of a step.
    """

    ham: "HAM"
    input: str
    clamp: Any
    steps: int
    read: Literal["x", "g"]
    descent: AbstractDescent

    def __post_init__(self) -> None:
        self.ham.layer(self.input)
        if self.read not in ("x", "g"):
            raise ValueError(f"retrieval: read must be 'x' (states) or 'g' (activations), got {self.read!r}.")
        if not isinstance(self.clamp, Mapping):
            for name in [self.clamp] if isinstance(self.clamp, str) else self.clamp or ():
                self.ham.layer(name)

    def sites(self) -> list[tuple[str, int]]:
        """What is read: every layer at every step, 0 being the start."""
        return [(name, step) for step in range(self.steps + 1) for name in self.ham.layers]

    def start(self, batch: Array | Mapping[str, Array]) -> States:
        """The states a batch begins with: an array of input states, or states by layer where more than one is known."""
        given = cast("dict[str, Array]", batch) if isinstance(batch, Mapping) else {self.input: batch}
        name, x = next(iter(given.items()))
        lead = checked(x, name).ndim - len(self.ham.layer(name).shape)
        if lead not in (0, 1):
            raise ShapeError(
                f"retrieval: {name!r} takes {self.ham.layer(name).shape}, or a batch of them along one axis in front; got {tuple(x.shape)}."
            )
        return {**self.ham.init_states(len(x) if lead else None, like=x), **given}

    def run(self, batch: Array | Mapping[str, Array], record: Literal["energy", "parts", "nothing"] = "energy") -> Run:
        """The descent of a batch; `run.read[layer]` is (steps + 1, *batch, *shape of the layer)."""
        return self.ham.run(self.start(batch), self.steps, self.descent, self.clamp, record, self.read)

    def __call__(self, batch: Array | Mapping[str, Array]) -> Iterator[tuple[str, int, Array]]:
        """(layer, step, what was read of the batch), in the order of `sites`."""
        read = self.run(batch, "nothing").read
        return ((name, step, read[name][step]) for name, step in self.sites())

    def __repr__(self) -> str:
        names = [self.clamp] if isinstance(self.clamp, str) else list(cast("Any", self.clamp or ()))
        held = f", clamped {', '.join(names)}" if names else ""
        what = "activations" if self.read == "g" else "states"
        return f"{self.steps} steps of {self.descent} from {self.input!r}{held}, reading {what} of {', '.join(self.ham.layers)}"

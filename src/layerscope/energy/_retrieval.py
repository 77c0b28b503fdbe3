"""A descent as a model: a batch goes in, states or activations of every layer at every step come out."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, cast

from .._errors import ShapeError, SiteError
from ._array import Array, checked
from ._descent import AbstractDescent, States
from ._run import Run

if TYPE_CHECKING:
    from ._ham import HAM


@dataclass(frozen=True, eq=False)
class Retrieval:
    """What `ham.retrieval(...)` will do with a batch.

    **Arguments:** `ham`; `input` the layer whose state a batch sets, all others start at zero; `clamp` what holds still, as `HAM.held` takes it, or a
    dict in which a mask may be a name: `clamp={"v": "known"}` takes the mask of "v" from each batch, {"v": x, "known": mask}, one a sample; `steps`;
    `read` "g" activations or "x" states; `descent` the rule of a step.
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
        for name in [self.clamp] if isinstance(self.clamp, str) else cast("Iterable[str]", self.clamp or ()):
            self.ham.layer(name)
        for name in self.masks.values():
            if name in self.ham.layers:
                raise SiteError(
                    f"retrieval: a mask that comes with the batch is called {name!r}, like a layer. Give it another name."
                )

    @property
    def masks(self) -> dict[str, str]:
        """The masks that come with a batch: layer to name."""
        clamp = self.clamp
        given: Mapping[str, Any] = cast("Mapping[str, Any]", clamp) if isinstance(clamp, Mapping) else {}
        return {layer: mask for layer, mask in given.items() if isinstance(mask, str)}

    def sites(self) -> list[tuple[str, int]]:
        """What is read: every layer at every step, 0 being the start."""
        return [(name, step) for step in range(self.steps + 1) for name in self.ham.layers]

    def start(self, batch: Array | Mapping[str, Array]) -> States:
        """The states a batch begins with: an array of input states, or states by layer where more than one is known."""
        given = dict(cast("dict[str, Array]", batch)) if isinstance(batch, Mapping) else {self.input: batch}
        for name in self.masks.values():
            given.pop(name, None)
        if not given:
            raise SiteError(f"retrieval: the batch has masks and no state. Give {{{self.input!r}: x, …}}.")
        name, x = next(iter(given.items()))
        lead = checked(x, name).ndim - len(self.ham.layer(name).shape)
        if lead not in (0, 1):
            raise ShapeError(
                f"retrieval: {name!r} takes {self.ham.layer(name).shape}, or a batch of them along one axis in front; got {tuple(x.shape)}."
            )
        return {**self.ham.init_states(len(x) if lead else None, like=x), **given}

    def run(self, batch: Array | Mapping[str, Array], record: Literal["energy", "parts", "nothing"] = "energy") -> Run:
        """The descent of a batch; `run.read[layer]` is (steps + 1, *batch, *shape of the layer)."""
        return self.ham.run(self.start(batch), self.steps, self.descent, self.held(batch), record, self.read)

    def held(self, batch: Array | Mapping[str, Array]) -> Any:
        """The clamp of a batch, with the masks that come with it.

        **Raises:** `SiteError` where one is missing.
        """
        if not self.masks:
            return self.clamp
        given: dict[str, Array] = dict(cast("Mapping[str, Array]", batch)) if isinstance(batch, Mapping) else {}
        missing = [name for name in self.masks.values() if name not in given]
        if missing:
            raise SiteError(
                f"retrieval: the batch has no mask {', '.join(map(repr, missing))}. Give {{{self.input!r}: x, {missing[0]!r}: mask}}, "
                "True where a unit keeps its state."
            )
        clamp = dict(cast("Mapping[str, Any]", self.clamp))
        return clamp | {layer: given[name] for layer, name in self.masks.items()}

    def __call__(self, batch: Array | Mapping[str, Array]) -> Iterator[tuple[str, int, Array]]:
        """(layer, step, what was read of the batch), in the order of `sites`."""
        read = self.run(batch, "nothing").read
        return ((name, step, read[name][step]) for name, step in self.sites())

    def __repr__(self) -> str:
        names = [self.clamp] if isinstance(self.clamp, str) else list(cast("Any", self.clamp or ()))
        held = f", clamped {', '.join(names)}" if names else ""
        what = "activations" if self.read == "g" else "states"
        return f"{self.steps} steps of {self.descent} from {self.input!r}{held}, reading {what} of {', '.join(self.ham.layers)}"

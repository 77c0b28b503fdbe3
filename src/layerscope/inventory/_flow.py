"""What is known of a tensor on its way through a forward pass."""

from collections import Counter
from dataclasses import dataclass

from .._site import Site
from ._layer import Role


@dataclass(frozen=True)
class Flow:
    """Where a tensor comes from.

    **Fields:** `constant` when it is made of parameters and buffers alone; `role` of the function that made it, inside the module call
    `owner`; `unit` and `sample` axes, None where unknown; `mixed` when samples share their axis with something else; `threshold` above
    which a unit fires; `pending` weight layers on the way here that met no nonlinearity yet; `forms` weight layers of which this is only
    another form; `same` the site that has these very values, while nothing in place has changed them (`version`).
    """

    role: Role = Role.OTHER
    owner: int = -1
    unit: int | None = None
    sample: int | None = None
    mixed: bool = False
    threshold: float | None = 0.0
    pending: frozenset[Site] = frozenset()
    forms: frozenset[Site] = frozenset()
    same: Site | None = None
    version: int = 0
    constant: bool = False


class Numbers:
    """Which use of a module, or of a function inside one, this is in the running forward."""

    def __init__(self) -> None:
        self.seen: Counter[tuple[str, str]] = Counter()

    def next(self, path: str, function: str = "") -> int:
        number = self.seen[path, function]
        self.seen[path, function] = number + 1
        return number

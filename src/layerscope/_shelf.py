"""Values of sites that are done, in a temporary folder until somebody asks for them."""

import shutil
import tempfile
import weakref
from collections.abc import Iterator, Mapping, MutableMapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from . import _files
from ._site import Site
from .tallies import AbstractTally

Tallied = dict[AbstractTally[Any], Any]


@dataclass(frozen=True)
class _Away:
    """The values of a site in a file, by recipes in order."""

    path: Path
    recipes: tuple[AbstractTally[Any], ...]

    def read(self, site: Site) -> Tallied:
        _, arrays = _files.read(self.path)
        found: Tallied = {}
        for k, recipe in enumerate(self.recipes):
            head = f"{k}."
            mine = {name.removeprefix(head): array for name, array in arrays.items() if name.startswith(head)}
            found[recipe] = recipe.from_arrays(site, mine)
        return found


class Shelf(MutableMapping[Site, Tallied]):
    """Values by site, of which those put away lie in files and are read anew whenever they are asked for.

    The folder is where Python puts temporary files (`TMPDIR`), and goes with the shelf.
    """

    def __init__(self, values: Mapping[Site, Tallied]) -> None:
        self._values: dict[Site, Tallied | _Away] = dict(values)
        self._folder: Path | None = None

    def put_away(self, site: Site) -> None:
        """Write the values of a site to a file, from which they come as they were."""
        values = self._values[site]
        if isinstance(values, _Away):
            return
        if self._folder is None:
            self._folder = Path(tempfile.mkdtemp(prefix="layerscope-"))
            weakref.finalize(self, shutil.rmtree, self._folder, ignore_errors=True)
        path = self._folder / f"{[*self._values].index(site)}.lscope"
        arrays = (
            (f"{k}.{name}", array)
            for k, (tally, value) in enumerate(values.items())
            for name, array in tally.to_arrays(value).items()
        )
        self._values[site] = _Away(_files.write(path, {}, arrays), tuple(values))

    def __getitem__(self, site: Site) -> Tallied:
        values = self._values[site]
        return values.read(site) if isinstance(values, _Away) else values

    def __setitem__(self, site: Site, values: Tallied) -> None:
        self._values[site] = values

    def __delitem__(self, site: Site) -> None:
        del self._values[site]

    def __iter__(self) -> Iterator[Site]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __contains__(self, site: object) -> bool:
        return site in self._values

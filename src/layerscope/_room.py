"""How much memory tallies may take at a time, and what waits for a later pass because there was none left."""

import math
from collections.abc import Mapping
from typing import Protocol

from ._errors import MemoryLimitError
from ._site import Site


class Tenant(Protocol):
    """Whose values take the room: they can be dropped at a site, to be counted in a later pass over the data."""

    def defer(self, site: Site) -> None: ...


class Room:
    """The memory that tallies may take at a time, shared by all models of a run.

    A site for which there is no room left waits for a later pass: numbers are never changed to save memory.  The newest site gives way; of
    those that have grown since they came, the largest.

    **Arguments:** `limit` bytes, None for any; `batch` bytes that a batch takes of them, `firm` whatever the limit; `stuck` why nothing
    can wait, or an empty text.
    """

    def __init__(self, limit: int | None = None, batch: int = 0, stuck: str = "", firm: bool = True) -> None:
        self.limit, self.batch, self.stuck, self.firm = limit, batch, stuck, firm
        self._sizes: dict[tuple[Tenant, Site], int] = {}
        self._too_large: dict[Site, tuple[int, bool]] = {}

    @property
    def used(self) -> int:
        return sum(self._sizes.values())

    @property
    def left(self) -> int:
        """Bytes for all tallies together."""
        return (self.limit or 0) - self.batch

    def put(self, tenant: Tenant, site: Site, size: int, grows: bool) -> None:
        """The values of a site take `size` bytes now."""
        if self.limit is None:
            return
        key = (tenant, site)
        new = key not in self._sizes
        self._sizes[key] = size
        if self.stuck:
            return
        if size > self.left:
            self._too_large[site] = size, grows
            del self._sizes[key]
            tenant.defer(site)
        while self.used > self.left:
            one, where = key if new else max(self._sizes, key=self._sizes.__getitem__)
            del self._sizes[one, where]
            one.defer(where)

    def leave(self, tenant: Tenant, site: Site) -> None:
        """The values of a site are done, and lie elsewhere."""
        self._sizes.pop((tenant, site), None)

    def check(self, samples: int) -> None:
        """**Raises:** `MemoryLimitError` where a site is too large alone, or all together are and nothing can wait."""
        if self.limit is None or (self.used <= self.left and not self._too_large):
            return
        if not self._too_large:
            sizes: dict[Site, int] = {}
            for (_, site), size in self._sizes.items():
                sizes[site] = sizes.get(site, 0) + size
            what = f"{in_mib(self.used)} of tallies after {samples:,} samples; the largest are {_largest(sizes)}"
            self._raise(what, self.used, self.stuck)
        self.check_alone(self._too_large, f" after {samples:,} samples")

    def check_alone(self, needs: Mapping[Site, tuple[int, bool]], when: str = "") -> None:
        """**Raises:** `MemoryLimitError` where one of these sites takes too many bytes; a site may grow further, or not."""
        sizes = {site: size for site, (size, _) in needs.items() if size > self.left}
        if self.limit is None or not sizes:
            return
        grows = any(needs[site][1] for site in sizes)
        what = f"the tallies of one site at a time take too much{when}: {_largest(sizes)}"
        self._raise(what, max(sizes.values()), "they grow with the samples" if grows else "")

    def _raise(self, what: str, need: int, why: str) -> None:
        # batches are made to take half of a limit at most, so twice the tallies is enough, whatever the batch is then
        enough = self.batch + need if self.firm else max(2 * need, self.batch + need)
        growing = "grow" in why
        raise MemoryLimitError(
            f"memory_limit: {what}. {in_mib(self.limit or 0)} are allowed, of which a batch takes {in_mib(self.batch)}"
            f"{f' ({why})' if why else ''}. {'More than ' if growing else ''}memory_limit='{in_mib(enough)}' would do. Or measure fewer layers "
            "at a time (layers=, exclude=), pooled maps (pool=) or flavour='variance', which are other measures, states in a sketch "
            "(sketch=65_536), or fewer samples (samples=): a number is never changed to save memory."
        )


def in_mib(size: int) -> str:
    """Bytes in MiB, rounded up to three digits, so that what is said to be enough is enough."""
    if not size:
        return "0 MiB"
    digits = max(0, 2 - math.floor(math.log10(size / 2**20)))
    return f"{math.ceil(size / 2**20 * 10**digits) / 10**digits:.{digits}f} MiB"


def _largest(sizes: Mapping[Site, int]) -> str:
    first = sorted(sizes, key=sizes.__getitem__, reverse=True)[:3]
    return ", ".join(f"{site} {in_mib(sizes[site])}" for site in first)

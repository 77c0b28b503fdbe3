"""The loops that see every value: packing firing states, and counting different ones.

Nothing here imports Numba or a framework before the first call.  Where Numba is missing, the NumPy reference runs: same results, slower.
"""

from ._engine import grid_into as grid_into, groups_into as groups_into
from ._engine import nonfinite as nonfinite, pack as pack, unit_counts as unit_counts
from .reference import Counts as Counts, Records as Records, Words as Words
from .table import Table as Table
from .table import even_offsets as even_offsets, keyed as keyed

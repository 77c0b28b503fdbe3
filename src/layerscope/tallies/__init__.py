"""Everything that is remembered of a stream of activations: mergeable values and their recipes."""

from ._abstract import AbstractTally as AbstractTally
from ._abstract import fewest as fewest
from ._abstract import to_numpy as to_numpy
from ._covariances import Covariances as Covariances
from ._covariances import GridCovariances as GridCovariances
from ._distances import Distances as Distances
from ._distances import GridDistances as GridDistances
from ._firing import Firing as Firing
from ._firing import GridFiring as GridFiring
from ._grid import Grid as Grid
from ._grid import GridMoments as GridMoments
from ._grid_sums import GridSums as GridSums
from ._kept import KeptSamples as KeptSamples
from ._kept import places as places
from ._moments import Moments as Moments
from ._moments import UnitMoments as UnitMoments
from ._rows import PackedRows as PackedRows
from ._rows import RowsKept as RowsKept
from ._sketch import SketchCounts as SketchCounts
from ._sketch import StateSketch as StateSketch
from ._sketch import sketched as sketched
from ._sketch import state_keys as state_keys
from ._state_counts import StateCounts as StateCounts
from ._state_table import StateTable as StateTable
from ._tail import Tail as Tail
from ._tail import Tails as Tails

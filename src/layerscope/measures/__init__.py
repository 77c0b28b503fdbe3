"""What can be said of a layer: measures read tallies and compute readings."""

from ._abstract import AbstractMeasure as AbstractMeasure
from ._abstract import AbstractSummary as AbstractSummary
from ._comparison import Ranking as Ranking
from ._comparison import difference as difference
from ._comparison import ranking as ranking
from ._counts import Estimator as Estimator
from ._efficiency import Efficiency as Efficiency
from ._efficiency import NetworkEfficiency as NetworkEfficiency
from ._efficiency import Saturation as Saturation
from ._efficiency import aiq as aiq
from ._efficiency import geometric_mean as geometric_mean
from ._entropy import Entropy as Entropy
from ._columns import coverage as coverage
from ._entropy import entropy as entropy
from ._moments import Activation as Activation
from ._rarefaction import rarefaction as rarefaction
from ._trust import Trust as Trust
from ._trust import trust_in as trust_in
from ._units import AlwaysOnUnits as AlwaysOnUnits
from ._units import DeadUnits as DeadUnits
from ._units import EqualUnits as EqualUnits
from ._units import FiringRate as FiringRate

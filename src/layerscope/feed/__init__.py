"""From data of any form to batches of one size: what a forward gets, and what is known of its samples."""

from ._data import Data as Data
from ._feed import Batch as Batch
from ._feed import Feed as Feed
from ._feed import repeated as repeated
from ._same import SameData as SameData
from ._labels import labels_of as labels_of
from ._labels import same_order as same_order

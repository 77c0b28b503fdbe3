"""Law checks for your own tallies and measures; tiny nets with equal weights in every framework."""

from . import models as models
from ._laws import check_measure as check_measure
from ._laws import check_order as check_order
from ._laws import check_recipe as check_recipe
from ._laws import check_tally as check_tally
from ._laws import random_chunks as random_chunks

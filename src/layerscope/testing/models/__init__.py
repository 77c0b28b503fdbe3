"""Three tiny nets with the same weights in every framework, and what NumPy makes of them.

from layerscope.testing import models
from layerscope.testing.models import keras, torch       # a module per framework: torch, keras, flax, equinox

weights, batch = models.weights("lenet"), models.batch("lenet", 100)
torch.lenet(weights)(torch.given(batch)) ≈ models.reference("lenet", weights, batch)["logits"]
"""

from ._reference import reference as reference
from ._weights import NETS as NETS
from ._weights import batch as batch
from ._weights import weights as weights

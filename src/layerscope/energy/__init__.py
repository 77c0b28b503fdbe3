"""Layers with an energy: Lagrangians, neuron layers, synapses and hierarchical associative memories, on NumPy, PyTorch and JAX."""

from ._abstract import AbstractLagrangian as AbstractLagrangian
from ._lagrangians import LExp as LExp
from ._lagrangians import LGhostmax as LGhostmax
from ._lagrangians import LIdentity as LIdentity
from ._lagrangians import LLayerNorm as LLayerNorm
from ._lagrangians import LRelu as LRelu
from ._lagrangians import LRepu as LRepu
from ._lagrangians import LRexp as LRexp
from ._lagrangians import LSigmoid as LSigmoid
from ._lagrangians import LSoftmax as LSoftmax
from ._lagrangians import LSphericalNorm as LSphericalNorm
from ._lagrangians import LTanh as LTanh
from ._tree import leaves as leaves

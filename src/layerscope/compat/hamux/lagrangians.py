"""The Lagrangians of HAMUX under their names."""

from ...energy import LExp as LExp
from ...energy import LIdentity as LIdentity
from ...energy import LLayerNorm as LLayerNorm
from ...energy import LRelu as LRelu
from ...energy import LRepu as LRepu
from ...energy import LRexp as LRexp
from ...energy import LSigmoid as LSigmoid
from ...energy import LSoftmax as LSoftmax
from ...energy import LSphericalNorm as LSphericalNorm
from ...energy import LTanh as LTanh

"""The names of HAMUX's page "Neuron Layers": `from layerscope.compat.hamux import Layer, LExp, ExpLayer`.

They are layerscope's own layers, which keep that page's signatures. What the originals did wrong (bias energies that rise, dead gradients of β, overflow)
is not kept; energies of a batch stay apart.
"""

from . import lagrangians as lagrangians
from . import layers as layers
from .lagrangians import LExp as LExp
from .lagrangians import LIdentity as LIdentity
from .lagrangians import LLayerNorm as LLayerNorm
from .lagrangians import LRelu as LRelu
from .lagrangians import LRepu as LRepu
from .lagrangians import LRexp as LRexp
from .lagrangians import LSigmoid as LSigmoid
from .lagrangians import LSoftmax as LSoftmax
from .lagrangians import LSphericalNorm as LSphericalNorm
from .lagrangians import LTanh as LTanh
from .layers import ExpLayer as ExpLayer
from .layers import IdentityLayer as IdentityLayer
from .layers import Layer as Layer
from .layers import LayerNormLayer as LayerNormLayer
from .layers import MakeLayer as MakeLayer
from .layers import ReluLayer as ReluLayer
from .layers import RepuLayer as RepuLayer
from .layers import RexpLayer as RexpLayer
from .layers import SigmoidLayer as SigmoidLayer
from .layers import SoftmaxLayer as SoftmaxLayer
from .layers import SphericalNormLayer as SphericalNormLayer
from .layers import TanhLayer as TanhLayer

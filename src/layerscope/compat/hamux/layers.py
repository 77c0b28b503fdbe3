"""The neuron layers of HAMUX under their names."""

from ...energy import ExpLayer as ExpLayer
from ...energy import IdentityLayer as IdentityLayer
from ...energy import Layer as Layer
from ...energy import LayerNormLayer as LayerNormLayer
from ...energy import MakeLayer as MakeLayer
from ...energy import ReluLayer as ReluLayer
from ...energy import RepuLayer as RepuLayer
from ...energy import RexpLayer as RexpLayer
from ...energy import SigmoidLayer as SigmoidLayer
from ...energy import SoftmaxLayer as SoftmaxLayer
from ...energy import SphericalNormLayer as SphericalNormLayer
from ...energy import TanhLayer as TanhLayer

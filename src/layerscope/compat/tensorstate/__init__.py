"""The interface of TensorState 0.3 on layerscope's counting: `import layerscope.compat.tensorstate as ts`.

Names, defaults and meaning are the original's: a unit fires above 0, every layer that was asked for counts, numbers are plain floats.
What it did wrong (lost batches, swallowed errors, numbers that differ from run to run) is not kept.
"""

from . import Layers as Layers
from . import States as States
from . import TensorState as TensorState
from .Layers import AbstractStateCapture as AbstractStateCapture
from .Layers import StateCaptureHook as StateCaptureHook
from .Layers import __getattr__ as __getattr__
from .States import compress_states as compress_states
from .States import decompress_states as decompress_states
from .States import sort_states as sort_states
from .TensorState import aIQ as aIQ
from .TensorState import build_efficiency_model as build_efficiency_model
from .TensorState import detach_efficiency_model as detach_efficiency_model
from .TensorState import entropy as entropy
from .TensorState import network_efficiency as network_efficiency
from .TensorState import reset_efficiency_model as reset_efficiency_model

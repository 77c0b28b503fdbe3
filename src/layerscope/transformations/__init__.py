"""What is done to the inputs: rotations, shifts, flips, brightness, anything callable; and how it is undone in a layer's output."""

from ._abstract import AbstractTransformation as AbstractTransformation
from ._abstract import Frame as Frame
from ._affine import Affine as Affine
from ._affine import rotate as rotate
from ._affine import scale as scale
from ._affine import shear as shear
from ._affine import translate as translate
from ._alignment import Alignment as Alignment
from ._chain import Chain as Chain
from ._custom import Custom as Custom
from ._custom import Draw as Draw
from ._exact import Flip as Flip
from ._exact import Identity as Identity
from ._exact import Permute as Permute
from ._exact import QuarterTurns as QuarterTurns
from ._exact import Roll as Roll
from ._photometric import Brightness as Brightness
from ._photometric import Contrast as Contrast
from ._photometric import Noise as Noise
from ._grid import Transformations as Transformations
from ._sets import published as published
from ._sets import quarter_turns as quarter_turns
from ._sets import rotations as rotations
from ._sets import sampled as sampled
from ._sets import scales as scales
from ._sets import translations as translations

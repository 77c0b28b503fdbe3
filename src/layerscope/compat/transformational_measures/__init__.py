"""The interface of transformational_measures_tf on layerscope's grid of samples × transformations, for Keras 3 on its three backends.

`from layerscope.compat.transformational_measures import Model, Iterator, Variance`: names and meaning are those of its documentation.
What it did wrong (reciprocals at the second call, layers mapped twice, shifts that pooled maps do not follow) is not kept.
"""

from ._analyzer import Analysis as Analysis
from ._analyzer import Analyzer as Analyzer
from ._block import Block as Block
from ._dataset import DataSet as DataSet
from ._dataset import TransformationsDataSet as TransformationsDataSet
from ._graphs import Graphs as Graphs
from ._images import Cifar10TransformationsDataSet as Cifar10TransformationsDataSet
from ._images import DigitsTransformationsDataSet as DigitsTransformationsDataSet
from ._images import MnistDataSet as MnistDataSet
from ._images import MnistTransformationsDataSet as MnistTransformationsDataSet
from ._iterator import Iterator as Iterator
from ._model import Model as Model
from ._structure import LayerStructure as LayerStructure
from ._structure import ModelStructure as ModelStructure
from ._variances import FeaturesVariance as FeaturesVariance
from ._variances import NormalizedFeaturesVariance as NormalizedFeaturesVariance
from ._variances import NormalizedSameEquivariance as NormalizedSameEquivariance
from ._variances import NormalizedVariance as NormalizedVariance
from ._variances import SameEquivariance as SameEquivariance
from ._variances import Variance as Variance

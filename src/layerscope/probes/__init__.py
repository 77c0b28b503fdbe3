"""Probes run or watch a model and let each tally read activations where they live."""

from ._abstract import AbstractProbe as AbstractProbe
from ._abstract import Read as Read
from ._abstract import probe_for as probe_for

"""Taps: names that a JAX program gives to values, and what brings those values out."""

from ._taps import reap as reap
from ._taps import tap as tap

"""The road in one command: a small network learns real digits, is examined, and a report is written."""

from ._demo import run as run

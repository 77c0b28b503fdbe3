"""What a person reads: pictures, a page, and a table for the terminal; made from results alone, without model or framework."""

from ._page import page as page
from ._plot import plot as plot
from ._text import text as text

"""Every exception a user of layerscope can meet.

A message has three parts: what was asked, what was seen, what to do.  Each class also derives from the built-in exception that
Python code would expect, so `except ValueError` keeps working.
"""


class LayerscopeError(Exception):
    """The root of all errors raised on purpose."""


class DtypeError(LayerscopeError, TypeError):
    """Values of a type that has no order (complex numbers) or cannot be read (objects, strings)."""


class ShapeError(LayerscopeError, ValueError):
    """Axes, widths or lengths that do not fit each other."""


class SiteError(LayerscopeError, LookupError):
    """A layer, class or site that is not there, is ambiguous, cannot be read, or never ran."""


class DataError(LayerscopeError, ValueError):
    """Data that is empty, has no clear reading, or was used up."""


class ThresholdError(LayerscopeError, ValueError):
    """A firing rule that cannot tell on from off at a site."""


class MergeError(LayerscopeError, ValueError):
    """Two tallies or results that do not belong together."""


class EmptyTally(LayerscopeError, ValueError):
    """A measure was asked of a tally that has seen nothing."""


class NonFiniteError(LayerscopeError, ValueError):
    """NaN or infinite activations, where the user asked for an error instead of a note."""


class MemoryLimitError(LayerscopeError, MemoryError):
    """The tallies would outgrow the stated memory limit."""


class FileFormatError(LayerscopeError, ValueError):
    """A results file that is damaged, foreign or of an unknown version."""


def nearest(word: str, choices: "list[str] | tuple[str, ...]") -> str:
    """` Did you mean 'conv_1'?` when one of the choices is close, else an empty string."""
    import difflib

    close = difflib.get_close_matches(word, choices, n=1, cutoff=0.6)
    return f" Did you mean {close[0]!r}?" if close else ""

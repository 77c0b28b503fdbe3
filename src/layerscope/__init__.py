"""layerscope measures what the layers of a neural network do: how many states they use, what they ignore, how they settle.

    import layerscope as ls

    ls.layers(model, batch)            # what can be read, and what is read by default
    results = ls.examine(model, data)  # one pass
    results.to_html("report.html")

Importing this package imports no framework, and none of Numba, pandas, zarr or matplotlib: names below are loaded when first used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from . import datasets as datasets
    from . import energy as energy
    from . import measures as measures
    from . import report as report
    from . import tallies as tallies
    from . import testing as testing
    from . import transformations as transformations
    from ._epochs import Epochs as Epochs
    from ._errors import LayerscopeError as LayerscopeError
    from ._look import activations as activations
    from ._examine import examine as examine
    from ._look import layers as layers
    from ._plan import Plan as Plan
    from ._plan import plan as plan
    from .feed import Data as Data
    from ._reading import Reading as Reading
    from ._results import Results as Results
    from ._results import load as load
    from ._site import Axes as Axes
    from ._site import Site as Site
    from ._view import View as View
    from ._watch import watch as watch
    from .probes.taps import reap as reap
    from .probes.taps import tap as tap

_NAMES = {
    "Epochs": "_epochs", "LayerscopeError": "_errors", "Plan": "_plan", "activations": "_look", "examine": "_examine", "layers": "_look",
    "plan": "_plan", "Data": "feed", "Reading": "_reading", "Results": "_results", "load": "_results", "Axes": "_site",
    "Site": "_site", "View": "_view", "watch": "_watch", "reap": "probes.taps",
    "tap": "probes.taps",
}  # fmt: skip
_MODULES = ("datasets", "energy", "measures", "report", "tallies", "testing", "transformations")


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return import_module(f".{name}", __name__)
    if name in _NAMES:
        return getattr(import_module(f".{_NAMES[name]}", __name__), name)
    raise AttributeError(
        f"module {__name__!r} has no attribute {name!r}; it has {', '.join(sorted((*_NAMES, *_MODULES)))}"
    )


def __dir__() -> list[str]:
    return sorted((*_NAMES, *_MODULES))

"""What a user of taps meets; JAX is loaded when one is used, not when one is named."""

from collections.abc import Callable
from typing import Any

from ..._site import Site


def tap(name: str, x: Any) -> Any:
    """Names a value of a JAX program, for `reap` and `examine`; gives the value back, unchanged.

        h = ls.tap("hidden", jax.nn.relu(x @ w))

    **Arguments:** `name` as a site is written, without call, port or part; the same name may be used often. `x` one array.
    **Raises:** `SiteError` for a name that would read as a call or port; `DtypeError` for anything that is no array.
    **Beware:** use what it gives back, else a transformation may find nothing to carry along. It costs nothing where nobody reaps: it
    compiles to nothing.
    """
    from .jax import named

    return named(name, x)


def reap(f: Callable[..., Any]) -> Callable[..., tuple[Any, dict[Site, Any]]]:
    """A function that gives `f`'s output and every tapped value: `(output, {site: array})`.

        y, values = ls.reap(f)(x)
        values[ls.Site("hidden")]             # the first tap of that name; Site("hidden", call=1) the second

    Arrays among the arguments are traced, anything else is given to `f` as it is. The result can be jitted, mapped and differentiated.
    A tap is reaped once for every time it runs: under `vmap` its mapped axes come first (outermost first), under `lax.scan` and
    `fori_loop` the steps are stacked along a new axis after those (outermost first, in the order of the scan's own outputs), under `grad`
    it is the value of the forward pass. A tap in a derivative rule written by hand is a call like any other. A tap of a value that does
    not depend on what is mapped or looped over may lack that axis.

    **Raises:** `SiteError` for a tap inside `cond`, `switch`, `while_loop`, `shard_map` or a primitive that is not known, with its name.
    **Beware:** a tap whose result nobody uses is reaped too, but for one place: in a scan that is differentiated JAX drops it before
    anyone can see it.
    """
    from .jax import reaped

    return reaped(f)

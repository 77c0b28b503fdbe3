"""Which sites are read: the default rule, and names, classes, globs and predicates given by the user."""

import fnmatch
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from .._errors import SiteError, ThresholdError, nearest
from .._site import Axes, Site
from ._layer import Layer, Layers, Role

Selector = str | Site | type | Callable[[Layer], bool]
Selection = Selector | Iterable[Selector] | None

NO_UNITS_FIRE = {
    Role.LOOKUP: "a look-up: rows of a table, no unit of its own fires",
    Role.NORM: "normalisation: no unit of its own fires",
    Role.POOL: "pooling: no unit of its own fires",
    Role.DROPOUT: "dropout: passes its input on",
    Role.RESHAPE: "reshapes its input",
    Role.CONTAINER: "a container: its layers are listed",
    Role.OTHER: "no nonlinearity was seen at its output",
    Role.SOFTMAX: "softmax is never ≤ 0: say thresholds={…} to measure it",
}


def default_choice(layers: Sequence[Layer], activated: set[Site], final: set[Site], twins: Mapping[Site, Site]) -> Layers:
    """Where units fire: outputs of nonlinearities, and of weight layers that feed none.

    **Arguments:** `activated` weight layers whose output goes on into a nonlinearity; `final` the model's logits and what is made of
    them; `twins` sites whose values equal those of an earlier site.
    """
    chosen: list[Layer] = []
    for layer in layers:
        reason = layer.left_out
        if reason:
            pass
        elif layer.site in final:
            reason = "the model's output (logits or probabilities)"
        elif layer.site.part:
            reason = f"a further tensor of the output: ask for {str(layer.site)!r}"
        elif layer.site in twins:
            reason = f"same values as {twins[layer.site]}"
        elif layer.role in NO_UNITS_FIRE:
            reason = NO_UNITS_FIRE[layer.role]
        elif layer.role is Role.WEIGHT and layer.site in activated:
            reason = "goes on into a nonlinearity, which is read"
        chosen.append(replace(layer, left_out=reason))
    return Layers(chosen)


def select(layers: Layers, wanted: Selection, exclude: Selection = None) -> Layers:
    """The sites the user asked for: every other line gets its reason.

    `wanted` and `exclude` take class names ("Conv2d"), classes, site names ("block.0.relu", "lstm[1]"), globs ("blocks.*.mlp"),
    predicates on `Layer`, lists of these; None is the default rule and "all" every leaf. A name that ends in ":in" means the input of
    that layer. Exclude wins.
    **Raises:** `SiteError` where a name matches nothing, listing what there is, or where nothing is left.
    """
    if wanted is None:
        chosen = list(layers)
    elif wanted == "all":
        chosen = [replace(x, left_out="" if x.leaf else "a container: its layers are listed") for x in layers]
    else:
        hits = _hits(layers, wanted, "layers")
        chosen = [replace(x, left_out="" if k in hits else "not asked for") for k, x in enumerate(layers)]
    if exclude is not None:
        for k in _hits(layers, exclude, "exclude"):
            chosen[k] = replace(chosen[k], left_out="excluded")
    if not any(not layer.left_out for layer in chosen):
        raise SiteError(
            f"layers={wanted!r}, exclude={exclude!r}: no site is left to read. The model has:\n{Layers(chosen)!r}\n"
            "Name some of them, or pass layers='all'."
        )
    return Layers(chosen)


def _hits(layers: Sequence[Layer], wanted: Selection, argument: str) -> set[int]:
    each = [wanted] if isinstance(wanted, str | Site | type) or callable(wanted) else list(wanted or ())
    hits: set[int] = set()
    for one in each:
        found = {k for k, layer in enumerate(layers) if matches(layer, one)}
        if not found:
            if argument == "exclude" and not isinstance(one, str | Site | type):
                continue
            raise SiteError(_nothing(layers, one, argument))
        hits |= found
    return hits


def matches(layer: Layer, selector: Selector) -> bool:
    """Whether a layer is meant by a class, class name, site name, glob or predicate."""
    if isinstance(selector, Site):
        return layer.site == selector
    if isinstance(selector, type):
        return layer.kind == selector.__name__
    if not isinstance(selector, str):
        return bool(selector(layer))
    if selector == str(layer.site):
        return True
    asked = Site.parse(selector)
    if (asked.part, asked.port) != (layer.site.part, layer.site.port):
        return False
    names = (layer.kind, str(Site(layer.site.path, layer.site.call, step=layer.site.step)), layer.site.path)
    return any(fnmatch.fnmatchcase(name, str(Site(asked.path, asked.call, step=asked.step))) for name in names)


def wants_inputs(*selections: Selection) -> bool:
    """Whether a selection speaks of the inputs of layers, which are not listed otherwise."""
    each = [one for s in selections if s is not None for one in ([s] if isinstance(s, str | Site) or not isinstance(s, Iterable) else s)]
    return any(one.port == "in" if isinstance(one, Site) else isinstance(one, str) and ":in" in one for one in each)


def at_inputs(selection: Selection) -> Selection:
    """The same layers, read at their inputs."""
    if isinstance(selection, str | type) or selection is None:
        return _input_name(selection) if selection is not None else None
    if isinstance(selection, Site) or callable(selection):
        return selection
    return [at_inputs(one) for one in selection]  # type: ignore[misc]


def _input_name(name: str | type) -> str:
    site = Site.parse(name if isinstance(name, str) else name.__name__)
    return str(Site(site.path, site.call, "in", site.part, site.step))


def _nothing(layers: Sequence[Layer], selector: Any, argument: str) -> str:
    sites = [str(layer.site) for layer in layers]
    kinds = sorted({layer.kind for layer in layers})
    hint = nearest(selector, [*sites, *kinds]) if isinstance(selector, str) else ""
    return (
        f"{argument}={selector!r} matches no layer.{hint} Sites are: {', '.join(sites)}. Classes are: {', '.join(kinds)}. "
        "A layer that the model has but that is not listed did not run in the forward pass."
    )


def find(layers: Sequence[Layer], name: str | Site) -> Layer:
    """The one layer of that name; the path alone will do where it is unambiguous."""
    exact = [layer for layer in layers if layer.site == name or str(layer.site) == name]
    found = exact or [layer for layer in layers if isinstance(name, str) and layer.site.path == name]
    if len(found) == 1:
        return found[0]
    sites = [str(layer.site) for layer in found or layers]
    if found:
        raise SiteError(f"{name!r} could be any of {', '.join(sites)}. Write one of these.")
    raise SiteError(f"there is no site {str(name)!r}.{nearest(str(name), sites)} Sites are: {', '.join(sites)}.")


def with_rules(layers: Layers, thresholds: Mapping[str, float] | None, axes: Mapping[str, Any] | None, wanted: Selection) -> Layers:
    """The layers with the user's thresholds and axes (an int for the unit axis, or an `Axes`), by name, class or glob.

    **Raises:** `ThresholdError` where a site that was asked for by name has no firing rule; with "all" it is left out and listed.
    """
    result = list(layers)
    for argument, rules in (("thresholds", thresholds), ("axes", axes)):
        for selector, rule in (rules or {}).items():
            for k in _hits(layers, selector, argument):
                if argument == "thresholds":
                    result[k] = replace(result[k], threshold=float(rule), left_out=_released(result[k]))
                else:
                    result[k] = replace(result[k], axes=rule if isinstance(rule, Axes) else Axes(int(rule), result[k].axes.sample))
    for k, layer in enumerate(result):
        if layer.threshold is None and not layer.left_out:
            if wanted is not None and wanted != "all":
                path = layer.site.path
                raise ThresholdError(
                    f"{layer.site}: there is no rule above which value a {layer.kind} fires: softmax outputs are never ≤ 0.\n"
                    f"    wrong: ls.examine(model, data, layers=[{path!r}])\n"
                    f"    right: ls.examine(model, data, layers=[{path!r}], thresholds={{{path!r}: 0.1}})"
                )
            result[k] = replace(layer, left_out=NO_UNITS_FIRE[Role.SOFTMAX])
    return Layers(result)


def _released(layer: Layer) -> str:
    """A threshold of its own is what a softmax was left out for."""
    return "" if layer.left_out == NO_UNITS_FIRE[Role.SOFTMAX] else layer.left_out

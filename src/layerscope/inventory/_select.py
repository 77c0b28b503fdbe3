"""Which sites are read: the default rule, and names, classes, globs and predicates given by the user."""

import fnmatch
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from .._errors import ShapeError, SiteError, ThresholdError, nearest
from .._site import Axes, Site
from ._layer import STEP, Layer, Layers, Role

Selector = str | Site | type | Callable[[Layer], bool]
Selection = Selector | Iterable[Selector] | None

FIRING = (Role.NONLINEARITY, Role.WEIGHT, Role.RECURRENT)
"""What is read by default."""
NO_UNITS_FIRE = {
    Role.LOOKUP: "a look-up: rows of a table, no unit of its own fires",
    Role.NORM: "normalisation: no unit of its own fires",
    Role.POOL: "pooling: no unit of its own fires",
    Role.DROPOUT: "dropout: passes its input on",
    Role.RESHAPE: "reshapes or passes on its input",
    Role.CONTAINER: "a container: its layers are listed",
    Role.OTHER: "no nonlinearity was seen at its output",
    Role.SOFTMAX: "softmax is never ≤ 0: say thresholds={…} to measure it",
}


def default_choice(
    layers: Sequence[Layer],
    activated: set[Site],
    final: set[Site],
    twins: Mapping[Site, Site],
    inside: Mapping[Site, Site] = {},
) -> Layers:
    """Where units fire: outputs of nonlinearities, and of weight layers that feed none.

    **Arguments:** `activated` weight layers whose output goes on into a nonlinearity; `final` the model's logits and what is made of
    them; `twins` sites whose values equal those of an earlier site; `inside` parts of a layer that is read as one.
    """
    chosen: list[Layer] = []
    for layer in layers:
        reason = layer.unfit
        if reason:
            pass
        elif layer.site in final:
            reason = "the model's output (logits or probabilities)"
        elif layer.site.part:
            reason = f"a further tensor of the output: ask for {str(layer.site)!r}"
        elif layer.site in inside:
            reason = f"a part of {inside[layer.site]}, which is read as one"
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

    `wanted` and `exclude` take classes (and their subclasses), class names ("Conv2d"), function names ("F.relu"), site names
    ("block.0.relu", "lstm[1]"), globs ("blocks.*.mlp"), predicates on `Layer`, lists of these; None is the default rule and "all"
    every leaf. A name that ends in ":in" means the input of that layer. Exclude wins.
    **Raises:** `SiteError` where a name matches nothing, listing what there is, or where nothing is left.
    """
    if wanted is None:
        chosen = list(layers)
    elif isinstance(wanted, str) and wanted == "all":
        chosen = [replace(x, left_out=x.unfit or ("" if x.leaf else NO_UNITS_FIRE[Role.CONTAINER])) for x in layers]
    else:
        hits = _hits(layers, wanted, "layers")
        chosen = [replace(x, left_out="" if k in hits else "not asked for") for k, x in enumerate(layers)]
    if exclude is not None:
        for k in _hits(layers, exclude, "exclude"):
            chosen[k] = replace(chosen[k], left_out="excluded")
    if all(layer.left_out and layer.left_out != layer.unfit for layer in chosen):
        raise _none_left(chosen, wanted, exclude)
    return Layers(chosen)


def _none_left(layers: Sequence[Layer], wanted: Selection, exclude: Selection) -> SiteError:
    asked = f"layers={wanted!r}" if exclude is None else f"layers={wanted!r}, exclude={exclude!r}"
    return SiteError(
        f"{asked}: no site is left to read. The model has:\n{Layers(layers)!r}\nName some of them, or pass layers='all'."
    )


def _hits(layers: Sequence[Layer], wanted: Selection, argument: str) -> set[int]:
    hits: set[int] = set()
    for one in each_of(wanted):
        found = {k for k, layer in enumerate(layers) if matches(layer, one)}
        if not found:
            if argument == "exclude" and not isinstance(one, str | Site | type | InputOf):
                continue
            raise SiteError(_nothing(layers, one, argument))
        hits |= found
    return hits


def each_of(selection: Selection) -> list[Selector]:
    """The selectors of a selection, one by one."""
    if selection is None:
        return []
    return [selection] if isinstance(selection, str | Site | type) or callable(selection) else list(selection)


def matches(layer: Layer, selector: Selector) -> bool:
    """Whether a layer is meant by a class, class name, site name, glob or predicate.

    A name is compared with the site, its path, and the class ("F.relu" for a function), case and all: "relu" is a layer of that name and
    no `F.relu`. A path without `#` means every call of that layer, "relu#0" its first.
    """
    if isinstance(selector, Site):
        return layer.site == selector
    if isinstance(selector, type):
        return f"{selector.__module__}.{selector.__qualname__}" in layer.bases and (
            layer.site.port,
            layer.site.part,
        ) == ("out", 0)
    if not isinstance(selector, str):
        return bool(selector(layer))
    if selector == "all":
        return layer.leaf and layer.site.port == "out"
    site, asked = layer.site, Site.parse(selector)
    if (asked.part, asked.port) != (site.part, site.port):
        return False
    pattern, _, call = str(replace(asked, port="out", part=0)).partition("#")
    if "#" in selector and int(call or 0) != site.call:
        return False
    paths = (str(Site(site.path, step=site.step)), site.path)
    if pattern in (layer.kind, *paths):
        return True
    globbed = paths if layer.kind.startswith("F.") and not pattern.startswith("F.") else (layer.kind, *paths)
    return any(fnmatch.fnmatchcase(name, pattern) for name in globbed)


def wants_inputs(*selections: Selection) -> bool:
    """Whether a selection speaks of the inputs of layers, which are not listed otherwise."""
    each = [one for selection in selections for one in each_of(selection)]
    return any(
        one.port == "in" if isinstance(one, Site) else isinstance(one, str) and Site.parse(one).port == "in"
        for one in each
    )


def at_inputs(selection: Selection) -> Selection:
    """The same layers, read at their inputs."""
    return None if selection is None else [_at_input(one) for one in each_of(selection)]


def _at_input(selector: Selector) -> Selector:
    if isinstance(selector, Site):
        return replace(selector, port="in")
    return selector if isinstance(selector, str) and Site.parse(selector).port == "in" else InputOf(selector)


@dataclass(frozen=True)
class InputOf:
    """A predicate: the input of what a selector means."""

    selector: Selector

    def __call__(self, layer: Layer) -> bool:
        at_output = replace(layer, site=replace(layer.site, port="out"))
        return layer.site.port == "in" and matches(at_output, self.selector)

    def __repr__(self) -> str:
        return f"input of {self.selector!r}"


def _nothing(layers: Sequence[Layer], selector: Any, argument: str) -> str:
    sites = [str(layer.site) for layer in layers]
    kinds = sorted({layer.kind for layer in layers})
    name = selector.selector if isinstance(selector, InputOf) else selector
    hint = nearest(name, [*sites, *kinds]) if isinstance(name, str) else ""
    return (
        f"{argument}={selector!r} matches no layer.{hint} Sites are: {', '.join(sites)}. Classes are: {', '.join(kinds)}. "
        "A layer that the model has but that is not listed did not run in the forward pass, or gave no tensor."
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


def with_rules(
    layers: Layers, thresholds: Mapping[str, float] | None, axes: Mapping[str, Any] | None, wanted: Selection
) -> Layers:
    """The layers with the user's thresholds and axes (an int for the unit axis, or an `Axes`), by name, class or glob.

    **Raises:** `ThresholdError` where a site that was asked for by name has no firing rule, `ShapeError` where it cannot be read or an
    axis is not there, `SiteError` where it is a step of a loop; what a glob or a class also matches is left out and listed.
    """
    result = list(layers)
    for selector, rule in (thresholds or {}).items():
        for k in _hits(layers, selector, "thresholds"):
            result[k] = replace(
                result[k], threshold=float(rule), left_out=_released(result[k], NO_UNITS_FIRE[Role.SOFTMAX])
            )
    for selector, rule in (axes or {}).items():
        for k in _hits(layers, selector, "axes"):
            result[k] = _with_axes(result[k], selector, rule)
    for k, layer in enumerate(result):
        if layer.left_out:
            continue
        if layer.unfit:
            if any(one in (str(layer.site), layer.site.path, layer.site) for one in each_of(wanted)):
                if layer.unfit.startswith(STEP):
                    raise SiteError(f"{layer.site}: it cannot be read: {layer.unfit}.")
                raise ShapeError(f"{layer.site}: it cannot be read: {layer.unfit}. Its shape is {layer.shape}.")
            result[k] = replace(layer, left_out=layer.unfit)
        elif layer.threshold is None:
            if wanted is not None and not (isinstance(wanted, str) and wanted == "all"):
                path = layer.site.path
                raise ThresholdError(
                    f"{layer.site}: there is no rule above which value a {layer.kind} fires: softmax outputs are never ≤ 0.\n"
                    f"    wrong: ls.examine(model, data, layers=[{path!r}])\n"
                    f"    right: ls.examine(model, data, layers=[{path!r}], thresholds={{{path!r}: 0.1}})"
                )
            result[k] = replace(layer, left_out=NO_UNITS_FIRE[Role.SOFTMAX])
    if all(layer.left_out for layer in result):
        raise _none_left(result, wanted, None)
    return Layers(result)


def _with_axes(layer: Layer, selector: str, rule: Any) -> Layer:
    axes = rule if isinstance(rule, Axes) else Axes(int(rule), layer.axes.sample)
    rank = len(layer.shape)
    if rank < 2:
        return layer
    if not all(-rank <= axis < rank for axis in (axes.unit, axes.sample)):
        raise ShapeError(
            f"axes={{{selector!r}: {rule!r}}}: {layer.site} has shape {layer.shape}, so axes are 0 to {rank - 1}."
        )
    axes = Axes(axes.unit % rank, axes.sample % rank)
    axes.positions(layer.shape)  # the two must differ
    released = _released(layer, layer.unfit) if layer.role in FIRING and not layer.site.part else layer.left_out
    return replace(layer, axes=axes, note="" if "by rank" in layer.note else layer.note, unfit="", left_out=released)


def _released(layer: Layer, reason: str) -> str:
    """A rule of the user's is what a site was left out for."""
    return "" if layer.left_out == reason else layer.left_out

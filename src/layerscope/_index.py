"""Recipes and layers in the index of a file: as JSON, and back."""

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from ._errors import FileFormatError
from ._site import Axes, Site
from .inventory import Layer, Role
from .measures import AbstractMeasure
from .tallies import AbstractTally


def recipe_to_json(recipe: Any, home: Any) -> dict[str, Any]:
    """A recipe by its name in the package `home` and its fields.  Raises `FileFormatError` for one of a stranger."""
    kind = type(recipe).__name__
    if getattr(home, kind, None) is not type(recipe):
        raise FileFormatError(
            f"save: {recipe!r} is no {home.__name__.rpartition('.')[2]} of layerscope, so no file could name it."
        )
    return {"kind": kind, **{f.name: getattr(recipe, f.name) for f in fields(recipe)}}


def recipe_from_json(text: Mapping[str, Any], home: Any) -> Any:
    """Raises `FileFormatError` for a name that is no recipe of `home`."""
    arguments = dict(text)
    kind = arguments.pop("kind")
    if not _is_recipe(getattr(home, kind, None)):
        raise FileFormatError(f"load: the file speaks of {kind!r}, which this version of layerscope does not know.")
    return getattr(home, kind)(**arguments)


def _is_recipe(found: Any) -> bool:
    return isinstance(found, type) and issubclass(found, AbstractTally | AbstractMeasure)


def layer_to_json(layer: Layer) -> dict[str, Any]:
    line = {f.name: getattr(layer, f.name) for f in fields(layer)}
    site = {f.name: getattr(layer.site, f.name) for f in fields(Site)}
    return {**line, "site": site, "shape": list(layer.shape), "axes": [layer.axes.unit, layer.axes.sample]}


def layer_from_json(line: Mapping[str, Any]) -> Layer:
    arguments: dict[str, Any] = {
        **line,
        "site": Site(**line["site"]),
        "shape": tuple(line["shape"]),
        "axes": Axes(*line["axes"]),
        "role": Role(line["role"]),
    }
    return Layer(**arguments)

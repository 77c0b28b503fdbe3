"""The report: one page with everything in it, readable without a network, a model or a framework."""

from dataclasses import dataclass
from typing import Any

from .._results import Results
from ._facts import Facts
from ._look import IN_PAGE, NARROW, WIDE, Look, drawing, to_svg
from ._made import command, header, left_out, made
from ._names import plain
from ._plot import PICTURES
from ._readings import csv, more, network
from ._tables import class_table, extremes, movement_row, state_row
from ._words import answer, distrust, plain_words

MANY = 90
"""Sites beyond which a page carries no second, narrow drawing of each picture: it then scrolls on a phone, and stays small."""


@dataclass(frozen=True)
class Drawn:
    """One picture of the page, drawn for a wide and (unless there are very many sites) for a narrow screen."""

    key: str
    number: int
    title: str
    caption: str
    wide: Any
    narrow: Any


def page(results: Results, title: str | None = None) -> str:
    """The report as one self-contained HTML page: answer, what to distrust, pictures, tables, how it was made.

    **Arguments:** `title` the headline; None takes the manifest's title, else the model's name.
    **Gives:** HTML text. It fetches nothing and runs no script; light, dark and print follow the reader's settings. No input of the
    model is in it. Every name that comes from a user is escaped.
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined

    facts = Facts(results)
    environment = Environment(
        loader=PackageLoader("layerscope.report", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    pictures = _pictures(facts)
    manifest, movement = results.manifest, facts.movement
    return environment.get_template("page.html.jinja").render(
        title=plain(title or str(manifest.get("title") or f"{manifest.get('model', 'A model')}, layer by layer")),
        data=plain(str(manifest["data_name"])) if manifest.get("data_name") else "",
        answer=answer(facts),
        words=plain_words(facts),
        distrust=distrust(facts),
        numbers={picture.key: picture.number for picture in pictures},
        pictures=pictures,
        figures=header(facts),
        states=[state_row(facts.states, facts.labels, site) for site in facts.states.sites],
        untrained=bool(facts.states.untrained),
        labels=bool(facts.labels.sites),
        classes=class_table(facts.labels),
        movement=[movement_row(movement, site) for site in movement.sites],
        back=movement.back is not None,
        aggregate=movement.measure.aggregate,
        other=movement.other,
        references=[plain(name) for name in movement.references],
        extremes=extremes(movement),
        network=network(results) if facts.states.sites else [],
        more=more(facts),
        csv=csv(results),
        made=made(facts),
        left_out=left_out(facts),
        command=command(results),
        cite=results.cite().splitlines(),
        version=manifest.get("layerscope", ""),
    )


def _pictures(facts: Facts) -> list[Drawn]:
    from markupsafe import Markup

    drawn: list[Drawn] = []
    shown = [picture for picture in PICTURES.values() if picture.shows(facts)]
    for number, picture in enumerate(shown, 1):
        svg: dict[str, Any] = {}
        for size, width in (("w", WIDE), ("n", NARROW)):
            if size == "n" and len(facts.results) > MANY:
                continue
            with drawing():
                figure = picture.draw(facts, Look(IN_PAGE, width))
                label = f"{picture.title}. {picture.caption}"
                svg[size] = Markup(to_svg(figure, f"{picture.key[0]}{number}{size}", label, picture.names(facts)))
        drawn.append(Drawn(picture.key, number, picture.title, picture.caption, svg["w"], svg.get("n")))
    return drawn

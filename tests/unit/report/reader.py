"""Reads a page as a browser would: its tags, its words, and what it would fetch."""

from html.parser import HTMLParser

VOID = {"meta", "br", "wbr", "link", "img", "input", "hr"}
FETCHING = {"src", "srcset", "poster", "action", "data", "background"}


class Page(HTMLParser):
    """`tags` with their attributes, `text` outside of style, `ids`, `links`; raises where tags do not close."""

    def __init__(self, html: str) -> None:
        HTMLParser.__init__(self)
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.open: list[str] = []
        self.feed(html)
        self.close()
        assert self.open == [], f"never closed: {self.open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag, f"</{tag}> closes nothing"
        if tag not in ("a", "b"):
            self.words.append(" ")

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join("".join(self.words).replace("\u00a0", " ").split())

    @property
    def ids(self) -> list[str]:
        return [str(attrs["id"]) for _, attrs in self.tags if "id" in attrs]

    def fetched(self) -> list[str]:
        """Everything outside the page that a browser would load, or run."""
        found: list[str] = []
        for tag, attrs in self.tags:
            if tag in ("script", "iframe", "object", "embed", "link", "base"):
                found.append(f"<{tag}>")
            found += [f"{tag} {name}" for name in attrs if name.startswith("on")]
            for name, value in attrs.items():
                loads = name in FETCHING or (name in ("href", "xlink:href") and tag not in ("a", "use"))
                if loads and not (value or "").startswith(("data:image/png;base64,", "#")):
                    found.append(f"{tag} {name}={value}")
                if name == "style" and "url(" in (value or "") and "url(#" not in (value or ""):
                    found.append(f"{tag} style={value}")
        return found

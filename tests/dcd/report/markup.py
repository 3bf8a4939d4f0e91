"""HTML and SVG taken apart, to look for what must or must not be in them."""

from html.parser import HTMLParser


class Elements(HTMLParser):
    """Every start tag of a document with its attributes, and the text within `text` elements."""

    def __init__(self, markup: str):
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self._in_text = False
        self.feed(markup)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))
        self._in_text = tag == "text"

    def handle_data(self, data: str) -> None:
        if self._in_text and data.strip():
            self.texts.append(data.strip())

"""A page of HTML taken apart."""

from __future__ import annotations

import html.parser


class Elements(html.parser.HTMLParser):
    """Every element with its attributes, and all text by the element that holds it."""

    def __init__(self, page: bytes) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[tuple[str, str]] = []
        self.feed(page.decode())

    def handle_starttag(self, tag, attributes):
        self.found.append((tag, dict(attributes)))

    def handle_data(self, text):
        if self.found:
            tag, attributes = self.found[-1]
            self.texts.append((attributes.get("id") or tag, text))

    def text(self, name: str) -> str:
        """All text right behind the start of elements of this name or id."""
        return "".join(text for found, text in self.texts if found == name)

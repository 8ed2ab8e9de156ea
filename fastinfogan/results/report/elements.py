"""HTML as a tree of elements: whatever a file or a name says is text in it, and nothing else."""

from __future__ import annotations

from xml.etree.ElementTree import Element, tostring

from fastinfogan.printable import printable

Content = Element | str | int | None


def element(tag: str, *content: Content, **attributes: str | None) -> Element:
    """An element with text and other elements in it.

    Args:
        tag: its name.
        content: in order; None is nothing.
        attributes: by name, class_ for class and data_x for data-x; None leaves one out.
    """
    made = Element(tag)
    for name, value in attributes.items():
        if value is not None:
            made.set(name.rstrip("_").replace("_", "-"), _text(value))
    last: Element | None = None
    for part in content:
        if isinstance(part, Element):
            made.append(part)
            last = part
        elif part is not None and last is None:
            made.text = (made.text or "") + _text(str(part))
        elif part is not None:
            last.tail = (last.tail or "") + _text(str(part))
    return made


def html(*elements: Element) -> str:
    """Elements as HTML."""
    return "".join(tostring(part, encoding="unicode", method="html") for part in elements)


def table(head: list[Content], rows: list[list[Content]], class_: str | None = None) -> Element:
    """A table that scrolls inside its own box where it is too wide for the page.

    Args:
        head: what the columns are.
        rows: a row's cells, of which the first says what the row is; a cell that is a td already
            stays as it is.
        class_: of the table.
    """
    heads = (element("th", cell, scope="col") for cell in head)
    lines = (
        element("tr", element("th", first, scope="row"), *(_cell(cell) for cell in others))
        for first, *others in rows
    )
    whole = element(
        "table",
        element("thead", element("tr", *heads)),
        element("tbody", *lines),
        class_=class_,
    )
    return element("div", whole, class_="scroll", tabindex="0")


def listed(pairs: list[tuple[str, Content]]) -> Element:
    """What things are called, and what they are."""
    parts = [(element("dt", name), element("dd", value)) for name, value in pairs]
    return element("dl", *(part for pair in parts for part in pair))


def code(text: str, label: str) -> Element:
    """Lines to be copied, with a button that does it.

    Args:
        text: the lines.
        label: what they are, for who can't see them.
    """
    lines = element("pre", element("code", text), tabindex="0", aria_label=label)
    button = element("button", "Copy", type="button", class_="button small copy", hidden="")
    return element("div", lines, button, class_="code")


def _cell(content: Content) -> Element:
    if isinstance(content, Element) and content.tag == "td":
        return content
    return element("td", content)


def _text(text: str) -> str:
    return "\n".join(printable(line) for line in text.split("\n"))

"""matplotlib's figures as SVG elements that follow the page: its fonts, its colours, dark mode.

Figures are drawn with marker colours that stand for the page's CSS variables, and matplotlib's
`style` attributes become presentation attributes, so that the page can forbid inline styles.
"""

import io
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from xml.etree import ElementTree

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

INK, SOFT, LINE, ACCENT, PAPER = "#010101", "#020202", "#030303", "#040404", "#050505"
_VARIABLES = {
    INK: "var(--ink)",
    SOFT: "var(--soft)",
    LINE: "var(--line)",
    ACCENT: "var(--accent)",
    PAPER: "var(--paper)",
}
_ON_WHITE = {
    "var(--ink)": "#1a1a1a",
    "var(--soft)": "#5c5c5c",
    "var(--line)": "#c9c9c9",
    "var(--accent)": "#b3261e",
    "var(--paper)": "#ffffff",
}
_NO_METADATA = dict.fromkeys(("Creator", "Date", "Format", "Type"))
_DROPPED = ("metadata", "style")


@dataclass(frozen=True)
class Size:
    """Size of a figure in CSS pixels at scale 1; text is drawn at `text_px`."""

    width_px: int
    height_px: int
    text_px: float


@contextmanager
def drawing(size: Size, salt: str) -> Iterator[Figure]:
    """Give an empty figure, and matplotlib's settings for what is drawn on it and for `svg`.

    salt: keeps the ids of two figures of one page apart; the same salt gives the same ids.
    """
    settings: dict[Any, Any] = {
        "svg.fonttype": "none",
        "svg.hashsalt": salt,
        "font.size": size.text_px * 0.75,
        "text.parse_math": False,
        "axes.unicode_minus": True,
    }
    with mpl.rc_context(settings):
        yield Figure(figsize=(size.width_px / 96, size.height_px / 96), dpi=96)


def plain(axes: Axes) -> None:
    """Give axes a quiet grid in the page's colours, and no frame."""
    axes.tick_params(colors=SOFT, length=0, pad=6)
    axes.grid(color=LINE, lw=0.75, zorder=0)
    axes.set_axisbelow(True)
    for spine in axes.spines.values():
        spine.set_visible(False)


def svg(figure: Figure, description: str) -> str:
    """Draw a figure of `drawing` as an SVG element of a page, without styles of its own."""
    drawn = io.StringIO()
    figure.savefig(drawn, format="svg", transparent=True, metadata=_NO_METADATA)
    root = ElementTree.fromstring(drawn.getvalue())
    _tidy(root)
    attributes = {"role": "img", "aria-label": description, "viewBox": root.attrib["viewBox"]}
    root.attrib = attributes | {"stroke-linejoin": "round"}
    return ElementTree.tostring(root, encoding="unicode")


def document(element: str) -> str:
    """Make an element that `svg` gave a document of its own, on white."""
    root = ElementTree.fromstring(element)
    for node in root.iter():
        node.attrib = {name: _ON_WHITE.get(value, value) for name, value in node.attrib.items()}
    root.attrib |= {"xmlns": "http://www.w3.org/2000/svg", "font-family": "sans-serif"}
    root.insert(0, ElementTree.Element("rect", width="100%", height="100%", fill="#ffffff"))
    return ElementTree.tostring(root, encoding="unicode")


def _tidy(element: ElementTree.Element) -> None:
    """Take namespaces, styles and white space between elements off an element and all within."""
    element.tag = _local(element.tag)
    style = element.attrib.pop("style", "")
    plain_names = {_local(name): value for name, value in element.attrib.items()}
    every = _presentation(style) | plain_names
    element.attrib = {name: _VARIABLES.get(value, value) for name, value in every.items()}
    for child in list(element):
        if _local(child.tag) in _DROPPED:
            element.remove(child)
        else:
            _tidy(child)
            child.tail = None
    if len(element):
        element.text = None


def _local(name: str) -> str:
    return name.rpartition("}")[2]


def _presentation(style: str) -> dict[str, str]:
    """The declarations of a `style` as attributes; fonts are the page's, of the given size."""
    attributes = {}
    for declaration in filter(None, map(str.strip, style.split(";"))):
        name, _, value = declaration.partition(":")
        value = value.strip()
        if name == "font":  # such as: bold 9.75px 'DejaVu Sans', sans-serif
            words = value.partition("px")[0].split()
            attributes["font-size"] = f"{words[-1]}px"
            if {"bold", "700"} & set(words[:-1]):
                attributes["font-weight"] = "600"
        elif name != "font-family":
            attributes[name] = value
    return attributes

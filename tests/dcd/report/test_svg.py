from xml.etree import ElementTree

import pytest

from dcd.report.svg import ACCENT, INK, Size, document, drawing, svg
from tests.dcd.report.markup import Elements

SIZE = Size(300, 200, 12)


def drawn(text: str = "a name", salt: str = "test") -> str:
    with drawing(SIZE, salt) as figure:
        axes = figure.subplots()
        axes.plot([1, 2], [3, 4], color=ACCENT, marker="o", dashes=(3, 2))
        axes.text(1, 3, text, color=INK, fontweight="bold")
        return svg(figure, f"about {text}")


def test_an_element_has_no_styles_and_the_colours_of_the_page():
    elements = Elements(drawn()).found
    assert not any(tag == "style" or "style" in attributes for tag, attributes in elements)
    colours = {a.get(name) for _, a in elements for name in ("fill", "stroke")}
    assert {"var(--accent)", "var(--ink)"} <= colours
    assert not {ACCENT, INK} & colours
    fonts = [a for tag, a in elements if tag == "text"]
    assert all(a["font-size"] == "9px" and "font-family" not in a for a in fonts)
    assert [a.get("font-weight") for a in fonts].count("700") == 1


def test_a_screen_reader_is_told_what_is_drawn():
    tag, attributes = Elements(drawn()).found[0]
    assert (tag, attributes["role"], attributes["aria-label"]) == ("svg", "img", "about a name")


@pytest.mark.parametrize("text", ["a < b & c", '"><script>alert(1)</script>', "$x^2$", INK])
def test_text_is_shown_as_it_is(text: str):
    root = ElementTree.fromstring(drawn(text))
    assert text in [element.text for element in root.iter("text")]
    assert root.attrib["aria-label"] == f"about {text}"


def test_salts_keep_the_ids_of_two_figures_apart_and_the_same_gives_the_same():
    assert drawn() == drawn()
    ids = [
        {a["id"] for tag, a in Elements(drawn(salt=salt)).found if tag == "path" and a.get("id")}
        for salt in ("one", "other")
    ]
    assert ids[0]
    assert not ids[0] & ids[1]


def test_a_document_is_xml_of_its_own_whose_references_resolve():
    text = document(drawn())
    assert "var(--" not in text
    root = ElementTree.fromstring(text)
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    elements = list(root.iter())
    ids = {element.attrib["id"] for element in elements if "id" in element.attrib}
    used = {e.attrib["href"] for e in elements if e.tag.endswith("}use")}
    assert used
    assert used <= {f"#{i}" for i in ids}

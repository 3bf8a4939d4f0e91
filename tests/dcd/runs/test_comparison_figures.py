import io
from xml.etree import ElementTree

from PIL import Image

from dcd.runs.comparison_figures import precision_against_k, sheet, trade_off
from tests.dcd.report.run_records import Right, record, rows_of

SVG = "{http://www.w3.org/2000/svg}svg"


def texts(document: str) -> set[str | None]:
    """Of a document that a strict reader takes: every prefix is bound, every colour is one."""
    assert "var(--" not in document
    root = ElementTree.fromstring(document)
    assert root.tag == SVG
    return {element.text for element in root.iter("{http://www.w3.org/2000/svg}text")}


def test_the_plane_is_a_document_of_its_own():
    rows = rows_of(record({"none": Right(60, 80), "selected": Right(70, 81)}))
    assert {"none", "selected"} <= texts(trade_off(rows))


def test_precision_against_k_names_series_and_ticks():
    points = [("lite0 <b>", k, 0.9 - k / 100) for k in (20, 5)] + [("pixels", 5, 0.7)]
    drawn = precision_against_k(points)
    assert {"lite0 <b>", "pixels", "5", "20"} <= texts(drawn)
    assert drawn == precision_against_k(points)


def test_a_sheet_has_a_grey_tile_for_what_does_not_decode():
    sink = io.BytesIO()
    Image.new("RGB", (8, 8), "red").save(sink, "PNG")
    with Image.open(io.BytesIO(sheet([("cat", sink.getvalue(), [None, b"no image"])]))) as made:
        colours = {made.getpixel((x, 40)) for x in (10, 2 * 68 + 10, 3 * 68 + 10)}
    assert colours == {(255, 0, 0), (187, 187, 187)}

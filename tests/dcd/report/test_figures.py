import re
from dataclasses import replace

import pytest

from dcd.evaluation.summary import MethodSummary
from dcd.report.figures import NARROW, WIDE, Size, trade_off
from tests.dcd.report.markup import Elements
from tests.dcd.report.run_records import Right, record, rows_of

CROWD = {
    "none": Right(60, 80),
    "error_sample": Right(61, 80),
    "random": Right(60, 79),
    "random_in_label": Right(61, 79),
    "whole_pool": Right(60, 80),
    "selected_k10": Right(62, 80),
    "selected_k50": Right(62, 79),
    "selected": Right(62, 81),
}


@pytest.fixture(scope="module")
def rows() -> tuple[MethodSummary, ...]:
    return rows_of(record(CROWD))


@pytest.mark.parametrize("size", [WIDE, NARROW])
def test_every_method_is_named_once(rows: tuple[MethodSummary, ...], size: Size):
    texts = Elements(trade_off(rows, size)).texts
    assert sorted(t for t in texts if t in CROWD) == sorted(CROWD)


@pytest.mark.parametrize("size", [WIDE, NARROW])
def test_names_do_not_cover_each_other_even_in_a_crowd(rows: tuple[MethodSummary, ...], size: Size):
    placed = re.findall(
        r'<text[^>]* x="([\d.]+)" y="([\d.]+)"[^>]*>(\w+)</text>', trade_off(rows, size)
    )
    boxes = [(float(x), float(y), name) for x, y, name in placed if name in CROWD]
    assert len(boxes) == len(CROWD)
    height = size.text_px * 0.75
    for i, (x, y, name) in enumerate(boxes):
        for other_x, other_y, other in boxes[i + 1 :]:
            # Half an em a character is narrower than the font that was measured.
            left, width = (x, len(name)) if x < other_x else (other_x, len(other))
            apart = abs(y - other_y) >= 0.8 * height or abs(x - other_x) >= 0.5 * height * width
            assert apart, f"{name} and {other} at {left}"


def test_the_page_may_forbid_inline_styles_and_sets_the_colours(rows: tuple[MethodSummary, ...]):
    svg = trade_off(rows, WIDE)
    elements = Elements(svg).found
    assert not any(tag == "style" or "style" in attributes for tag, attributes in elements)
    assert not re.search(r'(fill|stroke)="#', svg)
    assert {"var(--ink)", "var(--accent)"} <= set(re.findall(r"var\(--\w+\)", svg))


def test_references_within_the_figure_resolve(rows: tuple[MethodSummary, ...]):
    elements = Elements(trade_off(rows, WIDE) + trade_off(rows, NARROW)).found
    ids = [a["id"] for _, a in elements if a.get("id")]
    defined = [i for i in ids if i and re.fullmatch(r"[mp][0-9a-f]{10}", i)]
    assert len(defined) == len(set(defined)), "two figures of one page share an id"
    used = {(a.get("href") or "#")[1:] for tag, a in elements if tag == "use"}
    assert used <= set(ids)


def test_the_same_rows_give_the_same_bytes(rows: tuple[MethodSummary, ...]):
    assert trade_off(rows, WIDE) == trade_off(rows, WIDE)


def test_a_method_name_cannot_break_out(rows: tuple[MethodSummary, ...]):
    hostile = replace(rows[-2], method='"><script>alert(1)</script>$x^2$')
    tags = {tag for tag, _ in Elements(trade_off((*rows, hostile), WIDE)).found}
    assert "script" not in tags

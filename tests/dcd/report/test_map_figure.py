"""The map as SVG: all failures and picks are on it, few bytes, labels as text."""

import re
from xml.etree import ElementTree

import numpy as np
import pyarrow as pa

from dcd.report.map_figure import MAX_DRAWN, MAX_LABELS, n_drawn, panels
from dcd.report.record import DrawnMap
from dcd.tables import schemas

HOSTILE = '<script>"&alert(1)'


def drawn(n_pool: int = 50, n_train: int = 20, n_picks: int = 10, n_failures: int = 8) -> DrawnMap:
    counts = {"pool": n_pool, "train": n_train, "pick": n_picks, "failure": n_failures}
    n = sum(counts.values())
    rng = np.random.default_rng(0)
    roles = [role for role, count in counts.items() for _ in range(count)]
    chances = [float(rng.random()) if r in ("pool", "pick") else None for r in roles]
    places = rng.uniform(-1, 1, (2, n)).astype(np.float32)
    columns = {
        "image_id": [f"i{i}" for i in range(n)],
        "role": roles,
        "label": [HOSTILE if i % 2 else f"label {i % 20}" for i in range(n)],
        "shard": ["s"] * n,
        "content_hash": [bytes([i % 256, i // 256 % 256, i // 65536] * 5 + [0]) for i in range(n)],
        "posterior": chances,
        "x": places[0],
        "y": places[1],
    }
    return DrawnMap(pa.table(columns, schema=schemas.MAP), "pca", "pca", 0.4, 500, 100)


def marks(svg: str, shape: str) -> int:
    paths = ElementTree.fromstring(svg).iter("path")
    return sum(
        len(re.findall(r"M\d", one.attrib["d"])) for one in paths if shape in one.attrib["class"]
    )


def test_every_kind_is_drawn_and_counted():
    by_role, by_posterior, by_label = panels(drawn())
    assert [key.n for key in by_role.legend] == [50, 20, 10, 8]
    assert marks(by_role.drawn, "cross") == 8
    assert marks(by_role.drawn, "triangle") == 10
    assert sum(key.n for key in by_posterior.legend) == 88
    assert sum(key.n for key in by_label.legend) == 88
    assert "failure: 8" in by_role.drawn


def test_a_label_is_text_and_rare_ones_are_together():
    *_, by_label = panels(drawn(n_failures=40))
    assert len(by_label.legend) == MAX_LABELS + 1
    assert by_label.legend[0].name == "other labels"
    assert by_label.legend[1].name == HOSTILE
    root = ElementTree.fromstring(by_label.drawn)
    assert HOSTILE in root.attrib["aria-label"]
    assert not list(root.iter("script"))


def test_a_large_map_costs_few_bytes_and_keeps_what_it_is_for():
    large = drawn(n_pool=60_000, n_train=30_000, n_picks=3_000, n_failures=200)
    by_role, *_ = panels(large)
    assert n_drawn(large) == MAX_DRAWN
    assert [key.n for key in by_role.legend][2:] == [3_000, 200]
    assert sum(key.n for key in by_role.legend) == MAX_DRAWN
    assert len(by_role.drawn) < 200_000


def test_the_same_map_gives_the_same_bytes():
    assert panels(drawn()) == panels(drawn())


def test_it_says_what_is_left_out_and_how_it_came_about():
    said, how = drawn().sentences
    assert "50 of 500" in said
    assert "20 of 100" in said
    assert "40%" in how

import base64
import hashlib
import html
import re
from dataclasses import replace

import pytest
import yaml

from dcd.report.page import MAX_PICTURE_BYTES, describe, reject_reasons, render
from tests.dcd.report.markup import Elements
from tests.dcd.report.run_records import (
    HOSTILE,
    Right,
    hostile,
    noise,
    png,
    predictions,
    record,
    rows_of,
)

REJECTS = [
    ("shard-1", "b", "decode", "truncated JPEG"),
    ("shard-0", "c", "decode", "zero bytes"),
    ("shard-0", "a", "decode", "truncated JPEG"),
]


@pytest.fixture(scope="module")
def page() -> str:
    return render(record(rejects=REJECTS), noise(16))


def test_the_verdict_comes_before_everything_else(page: str):
    body = page[page.index("<body>") :]
    text = re.sub(r"<[^>]*>", " ", body[: body.index("<svg")])
    headline = text.index("Better on the failures, with no clear change on test.")
    assert headline < text.index("On images like your failures")
    assert headline < 200


def test_a_lost_comparison_stands_in_the_first_heading():
    made = record({"none": Right(40, 80), "whole_pool": Right(90, 80), "selected": Right(50, 60)})
    heading = re.search(r"<h1>(.*?)</h1>", render(made, noise(8)))
    assert heading
    assert heading[1] == (
        "Better on the failures, but worse on test; whole_pool beat it on the failures."
    )


def test_the_page_is_complete_in_itself(page: str):
    elements = Elements(page).found
    assert not {"script", "iframe", "object", "embed", "form", "base"} & {
        tag for tag, _ in elements
    }
    for tag, attributes in elements:
        assert not any(name.startswith("on") or name == "style" for name in attributes)
        for name in ("src", "href", "xlink:href", "srcset", "action"):
            target = attributes.get(name)
            assert target is None or target.startswith(("data:", "#")), (tag, target)
    assert "url(" not in re.sub(r"url\(#\w+\)", "", page)
    assert "@import" not in page


def test_the_policy_allows_this_style_sheet_and_data_images_only(page: str):
    style = re.search(r"<style>(.*?)</style>", page, re.DOTALL)
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', page)
    assert style
    assert policy
    digest = base64.b64encode(hashlib.sha256(style[1].encode()).digest()).decode()
    assert policy[1].startswith(f"default-src 'none'; img-src data:; style-src 'sha256-{digest}'; ")


def test_texts_of_users_stay_text():
    page = render(hostile(), noise(8))
    tags = {tag for tag, _ in Elements(page).found}
    assert "script" not in tags
    assert "<script" not in page.lower()
    assert "<img src=x" not in page
    assert "{{7*7}}" in page
    assert html.escape(HOSTILE).replace("&#x27;", "&#39;").replace("&quot;", "&#34;") in page


def test_every_failure_has_a_row_with_its_picks_in_rank_order(page: str):
    failures = page[page.index('id="failures"') : page.index('id="rejects"')]
    rows = re.findall(r'<article class="failure">(.*?)</article>', failures, re.DOTALL)
    assert len(rows) == 6
    for row in rows:
        assert re.findall(r"<(?:b|s)>(\d+)</(?:b|s)>", row) == list("1234567")
        assert re.findall(r"<i>([\d.]+)</i>", row) == [f"{10 + r}.0" for r in range(1, 8)]


def test_a_rejected_pick_is_struck_out_and_says_why(page: str):
    picks = re.findall(r"<li.*?</li>", page[page.index('id="failures"') :], re.DOTALL)
    rejected = [pick for pick in picks if 'class="out"' in pick]
    assert len(rejected) == 6
    assert all("<s>5</s>" in pick and "<em>in train</em>" in pick for pick in rejected)
    assert not any("<em>" in pick for pick in picks if pick not in rejected)


def test_pictures_that_are_missing_or_broken_are_placeholders():
    images = noise(8, broken=["failure-000"])
    page = render(
        record(),
        lambda uses: {
            use: data for use, data in images(uses).items() if use.image_id != "pool-001-001"
        },
    )
    failures = page[page.index('id="failures"') :]
    assert failures.count("no picture") == 2


def test_pictures_that_are_gone_are_counted(page: str):
    assert "could not be read any more" not in page
    found = render(record(n_failures=3), noise(8, broken=["failure-000", "failure-001"]))
    assert "2 pictures could not be read any more" in found


def test_a_pick_with_the_name_of_a_failure_shows_its_own_picture():
    """Class folders that number their files give the same ids in the pool and in the failures."""
    made = record(n_failures=1, n_picks=1)
    at = made.neighbors.column_names.index("image_id")
    same = made.neighbors.set_column(at, "image_id", made.neighbors["error_image_id"])
    page = render(
        replace(made, neighbors=same),
        lambda uses: {use: png(f"{use.origin} {use.image_id}", 8) for use in uses},
    )
    pictures = re.findall(r'src="(data:[^"]*)"', page[page.index('id="failures"') :])
    assert len(pictures) == 2
    assert len(set(pictures)) == 2


def test_a_large_run_gives_a_bounded_page_that_counts_the_rest():
    made = record(n_failures=300, n_picks=30)
    page = render(made, noise(64))
    assert len(page) < 3_000_000
    uris = re.findall(r'src="(data:[^"]*)"', page[page.index('id="failures"') :])
    assert 0.9 * MAX_PICTURE_BYTES < sum(map(len, uris)) <= MAX_PICTURE_BYTES
    shown = page[page.index('id="failures"') :].count('<article class="failure">')
    hidden = [int(n) for n in re.findall(r"(\d+) more are not shown", page)]
    assert shown + sum(hidden) == 300
    assert re.search(r"and \d+ more; of all 30, 24 were picked", page)


def test_many_kinds_of_failure_are_folded_away():
    labels = [f"label {i:02d}" for i in range(40)]
    page = render(record(labels=labels, n_failures=40, n_picks=2), noise(8))
    assert "28 more kinds of failure" in page


def test_rejects_are_counted_by_reason(page: str):
    made = record(rejects=REJECTS)
    assert [(r.reason, r.n, r.example) for r in reject_reasons(made)] == [
        ("truncated JPEG", 2, "shard-0: a"),
        ("zero bytes", 1, "shard-0: c"),
    ]
    assert "shard-0: a" in page
    assert "every image was read" in render(record(), noise(8))


def test_lineage_and_configuration_are_on_the_page(page: str):
    made = record()
    for text in (
        "toy-0123456789ab",
        "abc123",
        "toy_net-0a1b2c3d",
        "f00d",
        "5,000 images in 3 shards",
        "about 62 % right, as estimated from train",
    ):
        assert text in page
    written = re.search(r"<pre[^>]*>(.*?)</pre>", page, re.DOTALL)
    assert written
    assert yaml.safe_load(html.unescape(written[1])) == made.config.model_dump(mode="json")


def test_the_same_record_gives_the_same_page(page: str):
    assert render(record(rejects=REJECTS), noise(16)) == page


def test_a_run_of_one_seed_without_modes_failures_or_stages():
    table = predictions({"none": Right(40, 80), "selected": Right(40, 80)}, [0], with_modes=False)
    bare = replace(record(found=table, seeds=[0], n_failures=0), stages=())
    page = render(bare, noise(8))
    assert "One seed" in page
    assert "No clear change" in page


def test_methods_are_described_from_the_config():
    made = record()
    rows = {row.method: describe(row, made.config) for row in rows_of(made)}
    assert rows["selected"] == (
        "nearest in-label pool images: k 50, label agreement at least 0.2, "
        "a sample of up to 50,000 pool images, the failures themselves"
    )
    assert rows["none"] == "the failing model: train alone"


def test_pictures_in_two_splits_are_told():
    made = replace(record(), shared=("test (seed 0): 2 <pictures> of 9 are in train too",))
    assert "2 &lt;pictures&gt; of 9 are in train too" in render(made, noise(8))
    assert 'id="shared"' not in render(record(), noise(8))

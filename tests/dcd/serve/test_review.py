"""The review pages: who may decide, what is taken of it, and what a page is told."""

import logging
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from dcd.config import load_config
from dcd.reviews.decisions import read_reviews
from dcd.runs import loop
from dcd.serve.app import create_app
from dcd.serve.review_pages import REVIEW_POLICY, ReviewAccess
from dcd.store import Store, keys
from tests.case import LABELS, write_case

TOKEN = "the-token-of-this-server"


@pytest.fixture(scope="module")
def case(tmp_path_factory) -> tuple[Store, str]:
    """A store with a run, and the run's page."""
    config = load_config(write_case(tmp_path_factory.mktemp("case"), seeds=(0,)))
    info = loop.run(config)
    return Store(config.store), f"/review/runs/{info.run_id}"


@pytest.fixture
def client(case) -> TestClient:
    app = create_app(case[0], review=ReviewAccess(TOKEN))
    return TestClient(app, base_url="http://127.0.0.1:4280", follow_redirects=False)


@pytest.fixture
def inside(client) -> TestClient:
    assert client.get(f"/review/enter?token={TOKEN}").status_code == 303
    return client


def decision(key: str, verb: str = "accept", to: str | None = None, number: int = 1) -> dict:
    return {"id": f"decision-{number}", "key": key, "verb": verb, "to": to}


def post(client: TestClient, page: str, *decisions: dict, **headers: str):
    sent = {"reviewer": "ann", "decisions": list(decisions)}
    return client.post(f"{page}/decisions", json=sent, headers=headers)


@pytest.mark.parametrize("path", ["/review", "/review/failures/all", "/review/failures/all/items"])
def test_without_the_token_nothing_is_shown(client, path):
    assert client.get(path).status_code == 403


def test_a_wrong_token_is_refused_and_logged_without_it(client, caplog):
    with caplog.at_level(logging.WARNING):
        answer = client.get("/review/enter?token=guessed-token")
    assert answer.status_code == 403
    assert "refused" in caplog.text
    assert "guessed-token" not in caplog.text + answer.text
    assert TOKEN not in repr(ReviewAccess(TOKEN))
    client.cookies.set("dcd_review_4280", "guessed-token")
    assert client.get("/review").status_code == 403
    assert "set-cookie" not in answer.headers


def test_the_token_goes_into_a_cookie_that_no_script_and_no_other_site_gets(client):
    cookie = client.get(f"/review/enter?token={TOKEN}").headers["set-cookie"].lower()
    assert "httponly" in cookie
    assert "samesite=strict" in cookie
    assert "path=/review" in cookie


def test_a_server_that_was_not_asked_to_review_has_no_such_pages(case):
    client = TestClient(create_app(case[0]), base_url="http://127.0.0.1:4280")
    assert client.get("/review").status_code == 404
    assert client.get("/review.js").status_code == 404
    assert client.post(f"{case[1]}/decisions", json={}).status_code in (404, 405)
    assert "Review" not in client.get("/").text


def test_pages_carry_a_policy_without_inline_script(inside, case):
    answer = inside.get(case[1])
    assert answer.headers["content-security-policy"] == REVIEW_POLICY
    assert "unsafe" not in REVIEW_POLICY
    assert "<script>" not in answer.text
    assert "onclick" not in answer.text
    assert "script-src" not in inside.get("/").headers["content-security-policy"]


def test_a_page_knows_the_picks_beside_their_failures(inside, case):
    found = inside.get(f"{case[1]}/items").json()
    store, run_id = case[0], case[1].rpartition("/")[2]
    picks = store.read_table(keys.run_table(run_id, "debug_train")).to_pylist()
    targeted = {p["image_id"] for p in picks if p["role"] == "targeted"}
    assert {item["id"] for item in found["items"]} == targeted
    assert found["classes"] == sorted(LABELS)
    for item in found["items"]:
        assert found["failures"][item["failure"]]["label"] == item["label"]
        assert item["distance"] > 0


def test_every_picture_is_there(inside, case):
    found = inside.get(f"{case[1]}/items").json()
    names = [f"pick-{item['key']}" for item in found["items"]]
    names += [f"failure-{i}" for i in range(len(found["failures"]))]
    for name in names:
        answer = inside.get(f"{case[1]}/pictures/{name}")
        assert answer.content[8:12] == b"WEBP", name
    assert inside.get(f"{case[1]}/pictures/pick-{'0' * 32}").status_code == 404


def test_a_picture_that_is_gone_is_said_to_be_gone(tmp_path):
    config = load_config(write_case(tmp_path, seeds=(0,)))
    info = loop.run(config)
    for shard in Path(tmp_path).glob("pool-*.parquet"):
        shard.unlink()
    app = create_app(Store(config.store), review=ReviewAccess(TOKEN))
    client = TestClient(app, base_url="http://127.0.0.1:4280")
    client.get(f"/review/enter?token={TOKEN}")
    page = f"/review/runs/{info.run_id}"
    item = client.get(f"{page}/items").json()["items"][0]
    answer = client.get(f"{page}/pictures/pick-{item['key']}")
    assert (answer.status_code, "gone" in answer.text) == (404, True)
    assert post(client, page, decision(item["key"])).json()["kept"] == ["decision-1"]


def test_what_is_decided_is_in_the_store_and_on_the_page(inside, case):
    before = read_reviews(case[0]).num_rows
    items = inside.get(f"{case[1]}/items").json()["items"]
    answer = post(inside, case[1], decision(items[0]["key"], "reject", number=11)).json()
    assert answer["kept"] == ["decision-11"]
    post(inside, case[1], decision(items[0]["key"], "reject", number=11))
    rows = read_reviews(case[0]).to_pylist()[before:]
    assert [(r["image_id"], r["decision"], r["reviewer"]) for r in rows] == [
        (items[0]["id"], "reject", "ann")
    ]
    stands = inside.get(f"{case[1]}/standing").json()[items[0]["key"]]
    assert (stands["verb"], stands["reviewer"]) == ("reject", "ann")


def test_unknown_images_and_labels_are_named_and_the_rest_is_taken(inside, case):
    key = inside.get(f"{case[1]}/items").json()["items"][1]["key"]
    answer = post(
        inside,
        case[1],
        decision("0" * 32, number=21),
        decision(key, "relabel", "gren", number=22),
        decision(key, "relabel", "green", number=23),
    ).json()
    assert answer["kept"] == ["decision-23"]
    whys = [one["why"] for one in answer["refused"]]
    assert whys[0] == "this page has no such image"
    assert "did you mean 'green'?" in whys[1]


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ],
)
def test_other_sites_are_refused(inside, case, headers):
    before = read_reviews(case[0]).num_rows
    key = inside.get(f"{case[1]}/items").json()["items"][0]["key"]
    assert post(inside, case[1], decision(key, number=31), **headers).status_code == 403
    assert read_reviews(case[0]).num_rows == before


@pytest.mark.parametrize(
    ("body", "kind", "status"),
    [
        (b"{}", "application/json", 422),
        (b"no json", "application/json", 422),
        (b"{}", "text/plain", 415),
        (b"x" * 2_000_000, "application/json", 413),
    ],
)
def test_bad_bodies_are_refused_with_a_reason(inside, case, body, kind, status):
    answer = inside.post(f"{case[1]}/decisions", content=body, headers={"Content-Type": kind})
    assert answer.status_code == status


def test_a_selection_can_be_reviewed_as_well(inside, case):
    page = f"/review/selections/{case[0].keys_under('selections')[0].split('/')[1]}"
    found = inside.get(f"{page}/items").json()
    assert found["items"]
    assert all(f["predicted"] is None for f in found["failures"])
    name = f"{page}/pictures/failure-{found['items'][0]['failure']}"
    assert inside.get(name).content[8:12] == b"WEBP"
    assert page in inside.get("/review").text

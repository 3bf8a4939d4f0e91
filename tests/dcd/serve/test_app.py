"""The pages of `dcd serve`: what they show, and what they refuse to give."""

import json
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from dcd.failures import registry
from dcd.failures.intake import take_in_folder
from dcd.serve.app import create_app
from dcd.store import Store, keys
from tests.dcd.failures.failing_images import case_with_registry, inbox, write_failures

HOSTILE = "<script>alert(1)</script>"


def put_run(store: Store, run_id: str) -> None:
    metrics = [
        {"method": m, "seed": 0, "split": s, "mode": None, "accuracy": a, "n_picks": 4}
        for m, s, a in [
            ("none", "test", 0.8),
            ("none", "debug_heldout", 0.25),
            ("selected", "test", 0.79),
            ("selected", "debug_heldout", 0.75),
        ]
    ]
    card = {"verdict": [f"Better {HOSTILE}"], "metrics": metrics, "lineage": {"pool": HOSTILE}}
    stage = {"stage": "embed x", "n": 10, "unit": "images", "n_reused": 50, "n_bytes": 31240}
    card["stages"] = [{**stage, "seconds": 1.5}]
    store.write_bytes(keys.run(run_id, "card.json"), json.dumps(card).encode())
    store.write_bytes(keys.run(run_id, "report.html"), b"<html>the report</html>")
    store.write_bytes(keys.run(run_id, "secret.txt"), b"not for the web")


def filled(store: Store, config) -> Store:
    put_run(store, "tiny-1")
    write_failures(inbox(config), 2, seed=1)
    (inbox(config) / "red" / f"{HOSTILE[:8]}.png").write_bytes(b"bad")
    [batch] = take_in_folder(store, config).batches
    registry.mark_covered(store, "tiny", "tiny-1", [batch])
    write_failures(inbox(config), 1, seed=2)
    take_in_folder(store, config)
    return store


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> Store:
    config = case_with_registry(tmp_path_factory.mktemp("case"))
    return filled(Store(config.store), config)


@pytest.fixture
def client(store) -> TestClient:
    return TestClient(create_app(store), base_url="http://127.0.0.1")


@pytest.mark.parametrize(
    ("path", "says"),
    [
        ("/", ["tiny-1", "25.0", "75.0", ">3<"]),
        ("/runs/tiny-1", ["31.2 kB", "embed x", "report.html"]),
        ("/failures", ["9 failures", "Waiting for a run", "data:image/webp", "tiny-1"]),
        ("/rejects", ["not a readable JPEG", "1 refused"]),
        ("/champions", ["No champion yet"]),
    ],
)
def test_pages_show_the_store_and_never_its_markup(client, path, says):
    answer = client.get(path)
    assert answer.status_code == 200
    assert all(text in answer.text for text in says)
    assert "<script" not in answer.text
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert answer.headers["x-content-type-options"] == "nosniff"


def test_the_report_is_served_as_it_is(client):
    assert client.get("/runs/tiny-1/report.html").text == "<html>the report</html>"


@pytest.mark.parametrize(
    "path",
    [
        "/runs/tiny-1/secret.txt",
        "/runs/tiny-1/..%2f..%2fchampion.json",
        "/runs/..%2f..%2fetc/report.html",
        "/runs/../failures/registry.parquet",
        "/runs/.hidden/report.html",
        "/runs/absent",
        "/runs/absent/report.html",
        "/etc/passwd",
        "/runs/%00/report.html",
    ],
)
def test_nothing_else_is_served(client, path):
    answer = client.get(path)
    assert answer.status_code == 404
    assert "not for the web" not in answer.text


def test_a_link_out_of_the_store_is_not_followed(client, store, tmp_path):
    (tmp_path / "outside.html").write_text("outside")
    put_run(store, "linked")
    path = store.path(keys.run("linked", "report.html"))
    store.delete(keys.run("linked", "report.html"))
    Path(path).symlink_to(tmp_path / "outside.html")
    answer = client.get("/runs/linked/report.html")
    Path(path).unlink()
    assert answer.status_code == 404
    assert "outside" not in answer.text


def test_it_only_reads_and_only_for_its_own_host(client):
    assert client.post("/").status_code == 405
    assert client.get("/", headers={"host": "evil.example"}).status_code == 400


def test_it_works_on_s3_and_on_an_empty_store(s3_url):
    store = Store(s3_url)
    client = TestClient(create_app(store), base_url="http://localhost")
    for path in ("/", "/failures", "/rejects", "/champions"):
        assert client.get(path).status_code == 200
    put_run(store, "far-1")
    assert "far-1" in client.get("/").text
    assert client.get("/runs/far-1/report.html").status_code == 200


@pytest.mark.parametrize("name", ["card.json", "gate.json"])
@pytest.mark.parametrize("damaged", [b"{", b'{"metrics": 3}', b""])
def test_one_damaged_run_hides_no_other(tmp_path, name, damaged):
    store = Store(str(tmp_path))
    put_run(store, "whole-1")
    put_run(store, "broken-1")
    store.write_raw(keys.run("broken-1", name), damaged)
    answer = TestClient(create_app(store), base_url="http://127.0.0.1").get("/")
    assert answer.status_code == 200
    assert 'href="/runs/whole-1"' in answer.text
    assert f"broken-1/{name}" in answer.text


def test_a_damaged_champion_hides_no_run(tmp_path):
    store = Store(str(tmp_path))
    put_run(store, "whole-1")
    store.write_raw(keys.CHAMPION, b"{")
    answer = TestClient(create_app(store), base_url="http://127.0.0.1").get("/")
    assert answer.status_code == 200
    assert "champion.json" in answer.text
    assert 'href="/runs/whole-1"' in answer.text


@pytest.mark.parametrize(
    ("method", "path", "host", "status"),
    [
        ("GET", "/nowhere", "127.0.0.1", 404),
        ("POST", "/", "127.0.0.1", 405),
        ("GET", "/", "evil.example", 400),
        ("GET", "/", "127.0.0.1", 500),
    ],
)
def test_errors_carry_the_headers_of_pages(tmp_path, monkeypatch, method, path, host, status):
    if status == 500:
        monkeypatch.setattr("dcd.serve.app.list_runs", lambda store: 1 / 0)
    app = create_app(Store(str(tmp_path)))
    client = TestClient(app, base_url=f"http://{host}", raise_server_exceptions=False)
    answer = client.request(method, path)
    assert answer.status_code == status
    assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["X-Frame-Options"] == "DENY"

"""The map's page: what it sends, to whom, and the pictures behind its points."""

import numpy as np
import pyarrow as pa
import pytest
from starlette.testclient import TestClient

from dcd.config import RunConfig, load_config
from dcd.maps.draw import read_map
from dcd.runs import loop
from dcd.serve.app import create_app
from dcd.serve.map_pages import ROLES, map_of_run, pack
from dcd.store import Store, keys
from tests.case import write_case


@pytest.fixture(scope="module")
def ran(tmp_path_factory) -> tuple[RunConfig, str]:
    path = write_case(tmp_path_factory.mktemp("case"), seeds=(0,), compare={"baselines": ["none"]})
    config = load_config(path)
    return config, loop.run(config).run_id


@pytest.fixture
def client(ran) -> TestClient:
    return TestClient(create_app(Store(ran[0].store)), base_url="http://127.0.0.1")


def test_the_page_runs_its_own_script_only(ran, client):
    answer = client.get(f"/runs/{ran[1]}/map")
    assert answer.status_code == 200
    policy = answer.headers["content-security-policy"]
    assert "script-src 'self'" in policy
    assert "unsafe" not in policy
    assert "<script src=" in answer.text
    assert answer.text.count("<script") == 1
    assert f'href="/runs/{ran[1]}/map"' in client.get(f"/runs/{ran[1]}").text
    for name, kind in [("map.js", "text/javascript"), ("map.css", "text/css")]:
        assert client.get(f"/{name}").headers["content-type"].startswith(kind)


def test_the_numbers_are_the_points(ran, client):
    config, run_id = ran
    store = Store(config.store)
    points = read_map(store, str(map_of_run(store, run_id))).points
    n = points.num_rows
    described = client.get(f"/runs/{run_id}/map/described").json()
    data = client.get(f"/runs/{run_id}/map/numbers").content
    assert described["n"] == n
    assert len(data) == 8 * n
    x = np.frombuffer(data, "<u2", n) / 32767 - 1
    assert x == pytest.approx(points["x"].to_numpy(), abs=1e-4)
    codes = np.frombuffer(data, "<u2", n, 4 * n)
    assert [described["labels"][c] for c in codes] == points["label"].to_pylist()
    roles = np.frombuffer(data, "u1", n, 6 * n)
    assert [ROLES[r] for r in roles] == points["role"].to_pylist()
    posterior = np.frombuffer(data, "u1", n, 7 * n)
    for told, kept in zip(posterior.tolist(), points["posterior"].to_pylist(), strict=True):
        assert told == (255 if kept is None else pytest.approx(200 * kept, abs=1))


@pytest.mark.parametrize("role", ROLES)
def test_a_point_of_every_role_has_its_picture(ran, client, role):
    config, run_id = ran
    store = Store(config.store)
    points = read_map(store, str(map_of_run(store, run_id))).points
    number = points["role"].to_pylist().index(role)
    told = client.get(f"/runs/{run_id}/map/points/{number}").json()
    assert told["role"] == role
    assert told["image_id"] == points["image_id"][number].as_py()
    answer = client.get(f"/runs/{run_id}/map/pictures/{number}")
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "image/webp"


@pytest.mark.parametrize(
    ("path", "says"),
    [
        ("/runs/{run}/map/points/99999", "no such point"),
        ("/runs/{run}/map/pictures/99999", "no such point"),
        ("/runs/none-1/map", "shows no map"),
        ("/runs/none-1/map/numbers", "shows no map"),
        ("/runs/..%2f..%2fx/map", ""),
        ("/runs/{run}/map/points/-1", ""),
    ],
)
def test_what_is_not_there_is_refused(ran, client, path, says):
    answer = client.get(path.format(run=ran[1]))
    assert answer.status_code == 404
    assert says in answer.text


def test_a_map_that_is_gone_says_so(ran, client):
    config, run_id = ran
    store = Store(config.store)
    key = str(map_of_run(store, run_id))
    data = store.read_raw(key)
    client.get(f"/runs/{run_id}/map/numbers")
    store.delete(key)
    assert "its map is gone" in client.get(f"/runs/{run_id}/map").text
    assert client.get(f"/runs/{run_id}/map/numbers").status_code == 404
    assert f"/runs/{run_id}/map" not in client.get(f"/runs/{run_id}").text
    store.write_raw(key, data)


def test_a_damaged_list_of_parts_hides_the_map_and_not_the_run(ran, client):
    config, run_id = ran
    store, key = Store(config.store), keys.run_parts(run_id)
    data = store.read_raw(key)
    store.write_raw(key, b"{")
    page = client.get(f"/runs/{run_id}")
    assert page.status_code == 200
    assert f"/runs/{run_id}/map" not in page.text
    store.write_raw(key, data)


def test_a_place_outside_stays_within_its_bits(ran):
    config, run_id = ran
    store = Store(config.store)
    points = read_map(store, str(map_of_run(store, run_id))).points.slice(0, 1)
    far = points.set_column(6, points.schema.field("x"), pa.array([7.0], pa.float32()))
    assert np.frombuffer(pack(far, ["red", "green", "blue"]), "<u2", 1)[0] == 65534

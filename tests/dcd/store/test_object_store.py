"""The store's contract, on a folder, on moto and (marker `s3`) on a real OpenStack Swift."""

import io
import json
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import boto3
import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest

from dcd.errors import ObjectUnreadable, StoreError, StoreRefused, StoreUnavailable
from dcd.store import Store, keys
from dcd.store.errors import is_transient
from dcd.tables import schemas
from tests.s3_server import READER_KEY, READER_SECRET, SwiftServer, client


@pytest.fixture(params=["local", "moto", pytest.param("swift", marks=pytest.mark.s3)])
def store(request, tmp_path) -> Store:
    match request.param:
        case "moto":
            return Store(request.getfixturevalue("s3_url"))
        case "swift":
            return Store(request.getfixturevalue("swift_url"))
    return Store(str(tmp_path / "store"))


def bucket_of(url: str) -> str:
    return url.removeprefix("s3://").partition("/")[0]


def test_bytes_round_trip_and_are_replaced(store):
    assert not store.exists("a/x")
    store.write_bytes("a/x", b"one")
    store.write_bytes("a/x", b"")
    assert store.exists("a/x")
    assert store.read_bytes("a/x") == b""


def test_documents_round_trip(store):
    document = {"text": "ä", "figures": [1, 0.1, None]}
    store.write_json("a.json", document)
    store.write_json("flat.json", document, indent=None)
    assert store.read_json("a.json") == store.read_json("flat.json") == document
    assert store.read_bytes("a.json") == json.dumps(document, indent=1).encode()
    assert store.read_bytes("flat.json") == json.dumps(document).encode()


def test_only_objects_exist_not_prefixes(store):
    store.write_bytes("a/b/x", b"1")
    assert not store.exists("a/b")
    assert not store.exists("a/b/y/z")


def test_keys_under_are_sorted_and_below_the_prefix_only(store):
    for key in ("a/b/2", "a/b/10", "a/b/c/1", "a/bc/1", "a/b.parquet"):
        store.write_bytes(key, b"x")
    assert store.keys_under("a/b") == ["a/b/10", "a/b/2", "a/b/c/1"]
    assert store.keys_under("") == ["a/b.parquet", "a/b/10", "a/b/2", "a/b/c/1", "a/bc/1"]
    assert store.keys_under("nothing") == []


@pytest.mark.slow
def test_more_keys_than_one_page_of_an_s3_listing(s3_url):
    store = Store(s3_url)
    wanted = [f"many/{n:04d}" for n in range(1001)]
    for key in wanted:
        store.write_bytes(key, b"x")
    assert store.keys_under("many") == wanted


def test_delete_and_delete_again(store):
    store.write_bytes("x", b"1")
    store.delete("x")
    store.delete("x")
    assert store.keys_under("") == []


def test_publish_file_replaces_and_keeps_the_source(store, tmp_path):
    source = tmp_path / "source.bin"
    source.write_bytes(os.urandom(6 << 20))
    store.write_bytes("big/x", b"old")
    store.publish_file(source, "big/x")
    assert store.read_bytes("big/x") == source.read_bytes()


def test_publish_file_by_link_makes_no_copy_on_one_disk(tmp_path):
    store = Store(str(tmp_path / "store"))
    store.write_bytes("x.parquet", b"old")
    source = tmp_path / "x.parquet"
    pq.write_table(pa.table({"n": range(9)}), source)
    store.publish_file(source, "x.parquet", by_link=True)
    assert source.samefile(tmp_path / "store" / "x.parquet")
    source.unlink()
    assert store.read_table("x.parquet")["n"].to_pylist() == list(range(9))
    assert store.check("x.parquet")
    assert [path.name for path in (tmp_path / "store").iterdir()] == ["x.parquet"]


@pytest.mark.parametrize("read", ["read_bytes", "read_table", "read_metadata"])
def test_a_missing_object_is_named(store, read):
    store.write_bytes("other", b"1")
    with pytest.raises(StoreError) as caught:
        getattr(store, read)("a/gone.parquet")
    assert str(caught.value) == f"{store.url}/a/gone.parquet: no such object"
    assert not is_transient(caught.value)


def test_tables_round_trip_with_their_metadata(store):
    schema = schemas.embeddings(4)
    vectors = np.arange(12, dtype=np.float16).reshape(3, 4)
    table = pa.table(
        {
            "image_id": ["a", "b", "c"],
            "weak_label": ["cat", None, "dog"],
            "content_hash": pa.array([bytes([n] * 16) for n in range(3)], schemas.CONTENT_HASH),
            "embedding": pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), 4),
        }
    )
    store.write_table("t.parquet", table, metadata={"config": '{"k": 20}', "n_images": "3"})
    back = store.read_table("t.parquet")
    assert schemas.conform(back, schema, "t").equals(schemas.conform(table, schema, "t"))
    assert store.read_metadata("t.parquet") == {"config": '{"k": 20}', "n_images": "3"}
    assert store.read_table("t.parquet", ["weak_label"]).column_names == ["weak_label"]


def test_metadata_of_the_table_is_kept_and_overridden(store):
    table = pa.table({"a": [1]}).replace_schema_metadata({"kept": "1", "n": "old"})
    store.write_table("t.parquet", table, metadata={"n": "new"})
    assert store.read_metadata("t.parquet") == {"kept": "1", "n": "new"}


def test_what_is_no_parquet_is_named(store):
    store.write_bytes("t.parquet", b"PAR1 nonsense PAR1")
    for read in (store.read_table, store.read_metadata):
        with pytest.raises(StoreError, match=r"t\.parquet: is damaged"):
            read("t.parquet")


def test_arrow_and_fsspec_see_the_same_objects(store):
    store.write_table("d/1.parquet", pa.table({"x": range(1000)}))
    store.write_table("d/2.parquet", pa.table({"x": range(1000, 2000)}))
    paths = [store.path(key) for key in store.keys_under("d")]
    rows = ds.dataset(paths, filesystem=store.arrow()).to_table(filter=ds.field("x") >= 1998)
    assert rows["x"].to_pylist() == [1998, 1999]
    with store.fs.open(store.path("d/1.parquet"), "rb") as file:
        assert pq.read_table(file).num_rows == 1000


def test_a_key_value_folder_in_the_path_adds_no_column(tmp_path):
    store = Store(str(tmp_path / "date=2026"))
    store.write_table("t.parquet", pa.table({"a": [1]}))
    assert store.read_table("t.parquet").column_names == ["a"]


def test_a_store_can_be_pickled_without_its_connection(store):
    store.write_bytes("x", b"1")
    sent = pickle.dumps(store)
    assert os.environ.get("AWS_SECRET_ACCESS_KEY", "not set").encode() not in sent
    assert pickle.loads(sent).read_bytes("x") == b"1"
    assert repr(store) == f"Store({store.url!r})"


def test_relative_and_home_paths(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    Store("here/").write_bytes("x", b"1")
    assert (tmp_path / "here/x").read_bytes() == b"1"
    assert Store("~/here").read_bytes("x") == b"1"
    assert Store(f"file://{tmp_path}/here").read_bytes("x") == b"1"


# -- publishing ------------------------------------------------------------------------------

_N_BYTES = 1 << 20
_REWRITE_FOR_EVER = f"""
import itertools, sys
from dcd.store import Store
store = Store(sys.argv[1])
print("ready", flush=True)
for n in itertools.count(1):
    store.write_bytes("x", bytes([n % 256]) * {_N_BYTES})
"""


def assert_whole(data: bytes) -> None:
    assert len(data) == _N_BYTES
    assert data.count(data[:1]) == _N_BYTES


def test_a_writer_killed_at_any_moment_leaves_a_whole_object(store):
    store.write_bytes("x", b"\0" * _N_BYTES)
    rng = np.random.default_rng(0)
    for _ in range(3 if store.is_local else 1):
        writer = subprocess.Popen(
            [sys.executable, "-c", _REWRITE_FOR_EVER, store.url], stdout=subprocess.PIPE
        )
        assert writer.stdout
        assert writer.stdout.readline() == b"ready\n"
        time.sleep(rng.uniform(0.005, 0.1))
        writer.send_signal(signal.SIGKILL)
        writer.wait()
        writer.stdout.close()
        assert_whole(store.read_bytes("x"))
        assert store.keys_under("") == ["x"]


def test_racing_writers_and_readers_see_whole_objects(store):
    store.write_bytes("x", b"\0" * _N_BYTES)
    stop = threading.Event()

    def rewrite(byte: int) -> int:
        n = 0
        while not stop.is_set():
            store.write_bytes("x", bytes([byte]) * _N_BYTES)
            n += 1
        return n

    with ThreadPoolExecutor(3) as threads:
        writers = [threads.submit(rewrite, byte) for byte in (1, 2, 3)]
        try:
            for _ in range(20):
                assert_whole(store.read_bytes("x"))
                assert store.keys_under("") == ["x"]
        finally:
            stop.set()
    assert all(writer.result() > 0 for writer in writers)


_WRITE_BEYOND_THE_LIMIT = """
import resource, sys
import pyarrow as pa
from dcd.errors import StoreError
from dcd.store import Store
resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, 1 << 16))
store = Store(sys.argv[1])
writes = (
    lambda: store.write_bytes("x", b"new" * (1 << 16)),
    lambda: store.write_table("x", pa.table({"n": range(1 << 16)})),
    lambda: store.publish_file(sys.argv[2], "x"),
)
for write in writes:
    try:
        write()
    except StoreError as err:
        print(err)
"""


def test_a_write_that_fails_midway_leaves_the_old_object_and_nothing_else(tmp_path):
    store = Store(str(tmp_path / "store"))
    store.write_bytes("x", b"old")
    (tmp_path / "big").write_bytes(b"\0" * (1 << 20))
    arguments = [sys.executable, "-c", _WRITE_BEYOND_THE_LIMIT, store.url, str(tmp_path / "big")]
    said = subprocess.run(arguments, capture_output=True, text=True, check=True).stdout
    assert said.count("the file is larger than a limit (ulimit -f)") == 3
    assert store.read_bytes("x") == b"old"
    assert [path.name for path in (tmp_path / "store").iterdir()] == ["x"]


def test_published_files_follow_the_umask(tmp_path):
    store = Store(str(tmp_path))
    before = os.umask(0o027)
    try:
        store.write_bytes("x", b"1")
    finally:
        os.umask(before)
    assert (tmp_path / "x").stat().st_mode & 0o777 == 0o640


# -- refusals --------------------------------------------------------------------------------


def test_probe_leaves_nothing_behind(store):
    store.write_bytes("x", b"1")
    store.probe()
    assert store.keys_under("") == ["x"]


def test_probe_of_a_place_where_a_file_stands(tmp_path):
    (tmp_path / "taken").write_text("")
    with pytest.raises(StoreError, match="a file stands where a folder is needed"):
        Store(str(tmp_path / "taken/store")).probe()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_probe_of_a_folder_without_the_right_to_write(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(StoreRefused, match="the right to write is missing"):
        Store(str(tmp_path / "store")).probe()


@pytest.mark.parametrize("server", ["s3_url", pytest.param("swift_url", marks=pytest.mark.s3)])
def test_a_missing_bucket_is_named(server, request):
    request.getfixturevalue(server)
    store = Store("s3://no-such-bucket/prefix")
    uses = (store.probe, lambda: store.keys_under("a"), lambda: store.write_bytes("a", b"1"))
    for use in uses:
        with pytest.raises(StoreError, match="there is no such bucket; create it or mend the URL"):
            use()


def test_a_store_without_credentials_says_which_to_set(s3_url, monkeypatch):
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    with pytest.raises(StoreRefused, match="no credentials; set AWS_ACCESS_KEY_ID"):
        Store(s3_url).probe()


@pytest.fixture
def limited_user(moto_endpoint, s3_url, monkeypatch):
    """A function that makes a user with these S3 actions only, and turns moto's IAM checks on."""
    iam = boto3.client("iam", endpoint_url=moto_endpoint)

    def limit_to(*actions: str) -> None:
        iam.create_user(UserName="limited")
        statement = {"Effect": "Allow", "Action": list(actions), "Resource": "*"}
        policy = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
        iam.put_user_policy(UserName="limited", PolicyName="p", PolicyDocument=policy)
        made = iam.create_access_key(UserName="limited")["AccessKey"]
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", made["AccessKeyId"])
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", made["SecretAccessKey"])
        _check_rights_after(moto_endpoint, "0")

    yield limit_to
    _check_rights_after(moto_endpoint, "inf")
    reset = urllib.request.Request(f"{moto_endpoint}/moto-api/reset", method="POST")
    urllib.request.urlopen(reset).close()


def _check_rights_after(endpoint: str, n_requests: str) -> None:
    url, plain = f"{endpoint}/moto-api/reset-auth", {"Content-Type": "text/plain"}
    request = urllib.request.Request(url, n_requests.encode(), plain, method="POST")
    urllib.request.urlopen(request).close()


RIGHTS = {
    "list": "s3:ListBucket",
    "write": "s3:PutObject",
    "read": "s3:GetObject",
    "delete": "s3:DeleteObject",
}


@pytest.mark.parametrize("missing", [(), ("list",), ("write",), ("read",), ("list", "delete")])
def test_probe_names_the_rights_that_are_missing(s3_url, limited_user, missing):
    limited_user(*(action for right, action in RIGHTS.items() if right not in missing))
    if not missing:
        Store(s3_url).probe()
        return
    with pytest.raises(StoreRefused) as caught:
        Store(s3_url).probe()
    said = f"{s3_url}: the right to {' and to '.join(missing)} is missing; grant it or check"
    assert str(caught.value).startswith(said)
    assert ("was left behind" in str(caught.value)) == ("delete" in missing)


def test_wrong_credentials_are_told_from_missing_rights(s3_url, limited_user, monkeypatch):
    limited_user(*RIGHTS.values())
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong-secret")
    with pytest.raises(StoreRefused, match="credentials are wrong or expired") as caught:
        Store(s3_url).probe()
    assert "wrong-secret" not in str(caught.value)


@pytest.mark.s3
def test_the_real_server_refuses_wrong_credentials_and_writes(swift_url, swift_server, monkeypatch):
    store = Store(swift_url)
    store.write_bytes("x", b"1")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong-secret")
    with pytest.raises(StoreRefused, match="credentials are wrong or expired"):
        Store(swift_url).probe()
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", READER_KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", READER_SECRET)
    client(swift_server.url).put_bucket_acl(Bucket=bucket_of(swift_url), ACL="public-read")
    assert Store(swift_url).read_bytes("x") == b"1"
    with pytest.raises(StoreRefused, match="the right to write is missing"):
        Store(swift_url).probe()


# -- outages ---------------------------------------------------------------------------------


def test_an_endpoint_that_nobody_serves_is_unavailable(s3_url, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    store = Store(s3_url)
    for use in (lambda: store.exists("x"), lambda: store.read_table("x")):
        with pytest.raises(StoreUnavailable, match="check AWS_ENDPOINT_URL_S3") as caught:
            use()
        assert is_transient(caught.value)


@pytest.mark.s3
def test_what_was_acknowledged_survives_a_killed_server(swift_url, swift_server: SwiftServer):
    store = Store(swift_url)
    for n in range(30):
        store.write_bytes(f"x/{n:02d}", bytes([n]) * 100)
    swift_server.kill()
    try:
        with pytest.raises(StoreUnavailable):
            store.write_bytes("x/lost", b"1")
    finally:
        swift_server.start()
    assert store.keys_under("x") == [f"x/{n:02d}" for n in range(30)]
    assert store.read_bytes("x/29") == bytes([29]) * 100


def test_keys_of_probes_are_apart_from_data():
    assert keys.probe("t").startswith(f"{keys.PROBES}/")


def test_metadata_that_is_no_text_is_damage(tmp_path: Path):
    store = Store(str(tmp_path))
    sink = io.BytesIO()
    described = pa.table({"a": [1]}).replace_schema_metadata({b"note": b"\xb2"})
    pq.write_table(described, sink)
    Path(store.path("splits/a.parquet")).parent.mkdir()
    Path(store.path("splits/a.parquet")).write_bytes(sink.getvalue())
    with pytest.raises(ObjectUnreadable, match="is damaged"):
        store.read_metadata("splits/a.parquet")

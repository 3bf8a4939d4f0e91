import logging
import pickle
from pathlib import Path
from urllib.parse import urlsplit

import pyarrow as pa
import pytest

from dcd.errors import StoreError
from dcd.store import Store
from dcd.store.filesystems import arrow_filesystem, locate
from dcd.store.s3_settings import S3Settings

SECRET = "s3cret-that-nobody-may-see"


@pytest.fixture
def plain_aws(monkeypatch):
    """The AWS settings of a user of Amazon's own S3."""
    names = ("ENDPOINT_URL_S3", "ENDPOINT_URL", "REGION", "PROFILE", "S3_ADDRESSING_STYLE")
    for name in names:
        monkeypatch.delenv(f"AWS_{name}", raising=False)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-west-1")


@pytest.mark.parametrize("uri", ["https://host/x.tar", "gs://bucket/x", "memory://x"])
def test_other_protocols_are_refused_without_showing_the_uri(uri):
    with pytest.raises(StoreError, match="expected a local path, s3://bucket") as caught:
        locate(uri)
    assert uri not in str(caught.value)


@pytest.mark.parametrize(
    ("endpoint", "style", "host", "path"),
    [
        ("", "", "bucket.s3.eu-west-1.amazonaws.com", "/p/x"),
        ("", "path", "s3.eu-west-1.amazonaws.com", "/bucket/p/x"),
        ("http://minio:9000/", "", "minio:9000", "/bucket/p/x"),
        ("https://objects.example.org", "virtual", "bucket.objects.example.org", "/p/x"),
    ],
)
def test_hosts_and_paths_of_both_addressing_styles(
    plain_aws, monkeypatch, endpoint, style, host, path
):
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", endpoint)
    monkeypatch.setenv("AWS_S3_ADDRESSING_STYLE", style)
    located = locate("s3://bucket/p/x")
    signed = urlsplit(located.fs.sign(located.path))
    assert (signed.netloc, signed.path) == (host, path)

    _, arguments = arrow_filesystem(located.fs).__reduce__()
    assert arguments[0]["force_virtual_addressing"] == S3Settings.resolved().virtual_hosts
    assert arguments[0]["endpoint_override"] == urlsplit(endpoint).netloc
    assert arguments[0]["region"] == "eu-west-1"


@pytest.mark.parametrize(
    "endpoint", ["minio:9000", "ftp://host", "http://", f"http://key:{SECRET}@host:9000"]
)
def test_an_endpoint_that_cannot_be_used_is_refused_without_showing_it(
    plain_aws, monkeypatch, endpoint
):
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", endpoint)
    with pytest.raises(StoreError, match="expected http://host:port") as caught:
        locate("s3://b/p")
    assert SECRET not in str(caught.value)


def test_an_unknown_addressing_style_is_refused(plain_aws, monkeypatch):
    monkeypatch.setenv("AWS_S3_ADDRESSING_STYLE", "vhost")
    with pytest.raises(StoreError, match="expected path or virtual; found 'vhost'"):
        locate("s3://b/p")


def test_a_changed_environment_gives_a_fresh_connection(plain_aws, monkeypatch):
    before = locate("s3://b/p").fs
    assert locate("s3://b/q").fs is before
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "other")
    assert locate("s3://b/p").fs is not before


def test_no_secret_in_logs_reprs_errors_or_pickles(s3_url, monkeypatch, caplog):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    monkeypatch.setenv("AWS_SESSION_TOKEN", token := "t0ken-that-nobody-may-see")
    caplog.set_level(logging.DEBUG)
    store = Store(s3_url)
    store.probe()
    store.write_table("t.parquet", pa.table({"a": [1]}))
    store.read_table("t.parquet")
    with pytest.raises(StoreError) as caught:
        store.read_bytes("missing")
    shown = [
        repr(store),
        repr(store.fs),
        store.fs.to_json(),
        repr(store.arrow()),
        repr(caught.value),
        pickle.dumps(store).decode("latin-1"),
        pickle.dumps(store.fs).decode("latin-1"),
        pickle.dumps(store.arrow()).decode("latin-1"),
        # moto's server runs in this process and logs what it was sent: that is not ours.
        *(record.getMessage() for record in caplog.records if record.name != "werkzeug"),
    ]
    assert len(shown) > 20
    assert not [text for text in shown if SECRET in text]
    assert not [text for text in shown if token in text]


@pytest.mark.parametrize(
    "uri", [f"s3://key:{SECRET}@bucket/x", f"S3://{SECRET}@bucket", f"https://me:{SECRET}@host/x"]
)
def test_credentials_in_a_uri_are_refused_and_not_shown(plain_aws, uri):
    with pytest.raises(StoreError, match="do not belong in a URI") as caught:
        Store(uri)
    assert SECRET not in str(caught.value)


def test_an_at_in_a_key_is_no_credential(plain_aws):
    assert locate("s3://bucket/a@b").path == "bucket/a@b"


@pytest.mark.parametrize("uri", ["s3:/bucket/dcd", "s3:", "hf:/datasets/a/b", "gs:/bucket"])
def test_a_protocol_with_one_slash_is_no_folder(uri: str, tmp_path: Path, monkeypatch):
    """What pathlib makes of s3://bucket would be written below the working folder."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(StoreError, match="has one slash behind its protocol"):
        Store(uri)


@pytest.mark.parametrize("uri", ["s3://", "s3:///"])
def test_a_uri_without_bucket_is_refused(uri: str):
    with pytest.raises(StoreError, match="names no bucket"):
        Store(uri)


@pytest.mark.parametrize(
    ("uri", "told"),
    [
        ("$HOME/dcd", "names a variable, and none is filled in"),
        ("runs/${USER}-x", "names a variable, and none is filled in"),
        ("s3://${BUCKET}/dcd", "names a variable, and none is filled in"),
        ("C:\\data\\dcd", "is a path of Windows"),
        ("c:/data/dcd", "is a path of Windows"),
        ("dbfs:/mnt/dcd", "is no path of this machine"),
        ("arn:aws:s3:::bucket/dcd", "is no path of this machine"),
        ("file://data/dcd", "a file's URI has three slashes: file:///dcd"),
        (" runs", "begins or ends with white space"),
        ("runs\n", "begins or ends with white space"),
    ],
)
def test_what_is_no_path_here_becomes_no_folder(uri: str, told: str, tmp_path: Path, monkeypatch):
    """Each would be written below the working folder, and looked for there ever after."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(StoreError, match=told):
        Store(uri)


def test_what_is_there_is_a_path_whatever_its_name(tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("$HOME", "a${b}", "C:", "dbfs:", "runs "):
        (tmp_path / name).mkdir()
        assert Store(f"{name}/").root == str(tmp_path / name)
    assert locate("$HOME/x").path == str(tmp_path / "$HOME" / "x")
    assert locate("a$b/c").path == str(tmp_path / "a$b" / "c")


def test_a_file_uri_with_one_slash_is_one(tmp_path: Path):
    assert locate(f"file:{tmp_path}/a%20b").path == f"{tmp_path}/a b"
    assert Store("/").root == ""

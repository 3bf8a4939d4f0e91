"""One resolution of the S3 connection for both clients, from the environment and from profiles."""

from pathlib import Path
from typing import Any

import pytest

from dcd.errors import StoreError
from dcd.store import Store
from dcd.store.filesystems import arrow_filesystem, locate
from dcd.store.s3_settings import S3Settings
from tests.s3_server import ACCESS_KEY, SECRET_KEY

NAMES = ("ACCESS_KEY_ID", "SECRET_ACCESS_KEY", "SESSION_TOKEN", "REGION", "DEFAULT_REGION")
NAMES += ("ENDPOINT_URL", "ENDPOINT_URL_S3", "S3_ADDRESSING_STYLE", "PROFILE", "NO_SIGN_REQUEST")


@pytest.fixture
def aws_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An environment without any AWS setting but for the places of its files."""
    for name in NAMES:
        monkeypatch.delenv(f"AWS_{name}", raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    return tmp_path


def arrow_options(uri: str) -> Any:
    _, arguments = arrow_filesystem(locate(uri).fs).__reduce__()
    return arguments[0]


def write_profile(folder: Path, text: str) -> None:
    (folder / "config").write_text(f"[profile minio]\n{text}\n")
    keys = f"aws_access_key_id = {ACCESS_KEY}\naws_secret_access_key = {SECRET_KEY}\n"
    (folder / "credentials").write_text(f"[minio]\n{keys}")


@pytest.mark.parametrize(
    "text",
    [
        "region = eu-west-1\nendpoint_url = http://minio:9000/\ns3 =\n  addressing_style = path",
        "region = eu-west-1\nservices = mine\n[services mine]\ns3 =\n"
        "  endpoint_url = http://minio:9000",
    ],
)
def test_a_profile_is_resolved_for_both_clients(
    aws_files: Path, monkeypatch: pytest.MonkeyPatch, text: str
):
    write_profile(aws_files, text)
    monkeypatch.setenv("AWS_PROFILE", "minio")
    assert S3Settings.resolved() == S3Settings("http://minio:9000", "eu-west-1", False)
    options = arrow_options("s3://b/p")
    assert options["endpoint_override"] == "minio:9000"
    assert options["region"] == "eu-west-1"
    assert locate("s3://b/p").fs.endpoint_url == "http://minio:9000"
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "https://other")
    assert S3Settings.resolved().endpoint == "https://other"


def test_a_store_behind_a_profile_is_used_through_both(
    aws_files: Path, monkeypatch: pytest.MonkeyPatch, s3_url: str, moto_endpoint: str
):
    for name in NAMES:
        monkeypatch.delenv(f"AWS_{name}", raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(aws_files / "config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(aws_files / "credentials"))
    write_profile(aws_files, f"region = us-east-1\nendpoint_url = {moto_endpoint}")
    monkeypatch.setenv("AWS_PROFILE", "minio")
    Store(s3_url).probe()


def test_unknown_profiles_and_bad_settings_are_named(
    aws_files: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("AWS_PROFILE", "nobody")
    with pytest.raises(StoreError, match=r"AWS_PROFILE: .*nobody"):
        locate("s3://b/p")
    write_profile(aws_files, "endpoint_url = minio:9000")
    monkeypatch.setenv("AWS_PROFILE", "minio")
    with pytest.raises(StoreError, match=r"endpoint_url of the AWS profile.*expected http"):
        locate("s3://b/p")


def test_a_changed_file_is_read_again(aws_files: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("AWS_PROFILE", "minio")
    write_profile(aws_files, "region = eu-west-1")
    assert S3Settings.resolved().region == "eu-west-1"
    write_profile(aws_files, "region = ap-south-1")
    assert S3Settings.resolved().region == "ap-south-1"


def test_without_keys_requests_are_not_signed(aws_files: Path, monkeypatch: pytest.MonkeyPatch):
    assert not S3Settings.resolved().signed
    assert locate("s3://b/p").fs.anon
    assert arrow_options("s3://b/p")["anonymous"]
    write_profile(aws_files, "region = eu-west-1")
    monkeypatch.setenv("AWS_PROFILE", "minio")
    assert S3Settings.resolved().signed
    monkeypatch.setenv("AWS_NO_SIGN_REQUEST", "YES")
    assert not S3Settings.resolved().signed


def test_file_uris_are_uris_and_paths_are_paths(tmp_path: Path):
    for uri in ("file:///a/b%20c%C3%A9", "FILE://localhost/a/b%20cé"):
        assert locate(uri).path == "/a/b cé"
    assert locate("/a/b%20c").path == "/a/b%20c"
    for uri in ("s3a://b/p", "s3n://b/p"):
        with pytest.raises(StoreError, match="write s3://"):
            locate(uri)

"""Object stores for tests: moto's server in memory, and a real OpenStack Swift (marker `s3`)."""

from collections.abc import Iterator
from uuid import uuid4

import pytest
from moto.server import ThreadedMotoServer

from tests.s3_server import SwiftServer, client, use


@pytest.fixture(scope="session", autouse=True)
def _nothing_kept() -> Iterator[None]:
    """Encoders are loaded anew: a test that wants them kept names a folder of its own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DCD_CACHE", "")
        yield


@pytest.fixture(scope="session")
def moto_endpoint() -> Iterator[str]:
    server = ThreadedMotoServer(port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture(scope="session")
def swift_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SwiftServer]:
    """A running server; a test that kills it starts it again."""
    server = SwiftServer(tmp_path_factory.mktemp("swift"))
    server.start()
    yield server
    server.stop()


@pytest.fixture
def s3_url(moto_endpoint: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """s3://bucket/prefix in a fresh bucket of moto, with the AWS_* environment set for it."""
    return _fresh_bucket(moto_endpoint, monkeypatch)


@pytest.fixture
def swift_url(swift_server: SwiftServer, monkeypatch: pytest.MonkeyPatch) -> str:
    """The same on the real server."""
    return _fresh_bucket(swift_server.url, monkeypatch)


def _fresh_bucket(endpoint: str, monkeypatch: pytest.MonkeyPatch) -> str:
    use(endpoint, monkeypatch)
    bucket = f"bucket-{uuid4().hex[:12]}"
    client(endpoint).create_bucket(Bucket=bucket)
    return f"s3://{bucket}/prefix"

"""What a server or a network does, and what is made of it: final or transient, in words."""

import errno
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from dcd.errors import StoreError, StoreRefused, StoreUnavailable
from dcd.store import Store
from dcd.store.errors import explained, is_transient


class Answer(BaseHTTPRequestHandler):
    """Gives the same answer to every request; status 0 cuts the connection within the body."""

    protocol_version = "HTTP/1.1"  # with 1.0 a client that expects "100 Continue" waits for ever
    status, code = 200, ""

    def answer(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.status == 0:
            self.send_response(200)
            self.send_header("Content-Length", "1000")
            self.end_headers()
            self.wfile.write(b"x" * 10)
            self.close_connection = True
            return
        body = f"<Error><Code>{self.code}</Code><Message>no</Message></Error>".encode()
        self.send_response(self.status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    do_GET = do_PUT = do_HEAD = answer  # noqa: N815

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def answering(s3_url, monkeypatch) -> Iterator[Callable[[int, str], Store]]:
    """A store whose server gives one answer only."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Answer)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")

    def answer(status: int, code: str = "") -> Store:
        monkeypatch.setattr(Answer, "status", status)
        monkeypatch.setattr(Answer, "code", code)
        return Store("s3://bucket/prefix")

    yield answer
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize(
    ("status", "code", "raised"),
    [
        (503, "SlowDown", StoreUnavailable),
        (500, "InternalError", StoreUnavailable),
        (400, "RequestTimeout", StoreUnavailable),
        (400, "InvalidRequest", StoreError),
        (403, "AccessDenied", StoreRefused),
        (403, "ExpiredToken", StoreRefused),
        (501, "NotImplemented", StoreError),
    ],
)
def test_answers_to_a_write(answering, status, code, raised):
    store = answering(status, code)
    with pytest.raises(StoreError) as caught:
        store.write_bytes("x", b"1")
    assert type(caught.value) is raised
    assert str(caught.value).startswith("s3://bucket/prefix/x: ")
    assert is_transient(caught.value) == (raised is StoreUnavailable)


@pytest.mark.parametrize("ask", [Store.read_table, Store.exists, Store.check])
def test_a_look_that_is_refused_without_a_word_names_what_it_means_most_often(answering, ask):
    with pytest.raises(StoreRefused, match=r"credentials are (wrong or )?expired"):
        ask(answering(400, "ExpiredToken"), "x.parquet")


@pytest.mark.parametrize(("status", "transient"), [(503, True), (403, False)])
def test_answers_to_a_read_through_arrow(answering, status, transient):
    with pytest.raises(StoreError) as caught:
        answering(status).read_table("x")
    assert is_transient(caught.value) == transient


def test_an_answer_cut_off_is_transient(answering):
    with pytest.raises(StoreUnavailable, match="try again") as caught:
        answering(0).read_bytes("x")
    assert is_transient(caught.value)


@pytest.mark.parametrize(
    ("error", "transient"),
    [
        (ConnectionResetError("reset"), True),
        (TimeoutError("slow"), True),
        (OSError(errno.ESTALE, "stale handle"), True),
        (OSError(errno.ENOSPC, "disk full"), False),
        (OSError("not an image"), False),
        (PermissionError("no"), False),
        (FileNotFoundError("no"), False),
        (ValueError("no"), False),
        (StoreUnavailable("busy"), True),
        (StoreRefused("no", "read"), False),
        (OSError("AWS Error NETWORK_CONNECTION during GetObject operation"), True),
        (OSError("AWS Error SLOW_DOWN (HTTP status 503) during GetObject operation"), True),
        (OSError("AWS Error ACCESS_DENIED during HeadObject operation"), False),
    ],
)
def test_transient_or_final_alone_and_as_a_cause(error, transient):
    assert is_transient(error) == transient
    wrapped = RuntimeError("stage failed")
    wrapped.__cause__ = error
    assert is_transient(wrapped) == transient


def test_nothing_is_not_transient():
    assert not is_transient(None)


def test_local_faults_are_told_with_their_cause():
    with (
        pytest.raises(StoreError, match=r"a/b: cannot write it: no space is left") as caught,
        explained("a/b", "write"),
    ):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert isinstance(caught.value.__cause__, OSError)
    with pytest.raises(StoreRefused) as refused, explained("a/b", "delete"):
        raise PermissionError(errno.EACCES, "Permission denied")
    assert refused.value.right == "delete"


def test_other_errors_pass():
    with pytest.raises(ZeroDivisionError), explained("a/b", "read"):
        _ = 1 / 0

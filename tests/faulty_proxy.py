"""An HTTP proxy in front of an S3 server that answers wrongly where a test says so."""

import hashlib
import http.client
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Literal
from urllib.parse import urlsplit
from xml.sax.saxutils import escape

Fault = Literal["500", "503", "slow", "cut", "403", "expired"]
_CODES = {
    "500": "InternalError",
    "503": "SlowDown",
    "403": "AccessDenied",
    "expired": "ExpiredToken",
}
_STATUS = {"expired": 400}
_SLOW_S = 1.0
_HOP_BY_HOP = {"connection", "expect", "keep-alive", "transfer-encoding"}


@dataclass(frozen=True)
class Request:
    """One request; `nth` counts those of the same method and path (with query), from 0."""

    method: str
    path: str
    nth: int


Decide = Callable[[Request], Fault | None]


def now_and_then(share: float, faults: tuple[Fault, ...], seed: int) -> Decide:
    """Faults drawn by a hash of each request, whatever the order in which requests come."""

    def decide(request: Request) -> Fault | None:
        key = f"{seed} {request.method} {request.path} {request.nth}"
        drawn = int.from_bytes(hashlib.blake2b(key.encode(), digest_size=8).digest()) / 2**64
        return faults[int(drawn / share * len(faults))] if drawn < share else None

    return decide


class FaultyProxy:
    """Passes requests on to `upstream` and what comes back, but for the faults of `decide`.

    500, 503, 403 and expired are answered without asking the server, in Amazon's words: they hold
    the keys of who asks. slow answers late; cut asks the server and breaks the connection within
    its answer. `seen` holds every request so far.
    """

    def __init__(self, upstream: str):
        self.decide: Decide = lambda _: None
        self.seen: list[tuple[Request, Fault | None]] = []
        self._counts: Counter[tuple[str, str]] = Counter()
        self._lock = threading.Lock()
        handler = type("Handler", (_Handler,), {"proxy": self, "upstream": urlsplit(upstream)})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def note(self, method: str, path: str) -> Fault | None:
        with self._lock:
            request = Request(method, path, self._counts[method, path])
            self._counts[method, path] += 1
            fault = self.decide(request)
            self.seen.append((request, fault))
        return fault

    def faults(self) -> Counter[Fault]:
        return Counter(fault for _, fault in self.seen if fault is not None)

    def paths(self, method: str, part: str) -> list[str]:
        """The paths of the requests with this method whose path contains `part`."""
        return [r.path for r, _ in self.seen if r.method == method and part in r.path]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    proxy: FaultyProxy

    def answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        fault = self.proxy.note(self.command, self.path)
        if fault in _CODES:
            self._refuse(fault)
            return
        if fault == "slow":
            time.sleep(_SLOW_S)
        upstream = http.client.HTTPConnection(self.upstream.hostname, self.upstream.port)
        try:
            # The Host header stays that of the proxy: the signature covers it.
            headers = {k: v for k, v in self.headers.items() if k.lower() not in _HOP_BY_HOP}
            upstream.request(self.command, self.path, body, headers)
            response = upstream.getresponse()
            data = response.read()
        except (OSError, http.client.HTTPException):  # the server is away
            self.close_connection = True
            return
        finally:
            upstream.close()
        if fault == "cut":
            self._cut(response, data)
            return
        self._head(response, data)
        self.wfile.write(data)

    do_GET = do_PUT = do_HEAD = do_POST = do_DELETE = answer  # noqa: N815

    def log_message(self, *_: object) -> None:
        pass

    def _head(self, response: http.client.HTTPResponse, data: bytes) -> None:
        self.send_response(response.status)
        for name, value in response.getheaders():
            if name.lower() not in {*_HOP_BY_HOP, "content-length", "date", "server"}:
                self.send_header(name, value)
        # That of a HEAD's answer tells the size of the object.
        length = response.getheader("Content-Length") if self.command == "HEAD" else None
        self.send_header("Content-Length", length or str(len(data)))
        self.end_headers()

    def _cut(self, response: http.client.HTTPResponse, data: bytes) -> None:
        if self.command == "GET" and data:
            self._head(response, data)
            self.wfile.write(data[: len(data) // 2])
        self.close_connection = True

    def _refuse(self, fault: str) -> None:
        told = {
            "Code": _CODES[fault],
            "Message": "injected",
            "AWSAccessKeyId": self.headers.get("Authorization", ""),
            "Token-0": self.headers.get("X-Amz-Security-Token", ""),
            "CanonicalRequest": str(self.headers),
        }
        fields = "".join(f"<{name}>{escape(text)}</{name}>" for name, text in told.items())
        body = f"<Error>{fields}</Error>".encode()
        self.send_response(_STATUS.get(fault) or int(fault))
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

"""The requests that an S3 server really gets, by kind."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from dcd.store.requests import Requests, total
from tests.faulty_proxy import FaultyProxy, Request


class Counted:
    """Requests that came through a proxy since the last `taken`."""

    def __init__(self, proxy: FaultyProxy):
        self._proxy = proxy

    def taken(self, part: str = "") -> Requests:
        """Those whose path contains `part`; all are forgotten."""
        seen = [request for request, _ in self._proxy.seen if part in request.path]
        self._proxy.seen.clear()
        return total(map(_kind, seen))


@contextmanager
def counted(upstream: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Counted]:
    """All stores are reached through a counting proxy from now on."""
    proxy = FaultyProxy(upstream)
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", proxy.url)
    try:
        yield Counted(proxy)
    finally:
        proxy.close()


def _kind(request: Request) -> Requests:
    match request.method:
        case "HEAD":
            return Requests(n_head=1)
        case "GET":
            return Requests(n_list=1) if "list-type=" in request.path else Requests(n_get=1)
        case "PUT" | "POST":
            return Requests(n_put=1)
    raise AssertionError(f"a request of another kind: {request}")

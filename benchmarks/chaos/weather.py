"""What stores do to those who use them, between lives and within: none, or that of a real S3."""

import contextlib
import math
import os
import random
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, Protocol

from tests import s3_server
from tests.faulty_proxy import Decide, FaultyProxy, Request, now_and_then

Kind = Literal["local", "s3"]
Refusal = Literal["403 on write", "expired token"]
_FAULTY_SHARE = 0.03
_RESTART_SHARE = 0.1  # of the lives: the server dies just before
_REFUSED_SHARE = 0.1  # of the lives: they cannot end well
_LAST_REFUSED = 300  # requests of a life before the first that is refused, at most
_WRITES = ("PUT", "POST", "DELETE")
KILLED = "server killed"
# What the one error of a refused command holds.
SAID: dict[Refusal, str] = {"403 on write": "the right to", "expired token": "expired"}


class Weather(Protocol):
    """What happens around lives."""

    def change(self, rng: random.Random) -> None:
        """Draw what a life can get over: the server may die before it, answers may fail."""

    def refuse(self, rng: random.Random) -> Refusal | None:
        """Draw whether the next life is refused until it ends, from some request on."""

    def n_refused(self) -> int:
        """Count the requests that were refused since the last `refuse`."""
        ...

    def met(self) -> Counter[str]:
        """Count what went wrong since the last call, by kind: answers, deaths of the server."""
        ...


class Fair:
    """A local store: nothing happens."""

    def change(self, rng: random.Random) -> None:
        pass

    def refuse(self, rng: random.Random) -> Refusal | None:
        pass

    def n_refused(self) -> int:
        return 0

    def met(self) -> Counter[str]:
        return Counter()


class Stormy:
    """OpenStack Swift behind a proxy that answers 500, 503, late, half, or that nothing is allowed.

    An answer of the latter kind is Amazon's: 403 AccessDenied, 400 ExpiredToken.
    """

    def __init__(self, server: s3_server.SwiftServer, proxy: FaultyProxy):
        self._server = server
        self._proxy = proxy
        self._met: Counter[str] = Counter()

    def change(self, rng: random.Random) -> None:
        seed = rng.randrange(99)
        self._proxy.decide = now_and_then(_FAULTY_SHARE, ("500", "503", "slow", "cut"), seed)
        if rng.random() < _RESTART_SHARE:
            self._server.kill()
            self._server.start()
            self._met[KILLED] += 1

    def refuse(self, rng: random.Random) -> Refusal | None:
        if rng.random() >= _REFUSED_SHARE:
            return None
        refusal = rng.choice(tuple(SAID))
        self._take_seen()
        first = int(math.exp(rng.uniform(0, math.log(_LAST_REFUSED))))
        self._proxy.decide = _refused(refusal, self._proxy, first)
        return refusal

    def n_refused(self) -> int:
        faults = self._proxy.faults()
        return faults["403"] + faults["expired"]

    def met(self) -> Counter[str]:
        self._take_seen()
        met, self._met = self._met, Counter()
        return met

    def _take_seen(self) -> None:
        self._met.update(self._proxy.faults())
        self._proxy.seen.clear()


def _refused(refusal: Refusal, proxy: FaultyProxy, first: int) -> Decide:
    """Refuse from the first request on, of those that the proxy has seen."""

    def decide(request: Request):
        if len(proxy.seen) < first:
            return None
        if refusal == "expired token":
            return "expired"
        return "403" if request.method in _WRITES else None

    return decide


@contextlib.contextmanager
def store_of(kind: Kind, folder: Path) -> Iterator[tuple[str, dict[str, str], Weather]]:
    """Give the store's URL, the environment that it needs, and its weather."""
    if kind == "local":
        yield str(folder / "case/store"), {}, Fair()
        return
    server = s3_server.SwiftServer(folder / "swift")
    server.start()
    proxy = FaultyProxy(server.url)
    environ = s3_server.settings(proxy.url)
    os.environ.update(environ)
    s3_server.client(server.url).create_bucket(Bucket="chaos")
    try:
        yield "s3://chaos/store", environ, Stormy(server, proxy)
    finally:
        proxy.close()
        server.stop()

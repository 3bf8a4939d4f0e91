import anyio
import pytest

from flows.server.busy_database import ATTEMPTS, retried_when_busy

BODY = [b"some", b"thing"]


class Busy:
    """An ASGI app that echoes; first it answers 503 some times, raising as Starlette does."""

    def __init__(self, n_refusals: int):
        self.n_refusals, self.asked = n_refusals, 0

    async def __call__(self, scope, receive, send):
        scope["touched"] = scope.get("touched", 0) + 1
        assert scope["touched"] == 1
        self.asked += 1
        body, more = b"", True
        while more:
            message = await receive()
            body, more = body + message["body"], message["more_body"]
        refused = self.asked <= self.n_refusals
        await send({"type": "http.response.start", "status": 503 if refused else 200})
        await send({"type": "http.response.body", "body": b"" if refused else body})
        if refused:
            raise OSError("database is locked")


def answer_of(app) -> list[tuple[int | None, bytes | None]]:
    """What a client is sent for one POST of BODY."""
    sent = []
    waiting = [
        {"type": "http.request", "body": BODY[0], "more_body": True},
        {"type": "http.request", "body": BODY[1], "more_body": False},
    ]

    async def receive():
        return waiting.pop(0)

    async def send(message):
        sent.append((message.get("status"), message.get("body")))

    async def ask():
        await retried_when_busy(app)({"type": "http"}, receive, send)

    anyio.run(ask)
    return sent


@pytest.mark.parametrize("n_refusals", [0, 1, ATTEMPTS - 1])
def test_a_refused_request_is_made_again(n_refusals):
    app = Busy(n_refusals)
    assert answer_of(app) == [(200, None), (None, b"something")]
    assert app.asked == n_refusals + 1


def test_a_database_that_stays_busy_is_told():
    app = Busy(ATTEMPTS)
    with pytest.raises(OSError, match="locked"):
        answer_of(app)
    assert app.asked == ATTEMPTS


def test_an_error_without_an_answer_is_raised_at_once():
    async def broken(scope, receive, send):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        answer_of(broken)


def test_other_connections_pass():
    async def lifespan(scope, receive, send):
        await send({"type": "lifespan.startup.complete"})

    sent = []

    async def send(message):
        sent.append(message["type"])

    async def start():
        await retried_when_busy(lifespan)({"type": "lifespan"}, pytest.fail, send)

    anyio.run(start)
    assert sent == ["lifespan.startup.complete"]

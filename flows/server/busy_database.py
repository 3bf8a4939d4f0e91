"""Requests that meet a busy database are tried again where they are, and soon.

SQLite refuses at once to write in a transaction that began before another's write. Prefect's server
answers 503 then, and its client waits two seconds before it asks again.
"""

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send


ATTEMPTS = 5
_PAUSE_S = 0.05
_UNAVAILABLE = 503


def retried_when_busy(app: "ASGIApp") -> "ASGIApp":
    """Wrap `app`: it is asked up to ATTEMPTS times while it answers a request with 503."""

    async def answer(scope: "Scope", receive: "Receive", send: "Send") -> None:
        if scope["type"] != "http":
            await app(scope, receive, send)
            return
        request = await _whole(receive)
        for _ in range(ATTEMPTS - 1):
            if await _answered(app, scope, _replayed(request, receive), send):
                return
            await asyncio.sleep(_PAUSE_S)
        await app(scope, _replayed(request, receive), send)

    return answer


async def _whole(receive: "Receive") -> "list[Message]":
    """All messages of a request: its body may come in several."""
    messages = [await receive()]
    while messages[-1].get("more_body", False):
        messages.append(await receive())
    return messages


def _replayed(request: "list[Message]", receive: "Receive") -> "Receive":
    """What receives a request once more, and then what comes after it."""
    messages = iter(request)

    async def next_message() -> "Message":
        message = next(messages, None)
        return await receive() if message is None else message

    return next_message


async def _answered(app: "ASGIApp", scope: "Scope", receive: "Receive", send: "Send") -> bool:
    """Whether the app answered with anything but 503, which is kept back."""
    refused = False

    async def send_unless_refused(message: "Message") -> None:
        nonlocal refused
        if message["type"] == "http.response.start":
            refused = message["status"] == _UNAVAILABLE
        if not refused:
            await send(message)

    try:
        await app({**scope}, receive, send_unless_refused)  # the app writes into its scope
    except Exception:
        if not refused:  # Starlette raises an error again after the answer to it
            raise
    return not refused

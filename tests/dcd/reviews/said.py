"""Decisions for tests."""

import hashlib

from dcd.reviews.decisions import Decision, Verb


def content(image_id: str) -> bytes:
    return hashlib.blake2b(image_id.encode(), digest_size=16).digest()


def said(
    number: int | str,
    image_id: str,
    verb: Verb,
    true_label: str | None = None,
    *,
    reviewer: str = "ann",
    label: str = "cat",
) -> Decision:
    return Decision(
        f"d-{number}", reviewer, "pool", image_id, content(image_id), label, verb, true_label
    )

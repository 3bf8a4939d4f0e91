"""How many requests a piece of work sends to an object store: what each module says of its code."""

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Requests:
    """Requests by kind, retries left out.

    n_put: also the POSTs that begin and end an upload in parts, which cost the same.
    """

    n_get: int = 0
    n_head: int = 0
    n_list: int = 0
    n_put: int = 0

    def __add__(self, other: "Requests") -> "Requests":
        return Requests(
            self.n_get + other.n_get,
            self.n_head + other.n_head,
            self.n_list + other.n_list,
            self.n_put + other.n_put,
        )

    def __mul__(self, n: int) -> "Requests":
        return Requests(n * self.n_get, n * self.n_head, n * self.n_list, n * self.n_put)


def total(parts: Iterable[Requests]) -> Requests:
    return sum(parts, Requests())

"""Count the requests that a piece of work sends to an object store, as each module tells."""

from collections.abc import Iterable
from dataclasses import dataclass

REQUESTS_AT_ONCE = 16  # of one piece of work: they share the latency of an object store
WHOLE_BYTES = 2**25  # up to this size a Parquet object is fetched in one read and checked whole


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


# What a look at one object costs on S3: is it there (s3fs then asks whether it is a folder), what
# are its bytes, what stands in its footer (Arrow asks for no folder).
FOUND, MISSED = Requests(n_head=1), Requests(n_head=1, n_list=1)
BYTES_READ = METADATA_READ = Requests(n_get=1, n_head=1)
METADATA_MISSED = Requests(n_head=1)
_LISTED_AT_ONCE = 1000
_UPLOAD_PART_BYTES = 50 * 2**20  # s3fs's: an object of two parts or more is uploaded in parts
_ARROW_READ_BYTES = 32 * 2**20  # Arrow joins neighbouring columns up to this size
_FOOTER_READ_BYTES = 64 * 2**10  # Arrow's first read of a file; a larger footer needs another


def listing_requests(n_keys: int) -> Requests:
    """Count what `keys_under` and its like send for n keys; where there are none s3fs asks why."""
    if n_keys == 0:
        return Requests(n_head=1, n_list=2)
    return Requests(n_list=-(-n_keys // _LISTED_AT_ONCE))


def writing_requests(n_bytes: int) -> Requests:
    """Count what publishing an object of this size sends."""
    if n_bytes < 2 * _UPLOAD_PART_BYTES:
        return Requests(n_put=1)
    return Requests(n_put=2 + -(-n_bytes // _UPLOAD_PART_BYTES))


def table_requests(n_bytes: int) -> Requests:
    """Count what `read_table` sends: one read, or a footer and what the columns take."""
    if n_bytes <= WHOLE_BYTES:
        return Requests(n_head=1, n_get=1)
    return Requests(n_head=1) + footer_requests(0) + column_requests(n_bytes)


def footer_requests(n_bytes: int) -> Requests:
    """Count what Arrow sends for a Parquet footer of this size."""
    return Requests(n_get=1 if n_bytes <= _FOOTER_READ_BYTES else 2)


def column_requests(n_bytes: int) -> Requests:
    """Count what Arrow sends for neighbouring columns of a row group, one holding most bytes."""
    return Requests(n_get=1 if n_bytes <= _ARROW_READ_BYTES else 2)

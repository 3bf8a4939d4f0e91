"""Foretell what reading a Parquet file of images fetches, from its footer alone."""

from dataclasses import dataclass

from dcd.config import DataConfig
from dcd.sources.objects import OPENED
from dcd.sources.parquet import LOOKED_INTO, READ_BYTES, UNREADABLE, open_described
from dcd.sources.parquet_cells import columns_of
from dcd.store.requests import Requests, footer_requests, total
from dcd.tables.parquet_footer import Chunk

_PAGE_ROWS, _PAGE_BYTES = 1024, 2**20


@dataclass(frozen=True)
class ReadCost:
    """What `read_parquet` fetches: bytes of the columns it needs, and requests where it is S3."""

    n_bytes: int
    requests: Requests


def reading_cost(uri: str, data: DataConfig) -> ReadCost:
    """Count what `read_parquet` will fetch of a file, by its footer.

    Raises DataError if the columns are not there, StoreError if the store fails.
    """
    try:
        file, groups = open_described(uri)
    except UNREADABLE:
        return ReadCost(0, LOOKED_INTO)
    names = set(columns_of(file.schema_arrow, data, uri).names())
    every = (each for chunks in groups for each in chunks.items())
    chunks = [chunk for path, chunk in every if path.partition(".")[0] in names]
    footer_bytes = file.metadata.serialized_size
    reads = Requests(n_get=sum(_reads(_pages(chunk)) for chunk in chunks))
    return ReadCost(
        sum(chunk.n_bytes for chunk in chunks) + footer_bytes,
        total([OPENED, footer_requests(footer_bytes), reads]),
    )


def _pages(chunk: Chunk) -> list[int]:
    """Bytes of the pages of a column in a row group, as Arrow writes them.

    The footer knows the dictionary's page alone. The others end where a batch of 1,024 rows, of
    large images many megabytes, goes beyond 1 MiB.
    """
    size, pages = chunk.n_bytes, []
    if chunk.dictionary_page_offset is not None:
        pages.append(max(0, chunk.data_page_offset - chunk.dictionary_page_offset))
    left = size - sum(pages)
    by_batch = size * _PAGE_ROWS // max(1, chunk.n_values)
    page = max(_PAGE_BYTES, by_batch)
    return [*pages, *[page] * (left // page), left % page]


def _reads(pages: list[int]) -> int:
    """Reads of Arrow's buffered stream: a page's header fills the buffer, a long page passes it."""
    n_reads, buffered, left = 0, 0, sum(pages)
    for page in pages:
        if page and not buffered:
            n_reads, buffered = n_reads + 1, min(READ_BYTES, left)
        if page > buffered:
            n_reads += 1
            missing = page - buffered
            buffered = page if missing >= READ_BYTES else min(buffered + READ_BYTES, left)
        buffered, left = buffered - page, left - page
    return n_reads

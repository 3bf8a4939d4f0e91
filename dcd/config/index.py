"""The configuration of an index: how the vectors of a pool are clustered, stored and searched."""

from typing import Literal

from pydantic import Field

from dcd.config.base import FrozenModel


class IndexConfig(FrozenModel):
    """How the vectors are clustered, stored and searched; docs/neighbor_index.md has the cost."""

    max_memory_bytes: int = Field(
        default=2 * 2**30,
        ge=2**28,
        description="Building takes no more memory, all workers of a machine together; what does "
        "not fit is sorted on disk.",
    )
    max_scan_bytes: int = Field(
        default=2**28,
        ge=2**16,
        description="A label whose float16 vectors take more is searched through lists (IVF); "
        "smaller ones are scanned, exactly.",
    )
    recall_target: float = Field(
        default=0.95,
        gt=0,
        le=1,
        description="As few lists are probed as find this share of the 50 nearest neighbours of "
        "held-out images.",
    )
    storage: Literal["float16", "int8", "pq"] = Field(
        default="float16",
        description="int8 and pq (product quantisation) are smaller and lose recall: how much is "
        "measured and written to index.json.",
    )
    pq_bytes: int = Field(default=64, ge=1, description="pq: bytes a vector, at most.")
    sample_rows: int = Field(
        default=100_000,
        ge=1,
        description="Rows of the uniform sample of the pool (of 256 MiB at most).",
    )

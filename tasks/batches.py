"""What became of a batch of shards."""

from dataclasses import dataclass

from dcd.pool_status import FailedShard
from dcd.stages import ShardOutcome


@dataclass(frozen=True)
class Batch:
    """The shards of one task: those that are done, and those that failed for good."""

    done: tuple[ShardOutcome, ...]
    failed: tuple[FailedShard, ...]

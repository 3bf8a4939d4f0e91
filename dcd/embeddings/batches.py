"""Put shards into batches for tasks, and tell what became of a batch."""

from dataclasses import dataclass
from itertools import pairwise

from dcd.embeddings.embed import ShardOutcome
from dcd.embeddings.status import FailedShard
from dcd.sources.records import Shard

# A task costs more than a tiny shard, and a Prefect server slows down above about 2,000 task runs
# in one flow run. Enough tasks a worker keep all of them busy to the end.
_MIN_TASKS, _TASKS_A_WORKER, _MAX_TASKS = 100, 16, 1000


def max_tasks(n_workers: int) -> int:
    """Return the most embedding tasks that a flow run has."""
    return min(max(_MIN_TASKS, _TASKS_A_WORKER * n_workers), _MAX_TASKS)


def batched(shards: list[Shard], max_batches: int) -> list[list[Shard]]:
    """Cut the shards, in order, into at most `max_batches` batches of nearly equal size."""
    n = min(len(shards), max_batches)
    bounds = [len(shards) * i // n for i in range(n + 1)]
    return [shards[a:b] for a, b in pairwise(bounds)]


@dataclass(frozen=True)
class Batch:
    """The shards of one task: those that are done, and those that failed for good."""

    done: tuple[ShardOutcome, ...]
    failed: tuple[FailedShard, ...]

"""Name the keys under which task results are kept, so that a run elsewhere finds them again.

A key is a path whose every segment stands for one thing that the result depends on, so two keys
of the same task differ exactly where their inputs do, and `difference` can say in what.
A kept result only saves looking; a stage's own output objects decide what is done.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from dcd.cells.cell import CellPlan
from dcd.embeddings import embed
from dcd.sources.records import Shard
from dcd.store import keys

# The segments after the task's name, in order.
SEGMENTS: Mapping[str, tuple[str, ...]] = {
    "embed-shards": ("pool", "encoder", "code format", "shards or their etags", "embeddings"),
    "train-and-evaluate": ("method and seed", "encoder", "splits", "pool or selection", "training"),
}


@dataclass(frozen=True)
class ResultKey:
    """`path` below the results of a store, and whether the outputs that it speaks of are there."""

    path: str
    outputs_stand: bool


def embed_key(
    pool: str, encoder_id: str, shards: Sequence[Shard], versions: Mapping[str, str]
) -> ResultKey:
    """Return the key of a batch of embedded shards.

    versions: by object key, what tells the present embeddings from others of that name. They are
    part of the key: a shard that was changed, embedded and changed back has other embeddings.
    """
    outputs = [keys.embeddings(pool, encoder_id, shard.name) for shard in shards]
    found = [versions.get(output) for output in outputs]
    segments = [
        pool,
        encoder_id,
        f"v{embed.CODE_FORMAT}",
        keys.digest([[shard.name, shard.etag] for shard in shards]),
        keys.digest(found),
    ]
    return ResultKey(keys.result("embed-shards", segments), None not in found)


def cell_key(plan: CellPlan, *, predictions_stand: bool) -> ResultKey:
    """Return the key of a finished cell; its last segment stands for all the others at once."""
    segments = [
        f"{plan.method.name}-seed{plan.seed}",
        plan.index.encoder_id,
        keys.digest(sorted([split, info.id] for split, info in plan.splits.items())),
        keys.digest(plan.drawn_from),
        keys.digest(plan.training),
        plan.id,
    ]
    return ResultKey(keys.result("train-and-evaluate", segments), predictions_stand)


def difference(path: str, others: Sequence[str]) -> tuple[str, tuple[str, ...]] | None:
    """Find the kept result that is most like `path`, and the names of the segments that differ.

    None if nothing of the same task is kept. The last segment of a cell, its id, has no name.
    """
    task, *wanted = path.removeprefix("results/").split("/")
    names = SEGMENTS.get(task, ())
    best: tuple[str, tuple[str, ...]] | None = None
    for other in others:
        of_task, *found = other.removeprefix("results/").split("/")
        if other == path or of_task != task or len(found) != len(wanted):
            continue
        differ = tuple(n for n, a, b in zip(names, wanted, found, strict=False) if a != b)
        if best is None or len(differ) < len(best[1]):
            best = (other, differ or ("code",))
    return best

"""What can be wrong between the splits of a run, the images they name, and the pool."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

from dcd.config import DataConfig, Split
from dcd.config.explain import closest
from dcd.errors import LabelError
from dcd.failures.registry import read_registry
from dcd.splits.groups import read_groups
from dcd.splits.label_table import read_label_table
from dcd.store import Store
from dcd.validation.inventory import Inventory
from dcd.validation.labels import code_hint
from dcd.validation.problems import Note, Problem


@dataclass(frozen=True)
class Members:
    """The images of one split for one seed. `inventory` is None where nothing can be listed."""

    split: Split
    data: DataConfig
    inventory: Inventory | None
    label_of: Mapping[str, str]
    notes: tuple[str, ...] = ()


def read_members(split: Split, data: DataConfig, inventory: Inventory | None) -> Members | None:
    """Read the images of a split with their labels; None where only embedding will tell.

    Raises LabelError, DataError or ConfigError as `read_labels` does, and LabelError if images
    that no table labels have no label of their own.
    """
    table = read_label_table(data, split)
    read_groups(data, split)  # raises for a column that the run could not group by
    if table is not None:
        ids, labels = (table.rows[name].to_pylist() for name in ("image_id", "label"))
        label_of = dict(zip(ids, labels, strict=True))
        return Members(split, data, inventory, label_of, table.notes)
    if inventory is None:
        return None
    label_of = {image_id: label for image_id, label in inventory.label_of.items() if label}
    if len(label_of) < len(inventory.label_of):
        raise LabelError(
            f"{len(inventory.label_of) - len(label_of)} of {len(inventory.label_of)} images have "
            f"no label; give {split}.labels, a table of image_id and label, or name a folder of "
            "class folders"
        )
    return Members(split, data, inventory, label_of) if inventory.complete else None


def wrong_ids(members: Members) -> Iterator[Problem]:
    """Find labelled images that are not there, and ids that stand in two shards."""
    inventory, data = members.inventory, members.data
    if inventory is None:
        return
    if twice := inventory.repeated.keys() & members.label_of.keys():
        first = min(twice)
        yield Problem(
            f"{members.split}.images",
            f"{len(twice)} image ids stand in two shards, such as {first!r} in "
            f"{inventory.shard_of[first]} and {inventory.repeated[first]}; make the ids unique",
        )
    if not inventory.complete:
        return
    absent = [image_id for image_id in members.label_of if image_id not in inventory.shard_of]
    if len(absent) == len(members.label_of):
        yield no_common_id(members.split, data, absent[0], inventory)
    elif absent:
        yield Problem(
            f"{members.split}.labels",
            f"{len(absent)} of {len(members.label_of)} image ids in {data.labels} are not among "
            f"{data.images}, such as {absent[0]!r}; remove those rows or narrow `where`",
        )


def no_common_id(place: str, data: DataConfig, labelled: str, inventory: Inventory) -> Problem:
    return Problem(
        f"{place}.labels",
        f"no image_id in {data.labels} is among {data.images}: the labels have ids such as "
        f"{labelled!r}, the images {next(iter(inventory.shard_of))!r}; give both the same ids",
    )


def overlaps(splits: Sequence[Members]) -> Iterator[Problem]:
    """Find images that stand in two splits: figures on seen images prove nothing."""
    for one, other in combinations(splits, 2):
        if common := _located(one) & _located(other):
            _, example = min(common)
            yield Problem(
                other.split,
                f"shares {len(common)} images with {one.split}, such as {example!r}; give every "
                "image to one split only",
            )


def _located(members: Members) -> set[tuple[str, str]]:
    """Ids with their shards: equal ids in different archives are different images."""
    shard_of = members.inventory.shard_of if members.inventory else {}
    return {(shard_of.get(i, members.data.images), i) for i in members.label_of}


def unknown_labels(splits: Sequence[Members], pool_labels: set[str] | None) -> Iterator[Problem]:
    """Find labels that train does not know, and those of failures that no pool image carries.

    pool_labels: None where it is not known which there are.
    """
    labels = {members.split: set(members.label_of.values()) for members in splits}
    known = labels.get("train")
    if known is not None:
        if len(known) < 2:
            yield Problem("train", f"has the single label {min(known)!r}; a classifier needs two")
        for split, found in labels.items():
            if unknown := found - known:
                yield Problem(
                    split,
                    f"{_listing(unknown, known)} unknown to train{code_hint(found, known)}; "
                    "rename, or add such images to train",
                )
    unmet = labels.get("error_sample", set()) - (pool_labels or set())
    if pool_labels is not None and unmet:
        yield Problem(
            "error_sample",
            f"{_listing(unmet, pool_labels)} carried by no pool image"
            f"{code_hint(unmet, pool_labels)}, so nothing can be selected; rename, or leave these "
            "failures out",
        )


def unmet_but_open(splits: Sequence[Members], pool_labels: set[str]) -> Iterator[Note]:
    """Tell of failures' labels that no pool image carries, where images without one may be them."""
    failing = {label for m in splits if m.split == "error_sample" for label in m.label_of.values()}
    if unmet := failing - pool_labels:
        yield Note(
            "error_sample",
            f"{_listing(unmet, pool_labels)} carried by no pool image"
            f"{code_hint(unmet, pool_labels)}: only images without a label that turn out to be of "
            "it can be selected (pool.unlabelled)",
        )


def unmet_failures(store: Store, pool_labels: set[str]) -> Iterator[Problem]:
    """Find labels of registered failures that no pool image carries."""
    counts = Counter(read_registry(store).failures["label"].to_pylist())
    if unmet := counts.keys() - pool_labels:
        yield Problem(
            "failures",
            f"{_listing(set(unmet), pool_labels)} carried by no pool image"
            f"{code_hint(set(unmet), pool_labels)}, but by {sum(counts[one] for one in unmet):,} "
            "registered failures, for which nothing can be selected; add such images to the pool, "
            "or leave registered failures out with failures: false",
        )


def unknown_goal_label(label: str, splits: Sequence[Members]) -> Iterator[Problem]:
    """Find out whether a goal asks for the recall of a class that debug_val does not have."""
    for members in splits:
        known = set(members.label_of.values())
        if members.split == "debug_val" and label not in known:
            listed = _listing({label}, known)
            yield Problem("goal.label", f"{listed} carried by no image of debug_val; rename")
            return


def _listing(labels: set[str], known: set[str]) -> str:
    """`label 'cta' (did you mean 'cat'?) is`, for at most three labels."""
    shown = []
    for label in sorted(labels)[:3]:
        guess = closest(label, sorted(known))
        shown.append(f"{label!r}" + (f" (did you mean {guess!r}?)" if guess else ""))
    more = f" and {len(labels) - 3} more" if len(labels) > 3 else ""
    return f"label {', '.join(shown)}{more} {'is' if len(labels) == 1 else 'are'}"

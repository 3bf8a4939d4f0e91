"""Everything about a run that can be checked before any work starts, each fault with its mend."""

import re
from collections import Counter
from collections.abc import Iterator
from importlib.util import find_spec

from dcd.config import SPLITS, CommandGuard, DataConfig, EncoderConfig, RunConfig, Split
from dcd.encoders.encoder import PIXELS
from dcd.encoders.int8 import MISSING, has_nncf
from dcd.encoders.kept import kept_folder, read_kept
from dcd.errors import DataError, EncoderError
from dcd.maps.layout import has_tsne
from dcd.progress import live
from dcd.sources.source import check_name, reading_faults, source_of
from dcd.store import Store
from dcd.store.store_format import open_store
from dcd.training.user_model import load_start
from dcd.validation.inventory import Inventory, inventory_notes, repeated_ids, take_inventory
from dcd.validation.labels import label_notes
from dcd.validation.lpips import lpips_problems
from dcd.validation.pool import pool_labels, true_label_notes
from dcd.validation.problems import Findings, Note, Problem, noting
from dcd.validation.repeats import repeated_pictures
from dcd.validation.splits import (
    Members,
    overlaps,
    read_members,
    unknown_goal_label,
    unknown_labels,
    unmet_but_open,
    unmet_failures,
    wrong_ids,
)

_PLACEHOLDER = re.compile(r"\{\w*\}")
_EXTRAS = {"ray": "prefect_ray", "dask": "prefect_dask"}
View = tuple[tuple[Split, DataConfig], ...]


def validate(config: RunConfig) -> list[Problem]:
    """Look at the store, the encoder and all data of a run, without doing any of its work.

    Returns:
        All problems that were found; an empty list if a run can start.
    """
    return list(examine(config).problems)


def examine(config: RunConfig) -> Findings:
    """Look at the store, the encoder and all data of a run.

    Reads labels, ids and footers of at most `inventory.MAX_IMAGES` images a source: what lies
    beyond is found out by the run. Writes and deletes one small object in the store.
    """
    problems = [*_config_problems(config)]
    problems += [Problem(place, fault) for place, fault in reading_faults(config).items()]
    notes: list[Note] = []
    with noting(problems, "store"):
        store = open_store(config.store)
        store.probe()
        with noting(problems, "pool.name"):
            check_name(store, config.pool)
    with live.stage("look at the encoder"), noting(problems, "encoder"):
        if words := _check_encoder(config.encoder):
            notes.append(Note("encoder.checkpoint", words))
    with noting(problems, "training.start"):
        if config.training.start is not None:
            start = load_start(config.training.start)
            if start.words:
                notes.append(Note("training.start", start.words))
    if config.map.method == "tsne" and not has_tsne():
        words = "the extra map is not installed, so pca is drawn: see docs/map.md"
        notes.append(Note("map.method", words))
    inventories = _inventories(config, problems, notes)
    problems += lpips_problems(config, config.selections(), inventories)
    labels: set[str] | None = None
    with noting(problems, "pool"):
        labels = pool_labels(config.pool, inventories.get(config.pool.images), notes)
    with noting(problems, "pool.true_labels"):
        notes += true_label_notes(config.pool, inventories.get(config.pool.images), labels)
    guessing = config.pool.unlabelled == "posterior"
    if config.failures and labels is not None and not guessing:
        with noting(problems, "failures"):
            problems += unmet_failures(Store(config.store), labels)
    members: list[Members] = []
    of_views: list[list[Members]] = []
    views: dict[View, int] = {}
    for seed in config.seeds:
        views.setdefault(_view(config, seed), seed)
    for view, seed in views.items():
        with live.stage(f"check the splits of seed {seed}"):
            met = None if guessing else labels
            of_view: list[Members] = []
            found = _split_problems(view, inventories, met, notes, of_view)
        members += of_view
        of_views.append(of_view)
        of_seed = f" (seed {seed})" if len(views) > 1 else ""
        problems += [Problem(problem.place, problem.message + of_seed) for problem in found]
        if found:  # other seeds would mostly repeat it
            break
    if guessing and labels is not None:
        notes += unmet_but_open(members, labels)
    if config.goal is not None and config.goal.label is not None:
        problems += unknown_goal_label(config.goal.label, members)
    with noting(problems, "error_sample"):
        notes += repeated_pictures(of_views)
    return Findings(tuple(dict.fromkeys(problems)), tuple(dict.fromkeys(notes)))


def _config_problems(config: RunConfig) -> Iterator[Problem]:
    """What the config alone tells."""
    runner = config.runner.kind
    if runner in _EXTRAS and find_spec(_EXTRAS[runner]) is None:
        yield Problem(
            "runner.kind",
            f"{runner} is not installed; pip install 'data-centric-debugging[{runner}]', or take "
            "thread",
        )
    commands = [guard for guard in config.gate.guards if isinstance(guard, CommandGuard)]
    if commands:
        from dcd.gate.guards import command_fault

        for guard in commands:
            if fault := command_fault(guard):
                yield Problem("gate.guards", fault)
    if config.goal is not None and (command := config.goal.as_guard):
        from dcd.gate.guards import command_fault

        if fault := command_fault(command):
            yield Problem("goal.command", fault)
    if config.encoder.model == PIXELS:
        message = "pixels is no network, so no model can be saved; it is for `dcd compare` and for "
        yield Problem("encoder.model", message + "searching; take a timm model")
    for place in ("pool", *SPLITS):
        data: DataConfig | None = getattr(config, place)
        if data is not None:
            yield from _data_problems(place, data)


def _data_problems(place: str, data: DataConfig) -> Iterator[Problem]:
    for name in ("images", "labels", "label_map"):
        for found in _PLACEHOLDER.findall(getattr(data, name, None) or ""):
            if found != "{seed}":
                message = f"unknown placeholder {found}; only {{seed}} is known"
                yield Problem(f"{place}.{name}", message)
            elif place == "pool":
                message = "the pool is the same for every seed; remove {seed}"
                yield Problem(f"pool.{name}", message)
    if data.where is not None and data.labels is None:
        message = f"{data.where!r} has no table to filter; add {place}.labels"
        yield Problem(f"{place}.where", message)


def _check_encoder(config: EncoderConfig) -> str | None:
    """What is taken of the encoder's checkpoint, in words.

    Raises EncoderError. Weights are loaded and tried, but none fetched from a hub.
    """
    folder = None if config.precision == "int8" else kept_folder(config)
    if folder is not None and (kept := read_kept(folder)):
        return kept.checkpoint_words
    from dcd.encoders import backends, weights
    from dcd.encoders.encoder import load_encoder
    from dcd.encoders.network import checkpoint_words, preprocess_of

    preprocess_of(config)
    backends.resolve(config)
    if config.precision == "int8":  # its graph is made by the embedding; its weights are tried here
        if not has_nncf():
            raise EncoderError(f"encoder.precision int8: {MISSING}")
        config = config.model_copy(update={"precision": "fp32", "calibration": None})
    bundled = config.weights == "auto" and weights.has_bundled(config.model)
    if config.checkpoint or bundled or config.weights in ("bundled", "random"):
        load_encoder(config)
    return checkpoint_words(config)


def _inventories(
    config: RunConfig, problems: list[Problem], notes: list[Note]
) -> dict[str, Inventory]:
    """What is known of every image source, by its `images`; unreadable ones become problems."""
    wanted: dict[str, tuple[str, DataConfig]] = {config.pool.images: ("pool", config.pool)}
    for seed in config.seeds:
        for split, data in _view(config, seed):
            wanted.setdefault(data.images, (split, data))
    found = {}
    for images, (place, data) in wanted.items():
        with live.stage(f"look at {place}"), noting(problems, f"{place}.images"):
            reading = source_of(data).data
            inventory = take_inventory(reading)
            notes += inventory_notes(place, inventory)
            if place == "pool":
                for told in repeated_ids(reading, inventory):
                    (notes if isinstance(told, Note) else problems).append(told)  # pyright: ignore
            if inventory.complete and not inventory.shard_of:
                rejects = inventory.rejects
                why = f": {rejects}" if rejects.counts else "; check the path"
                raise DataError(f"{images}: holds no readable image{why}")
            if inventory.n_looked_for and inventory.n_absent == inventory.n_looked_for:
                raise DataError(
                    f"{images}: of {inventory.n_looked_for:,} files that its rows name and that "
                    "were looked for, none can be read; check where they lie"
                )
            found[images] = inventory
    return found


def _view(config: RunConfig, seed: int) -> View:
    """The splits of one seed; seeds whose splits are the same have equal views."""
    return tuple((split, data) for split in SPLITS if (data := config.dataset(split, seed)))


def _split_problems(
    view: View,
    inventories: dict[str, Inventory],
    pool_labels: set[str] | None,
    notes: list[Note],
    all_members: list[Members],
) -> list[Problem]:
    problems: list[Problem] = []
    splits: list[Members] = []
    for split, data in view:
        with noting(problems, split):
            members = read_members(split, data, inventories.get(data.images))
            if members is not None:
                problems += wrong_ids(members)
                notes += [Note(f"{split}.labels", told) for told in members.notes]
                if split == "train":
                    notes += label_notes("train", Counter(members.label_of.values()))
                splits.append(members)
    all_members += splits
    return [*problems, *overlaps(splits), *unknown_labels(splits, pool_labels)]

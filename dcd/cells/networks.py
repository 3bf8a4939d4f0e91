"""How a cell's whole network is trained: at once, or in two stages.

Images are read from their sources once and lie in a local file meanwhile: memory holds none of
them, however many there are.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from torch import nn

from dcd.cells.stages import Beginnings, StagedData, StagedModel, retrain_in_stages
from dcd.cells.train import (
    TrainedModel,
    TrainingData,
    by_source,
    doubt_of,
    failing_head,
    fit_to_features,
)
from dcd.config import UNJUDGED_SPLITS, EncoderConfig, Objective, Split, TrainingConfig
from dcd.encoders.network import load_network, preprocess_of
from dcd.errors import DataError
from dcd.images.preprocess import Preprocess
from dcd.images.spool import Places, Spool
from dcd.scratch import scratch_folder
from dcd.sources.source import Source, fetch_each
from dcd.store import Store
from dcd.tables.rows import with_column
from dcd.training.checkpoints import Checkpoint
from dcd.training.data import LabelledImages, Progress, Recipe, RetrainingData
from dcd.training.finetune import predict_images
from dcd.training.head import LinearHead, Predictions, hold_out
from dcd.training.retrain import retrain
from dcd.training.saved_models import save_model, with_classes, with_head
from dcd.training.user_model import load_start

_SHOWN_IMAGES = 2000  # at most, of each split: a curve has eleven points


@dataclass(frozen=True)
class FullTraining:
    """How a whole network is trained. shown: splits on the curve, which decide nothing.

    objective: what the model is chosen for where there are two stages.
    """

    encoder: EncoderConfig
    config: TrainingConfig
    seed: int
    objective: Objective = "fixed"
    shown: Sequence[Split] = ()


def starting_head(train: pa.Table, config: TrainingConfig, seed: int) -> LinearHead:
    """Return the failing model's head without the images of train that are held out as val."""
    return failing_head(_without_val(train, config, seed), config)


def probing_head(store: Store, data: TrainingData, config: TrainingConfig, seed: int) -> LinearHead:
    """Fit a head to train, without val, and all pool images of a selection, weighing alike."""
    tables = {**data.tables, "train": _without_val(data.tables["train"], config, seed)}
    pool, _ = by_source(data.picks)
    weights = pa.array(np.ones(pool.num_rows, np.float32))
    alike = with_column(pool, "weight", weights)
    return fit_to_features(store, replace(data, tables=tables, picks=alike), config)


def train_network(
    store: Store,
    data: TrainingData,
    how: FullTraining,
    checkpoint: Checkpoint,
    on_progress: Callable[[Progress], None] | None = None,
) -> TrainedModel:
    """Fine-tune the whole network on the images of train and picks.

    Goes on from `checkpoint` after a kill; the caller clears it once the result is safe.
    """
    begin = _start(store, data, how)
    recipe = Recipe(data.classes, begin.preprocess, how.config, how.seed)
    with scratch_folder("images") as scratch:
        images = _gather(store, data, how.config, Spool(scratch / "images"))
        shown = {split: _sample(images.of_split[split]) for split in how.shown}
        if how.config.stage is None:
            found = _at_once(begin, images, shown, recipe, checkpoint, on_progress)
        else:
            found = retrain_in_stages(
                begin.networks,
                StagedData.of(
                    images.of_split, images.added, images.is_pool, images.is_aimed, shown
                ),
                recipe,
                how.objective,
                checkpoint=checkpoint,
                on_progress=on_progress,
            )
        predicted: dict[Split, Predictions] = {
            split: predict_images(found.network, of_split.images, data.classes, begin.preprocess)
            for split, of_split in images.of_split.items()
            if split not in UNJUDGED_SPLITS
        }

    def save(directory: Path) -> None:
        save_model(directory, found.network, data.classes, begin.preprocess, begin.architecture)

    return TrainedModel(predicted, save, found.alpha, found.curve, found.line, found.chosen)


def _at_once(
    begin: "_Start",
    images: "_Images",
    shown: Mapping[str, LabelledImages],
    recipe: Recipe,
    checkpoint: Checkpoint,
    on_progress: Callable[[Progress], None] | None,
) -> StagedModel:
    """Train on train and all picks together; the line is that of weight ensembling."""
    of_split = images.of_split
    retrained = retrain(
        begin.networks.none,
        RetrainingData(of_split["train"], images.added, of_split.get("debug_val"), shown),
        recipe,
        original_saw_val=recipe.config.start is not None,
        checkpoint=checkpoint,
        on_progress=on_progress,
    )
    return StagedModel(retrained.network, retrained.alpha, TrainedModel.line, retrained.curve, "")


@dataclass(frozen=True)
class _Start:
    """The models before fine-tuning."""

    networks: Beginnings
    preprocess: Preprocess
    architecture: str


def _start(store: Store, data: TrainingData, how: FullTraining) -> _Start:
    """The user's own model with the classes of train, or the encoder with fitted heads."""
    encoder, config = how.encoder, how.config
    if config.start is not None:
        start = load_start(config.start)

        def theirs() -> nn.Module:
            return with_classes(start.model, data.classes)

        return _Start(Beginnings(theirs, theirs), start.model.preprocess, start.architecture)
    taught = starting_head(data.tables["train"], config, how.seed)
    probed = taught
    if config.stage is not None:
        probed = probing_head(store, data, config, how.seed)
    networks = Beginnings(
        lambda: with_head(load_network(encoder), taught),
        lambda: with_head(load_network(encoder), probed),
    )
    return _Start(networks, preprocess_of(encoder), encoder.model)


@dataclass(frozen=True)
class _Images:
    """The images of a cell. is_pool, is_aimed: (N,) bool, of `added`, all picks.

    A targeted pick is both of the pool and aimed at the failures, as these are.
    """

    of_split: Mapping[Split, LabelledImages]
    added: LabelledImages
    is_pool: np.ndarray
    is_aimed: np.ndarray


def _gather(store: Store, data: TrainingData, config: TrainingConfig, spool: Spool) -> _Images:
    """Bring the images of all splits and picks into the spool."""
    of_split: dict[Split, LabelledImages] = {}
    for split, table in data.tables.items():
        places = _spooled(store, data.splits[split].sources, table, spool)
        images = spool.images(_in_order(places, table, split))
        of_split[split] = LabelledImages(images, table["label"].to_pylist())
        if split == "error_sample":
            of_errors = places
    from_pool, from_errors = by_source(data.picks)
    picked = _in_order(_spooled(store, [data.pool], from_pool, spool), from_pool, "picks")
    picked += _in_order(of_errors, from_errors, "error_sample")
    rows = pa.concat_tables([from_pool, from_errors])
    is_pool = np.arange(rows.num_rows) < from_pool.num_rows
    is_targeted = pc.is_in(rows["image_id"], value_set=data.targeted)
    return _Images(
        of_split,
        LabelledImages(
            spool.images(picked),
            rows["label"].to_pylist(),
            rows["weight"].to_numpy(),
            doubt_of(store, data, config),
        ),
        is_pool,
        ~is_pool | is_targeted.to_numpy(),
    )


def _spooled(store: Store, of: Sequence[Source], rows: pa.Table, spool: Spool) -> Places:
    return spool.write((image.image_id, image.data) for image in fetch_each(store, of, rows))


def _in_order(places: Places, rows: pa.Table, name: str) -> list[tuple[int, int]]:
    ids = rows["image_id"].to_pylist()
    missing = [image_id for image_id in ids if image_id not in places]
    if missing:
        raise DataError(
            f"{name}: {len(missing)} of {len(ids)} images are no longer where they were when "
            f"they were embedded, such as {missing[0]!r}; put them back or embed again"
        )
    return [places[image_id] for image_id in ids]


def _sample(images: LabelledImages) -> LabelledImages:
    order = np.random.default_rng(0).permutation(len(images))
    return images.take(np.sort(order[:_SHOWN_IMAGES]))


def _without_val(train: pa.Table, config: TrainingConfig, seed: int) -> pa.Table:
    """The images of train that full training does not hold out as val."""
    is_val = hold_out(train["label"].to_pylist(), config.val_share, seed)
    return train.filter(pa.array(~is_val))

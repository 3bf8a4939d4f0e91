"""One cell of a comparison: a method at a seed, trained, evaluated and published once."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass

import pyarrow as pa
import pyarrow.compute as pc

from dcd.cells import methods
from dcd.cells.methods import Method
from dcd.cells.pool_views import PoolViews
from dcd.cells.train import TrainedModel, TrainingData, train_on_features
from dcd.cells.train_recipe import (
    ObjectiveSelection,
    failures_out_of_fold,
    train_by_recipe,
)
from dcd.config import (
    CompareConfig,
    EncoderConfig,
    Objective,
    RunConfig,
    Split,
    TrainingConfig,
)
from dcd.errors import LabelError
from dcd.evaluation.metrics import predictions_table
from dcd.index.info import IndexInfo
from dcd.scratch import scratch_folder
from dcd.selection.picks import aimed_picks
from dcd.selection.reviewed import failing_picks, read_reviewed
from dcd.selection.select import SelectionInfo
from dcd.sources.source import Source
from dcd.splits.split import SplitInfo, blocked_content, split_table
from dcd.store import Store, keys
from dcd.tables import schemas
from dcd.training.data import Progress

_CELL_FORMAT = 4

# Raised whenever a recipe would choose another model of the same data.
_RECIPE_FORMAT = {"head": 8, "full": 7}
_STAGES_FORMAT = 1  # the same, of networks that are learnt in two stages
_SAVED_METHODS = ("none", "selected", methods.UNREVIEWED)  # the last is an earlier `selected`

# On the curve of `selected`, which the report shows, beside what decides.
_ON_CURVE: tuple[Split, ...] = ("debug_heldout", "test")


@dataclass(frozen=True)
class CellPlan:
    """Everything that decides a cell's figures.

    `selection` is the method's own one, or that of `selected` for baselines that draw as many.
    `start_digest` stands for the content of `training.start`. `keeps_out_of_fold`: whether it is
    asked, and kept, which failures are still wrong by models that did not see them; a round needs
    that for the next one.
    """

    method: Method
    seed: int
    pool: Source
    index: IndexInfo
    splits: Mapping[Split, SplitInfo]
    selection: SelectionInfo
    encoder: EncoderConfig
    training: TrainingConfig
    compare: CompareConfig
    start_digest: str | None = None
    keeps_out_of_fold: bool = False

    @classmethod
    def of(
        cls,
        config: RunConfig,
        method: Method,
        seed: int,
        pool: Source,
        index: IndexInfo,
        splits: Mapping[Split, SplitInfo],
        selection: SelectionInfo,
        start_digest: str | None,
    ) -> "CellPlan":
        """Plan a method at a seed as a config says; start_digest: of its `training.start`."""
        return cls(
            method=method,
            seed=seed,
            pool=pool,
            index=index,
            splits=splits,
            selection=selection,
            encoder=config.encoder,
            training=config.training,
            compare=config.compare,
            start_digest=start_digest,
        )

    @property
    def drawn_from(self) -> list[object] | None:
        """What decides which images of the pool the method draws; None if it draws none."""
        match self.method.draw:
            case "none":
                return None
            case "whole_pool":
                return [self.index.index_id, self.compare.whole_pool_max_images]
            case "filtered_pool":
                return [self.index.index_id, self.compare.filtered_pool_min_agreement]
            case "uncertainty":
                return [self.index.index_id, self.selection.id, self.compare.uncertainty]
            case _:
                return [self.index.index_id, self.selection.id]

    @property
    def own_training(self) -> TrainingConfig:
        """The settings that count for this method."""
        selection = self.method.selection
        if selection is None:
            return self.training.at_once()
        is_fixed = self.method.objective == "fixed"
        return self.training.of_selection(
            selection.general_images, is_fixed, has_debug_val="debug_val" in self.splits
        )

    @property
    def objective(self) -> Objective:
        """What the model is chosen for; fixed where nothing can judge it, or no recipe is known.

        Heads are judged by the failures that they are trained on, networks by debug_val.
        """
        own = self.own_training
        by_failures = own.mode == "head" and self.method.with_error_sample
        judged = by_failures or own.stage is not None
        return self.method.objective if judged else "fixed"

    @property
    def id(self) -> str:
        """Digest of what the cell depends on, and of nothing else."""
        method, own = self.method, self.own_training
        # A selection's settings are part of its id; the table's name for it does not count.
        return keys.digest(
            "cell",
            _CELL_FORMAT,
            [method.draw, method.with_error_sample, method.name in _SAVED_METHODS],
            self.seed,
            self.index.encoder_id,
            sorted([split, info.id] for split, info in self.splits.items()),
            self.drawn_from,
            own,
            self.start_digest,
            # What is not chosen keeps the id that it had before there was a choice.
            *([] if self.objective == "fixed" else [self.objective, _RECIPE_FORMAT[own.mode]]),
            *([] if own.stage is None else [_STAGES_FORMAT]),
        )

    @property
    def parts(self) -> tuple[str, ...]:
        """What the store holds of the cell and of what it was made from: see `dcd.store.parts`."""
        splits = [
            keys.split(split_id)
            for info in self.splits.values()
            for split_id in (info.id, *info.made_from)
        ]
        selection = keys.selection(self.selection.id)
        return keys.cell(self.id), self.index.prefix, selection, *splits


def parts_of(plans: Iterable[CellPlan]) -> tuple[str, ...]:
    """The parts of all cells, each once."""
    return tuple(sorted({part for plan in plans for part in plan.parts}))


@dataclass(frozen=True)
class CellInfo:
    """A finished cell: `id` names its picks, predictions and model in the store."""

    id: str
    method: str
    seed: int
    n_picks: int
    reused: bool


def run_cell(
    store: Store, plan: CellPlan, on_progress: Callable[[Progress], None] | None = None
) -> CellInfo:
    """Train and evaluate one cell, unless it is there; predictions are published last.

    A killed full training goes on from its last checkpoint.
    """
    if store.exists(keys.cell_predictions(plan.id)):
        picks = store.read_table(keys.cell_picks(plan.id), ["image_id"])
        return CellInfo(plan.id, plan.method.name, plan.seed, picks.num_rows, reused=True)
    data = gather_data(store, plan)
    shown = _ON_CURVE if plan.method.name == "selected" else ()
    training, objective = plan.own_training, plan.objective
    if training.mode == "full":
        trained = _train_network(store, plan, data, shown, on_progress)
    elif objective != "fixed":
        chosen_for = ObjectiveSelection(plan.selection.id, objective)
        also_shown: tuple[Split, ...] = ("debug_val", *shown) if shown else ()
        trained = train_by_recipe(store, data, plan.encoder, training, chosen_for, also_shown)
    else:
        trained = train_on_features(store, data, plan.encoder, training)
    if plan.method.name in _SAVED_METHODS:
        with scratch_folder("model") as scratch:
            trained.save(scratch)
            for file in sorted(scratch.iterdir()):
                store.publish_file(file, keys.cell_model(plan.id, file.name))
    predictions = pa.concat_tables(
        predictions_table(plan.method.name, plan.seed, split, data.tables[split], found)
        for split, found in trained.predicted.items()
    )
    described = {
        "method": str(asdict(plan.method)),
        "training": plan.training.model_dump_json(),
        "chosen": trained.chosen,
    }
    store.write_table(keys.cell_picks(plan.id), data.picks, metadata=described)
    store.write_table(keys.cell_curve(plan.id), curve_table(trained), metadata=described)
    if plan.keeps_out_of_fold:
        found = _out_of_fold(store, plan, data, trained, predictions)
        store.write_table(keys.cell_out_of_fold(plan.id), found, metadata=described)
    store.write_table(keys.cell_predictions(plan.id), predictions, metadata=described)
    if training.mode == "full":
        _clear_checkpoints(store, plan)
    return CellInfo(plan.id, plan.method.name, plan.seed, data.picks.num_rows, reused=False)


def _out_of_fold(
    store: Store,
    plan: CellPlan,
    data: TrainingData,
    trained: TrainedModel,
    predictions: pa.Table,
) -> pa.Table:
    """schemas.OUT_OF_FOLD of a cell; a model that did not see the failures answers itself."""
    if trained.out_of_fold is not None:
        return trained.out_of_fold
    if plan.method.with_error_sample:
        return failures_out_of_fold(store, data, plan.own_training, plan.selection.id)
    failures = predictions.filter(pc.equal(predictions["split"], "error_sample"))
    right = pc.equal(failures["label"], failures["predicted"])
    return pa.table([failures["image_id"], right], schema=schemas.OUT_OF_FOLD)


def _train_network(
    store: Store,
    plan: CellPlan,
    data: TrainingData,
    shown: tuple[Split, ...],
    on_progress: Callable[[Progress], None] | None,
) -> TrainedModel:
    from dcd.cells.networks import FullTraining, train_network
    from dcd.training.checkpoints import Checkpoint

    how = FullTraining(plan.encoder, plan.own_training, plan.seed, plan.objective, shown)
    checkpoint = Checkpoint(store, keys.checkpoint(plan.id))
    return train_network(store, data, how, checkpoint, on_progress)


def _clear_checkpoints(store: Store, plan: CellPlan) -> None:
    """Remove the states of a training that is done."""
    from dcd.cells.stages import FIRST_STAGE
    from dcd.training.checkpoints import Checkpoint

    checkpoint = Checkpoint(store, keys.checkpoint(plan.id))
    checkpoint.clear()
    if plan.own_training.stage is not None:
        checkpoint.of_stage(FIRST_STAGE).clear()


def gather_data(store: Store, plan: CellPlan) -> TrainingData:
    """The tables of all splits and the picks, less those whose label the model does not know.

    Raises LabelError if the error sample has labels that train does not know.
    """
    tables: dict[Split, pa.Table] = {
        split: split_table(store, info) for split, info in plan.splits.items()
    }
    classes = tuple(sorted(set(tables["train"]["label"].to_pylist())))
    if not set(tables["error_sample"]["label"].to_pylist()) <= set(classes):
        raise LabelError("error_sample has labels that train does not know; add images of them")
    selected = None
    if plan.method.draw != "none":
        selected = store.read_table(keys.selection_picks(plan.selection.id))
    picks = draw_picks(store, plan, tables, selected)
    picks = picks.filter(pc.is_in(picks["label"], value_set=pa.array(classes)))
    targeted, reviewed, failing = pa.array([], pa.string()), None, pa.array([], pa.string())
    if selected is not None and plan.method.draw == "selection":
        targeted = aimed_picks(selected)["image_id"].combine_chunks()
        if plan.selection.reviewed_id is not None:
            reviewed = read_reviewed(store, plan.selection.reviewed_id)
            failing = failing_picks(selected)["image_id"].combine_chunks()
    return TrainingData(
        tables, plan.splits, picks, plan.pool, plan.index, classes, targeted, reviewed, failing
    )


def draw_picks(
    store: Store, plan: CellPlan, tables: Mapping[Split, pa.Table], selected: pa.Table | None
) -> pa.Table:
    """Draw the images that the method adds to train: schemas.PICKS.

    selected: the picks of the plan's selection, of which all draws take their number; None: no
    image of the pool is drawn.
    """
    method = plan.method
    if selected is None:
        picks = schemas.PICKS.empty_table()
    else:
        blocked = blocked_content(store, plan.splits)
        views = PoolViews(store, plan.index, blocked, tables["train"], plan.training)
        picks = methods.pool_picks(method, selected, plan.compare, plan.seed, views)
    if method.with_error_sample:
        weight = plan.selection.error_sample_weight if method.draw == "selection" else 1.0
        picks = methods.with_error_sample(picks, tables["error_sample"], weight)
    return picks


def curve_table(trained: TrainedModel) -> pa.Table:
    """schemas.CURVE; without rows where no ensemble was chosen."""
    rows = [
        {
            "line": schemas.BETWEEN.join(trained.line),
            "alpha": p.alpha,
            "split": split,
            "accuracy": share,
            "chosen": p.alpha == trained.alpha,
        }
        for p in trained.curve
        for split, share in p.accuracy.items()
    ]
    return pa.Table.from_pylist(rows, schemas.CURVE)

"""Judge a run: which model is the candidate, what it is compared with, and what follows.

The candidate is `selected` against the champion, where there is one for the same classes, else
against `none`. Of several seeds either the first is the candidate, named before any figure is
seen, or the best on debug_val is. Picking the best of S on the images that judge it gives a null
candidate S chances; the seeds share images, so they cannot count as independent. Testing each at
5 % / S (Bonferroni) keeps the whole at 5 %, however they depend on each other. The rounds of a goal
are as many more chances: 5 % / (S x most rounds). So are the models that debug_val has chosen among
within a seed (`dcd.gate.choices`), for the test on debug_val.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from dcd.config import RunConfig, Split
from dcd.errors import ChampionChanged, ObjectUnreadable
from dcd.evaluation.metrics import predictions_table
from dcd.gate import champions
from dcd.gate.champions import Champion
from dcd.gate.choices import n_chosen_among
from dcd.gate.decision import LEVEL, Decision, decide
from dcd.gate.record import GateOutcome, GateRecord, read_record
from dcd.sources.source import fetch
from dcd.splits.split import SplitInfo, split_table
from dcd.store import Store, keys
from dcd.tables.vectors import embedding_matrix
from dcd.training.head import LinearHead, Predictions, predict
from dcd.training.saved_heads import read_head

if TYPE_CHECKING:
    from dcd.training.saved_models import SavedModel

log = logging.getLogger(__name__)
Splits = Mapping[Split, SplitInfo]
_EVALUATION_FORMAT = 1
_JUDGED: tuple[Split, Split] = ("test", "debug_val")
_CANDIDATE = "selected"


def judge(
    store: Store,
    config: RunConfig,
    run_id: str,
    predictions: pa.Table,
    splits: Mapping[int, Splits],
    encoder_id: str,
) -> GateRecord:
    """Decide about a run whose models are saved. predictions: of all its methods and seeds."""
    if config.gate.policy == "off":
        return GateRecord(outcome="not_judged", reasons=("gate.policy is off.",))
    if config.debug_val is None:
        return GateRecord(
            outcome="not_judged",
            reasons=(
                "The config names no debug_val, so nothing can be promoted: the gate needs "
                "labelled images like the failures that no training has seen. Add a debug_val "
                "section.",
            ),
        )
    champion = champions.current(store)
    if champion is not None and champion.run_id == run_id:
        found = _written_record(store, run_id)
        if found is None:  # judged once more as it was then, not against itself
            champion = champions.before(store, champion)
        elif found.seed == champion.seed:
            return found  # what a finished run was promoted for, not its comparison with itself
    obstacle = None
    if champion is not None:
        obstacle = _other_classes(store, champion, keys.run_model(run_id, config.seeds[0]))
    against = None if obstacle else champion

    def rival(seed: int) -> pa.Table:
        if against is None:
            return _of(predictions, "none", seed)
        return champion_predictions(store, against, splits[seed], encoder_id)

    picks_best = config.gate.candidate == "best_seed"
    seeds = config.seeds if picks_best else config.seeds[:1]
    n_rounds = 1 if config.goal is None else config.goal.rounds
    level, margin = LEVEL / (len(seeds) * n_rounds), config.gate.margin_points / 100
    n_models = n_chosen_among(config)
    decisions = {
        seed: decide(
            rival(seed),
            _of(predictions, _CANDIDATE, seed),
            margin,
            level,
            config.gate.guards,
            n_models,
        )
        for seed in seeds
    }
    chosen = max(seeds, key=lambda seed: decisions[seed].debug_val.counts.difference)
    decision = decisions[chosen]
    name = "none, the model that fails"
    if against is not None:
        name = f"the champion, {against.run_id} (seed {against.seed})"
    return GateRecord(
        outcome="passed" if decision.promoted else "refused",
        reasons=(
            *decision.reasons,
            *_about_seeds(chosen, decisions, level),
            *_about_rounds(n_rounds, level),
            *_about_models(n_models, level),
        ),
        seed=chosen,
        rival=name,
        champion=None if champion is None else champion.id,
        obstacle=obstacle,
        margin_points=config.gate.margin_points,
        level=level,
        decision=decision,
    )


def _written_record(store: Store, run_id: str) -> GateRecord | None:
    try:
        return read_record(store, run_id)
    except ObjectUnreadable as err:
        log.warning("judged again: %s", err)
        return None


def settle(store: Store, config: RunConfig, run_id: str, record: GateRecord) -> GateOutcome:
    """Promote what passed, if the policy says so and the champion is still the one compared with.

    The run's model, card, gate.json and report are in the store already.
    """
    planned = foreseen(store, config, run_id, record)
    if not planned.promoted or record.seed is None:
        return planned
    try:
        champions.promote(store, run_id, record.seed, record.reasons, record.champion)
    except ChampionChanged:
        beaten = "the champion was changed meanwhile; run again to compare with the new one"
        return GateOutcome(record.model_copy(update={"obstacle": beaten}), promoted=False)
    return planned


def foreseen(store: Store, config: RunConfig, run_id: str, record: GateRecord) -> GateOutcome:
    """Say what `settle` will do if nobody changes the champion before it does."""
    now = champions.current(store)
    if now is not None and (now.run_id, now.seed) == (run_id, record.seed):
        return GateOutcome(record, promoted=True)
    if record.outcome != "passed" or record.obstacle:
        return GateOutcome(record, promoted=False)
    if config.gate.policy != "auto" or record.seed is None:
        held_back = record.model_copy(update={"obstacle": "gate.policy is decide"})
        return GateOutcome(held_back, promoted=False)
    if champions.was_rolled_back(store, run_id, record.seed):
        undone = "it was rolled back before; `dcd promote` makes it the champion again"
        return GateOutcome(record.model_copy(update={"obstacle": undone}), promoted=False)
    return GateOutcome(record, promoted=True)


def champion_predictions(
    store: Store, champion: Champion, splits: Splits, encoder_id: str
) -> pa.Table:
    """Ask the champion about a run's test and debug_val: schemas.PREDICTIONS, computed once.

    A head on the same encoder answers from cached features, as the candidate does; any other
    champion from the images. Raises DataError if its model is gone.
    """
    judged = [splits[split] for split in _JUDGED]
    evaluation = keys.evaluation(
        keys.digest(
            "evaluation",
            _EVALUATION_FORMAT,
            [champion.run_id, champion.seed, encoder_id],
            [[info.split, info.images_id] for info in judged],  # modes are not looked at
        )
    )
    if not store.exists(evaluation):
        champions.check_whole(store, champion)
        answer = _answers_of(store, champion, encoder_id)
        tables = []
        for info in judged:
            data = split_table(store, info)
            found = answer(info, data)
            tables.append(predictions_table("champion", champion.seed, info.split, data, found))
        store.write_table(evaluation, pa.concat_tables(tables))
    return store.read_table(evaluation)


def _answers_of(
    store: Store, champion: Champion, encoder_id: str
) -> Callable[[SplitInfo, pa.Table], Predictions]:
    """How a champion answers: as a head on features that are there, or from the images."""
    if _is_head_on(store, champion, encoder_id):
        head = read_head(store, champion.model) or _head(store, champion)
        return lambda _, data: predict(head, embedding_matrix(data))
    from dcd.training.saved_models import read_model

    model = read_model(store, champion.model)
    return lambda info, data: _from_images(store, model, info, data)


def _is_head_on(store: Store, champion: Champion, encoder_id: str) -> bool:
    card = store.read_json(champion.card)
    mode = card["config"]["training"]["mode"]
    return mode == "head" and card["lineage"]["encoder_id"] == encoder_id


def _head(store: Store, champion: Champion) -> LinearHead:
    from dcd.training.saved_models import linear_classifier, read_model

    model = read_model(store, champion.model)
    layer = linear_classifier(model.network)
    return LinearHead(model.classes, layer.weight.detach().numpy(), layer.bias.detach().numpy())


def _from_images(store: Store, model: "SavedModel", info: SplitInfo, data: pa.Table) -> Predictions:
    from dcd.training.finetune import predict_images

    images = fetch(store, info.source, data)
    encoded = [images[image_id] for image_id in data["image_id"].to_pylist()]
    return predict_images(model.network, encoded, model.classes, model.preprocess)


def _of(predictions: pa.Table, method: str, seed: int) -> pa.Table:
    return predictions.filter(
        pc.and_(pc.equal(predictions["model"], method), pc.equal(predictions["seed"], seed))
    )


def _other_classes(store: Store, champion: Champion, model: str) -> str | None:
    """Why a candidate cannot take over from this champion: it answers for other classes."""
    mine, theirs = set(champions.classes_of(store, model)), set(champion.classes)
    if mine == theirs:
        return None
    differing = sorted(mine ^ theirs)
    return (
        f"the champion, {champion.run_id}, knows other classes ({', '.join(differing[:5])}"
        f"{', …' if len(differing) > 5 else ''}); use another store, or `dcd promote` by hand"
    )


def _about_rounds(n_rounds: int, level: float) -> Sequence[str]:
    if n_rounds == 1:
        return ()
    return (
        f"The model is the best on debug_val of up to {n_rounds} rounds; as those images picked "
        f"it, it was tested at {100 * level:.3g} %.",
    )


def _about_models(n_models: int, level: float) -> Sequence[str]:
    if n_models == 1:
        return ()
    return (
        f"Training chose it on debug_val among up to {n_models} models; as those images picked it, "
        f"it was tested on them at {100 * level / n_models:.2g} %.",
    )


def _about_seeds(chosen: int, decisions: Mapping[int, Decision], level: float) -> Sequence[str]:
    if len(decisions) == 1:
        return ()
    passed = sum(decision.promoted for decision in decisions.values())
    return (
        f"Seed {chosen} gained most on debug_val of {len(decisions)} seeds, of which {passed} "
        f"passed; as it was picked by those images, each seed was tested at {100 * level:.3g} %.",
    )

"""Twenty redraws of the public splits: does what is chosen hold where nobody looked before?

Within the labelled images of a public seed, error_sample, debug_val and debug_heldout are drawn
anew among themselves (some failure modes left out, fewer or more failures), train and test among
themselves, and the pool is thinned to a half or a fifth, or left with more of its failing kind.
Each redraw goes from splits to gate, on the vectors that `make cifar10n cifar100 domains` left in
the store: it searches, estimates, judges, chooses and asks the gate with the product's functions,
but writes no tables and leaves near copies in. All heads, those of the baselines too, are the ones
that the recipe judges with, on 512 principal directions: a point or two below the final ones.

python -m benchmarks.redraws [--draws N] [--only NAME] [--keep FOLDER] [--json FILE]; the data must
lie beside the checkout, in ../shared/data. The draws are fixed by their number. With --keep the
heads of every redraw and what cross-validation says of them stay in FOLDER: a second run takes
seconds, goes on where the first one ended, and judges them by the rule as it is then.
"""

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from benchmarks.real import benchmark_config
from dcd.cells.candidates import Candidates
from dcd.cells.cross_fitting import HeldOutLogits, judge_ends
from dcd.cells.lines import BASELINES, ENDS
from dcd.cells.recipe import judge_points
from dcd.config import RunConfig, SelectionConfig, TrainingConfig, load_config
from dcd.errors import DataError
from dcd.evaluation.choice import choose_model
from dcd.evaluation.metrics import predictions_table
from dcd.gate.decision import decide
from dcd.label_noise.agreement import fit_reference, label_agreement
from dcd.label_noise.noise_matrix import estimate_noise
from dcd.selection.picks import limit_targeted_share
from dcd.sources.source import sources
from dcd.tables.vectors import embedding_matrix
from dcd.training.head import LinearHead, predict
from dcd.training.head_average import average_heads
from dcd.training.losses import LabelDoubt, joined

_HOME = Path(__file__).parent
BENCHMARKS = ("cifar10n", "cifar100", "domains")
THINNING = ("all", "half", "fifth", "more_failing")
N_DRAWS = 20
MARGINS = (0.5, 1.5)  # of the gate, in points: its default; what a test of 1,000 images can decide
RULES = ("fixed", "failures_first", "both")  # what the gate is asked about
_FAILING = ("error_sample", "debug_val", "debug_heldout")


@dataclass(frozen=True)
class Draw:
    """What is changed in one redraw. error_sample and debug_val: images of each mode."""

    number: int
    benchmark: str
    seed: int
    n_modes_left_out: int
    error_sample: int
    debug_val: int
    thinning: str


@dataclass(frozen=True)
class Outcome:
    """Accuracy in per cent by method, on debug_heldout and test, and what the gate said.

    passed: by rule the margins, of MARGINS, at which it passes. reasons: at the first of them.
    chosen: the models that the rules have taken.
    """

    draw: Draw
    debug_heldout: dict[str, float]
    test: dict[str, float]
    passed: dict[str, tuple[float, ...]]
    reasons: dict[str, tuple[str, ...]]
    chosen: dict[str, str]

    def dominated_by(self, method: str) -> list[str]:
        """The baselines that are better than the method on both axes."""
        return [
            b
            for b in BASELINES
            if self.debug_heldout[b] > self.debug_heldout[method]
            and self.test[b] > self.test[method]
        ]


def plan_draws(n: int = N_DRAWS) -> list[Draw]:
    """The draws, always the same; every benchmark and every thinning has its turn."""
    draws = []
    for number in range(n):
        rng = np.random.default_rng(1500 + number)
        name = BENCHMARKS[number % len(BENCHMARKS)]
        few, usual, many = (4, 8, 12) if name == "domains" else (10, 20, 30)
        draws.append(
            Draw(
                number,
                name,
                seed=int(rng.integers(3)),
                n_modes_left_out=int(rng.integers(3)),
                error_sample=int(rng.choice([few, usual, many])),
                debug_val=usual,
                thinning=THINNING[(number // len(BENCHMARKS)) % len(THINNING)],
            )
        )
    return draws


def redrawn_splits(splits: pa.Table, draw: Draw, by_label: bool) -> pa.Table:
    """image_id, role, label, mode with the roles drawn anew. by_label: its classes are modes."""
    rng = np.random.default_rng(2500 + draw.number)
    rows = splits.to_pylist()
    modes: dict[str, list[dict[str, str]]] = {}
    for row in (row for row in rows if row["role"] in _FAILING):
        modes.setdefault(str(row["label"] if by_label else row["mode"]), []).append(row)
    left_out = set(rng.permutation(sorted(modes))[: draw.n_modes_left_out].tolist())
    drawn = []
    for mode, members in sorted(modes.items()):
        if mode in left_out:
            continue
        # A mode keeps at least a third of its images for debug_heldout.
        n_error = min(draw.error_sample, len(members) // 3)
        n_val = min(draw.debug_val, len(members) // 3)
        for place, i in enumerate(rng.permutation(len(members)).tolist()):
            role = "debug_heldout"
            if place < n_error + n_val:
                role = "error_sample" if place < n_error else "debug_val"
            drawn.append({**members[i], "role": role})
    usual = [row for row in rows if row["role"] in ("train", "test")]
    n_train: dict[str, int] = {}
    for row in usual:
        n_train[row["label"]] = n_train.get(row["label"], 0) + (row["role"] == "train")
    for i in rng.permutation(len(usual)).tolist():
        n_train[usual[i]["label"]] -= 1
        role = "train" if n_train[usual[i]["label"]] >= 0 else "test"
        drawn.append({**usual[i], "role": role})
    return pa.Table.from_pylist(drawn, splits.schema)


def thinned_pool(pool: pa.Table, failing_kind: np.ndarray, draw: Draw) -> pa.Table:
    """What is left of the pool, in its order.

    failing_kind: (P,) bool, which images are of the failing kind: kept whole by more_failing, which
    halves the others.
    """
    rng = np.random.default_rng(3500 + draw.number)
    share = {"all": 1.0, "half": 0.5, "fifth": 0.2, "more_failing": 0.5}[draw.thinning]
    kept = rng.random(pool.num_rows) < share
    if draw.thinning == "more_failing":
        kept |= failing_kind
    return pool.filter(pa.array(kept))


@dataclass(frozen=True, eq=False)
class Pack:
    """A benchmark's vectors: of the pool, and of all images by id.

    pool: schemas.embeddings. images: the same of every image that a split may name. kind: domain or
    label of every pool image, by id.
    """

    config: RunConfig
    pool: pa.Table
    images: pa.Table
    kind: Mapping[str, str]

    def split(self, splits: pa.Table, role: str) -> pa.Table:
        """image_id, label, mode, embedding of a role."""
        rows = splits.filter(pc.equal(splits["role"], role))
        at = pc.index_in(rows["image_id"], value_set=self.images["image_id"])
        return rows.append_column("embedding", self.images["embedding"].take(at).combine_chunks())


@lru_cache(maxsize=3)
def read_pack(name: str) -> Pack:
    """Read what `make NAME` has embedded. Raises DataError where it has not been run."""
    config = load_config(_HOME / f"{name}.yaml")
    tables = []
    for source in sources(config):
        files = sorted(Path(config.store, "embeddings", source.id).glob("*/*.parquet"))
        if not files:
            raise DataError(f"{name}: {source.id} is not embedded in {config.store}; make {name}")
        tables.append(pa.concat_tables(pq.read_table(file) for file in files))
    images = pa.concat_tables(tables).combine_chunks()
    truth = pq.read_table(_data(config) / "truth.parquet")
    column = "domain" if name == "domains" else "label"
    kind = dict(zip(truth["image_id"].to_pylist(), truth[column].to_pylist(), strict=True))
    return Pack(config, tables[0], images, kind)


def _data(config: RunConfig) -> Path:
    assert config.train.labels is not None
    return Path(config.train.labels).parent.parent


def _is_failing_kind(pack: Pack, splits: pa.Table, draw: Draw) -> np.ndarray:
    """Which pool images are of the failing kind: cartoons, or of a class that fails."""
    failing = splits.filter(pc.equal(splits["role"], "error_sample"))["label"].to_pylist()
    wanted = {"cartoon"} if draw.benchmark == "domains" else set(failing)
    return np.array([pack.kind.get(i) in wanted for i in pack.pool["image_id"].to_pylist()])


def nearest_in_label(
    failures: pa.Table, pool: pa.Table, agreement: np.ndarray, config: SelectionConfig
) -> np.ndarray:
    """(A, 2): places of a pool image and of the failure that it is picked for."""
    queries, vectors = embedding_matrix(failures), embedding_matrix(pool)
    weak = np.array(pool["weak_label"].to_pylist())
    pairs = []
    for i, label in enumerate(failures["label"].to_pylist()):
        at = np.flatnonzero((weak == label) & (agreement >= config.min_agreement))
        distance = np.linalg.norm(vectors[at] - queries[i], axis=1)
        nearest = at[np.argsort(distance, kind="stable")[: config.k]]
        pairs.append(np.stack([nearest, np.full(len(nearest), i)], axis=1))
    return np.concatenate(pairs)


def candidates_of(pack: Pack, splits: pa.Table, pool: pa.Table) -> Candidates:
    """What a run of these splits and this pool would hand to the recipe, near copies left in."""
    selection = pack.config.selection
    train, failures = (pack.split(splits, role) for role in ("train", "error_sample"))
    classes = tuple(sorted(set(train["label"].to_pylist())))
    agreement = label_agreement(fit_reference(pool), pool)
    asked = nearest_in_label(failures, pool, agreement, selection)
    targeted = np.isin(np.arange(pool.num_rows), asked[:, 0])
    role = pa.array(np.where(targeted, "targeted", "general"))
    weight = np.where(targeted, selection.pick_weight, selection.general_weight)
    picks = limit_targeted_share(
        pa.table({"role": role, "weight": pa.array(weight.astype(np.float32))}),
        train.num_rows,
        failures.num_rows,
        selection.error_sample_weight,
        selection.max_targeted_share,
    )
    weak = pool["weak_label"].to_pylist()
    codes = np.searchsorted(classes, weak)
    known, vectors = embedding_matrix(train), embedding_matrix(pool)
    noise = estimate_noise(known, train["label"].to_pylist(), vectors, codes, classes)
    doubt = LabelDoubt(np.ones(len(weak), bool), np.empty((len(weak), 0), np.int64), noise.matrix)
    certain = LabelDoubt.none(train.num_rows), LabelDoubt.none(failures.num_rows)
    return Candidates(
        features=np.concatenate([known, vectors, embedding_matrix(failures)]),
        labels=[*train["label"].to_pylist(), *weak, *failures["label"].to_pylist()],
        classes=classes,
        n_train=train.num_rows,
        agreement=agreement,
        added_weight=np.r_[
            picks.picks["weight"].to_numpy(),
            np.full(failures.num_rows, picks.error_sample_weight),
        ],
        asked=asked,
        unasked_weight=selection.general_weight,
        doubt=joined([certain[0], doubt, certain[1]]),
    )


@dataclass(frozen=True, eq=False)
class Ends:
    """The heads of a redraw by end, on raw features, and what cross-validation says of them."""

    heads: dict[str, LinearHead]
    held_out: HeldOutLogits

    def save(self, path: Path) -> None:
        arrays = {
            "val_truth": self.held_out.val_truth,
            "failures_truth": self.held_out.failures_truth,
            "classes": np.array(next(iter(self.heads.values())).classes),
        }
        for end, head in self.heads.items():
            arrays |= {f"{end}.weight": head.weight, f"{end}.bias": head.bias}
            arrays |= {f"{end}.val": self.held_out.val[end]}
            arrays |= {f"{end}.failures": self.held_out.failures[end]}
        path.parent.mkdir(parents=True, exist_ok=True)
        np.savez(path, allow_pickle=False, **arrays)

    @classmethod
    def load(cls, path: Path) -> "Ends":
        with np.load(path, allow_pickle=False) as found:
            classes = tuple(found["classes"].tolist())
            heads = {e: LinearHead(classes, found[f"{e}.weight"], found[f"{e}.bias"]) for e in ENDS}
            val, failures = ({e: found[f"{e}.{of}"] for e in ENDS} for of in ("val", "failures"))
            return cls(
                heads, HeldOutLogits(val, failures, found["val_truth"], found["failures_truth"])
            )


def judged(candidates: Candidates, config: TrainingConfig) -> Ends:
    ends = judge_ends(candidates, config)
    heads = {end: ends.compression.expand(head) for end, head in ends.starts.items()}
    return Ends(heads, ends.held_out)


def run(draw: Draw, pack: Pack, kept: Path | None) -> Outcome:
    """One redraw from its splits to the gate, on vectors that are there. kept: of its ends."""
    given = pq.read_table(_data(pack.config) / "splits" / f"seed{draw.seed}.parquet")
    splits = redrawn_splits(given, draw, by_label=draw.benchmark == "domains")
    if kept is not None and kept.exists():
        ends = Ends.load(kept)
    else:
        left = thinned_pool(pack.pool, _is_failing_kind(pack, splits, draw), draw)
        left = left.filter(pc.invert(pc.is_in(left["image_id"], value_set=splits["image_id"])))
        candidates = candidates_of(pack, splits, left.combine_chunks())
        ends = judged(candidates, pack.config.training)
        if kept is not None:
            ends.save(kept)
    points = judge_points(ends.held_out)
    first, both = (
        points[choose_model(points, BASELINES, objective).index]
        for objective in ("failures_first", "both")
    )
    heads = {end: ends.heads[end] for end in BASELINES}
    heads |= {
        "fixed": ends.heads["targeted"],
        "failures_first": average_heads(ends.heads, first.shares),
        "both": average_heads(ends.heads, both.shares),
    }
    found: dict[str, pa.Table] = {}
    for name, head in heads.items():
        found[name] = pa.concat_tables(
            predictions_table(name, draw.seed, role, rows, predict(head, embedding_matrix(rows)))
            for role in ("test", "debug_val", "debug_heldout")
            for rows in [pack.split(splits, role)]
        )
    decisions = {
        method: {margin: decide(found["none"], found[method], margin / 100) for margin in MARGINS}
        for method in RULES
    }
    return Outcome(
        draw,
        {name: _accuracy(table, "debug_heldout") for name, table in found.items()},
        {name: _accuracy(table, "test") for name, table in found.items()},
        {
            method: tuple(margin for margin, decision in of.items() if decision.promoted)
            for method, of in decisions.items()
        },
        {method: of[MARGINS[0]].reasons for method, of in decisions.items()},
        {"failures_first": first.name, "both": both.name},
    )


def _accuracy(predictions: pa.Table, split: str) -> float:
    rows = predictions.filter(pc.equal(predictions["split"], split))
    return 100 * float(pc.mean(pc.equal(rows["label"], rows["predicted"]).cast(pa.int8())).as_py())


def table(outcomes: Sequence[Outcome]) -> str:
    """A row a redraw, then how often what was asked for held."""
    shown = (*BASELINES, *RULES)
    lines = [
        f"| draw | data, seed | modes left out | failures a mode | pool | {' | '.join(shown)} "
        "| failures_first: dominated by | gate |",
        "|---|---|---|---|---|" + "---|" * (len(shown) + 2),
    ]
    for o in outcomes:
        d = o.draw
        cells = [
            str(d.number),
            f"{d.benchmark}, {d.seed}",
            str(d.n_modes_left_out),
            str(d.error_sample),
            d.thinning,
            *(f"{o.debug_heldout[m]:.1f} / {o.test[m]:.1f}" for m in shown),
            ", ".join(o.dominated_by("failures_first")) or "none",
            "passed" if MARGINS[0] in o.passed["failures_first"] else "refused",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    lines += [
        "",
        f"debug_heldout / test in per cent, {len(outcomes)} redraws:",
        "",
        "| | dominated by a baseline | gate passes at "
        + " | at ".join(f"{margin:g}" for margin in MARGINS)
        + " | test behind none by more than 0.2 | mean |",
        "|---|---|" + "---|" * (len(MARGINS) + 2),
    ]
    for rule in RULES:
        passes = [sum(margin in o.passed[rule] for o in outcomes) for margin in MARGINS]
        behind = sum(o.test[rule] < o.test["none"] - 0.2 for o in outcomes)
        mean = " / ".join(
            f"{np.mean([of[rule] for of in found]):.1f}"
            for found in ([o.debug_heldout for o in outcomes], [o.test for o in outcomes])
        )
        n_dominated = sum(bool(o.dominated_by(rule)) for o in outcomes)
        counts = " | ".join(str(n) for n in (n_dominated, *passes, behind))
        lines.append(f"| {rule} | {counts} | {mean} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--draws", type=int, default=N_DRAWS, help="how many, from the first")
    parser.add_argument("--only", choices=BENCHMARKS, help="those of one benchmark")
    parser.add_argument("--keep", type=Path, help="keep the judged heads there, and use them")
    parser.add_argument("--json", type=Path, help="write the outcomes there")
    args = parser.parse_args()
    draws = [d for d in plan_draws(args.draws) if args.only in (None, d.benchmark)]
    for name in sorted({d.benchmark for d in draws}):
        benchmark_config(name)
    outcomes = []
    for draw in draws:
        kept = None if args.keep is None else args.keep / f"{draw.number}.npz"
        outcomes.append(run(draw, read_pack(draw.benchmark), kept))
        print(table(outcomes[-1:]).splitlines()[2], flush=True)
        if args.json is not None:
            found = [asdict(outcome) for outcome in outcomes]
            args.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    print(table(outcomes))


if __name__ == "__main__":
    main()

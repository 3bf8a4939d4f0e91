"""Full training in two stages (`dcd.cells.stages`) on a GPU, over a grid of settings.

On the machine that has the data, once (minutes; embeds and selects on the CPU):

    python -m benchmarks.gpu.full prepare benchmarks/cifar100_full.yaml .gpu/cifar100 --seeds 0 1 2

It prints what to carry: 28.5 MiB for cifar100 and 34.2 MiB for cifar10n, three seeds each. On the
machine with the GPU, which needs that folder, this checkout, and torch, timm, torchvision, pyarrow,
scikit-learn, fsspec, aiohttp, pydantic, botocore and jmespath (no Prefect, DuckDB or faiss; of
botocore the folder `data` is not needed, which leaves 11 MiB for what comes with pydantic and
botocore):

    PYTHONPATH=.gpu/site python3 -m benchmarks.gpu.full run .gpu/cifar100 --seeds 0 1 2 \
        --device cuda --batch-size 256 --pool-learning-rates 0.002 --learning-rates 0.0005 0.001 \
        --shares 0.5 0.8 --json full-cifar100.json

`run` trains and judges, for each seed: none (train alone), whole_pool (the first stage's end),
targeted (the second's), the line between them, and with --at-once what one stage makes of the same
images. Beside them stand the choices that each objective makes on debug_val and val alone. With
--keep FOLDER the end networks and the logits of all points of the lines stay there, so that another
rule of choice costs no training (`benchmarks.gpu.full_choices`).
"""

import argparse
import copy
import itertools
import json
import resource
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import timm
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from dcd.cells.stages import (
    NONE,
    TARGETED,
    WHOLE_POOL,
    Ends,
    StagedData,
    candidate,
    choose_point,
    points,
    second_stage,
)
from dcd.config import PoolStageConfig, Split, TrainingConfig
from dcd.evaluation.choice import Answers, Candidate
from dcd.images.preprocess import Preprocess
from dcd.training.batches import evaluation_batches, normalised
from dcd.training.data import LabelledImages, Recipe
from dcd.training.finetune import finetune
from dcd.training.head import LinearHead
from dcd.training.losses import LabelDoubt
from dcd.training.retrain import HeldOut, together
from dcd.training.saved_models import with_head

JUDGING = ("val", "debug_val", "debug_heldout", "test")
POOL_VAL = "pool_val"  # pool images that no stage has seen, by their weak labels
OBJECTIVES = ("failures_first", "both")
_IMAGES, _NETWORK, _CASE = "images.parquet", "network.safetensors", "case.json"


@dataclass(frozen=True)
class Grid:
    """Settings to try, each with each; first those of the pool's stage."""

    starts: Sequence[str]
    pool_epochs: Sequence[int]
    pool_learning_rates: Sequence[float]
    epochs: Sequence[int]
    learning_rates: Sequence[float]
    shares: Sequence[float]
    batch_size: int
    layer_decay: float
    few: bool
    pool_val: int
    pool_images: int | None
    test_images: int | None


@dataclass(frozen=True)
class Prepared:
    """One seed of a case as `prepare` left it. val_share: that the starting heads did not see."""

    classes: tuple[str, ...]
    preprocess: Preprocess
    splits: dict[Split, LabelledImages]
    added: LabelledImages
    is_pool: np.ndarray
    is_aimed: np.ndarray
    val_share: float
    begin: Callable[[str], nn.Module]


def prepare(config_path: Path, folder: Path, seeds: Sequence[int], general_images: int) -> None:
    """Embed, index and select as the product does, and write what `run` needs to the folder."""
    from benchmarks.gpu.full_case import write_case

    folder.mkdir(parents=True, exist_ok=True)
    write_case(config_path, folder, seeds, general_images)
    total = 0
    for file in sorted(folder.iterdir()):
        total += file.stat().st_size
        print(f"{file.stat().st_size / 2**20:6.1f} MiB  {file}")
    print(f"{total / 2**20:6.1f} MiB  to carry")


def read(folder: Path, seed: int) -> Prepared:
    """Read one seed; image bytes are held in memory."""
    case = json.loads((folder / _CASE).read_text())
    described: dict[str, Any] = case["preprocess"]
    described.update({name: tuple(described[name]) for name in ("mean", "std")})
    table = pq.read_table(folder / _IMAGES)
    image_of = dict(zip(table["image_id"].to_pylist(), table["image"].to_pylist(), strict=True))
    with np.load(folder / f"seed{seed}.npz") as arrays:
        found = {name: arrays[name] for name in arrays.files}
    classes = tuple(found["classes"].tolist())

    def images(name: str) -> LabelledImages:
        ids = found[f"{name}_ids"].tolist()
        return LabelledImages([image_of[i] for i in ids], found[f"{name}_labels"].tolist())

    def begin(head: str) -> nn.Module:
        network = timm.create_model(case["model"], num_classes=0)
        network.load_state_dict(load_file(folder / _NETWORK))
        fitted = LinearHead(classes, found[f"{head}_weight"], found[f"{head}_bias"])
        return with_head(network.eval(), fitted)

    is_pool = found["is_pool"]
    doubt = LabelDoubt(is_pool, np.empty((len(is_pool), 0), np.int64), found["noise"])
    return Prepared(
        classes,
        Preprocess(**described),
        {split: images(split) for split in ("train", *JUDGING[1:])},
        replace(images("added"), weight=found["added_weights"], doubt=doubt),
        is_pool,
        found["is_aimed"],
        case["val_share"],
        begin,
    )


@dataclass(frozen=True)
class Judge:
    """The images of one split, decoded once, on the device. truth: (N,) class indices."""

    pixels: torch.Tensor
    truth: np.ndarray
    preprocess: Preprocess

    @classmethod
    def of(cls, data: LabelledImages, case: Prepared, device: torch.device) -> "Judge":
        batches = list(evaluation_batches(data.images, case.preprocess, 256, device))
        truth = np.array([case.classes.index(label) for label in data.labels])
        return cls(torch.cat(batches).to(device), truth, case.preprocess)

    @torch.inference_mode()
    def asked(self, network: nn.Module) -> Answers:
        """What a network says of them."""
        network.eval()
        found = [
            network(normalised(part, self.preprocess, part.device)).cpu()
            for part in self.pixels.split(256)
        ]
        return Answers(torch.cat(found).numpy(), self.truth)


@dataclass(frozen=True)
class Trained:
    """A network and what its training took."""

    network: nn.Module
    seconds: float
    peak_mib: int
    n_images: int

    def told(self) -> dict[str, float]:
        return {"seconds": self.seconds, "gpu_peak_mib": self.peak_mib, "n_images": self.n_images}


class Measurement:
    """One seed: trains and judges, and keeps what it finds as rows."""

    def __init__(
        self, case: Prepared, seed: int, grid: Grid, device: str, keep: Path | None = None
    ):
        self.keep = keep
        self.logits: dict[str, np.ndarray] = {}
        self.case, self.grid, self.device = case, grid, torch.device(device)
        self.base: dict[str, Any] = {"seed": seed}
        self.config = TrainingConfig(
            mode="full",
            device="cuda" if device == "cuda" else "cpu",
            batch_size=grid.batch_size,
            layer_decay=grid.layer_decay,
            val_share=case.val_share,
            pool_stage=PoolStageConfig(),
        )
        self.seed = seed
        self.held_out = HeldOut.of(case.splits["train"], self.recipe())
        judged, learnt = pool_rows(case, grid, seed)
        kept = np.flatnonzero(learnt)
        self.data = StagedData.of(
            case.splits, case.added.rows(kept), case.is_pool[kept], case.is_aimed[kept]
        )
        judging = {"val": self.held_out.val} | {s: case.splits[s] for s in JUDGING[1:]}
        if grid.test_images is not None:
            rows = np.random.default_rng(0).permutation(len(judging["test"]))
            judging["test"] = judging["test"].take(np.sort(rows[: grid.test_images]))
        if judged.any():
            judging[POOL_VAL] = case.added.take(np.flatnonzero(judged))
        self.judges = {s: Judge.of(data, case, self.device) for s, data in judging.items()}
        self.rows: list[dict[str, Any]] = []
        self.none = case.begin("none").to(self.device)
        self.note(NONE, self.none, {})

    def recipe(self, **settings: Any) -> Recipe:
        config = self.config.model_copy(update=settings)
        return Recipe(self.case.classes, self.case.preprocess, config, self.seed)

    def note(
        self,
        model: str,
        network: nn.Module,
        told: dict[str, Any],
        shares: dict[str, float] | None = None,
        splits: Sequence[str] = JUDGING,
    ) -> dict[str, Answers]:
        """Judge a network and keep the row. Gives what it says of each split."""
        found = {split: self.judges[split].asked(network) for split in splits}
        if self.keep and (model == "line" or not self.logits):
            at = ",".join(f"{end}={share:g}" for end, share in (shares or {model: 1.0}).items())
            self.logits |= {f"{split} {at}": answers.logits for split, answers in found.items()}
        accuracy = {s: round(100 * float(of.right.mean()), 2) for s, of in found.items()}
        named = {"model": model, "shares": shares or {model: 1.0}}
        self.rows.append(self.base | named | told | accuracy)
        return found

    def train(self, network: nn.Module, data: LabelledImages, recipe: Recipe) -> Trained:
        torch.cuda.reset_peak_memory_stats() if self.device.type == "cuda" else None
        started = time.perf_counter()
        trained = finetune(network, data, recipe)
        seconds = time.perf_counter() - started
        peak = torch.cuda.max_memory_allocated() if self.device.type == "cuda" else 0
        return Trained(trained, round(seconds, 1), round(peak / 2**20), len(data))

    def run(self, at_once: bool) -> None:
        grid = self.grid
        if not grid.few:
            epochs, rate = grid.epochs[0], grid.learning_rates[0]
            alone = self.recipe(epochs=epochs, learning_rate=rate)
            none = self.train(self.case.begin("none"), self.held_out.kept, alone)
            settings = {"epochs": epochs, "learning_rate": rate}
            self.note("none_finetuned", none.network, none.told() | settings)
        for start, pool_epochs, pool_rate in itertools.product(
            grid.starts, grid.pool_epochs, grid.pool_learning_rates
        ):
            told = {"start": start, "pool_epochs": pool_epochs, "pool_learning_rate": pool_rate}
            recipe = self.recipe(epochs=pool_epochs, learning_rate=pool_rate)
            learnt = together(self.held_out.kept, self.data.pool, self.config)
            first = self.train(self.case.begin(start), learnt, recipe)
            print(f"first stage: {first.told()}", flush=True)
            self.note("whole_pool_stage", first.network, told | first.told())
            self._second_stages(first.network, told)
            if at_once:
                learnt = together(self.held_out.kept, self.case.added, self.config)
                every = self.train(self.case.begin(start), learnt, recipe)
                self.note("selected_at_once", every.network, told | every.told())

    def _second_stages(self, first: nn.Module, told: dict[str, Any]) -> None:
        for epochs, rate, share in itertools.product(
            self.grid.epochs, self.grid.learning_rates, self.grid.shares
        ):
            stage = PoolStageConfig(max_targeted_share=share)
            recipe = self.recipe(epochs=epochs, learning_rate=rate, pool_stage=stage)
            learnt = second_stage(self.held_out.kept, self.data.aimed, recipe.config)
            second = self.train(copy.deepcopy(first), learnt, recipe)
            settings = told | {"epochs": epochs, "learning_rate": rate, "share": share}
            print(f"second stage: {second.told()}", flush=True)
            networks = {NONE: self.none, WHOLE_POOL: first, TARGETED: second.network}
            ends = Ends(networks, self.held_out.val, learnt)
            self.note("targeted_stage", second.network, settings | second.told())
            judged = [self._on_line(ends, shares, recipe, settings) for shares in points()]
            self._keep(networks)
            for objective in OBJECTIVES:
                choice = choose_point(judged, objective)
                shares = dict(judged[choice.index].shares)
                chosen = settings | {"reason": choice.reason}
                self.note(objective, ends.at(shares, recipe), chosen, shares)

    def _on_line(
        self, ends: Ends, shares: dict[str, float], recipe: Recipe, told: dict[str, Any]
    ) -> Candidate:
        of_pool = (POOL_VAL,) if POOL_VAL in self.judges and NONE not in shares else ()
        # What lies before the first stage's end is of little interest, and a CPU pays for each.
        few = self.grid.few and not (self.keep and NONE not in shares)
        splits = (*(JUDGING[:2] if few else JUDGING), *of_pool)
        found = self.note("line", ends.at(shares, recipe), told, shares, splits)
        return candidate(shares, found["val"], found["debug_val"])

    def _keep(self, networks: dict[str, nn.Module]) -> None:
        """Write logits and ends of the latest second stage, which replace those of one before."""
        if self.keep is None:
            return
        self.keep.mkdir(parents=True, exist_ok=True)
        truth = {f"{split} truth": judge.truth for split, judge in self.judges.items()}
        file = self.keep / f"seed{self.seed}.npz"
        np.savez_compressed(file, allow_pickle=False, **self.logits, **truth)
        for end, network in networks.items():
            state = {name: value.cpu().contiguous() for name, value in network.state_dict().items()}
            save_file(state, self.keep / f"seed{self.seed}-{end}.safetensors")


def pool_rows(case: Prepared, grid: Grid, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Draw what no stage sees of the pool, and tell what the stages learn: (N,) bool each.

    All that is aimed at the failures is learnt; of the rest as many as the grid says.
    """
    judged = np.zeros(len(case.is_pool), bool)
    free = np.random.default_rng(seed).permutation(np.flatnonzero(case.is_pool & ~case.is_aimed))
    judged[free[: grid.pool_val]] = True
    learnt = ~judged
    if grid.pool_images is not None:
        learnt[free[grid.pool_val + grid.pool_images :]] = False
    return judged, learnt


def table(rows: Sequence[dict[str, Any]]) -> Iterator[str]:
    """The rows as lines of Markdown; of the lines between ends every other point."""
    yield "| seed | model | settings | val | debug_val | debug_heldout | test | s |"
    yield "|---|---|---|---|---|---|---|---|"
    for row in rows:
        names = ("start", "pool_epochs", "pool_learning_rate", "epochs", "learning_rate", "share")
        settings = " ".join(str(row[name]) for name in names if name in row)
        shares = " + ".join(f"{share:g} {end}" for end, share in row["shares"].items())
        name = row["model"] if row["model"] == shares else f"{row['model']}: {shares}"
        accuracy = " | ".join(f"{row[split]:.1f}" for split in JUDGING)
        yield f"| {row['seed']} | {name} | {settings} | {accuracy} | {row.get('seconds', '')} |"


def run(
    folder: Path, seeds: Sequence[int], grid: Grid, device: str, at_once: bool, keep: Path | None
) -> Iterator[dict[str, Any]]:
    """Measure seed by seed; each row is one network judged. Yields all that is known so far."""
    rows: list[dict[str, Any]] = []
    for seed in seeds:
        started = time.perf_counter()
        measured = Measurement(read(folder, seed), seed, grid, device, keep)
        print(f"seed {seed}: read in {time.perf_counter() - started:.1f} s", flush=True)
        measured.run(at_once)
        rows += measured.rows
        print(*table([r for r in measured.rows if r["model"] != "line"]), sep="\n", flush=True)
        print(f"seed {seed}: {time.perf_counter() - started:.1f} s", flush=True)
        rss_mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
        yield {"folder": str(folder), "grid": asdict(grid), "host_peak_mib": rss_mib, "rows": rows}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    preparing = commands.add_parser("prepare")
    preparing.add_argument("config", type=Path)
    preparing.add_argument("folder", type=Path)
    preparing.add_argument("--seeds", type=int, nargs="+", default=[0])
    preparing.add_argument(
        "--general-images", type=int, default=50_000, help="at most, for the first stage"
    )
    running = commands.add_parser("run")
    running.add_argument("folder", type=Path)
    running.add_argument("--seeds", type=int, nargs="+", default=[0])
    running.add_argument("--device", choices=("cpu", "cuda"), default="cuda")
    running.add_argument("--json", type=Path)
    running.add_argument("--at-once", action="store_true")
    running.add_argument(
        "--few",
        action="store_true",
        help="For a CPU: test and debug_heldout of the ends and choices only; no none_finetuned.",
    )
    running.add_argument("--keep", type=Path, help="folder for logits of the lines, and the ends")
    running.add_argument(
        "--pool-val", type=int, default=0, help="pool images to hold out of both stages"
    )
    running.add_argument("--pool-images", type=int, help="learn so many that are not aimed")
    running.add_argument("--test-images", type=int, help="judge on a sample of test")
    running.add_argument("--starts", nargs="+", choices=("none", "probe"), default=["probe"])
    running.add_argument("--pool-epochs", type=int, nargs="+", default=[4])
    running.add_argument("--pool-learning-rates", type=float, nargs="+", default=[1e-3])
    running.add_argument("--epochs", type=int, nargs="+", default=[2])
    running.add_argument("--learning-rates", type=float, nargs="+", default=[5e-4])
    running.add_argument("--shares", type=float, nargs="+", default=[0.5])
    running.add_argument("--batch-size", type=int, default=64)
    running.add_argument("--layer-decay", type=float, default=0.9)
    args = parser.parse_args()
    if args.command == "prepare":
        prepare(args.config, args.folder, args.seeds, args.general_images)
        return
    names = Grid.__dataclass_fields__
    grid = Grid(**{name: getattr(args, name) for name in names})
    for found in run(args.folder, args.seeds, grid, args.device, args.at_once, args.keep):
        if args.json:
            args.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

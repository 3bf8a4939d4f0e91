"""Open a user's model, in any of its forms, and ask it about the images of a data set."""

import json
import logging
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from torch import nn

from dcd.config import DataConfig, StartConfig
from dcd.errors import DataError, EncoderError, LabelError
from dcd.gate import champions
from dcd.images.decode import BadImage, decode
from dcd.images.preprocess import Preprocess, to_input
from dcd.progress import live
from dcd.sources.listing import look_through
from dcd.sources.records import RawImage, Reject, Shard
from dcd.sources.shards import read_shard
from dcd.splits.label_table import read_labels
from dcd.store import Store, keys
from dcd.tables.labels import label_text
from dcd.tables.schemas import content_hash
from dcd.training.batches import normalised
from dcd.training.saved_models import SavedModel, linear_classifier, load_model, read_model
from dcd.training.user_model import load_start

log = logging.getLogger(__name__)
_BATCH = 64
_DECODERS = 2
_NUMBER = re.compile(r"""["']?(\d{1,6})["']?\s*[\s,:;=]\s*\S""")  # of a line of a numbered list


@dataclass(frozen=True)
class Answers:
    """What a model says of N labelled images.

    rows: image_id, label, shard, content (binary digest), predicted, confidence. features: (N, D)
    float16, penultimate layer. Not in it: n_rejected broken images, n_unlabelled ones, and
    n_unknown whose label the model does not know.
    """

    rows: pa.Table
    features: np.ndarray
    n_rejected: int
    n_unlabelled: int
    n_unknown: int


def open_model(
    model: str, store: str, seed: int | None, architecture: str | None, classes: Path | None
) -> SavedModel:
    """Open a model given as a folder, a run id (or "champion") of a store, or a timm checkpoint.

    A checkpoint needs its architecture and the file of its class names, in the order of the
    outputs: a JSON list or one a line. Raises EncoderError, LabelError, DataError, StoreError.
    """
    if architecture is not None:
        if classes is None:
            raise LabelError(f"{model}: a checkpoint has no class names; give them with --classes")
        start = StartConfig(model=model, architecture=architecture, classes=read_classes(classes))
        opened = load_start(start)
        log.info("%s: %s", model, opened.words)
        return opened.model
    if Path(model).is_dir():
        return load_model(Path(model))
    if "://" in model:
        return load_start(StartConfig(model=model)).model
    if "/" in model or Path(model).is_file():
        raise EncoderError(
            f"{model}: no folder of a saved model; for a checkpoint file give --architecture and "
            "--classes"
        )
    place = Store(store)
    if model == "champion":
        now = champions.current(place)
        if now is None:
            raise DataError(f"{place.uri(keys.CHAMPION)}: there is no champion yet")
        return read_model(place, now.model)
    seeds = champions.model_seeds(place, model)
    if not seeds:
        raise DataError(
            f"{model}: is no folder of a saved model, and {place.url} has no models of a run with "
            "that name; give a folder, a run of this store, or a checkpoint with --architecture "
            "and --classes"
        )
    if seed is not None and seed not in seeds:
        raise DataError(
            f"{place.uri(keys.run_models(model))}: has models of the seeds {seeds}, none of seed "
            f"{seed}; name one of them with --seed"
        )
    return read_model(place, keys.run_model(model, seeds[0] if seed is None else seed))


def read_classes(path: Path) -> tuple[str, ...]:
    """Read class names from a JSON list or a text file, one a line; blank lines do not count.

    JSON may also map the outputs' numbers to names (`id2label`) or names to numbers. Raises
    LabelError.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
        is_json = path.suffix.lower() == ".json"
        names = (
            _in_order(json.loads(text, object_pairs_hook=_each_once)) if is_json else _lines(text)
        )
        found = [label_text(name) for name in names]
    except (OSError, ValueError, RecursionError) as err:
        hint = "; save it as UTF-8" if isinstance(err, UnicodeError) else ""
        raise LabelError(f"{path}: cannot be read as class names ({err}){hint}") from err
    if is_json and None in found:
        raise LabelError(
            f"{path}: name {found.index(None)} of its {len(found)} is missing; each output of the "
            "model needs one"
        )
    classes = tuple(name for name in found if name is not None)
    twice = sorted(name for name, n in Counter(classes).items() if n > 1)
    if twice or len(classes) < 2:
        raise LabelError(
            f"{path}: expected at least two distinct class names, found {len(classes)}"
            + (f", {twice[0]!r} more than once" if twice else "")
        )
    return classes


def _lines(text: str) -> list[str]:
    """The lines of a list of names. Raises ValueError where they hold more than names."""
    # Not splitlines: a name may hold characters that it takes for the end of a line.
    lines = text.split("\n")
    told = [line.strip() for line in lines if line.strip()]
    for marked in (told, told[1:]):  # below a header
        numbered = [_NUMBER.match(line) for line in marked]
        if len(marked) > 1 and all(m and int(m[1]) == n for n, m in enumerate(numbered)):
            raise ValueError(f"its lines are numbered, such as {marked[0]!r}; write names alone")
        if len(marked) > 1 and all(line.startswith(("- ", '"', "'")) for line in marked):
            raise ValueError(f"its lines hold signs, such as {marked[0]!r}; write names alone")
    return lines


def _each_once(pairs: list[tuple[str, object]]) -> dict[str, object]:
    """Raises ValueError where a name stands twice in an object: one of the two would be lost."""
    twice = [name for name, n in Counter(name for name, _ in pairs).items() if n > 1]
    if twice:
        raise ValueError(f"{twice[0]!r} stands twice in it")
    return dict(pairs)


def _in_order(document: object) -> list[object]:
    """The names of a JSON document in the order of the outputs. Raises ValueError."""
    if isinstance(document, dict) and isinstance(document.get("id2label"), dict):
        document = document["id2label"]  # a config of transformers
    if isinstance(document, list):
        return document
    if isinstance(document, dict):
        numbers = [str(n) for n in range(len(document))]
        by_number = {number: document.get(number) for number in numbers}
        by_name = {str(value): key for key, value in document.items()}
        if all(isinstance(name, str) for name in by_number.values()):
            return list(by_number.values())
        if by_name.keys() == set(numbers):
            return [by_name[number] for number in numbers]
    raise ValueError(
        f"found a {type(document).__name__}, expected a list, or an object with the numbers 0 to "
        "N - 1 of the outputs"
    )


@dataclass
class _Tally:
    """Images that the model is not asked about."""

    n_rejected: int = 0
    n_unlabelled: int = 0
    n_unknown: int = 0


@dataclass(frozen=True)
class _Question:
    """An image with the label it has, as the network takes it: (S, S, 3) uint8."""

    image: RawImage
    label: str
    pixels: np.ndarray


def answer(model: SavedModel, data: DataConfig) -> Answers:
    """Ask the model about every labelled image of a data set, shard by shard.

    Raises DataError if there are no images, LabelError if none has a label that the model knows.
    """
    given = _given_labels(data)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    network = model.network.to(device).eval()
    tally = _Tally()
    rows: list[dict[str, object]] = []
    features: list[np.ndarray] = []
    listing = look_through(data)
    shards = listing.shards
    counts = [shard.n_images for shard in shards]
    total = None if None in counts else sum(n for n in counts if n is not None)
    with (
        live.stage("ask the model", total, "images") as stage,
        ThreadPoolExecutor(_DECODERS, thread_name_prefix="dcd-decode") as threads,
    ):
        for shard in shards:
            labelled = _labelled(
                read_shard(shard, data, listing.passed_over), given, set(model.classes), tally
            )
            while window := list(islice(labelled, _BATCH)):
                found = threads.map(lambda of: _question(of[0], of[1], model.preprocess), window)
                questions = [question for question in found if question is not None]
                tally.n_rejected += len(window) - len(questions)
                if questions:
                    pixels = np.stack([question.pixels for question in questions])
                    vectors, probability = _ask(network, pixels, model.preprocess, device)
                    features.append(vectors)
                    rows += _rows(questions, shard, probability, model.classes)
                stage.advance(len(window))
    for note in listing.notes:
        log.warning("%s: %s", data.images, note)
    if len(listing.passed_over):
        log.warning("%s: %s", data.images, listing.passed_over)
    table = _table(rows, data, tally, model.classes)
    return Answers(
        table, np.concatenate(features), tally.n_rejected, tally.n_unlabelled, tally.n_unknown
    )


def _given_labels(data: DataConfig) -> dict[str, str] | None:
    """Labels by image_id; None where the images bring their own."""
    table = read_labels(data, "dataset")
    if table is None:
        return None
    return dict(zip(table["image_id"].to_pylist(), table["label"].to_pylist(), strict=True))


def _labelled(
    images: Iterable[RawImage | Reject],
    given: Mapping[str, str] | None,
    classes: Set[str],
    tally: _Tally,
) -> Iterator[tuple[RawImage, str]]:
    """Images with a label that is among the classes; the others are counted."""
    for image in images:
        if not isinstance(image, RawImage):
            tally.n_rejected += 1
            continue
        label = image.weak_label if given is None else given.get(image.image_id)
        if label is None:
            # Images that a labels table leaves out are none of this data set.
            tally.n_unlabelled += given is None
        elif label not in classes:
            tally.n_unknown += 1
        else:
            yield image, label


def _question(image: RawImage, label: str, preprocess: Preprocess) -> _Question | None:
    try:
        return _Question(image, label, to_input(decode(image.data), preprocess))
    except BadImage:
        return None


@torch.inference_mode()
def _ask(
    network: nn.Module, pixels: np.ndarray, preprocess: Preprocess, device: torch.device
) -> tuple[np.ndarray, np.ndarray]:
    """pixels: (B, S, S, 3) uint8. Returns features (B, D) float16 and probabilities (B, C)."""
    asked: Any = network
    x = normalised(torch.from_numpy(pixels).permute(0, 3, 1, 2), preprocess, device)
    vectors = asked.forward_head(asked.forward_features(x), pre_logits=True)
    logits = linear_classifier(network)(vectors)
    return (
        vectors.half().cpu().numpy(),
        logits.softmax(dim=1).cpu().numpy(),
    )


def _rows(
    questions: Sequence[_Question], shard: Shard, probability: np.ndarray, classes: Sequence[str]
) -> list[dict[str, object]]:
    return [
        {
            "image_id": question.image.image_id,
            "label": question.label,
            "shard": shard.name,
            "content": content_hash(question.image.data),
            "predicted": classes[int(p.argmax())],
            "confidence": float(p.max()),
        }
        for question, p in zip(questions, probability, strict=True)
    ]


def _table(
    rows: list[dict[str, object]], data: DataConfig, tally: _Tally, classes: Sequence[str]
) -> pa.Table:
    """All rows as one table. Raises LabelError if there are none, DataError if ids stand twice."""
    if not rows:
        raise LabelError(
            f"{data.images}: no image has a label that the model knows ({tally.n_unlabelled} "
            f"without a label, {tally.n_unknown} with another than {sorted(classes)[:5]}…, "
            f"{tally.n_rejected} broken); check the data set and the class names"
        )
    table = pa.Table.from_pylist(rows)
    if len(set(table["image_id"].to_pylist())) < table.num_rows:
        raise DataError(f"{data.images}: an image_id stands in two shards; make the ids unique")
    return table

"""The lineage card of a run: what a model was made from and what it is worth, for programs (JSON)
and for people (Markdown). It stands beside the run's models.
"""

import json
from dataclasses import asdict

import pyarrow as pa

from dcd.config import SPLITS, DataConfig, RunConfig
from dcd.evaluation.summary import Score, summary_rows
from dcd.gate.record import GateRecord
from dcd.report.record import Lineage, PseudoLabelUse, RoundsRecord, RunRecord
from dcd.report.verdict import verdict
from dcd.report.words import interval, percent, points


def card_json(record: RunRecord, gate: GateRecord) -> str:
    """Write lineage, config, figures and the gate's answer as JSON."""
    return json.dumps(
        {
            "run_id": record.run_id,
            "created": record.created.isoformat(timespec="seconds"),
            "lineage": vars(record.lineage),
            "stages": [vars(stage) for stage in record.stages],
            "config": record.config.model_dump(mode="json"),
            "licences": licences(record.config),
            "verdict": verdict(record),
            "made_again": record.mended,
            **({"shared_pictures": record.shared} if record.shared else {}),
            **({} if record.review is None else {"review": asdict(record.review)}),
            **({} if record.pseudo is None else {"pseudo_labels": asdict(record.pseudo)}),
            **({} if record.rounds is None else {"rounds": asdict(record.rounds)}),
            **({} if record.gaps is None else {"pool_lacks": asdict(record.gaps)}),
            "chosen": list(record.chosen),
            "gate": gate.model_dump(mode="json"),
            "metrics": metrics_json(record.metrics),
        },
        indent=2,
    )


def metrics_json(metrics: pa.Table) -> list[dict[str, object]]:
    """Return the rows of `dcd run --json`: accuracies by method, seed, split, mode (null = all)."""
    return [
        {
            "method": row["model"],
            "seed": row["seed"],
            "split": row["split"],
            "mode": row["mode"],
            "accuracy": row["value"],
            "ci_low": row["ci_low"],
            "ci_high": row["ci_high"],
            "n": row["n"],
            "n_picks": row["n_picks"],
            "label_precision": row["label_precision"],
        }
        for row in metrics.to_pylist()
        if row["metric"] == "accuracy"
    ]


def licences(config: RunConfig) -> dict[str, str | None]:
    """Return the licence of every data set, as in the config, and of weights from timm's hub."""
    found = {name: data.licence for name, data in _data_sets(config).items()}
    return found | {"encoder weights": _weights_licence(config)}


def card_markdown(record: RunRecord, gate: GateRecord) -> str:
    """Write the same for people: one page of Markdown."""
    config, lineage = record.config, record.lineage
    seeds = ", ".join(map(str, config.seeds))
    picked = f" Of its models that of seed {gate.seed} was judged." if gate.seed is not None else ""
    selection = ", ".join(f"{name} {value}" for name, value in config.selection)
    training = config.training.model_dump(exclude_defaults=True)
    sections = [
        f"# Model card: {_plain(record.run_id)}",
        f"{verdict(record)[0]} Made {record.created:%Y-%m-%d %H:%M} UTC, seeds {seeds}.{picked}",
        "## Figures",
        _figures(record),
        *(["## Which model", *map(_plain, record.chosen)] if record.chosen else []),
        *(["## Review", *record.review.sentences] if record.review else []),
        *(["## Images without a label", *_guessed(record.pseudo)] if record.pseudo else []),
        *(["## Rounds", *_rounds(record.rounds)] if record.rounds else []),
        "## Gate",
        _gate(gate),
        "## Made from",
        _rows(
            ("", ""),
            [
                ("pool", f"{lineage.pool}, version {lineage.pool_version}"),
                ("pool images", f"{lineage.n_pool_images:,} in {lineage.n_shards:,} shards"),
                *_pool_labels(lineage),
                ("encoder", lineage.encoder_id),
                ("index", lineage.index_id),
                ("selection", selection),
                ("training", f"{config.training.mode} ({_settings(training)})"),
                ("code", lineage.code_version),
            ],
        ),
        "## Data and licences",
        _rows(
            ("data", "images", "labels", "licence"),
            [
                (name, data.images, data.labels or "with the images", data.licence or "not stated")
                for name, data in _data_sets(config).items()
            ],
        ),
        f"Encoder weights: {_plain(config.encoder.checkpoint or config.encoder.weights)} of "
        f"{_plain(config.encoder.model)}; licence: {_weights_licence(config) or 'not known'}.",
        "## Use",
        "`model/seed…/` is a timm model with its class names and preprocessing:",
        '```python\nmodel = timm.create_model("local-dir:FOLDER", pretrained=True)\n```',
        "The whole configuration and all figures are in `card.json`, beside this card.",
    ]
    return "\n\n".join(sections) + "\n"


def _guessed(pseudo: PseudoLabelUse) -> list[str]:
    which = "Which these are, with the label and its probability, stands in `card.json`."
    return [*pseudo.sentences, *([which] if pseudo.picks else [])]


def _rounds(rounds: RoundsRecord) -> list[str]:
    rows = [
        (
            "none" if of.number == 0 else f"round {of.number}",
            *(percent(share) for share in (of.debug_val, of.debug_heldout, of.test)),
            f"{of.n_taken:,.0f}",
        )
        for of in rounds.figures
    ]
    heads = ("", "debug_val", "debug_heldout", "test", "images picked so far")
    return [*map(_plain, rounds.sentences), _rows(heads, rows)]


def _figures(record: RunRecord) -> str:
    rows = [
        (
            row.method,
            _score(row.debug_heldout),
            _score(row.test),
            "–" if row.n_picks is None else f"{row.n_picks:,.0f}",
        )
        for row in summary_rows(record.predictions, record.metrics)
    ]
    table = _rows(("added to train", "debug_heldout", "test", "images added"), rows)
    return (
        f"{table}\n\nAccuracy with 95 % intervals; in brackets the change against none, in points."
    )


def _score(score: Score) -> str:
    found = score.accuracy
    text = f"{percent(found.value)} ({100 * found.low:.1f} to {100 * found.high:.1f})"
    if score.gain is not None:
        text += f" [{points(score.gain.value)}: {interval(score.gain)}]"
    return text


def _gate(gate: GateRecord) -> str:
    heading = {"passed": "Passed", "refused": "Refused", "not_judged": "Not judged"}[gate.outcome]
    against = f", compared with {gate.rival}" if gate.rival else ""
    reasons = "\n".join(f"- {_plain(reason)}" for reason in gate.reasons)
    return f"**{heading}**{_plain(against)}.\n\n{reasons}"


def _settings(changed: dict[str, object]) -> str:
    given = ", ".join(f"{name} {value}" for name, value in changed.items() if name != "mode")
    return given or "defaults"


def _data_sets(config: RunConfig) -> dict[str, DataConfig]:
    named: dict[str, DataConfig | None] = {"pool": config.pool}
    named |= {split: getattr(config, split) for split in SPLITS}
    return {name: data for name, data in named.items() if data is not None}


def _weights_licence(config: RunConfig) -> str | None:
    encoder = config.encoder
    if encoder.checkpoint is not None or encoder.weights != "pretrained":
        return None
    import timm

    cfg = timm.get_pretrained_cfg(encoder.model)
    return None if cfg is None else cfg.license


def _rows(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    lines = [head, ("---",) * len(head), *rows]
    return "\n".join(f"| {' | '.join(map(_plain, line))} |" for line in lines)


def _plain(text: str) -> str:
    """Any text as one line of Markdown that only says it: no markup, no table cell, no HTML."""
    flat = " ".join(text.split())
    for mark in "\\`*[]<>|":
        flat = flat.replace(mark, f"\\{mark}")
    return flat


def _pool_labels(lineage: Lineage) -> list[tuple[str, str]]:
    return [] if lineage.pool_labels is None else [("pool labels", lineage.pool_labels)]

"""Turn YAML into a config; every fault is told with its line."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar

import yaml
from pydantic import ValidationError

from dcd.config.base import Frozen
from dcd.config.explain import explain_fault, explain_yaml, line_numbers, repeated_keys
from dcd.config.run import BuildIndexConfig, EmbedConfig, RunConfig
from dcd.errors import ConfigError

Parsed = TypeVar("Parsed", bound="Frozen")


def load_config(path: str | Path) -> RunConfig:
    """Read a YAML config. Raises ConfigError with one line per fault, each naming its place."""
    document, lines = _read_document(path)
    return parse_config(document, str(path), lines)


def load_embed_config(path: str | Path) -> EmbedConfig:
    """Load what `embed-pool` needs, from a config of its own or from that of a run.

    Raises ConfigError as `load_config` does.
    """
    return _load_part(path, EmbedConfig, RunConfig.embedding)


def load_index_config(path: str | Path) -> BuildIndexConfig:
    """Load what `build-index` needs, from a config of its own or from that of a run.

    Raises ConfigError as `load_config` does.
    """
    return _load_part(path, BuildIndexConfig, RunConfig.indexing)


def load_run_or_index_config(path: str | Path) -> tuple[RunConfig | None, BuildIndexConfig]:
    """Load a run's config and its part that indexes, or an index or embed config alone.

    Raises ConfigError as `load_config` does.
    """
    runs: list[RunConfig] = []

    def noted(run: RunConfig) -> BuildIndexConfig:
        runs.append(run)
        return run.indexing()

    index = _load_part(path, BuildIndexConfig, noted)
    return (runs[0] if runs else None), index


def parse_config(
    document: dict[str, object],
    origin: str,
    lines: Mapping[tuple[int | str, ...], int] | None = None,
) -> RunConfig:
    """Validate a parsed document. Raises ConfigError with one line per fault.

    `origin` heads every line, followed by the fault's line where `lines` has it.
    """
    return _parse(RunConfig, document, origin, lines)


def _read_document(path: str | Path) -> tuple[dict[str, object], dict[tuple[int | str, ...], int]]:
    """A YAML mapping, and the line on which each of its keys stands."""
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as err:
        raise ConfigError(
            [f"{path}: cannot be read ({err}); give the path of a YAML file"]
        ) from err
    try:
        document = yaml.safe_load(text)
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.YAMLError as err:
        raise ConfigError([explain_yaml(str(path), err)]) from err
    if not isinstance(document, dict):
        found = type(document).__name__
        raise ConfigError([f"{path}: expected a mapping with store, pool, train, …; found {found}"])
    if repeated := repeated_keys(root):
        raise ConfigError([f"{path}:{problem}" for problem in repeated])
    return document, line_numbers(root)


def _load_part(
    path: str | Path, model: type[Parsed], part_of: Callable[[RunConfig], Parsed]
) -> Parsed:
    """A config that has what `model` needs alone, or that part of the config of a run."""
    document, lines = _read_document(path)
    if document.keys() & (RunConfig.model_fields.keys() - model.model_fields.keys()):
        return part_of(parse_config(document, str(path), lines))
    return _parse(model, document, str(path), lines)


def _parse(
    model: type[Parsed],
    document: dict[str, object],
    origin: str,
    lines: Mapping[tuple[int | str, ...], int] | None,
) -> Parsed:
    try:
        return model.model_validate(document)
    except ValidationError as err:
        faults = err.errors(include_url=False)
        raise ConfigError(
            [explain_fault(_with_line(origin, lines, f["loc"]), f, model) for f in faults]
        ) from err


def _with_line(
    origin: str, lines: Mapping[tuple[int | str, ...], int] | None, loc: tuple[int | str, ...]
) -> str:
    """`config.yaml:12`; a missing key has the line of its section."""
    for end in range(len(loc), 0, -1):
        if lines and loc[:end] in lines:
            return f"{origin}:{lines[loc[:end]]}"
    return origin

"""Turn YAML into a config; every fault is told with its line."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import yaml
from pydantic import ValidationError

from dcd.config.base import FrozenModel
from dcd.config.comparison import ComparisonConfig
from dcd.config.explain import (
    Place,
    explain_faults,
    explain_yaml,
    line_of,
    odd_numbers,
    repeated_keys,
    too_large,
)
from dcd.config.run import BuildIndexConfig, EmbedConfig, RunConfig
from dcd.errors import ConfigError

Parsed = TypeVar("Parsed", bound="FrozenModel")
MAX_CONFIG_BYTES = 2**20

# What PyYAML raises beside its own errors: numbers of too many digits, dates that are none.
_BAD_VALUES = (ValueError, OverflowError, TypeError, LookupError, AttributeError)


@dataclass(frozen=True)
class _Document:
    """A YAML mapping; origin: the file it is from; root: its nodes, which know their lines."""

    content: dict[str, object]
    origin: str
    root: yaml.Node | None


def load_config(path: str | Path) -> RunConfig:
    """Read a YAML config.

    Args:
        path: of the file; the paths in it are relative to where the process runs.

    Raises:
        ConfigError: one line per fault, each naming its place.
    """
    return _parse(RunConfig, _read_document(path, RunConfig))


def load_comparison(path: str | Path) -> ComparisonConfig:
    """Read a YAML config; `base` may be a path, relative to it or to the current directory.

    Raises ConfigError as `load_config` does.
    """
    document = _read_document(path, ComparisonConfig)
    base = document.content.get("base")
    if isinstance(base, str):
        beside = Path(path).parent / base
        document.content["base"] = load_config(beside if beside.exists() else base)
    return _parse(ComparisonConfig, document)


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


def parse_config(document: dict[str, object], origin: str) -> RunConfig:
    """Validate a parsed document. Raises ConfigError, each of its lines headed by `origin`."""
    return _parse(RunConfig, _Document(document, origin, None))


def _read_document(path: str | Path, model: type[FrozenModel]) -> _Document:
    text = _read_text(path)
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
        if problem := too_large(root):
            raise ConfigError([f"{path}:{problem}; see examples/"])
        content = yaml.safe_load(text)
    except yaml.YAMLError as err:
        raise ConfigError([explain_yaml(str(path), err)]) from err
    except RecursionError as err:
        raise ConfigError([f"{path}: is nested too deep to be a config; see examples/"]) from err
    except _BAD_VALUES as err:
        raise ConfigError(
            [f"{path}: a value is not what it looks like ({err}); put it in quotes"]
        ) from err
    if not isinstance(content, dict):
        wanted = ", ".join(list(model.model_fields)[:5])
        found = "nothing" if content is None else f"a {type(content).__name__}"
        if isinstance(content, str):  # `name:x`, TOML, a path
            found = "text; write lines of `key: value`, with a space behind the colon"
        raise ConfigError([f"{path}: expected a mapping with {wanted}, …; found {found}"])
    if problems := [*repeated_keys(root), *odd_numbers(root)]:
        raise ConfigError([f"{path}:{problem}" for problem in problems])
    return _Document(content, str(path), root)


def _read_text(path: str | Path) -> str:
    try:
        with Path(path).open("rb") as file:
            data = file.read(MAX_CONFIG_BYTES + 1)
        if len(data) > MAX_CONFIG_BYTES:
            raise ConfigError(
                [f"{path}: has more than {MAX_CONFIG_BYTES:,} bytes; give the path of a config"]
            )
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as err:
        raise ConfigError([f"{path}: is not in UTF-8 ({err}); save it as UTF-8"]) from err
    except OSError as err:
        raise ConfigError(
            [f"{path}: cannot be read ({err}); give the path of a YAML file"]
        ) from err


def _load_part(
    path: str | Path, model: type[Parsed], part_of: Callable[[RunConfig], Parsed]
) -> Parsed:
    """A config that has what `model` needs alone, or that part of the config of a run."""
    document = _read_document(path, model)
    if document.content.keys() & (RunConfig.model_fields.keys() - model.model_fields.keys()):
        return part_of(_parse(RunConfig, document))
    return _parse(model, document)


def _parse(model: type[Parsed], document: _Document) -> Parsed:
    try:
        return model.model_validate(document.content)
    except ValidationError as err:

        def origin(place: Place) -> str:
            line = line_of(document.root, place)
            return document.origin if line is None else f"{document.origin}:{line}"

        problems = explain_faults(err.errors(include_url=False), origin, model)
        raise ConfigError(problems) from err

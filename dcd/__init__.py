"""Data-centric debugging: repair a failing image classifier with pictures from a noisy pool.

This package is a plain library: it knows nothing of Prefect and runs as well in a notebook. The
names that it hands out itself are stable and are imported when they are first used; docs/api.md
explains them. All else may change from version to version.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dcd.config.load import load_config as load_config
    from dcd.demo.case import write_demo as write_demo
    from dcd.encoders.encoder import load_encoder as load_encoder
    from dcd.export.hub import write_hub_folder as write_hub_folder
    from dcd.export.picks import write_picks as write_picks
    from dcd.gate.champions import current as champion  # noqa: F401
    from dcd.runs.finished import list_runs as list_runs
    from dcd.runs.loop import run as run
    from dcd.runs.pictures import peek as peek
    from dcd.runs.pictures import read_images as read_images
    from dcd.runs.steps import embed as embed
    from dcd.runs.steps import select as select
    from dcd.runs.tables import read_table as read_table
    from dcd.store.store_format import open_store as open_store
    from dcd.training.saved_models import read_model as read_model
    from dcd.validation.run import validate as validate

__version__ = "0.1.0"

_HOMES = {
    "champion": ("dcd.gate.champions", "current"),
    "embed": ("dcd.runs.steps", "embed"),
    "list_runs": ("dcd.runs.finished", "list_runs"),
    "load_config": ("dcd.config.load", "load_config"),
    "load_encoder": ("dcd.encoders.encoder", "load_encoder"),
    "open_store": ("dcd.store.store_format", "open_store"),
    "peek": ("dcd.runs.pictures", "peek"),
    "read_images": ("dcd.runs.pictures", "read_images"),
    "read_model": ("dcd.training.saved_models", "read_model"),
    "read_table": ("dcd.runs.tables", "read_table"),
    "run": ("dcd.runs.loop", "run"),
    "select": ("dcd.runs.steps", "select"),
    "validate": ("dcd.validation.run", "validate"),
    "write_demo": ("dcd.demo.case", "write_demo"),
    "write_hub_folder": ("dcd.export.hub", "write_hub_folder"),
    "write_picks": ("dcd.export.picks", "write_picks"),
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'dcd' has no attribute {name!r}")
    module, attribute = _HOMES[name]
    found = getattr(import_module(module), attribute)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])

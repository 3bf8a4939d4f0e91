"""A config says what a run is to do: frozen pydantic models, and how YAML becomes one of them.

Every fault is one line that names the place, what was found, and the mend. No data is looked at.
It uses pydantic, YAML and errors; it hands out the models, which are the flows' parameters as well,
and what loads them. Each is imported when it is first used: most commands need few.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dcd.config.base import FrozenModel as FrozenModel
    from dcd.config.comparison import ComparisonConfig as ComparisonConfig
    from dcd.config.data import SPLITS as SPLITS
    from dcd.config.data import UNJUDGED_SPLITS as UNJUDGED_SPLITS
    from dcd.config.data import DataConfig as DataConfig
    from dcd.config.data import PoolConfig as PoolConfig
    from dcd.config.data import Split as Split
    from dcd.config.encoder import EncoderConfig as EncoderConfig
    from dcd.config.gate import BalancedAccuracyGuard as BalancedAccuracyGuard
    from dcd.config.gate import CommandGuard as CommandGuard
    from dcd.config.gate import GateConfig as GateConfig
    from dcd.config.gate import GuardConfig as GuardConfig
    from dcd.config.gate import RecallGuard as RecallGuard
    from dcd.config.goal import GoalConfig as GoalConfig
    from dcd.config.goal import Metric as Metric
    from dcd.config.goal import Sharing as Sharing
    from dcd.config.index import IndexConfig as IndexConfig
    from dcd.config.load import load_comparison as load_comparison
    from dcd.config.load import load_config as load_config
    from dcd.config.load import load_embed_config as load_embed_config
    from dcd.config.load import load_index_config as load_index_config
    from dcd.config.load import load_run_or_index_config as load_run_or_index_config
    from dcd.config.load import parse_config as parse_config
    from dcd.config.map import MapConfig as MapConfig
    from dcd.config.map import MapMethod as MapMethod
    from dcd.config.run import BASELINES as BASELINES
    from dcd.config.run import Baseline as Baseline
    from dcd.config.run import BuildIndexConfig as BuildIndexConfig
    from dcd.config.run import CompareConfig as CompareConfig
    from dcd.config.run import EmbedConfig as EmbedConfig
    from dcd.config.run import ModelDriven as ModelDriven
    from dcd.config.run import ModelFree as ModelFree
    from dcd.config.run import RunConfig as RunConfig
    from dcd.config.run import RunnerConfig as RunnerConfig
    from dcd.config.run import WatchConfig as WatchConfig
    from dcd.config.selection import LpipsConfig as LpipsConfig
    from dcd.config.selection import Objective as Objective
    from dcd.config.selection import SelectionConfig as SelectionConfig
    from dcd.config.training import PoolStageConfig as PoolStageConfig
    from dcd.config.training import StartConfig as StartConfig
    from dcd.config.training import TrainingConfig as TrainingConfig

_HOMES = {
    "FrozenModel": "dcd.config.base",
    "ComparisonConfig": "dcd.config.comparison",
    "SPLITS": "dcd.config.data",
    "UNJUDGED_SPLITS": "dcd.config.data",
    "DataConfig": "dcd.config.data",
    "PoolConfig": "dcd.config.data",
    "Split": "dcd.config.data",
    "EncoderConfig": "dcd.config.encoder",
    "BalancedAccuracyGuard": "dcd.config.gate",
    "CommandGuard": "dcd.config.gate",
    "GateConfig": "dcd.config.gate",
    "GuardConfig": "dcd.config.gate",
    "RecallGuard": "dcd.config.gate",
    "GoalConfig": "dcd.config.goal",
    "Metric": "dcd.config.goal",
    "Sharing": "dcd.config.goal",
    "IndexConfig": "dcd.config.index",
    "load_comparison": "dcd.config.load",
    "load_config": "dcd.config.load",
    "load_embed_config": "dcd.config.load",
    "load_index_config": "dcd.config.load",
    "load_run_or_index_config": "dcd.config.load",
    "parse_config": "dcd.config.load",
    "MapConfig": "dcd.config.map",
    "MapMethod": "dcd.config.map",
    "BASELINES": "dcd.config.run",
    "Baseline": "dcd.config.run",
    "BuildIndexConfig": "dcd.config.run",
    "CompareConfig": "dcd.config.run",
    "EmbedConfig": "dcd.config.run",
    "ModelDriven": "dcd.config.run",
    "ModelFree": "dcd.config.run",
    "RunConfig": "dcd.config.run",
    "RunnerConfig": "dcd.config.run",
    "WatchConfig": "dcd.config.run",
    "LpipsConfig": "dcd.config.selection",
    "Objective": "dcd.config.selection",
    "SelectionConfig": "dcd.config.selection",
    "PoolStageConfig": "dcd.config.training",
    "StartConfig": "dcd.config.training",
    "TrainingConfig": "dcd.config.training",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'dcd.config' has no attribute {name!r}")
    found = getattr(import_module(_HOMES[name]), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])

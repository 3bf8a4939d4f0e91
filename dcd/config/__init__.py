"""A config says what a run is to do: frozen pydantic models, and how YAML becomes one of them.

Every fault is one line that names the place, what was found, and the mend. No data is looked at.
It uses pydantic, YAML and errors; it hands out the models, which are the flows' parameters as well,
and what loads them.
"""

from dcd.config.base import FrozenModel
from dcd.config.comparison import ComparisonConfig
from dcd.config.data import SPLITS, UNJUDGED_SPLITS, DataConfig, PoolConfig, Split
from dcd.config.encoder import EncoderConfig
from dcd.config.gate import (
    BalancedAccuracyGuard,
    CommandGuard,
    GateConfig,
    GuardConfig,
    RecallGuard,
)
from dcd.config.goal import GoalConfig, Metric, Sharing
from dcd.config.index import IndexConfig
from dcd.config.load import (
    load_comparison,
    load_config,
    load_embed_config,
    load_index_config,
    load_run_or_index_config,
    parse_config,
)
from dcd.config.run import (
    BASELINES,
    Baseline,
    BuildIndexConfig,
    CompareConfig,
    EmbedConfig,
    ModelDriven,
    ModelFree,
    RunConfig,
    RunnerConfig,
    WatchConfig,
)
from dcd.config.selection import LpipsConfig, Objective, SelectionConfig
from dcd.config.training import PoolStageConfig, StartConfig, TrainingConfig

__all__ = [
    "BASELINES",
    "SPLITS",
    "UNJUDGED_SPLITS",
    "BalancedAccuracyGuard",
    "Baseline",
    "BuildIndexConfig",
    "CommandGuard",
    "CompareConfig",
    "ComparisonConfig",
    "DataConfig",
    "EmbedConfig",
    "EncoderConfig",
    "FrozenModel",
    "GateConfig",
    "GoalConfig",
    "GuardConfig",
    "IndexConfig",
    "LpipsConfig",
    "Metric",
    "ModelDriven",
    "ModelFree",
    "Objective",
    "PoolConfig",
    "PoolStageConfig",
    "RecallGuard",
    "RunConfig",
    "RunnerConfig",
    "SelectionConfig",
    "Sharing",
    "Split",
    "StartConfig",
    "TrainingConfig",
    "WatchConfig",
    "load_comparison",
    "load_config",
    "load_embed_config",
    "load_index_config",
    "load_run_or_index_config",
    "parse_config",
]

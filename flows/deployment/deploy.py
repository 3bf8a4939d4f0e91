"""Bring one run config to everything that a Prefect server needs to run it by itself."""

import os
import shlex
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from prefect import get_client
from prefect.events.schemas.automations import AutomationCore
from prefect.variables import Variable

from dcd.config import ComparisonConfig, EncoderConfig, RunConfig, WatchConfig
from dcd.errors import ConfigError

_FIELDS = AutomationCore.model_fields
_PACKAGES = Path(__file__).parents[2]
PREFECT_FILE = Path(__file__).parent / "prefect.yaml"


def parameters_of(config: RunConfig) -> dict[str, dict[str, Any]]:
    """Return the `config` parameter of every deployment, by the name of its Prefect variable.

    A deployed `debug-model` takes the registered failures, whatever the config says: they start it.
    """
    config = config.model_copy(update={"failures": True})
    comparison = ComparisonConfig(
        name=config.name,
        base=config,
        baselines=config.compare.baselines,
        encoders={"own": config.encoder, "pixels": EncoderConfig(model="pixels")},
    )
    configs = {
        "dcd_embed_pool": config.embedding(),
        "dcd_build_index": config.indexing(),
        "dcd_debug_model": config,
        "dcd_compare": comparison,
        "dcd_watch_failures": WatchConfig(run=config),
    }
    return {name: found.model_dump(mode="json") for name, found in configs.items()}


def deploy(config: RunConfig, prefect_file: Path) -> None:
    """Save the parameters, apply the automations, create or update all deployments.

    The automations are those of automations.yaml beside `prefect_file`. Runs will work in the
    current directory: relative paths of the config count from it. They use this Python.

    Raises ConfigError if a file is not there, Prefect refuses it, or the current directory has
    packages of its own that Prefect would take for those of dcd.
    """
    _check_folder(Path.cwd())
    automations = prefect_file.with_name("automations.yaml")
    for needed in (prefect_file, automations):
        if not needed.exists():
            raise ConfigError(
                [f"{needed}: not found; leave --prefect-file out, or copy {PREFECT_FILE.parent}"]
            )
    for name, value in parameters_of(config).items():
        Variable.set(name, value, overwrite=True)
    for automation in read_automations(automations):
        apply(automation)
    command = [sys.executable, "-m", "prefect", "--no-prompt", "deploy", "--all"]
    ran = subprocess.run(
        [*command, "--prefect-file", str(prefect_file.resolve())],
        env={
            **os.environ,
            "DCD_ROOT": str(Path.cwd()),
            "DCD_PYTHON": shlex.quote(sys.executable),
        },
        capture_output=True,
        text=True,
        check=False,
    )
    if ran.returncode:
        raise ConfigError([f"{prefect_file}: prefect deploy failed:\n{ran.stdout}{ran.stderr}"])


def _check_folder(folder: Path) -> None:
    """Prefect looks for a flow's module in the folder of its run first."""
    for package in ("dcd", "flows", "tasks"):
        found = folder / package / "__init__.py"
        if found.exists() and not found.samefile(_PACKAGES / package / "__init__.py"):
            raise ConfigError(
                [f"{found.parent}: would be taken for dcd's own package; go to another folder"]
            )


def read_automations(path: Path) -> list[AutomationCore]:
    document: Mapping[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    return [AutomationCore.model_validate(each) for each in document["automations"]]


def apply(automation: AutomationCore) -> None:
    """Create the automation, or update the one of this name. What a person switched off stays."""
    with get_client(sync_client=True) as client:
        found = client.read_automations_by_name(automation.name)
        if not found:
            client.create_automation(automation)
            return
        kept = automation.model_copy(update={"enabled": found[0].enabled})
        # An update makes the server forget the heartbeats that it waits for.
        if kept != AutomationCore.model_validate(found[0].model_dump(include=set(_FIELDS))):
            client.update_automation(found[0].id, kept)

"""Ctrl-C while threads of a flow work: it waits for no whole shard and no whole training."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from dcd.config import RunConfig, load_config
from dcd.progress import live
from flows.debug_model import debug_model
from tests.case import write_case

_FOR_EVER = 1_000_000


class _Interrupting:
    """A listener that sends Ctrl-C once a stage notes or counts something."""

    def __init__(self, stage: str):
        self.stage = stage

    def started(self, stage: str, total: int | None, unit: str) -> None: ...
    def finished(self, stage: str, outcome: str) -> None: ...

    def advanced(self, stage: str, n: int) -> None:
        self.noted(stage, "")

    def noted(self, stage: str, note: str) -> None:
        if stage == self.stage:
            self.stage = ""
            os.kill(os.getpid(), signal.SIGINT)


@pytest.fixture
def listening() -> Iterator[None]:
    """Python's own handler: a shell that starts tests in the background lets them ignore Ctrl-C."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)
    live.hush()


@pytest.fixture
def endless(tmp_path: Path) -> RunConfig:
    """A case whose trainings take weeks."""
    training = {"mode": "full", "epochs": _FOR_EVER, "batch_size": 4}
    return load_config(write_case(tmp_path, seeds=(0,), training=training))


@pytest.mark.slow
def test_a_training_ends_with_its_flow(endless: RunConfig, listening: None, prefect_home: str):
    live.listen(_Interrupting("train"))
    with pytest.raises(KeyboardInterrupt):
        debug_model(endless)

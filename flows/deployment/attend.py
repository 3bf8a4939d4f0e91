"""Attend to runs of a deployment: progress in the UI, and an end to crashing again and again.

The automation "dcd: resume crashed runs" starts a crashed run again. One that crashes each time,
say for want of memory, must not do so for ever.
"""

from prefect import get_run_logger, runtime

from dcd.errors import DCDError
from dcd.progress import live
from flows.deployment.sweep import sweep
from tasks.shown_progress import ShownProgress

MAX_STARTS = 3


class CrashedTooOften(DCDError):
    """A run was started several times and its process died each time."""


def attend() -> None:
    """Begin a run: show its progress to an operator; nothing happens outside of deployments.

    Raises CrashedTooOften if the run has been started more than MAX_STARTS times.
    """
    if runtime.deployment.id is None:
        return
    starts = runtime.flow_run.run_count
    if starts > MAX_STARTS:
        raise CrashedTooOften(
            f"{runtime.flow_run.name}: started {starts} times, and its process died each time "
            "(memory? disk?); look at the worker's log, mend the cause and run it anew: what is "
            "done is reused"
        )
    live.listen(ShownProgress())


def resume_crashed() -> None:
    """Mark dead runs and resume crashed ones; nothing happens outside of deployments."""
    if runtime.deployment.id is None:
        return
    for line in sweep():
        get_run_logger().warning(line)

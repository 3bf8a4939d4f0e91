"""What a flow that is interrupted tells its tasks."""

from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from contextvars import copy_context
from threading import Event

import pytest

from tasks.stopping import stop_if_told, stoppable


def test_a_task_stops_once_its_flow_is_interrupted():
    begun, interrupted = Event(), Event()

    def work() -> None:
        stop_if_told()
        begun.set()
        interrupted.wait(60)
        stop_if_told()

    def flow(threads: ThreadPoolExecutor) -> Future[None]:
        with suppress(KeyboardInterrupt), stoppable():
            future = threads.submit(copy_context().run, work)
            begun.wait(60)
            raise KeyboardInterrupt
        return future

    with ThreadPoolExecutor(1) as threads:
        future = flow(threads)
        interrupted.set()
        with pytest.raises(KeyboardInterrupt):
            future.result(60)


def test_later_flows_and_those_without_go_on():
    with pytest.raises(ValueError, match="of a task"), stoppable():
        raise ValueError("of a task")
    stop_if_told()
    with stoppable():
        stop_if_told()

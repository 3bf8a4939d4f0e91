import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from dcd.serve.shared_looks import SharedLooks


def _wait_for(happened: Callable[[], object]) -> None:
    while not happened():
        time.sleep(0.001)


def test_who_asks_meanwhile_gets_what_the_first_finds_and_later_ones_look_anew(monkeypatch):
    looks, go_on = SharedLooks(), threading.Event()
    n_looked, asked = [], []
    result = Future.result

    def look() -> int:
        n_looked.append(1)
        go_on.wait(30)
        return len(n_looked)

    def waits(future: Future, timeout: float | None = None) -> object:
        asked.append(threading.get_ident())  # it has the look that is under way
        return result(future, timeout)

    with ThreadPoolExecutor(20) as readers:
        first = readers.submit(looks.get, "runs", look)
        _wait_for(lambda: n_looked)
        monkeypatch.setattr(Future, "result", waits)
        others = [readers.submit(looks.get, "runs", look) for _ in range(19)]
        _wait_for(lambda: len(asked) == 19)
        monkeypatch.undo()
        go_on.set()
        assert [reader.result(30) for reader in (first, *others)] == [1] * 20
    assert looks.get("runs", look) == 2


def test_all_who_wait_are_told_of_a_failure_and_the_next_one_looks_anew():
    looks = SharedLooks()

    def fail() -> int:
        raise ValueError("damaged")

    with pytest.raises(ValueError, match="damaged"):
        looks.get("runs", fail)
    assert looks.get("runs", lambda: 1) == 1


def test_what_was_just_found_is_shown_again_and_a_failure_is_not():
    looks, n_looked = SharedLooks(fresh_s=600), []

    def look() -> int:
        n_looked.append(1)
        if len(n_looked) == 1:
            raise ValueError("damaged")
        return len(n_looked)

    with pytest.raises(ValueError, match="damaged"):
        looks.get("runs", look)
    assert [looks.get("runs", look) for _ in range(3)] == [2, 2, 2]
    assert looks.get("failures", look) == 3


def test_what_was_found_too_long_ago_is_not(monkeypatch):
    looks, now = SharedLooks(fresh_s=1), [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    found = iter(range(9))
    assert looks.get("runs", lambda: next(found)) == 0
    now[0] += 0.9
    assert looks.get("runs", lambda: next(found)) == 0
    now[0] += 0.2
    assert looks.get("runs", lambda: next(found)) == 1

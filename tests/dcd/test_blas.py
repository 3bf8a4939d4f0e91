from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from threading import Thread

import numpy as np  # noqa: F401 - loads the library whose threads are counted
import pytest
from threadpoolctl import threadpool_info, threadpool_limits

from dcd.blas import one_blas_thread


def n_threads() -> set[int]:
    return {pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"}


@pytest.fixture(autouse=True)
def two_threads():
    # threadpoolctl heeds one thread at a time: one that has ended keeps nobody else from setting it
    setter = Thread(target=threadpool_limits, args=(2, "blas"))
    setter.start()
    setter.join()


def test_callers_that_overlap_all_have_one_thread_to_their_end():
    first, second = ExitStack(), ExitStack()
    first.enter_context(one_blas_thread())
    second.enter_context(one_blas_thread())
    first.close()
    assert n_threads() == {1}
    second.close()
    assert n_threads() == {2}


def test_every_thread_may_ask_whoever_asked_before():
    def inside() -> set[int]:
        with one_blas_thread():
            return n_threads()

    with ThreadPoolExecutor(1) as other:
        assert inside() == {1}
        assert other.submit(inside).result() == {1}
        assert inside() == {1}
    assert n_threads() == {2}


def test_the_threads_come_back_after_an_error():
    def fail() -> None:
        with one_blas_thread():
            assert n_threads() == {1}
            raise ValueError("told")

    with pytest.raises(ValueError, match="told"):
        fail()
    assert n_threads() == {2}

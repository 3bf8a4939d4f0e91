from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import numpy as np  # noqa: F401 - loads the library whose threads are counted
import pytest
from threadpoolctl import threadpool_info, threadpool_limits

from dcd import threads
from dcd.threads import one_blas_thread


def n_threads() -> set[int]:
    """Of the BLAS libraries whose number belongs to the process, unlike that of faiss."""
    found = [pool for pool in threadpool_info() if pool["user_api"] == "blas"]
    return {pool["num_threads"] for pool in found if pool["threading_layer"] != "openmp"}


@pytest.fixture(autouse=True)
def two_threads():
    """As on a machine with two cores; set by the only thread that may."""
    threads._setter.submit(threadpool_limits, 2, "blas").result()


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

from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import numpy as np
import pytest
from threadpoolctl import threadpool_info, threadpool_limits

from dcd import threads
from dcd.label_noise.noise_matrix import estimate_noise
from dcd.tables.vectors import principal_directions
from dcd.threads import one_blas_thread, taken_ahead
from dcd.training.head import LinearHead, fit_standardizer, probabilities
from dcd.training.head_average import Compression


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


def test_what_is_kept_does_not_depend_on_what_runs_beside_it():
    """Sizes at which a product has other last bits on one thread than on two."""
    rng = np.random.default_rng(0)
    features = rng.normal(size=(2800, 1280)).astype(np.float32)
    labels = [f"class {i % 10}" for i in range(2800)]
    classes = tuple(sorted(set(labels)))
    weight = rng.normal(size=(10, 1280)).astype(np.float32)
    head = LinearHead(classes, weight, np.zeros(10, np.float32))
    train = features[:300], labels[:300]

    def kept() -> list[bytes]:
        noise = estimate_noise(*train, features, np.arange(2800) % 10, classes)
        mean, directions = principal_directions(features, 64)
        compression = Compression(fit_standardizer(features), directions, mean @ directions)
        found = (
            probabilities(head, features),
            noise.matrix,
            directions,
            compression.compress(features),
        )
        return [one.tobytes() for one in found]

    alone = kept()
    with one_blas_thread():
        beside = kept()
    assert [a == b for a, b in zip(alone, beside, strict=True)] == [True] * 4


def test_items_are_taken_in_turn_and_ahead():
    made: list[str] = []

    def source(name: str, n: int):
        try:
            for number in range(n):
                made.append(f"{name}{number}")
                yield f"{name}{number}"
        finally:
            made.append(f"{name} closed")

    items = taken_ahead([source("a", 3), source("b", 1)])
    assert list(items) == ["a0", "b0", "a1", "a2"]
    assert {"a closed", "b closed"} <= set(made)
    some = taken_ahead([source("c", 9), source("d", 9)])
    assert next(some) == "c0"
    some.close()
    assert {"c closed", "d closed"} <= set(made)
    assert not {"c3", "d3"} & set(made)
    assert list(taken_ahead([])) == []


def test_what_a_source_raises_is_raised():
    def torn():
        yield 1
        raise OSError("gone")

    items = taken_ahead([torn()])
    assert next(items) == 1
    with pytest.raises(OSError, match="gone"):
        next(items)

import pytest
from prefect import flow, task
from prefect.cache_policies import NO_CACHE

from dcd.errors import DataError
from tasks.retries import transient


def tries(error: Exception) -> int:
    """How often Prefect runs a task that fails with `error` the first two times."""
    count = 0

    @task(retries=3, retry_condition_fn=transient, cache_policy=NO_CACHE)
    def fails_twice():
        nonlocal count
        count += 1
        if count < 3:
            raise error
        return count

    @flow
    def once():
        return fails_twice()

    if isinstance(error, DataError | ValueError):
        with pytest.raises(type(error)):
            once()
    else:
        once()
    return count


@pytest.mark.parametrize(
    ("error", "n_tries"),
    [
        (ConnectionResetError("cut"), 3),
        (TimeoutError("slow"), 3),
        (DataError("no such pool"), 1),
        (ValueError("a bug"), 1),
    ],
)
def test_only_what_may_go_away_is_tried_again(prefect_home, error, n_tries):
    assert tries(error) == n_tries

import pickle

import pytest

from dcd import errors

RAISED = [
    errors.DataError("pool: empty"),
    errors.ConfigError(["a: wrong", "b: missing"]),
    errors.EmbeddingFailed("pool", ["s1: gone", "s2: cut"], 9),
    errors.StoreRefused("s3://b: refused", "write"),
    errors.StoreUnavailable("s3://b: busy"),
]


@pytest.mark.parametrize("error", RAISED, ids=lambda error: type(error).__name__)
def test_errors_cross_processes(error):
    back = pickle.loads(pickle.dumps(error))
    assert type(back) is type(error)
    assert str(back) == str(error)
    assert vars(back) == vars(error)


def test_every_error_is_a_dcd_error():
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type)]
    assert len(kinds) > 10
    assert all(issubclass(kind, errors.DCDError) for kind in kinds)


def test_config_error_shows_one_line_per_problem():
    assert str(RAISED[1]) == "a: wrong\nb: missing"


def test_embedding_failed_counts_and_lists_the_shards():
    assert "pool: 2 of 9 shards could not be embedded" in str(RAISED[2])
    assert str(RAISED[2]).endswith("  s1: gone\n  s2: cut")

"""What an unknown word most likely meant."""

import pytest

from dcd.config import parse_config
from dcd.config.explain import closest
from dcd.errors import ConfigError


@pytest.mark.parametrize(
    ("word", "choices", "meant"),
    [
        ("cta", ["cat", "dog"], "cat"),
        ("cat", ["CAT", "DOG"], "CAT"),
        ("DOG", ["dig", "Dog"], "Dog"),
        ("1", ["11", "01", "02"], "01"),
        ("golden retriever", ["retriever", "Golden_Retriever"], "Golden_Retriever"),
        ("error-sample", ["error_sample", "test"], "error_sample"),
        ("0", ["00", "02"], "00"),
        ("zebra", ["cat", "dog"], None),
    ],
)
def test_the_same_word_in_another_form_goes_first(word: str, choices: list[str], meant: str | None):
    assert closest(word, choices) == meant


@pytest.mark.parametrize(
    ("guard", "told"),
    [
        ({"command": ["x"]}, "expected the key 'metric', which says of what kind it is"),
        ({"metric": "recal"}, "expected 'metric' to be one of .*'class_recall'"),
    ],
)
def test_a_guard_of_no_kind_is_told(guard: dict, told: str):
    document = {"name": "n", "store": "s", "gate": {"guards": [guard]}}
    with pytest.raises(ConfigError, match=told):
        parse_config(document, "c.yaml")

"""What an unknown word most likely meant."""

import pytest

from dcd.config.explain import closest


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

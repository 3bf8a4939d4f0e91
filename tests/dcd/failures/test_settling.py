"""An inbox has come to rest when nothing has changed for a while, and in any case after a while."""

import pytest

from dcd.failures.settling import Settling


def rests_at(looks: list[dict[str, str]], settling: Settling) -> int | None:
    """The second at which one look a second finds the inbox at rest."""
    for second, versions in enumerate(looks):
        if settling.has_rested(versions, float(second)):
            return second
    return None


def test_an_empty_inbox_is_never_taken():
    assert rests_at([{}] * 50, Settling(2, 30)) is None


def test_what_lies_there_at_the_start_is_taken_once():
    settling = Settling(2, 30)
    assert rests_at([{"a": "1"}] * 50, settling) == 2
    settling.taken()
    assert rests_at([{"a": "1"}] * 50, settling) is None


def test_five_drops_are_taken_together_when_the_last_has_rested():
    drops = [{str(i): "1" for i in range(n)} for n in (1, 1, 2, 2, 3, 3, 4, 4, 5)]
    assert rests_at([*drops, *[drops[-1]] * 20], Settling(2, 30)) == 10


@pytest.mark.parametrize("grows", [True, False], ids=["a file that grows", "files that come"])
def test_an_inbox_that_never_rests_is_taken_after_a_while(grows: bool):
    def at(second: int) -> dict[str, str]:
        return {"a": str(second)} if grows else {str(i): "1" for i in range(second + 1)}

    settling = Settling(2, 30)
    assert rests_at([at(second) for second in range(100)], settling) == 30
    settling.taken()
    assert rests_at([at(second) for second in range(30, 200)], settling) == 31


def test_what_comes_while_it_is_taken_in_is_taken_next():
    settling = Settling(2, 30)
    assert rests_at([{"a": "1"}] * 9, settling) == 2
    settling.taken()
    assert not settling.has_rested({"a": "1", "b": "1"}, 3)
    assert settling.has_rested({"a": "1", "b": "1"}, 5)

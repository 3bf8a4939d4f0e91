import pytest

from dcd.progress import live


class Heard:
    def __init__(self):
        self.calls: list[tuple] = []

    def started(self, stage: str, total: int | None, unit: str) -> None:
        self.calls.append(("started", stage, total, unit))

    def advanced(self, stage: str, n: int) -> None:
        self.calls.append(("advanced", stage, n))

    def noted(self, stage: str, note: str) -> None:
        self.calls.append(("noted", stage, note))

    def finished(self, stage: str, outcome: str) -> None:
        self.calls.append(("finished", stage, outcome))


@pytest.fixture
def heard():
    listener = Heard()
    live.listen(listener)
    yield listener.calls
    live.hush()


def test_a_stage_tells_of_its_beginning_its_units_and_its_outcome(heard):
    with live.stage("copy", 2, "objects") as stage:
        assert list(stage.each("ab")) == ["a", "b"]
        stage.note("soon")
        stage.outcome = "2 copied"
    assert heard == [
        ("started", "copy", 2, "objects"),
        ("advanced", "copy", 1),
        ("advanced", "copy", 1),
        ("noted", "copy", "soon"),
        ("finished", "copy", "2 copied"),
    ]


def test_a_stage_that_fails_is_not_told_as_done(heard):
    with pytest.raises(ValueError, match="no"), live.stage("copy"):
        raise ValueError("no")
    assert heard == [("started", "copy", None, "")]


def test_without_a_listener_nobody_hears():
    live.hush()
    with live.stage("copy") as stage:
        stage.advance()

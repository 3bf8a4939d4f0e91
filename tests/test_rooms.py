"""The house rules of docs/architecture.md that no import contract can hold."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MAX_MODULES = 16  # a folder with more is hard to take in
MAX_AT_THE_TOP = 5  # modules directly in dcd/
ROOMS = sorted(face.parent for face in (ROOT / "dcd").glob("*/__init__.py"))
HANDS_OUT_NAMES = ("config", "store")


def folders_of_modules(top: Path) -> set[Path]:
    return {path.parent for path in top.rglob("*.py")}


def modules(folder: Path) -> list[Path]:
    return [path for path in folder.glob("*.py") if path.name != "__init__.py"]


def test_no_folder_has_more_modules_than_one_can_take_in():
    folders = {
        path.parent for top in ("dcd", "flows", "tasks") for path in (ROOT / top).rglob("*.py")
    }
    crowded = {folder.name: n for folder in folders if (n := len(modules(folder))) > MAX_MODULES}
    assert crowded == {}
    assert len(modules(ROOT / "dcd")) <= MAX_AT_THE_TOP


@pytest.mark.parametrize("room", ROOMS, ids=lambda room: room.name)
def test_a_room_has_a_face_that_says_what_it_is_for_and_imports_nothing(room: Path):
    face = ast.parse((room / "__init__.py").read_text(encoding="utf-8"))
    said = (ast.get_docstring(face) or "").splitlines()
    assert len(said) >= 3, "what it is for, what it uses, what it hands out"
    assert any("ses" in line for line in said), "what it uses"
    if room.name not in HANDS_OUT_NAMES:
        assert len(face.body) == 1, "an import here is paid by every command"


@pytest.mark.parametrize("top", ["dcd", "flows", "tasks"])
def test_tests_lie_where_the_code_lies(top: str):
    folders = {path.parent.relative_to(ROOT) for path in (ROOT / top).rglob("*.py")}
    tested = {
        path.parent.relative_to(ROOT / "tests")
        for path in (ROOT / "tests" / top).rglob("test_*.py")
    }
    assert tested <= folders, "tests of a folder that does not exist"
    rooms = {room.relative_to(ROOT) for room in ROOMS} if top == "dcd" else set()
    assert rooms <= tested, "a room without tests"

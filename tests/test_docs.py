"""What README.md, CONTRIBUTING.md and docs/ name is there: pages, files and commands."""

import re
import tomllib
from pathlib import Path

import pytest
import typer.main

from flows.cli.app import app

ROOT = Path(__file__).parents[1]
PAGES = sorted(
    [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), *(ROOT / "deployments").glob("*.md")]
)
MAX_README_WORDS = 1200
MAX_LINE = 100  # tables, code and pictures apart
ON_EVERY_PAGE = pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))

_LINK = re.compile(r"\]\(([^)\s]+)\)")
_TOPS = "benchmarks|dcd|deployments|docs|examples|flows|tasks|tests"
_PATH = re.compile(rf"(?<![\w/.:-])((?:{_TOPS})/[\w./*-]*\w/?)(?!\w)")
_MODULE = re.compile(r"(?<![\w/.])(benchmarks(?:\.\w+)+|python -m [\w.]+)")
_PAGE = re.compile(r"\bdocs/[\w-]+\.(?:md|png|svg)")
_BOLD = re.compile(r'y="([\d.]+)"[^>]*font-weight="bold"[^>]*>(\w+)<')
_COMMAND = re.compile(r"(?<![\w/.-])dcd ([a-z]+)(?: ([a-z]+))?")


def prose(text: str) -> list[str]:
    """The lines outside of code blocks."""
    return re.sub(r"^ *```.*?^ *```", "", text, flags=re.M | re.S).splitlines()


def code(text: str) -> str:
    """Code blocks and code spans, where a command or a path stands as one types it."""
    blocks = re.findall(r"^ *```.*?$(.*?)^ *```", text, flags=re.M | re.S)
    spans = re.findall(r"`([^`]+)`", "\n".join(prose(text)))
    return "\n".join([*blocks, *(" ".join(span.split()) for span in spans)])


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    titles = [line.lstrip("# ") for line in prose(page.read_text("utf-8")) if line.startswith("#")]
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@ON_EVERY_PAGE
def test_links_lead_to_pages_and_headings_that_are_there(page: Path):
    for link in _LINK.findall(page.read_text("utf-8")):
        if link.startswith(("http://", "https://")):
            continue
        name, _, heading = link.partition("#")
        target = page.parent / name if name else page
        assert target.exists(), link
        assert not heading or heading in anchors(target), link


@ON_EVERY_PAGE
def test_files_and_modules_that_a_page_names_are_there(page: Path):
    text = code(page.read_text("utf-8"))
    for path in _PATH.findall(text):
        assert list(ROOT.glob(path.rstrip("/"))), path
    for module in _MODULE.findall(text):
        place = module.removeprefix("python -m ").replace(".", "/")
        is_ours = place.partition("/")[0] in ("benchmarks", "dcd", "flows", "tasks", "tests")
        assert not is_ours or any(
            (ROOT / f"{place}{end}").exists() for end in (".py", ".yaml", "/__main__.py")
        ), module


def test_pages_that_code_and_configs_name_are_there():
    tops = ("benchmarks", "dcd", "deployments", "examples", "flows", "tasks", "tests")
    files = [path for top in tops for path in (ROOT / top).rglob("*.*")] + [ROOT / "Makefile"]
    texts = [f for f in files if f.suffix in ("", ".py", ".yaml", ".html", ".sh") and f.is_file()]
    named = {page for f in texts for page in _PAGE.findall(f.read_text("utf-8"))}
    assert named
    assert {page for page in named if not (ROOT / page).exists()} == set()


def _commands() -> set[str]:
    """Every command of the command line, such as `pool status`, and its groups."""
    found = set[str]()
    for name, command in _below(typer.main.get_command(app)).items():
        found |= {name} | {f"{name} {sub}" for sub in _below(command)}
    return found


def _groups(commands: set[str]) -> set[str]:
    return {name.partition(" ")[0] for name in commands if " " in name}


def _below(group: object) -> dict[str, object]:
    return getattr(group, "commands", {})


@ON_EVERY_PAGE
def test_commands_that_a_page_names_are_there(page: Path):
    known = _commands()
    groups = _groups(known)
    for name, sub in _COMMAND.findall(code(page.read_text("utf-8"))):
        named = f"{name} {sub}" if name in groups and sub else name
        assert named in known, f"dcd {named}"


def test_the_readme_lists_every_command():
    named = code((ROOT / "README.md").read_text("utf-8"))
    known = _commands()
    missing = [c for c in known - _groups(known) if not re.search(rf"\bdcd {c}\b", named)]
    assert missing == []


def test_the_index_lists_every_page_of_docs():
    listed = set(_LINK.findall((ROOT / "docs/README.md").read_text("utf-8")))
    assert {page.name for page in (ROOT / "docs").glob("*.md")} - {"README.md"} <= listed


def test_the_drawing_has_every_room_on_the_floor_that_the_contract_gives_it():
    drawing = (ROOT / "docs/rooms.svg").read_text("utf-8")
    height = {room: float(y) for y, room in _BOLD.findall(drawing)}
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["importlinter"]
    (layers,) = [c["layers"] for c in contracts["contracts"] if c.get("containers") == ["dcd"]]
    floors = [{height.get(room) for room in layer.split(" | ")} for layer in layers]
    assert all(len(floor) == 1 and None not in floor for floor in floors), floors
    drawn = [y for floor in floors for y in floor if y is not None]
    assert drawn == sorted(drawn), "a lower layer is drawn lower"


def test_the_readme_can_be_read_at_a_sitting():
    assert len((ROOT / "README.md").read_text("utf-8").split()) <= MAX_README_WORDS


@ON_EVERY_PAGE
def test_lines_have_one_width(page: Path):
    wide = [
        line
        for line in prose(page.read_text("utf-8"))
        if len(line) > MAX_LINE and not line.lstrip().startswith(("|", "![")) and " " in line
    ]
    assert wide == []

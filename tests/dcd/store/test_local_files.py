import os
import signal
from pathlib import Path

import pytest

from dcd.errors import StoreError
from dcd.store import Store, local_files
from dcd.store.local_files import is_temporary, published


@pytest.fixture(params=["nameless", "hidden"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Files without a name, and what is done on filesystems that have none."""
    if request.param == "hidden":
        monkeypatch.setattr(local_files, "_nameless", lambda _: None)
    return request.param


def test_a_file_stands_when_it_is_whole(tmp_path: Path, way: str):
    path = tmp_path / "folder/object"
    for data in (b"first", b"second"):  # the second replaces
        with published(str(path)) as file:
            file.write(data)
            assert not path.exists() or path.read_bytes() == b"first"
        assert path.read_bytes() == data
    assert [p.name for p in path.parent.iterdir()] == ["object"]
    usual = tmp_path / "usual"
    usual.touch()
    assert path.stat().st_mode == usual.stat().st_mode


def test_an_error_leaves_what_was_there(tmp_path: Path, way: str):
    path = tmp_path / "object"
    path.write_bytes(b"before")
    with pytest.raises(TypeError), published(str(path)) as file:
        file.write("no bytes")  # pyright: ignore
    assert path.read_bytes() == b"before"
    assert [p.name for p in tmp_path.iterdir()] == ["object"]


@pytest.mark.parametrize("there", [False, True])
def test_a_killed_process_leaves_nothing(tmp_path: Path, there: bool):
    path = tmp_path / "object"
    if there:
        path.write_bytes(b"before")
    before = [p.name for p in tmp_path.iterdir()]
    pid = os.fork()
    if pid == 0:
        with published(str(path)) as file:
            file.write(b"half")
            file.flush()
            os.kill(os.getpid(), signal.SIGKILL)
        os._exit(0)
    assert os.WTERMSIG(os.waitpid(pid, 0)[1]) == signal.SIGKILL
    assert [p.name for p in tmp_path.iterdir()] == before
    assert not there or path.read_bytes() == b"before"


def test_what_is_being_written_is_no_object(tmp_path: Path, way: str):
    store = Store(str(tmp_path))
    with published(store.path("folder/object")) as file:
        file.write(b"half")
        assert store.keys_under("folder") == []
    assert store.keys_under("folder") == ["folder/object"]
    assert is_temporary("folder/.0af3.tmp")
    assert not is_temporary("folder/object.tmp")


def test_a_file_in_the_place_of_a_folder_is_named(tmp_path: Path, way: str):
    (tmp_path / "folder").write_bytes(b"")
    with pytest.raises(StoreError, match="a file stands where a folder is needed"):
        Store(str(tmp_path)).write_bytes("folder/object", b"x")

"""`dcd publish` against a stand-in of the Hub, by huggingface_hub's own code; `dcd export`."""

import os
import subprocess
import sys

import pytest
from typer.testing import CliRunner

from flows.cli.app import app
from tests.champion_store import champion_store
from tests.hub_server import TOKEN, hub_server

_LOAD = """
import timm
network = timm.create_model("hf-hub:somebody/winter", pretrained=True)
print(network.pretrained_cfg["label_names"])
"""


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return champion_store(tmp_path_factory.mktemp("champion"))


def on_hub(home, url, token, *command):
    settings = {"HF_ENDPOINT": url, "HF_HOME": str(home), "HF_HUB_DISABLE_TELEMETRY": "1"}
    settings |= {} if token is None else {"HF_TOKEN": token}
    kept = {k: v for k, v in os.environ.items() if not k.startswith("HF_")}
    return subprocess.run(
        [sys.executable, *command],
        cwd=home,
        env={**kept, **settings, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )


@pytest.mark.slow
def test_what_is_pushed_is_what_timm_loads_from_the_hub(store, tmp_path):
    publish = ("-m", "flows", "publish", "somebody/winter", "--store", store.url)
    with hub_server() as hub:
        done = on_hub(tmp_path, hub.url, TOKEN, *publish)
        assert done.returncode == 0, done.stderr
        assert f"Pushed: {hub.url}/somebody/winter" in done.stdout
        assert hub.private == {"somebody/winter": True}
        files = hub.files["somebody/winter"]
        assert set(files) == {"README.md", "config.json", "model.safetensors"}
        assert all(files[name] == (tmp_path / "hub" / name).read_bytes() for name in files)
        loaded = on_hub(tmp_path, hub.url, TOKEN, "-c", _LOAD)
        assert loaded.returncode == 0, loaded.stderr
        assert "['blue', 'green', 'red']" in loaded.stdout

        refused = on_hub(tmp_path, hub.url, "hf_wrong", *publish)
        assert refused.returncode == 1
        assert "somebody/winter: the Hub refused" in refused.stderr
        assert "Traceback" not in refused.stderr


def test_without_a_token_the_folder_is_written_and_nothing_is_sent(store, tmp_path):
    publish = ("-m", "flows", "publish", "somebody/winter", "--store", store.url)
    done = on_hub(tmp_path, "http://127.0.0.1:1", None, *publish)
    assert done.returncode == 0, done.stderr
    assert "no token" in done.stdout
    assert "No --license" in done.stderr
    assert (tmp_path / "hub" / "README.md").exists()


def test_export_tells_where_things_are_and_how_they_agree(store, tmp_path):
    out = tmp_path / "out"
    command = [
        "export",
        "champion",
        "--to",
        "torchscript",
        "--store",
        store.url,
        "--output",
        str(out),
    ]
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 0, done.output
    assert "Top-1 equal to torch's on" in done.output
    assert (out / "model.pt").exists()
    done = CliRunner().invoke(app, ["export", "picks", "--store", store.url, "--output", str(out)])
    assert done.exit_code == 0, done.output
    assert "images of 3 labels" in done.output

"""What goes out is read by the tools' own packages, and what those write comes back."""

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from dcd.reviews.formats import fiftyone, label_studio
from dcd.reviews.hand_off import NONE_OF_THESE, Asked
from tests.environments import environment

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]
CLASSES = ("cat", "dog")
KEYS = ["0" * 32, "1" * 32]

# Reads the folder as FiftyOne does and writes it anew, each image a dog.
FIFTYONE = """
import sys
from fiftyone.utils.data.exporters import FiftyOneImageClassificationDatasetExporter as Exporter
from fiftyone.utils.data.importers import FiftyOneImageClassificationDatasetImporter as Importer
with Importer(dataset_dir=sys.argv[1]) as read, Exporter(export_dir=sys.argv[2]) as write:
    for path, metadata, label in read:
        print(path.rsplit("/", 1)[1], label.label)
        label.label = "dog"
        write.export_sample(path, label, metadata=metadata)
"""

# Validates tasks and predictions as Label Studio does, and writes an export with one annotation.
LABEL_STUDIO = """
import json, sys
from label_studio_sdk.label_interface import LabelInterface
interface = LabelInterface(open(f"{sys.argv[1]}/config.xml").read())
tasks = json.load(open(f"{sys.argv[1]}/tasks.json"))
for task in tasks:
    assert interface.validate_task({"data": task["data"]})
    assert all(interface.validate_prediction(one) for one in task["predictions"])
    annotation = interface.generate_sample_annotation()
    annotation["result"][0]["value"]["choices"] = ["dog"]
    assert interface.validate_annotation(annotation)
    task["annotations"] = [annotation]
json.dump(tasks, open(sys.argv[2], "w"))
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., str]:
    """Run a script in an environment with both tools."""
    tools = environment("annotators", "fiftyone==1.22.1", "label-studio-sdk==2.1.2")
    home = {"HOME": str(tmp_path_factory.mktemp("home")), "FIFTYONE_DO_NOT_TRACK": "true"}

    def script(text: str, *arguments: Path) -> str:
        done = subprocess.run(
            [tools / "python", "-c", text, *arguments],
            env={**os.environ, **home},
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    return script


def _asked(folder: str) -> list[Asked]:
    files = [f"{folder}/{key}.jpg" for key in KEYS]
    labels = ["cat", "dog"]
    urls = [f"http://x/{file}" for file in files]
    rows = zip(KEYS, labels, files, urls, strict=True)
    return [Asked(key, "p", label, file, url, 40, 30, 1.5, 0.4) for key, label, file, url in rows]


def test_fiftyone_reads_what_goes_out_and_its_export_comes_back(run, tmp_path: Path):
    (tmp_path / "out/data").mkdir(parents=True)
    for asked in _asked("data"):
        Image.new("RGB", (40, 30)).save(tmp_path / "out" / asked.file)
    for name, data in fiftyone.written(_asked("data"), CLASSES).items():
        (tmp_path / "out" / name).write_bytes(data)
    said = run(FIFTYONE, tmp_path / "out", tmp_path / "back")
    assert sorted(said.split("\n")[-3:-1]) == [f"{KEYS[0]}.jpg cat", f"{KEYS[1]}.jpg dog"]
    found = fiftyone.answers((tmp_path / "back/labels.json").read_bytes(), "labels.json")
    assert sorted((one.key, one.label) for one in found) == [(key, "dog") for key in KEYS]


def test_label_studio_takes_the_tasks_and_its_annotations_come_back(run, tmp_path: Path):
    for name, data in label_studio.written(_asked("images"), CLASSES).items():
        (tmp_path / name).write_bytes(data)
    run(LABEL_STUDIO, tmp_path, tmp_path / "export.json")
    found = label_studio.answers((tmp_path / "export.json").read_bytes(), "export.json")
    assert [(one.key, one.label, one.skipped) for one in found] == [(k, "dog", False) for k in KEYS]
    config = (tmp_path / "config.xml").read_text()
    assert all(f'value="{name}"' in config for name in (*CLASSES, NONE_OF_THESE))
    assert len(json.loads((tmp_path / "tasks.json").read_text())) == len(KEYS)

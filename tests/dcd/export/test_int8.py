"""The champion in int8: calibrated on its train images, measured, refused where it is broken."""

import json

import numpy as np
import pytest
from PIL import Image

from dcd.config import DataConfig
from dcd.errors import ConfigError, DataError, EncoderMismatch
from dcd.export import int8
from dcd.export.champion import open_champion, read_spread
from dcd.export.formats import open_format, torch_answer
from dcd.export.serving import NOTE, export_champion


@pytest.fixture(scope="module")
def trusted(store):
    return open_champion(store)


def test_the_model_is_int8_and_its_loss_is_measured_and_noted(trusted, tmp_path):
    pytest.importorskip("nncf")
    found = export_champion(trusted, "openvino", tmp_path, trusted.test_images, 50, int8=True)
    assert found.n_images == 50
    assert found.share >= 0.95
    assert found.largest_difference > 1e-3  # else it was computed in fp32
    assert 'element_type="i8"' in (tmp_path / "model.xml").read_text()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model.bin", "model.xml", NOTE]
    note = json.loads((tmp_path / NOTE).read_text())
    assert (note["format"], note["precision"]) == ("openvino", "int8")
    assert note["checked"]["n_equal"] == found.n_equal
    answer = open_format("openvino", tmp_path / "model.xml")
    assert answer(np.zeros((3, 32, 32, 3), np.uint8)).shape == (3, 3)


def test_a_model_that_int8_breaks_is_not_put_in_place(trusted, tmp_path, monkeypatch):
    def shifted(to, path):
        return lambda images: np.roll(torch_answer(trusted.model)(images), 1, axis=1)

    monkeypatch.setattr("dcd.export.serving.to_int8", lambda *_: None)
    monkeypatch.setattr("dcd.export.serving.open_format", shifted)
    with pytest.raises(EncoderMismatch, match=r"openvino in int8: answers 0 of 20 .* at least 95"):
        export_champion(trusted, "openvino", tmp_path, trusted.test_images, 20, int8=True)
    assert not list(tmp_path.iterdir())


def test_other_formats_and_a_missing_package_are_refused_first(trusted, tmp_path, monkeypatch):
    with pytest.raises(ConfigError, match="--int8: is for openvino, found --to onnx"):
        export_champion(trusted, "onnx", tmp_path, trusted.test_images, 5, int8=True)
    monkeypatch.setattr(int8, "has_nncf", lambda: False)
    with pytest.raises(DataError, match=r"pip install 'data-centric-debugging\[int8\]'"):
        export_champion(trusted, "openvino", tmp_path, trusted.test_images, 5, int8=True)
    assert not list(tmp_path.iterdir())


def test_calibration_sees_all_classes_alike(trusted, tmp_path):
    colours = {"a": 10, "b": 100, "c": 250}
    for name, grey in colours.items():
        (tmp_path / name).mkdir()
        for n in range(5):
            Image.new("RGB", (40, 40), (grey, grey, grey)).save(tmp_path / name / f"{n}.png")
    data = DataConfig(images=str(tmp_path))
    seen = read_spread(data, trusted.model.preprocess, 6)
    assert [int(one.mean()) for one in seen] == [10, 10, 100, 100, 250, 250]
    few = read_spread(data, trusted.model.preprocess, 2)
    assert [int(one.mean()) for one in few] == [10, 250]

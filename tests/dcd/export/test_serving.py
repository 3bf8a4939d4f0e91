"""What is exported answers as torch does, or is not put in place."""

import json

import numpy as np
import pytest
import torch

from dcd.config import DataConfig
from dcd.errors import DataError, EncoderMismatch
from dcd.export import formats
from dcd.export.champion import open_champion, read_inputs
from dcd.export.formats import FORMATS, open_format, torch_answer
from dcd.export.serving import NOTE, agreement, export_champion
from dcd.images.decode import decode
from dcd.images.preprocess import to_input
from dcd.store import Store


@pytest.fixture(scope="module")
def trusted(store):
    return open_champion(store)


@pytest.mark.parametrize("to", FORMATS)
def test_every_format_answers_real_images_as_torch_does(to, trusted, tmp_path):
    found = export_champion(trusted, to, tmp_path, trusted.test_images, 50)
    assert found.n_images == found.n_equal == 50
    assert found.largest_difference < 1e-3
    note = json.loads((tmp_path / NOTE).read_text())
    assert note["classes"] == list(trusted.model.classes)
    assert note["checked"]["n_images"] == 50
    inputs = read_inputs(trusted.test_images, trusted.model.preprocess, 7)
    answer = open_format(to, tmp_path / formats.FILES[to])
    assert answer(inputs).shape == (7, note["output"]["shape"][1])  # another batch than checked
    assert sorted(path.suffix for path in tmp_path.iterdir()) in (
        [".json", ".onnx"], [".bin", ".json", ".xml"], [".json", ".pt"],
    )  # fmt: skip


def test_the_answers_are_those_of_the_saved_model(trusted):
    """Normalisation inside is that of the encoder: by hand, in float64."""
    inputs = read_inputs(trusted.test_images, trusted.model.preprocess, 3)
    mean, std = np.array(trusted.model.preprocess.mean), np.array(trusted.model.preprocess.std)
    by_hand = torch.from_numpy(((inputs / 255 - mean) / std).transpose(0, 3, 1, 2)).float()
    with torch.inference_mode():
        expected = trusted.model.network(by_hand).numpy()
    assert np.allclose(torch_answer(trusted.model)(inputs), expected, atol=1e-4)


def test_a_model_that_answers_otherwise_is_not_put_in_place(trusted, tmp_path, monkeypatch):
    def shifted(to, path):
        return lambda images: np.roll(torch_answer(trusted.model)(images), 1, axis=1)

    monkeypatch.setattr("dcd.export.serving.open_format", shifted)
    with pytest.raises(EncoderMismatch, match="answers 0 of 20 images as torch does"):
        export_champion(trusted, "torchscript", tmp_path, trusted.test_images, 20)
    assert not list(tmp_path.iterdir())


def test_a_missing_package_is_named_with_its_extra(trusted, tmp_path, monkeypatch):
    monkeypatch.setattr(formats, "find_spec", lambda name: None)
    with pytest.raises(DataError, match=r"onnxscript .*data-centric-debugging\[onnx\]"):
        export_champion(trusted, "onnx", tmp_path, trusted.test_images, 5)
    assert not list(tmp_path.iterdir())


def test_all_images_are_asked_about_whatever_their_number():
    inputs = np.arange(40, dtype=np.uint8).reshape(40, 1, 1, 1)
    asked: list[int] = []

    def answer(images):
        asked.append(len(images))
        return np.eye(2)[(images.reshape(-1) % 2).astype(int)]

    found = agreement(answer, answer, inputs)
    assert (found.n_images, found.n_equal, found.largest_difference) == (40, 40, 0.0)
    assert asked[:3] == [1, 32, 7]


def test_no_champion_and_no_picture_are_told(store, trusted, tmp_path):
    with pytest.raises(DataError, match="there is no champion"):
        open_champion(Store(str(tmp_path / "empty")))
    (tmp_path / "page").mkdir()
    (tmp_path / "page" / "a.png").write_bytes(b"<html>")
    with pytest.raises(DataError, match="no image can be decoded"):
        read_inputs(DataConfig(images=str(tmp_path / "page")), trusted.model.preprocess, 5)


def test_inputs_are_the_pictures_as_the_encoder_sees_them(trusted, tmp_path):
    from tests.case import png

    picture = png(np.random.default_rng(0), "red", dark=False)
    (tmp_path / "red").mkdir()
    (tmp_path / "red" / "a.png").write_bytes(picture)
    inputs = read_inputs(DataConfig(images=str(tmp_path)), trusted.model.preprocess, 9)
    assert np.array_equal(inputs[0], to_input(decode(picture), trusted.model.preprocess))

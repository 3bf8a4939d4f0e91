"""The CUDA path. Needs a GPU, and of the project's packages neither OpenVINO nor Prefect nor DuckDB
(`benchmarks/gpu/run.sh`)."""

import io
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from PIL import Image

from dcd.config import EncoderConfig
from dcd.embeddings.embed import embed_images
from dcd.encoders.encoder import load_encoder
from dcd.encoders.network import load_network, preprocess_of
from dcd.encoders.precision import MIN_COSINE, cosines, natural_images
from dcd.sources.records import RawImage

pytestmark = pytest.mark.gpu
MODELS = ["tf_efficientnet_lite0", "resnet18", "vit_tiny_patch16_224"]


def _config(model: str, precision: str = "auto", batch_size: int = 32) -> EncoderConfig:
    return EncoderConfig.model_validate(
        {
            "model": model,
            "weights": "random",
            "input_size": None if model.startswith("vit") else 64,
            "precision": precision,
            "device": "cuda",
            "batch_size": batch_size,
        }
    )


def _exact(config: EncoderConfig, images: np.ndarray) -> np.ndarray:
    """Torch eager on the CPU, in fp32."""
    preprocess, network = preprocess_of(config), load_network(config)
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in (preprocess.mean, preprocess.std))
    pixels = torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255
    with torch.inference_mode():
        return network((pixels - mean) / std).numpy()


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("precision", ["auto", "fp32"])
def test_embeddings_stay_near_fp32(model: str, precision: str) -> None:
    config = _config(model, precision)
    encoder = load_encoder(config)
    images = natural_images(70, encoder.preprocess.input_size)
    found = encoder.embed(images)
    assert found.dtype == np.float32
    assert cosines(found, _exact(config, images)).min() >= MIN_COSINE


def test_threads_and_part_batches_give_each_image_its_own_embedding() -> None:
    config = _config("tf_efficientnet_lite0", "fp32", 16)
    encoder = load_encoder(config)
    images = natural_images(100, 64)
    with ThreadPoolExecutor(8) as pool:
        parts = list(pool.map(encoder.embed, np.array_split(images, 23)))
    assert cosines(np.concatenate(parts), _exact(config, images)).min() >= 0.99999


def test_a_shard_is_embedded_to_the_last_image() -> None:
    encoder = load_encoder(_config("resnet18", batch_size=32))
    photos = []
    for i, pixels in enumerate(natural_images(75, 96)):
        encoded = io.BytesIO()
        Image.fromarray(pixels).save(encoded, "JPEG")
        photos.append(RawImage(f"{i:03d}", encoded.getvalue(), "cat"))
    photos.insert(40, RawImage("broken", b"\xff\xd8\xff", "cat"))
    embedded = embed_images("shard", photos, encoder)
    assert (embedded.stats.n_embedded, embedded.stats.n_rejected) == (75, 1)
    again = embed_images("shard", photos, encoder)
    assert again.embeddings.equals(embedded.embeddings)

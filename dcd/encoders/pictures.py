"""Embed single pictures that lie in no source."""

from collections.abc import Mapping

import numpy as np
import pyarrow as pa

from dcd.config import EncoderConfig
from dcd.encoders.encoder import load_encoder
from dcd.errors import DataError
from dcd.images.decode import BadImage, decode
from dcd.images.preprocess import to_input
from dcd.tables import schemas
from dcd.tables.vectors import vector_lists


def embed_pictures(config: EncoderConfig, pictures: Mapping[str, bytes]) -> pa.Table:
    """Embed pictures: image_id (the name), content_hash, embedding. Raises DataError."""
    encoder = load_encoder(config)
    inputs = []
    for name, data in pictures.items():
        try:
            inputs.append(to_input(decode(data), encoder.preprocess))
        except BadImage as err:
            raise DataError(f"{name}: {err.reason}; give an image file") from err
    vectors = encoder.embed(np.stack(inputs)).astype(np.float16)
    kind = pa.list_(pa.field("element", pa.float16(), nullable=False), vectors.shape[1])
    hashes = [schemas.content_hash(data) for data in pictures.values()]
    return pa.table(
        {
            "image_id": pa.array(list(pictures), pa.string()),
            "content_hash": pa.array(hashes, schemas.CONTENT_HASH),
            "embedding": vector_lists(vectors, kind),
        }
    ).replace_schema_metadata({"encoder_id": encoder.encoder_id})

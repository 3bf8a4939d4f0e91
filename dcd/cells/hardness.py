"""Score how hard a model finds a pool's images: what the model-driven baselines draw by.

No error sample is needed for it, and none is looked at. Labels of the pool are weak: an image can
be hard because its label is wrong.
"""

from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dcd.tables.rows import one_row_a_content
from dcd.tables.vectors import embedding_matrix
from dcd.training.head import LinearHead, class_indices, probabilities

Hardness = Literal["confidence", "margin", "entropy", "loss"]
_TINY = np.finfo(np.float32).tiny


def hardest(
    sample: pa.Table, head: LinearHead, blocked: pa.Table, by: Hardness, n: int
) -> pa.Table:
    """Return the n images that `head` finds hardest: image_id, label, shard, hardest first.

    sample: schemas.clustered, of the pool (`dcd.index.read.pool_sample`). Only images whose label
    the head knows count, and none whose content_hash is in `blocked`; of rows with the same content
    the hardest. Fewer where the sample has fewer.
    """
    known = pc.is_in(sample["weak_label"], value_set=pa.array(head.classes))
    taken = pc.is_in(sample["content_hash"], value_set=blocked["content_hash"])
    rows = sample.filter(pc.and_(known, pc.invert(taken)))
    target = class_indices(rows["weak_label"].to_pylist(), head.classes)
    score = hardness(probabilities(head, embedding_matrix(rows)), target, by)
    found = rows.select(["image_id", "weak_label", "shard", "content_hash"])
    found = found.rename_columns(["image_id", "label", "shard", "content_hash"])
    ranked = found.append_column("score", pa.array(score)).sort_by(
        [("score", "descending"), ("image_id", "ascending"), ("label", "ascending")]
    )
    return one_row_a_content(ranked).slice(0, n).select(["image_id", "label", "shard"])


def hardness(probability: np.ndarray, target: np.ndarray, by: Hardness) -> np.ndarray:
    """Score (N,) float32, higher is harder, from probabilities (N, C) and class indices (N,).

    confidence: less the top probability. margin: less the distance of the two likeliest classes.
    entropy: of the prediction. loss: cross-entropy of the target.
    """
    match by:
        case "confidence":
            score = -probability.max(axis=1)
        case "margin":
            two = np.partition(probability, -2, axis=1)[:, -2:]
            score = two[:, 0] - two[:, 1]
        case "entropy":
            score = -(probability * np.log(np.maximum(probability, _TINY))).sum(axis=1)
        case "loss":
            score = -np.log(np.maximum(probability[np.arange(len(target)), target], _TINY))
    return score.astype(np.float32)

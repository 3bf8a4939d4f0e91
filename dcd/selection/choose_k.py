"""Judge on debug_val alone how good some picks are: what `k_candidates` are compared by."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dcd.config import TrainingConfig
from dcd.tables.vectors import embedding_matrix
from dcd.training.data import TrainingSet
from dcd.training.head import fit_standardizer, predict, train_head


def accuracy_with(
    train: pa.Table,
    failures: pa.Table,
    failure_weight: float,
    picks: pa.Table,
    rows: pa.Table,
    judging: pa.Table,
) -> float:
    """Return the accuracy on `judging`, in 0…1, of a head on train, the failures and the picks.

    train, failures, judging: schemas.labelled_features. picks: schemas.DEBUG_TRAIN. rows: image_id,
    embedding of at least the picks. Picks of labels that train does not know are left out.
    """
    classes = tuple(sorted(set(train["label"].to_pylist())))
    picks = picks.filter(pc.is_in(picks["label"], value_set=pa.array(classes)))
    at = pc.index_in(picks["image_id"], value_set=rows["image_id"].combine_chunks())
    parts = [(train, 1.0), *([(failures, failure_weight)] if failure_weight > 0 else [])]
    features = [embedding_matrix(table) for table, _ in parts]
    labels = [label for table, _ in parts for label in table["label"].to_pylist()]
    weights = [np.full(table.num_rows, weight) for table, weight in parts]
    data = TrainingSet.of_true_labels(
        np.concatenate([*features, embedding_matrix(rows.take(at))]),
        labels + picks["label"].to_pylist(),
        classes,
        np.concatenate([*weights, picks["weight"].to_numpy()]),
    )
    head = train_head(data, fit_standardizer(features[0]), TrainingConfig().l2)
    predicted = np.array(predict(head, embedding_matrix(judging)).labels)
    return float((predicted == np.array(judging["label"].to_pylist())).mean())

import numpy as np
import pyarrow as pa
import pytest

from dcd.errors import DataError, EncoderMismatch
from dcd.label_noise import agreement
from dcd.label_noise.agreement import (
    corrected,
    fit_reference,
    label_agreement,
    neighbor_labels,
)
from dcd.tables import schemas
from dcd.tables.vectors import embedding_matrix
from tests.dcd.index.vector_pools import as_column, content


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def pool(labels: list[str], vectors: np.ndarray, contents: list[str] | None = None) -> pa.Table:
    names = [f"i{n:03d}" for n in range(len(labels))]
    hashes = [content(name) for name in contents or names]
    columns = [labels, names, ["s0"] * len(labels), pa.array(hashes, schemas.CONTENT_HASH)]
    schema = schemas.clustered(vectors.shape[1])
    return pa.table([*map(pa.array, columns), as_column(vectors)], schema=schema)


def two_directions(rng: np.random.Generator, n: int = 30) -> np.ndarray:
    noise = 0.1 * rng.standard_normal((2 * n, 3))
    return noise + np.repeat([[1.0, 0, 0], [0, 1.0, 0]], n, axis=0)


def test_a_wrong_label_has_no_company(rng):
    vectors = two_directions(rng)
    labels = ["cat"] * 30 + ["dog"] * 30
    labels[0] = "dog"
    rows = pool(labels, vectors)
    found = label_agreement(fit_reference(rows), rows, 5)
    assert found[0] == 0
    assert found[30:].min() == 1
    assert found.dtype == np.float32


def test_length_of_a_vector_does_not_count(rng):
    vectors = two_directions(rng)
    rows = pool(["cat"] * 30 + ["dog"] * 30, vectors)
    longer = pool(["cat"] * 30 + ["dog"] * 30, vectors * rng.uniform(0.5, 4, (60, 1)))
    one = label_agreement(fit_reference(rows), rows, 9)
    other = label_agreement(fit_reference(longer), longer, 9)
    np.testing.assert_allclose(one, other, atol=0.12)


def test_an_image_and_its_copies_are_no_neighbours_of_itself(rng):
    vectors = np.array([[1.0, 0], [1.0, 0], [0.9, 0.1], [0, 1.0]])
    rows = pool(["cat", "cat", "dog", "dog"], vectors, ["same", "same", "b", "c"])
    votes = neighbor_labels(fit_reference(rows), rows, 1)
    names = fit_reference(rows).classes.to_pylist()
    assert [names[vote] for vote in votes[:, 0]][:2] == ["dog", "dog"]


def test_a_reference_of_copies_gives_no_vote():
    rows = pool(["cat", "cat"], np.eye(2), ["same", "same"])
    assert neighbor_labels(fit_reference(rows), rows).tolist() == [[-1, -1], [-1, -1]]
    assert label_agreement(fit_reference(rows), rows).tolist() == [0, 0]


def test_a_label_that_the_reference_lacks_has_no_agreement(rng):
    rows = pool(["cat"] * 60, two_directions(rng))
    strange = pool(["owl"], np.array([[1.0, 0, 0]]), ["elsewhere"])
    assert label_agreement(fit_reference(rows), strange) == [0]


@pytest.mark.parametrize("dim", [8, 300])
def test_neighbours_are_those_of_brute_force(rng, dim, monkeypatch):
    monkeypatch.setattr(agreement, "_BLOCK_BYTES", 4 * 200 * 7)
    vectors = rng.standard_normal((200, 6)) @ rng.standard_normal((6, dim))
    labels = [f"l{n}" for n in rng.integers(0, 5, 200)]
    rows = pool(labels, vectors)
    exact = embedding_matrix(rows).astype(float)
    exact /= np.linalg.norm(exact, axis=1, keepdims=True)
    similarity = exact @ exact.T
    np.fill_diagonal(similarity, -np.inf)
    nearest = np.argsort(-similarity, axis=1)[:, :10]
    expected = (np.array(labels)[nearest] == np.array(labels)[:, None]).mean(axis=1)
    # Neighbours at almost the same distance may change places where vectors are projected.
    np.testing.assert_allclose(label_agreement(fit_reference(rows), rows, 10), expected, atol=0.11)


def test_vectors_of_another_encoder_are_refused(rng):
    reference = fit_reference(pool(["cat"] * 60, two_directions(rng)))
    with pytest.raises(EncoderMismatch, match="vectors of 2 numbers, the pool sample has 3"):
        label_agreement(reference, pool(["cat"], np.eye(2)[:1]))


def test_an_empty_sample_is_refused():
    with pytest.raises(DataError, match="has no image"):
        fit_reference(pool([], np.empty((0, 3))))


def reviews(rows: pa.Table, said: dict[int, str | None]) -> pa.Table:
    """What people said of some rows: the true label, or None for a rejected one."""
    columns = ["image_id", "weak_label", "shard", "content_hash"]
    about = rows.take(list(said)).select(columns)
    about = about.rename_columns(["image_id", "label", "shard", "content_hash"])
    return about.append_column("true_label", pa.array(list(said.values()), pa.string()))


def test_what_people_said_votes_in_place_of_a_weak_label(rng):
    rows = pool(["cat"] * 30 + ["dog"] * 30, two_directions(rng))
    reference = fit_reference(rows)
    said: dict[int, str | None] = dict.fromkeys(range(1, 15), "dog")
    told = corrected(reference, reviews(rows, said))
    before, after = (label_agreement(of, rows.slice(0, 1), 29)[0] for of in (reference, told))
    assert before == 1
    assert after == pytest.approx(15 / 29)
    assert label_agreement(told, rows.slice(30), 5).min() == 1


def test_a_rejected_label_has_no_vote_and_a_new_class_may_be_named(rng):
    rows = pool(["cat"] * 30 + ["dog"] * 30, two_directions(rng))
    said: dict[int, str | None] = dict.fromkeys(range(1, 10)) | {10: "fox"}
    told = corrected(fit_reference(rows), reviews(rows, said))
    votes = neighbor_labels(told, rows.slice(0, 1), 29)[0]
    names = [told.classes[v].as_py() for v in votes if v >= 0]
    assert (votes < 0).sum() == 9
    assert (names.count("cat"), names.count("fox")) == (19, 1)
